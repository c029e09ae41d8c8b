/*
 * process.c: enter the guest as a traced process, where there is no KVM.
 *
 * The guest is a child whose address space is emptied and then holds the guest's memory alone, at
 * the same addresses; a filter kills it on any system call. Privileged instructions raise SIGSEGV
 * there, which stops the child for us. Everything that prepares it is done from outside: the child
 * itself runs nothing but PTRACE_TRACEME and a stop; each later system call is injected by setting
 * its registers. Trap: what the kernel writes to a process behind its back (rseq) must be
 * unregistered before its pages go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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

#include "exitless.h"

#define GPA_GATE                                                                                   \
    0x15000 /* R+X page of the child: `syscall`, for what is injected once all else is gone */
#define GPA_FILTER 0x16000 /* the seccomp program lies here while it is installed */
#define TASK_END                                                                                   \
    0x7ffffffff000ULL /* end of user addresses with 4-level tables: x86's TASK_SIZE_MAX */
#define RSEQ_SIGNATURE 0x53053053 /* what glibc registers with: RSEQ_SIG of sys/rseq.h */
#define USER_CS 0x33
#define SI_KERNEL_CODE 0x80 /* SIGSEGV with this code: #GP, not a page fault */

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

static int64_t inject(struct injector *in, long number, uint64_t a, uint64_t b, uint64_t c,
                      uint64_t d, uint64_t e, uint64_t f)
{
    struct user_regs_struct r = in->regs;
    int status;
    r.rip = in->site;
    r.rax = (uint64_t)number;
    r.orig_rax = ~0ULL;
    r.rdi = a, r.rsi = b, r.rdx = c, r.r10 = d, r.r8 = e, r.r9 = f;
    if (ptrace(PTRACE_SETREGS, in->pid, NULL, &r) ||
        ptrace(PTRACE_SINGLESTEP, in->pid, NULL, NULL) || waitpid(in->pid, &status, 0) < 0 ||
        !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, in->pid, NULL, &r))
        return -ESRCH;
    return (int64_t)r.rax;
}

/* The seccomp program of the child: no system call at all, or, for spt, each one stops it for us.
 * It lies in guest memory while it is put on. */
static int forbid_calls(struct uk_guest *g, struct injector *in)
{
    struct {
        struct sock_filter code[4];
        struct sock_fprog prog;
    } filter = {
        .code = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, arch)),
                 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                 BPF_STMT(BPF_RET | BPF_K, g->spt ? SECCOMP_RET_TRACE : SECCOMP_RET_KILL_PROCESS)}};
    uint64_t at = g->mem_size - 4096;
    filter.prog.len = sizeof filter.code / sizeof filter.code[0];
    filter.prog.filter = (struct sock_filter *)at;
    memcpy(g->mem + at, &filter, sizeof filter);
    int64_t done = inject(in, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    if (done == 0)
        done = inject(in, SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
                      at + offsetof(__typeof__(filter), prog), 0, 0, 0);
    memset(g->mem + at, 0, sizeof filter);
    return (int)done;
}

/* What the kernel would write into, or that the guest could inherit: descriptors, rseq,
 * personality. */
