/* two_net: copies what comes on device a to device b; its output for people is the console. */
#include "uk.h"
UK_MANIFEST(2, UK_NET("a"), UK_NET("b"));
static char buffer[2048];
int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (;;) {
        size_t len = sizeof buffer;
        int ret = uk_net_read(1, buffer, &len);
        if (ret == UK_AGAIN)
            uk_poll(1000000000, NULL);
        else if (ret != UK_OK || len == 0)
            return ret;
        else {
            eprintf("%zu\n", len);
            uk_net_write(2, buffer, len);
        }
    }
}
