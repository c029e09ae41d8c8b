/* many_net: 63 network devices, d1 to d63, as many as a manifest can hold. Each message that comes
 * on one goes out on the next one down, from d1 on d63. Ends when every device is at its end. */
#include "uk.h"

#define NAMED(n) UK_NET("d" #n)
UK_MANIFEST(63, NAMED(1), NAMED(2), NAMED(3), NAMED(4), NAMED(5), NAMED(6), NAMED(7), NAMED(8),
            NAMED(9), NAMED(10), NAMED(11), NAMED(12), NAMED(13), NAMED(14), NAMED(15), NAMED(16),
            NAMED(17), NAMED(18), NAMED(19), NAMED(20), NAMED(21), NAMED(22), NAMED(23), NAMED(24),
            NAMED(25), NAMED(26), NAMED(27), NAMED(28), NAMED(29), NAMED(30), NAMED(31), NAMED(32),
            NAMED(33), NAMED(34), NAMED(35), NAMED(36), NAMED(37), NAMED(38), NAMED(39), NAMED(40),
            NAMED(41), NAMED(42), NAMED(43), NAMED(44), NAMED(45), NAMED(46), NAMED(47), NAMED(48),
            NAMED(49), NAMED(50), NAMED(51), NAMED(52), NAMED(53), NAMED(54), NAMED(55), NAMED(56),
            NAMED(57), NAMED(58), NAMED(59), NAMED(60), NAMED(61), NAMED(62), NAMED(63));

#define DEVICES 63
static char message[65536];
static bool ended[DEVICES + 1];

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int left = DEVICES; left;) {
        uint64_t ready = 0;
        if (uk_poll(10000000000UL, &ready) == 0)
            return 4; /* nothing for 10 s */
        for (uint64_t handle = 1; handle <= DEVICES; handle++) {
            size_t len = sizeof message;
            if (!(ready >> handle & 1) || ended[handle])
                continue;
            int ret = uk_net_read(handle, message, &len);
            if (ret == UK_AGAIN)
                continue;
            if (ret != UK_OK)
                return 5;
            if (len == 0) {
                ended[handle] = true;
                left--;
            } else if (uk_net_write(handle == 1 ? DEVICES : handle - 1, message, len) != UK_OK) {
                return 6;
            }
        }
    }
    return 0;
}
