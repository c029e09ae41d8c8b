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
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core.h"

#define MAX_NUMBERS (2 * UK_MAX_HANDLES + 4)

struct sorted_set {
    int numbers[MAX_NUMBERS];
    unsigned count;
};

static void add(struct sorted_set *s, int number)
{
    unsigned at = 0;
    while (at < s->count && s->numbers[at] < number)
        at++;
    if (number < 0 || (at < s->count && s->numbers[at] == number))
        return;
    memmove(&s->numbers[at + 1], &s->numbers[at], (s->count - at) * sizeof s->numbers[0]);
    s->numbers[at] = number;
    s->count++;
}

static void collect_blocks(const struct uk_guest *g, struct sorted_set *blocks)
{
    blocks->count = 0;
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++)
        if (g->blocks[h].attached)
            add(blocks, g->blocks[h].fd);
    add(blocks, g->core_fd);
    if (g->core_dir_fd >= 0)
        add(blocks, g->image_fd);
}

static void collect(const struct uk_guest *g, struct sorted_set *in, struct sorted_set *out)
{
    in->count = out->count = 0;
    add(out, 2);
    add(out, g->console_fd);
    add(out, g->trace_fd);
    add(out, g->report_fd);
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++) {
        if (!g->ends[h].attached)
            continue;
        add(in, g->ends[h].rfd);
        add(out, g->ends[h].wfd);
    }
}

/* Close every descriptor that is neither an end nor the vCPU. */
int uk_sandbox_close(struct uk_guest *g)
{
    struct sorted_set keep, out, blocks;
    collect(g, &keep, &out);
    collect_blocks(g, &blocks);
    for (unsigned i = 0; i < blocks.count; i++)
        add(&keep, blocks.numbers[i]);
    for (unsigned i = 0; i < out.count; i++)
        add(&keep, out.numbers[i]);
    add(&keep, g->vcpu_fd);
    add(&keep, g->listener_fd);
    add(&keep, g->core_dir_fd);
    if (g->core_dir_fd >= 0)
        add(&keep, g->mem_fd);
    unsigned from = 0;
    for (unsigned i = 0; i <= keep.count; i++) {
        unsigned to = i < keep.count ? (unsigned)keep.numbers[i] : ~0U;
        if (to > from && syscall(SYS_close_range, from, i < keep.count ? to - 1 : to, 0))
            return uk_error(g, "cannot close descriptors");
        from = to + 1;
    }
    return 0;
}

/* The processes that may be sent a signal: the tender itself, one that ends it, once that is
 * reported; the guest's, one that stops it for its registers. */
static void collect_kills(const struct uk_guest *g, struct sorted_set *pids)
{
    pids->count = 0;
    if (g->report_fd >= 0 || g->show_stats)
        add(pids, g->pid);
    if (g->core_dir_fd >= 0 && g->listener_fd >= 0)
        add(pids, g->child);
}

struct program {
    struct sock_filter code[2048];
    unsigned length;
};

static void emit(struct program *p, struct sock_filter instruction)
{
    p->code[p->length++] = instruction;
}

#define LOAD(field)                                                                                \
    (struct sock_filter)                                                                           \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define LOAD_HIGH(field)                                                                           \
    (struct sock_filter)                                                                           \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field) + 4)
#define RETURN(action) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, action)
#define IF_EQUAL(value, yes, no)                                                                   \
    (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), yes, no)

/* Allow a system call, whatever its arguments. */
static void allow(struct program *p, unsigned number)
{
    emit(p, IF_EQUAL(number, 0, 1));
    emit(p, RETURN(SECCOMP_RET_ALLOW));
}

/* Allow a system call if that argument is one of these (an int: 32 bits count). */
static void allow_with(struct program *p, unsigned number, unsigned argument,
                       const struct sorted_set *values)
{
    emit(p, IF_EQUAL(number, 0, (unsigned char)(2 * values->count + 2)));
    emit(p, LOAD(args[argument]));
    for (unsigned i = 0; i < values->count; i++) {
        emit(p, IF_EQUAL(values->numbers[i], 0, 1));
        emit(p, RETURN(SECCOMP_RET_ALLOW));
    }
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
}

/* Allow a system call on these descriptors, or processes, its first argument. */
static void allow_on(struct program *p, unsigned number, const struct sorted_set *values)
{
    allow_with(p, number, 0, values);
}

