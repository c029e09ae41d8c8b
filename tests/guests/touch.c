/* touch MIB: writes to that much memory, says so, then waits for the end of its input. */
#include "uk.h"
UK_FILTER();
int main(int argc, char **argv)
{
    long mib = 0;
    size_t room;
    char *heap = uk_heap(&room), byte;
    if (argc > 1)
        uk_number(argv[1], &mib);
    for (size_t at = 0; at < (size_t)mib << 20 && at < room; at += 4096)
        heap[at] = 1;
    uk_write("touched\n", 8);
    while (uk_read(&byte, 1))
        ;
    return 0;
}
