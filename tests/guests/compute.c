/* compute MS: reads once, computes for MS milliseconds without a hypercall but for the time,
 * returns 7. */
#include "uk.h"
UK_FILTER();
static char buffer[4096];
int main(int argc, char **argv)
{
    long ms = 1;
    if (argc > 1)
        uk_number(argv[1], &ms);
    uk_read(buffer, sizeof buffer);
    for (uint64_t until = uk_walltime() + (uint64_t)ms * 1000000; uk_walltime() < until;)
        for (volatile long i = 0; i < 1000000; i++)
            ;
    uk_write("done\n", 5);
    return 7;
}