/* Allow these requests on one descriptor. */
static void allow_ioctl(struct program *p, int fd, const unsigned long *requests, unsigned n)
{
    emit(p, IF_EQUAL(SYS_ioctl, 0, (unsigned char)(4 + 2 * n + 1)));
    emit(p, LOAD(args[0]));
    emit(p, IF_EQUAL(fd, 1, 0));
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
    emit(p, LOAD(args[1]));
    for (unsigned i = 0; i < n; i++) {
        emit(p, IF_EQUAL(requests[i], 0, 1));
        emit(p, RETURN(SECCOMP_RET_ALLOW));
    }
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
}

static void allow_kvm(struct program *p, int vcpu_fd)
{
    static const unsigned long requests[] = {KVM_RUN, KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS,
                                             KVM_SET_MSRS};
    allow_ioctl(p, vcpu_fd, requests, sizeof requests / sizeof requests[0]);
}

static void allow_listening(struct program *p, int listener_fd)
{
    static const unsigned long requests[] = {SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND};
    allow_ioctl(p, listener_fd, requests, sizeof requests / sizeof requests[0]);
}

/* ptrace of the guest's process and waiting for it. */
static void allow_tracing(struct program *p, int child)
{
    const struct sorted_set one = {.numbers = {child}, .count = 1};
    allow_on(p, SYS_wait4, &one);
    allow_with(p, SYS_ptrace, 1, &one);
    allow_with(p, SYS_waitid, 1, &one);
}

/* One new file: dumpcore.c has named it, and its descriptor's number is known; and where memory has
 * holes. */
static void allow_core(struct program *p, const struct uk_guest *g)
{
    struct sorted_set core = {.count = 0}, memory = {.count = 0};
    uint64_t name = (uintptr_t)g->core_name;
    add(&core, g->core_fd);
    add(&memory, g->mem_fd);
    emit(p, IF_EQUAL(SYS_openat, 0, 12));
    emit(p, LOAD(args[0]));
    emit(p, IF_EQUAL(g->core_dir_fd, 0, 9));
    emit(p, LOAD(args[1]));
    emit(p, IF_EQUAL(name, 0, 7));
    emit(p, LOAD_HIGH(args[1]));
    emit(p, IF_EQUAL(name >> 32, 0, 5));
    emit(p, LOAD(args[2]));
    emit(p, IF_EQUAL(UK_CORE_FLAGS, 0, 3));
    emit(p, LOAD(args[3]));
    emit(p, IF_EQUAL(UK_CORE_MODE, 0, 1));
    emit(p, RETURN(SECCOMP_RET_ALLOW));
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
    allow_on(p, SYS_ftruncate, &core);
    allow_on(p, SYS_lseek, &memory);
}

static void build(const struct uk_guest *g, struct program *p)
{
    static const unsigned plain[] = {
        SYS_ppoll,           SYS_poll,       SYS_clock_gettime, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_exit_group, SYS_rt_sigreturn,  SYS_restart_syscall};
    /* The poller may still be starting: the last three are what the C library begins a thread with.
     */
    static const unsigned threads[] = {SYS_futex, SYS_rt_sigprocmask, SYS_set_robust_list,
                                       SYS_rseq};
    struct sorted_set in, out, blocks, kills;
    collect(g, &in, &out);
    collect_blocks(g, &blocks);
    collect_kills(g, &kills);
    p->length = 0;
    emit(p, LOAD(arch));
    emit(p, IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0));
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
    emit(p, LOAD(nr));
    if (g->tender == UK_KVM)
        allow_kvm(p, g->vcpu_fd);
    else
        allow_tracing(p, g->child);
    if (g->listener_fd >= 0)
        allow_listening(p, g->listener_fd);
    allow_on(p, SYS_preadv2, &in);
    allow_on(p, SYS_read, &in);
    allow_on(p, SYS_write, &out);
    allow_on(p, SYS_pread64, &blocks);
    allow_on(p, SYS_pwrite64, &blocks);
    if (g->core_dir_fd >= 0)
        allow_core(p, g);
    allow_on(p, SYS_kill, &kills);
    for (unsigned i = 0; i < sizeof plain / sizeof plain[0]; i++)
        allow(p, plain[i]);
    for (unsigned i = 0; g->exitless_open && i < sizeof threads / sizeof threads[0]; i++)
        allow(p, threads[i]);
    emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
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
    static struct program program; /* 16 KiB: not on the stack */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return uk_error(g, "cannot give up privileges");
    build(g, &program);
    g->filter_length = program.length;
    struct sock_fprog fprog = {(unsigned short)program.length, program.code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &fprog))
        return uk_error(g, "cannot install the seccomp filter");
    return 0;
}
