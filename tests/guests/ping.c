/* ping: a host on a network, 10.0.0.2: answers ARP requests and echo requests, until 3 s are quiet.
 * Prints what it was told of its device, and what it answered. */
#include "uk.h"

UK_MANIFEST(1, UK_NET("service"));

#define DEVICE 1
#define QUIET_NS 3000000000UL

static const uint8_t address[4] = {10, 0, 0, 2};
static uint8_t frame[65536];
static const uint8_t *mac;

/* The source becomes the destination; what is at `from` is ours. */
static void turn_round(uint8_t *to, uint8_t *from, const uint8_t *own, size_t size)
{
    memcpy(to, from, size);
    memcpy(from, own, size);
}

/* RFC 826: a request for our address, of Ethernet and IPv4, becomes its reply. */
static bool answer_arp(size_t len)
{
    static const uint8_t request[10] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};
    if (len < 42 || memcmp(frame + 12, request, 10) || memcmp(frame + 38, address, 4))
        return false;
    frame[21] = 2;
    turn_round(frame + 32, frame + 22, mac, 6);
    turn_round(frame + 38, frame + 28, address, 4);
    turn_round(frame, frame + 6, mac, 6);
    return true;
}

/* RFC 792: an echo request of IPv4 with no options. Type 8 becomes 0, and the checksum grows by it.
 */
static bool answer_echo(size_t len)
{
    if (len < 42 || frame[12] != 8 || frame[13] != 0 || frame[14] != 0x45 || frame[23] != 1 ||
        memcmp(frame + 30, address, 4) || frame[34] != 8)
        return false;
    frame[34] = 0;
    unsigned sum = (unsigned)frame[36] << 8 | frame[37];
    sum += 0x800;
    sum += sum >> 16;
    frame[36] = (uint8_t)(sum >> 8), frame[37] = (uint8_t)sum;
    turn_round(frame + 30, frame + 26, address, 4);
    turn_round(frame, frame + 6, mac, 6);
    return true;
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct uk_manifest *m = uk_boot->manifest;
    const struct uk_device *device = &m->device[DEVICE];
    int arp = 0, echo = 0;
    mac = device->mac;
    eprintf("mtu %d mac %x:%x:%x:%x:%x:%x\n", device->mtu, mac[0], mac[1], mac[2], mac[3], mac[4],
            mac[5]);
    for (;;) {
        size_t len = sizeof frame;
        int ret = uk_net_read(DEVICE, frame, &len);
        if (ret == UK_AGAIN) {
            if (uk_poll(QUIET_NS, NULL) == 0)
                break;
            continue;
        }
        if (ret != UK_OK)
            return 1;
        if (answer_arp(len))
            arp++;
        else if (answer_echo(len))
            echo++;
        else
            continue;
        if (uk_net_write(DEVICE, frame, len) != UK_OK)
            return 2;
    }
    eprintf("answered %d arp %d echo\n", arp, echo);
    return 0;
}
