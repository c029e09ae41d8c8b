/* spin: computes for ever. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (;;)
        __asm__ __volatile__("");
}
