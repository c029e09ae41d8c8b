/* grep: lines that hold a fixed string, as `grep -a -F`. -v the others, -c their number; status 0,
 * 1 or 2. */
#include "uk.h"

UK_FILTER();

static bool holds(const char *line, size_t len, const char *text, size_t n)
{
    if (n == 0)
        return true;
    for (size_t at = 0; at + n <= len; at++) {
        const char *first = memchr(line + at, text[0], len - n + 1 - at);
        if (!first)
            return false;
        at = (size_t)(first - line);
        if (memcmp(first, text, n) == 0)
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    bool invert = false, count = false;
    int at = 1;
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++)
        for (const char *o = argv[at] + 1; *o; o++)
            if (*o == 'v')
                invert = true;
            else if (*o == 'c')
                count = true;
            else
                argc = 0;
    if (argc != at + 1) {
        eprintf("usage: grep [-vc] STRING\n");
        return 2;
    }
    unsigned long found = 0;
    size_t n = strlen(argv[at]);
    char *line;
    for (ptrdiff_t len; (len = uk_getline(&line)) >= 0;) {
        size_t end = (size_t)len - (line[len - 1] == '\n');
        if (holds(line, end, argv[at], n) == invert)
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
