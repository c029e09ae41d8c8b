/*
 * spt.c: what a guest for Solo5's spt target asks for: it makes system calls of Linux, a handful,
 * on descriptors that its boot information and manifest name.
 *
 * None of them reaches the kernel: each stops the guest's process, is served as the hypercall that
 * it stands for, and gives its result as Linux would. The descriptors are numbers that only this
 * file knows. Numbers and structures: bindings/spt and spt_abi.h of Solo5 v0.12.1, and Linux's
 * x86-64 ABI.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>

#include "core.h"
#include "hypercall.h"

#define NS_PER_S 1000000000ULL
#define TIMER_EVENT 0xfffffffeULL /* SPT_INTERNAL_TIMERFD */
#define ARCH_SET_FS 0x1002
#define USER_END (1ULL << 47)

struct __attribute__((packed)) event { /* struct epoll_event */
    uint32_t events;
    uint64_t data;
};

static int64_t errno_of(int32_t ret)
{
    static const int64_t errors[] = {0, -EAGAIN, -EINVAL, -EIO};
    return errors[ret];
}

/* read, write, pread64, pwrite64 on a device's descriptor. */
static enum uk_verdict transfer(struct uk_guest *g, unsigned number, uint64_t handle,
                                const struct user_regs_struct *r, int64_t *result)
{
    union uk_arg a;
    bool net = number == UK_HC_NET_READ || number == UK_HC_NET_WRITE;
    if (net)
        a.net = (struct uk_net_arg){.handle = handle, .data = r->rsi, .len = r->rdx};
    else
        a.block = (struct uk_block_arg){
            .handle = handle, .offset = r->r10, .data = r->rsi, .len = r->rdx};
    enum uk_verdict verdict = uk_serve(g, number, &a, true);
    int32_t ret = net ? a.net.ret : a.block.ret;
    *result = ret ? errno_of(ret) : (int64_t)(net ? a.net.len : a.block.len);
    return verdict;
}

static enum uk_verdict console(struct uk_guest *g, const struct user_regs_struct *r,
                               int64_t *result)
{
    union uk_arg a = {.puts = {.data = r->rsi, .len = r->rdx}};
    *result = (int64_t)r->rdx;
    return uk_serve(g, UK_HC_PUTS, &a, true);
}

static int64_t get_time(struct uk_guest *g, const struct user_regs_struct *r)
{
    void *to = uk_guest_range(g, r->rsi, sizeof(struct timespec), true);
    struct timespec t;
    if (!to)
        return -EFAULT;
    if ((r->rdi != CLOCK_REALTIME && r->rdi != CLOCK_MONOTONIC) ||
        clock_gettime((clockid_t)r->rdi, &t))
        return -EINVAL;
    memcpy(to, &t, sizeof t);
    return 0;
}

/* timerfd_settime, absolute: until when the next epoll_pwait waits. */
static int64_t set_timer(struct uk_guest *g, const struct user_regs_struct *r)
{
    struct itimerspec t;
    const void *from = uk_guest_range(g, r->rdx, sizeof t, false);
    if (!from)
        return -EFAULT;
    memcpy(&t, from, sizeof t);
    if (r->rsi != 1 || r->r10 || t.it_value.tv_sec < 0 || t.it_value.tv_nsec < 0)
        return -EINVAL;
    uint64_t s = (uint64_t)t.it_value.tv_sec, most = ~0ULL / NS_PER_S - 1;
    g->spt_deadline_ns = (s < most ? s : most) * NS_PER_S + (uint64_t)t.it_value.tv_nsec;
    return 0;
}

static enum uk_verdict wait_events(struct uk_guest *g, const struct user_regs_struct *r,
                                   int64_t *result)
{
    uint64_t max = r->rdx <= UK_MAX_HANDLES + 1 ? r->rdx : UK_MAX_HANDLES + 1;
    uint8_t *to = uk_guest_range(g, r->rsi, max * sizeof(struct event), true);
    *result = !max ? -EINVAL : -EFAULT;
    if (!to || !max)
        return UK_GO;
    uint64_t now = uk_now_ns();
    union uk_arg a = {
        .poll = {.timeout_nsecs = g->spt_deadline_ns > now ? g->spt_deadline_ns - now : 0}};
    enum uk_verdict verdict = uk_serve(g, UK_HC_POLL, &a, true);
    unsigned count = 0;
    for (unsigned h = 0; h < UK_MAX_HANDLES && count < max; h++) {
        struct event e = {1 /* EPOLLIN */, h};
        if (a.poll.ready_set >> h & 1)
            memcpy(to + sizeof e * count++, &e, sizeof e);
    }
    struct event timer = {1, TIMER_EVENT};
    if (!count)
        memcpy(to + sizeof timer * count++, &timer, sizeof timer);
    *result = count;
    return verdict;
}

static enum uk_verdict refuse(struct uk_guest *g, const struct user_regs_struct *r)
{
    return uk_fail(g, 255, "the guest made a system call (%llu, on %llu) that is not of Solo5's",
                   (unsigned long long)r->orig_rax, (unsigned long long)r->rdi);
}

/* Serve the system call that the guest is stopped at; its registers get the result. */
enum uk_verdict uk_spt_call(struct uk_guest *g, struct user_regs_struct *r)
{
    uint64_t handle = r->rdi - UK_SPT_DEVICE_FD;
    bool device = handle < UK_MAX_HANDLES;
    int64_t result = 0;
    enum uk_verdict verdict = UK_GO;
    if (r->orig_rax == SYS_read && device)
        verdict = transfer(g, UK_HC_NET_READ, handle, r, &result);
    else if (r->orig_rax == SYS_write && device)
        verdict = transfer(g, UK_HC_NET_WRITE, handle, r, &result);
    else if (r->orig_rax == SYS_write && r->rdi == 1)
        verdict = console(g, r, &result);
    else if (r->orig_rax == SYS_pread64 && device)
        verdict = transfer(g, UK_HC_BLOCK_READ, handle, r, &result);
    else if (r->orig_rax == SYS_pwrite64 && device)
        verdict = transfer(g, UK_HC_BLOCK_WRITE, handle, r, &result);
    else if (r->orig_rax == SYS_clock_gettime)
        result = get_time(g, r);
    else if (r->orig_rax == SYS_timerfd_settime && r->rdi == UK_SPT_TIMER_FD)
        result = set_timer(g, r);
    else if (r->orig_rax == SYS_epoll_pwait && r->rdi == UK_SPT_EPOLL_FD)
        verdict = wait_events(g, r, &result);
    else if (r->orig_rax == SYS_arch_prctl && r->rdi == ARCH_SET_FS && r->rsi < USER_END)
        r->fs_base = r->rsi;
    else if (r->orig_rax == SYS_exit_group)
        return uk_serve(g, UK_HC_HALT, &(union uk_arg){.halt = {.status = (int32_t)r->rdi}}, true);
    else
        return refuse(g, r);
    r->rax = (uint64_t)result;
    return verdict;
}
