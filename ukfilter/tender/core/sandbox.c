/*
 * sandbox.c: what the tender itself may still do once the guest runs.
 *
 * The filter names the descriptors: reading and writing only on the guest's ends, KVM's calls only
 * on the vCPU. It is a dozen comparisons of numbers, so it is written down as BPF here; libseccomp
 * would cost its loading at every start and bring no check that this does not have.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf.h"

static void collect_blocks(const struct uk_guest *g, struct uk_set *blocks)
{
    blocks->count = 0;
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++)
        if (g->blocks[h].attached)
            uk_set_add(blocks, g->blocks[h].fd);
    uk_set_add(blocks, g->core_fd);
    if (g->core_dir_fd >= 0)
        uk_set_add(blocks, g->image_fd);
}

static void collect(const struct uk_guest *g, struct uk_set *in, struct uk_set *out)
{
    in->count = out->count = 0;
    uk_set_add(out, 2);
    uk_set_add(out, g->console_fd);
    uk_set_add(out, g->trace_fd);
    uk_set_add(out, g->report_fd);
    uk_set_add(out, g->aside[1]);
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++) {
        if (!g->ends[h].attached)
            continue;
        uk_set_add(in, g->ends[h].rfd);
        uk_set_add(out, g->ends[h].wfd);
    }
}

/* Close every descriptor that is neither an end nor the vCPU. */
int uk_sandbox_close(struct uk_guest *g)
{
    struct uk_set keep, out, blocks;
    collect(g, &keep, &out);
    collect_blocks(g, &blocks);
    uk_set_join(&keep, &blocks);
    uk_set_join(&keep, &out);
    uk_set_add(&keep, g->vcpu_fd);
    uk_set_add(&keep, g->listener_fd);
    uk_set_add(&keep, g->core_dir_fd);
    if (g->core_dir_fd >= 0)
        uk_set_add(&keep, g->mem_fd);
    for (unsigned i = 0, from, to; i <= keep.count; i++)
        if (uk_set_gap(&keep, i, &from, &to) && syscall(SYS_close_range, from, to, 0))
            return uk_error(g, "cannot close descriptors");
    return 0;
}

/* The processes that may be sent a signal: the tender itself, one that ends it, once that is
 * reported; the guest's, one that ends it, or stops it for its registers. */
static void collect_kills(const struct uk_guest *g, struct uk_set *pids)
{
    pids->count = 0;
    if (g->report_fd >= 0 || g->show_stats || g->tender == UK_PROCESS)
        uk_set_add(pids, g->pid);
    if (g->tender == UK_PROCESS)
        uk_set_add(pids, g->child);
}

/* Allow these requests on one descriptor. */
static void allow_ioctl(struct uk_program *p, int fd, const uint32_t *requests, unsigned n)
{
    unsigned rule = uk_rule(p, SYS_ioctl);
    uk_rule_among(p, 0, (const uint32_t *)&fd, 1);
    uk_rule_among(p, 1, requests, n);
    uk_rule_end(p, rule);
}

static void allow_kvm(struct uk_program *p, int vcpu_fd)
{
    static const uint32_t requests[] = {KVM_RUN, KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS,
                                        KVM_SET_MSRS};
    allow_ioctl(p, vcpu_fd, requests, sizeof requests / sizeof requests[0]);
}

static void allow_listening(struct uk_program *p, int listener_fd)
{
    static const uint32_t requests[] = {SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND};
    allow_ioctl(p, listener_fd, requests, sizeof requests / sizeof requests[0]);
}

/* ptrace of the guest's process, waiting for it, and where the two run. */
static void allow_tracing(struct uk_program *p, int child)
{
    const struct uk_set one = {.numbers = {(uint32_t)child}, .count = 1};
    uk_allow_on(p, SYS_wait4, 0, &one);
    uk_allow_on(p, SYS_ptrace, 1, &one);
    uk_allow_on(p, SYS_waitid, 1, &one);
    const struct uk_set two = {.numbers = {0, (uint32_t)child}, .count = 2};
    uk_allow_on(p, SYS_sched_setaffinity, 0, &two);
    uk_allow(p, SYS_getcpu);
}

/* What a second thread takes: to begin, to wait, to get out of others' way; and to move what it has
 * put aside. */
