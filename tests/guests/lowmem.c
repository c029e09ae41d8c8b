/* lowmem ADDRESS: reads a byte there, and prints it. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    long address = 0;
    if (argc > 1)
        uk_number(argv[1], &address);
    eprintf("read %d\n", *(volatile unsigned char *)address);
    return 0;
}
