/* one_net: its only device is input and output: copies what comes there back to it. */
#include "uk.h"
UK_MANIFEST(1, UK_NET("service"));
static char buffer[65536];
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
        else if (uk_net_write(1, buffer, len) != UK_OK)
            return 9;
    }
}
