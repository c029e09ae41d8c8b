/*
 * child.c: the process that a guest is, where there is no KVM.
 *
 * The guest is a child whose address space is emptied and then holds the guest's memory alone, at
 * the same addresses; a filter kills it on any system call but those of its trampoline
 * (direct.c). Everything is done from outside: the child itself runs nothing but what has it traced
 * and stopped (fork_stopped()); each later system call is injected by setting its registers. Trap:
 * what the kernel writes to a process behind its back (rseq) must be unregistered before its pages
 * go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpf.h"
#include "exitless.h"

/* R+X page of the child: `syscall`, for what is injected once all else is gone, and behind it a
 * seccomp program while that is put on. */
#define GPA_GATE 0x15000
#define GPA_FILTER (GPA_GATE + 64)
#define TASK_END                                                                                   \
    0x7ffffffff000ULL /* end of user addresses with 4-level tables: x86's TASK_SIZE_MAX */
#define RSEQ_SIGNATURE 0x53053053 /* what glibc registers with: RSEQ_SIG of sys/rseq.h */

/* Linux 6.6, linux/seccomp.h, which Debian 12's headers do not have yet: who is woken by the other
 * comes to run where that one ran. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif

__asm__(".pushsection .text\n"
        ".globl uk_syscall_site\n.hidden uk_syscall_site\n"
        "uk_syscall_site: syscall; int3\n"
        ".popsection\n");
extern const uint8_t uk_syscall_site[];

/* What is injected and where; the registers are the child's. */
struct injector {
    pid_t pid;
    uint64_t site;
    struct user_regs_struct regs;
};

/* One instruction. A signal to the child, of a terminal or a user, stops it in front of that: not
 * made yet, it is made again, and the signal is dropped. */
static bool step(pid_t pid)
{
    for (;;) {
        int status;
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL))
            return false;
        while (waitpid(pid, &status, 0) < 0)
            if (errno != EINTR)
                return false;
        if (!WIFSTOPPED(status))
            return false;
        siginfo_t info;
        if (WSTOPSIG(status) == SIGTRAP && !ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) &&
            info.si_code > 0)
            return true;
    }
}

static int64_t inject(struct injector *in, long number, uint64_t a, uint64_t b, uint64_t c,
                      uint64_t d, uint64_t e, uint64_t f)
{
    struct user_regs_struct r = in->regs;
    r.rip = in->site;
    r.rax = (uint64_t)number;
    r.orig_rax = ~0ULL;
    r.rdi = a, r.rsi = b, r.rdx = c, r.r10 = d, r.r8 = e, r.r9 = f;
    if (ptrace(PTRACE_SETREGS, in->pid, NULL, &r) || !step(in->pid) ||
        ptrace(PTRACE_GETREGS, in->pid, NULL, &r))
        return -ESRCH;
    return (int64_t)r.rax;
}

/* A seccomp program for the child: an action for the system call by which it asks, known by the
 * address behind it, and one for all others; but those of the trampoline come to its end. */
static struct uk_program *write_filter(uint32_t there, uint32_t else_)
{
    static struct uk_program filter;
    struct uk_program *f = &filter;
    uk_program_begin(f);
    uk_emit(f, UK_LOAD_HIGH(instruction_pointer));
    uk_emit(f, UK_IF_EQUAL(0, 0, 4));
    uk_emit(f, UK_LOAD(instruction_pointer));
    uk_emit(f, UK_IF_EQUAL(uk_direct_exit(), 3, 0));
    uk_emit(f, UK_IF_LEAST(UK_GPA_TRAMPOLINE, 0, 1));
    uk_emit(f, UK_IF_LEAST(UK_GPA_TRAMPOLINE_END, 0, 2));
    uk_emit(f, UK_RETURN(else_));
    uk_emit(f, UK_RETURN(there));
    return f;
}

/* Put a seccomp program on the child; it lies in the gate's page meanwhile. What seccomp(2)
 * returns. */
static int64_t put_filter(struct uk_guest *g, struct injector *in, const struct uk_program *f,
                          uint64_t flags)
{
    const uint64_t code = GPA_FILTER + sizeof(struct sock_fprog);
    const size_t size = f->length * sizeof f->code[0];
    struct sock_fprog prog = {(unsigned short)f->length, (struct sock_filter *)code};
    if (code + size > GPA_GATE + 4096)
        return -E2BIG;
    memcpy(g->mem + GPA_FILTER, &prog, sizeof prog);
    memcpy(g->mem + code, f->code, size);
    int64_t done = inject(in, SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, GPA_FILTER, 0, 0, 0);
    memset(g->mem + GPA_FILTER, 0, sizeof prog + size);
    return done;
}

static bool is_listener(int64_t fd)
{
    uint64_t none = 0;
    return fd >= 0 && ioctl((int)fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) && errno == ENOENT;
}

/*
 * How a guest asks: its system call waits for an answer of whoever has the listener's descriptor,
 * which is us, as the child still shares our table. That is half of what a stop by a signal costs,
 * or less. Without it (in a container that listens itself) g->listener_fd stays -1, and the guest
 * stops. So does one of spt, whose calls are its own: one that is made anew cannot be told from one
 * made again.
 */
