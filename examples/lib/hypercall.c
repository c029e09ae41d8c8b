/* hypercall.c: the six calls. The argument is a 32-bit address, the number is the port. */
#include "uk.h"

/* Written out, so that it stands as `mov $0x50N, %edx; out %eax, %dx`, as in Solo5's images: a
 * tender may know it by that and have a quicker way. */
#define CALL(number, arguments)                                                                    \
    __asm__ __volatile__("movl %1, %%edx; outl %%eax, %%dx"                                        \
                         :                                                                         \
                         : "a"((uint32_t)(uintptr_t)(arguments)), "i"(0x500 + (number))            \
                         : "edx", "memory")

void uk_hypercall(unsigned number, volatile void *arguments)
{
    __asm__ __volatile__("outl %0, %w1"
                         :
                         : "a"((uint32_t)(uintptr_t)arguments), "d"(0x500 + number)
                         : "memory");
}

const char *uk_command_line(void)
{
    return uk_boot->cmdline;
}

uint64_t uk_walltime(void)
{
    volatile uint64_t ns = 0;
    CALL(1, &ns);
    return ns;
}

void uk_puts(const char *data, size_t len)
{
    volatile struct {
        const char *data;
        size_t len;
    } a = {data, len};
    CALL(2, &a);
}

int uk_poll(uint64_t timeout_ns, uint64_t *ready)
{
    volatile struct {
        uint64_t timeout_ns, ready;
        int32_t ret;
    } a = {timeout_ns, 0, 0};
    CALL(3, &a);
    if (ready)
        *ready = a.ready;
    return a.ret;
}

struct net_call {
    uint64_t handle;
    const void *data;
    size_t len;
    int32_t ret;
};

int uk_net_write(uint64_t handle, const void *data, size_t len)
{
    volatile struct net_call a = {handle, data, len, 0};
    CALL(6, &a);
    return a.ret;
}

int uk_net_read(uint64_t handle, void *data, size_t *len)
{
    volatile struct net_call a = {handle, data, *len, 0};
    CALL(7, &a);
    *len = a.len;
    return a.ret;
}

_Noreturn void uk_halt(int status)
{
    volatile struct {
        void *cookie;
        int32_t status;
    } a = {NULL, status};
    CALL(8, &a);
    for (;;)
        ;
}
