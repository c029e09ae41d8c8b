/*
 * process.c: run the guest as a process (child.c has made it).
 *
 * What it does not do itself (direct.c) it asks for, by a system call that its filter turns into a
 * notification for us, or where that cannot be had, by an int3 that stops it; one of spt, by system
 * calls of its own, that stop it. Privileged instructions and faults raise a signal there, which
 * stops it for us, its tracer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exitless.h"

/* So many requests in a row, each so soon after the last answer, and tender and guest share a
 * processor; until one takes longer, or follows on many calls of the guest's own. */
#define QUICK_REQUESTS 16
#define QUICK_NS 1000000UL

#define USER_CS 0x33
#define INT3 0xcc
#define SI_KERNEL_CODE 0x80 /* SIGSEGV with this code: #GP, not a page fault */

/* One guest a process. */
static struct {
    struct uk_guest *guest;
    /* What on_stop() may do: the guest waits for us; a stop or a request is in hand; SIGCHLDs that
     * came then. */
    volatile sig_atomic_t waited_for, serving, missed;
    bool sharing;              /* a processor */
    unsigned quick;            /* requests in a row that came quickly */
    uint64_t answered_ns;      /* when the guest was answered last */
    bool gone;                 /* and waited for: its pid may be another's */
    struct seccomp_data asked; /* last */
} run;

/* The guest asks: if it does little else, it had better be near. */
static void keep_near(struct uk_guest *g)
{
    bool busy = uk_direct_busy(g), quick = !busy && uk_now_ns() - run.answered_ns < QUICK_NS;
    run.quick = quick ? run.quick + 1 : 0;
    bool share = run.quick >= QUICK_REQUESTS || (quick && run.sharing);
    if (share == run.sharing)
        return;
    run.sharing = share;
    uk_process_share(g, share);
}

/* Serve a hypercall: its port, the address of its arguments. */
static enum uk_verdict serve_request(struct uk_guest *g, uint64_t port, uint64_t gpa)
{
    keep_near(g);
    uk_direct_asked(g);
    enum uk_verdict verdict = uk_hypercall(g, (unsigned)(port & 0xff), (uint32_t)gpa, true);
    uk_direct_answered(g);
    run.answered_ns = uk_now_ns();
    return verdict;
}

/* The same, asked from the trampoline. */
static enum uk_verdict serve_call(struct uk_guest *g, uint64_t port, uint64_t gpa)
{
    enum uk_verdict verdict = serve_request(g, port, gpa);
    uk_direct_called(g);
    return verdict;
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

static enum uk_verdict set_registers(struct uk_guest *g, struct user_regs_struct *r)
{
    /* What it loaded by itself, Linux may refuse to load; the bases stay. */
    r->ds = r->es = r->fs = r->gs = 0;
    if (ptrace(PTRACE_SETREGS, g->child, NULL, r))
        return uk_fail(g, 125, "cannot set the guest's registers: %s", strerror(errno));
    return UK_GO;
}

static enum uk_verdict handle_exception(struct uk_guest *g, const siginfo_t *info,
                                        struct user_regs_struct *r)
{
    uint64_t error, address;
    unsigned vector = exception_of(g, info->si_signo, info, r, &error, &address);
    struct uk_frame frame = {
        .rip = r->rip, .cs = r->cs, .rflags = r->eflags, .rsp = r->rsp, .ss = r->ss};
    struct uk_regs n = {.r = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi, r->r8,
                              r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15}};
    const uint8_t *code = vector == 13 ? uk_guest_range(g, r->rip, 1, false) : NULL;
    if (code && *code == 0xef && (r->rdx & 0xfff0) == UK_HYPERCALL_PORT) {
        uk_patch(g, r->rip - 5, r->rdx & 0xf);
        r->rip++;
        if (set_registers(g, r) != UK_GO)
            return UK_END;
        return serve_request(g, r->rdx, r->rax);
    }
    g->fs_base = r->fs_base, g->gs_base = r->gs_base; /* it can load them itself */
    enum uk_verdict verdict = uk_trap(g, vector, error, address, &frame, &n);
    if (verdict != UK_GO)
        return verdict;
    r->rip = frame.rip, r->rsp = frame.rsp, r->eflags = (frame.rflags & 0xcd5) | 0x202;
    r->rax = n.r[0], r->rcx = n.r[1], r->rdx = n.r[2], r->rbx = n.r[3], r->rbp = n.r[5];
    r->rsi = n.r[6], r->rdi = n.r[7], r->r8 = n.r[8], r->r9 = n.r[9], r->r10 = n.r[10];
    r->r11 = n.r[11], r->r12 = n.r[12], r->r13 = n.r[13], r->r14 = n.r[14], r->r15 = n.r[15];
    if (n.msrs_dirty)
        r->fs_base = g->fs_base, r->gs_base = g->gs_base;
    return set_registers(g, r);
}

