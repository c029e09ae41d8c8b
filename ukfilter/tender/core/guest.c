/*
 * guest.c: a guest's memory, its beginning and its end.
 *
 * Until the sandbox is shut, a failure is returned to Python, which words it; from then on the
 * guest's end is the process's end, and what is to be said is said here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exitless.h"

/* Bytes loaded from which on an image starts quicker on huge pages: see map_pages(). */
#define HUGE_IMAGE (1UL << 20)
#define HUGE_PAGE (2UL << 20)

int uk_error(struct uk_guest *g, const char *what)
{
    snprintf(g->error, sizeof g->error, "%s: %s", what, strerror(errno));
    return -1;
}

static void conclude(struct uk_guest *g, int status, const char *format, va_list ap)
{
    g->status = status;
    vsnprintf(g->reason, sizeof g->reason, format, ap);
}

/* The guest is over, in good order. */
enum uk_verdict uk_end(struct uk_guest *g, int status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    conclude(g, status, format, ap);
    va_end(ap);
    return UK_END;
}

/* The guest is over, and its user is told why in one line. */
enum uk_verdict uk_fail(struct uk_guest *g, int status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    conclude(g, status, format, ap);
    va_end(ap);
    g->failed = true;
    return UK_END;
}

/* One line on stderr, written at once so that the lines of many filters do not mix. */
void uk_say(const struct uk_guest *g, const char *format, ...)
{
    char line[600];
    int n = snprintf(line, sizeof line, "ukfilter: %.200s: ", g->shown);
    va_list ap;
    va_start(ap, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, ap);
    va_end(ap);
    if ((size_t)n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    /* Nobody is left to tell if stderr fails. */
    if (write(2, line, (size_t)n) < 0)
        return;
}

/* Guest memory that a second process maps as well. */
static int share_memory(struct uk_guest *g)
{
    g->mem_fd = memfd_create("guest", MFD_CLOEXEC);
    if (g->mem_fd < 0)
        return uk_error(g, "cannot reserve guest memory");
    /* Its size counts against `ulimit -f`, whose signal would end this without a word. */
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    int bad = ftruncate(g->mem_fd, (off_t)g->mem_size);
    signal(SIGXFSZ, before);
    if (bad)
        return uk_error(g, errno == EFBIG
                               ? "cannot reserve guest memory: it is more than the limit "
                                 "of a file's size (ulimit -f), which counts here"
                               : "cannot reserve guest memory");
    void *at =
        mmap(NULL, g->mem_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, g->mem_fd, 0);
    if (at == MAP_FAILED)
        return uk_error(g, "cannot map guest memory");
    g->mem = at;
    return 0;
}

/*
 * Huge pages where they win. On software KVM each page that the guest touches costs 10 us, and a
 * huge one 100: a large image (MirageOS: 3-5 MB) starts quicker all on huge ones; a small one
 * touches a few pages of itself and of its stack, but a heap, if it uses one, in earnest (16 MB of
 * it: 10 ms instead of 50).
 */
static void map_pages(const struct uk_guest *g)
{
    uint64_t loaded = 0, from = 0, to = g->mem_size;
    for (uint32_t i = 0; i < g->segment_count; i++) {
        const struct uk_segment *s = &g->segments[i];
        loaded += s->filesz;
        from = s->addr + s->memsz > from ? s->addr + s->memsz : from;
    }
    if (loaded >= HUGE_IMAGE)
        from = 0;
    else
        to = to > HUGE_PAGE ? to - HUGE_PAGE : 0;
    from = (from + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    madvise(g->mem, g->mem_size, MADV_NOHUGEPAGE);
    if (from < to)
        madvise(g->mem + from, to - from, MADV_HUGEPAGE);
}

static int map_memory(struct uk_guest *g)
{
    if (g->tender == UK_PROCESS)
        return share_memory(g);
    uint8_t *at = mmap(NULL, g->mem_size + HUGE_PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return uk_error(g, "cannot reserve guest memory");
    at = (uint8_t *)(((uintptr_t)at + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (mprotect(at, g->mem_size, PROT_READ | PROT_WRITE))
        return uk_error(g, "cannot map guest memory");
    g->mem = at;
    map_pages(g);
    return 0;
}

/* Put what the file has of a segment into the guest's memory. */
int uk_segment_load(struct uk_guest *g, const struct uk_segment *s)
{
    for (uint64_t done = 0; done < s->filesz;) {
        ssize_t n = pread(g->image_fd, g->mem + s->addr + done, s->filesz - done,
                          (off_t)(s->offset + done));
        if (n == 0)
            errno = ENODATA;
        if (n <= 0)
            return uk_error(g, "cannot read the image");
        done += (uint64_t)n;
    }
    return 0;
}

/* Map the guest's memory and put the image and the low memory in it. -1: see g->error. */
int uk_guest_load(struct uk_guest *g)
{
    if (map_memory(g))
        return -1;
    memcpy(g->mem, g->low, g->low_size);
    for (uint32_t i = 0; i < g->segment_count; i++)
        if (uk_segment_load(g, &g->segments[i]))
            return -1;
    return 0;
}

static bool open_tender(struct uk_guest *g)
{
    bool kvm = g->tender == UK_KVM;
    if (g->verbose)
        uk_say(g, "tender: %s", kvm ? "kvm" : "process");
    if (kvm ? uk_kvm_open(g) : uk_process_open(g)) {
        g->unusable = kvm;
        return false;
    }
    return true;
}

/* The guest is over, and with it this process. */
void uk_finish(struct uk_guest *g)
{
    uk_flush(g);
    uk_dump_core(g);
    uk_process_end(g);
    uk_report_end(g, 0);
    _exit(g->status);
}

/* Become the tender of this guest: returns (-1, g->error) only if it could not be started. */
int uk_guest_run_here(struct uk_guest *g)
{
    g->stats.started_ns = uk_now_ns();
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* waits of microseconds are meant */
    /* A closed standard error takes no log, and that is no reason to end a guest. */
    if (g->console_fd == 2 && (fcntl(2, F_GETFL) & O_ACCMODE) == O_RDONLY)
        g->console_fd = -1;
    if (uk_sandbox_no_core(g) || uk_guest_load(g))
        return -1;
    if (!open_tender(g)) {
        if (!g->unusable || !g->may_fall_back)
            return -1;
        if (g->verbose)
            uk_say(g, "%s", g->error);
        munmap(g->mem, g->mem_size);
        g->tender = UK_PROCESS;
        g->vcpu_fd = -1;
        if (uk_guest_load(g) || !open_tender(g))
            return -1;
    }
    if (uk_signals_watch(g) || uk_sandbox_close(g) || uk_poller_open(g) || uk_core_prepare(g) ||
        uk_sandbox_enter(g))
        return -1;
    uk_report_start(g);
    if (g->tender == UK_KVM)
        uk_kvm_loop(g);
    else
        uk_process_loop(g);
    uk_finish(g);
}

/* The child's standard descriptors; each is moved out of the way first, as they may overlap. */
static int take_standard(const int32_t standard[3])
{
    int moved[3];
    for (int i = 0; i < 3; i++)
        if ((moved[i] = fcntl(standard[i], F_DUPFD_CLOEXEC, 3)) < 0)
            return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(moved[i], i) < 0 || close(moved[i]))
            return -1;
    return 0;
}

static void child(struct uk_guest *g, const int32_t standard[3], pid_t parent, const sigset_t *none)
{
    uk_signals_reset();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(125);
    sigprocmask(SIG_SETMASK, none, NULL);
    if (take_standard(standard))
        uk_error(g, "cannot take over the descriptors");
    else
        uk_guest_run_here(g);
    int status = g->unusable ? 126 : 125;
    uk_report_failure(g, status);
    _exit(status);
}

/*
 * Run the guest in a child, with these three as its descriptors 0 to 2; its pid, and *pidfd. -1:
 * see g->error. Nothing but C runs in the child, so the caller may have threads; the child dies
 * with the thread that calls this.
 */
int uk_guest_spawn(struct uk_guest *g, const int32_t standard[3], int32_t *pidfd)
{
    sigset_t all, before, none;
    sigfillset(&all);
    sigemptyset(&none);
    pid_t parent = getpid();
    /* A handler of the parent's must not run in the child. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child(g, standard, parent, &none);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return uk_error(g, "cannot create the guest's process");
    *pidfd = (int32_t)syscall(SYS_pidfd_open, pid, 0);
    if (*pidfd < 0) {
        uk_error(g, "cannot watch the guest's process");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}
