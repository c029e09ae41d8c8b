/* wc: lines, words and bytes, as GNU wc counts a pipe in the C locale. -l -w -c choose. */
#include "uk.h"

UK_FILTER();

static char buffer[65536];

int main(int argc, char **argv)
{
    bool chosen[3] = {false, false, false};
    unsigned long count[3] = {0, 0, 0};
    int choices = 0;
    static const char letters[] = "lwc";
    for (int i = 1; i < argc; i++)
        for (const char *at = argv[i][0] == '-' ? argv[i] + 1 : argv[i]; *at; at++) {
            const char *which = memchr(letters, *at, 3);
            if (argv[i][0] != '-' || !which) {
                eprintf("usage: wc [-lwc]\n");
                return 1;
            }
            chosen[which - letters] = true;
        }
    bool in_word = false;
    for (size_t n; (n = uk_read(buffer, sizeof buffer)) > 0;) {
        count[2] += n;
        for (size_t i = 0; i < n; i++) {
            unsigned char c = (unsigned char)buffer[i];
            count[0] += c == '\n';
            if (c == ' ' || (c >= '\t' && c <= '\r'))
                in_word = false;
            else if (c > ' ' && c < 127 && !in_word)
                in_word = true, count[1]++;
        }
    }
    for (int i = 0; i < 3; i++)
        choices += chosen[i];
    bool first = true;
    for (int i = 0; i < 3; i++)
        if (chosen[i] || choices == 0) {
            printf(choices == 1 ? "%s%lu" : "%s%7lu", first ? "" : " ", count[i]);
            first = false;
        }
    printf("\n");
    return 0;
}
