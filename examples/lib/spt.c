/*
 * spt.c: the six calls for Solo5's spt target, in place of hypercall.c: system calls of Linux on
 * descriptors that the boot information and the manifest name. Numbers: Linux's x86-64 ABI.
 */
#include "uk.h"

enum {
    READ = 0,
    WRITE = 1,
    PREAD64 = 17,
    PWRITE64 = 18,
    CLOCK_GETTIME = 228,
    EXIT_GROUP = 231,
    EPOLL_PWAIT = 281,
    TIMERFD_SETTIME = 286
};
enum { OK, AGAIN, EINVAL_, EUNSPEC };

#define CONSOLE 1
#define ERROR_AGAIN (-11)
#define NS_PER_S 1000000000ULL
#define DEVICES_MAX 64

struct spt_boot_info { /* struct spt_boot_info of Solo5's spt_abi.h */
    uint64_t mem_size, kernel_end;
    const char *cmdline;
    const struct uk_manifest *manifest;
    int32_t epollfd, timerfd;
};

struct timespec {
    int64_t s, ns;
};

struct __attribute__((packed)) event { /* struct epoll_event; data is the handle */
    uint32_t events;
    uint64_t data;
};

long uk_system_call(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 8;
    long result;
    __asm__ __volatile__("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    return result;
}

static const struct spt_boot_info *boot(void)
{
    return (const void *)uk_boot;
}

const char *uk_command_line(void)
{
    return boot()->cmdline;
}

static long host(uint64_t handle)
{
    const struct uk_manifest *m = boot()->manifest;
    return handle < m->entries ? (long)m->device[handle].host : -1;
}

static uint64_t now(long clock)
{
    struct timespec t;
    uk_system_call(CLOCK_GETTIME, clock, (long)&t, 0, 0);
    return (uint64_t)t.s * NS_PER_S + (uint64_t)t.ns;
}

uint64_t uk_walltime(void)
{
    return now(0);
}

void uk_puts(const char *data, size_t len)
{
    uk_system_call(WRITE, CONSOLE, (long)data, (long)len, 0);
}

int uk_poll(uint64_t timeout_ns, uint64_t *ready)
{
    struct event events[DEVICES_MAX + 1];
    uint64_t start = now(1), end = start + timeout_ns < start ? ~0ULL : start + timeout_ns, set = 0;
    struct timespec t[2] = {{0, 0}, {(int64_t)(end / NS_PER_S), (int64_t)(end % NS_PER_S) | 1}};
    uk_system_call(TIMERFD_SETTIME, boot()->timerfd, 1, (long)t, 0);
    long n = uk_system_call(EPOLL_PWAIT, boot()->epollfd, (long)events, DEVICES_MAX + 1, -1);
    for (long i = 0; i < n; i++)
        if (events[i].data < DEVICES_MAX)
            set |= 1ULL << events[i].data;
    if (ready)
        *ready = set;
    int count = 0;
    for (uint64_t left = set; left; left &= left - 1)
        count++;
    return count;
}

int uk_net_write(uint64_t handle, const void *data, size_t len)
{
    long n = uk_system_call(WRITE, host(handle), (long)data, (long)len, 0);
    return n == (long)len ? OK : EUNSPEC;
}

int uk_net_read(uint64_t handle, void *data, size_t *len)
{
    long n = uk_system_call(READ, host(handle), (long)data, (long)*len, 0);
    if (n < 0)
        return n == ERROR_AGAIN ? AGAIN : EUNSPEC;
    *len = (size_t)n;
    return OK;
}

_Noreturn void uk_halt(int status)
{
    for (;;)
        uk_system_call(EXIT_GROUP, status, 0, 0, 0);
}