static int64_t cut_ties(const struct uk_guest *g, struct injector *in)
{
    uint64_t rseq = in->regs.fs_base + (uint64_t)__rseq_offset;
    unsigned fd = (unsigned)g->mem_fd;
    int64_t bad = fd > 0 ? inject(in, SYS_close_range, 0, fd - 1, 0, 0, 0, 0) : 0;
    bad |= inject(in, SYS_close_range, fd + 1, ~0U, 0, 0, 0, 0);
    bad |= inject(in, SYS_personality, 0, 0, 0, 0, 0, 0) < 0;
    bad |= inject(in, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
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

/* Empty the child's address space and map the guest's memory, with its protections, in its place.
 */
static int64_t fill_space(struct uk_guest *g, struct injector *in)
{
    static const uint8_t gate[] = {0x0f, 0x05, 0xcc};
    memcpy(g->mem + GPA_GATE, gate, sizeof gate);
    int64_t bad = map(g, in, GPA_GATE, GPA_GATE + 4096, PROT_READ | PROT_EXEC);
    if (bad)
        return bad;
    in->site = GPA_GATE;
    bad = inject(in, SYS_munmap, GPA_GATE + 4096, TASK_END - GPA_GATE - 4096, 0, 0, 0, 0);
    bad |= map(g, in, UK_GPA_BOOT_INFO, UK_GPA_BOOT_END, PROT_READ);
    if (g->exitless != UK_EXITLESS_OFF && !g->spt) {
        bad |= map(g, in, UK_GPA_TRAMPOLINE, UK_GPA_TRAMPOLINE_END, PROT_READ | PROT_EXEC);
        bad |= map(g, in, UK_GPA_MAILBOX, UK_GPA_MAILBOX + 4096, PROT_READ | PROT_WRITE);
    }
    bad |= map(g, in, UK_GPA_BASE, g->mem_size, PROT_READ | PROT_WRITE);
    for (uint32_t i = 0; i < g->segment_count && !bad; i++) {
        const struct uk_segment *s = &g->segments[i];
        uint64_t start = s->addr & ~0xfffULL, end = (s->addr + s->memsz + 0xfff) & ~0xfffULL;
        int prot = PROT_READ | (s->flags & 2 ? PROT_WRITE : 0) | (s->flags & 1 ? PROT_EXEC : 0);
        bad |= inject(in, SYS_mprotect, start, end - start, (uint64_t)prot, 0, 0, 0);
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

static cpu_set_t others;

/*
 * Tender and guest take turns and never run at once, so they share a processor: a wake-up across
 * two costs several times the turn itself (64 KiB messages: 1200 MB/s on one, 450 on two). It is
 * only for speed.
 */
static void share_processor(void)
{
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_ZERO(&others);
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof others, &others))
        return;
    CPU_CLR(cpu, &others);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* The processors that this process may have, but for the one where tender and guest take turns. */
void uk_process_others(cpu_set_t *set)
{
    *set = others;
}

/* Make the child around the loaded memory. -1: see g->error. */
int uk_process_open(struct uk_guest *g)
{
    uint64_t ns = raw_ns(), tsc = ticks();
    share_processor();
    pid_t pid = fork();
    if (pid < 0)
        return uk_error(g, "cannot create the guest's process");
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        kill(getpid(), SIGSTOP);
        _exit(125);
    }
    g->child = pid;
    int status;
    struct injector in = {.pid = pid, .site = (uintptr_t)uk_syscall_site};
    if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL,
               (void *)(long)(PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP)) ||
        ptrace(PTRACE_GETREGS, pid, NULL, &in.regs))
        return uk_error(g, "cannot trace the guest's process (is ptrace forbidden here?)");
    int64_t bad = cut_ties(g, &in);
    if (!bad)
        bad = fill_space(g, &in);
    if (!bad)
        bad = forbid_calls(g, &in);
    if (bad || !set_state(g, &in)) {
        errno = bad < 0 ? (int)-bad : EPERM;
        return uk_error(g, "cannot confine the guest's process");
    }
    if (g->spt)
        return 0; /* its boot information has no frequency */
    g->tsc_hz = (uint64_t)((double)(ticks() - tsc) * 1e9 / (double)(raw_ns() - ns));
    memcpy(g->mem + UK_GPA_BOOT_INFO + UK_BOOT_TSC_HZ, &g->tsc_hz, sizeof g->tsc_hz);
    return 0;
}

static bool guest_may_write(struct uk_guest *g, uint64_t address)
{
    return uk_guest_range(g, address, 1, true) != NULL;
}

/* The exception that a stop stands for, its error code and its address. */
static unsigned exception_of(struct uk_guest *g, int signal, const siginfo_t *info,
                             const struct user_regs_struct *r, uint64_t *error, uint64_t *address)
{
    *error = *address = 0;
    switch (signal) {
    case SIGILL:
        return 6;
    case SIGFPE:
        return info->si_code == FPE_INTDIV ? 0 : 19;
    case SIGTRAP:
        return info->si_code == SI_KERNEL_CODE ? 3 : 1;
    case SIGBUS:
        return info->si_code == BUS_ADRALN ? 17 : 12;
    default:
        if (info->si_code == SI_KERNEL_CODE)
            return 13;
        *address = (uint64_t)(uintptr_t)info->si_addr;
        /* The kernel does not tell a tracer what kind of access it was; a protection tells some of
         * it. */
        *error = 4 | (info->si_code == SEGV_ACCERR);
        if (*address == r->rip)
            *error |= 16;
        else if (info->si_code == SEGV_ACCERR && !guest_may_write(g, *address))
            *error |= 2;
        else
            *error |= UK_ACCESS_UNKNOWN;
        return 14;
    }
}

