/* head: the first lines (-n N, 10) or bytes (-c N); ends before its input does. */
#include "uk.h"

UK_FILTER();

int main(int argc, char **argv)
{
    long n = 10;
    bool bytes = argc == 3 && strcmp(argv[1], "-c") == 0;
    bool lines = argc == 3 && strcmp(argv[1], "-n") == 0;
    if (argc != 1 && !((bytes || lines) && uk_number(argv[2], &n) && n >= 0)) {
        eprintf("usage: head [-n LINES | -c BYTES]\n");
        return 1;
    }
    static char buffer[65536];
    while (n > 0) {
        size_t got = uk_read(buffer, sizeof buffer), use = 0;
        if (got == 0)
            break;
        if (bytes) {
            use = (long)got < n ? got : (size_t)n;
            n -= (long)use;
        }
        while (!bytes && n > 0 && use < got)
            n -= buffer[use++] == '\n';
        uk_write(buffer, use);
    }
    return 0;
}