static void listen_to(struct uk_guest *g, struct injector *in)
{
    const uint64_t same_processor = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
    if (g->spt)
        return;
    struct uk_program *filter = write_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW);
    uk_emit(filter, UK_RETURN(SECCOMP_RET_ALLOW));
    int64_t fd = put_filter(g, in, filter, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if (!is_listener(fd))
        return;
    g->listener_fd = (int32_t)fd;
    ioctl(g->listener_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, same_processor); /* only quicker */
}

/* From here on no system call at all, but those by which it asks, and its own reads and writes: of
 * two filters, the stricter counts. */
static int64_t forbid_calls(struct uk_guest *g, struct injector *in)
{
    const uint32_t kill = SECCOMP_RET_KILL_PROCESS;
    struct uk_program *filter = write_filter(g->listener_fd >= 0 ? SECCOMP_RET_ALLOW : kill,
                                             g->spt ? SECCOMP_RET_TRACE : kill);
    if (g->direct) {
        uk_emit(filter, UK_LOAD(nr));
        uk_direct_allow(filter);
    }
    uk_emit(filter, UK_RETURN(g->spt ? SECCOMP_RET_TRACE : kill));
    return put_filter(g, in, filter, 0);
}

/* What the kernel would write into, or that the guest could inherit: descriptors, rseq,
 * personality. */
static int64_t cut_ties(const struct uk_guest *g, struct injector *in)
{
    uint64_t rseq = in->regs.fs_base + (uint64_t)__rseq_offset;
    struct uk_set keep = {.numbers = {(uint32_t)g->mem_fd}, .count = 1};
    int64_t bad = 0;
    uk_direct_keep(g, &keep);
    for (unsigned i = keep.count + 1, from, to; i-- > 0 && !bad;)
        if (uk_set_gap(&keep, i, &from, &to))
            bad = inject(in, SYS_close_range, from, to, i == keep.count ? CLOSE_RANGE_UNSHARE : 0,
                         0, 0, 0);
    bad |= inject(in, SYS_personality, 0, 0, 0, 0, 0, 0) < 0;
    if (__rseq_size)
        bad |= inject(in, SYS_rseq, rseq, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIGNATURE, 0, 0);
    return bad;
}

static int64_t map(const struct uk_guest *g, struct injector *in, uint64_t from, uint64_t to,
                   int prot)
{
    int64_t at = inject(in, SYS_mmap, from, to - from, (uint64_t)prot,
                        MAP_SHARED | MAP_FIXED | MAP_NORESERVE, (uint64_t)g->mem_fd, from);
    return at == (int64_t)from ? 0 : at < 0 ? at : -ENOMEM;
}

/* The page from which the rest is injected, where it is out of the way of all that goes. */
static int64_t open_gate(struct uk_guest *g, struct injector *in)
{
    static const uint8_t gate[] = {0x0f, 0x05, 0xcc};
    memcpy(g->mem + GPA_GATE, gate, sizeof gate);
    int64_t bad = map(g, in, GPA_GATE, GPA_GATE + 4096, PROT_READ | PROT_EXEC);
    in->site = GPA_GATE;
    return bad ? bad : inject(in, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
}

/* Empty the child's address space and map the guest's memory, with its protections, in its place.
 */
static int64_t fill_space(struct uk_guest *g, struct injector *in)
{
    int64_t bad = inject(in, SYS_munmap, GPA_GATE + 4096, TASK_END - GPA_GATE - 4096, 0, 0, 0, 0);
    bad |= map(g, in, UK_GPA_BOOT_INFO, UK_GPA_BOOT_END, PROT_READ);
    if (!g->spt) {
        uk_direct_prepare(g);
        bad |= map(g, in, UK_GPA_TRAMPOLINE, UK_GPA_TRAMPOLINE_END, PROT_READ | PROT_EXEC);
        bad |= map(g, in, UK_GPA_MAILBOX, UK_GPA_MAILBOX + 4096, PROT_READ | PROT_WRITE);
    }
    bad |= map(g, in, UK_GPA_BASE, g->mem_size, PROT_READ | PROT_WRITE);
    for (uint32_t i = 0; i < g->segment_count && !bad; i++) {
        const struct uk_segment *s = &g->segments[i];
        uint64_t start = s->addr & ~0xfffULL, end = (s->addr + s->memsz + 0xfff) & ~0xfffULL;
        int prot = PROT_READ | (s->flags & 2 ? PROT_WRITE : 0) | (s->flags & 1 ? PROT_EXEC : 0);
        bad |= map(g, in, start, end, prot);
    }
    return bad ? bad : inject(in, SYS_close, (uint64_t)g->mem_fd, 0, 0, 0, 0, 0);
}

/* Registers as the ABI has them at entry, and nothing of the tender's in the others. */
static bool set_state(struct uk_guest *g, struct injector *in)
{
    static uint8_t xstate[16384] __attribute__((aligned(64)));
    static const uint16_t control = 0x37f; /* x87: SDM 1, 8.1.5, after FNINIT */
    static const uint32_t mxcsr = 0x1f80;  /* SSE: SDM 1, 10.2.3, at reset */
    struct iovec v = {xstate, sizeof xstate};
    if (ptrace(PTRACE_GETREGSET, in->pid, (void *)0x202L /* NT_X86_XSTATE */, &v) == 0) {
        memset(xstate, 0, 464);
        memcpy(xstate, &control, sizeof control);
        memcpy(xstate + 24, &mxcsr, sizeof mxcsr);
        memset(xstate + 512, 0, v.iov_len - 512);
        uint64_t present = 3;
        memcpy(xstate + 512, &present, sizeof present);
        if (ptrace(PTRACE_SETREGSET, in->pid, (void *)0x202L, &v))
            return false;
    }
    struct user_regs_struct r = {.rip = g->entry,
                                 .rsp = g->mem_size - 8,
                                 .rdi = UK_GPA_BOOT_INFO,
                                 .eflags = 0x202,
                                 .cs = in->regs.cs,
                                 .ss = in->regs.ss,
                                 .orig_rax = ~0ULL};
    return ptrace(PTRACE_SETREGS, in->pid, NULL, &r) == 0;
}

/* The time-stamp counter's frequency: no KVM to ask, so against a clock, over the loading work. */
static uint64_t ticks(void)
{
    return __builtin_ia32_rdtsc();
}

static uint64_t raw_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/*
 * Tender and guest share a processor while they take turns: a wake-up across two costs several
 * times the turn itself (64 KiB messages: 1200 MB/s on one, 450 on two). Or each goes where there
 * is room. It is only for speed.
 */
void uk_process_share(const struct uk_guest *g, bool together)
{
    static cpu_set_t all; /* the processors that this process had at first */
    cpu_set_t one;
    int cpu = sched_getcpu();
    if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof all, &all))
        return;
    CPU_ZERO(&one);
    if (cpu >= 0 && cpu < CPU_SETSIZE)
        CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, together ? &one : &all);
    if (g->child)
        sched_setaffinity(g->child, sizeof one, together ? &one : &all);
}

