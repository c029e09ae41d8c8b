/* cat: copy input to output, each piece as it comes. -b N: pieces of N bytes at most, up to 1 MiB.
 */
#include "uk.h"

UK_FILTER();

static char buffer[1 << 20] __attribute__((aligned(4096))); /* whole pages are copied quicker */

int main(int argc, char **argv)
{
    long size = 65536;
    if (argc == 3 && strcmp(argv[1], "-b") == 0 && uk_number(argv[2], &size) && size > 0 &&
        size <= (long)sizeof buffer)
        argc = 1;
    if (argc != 1) {
        eprintf("usage: cat [-b BYTES]\n");
        return 2;
    }
    for (size_t n; (n = uk_read(buffer, (size_t)size)) > 0;)
        uk_write(buffer, n);
    return 0;
}
