/* hello: no device at all; the console is its output. */
#include "uk.h"

UK_MANIFEST(0);

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    eprintf("Hello, world!\n");
    return 0;
}
