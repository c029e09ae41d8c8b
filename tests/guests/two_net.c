/* two_net: copies what comes on device a to device b; its output for people is the console. */
#include "copy.h"
UK_MANIFEST(2, UK_NET("a"), UK_NET("b"));
static char buffer[2048];
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    return copy(1, 2, buffer, sizeof buffer, true);
}
