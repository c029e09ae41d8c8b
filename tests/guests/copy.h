/* copy.h: from one device to another, until the input ends. */
#include "uk.h"

/* Returns what the guest's status is to be. tell: each message's length, on the console. */
static int copy(uint64_t from, uint64_t to, char *buffer, size_t size, bool tell)
{
    for (;;) {
        size_t len = size;
        int ret = uk_net_read(from, buffer, &len);
        if (ret == UK_AGAIN) {
            uk_poll(1000000000, NULL);
            continue;
        }
        if (ret != UK_OK || len == 0)
            return ret;
        if (tell)
            eprintf("%zu\n", len);
        if (uk_net_write(to, buffer, len) != UK_OK)
            return 9;
    }
}
