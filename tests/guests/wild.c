/* wild WHAT: a hypercall with a wild number, address, length or handle; prints `ret=N` if it
 * returns. */
#include "uk.h"
UK_FILTER();
static char buffer[64];
static void net(unsigned number, uint64_t handle, uint64_t data, uint64_t len)
{
    volatile struct {
        uint64_t handle, data, len;
        int32_t ret;
    } a = {handle, data, len, -1};
    uk_hypercall(number, &a);
    eprintf("ret=%d\n", a.ret);
}
int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long n = 0;
    uint64_t here = (uint64_t)(uintptr_t)buffer, end = uk_boot->mem_size;
    if (strcmp(what, "number") == 0 && argc > 2 && uk_number(argv[2], &n))
        uk_hypercall((unsigned)n, buffer);
    if (strcmp(what, "struct-low") == 0)
        uk_hypercall(1, (void *)0x1000);
    if (strcmp(what, "struct-text") == 0)
        uk_hypercall(1, (void *)(uintptr_t)main);
    if (strcmp(what, "struct-constant") == 0)
        uk_hypercall(1, (void *)(uintptr_t)uk_name);
    if (strcmp(what, "struct-unaligned") == 0) { /* allowed: it is memory like any other */
        uk_hypercall(1, buffer + 3);
        uint64_t now;
        memcpy(&now, buffer + 3, sizeof now);
        eprintf("ret=%d\n", now == 0);
    }
    if (strcmp(what, "struct-end") == 0)
        uk_hypercall(1, (void *)(end - 4));
    if (strcmp(what, "struct-beyond") == 0)
        uk_hypercall(3, (void *)0xfffffff0);
    if (strcmp(what, "puts-wild") == 0)
        uk_puts((char *)0x7fffffffffffff00, 512);
    if (strcmp(what, "puts-empty") == 0)
        uk_puts((const char *)1, 0);
    if (strcmp(what, "puts-long") == 0)
        uk_puts(buffer, ~0UL);
    if (strcmp(what, "handle") == 0 && argc > 2 && uk_number(argv[2], &n))
        net(7, (uint64_t)n, here, sizeof buffer);
    if (strcmp(what, "write-handle") == 0 && argc > 2 && uk_number(argv[2], &n))
        net(6, (uint64_t)n, here, sizeof buffer);
    if (strcmp(what, "read-long") == 0)
        net(7, 1, here, ~0UL);
    if (strcmp(what, "read-wrap") == 0)
        net(7, 1, ~0UL - 8, 64);
    if (strcmp(what, "read-text") == 0)
        net(7, 1, (uint64_t)(uintptr_t)main, 16);
    if (strcmp(what, "read-low") == 0)
        net(7, 1, 0x10000, 16);
    if (strcmp(what, "read-end") == 0)
        net(7, 1, end - 8, 16);
    if (strcmp(what, "write-tables") == 0)
        net(6, 2, 0x1000, 4096);
    if (strcmp(what, "write-low") == 0)
        net(6, 2, 0x8000, 4096);
    if (strcmp(what, "write-end") == 0)
        net(6, 2, end - 8, 16);
    if (strcmp(what, "block") == 0)
        net(4, 1, here, 0);
    return 5;
}