/* The registers of a guest that is stopped by what it did. */
static enum uk_verdict read_registers(struct uk_guest *g, struct user_regs_struct *r)
{
    g->stats.exits++;
    if (ptrace(PTRACE_GETREGS, g->child, NULL, r))
        return uk_fail(g, 125, "cannot read the guest's registers: %s", strerror(errno));
    if (r->cs != USER_CS)
        return uk_fail(g, 255, "the guest left 64-bit mode (cs 0x%llx at rip 0x%llx)",
                       (unsigned long long)r->cs, (unsigned long long)r->rip);
    return UK_GO;
}

/* By somebody else, or by the kernel, for want of memory or at the end of its processor time: under
 * KVM it would have been us. */
static enum uk_verdict say_killed(struct uk_guest *g, int signal)
{
    return uk_fail(g, signal ? 128 + signal : 255, "the guest's process was killed (signal %d)",
                   signal);
}

/* Killed while it waits for us, which may take for ever: then it is over now. */
static void end_if_dead(struct uk_guest *g)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)g->child, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid ||
        (info.si_code != CLD_KILLED && info.si_code != CLD_DUMPED && info.si_code != CLD_EXITED))
        return;
    say_killed(g, info.si_code == CLD_EXITED ? 0 : info.si_status);
    uk_report_end(g, 0); /* this may have interrupted a write: nothing else is written */
    _exit(g->status);
}

static enum uk_verdict handle_death(struct uk_guest *g, int status)
{
    run.gone = true;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        uk_fail(g, 255, "the guest made a system call of the host, which no guest may");
    else
        say_killed(g, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    return UK_END;
}

/* A guest of spt is about to make a system call: serve it, and let the kernel skip it. */
static enum uk_verdict handle_call(struct uk_guest *g)
{
    struct user_regs_struct r;
    enum uk_verdict verdict = read_registers(g, &r);
    keep_near(g);
    if (verdict == UK_GO)
        verdict = uk_spt_call(g, &r);
    run.answered_ns = uk_now_ns();
    if (verdict != UK_GO)
        return verdict; /* it stays in front of its call, until it is killed with us */
    r.orig_rax = ~0ULL;
    return set_registers(g, &r);
}

/* A signal has stopped the guest: one of its own doing, as all that Linux itself raises, or one of
 * a user or the terminal, of which the tender has a copy. */
static enum uk_verdict handle_signal(struct uk_guest *g)
{
    struct user_regs_struct r;
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, g->child, NULL, &info))
        return uk_fail(g, 125, "cannot see why the guest stopped: %s", strerror(errno));
    int signal = info.si_signo;
    if (signal == SIGXCPU && info.si_code > 0)
        kill(g->pid, signal); /* the limit is the filter's: so is its end */
    if (info.si_code <= 0 || (signal != SIGSEGV && signal != SIGTRAP && signal != SIGILL &&
                              signal != SIGFPE && signal != SIGBUS))
        return UK_GO;
    enum uk_verdict verdict = read_registers(g, &r);
    if (verdict != UK_GO)
        return verdict;
    const uint8_t *code = signal == SIGTRAP ? uk_guest_range(g, r.rip - 6, 6, false) : NULL;
    bool site = code && uk_is_site(code, INT3) && (r.rdx & 0xfff0) == UK_HYPERCALL_PORT;
    bool asks = signal == SIGTRAP && uk_direct_is_exit(r.rip);
    if (site || asks)
        return serve_call(g, r.rdx, site ? r.rax : r.rsi);
    uint64_t rip = r.rip;
    if ((signal == SIGSEGV || signal == SIGBUS) && uk_direct_retreat(g, &rip)) {
        r.rip = rip;
        return set_registers(g, &r);
    }
    return handle_exception(g, &info, &r);
}

/* The guest is stopped, or dead: serve it, and let it run on. */
static enum uk_verdict serve_stop(struct uk_guest *g, int status)
{
    if (!WIFSTOPPED(status))
        return handle_death(g, status);
    bool call = status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
    run.waited_for = true;
    enum uk_verdict verdict = call ? handle_call(g) : handle_signal(g);
    run.waited_for = false;
    if (verdict == UK_GO && ptrace(PTRACE_CONT, g->child, NULL, NULL) && errno != ESRCH)
        return uk_fail(g, 125, "cannot run the guest: %s", strerror(errno));
    return verdict;
}

static void serve_stops(struct uk_guest *g)
{
    int status;
    sig_atomic_t seen;
    do {
        seen = run.missed;
        run.serving = true;
        while (waitpid(g->child, &status, WNOHANG) > 0)
            if (serve_stop(g, status) != UK_GO)
                uk_finish(g);
        run.serving = false;
    } while (seen != run.missed);
}

