/* ready: says which of three devices each POLL found ready (a 1, b 2, c 4) and how long the message
 * was that it read of each; ends when a is at its end. Every message goes out on c, empty ones too.
 */
#include "uk.h"
UK_MANIFEST(3, UK_NET("a"), UK_NET("b"), UK_NET("c"));
static char message[65536];

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (;;) {
        uint64_t ready = 0;
        int count = uk_poll(10000000000UL, &ready);
        eprintf("%d %lx", count, ready >> 1);
        for (uint64_t handle = 1; handle <= 3; handle++) {
            size_t len = sizeof message;
            if (!(ready >> handle & 1) || uk_net_read(handle, message, &len) != UK_OK)
                continue;
            eprintf(" %zu", len);
            if (handle == 1 && len == 0) {
                eprintf("\n");
                return 0;
            }
            if (uk_net_write(3, message, len) != UK_OK)
                return 2;
        }
        eprintf("\n");
        if (count == 0)
            return 3; /* nothing for 10 s */
    }
}
