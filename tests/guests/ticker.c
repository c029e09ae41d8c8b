/* ticker N: reads once what there is, then writes N lines, each after 15 ms, as a clock would. */
#include "uk.h"

UK_FILTER();

static char buffer[4096];

int main(int argc, char **argv)
{
    long n = 0;
    uint64_t ready;
    if (argc > 1)
        uk_number(argv[1], &n);
    uk_read(buffer, sizeof buffer);
    for (long i = 0; i < n; i++) {
        uk_poll(15000000, &ready);
        uk_walltime();
        uk_write("tick\n", 5);
    }
    return 0;
}
