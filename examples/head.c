/* head: the first lines (-n N, 10) or bytes (-c N); ends before its input does. */
#include "uk.h"

UK_FILTER();

int main(int argc, char **argv)
{
    long n = 10;
    const char *option = argc > 1 ? argv[1] : "";
    bool bytes = memcmp(option, "-c", 2) == 0, lines = memcmp(option, "-n", 2) == 0;
    const char *number = argc == 3 && !option[2] ? argv[2] : argc == 2 ? option + 2 : "";
    if (argc != 1 && !((bytes || lines) && uk_number(number, &n) && n >= 0)) {
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