/*
 * SIGCHLD: the guest is stopped, or dead. If it is served, as it asked, a signal may have stopped
 * it all the same: that can wait. Else this has interrupted the wait for a request, and as the work
 * is done here, no stop is lost between a look and a sleep.
 */
static void on_stop(int number)
{
    (void)number;
    int before = errno;
    if (run.waited_for)
        end_if_dead(run.guest);
    if (run.serving)
        run.missed++;
    else if (run.guest->listener_fd >= 0)
        serve_stops(run.guest);
    errno = before;
}

/* Be told when the guest stops or dies: it does not run yet. */
int uk_process_watch(struct uk_guest *g)
{
    /* Not blocked while it is served, so that its death is seen then. */
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_NODEFER};
    sigset_t stop;
    run.guest = g;
    sigemptyset(&stop);
    sigaddset(&stop, SIGCHLD);
    if (sigaction(SIGCHLD, &action, NULL) || sigprocmask(SIG_UNBLOCK, &stop, NULL))
        return uk_error(g, "cannot watch the guest's process");
    return 0;
}

/* Wait for a stop and serve it; false: it was the last. */
static bool next_stop(struct uk_guest *g)
{
    int status;
    if (waitpid(g->child, &status, 0) < 0) {
        if (errno == EINTR)
            return true;
        uk_fail(g, 125, "cannot wait for the guest: %s", strerror(errno));
        return false;
    }
    return serve_stop(g, status) == UK_GO;
}

/* Serve what the guest asks for by a system call; it has the port in rdx, the address in rsi. */
static enum uk_verdict serve_notified(struct uk_guest *g, const struct seccomp_data *asked)
{
    g->stats.exits++;
    run.waited_for = true;
    enum uk_verdict verdict = serve_call(g, asked->args[2], asked->args[1]);
    run.waited_for = false;
    return verdict;
}

/*
 * Wait for a request and serve it; false: it was the last. A signal takes the guest out of its wait
 * for the answer, and then it makes the very same call again: that has been served, and gets the
 * answer that was missed. (Linux can be told to let it wait on, but such a sleep hinders freezing
 * and suspending.)
 */
static bool next_call(struct uk_guest *g)
{
    struct seccomp_notif call = {0};
    if (ioctl(g->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
        /* ENOENT: a signal came to the guest first, and it asks again. */
        if (errno == EINTR || errno == ENOENT)
            return true;
        uk_fail(g, 125, "cannot hear the guest: %s", strerror(errno));
        return false;
    }
    run.serving = true;
    if (memcmp(&call.data, &run.asked, sizeof run.asked) != 0) {
        run.asked = call.data;
        if (serve_notified(g, &call.data) != UK_GO)
            return false;
    }
    struct seccomp_notif_resp answer = {.id = call.id, .val = UK_HEARD};
    run.serving = false; /* from the answer on it may stop again */
    int bad;
    do
        bad = ioctl(g->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    while (bad && errno == EINTR);
    if (bad) /* it is stopped, or dead */
        on_stop(SIGCHLD);
    return true;
}

/* End the guest's process: once this returns, it writes no more and holds nothing, and the
 * processor time that it took counts with its tender's. */
void uk_process_end(struct uk_guest *g)
{
    siginfo_t info;
    /* ECHILD: this interrupted what has just waited for it, and its pid may be another's. */
    if (g->tender != UK_PROCESS || run.gone ||
        waitid(P_PID, (id_t)g->child, &info, WEXITED | WNOHANG | WNOWAIT) ||
        kill(g->child, SIGKILL))
        return;
    while (waitid(P_PID, (id_t)g->child, &info, WEXITED) && errno == EINTR)
        continue;
    run.gone = true;
}

/* Stop a guest that waits for an answer, in front of the call that it would make again. */
static bool stop_guest(struct uk_guest *g)
{
    int status;
    return kill(g->child, SIGSTOP) == 0 && waitpid(g->child, &status, 0) == g->child &&
           WIFSTOPPED(status);
}

/* The guest's registers, at its end: it will not run again. False: they are not to be had. */
bool uk_process_regs(struct uk_guest *g, struct user_regs_struct *out)
{
    if (run.gone)
        return false;
    return ptrace(PTRACE_GETREGS, g->child, NULL, out) == 0 ||
           (g->listener_fd >= 0 && stop_guest(g) &&
            ptrace(PTRACE_GETREGS, g->child, NULL, out) == 0);
}

/* Run the guest to its end. */
void uk_process_loop(struct uk_guest *g)
{
    bool (*next)(struct uk_guest *) = g->listener_fd >= 0 ? next_call : next_stop;
    if (ptrace(PTRACE_CONT, g->child, NULL, NULL) && errno != ESRCH)
        uk_fail(g, 125, "cannot run the guest: %s", strerror(errno));
    else
        while (next(g))
            continue;
}
