/* rev: the bytes of each line in reverse. */
#include "uk.h"

UK_FILTER();

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    char *line;
    for (ptrdiff_t len; (len = uk_getline(&line)) >= 0;) {
        ptrdiff_t end = line[len - 1] == '\n' ? len - 1 : len;
        for (ptrdiff_t i = 0, j = end - 1; i < j; i++, j--) {
            char c = line[i];
            line[i] = line[j];
            line[j] = c;
        }
        uk_put(line, (size_t)len);
    }
    return 0;
}
