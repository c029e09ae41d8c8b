/* burst N: reads once, then writes N pieces of 16 KiB without a pause, and returns 7. */
#include "uk.h"
UK_FILTER();
static char buffer[16384];
int main(int argc, char **argv)
{
    long n = 1;
    if (argc > 1)
        uk_number(argv[1], &n);
    uk_read(buffer, sizeof buffer);
    while (n-- > 0)
        uk_write(buffer, sizeof buffer);
    return 7;
}
