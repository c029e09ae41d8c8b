/* exit N: prints a line, then halts with status N. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    long status = 0;
    if (argc > 1)
        uk_number(argv[1], &status);
    eprintf("exit\n");
    return (int)status;
}
