/* write_forever: never reads, never ends by itself. */
#include "uk.h"
UK_FILTER();
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (;;)
        uk_write("yes\n", 4);
}
