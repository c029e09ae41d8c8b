/* disk: what may be done with block device `disk`: prints `capacity sector`, then `name=ret` for
 * each try. */
#include "uk.h"
UK_MANIFEST(1, {.name = "disk", .type = 1});
static uint8_t sector[4096];
static void try(const char *name, unsigned number, uint64_t handle, uint64_t offset, uint64_t len)
{
    volatile struct {
        uint64_t handle, offset, data, len;
        int32_t ret;
    } a = {handle, offset, (uint64_t)(uintptr_t)sector, len, -1};
    uk_hypercall(number, &a);
    eprintf("%s=%d ", name, a.ret);
}
int main(int argc, char **argv)
{
    const struct uk_manifest *m = uk_boot->manifest;
    uint64_t capacity;
    uint16_t size;
    (void)argc, (void)argv;
    memcpy(&capacity, m->device[1].mac, sizeof capacity);
    memcpy(&size, m->device[1].mac + 8, sizeof size);
    eprintf("%lu %u\n", capacity, size);
    try("read", 5, 1, 0, size);
    eprintf("first=%c ", sector[0]);
    memset(sector, 'W', sizeof sector);
    try("write", 4, 1, capacity - size, size);
    try("whole", 5, 1, 0, capacity);
    try("past", 5, 1, capacity, size);
    try("across", 5, 1, capacity - size, 2 * size);
    try("wrap", 4, 1, ~0UL - size + 1, size);
    try("unaligned", 5, 1, 1, size);
    try("part", 4, 1, 0, size - 1);
    try("handle", 5, 2, 0, size);
    eprintf("\n");
    return 0;
}