static void allow_poller(struct uk_program *p, const struct uk_guest *g, const struct uk_set *out)
{
    /* It may still be starting: the last three are what the C library begins a thread with. */
    static const unsigned plain[] = {SYS_futex,       SYS_getcpu,         SYS_sched_getaffinity,
                                     SYS_sched_yield, SYS_rt_sigprocmask, SYS_set_robust_list,
                                     SYS_rseq};
    const struct uk_set itself = {.numbers = {0}, .count = 1};
    for (unsigned i = 0; i < sizeof plain / sizeof plain[0]; i++)
        uk_allow(p, plain[i]);
    uk_allow_on(p, SYS_sched_setaffinity, 0, &itself);
    if (g->aside[0] < 0)
        return;
    unsigned rule = uk_rule(p, SYS_splice);
    uk_rule_among(p, 0, (const uint32_t *)&g->aside[0], 1);
    uk_rule_among(p, 2, out->numbers, out->count);
    uk_rule_end(p, rule);
}

/* One new file: dumpcore.c has named it, and its descriptor's number is known; and where memory has
 * holes. */
static void allow_core(struct uk_program *p, const struct uk_guest *g)
{
    struct uk_set core = {.count = 0}, memory = {.count = 0};
    const uint32_t directory = (uint32_t)g->core_dir_fd, flags = UK_CORE_FLAGS, mode = UK_CORE_MODE;
    uk_set_add(&core, g->core_fd);
    uk_set_add(&memory, g->mem_fd);
    unsigned rule = uk_rule(p, SYS_openat);
    uk_rule_among(p, 0, &directory, 1);
    uk_rule_equal(p, 1, (uintptr_t)g->core_name);
    uk_rule_among(p, 2, &flags, 1);
    uk_rule_among(p, 3, &mode, 1);
    uk_rule_end(p, rule);
    uk_allow_on(p, SYS_ftruncate, 0, &core);
    uk_allow_on(p, SYS_lseek, 0, &memory);
}

/* See uk_tell() and uk_dump_core(). */
static void allow_telling(struct uk_program *p)
{
    uk_allow(p, SYS_rt_sigprocmask);
    uk_allow(p, SYS_rt_sigtimedwait);
}

static void build(const struct uk_guest *g, struct uk_program *p)
{
    static const unsigned plain[] = {
        SYS_ppoll,           SYS_poll,       SYS_clock_gettime, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_exit_group, SYS_rt_sigreturn,  SYS_restart_syscall};
    struct uk_set in, out, blocks, kills;
    collect(g, &in, &out);
    collect_blocks(g, &blocks);
    collect_kills(g, &kills);
    uk_program_begin(p);
    uk_emit(p, UK_LOAD(nr));
    if (g->tender == UK_KVM)
        allow_kvm(p, g->vcpu_fd);
    else
        allow_tracing(p, g->child);
    if (g->listener_fd >= 0)
        allow_listening(p, g->listener_fd);
    uk_allow_on(p, SYS_preadv2, 0, &in);
    uk_allow_on(p, SYS_read, 0, &in);
    uk_allow_on(p, SYS_write, 0, &out);
    uk_allow_on(p, SYS_pread64, 0, &blocks);
    uk_allow_on(p, SYS_pwrite64, 0, &blocks);
    if (g->core_dir_fd >= 0)
        allow_core(p, g);
    if (g->core_dir_fd >= 0 || g->report_fd >= 0 || g->trace_fd >= 0)
        allow_telling(p);
    uk_allow_on(p, SYS_kill, 0, &kills);
    for (unsigned i = 0; i < sizeof plain / sizeof plain[0]; i++)
        uk_allow(p, plain[i]);
    if (g->exitless_open)
        allow_poller(p, g, &out);
    uk_emit(p, UK_RETURN(SECCOMP_RET_KILL_PROCESS));
}

/* No core dump, of the tender or of a guest's process that it makes from here on. */
int uk_sandbox_no_core(struct uk_guest *g)
{
    struct rlimit none = {0, 0};
    /* A core_pattern that pipes does not look at the limit, but it does look at the second. */
    if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return uk_error(g, "cannot forbid core dumps");
    return 0;
}

/* Shut the door: no new privileges, and the filter. */
int uk_sandbox_enter(struct uk_guest *g)
{
    static struct uk_program program; /* 16 KiB: not on the stack */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return uk_error(g, "cannot give up privileges");
    build(g, &program);
    g->filter_length = program.length;
    struct sock_fprog fprog = {(unsigned short)program.length, program.code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &fprog))
        return uk_error(g, "cannot install the seccomp filter");
    return 0;
}