/*
 * fork(2), but that the two have one table of descriptors until cut_ties(). The child stops at
 * once, or at a signal, which none of does more to it than that. It dies with its parent, from the
 * beginning: a signal that came meanwhile ends that one as soon as it may.
 */
static pid_t fork_stopped(void)
{
    sigset_t all, before;
    pid_t parent = getpid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        sigemptyset(&all);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
            _exit(125);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && /* else: strace -f is at it */
            sigprocmask(SIG_SETMASK, &all, NULL) == 0)
            kill(getpid(), SIGSTOP);
        _exit(125);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* Wait until the child stops, and trace it from then on; false: see errno. */
static bool take_hold(pid_t pid, struct user_regs_struct *regs)
{
    int status;
    errno = EPERM;
    return waitpid(pid, &status, 0) >= 0 && WIFSTOPPED(status) &&
           ptrace(PTRACE_SETOPTIONS, pid, NULL,
                  (void *)(long)(PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP)) == 0 &&
           ptrace(PTRACE_GETREGS, pid, NULL, regs) == 0;
}

/* Whether a child can be traced here, for who asks without a guest: 0, or errno. */
int uk_process_try(void)
{
    struct user_regs_struct regs;
    pid_t pid = fork_stopped();
    int error = pid > 0 && take_hold(pid, &regs) ? 0 : errno;
    /* Held or not, it goes; one that ended by itself is reaped, and its number may be another's. */
    if (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return error;
}

/* Make the child around the loaded memory. -1: see g->error. */
int uk_process_open(struct uk_guest *g)
{
    uint64_t ns = raw_ns(), tsc = ticks();
    uk_direct_choose(g);
    uk_process_share(g, true);
    pid_t pid = fork_stopped();
    if (pid < 0)
        return uk_error(g, "cannot create the guest's process");
    g->child = pid;
    struct injector in = {.pid = pid, .site = (uintptr_t)uk_syscall_site};
    if (!take_hold(pid, &in.regs))
        return uk_error(g, "cannot trace the guest's process (is ptrace forbidden here?)");
    int64_t bad = open_gate(g, &in);
    if (!bad) {
        listen_to(g, &in);
        bad = cut_ties(g, &in);
    }
    if (!bad)
        bad = fill_space(g, &in);
    if (!bad)
        bad = forbid_calls(g, &in);
    if (bad || !set_state(g, &in)) {
        errno = bad < 0 ? (int)-bad : EPERM;
        return uk_error(g, "cannot confine the guest's process");
    }
    uk_process_share(g, false);
    if (uk_process_watch(g))
        return -1;
    if (g->spt)
        return 0; /* its boot information has no frequency */
    g->tsc_hz = (uint64_t)((double)(ticks() - tsc) * 1e9 / (double)(raw_ns() - ns));
    memcpy(g->mem + UK_GPA_BOOT_INFO + UK_BOOT_TSC_HZ, &g->tsc_hz, sizeof g->tsc_hz);
    return 0;
}
