/* one_net: its only device is input and output: copies what comes there back to it. */
#include "copy.h"
UK_MANIFEST(1, UK_NET("service"));
static char buffer[65536];
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    return copy(1, 1, buffer, sizeof buffer, false);
}