static enum uk_verdict handle_exception(struct uk_guest *g, int signal, struct user_regs_struct *r)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, g->child, NULL, &info))
        return uk_fail(g, 125, "cannot see why the guest stopped: %s", strerror(errno));
    if (info.si_code == SI_USER || info.si_code == SI_TKILL)
        return UK_GO; /* somebody's kill: what is meant for the filter, the tender gets itself */
    uint64_t error, address;
    unsigned vector = exception_of(g, signal, &info, r, &error, &address);
    struct uk_frame frame = {
        .rip = r->rip, .cs = r->cs, .rflags = r->eflags, .rsp = r->rsp, .ss = r->ss};
    struct uk_regs n = {.r = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi, r->r8,
                              r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15}};
    const uint8_t *code = vector == 13 ? uk_guest_range(g, r->rip, 1, false) : NULL;
    if (code && *code == 0xef && (r->rdx & 0xfff0) == UK_HYPERCALL_PORT) {
        uk_patch(g, r->rip - 5);
        r->rip++;
        if (ptrace(PTRACE_SETREGS, g->child, NULL, r))
            return uk_fail(g, 125, "cannot set the guest's registers: %s", strerror(errno));
        return uk_exit_call(g, (unsigned)(r->rdx & 0xf), (uint32_t)r->rax);
    }
    enum uk_verdict verdict = uk_trap(g, vector, error, address, &frame, &n);
    if (verdict != UK_GO)
        return verdict;
    r->rip = frame.rip, r->rsp = frame.rsp, r->eflags = (frame.rflags & 0xcd5) | 0x202;
    r->rax = n.r[0], r->rcx = n.r[1], r->rdx = n.r[2], r->rbx = n.r[3], r->rbp = n.r[5];
    r->rsi = n.r[6], r->rdi = n.r[7], r->r8 = n.r[8], r->r9 = n.r[9], r->r10 = n.r[10];
    r->r11 = n.r[11], r->r12 = n.r[12], r->r13 = n.r[13], r->r14 = n.r[14], r->r15 = n.r[15];
    if (n.msrs_dirty)
        r->fs_base = g->fs_base, r->gs_base = g->gs_base;
    if (ptrace(PTRACE_SETREGS, g->child, NULL, r))
        return uk_fail(g, 125, "cannot set the guest's registers: %s", strerror(errno));
    return UK_GO;
}

/* A guest of spt is about to make a system call: serve it, and let the kernel skip it. */
static enum uk_verdict handle_call(struct uk_guest *g)
{
    struct user_regs_struct r;
    g->stats.exits++;
    if (ptrace(PTRACE_GETREGS, g->child, NULL, &r))
        return uk_fail(g, 125, "cannot read the guest's registers: %s", strerror(errno));
    if (r.cs != USER_CS)
        return uk_fail(g, 255, "the guest left 64-bit mode (cs 0x%llx at rip 0x%llx)",
                       (unsigned long long)r.cs, (unsigned long long)r.rip);
    enum uk_verdict verdict = uk_spt_call(g, &r);
    if (verdict != UK_GO)
        return verdict; /* it stays in front of its call, until it is killed with us */
    r.orig_rax = ~0ULL;
    if (ptrace(PTRACE_SETREGS, g->child, NULL, &r))
        return uk_fail(g, 125, "cannot set the guest's registers: %s", strerror(errno));
    return verdict;
}

static enum uk_verdict handle_stop(struct uk_guest *g, int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return uk_fail(g, 255, "the guest made a system call of the host, which no guest may");
    if (!WIFSTOPPED(status))
        return uk_fail(g, 255, "the guest's process was killed (signal %d)",
                       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
        return handle_call(g);
    int signal = WSTOPSIG(status);
    if (signal != SIGSEGV && signal != SIGTRAP && signal != SIGILL && signal != SIGFPE &&
        signal != SIGBUS)
        return UK_GO; /* of the terminal or of a user: the tender has its own copy */
    struct user_regs_struct r;
    if (ptrace(PTRACE_GETREGS, g->child, NULL, &r))
        return uk_fail(g, 125, "cannot read the guest's registers: %s", strerror(errno));
    g->stats.exits++;
    if (r.cs != USER_CS)
        return uk_fail(g, 255, "the guest left 64-bit mode (cs 0x%llx at rip 0x%llx)",
                       (unsigned long long)r.cs, (unsigned long long)r.rip);
    const uint8_t *code = signal == SIGTRAP ? uk_guest_range(g, r.rip - 6, 6, false) : NULL;
    bool site = code && uk_is_site(code, 0xcc) && (r.rdx & 0xfff0) == UK_HYPERCALL_PORT;
    bool kick = g->exitless_active && signal == SIGTRAP && uk_handshake_is_kick(r.rip);
    if (site && g->exitless_active)
        uk_patch(g, r.rip - 6);
    if (site || kick)
        return uk_exit_call(g, (unsigned)(r.rdx & 0xff), (uint32_t)r.rax);
    return handle_exception(g, signal, &r);
}

/* The guest's registers; it is stopped. */
bool uk_process_regs(struct uk_guest *g, struct user_regs_struct *out)
{
    return ptrace(PTRACE_GETREGS, g->child, NULL, out) == 0;
}

/* Run the guest to its end. */
void uk_process_loop(struct uk_guest *g)
{
    enum uk_verdict verdict = UK_GO;
    while (verdict == UK_GO) {
        int status;
        if (ptrace(PTRACE_CONT, g->child, NULL, NULL) && errno != ESRCH) {
            verdict = uk_fail(g, 125, "cannot run the guest: %s", strerror(errno));
            break;
        }
        while (waitpid(g->child, &status, 0) < 0)
            if (errno != EINTR) {
                uk_fail(g, 125, "cannot wait for the guest: %s", strerror(errno));
                return;
            }
        uk_exit_begin(g);
        verdict = handle_stop(g, status);
        if (verdict == UK_GO)
            uk_exit_end(g);
    }
}
