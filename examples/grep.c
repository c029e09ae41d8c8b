/* grep: lines that hold a fixed string, as `grep -a -F`. -v the others, -c their number, -i
 * whatever the case, -e STRING; status 0, 1 or 2. */
#include "uk.h"

UK_FILTER();

static unsigned char fold[256]; /* what a byte counts as: itself, or its small letter */

static bool same(const char *a, const char *b, size_t n)
{
    while (n && fold[(unsigned char)*a] == fold[(unsigned char)*b])
        a++, b++, n--;
    return n == 0;
}

static bool holds(const char *line, size_t len, const char *text, size_t n, bool any_case)
{
    for (size_t at = 0; at + n <= len; at++) {
        const char *first = any_case || !n ? line + at : memchr(line + at, *text, len - n + 1 - at);
        if (!first)
            return false;
        at = (size_t)(first - line);
        if (same(first, text, n))
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    bool invert = false, count = false, any_case = false, good = true;
    const char *text = NULL;
    int at = 1;
    while (at < argc && argv[at][0] == '-' && argv[at][1]) {
        const char *o = argv[at++] + 1;
        if (strcmp(o, "-") == 0)
            break;
        for (; *o && *o != 'e'; o++) {
            invert |= *o == 'v';
            count |= *o == 'c';
            any_case |= *o == 'i';
            good &= *o == 'v' || *o == 'c' || *o == 'i';
        }
        if (*o == 'e')
            text = o[1] ? o + 1 : at < argc ? argv[at++] : NULL;
    }
    if (!text && at < argc)
        text = argv[at++];
    if (!good || !text || at != argc) {
        eprintf("usage: grep [-vci] [-e] STRING\n");
        return 2;
    }
    for (int i = 0; i < 256; i++)
        fold[i] = (unsigned char)(any_case && i >= 'A' && i <= 'Z' ? i + 32 : i);
    unsigned long found = 0;
    char *line;
    for (ptrdiff_t len; (len = uk_getline(&line)) >= 0;) {
        size_t end = (size_t)len - (line[len - 1] == '\n');
        if (holds(line, end, text, strlen(text), any_case) == invert)
            continue;
        found++;
        if (!count) {
            uk_put(line, end);
            uk_put("\n", 1);
        }
    }
    if (count)
        printf("%lu\n", found);
    return found == 0;
}
