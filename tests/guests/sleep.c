/* sleep MS: no device; waits, and ends. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    long ms = 0;
    if (argc > 1)
        uk_number(argv[1], &ms);
    uint64_t start = uk_walltime();
    uk_poll((uint64_t)ms * 1000000, NULL);
    eprintf("%s\n", uk_walltime() - start >= (uint64_t)ms * 1000000 ? "slept" : "too short");
    return 0;
}
