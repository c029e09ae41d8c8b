/*
 * signals.c: the time limit, and the last words of a tender that a signal ends.
 *
 * With a report to make, or a guest to end that is a process, a handler does that and then
 * lets the same signal end the process, so that the shell sees it. Else every signal keeps its
 * default action.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "core.h"

#define NS_PER_US 1000
#define US_PER_S 1000000

static struct uk_guest *watched; /* one guest a process */

/* The guest may be spinning, waiting, or writing to a full pipe: this ends it in any case. */
static void on_timeout(int number)
{
    (void)number;
    uk_process_end(watched);
    watched->timed_out = true;
    uk_end(watched, 124, "timed out after %.3f s", (double)watched->timeout_ns / 1e9);
    uk_report_end(watched, 0);
    _exit(watched->status);
}

/* SA_RESETHAND: by now the action is the default again, and it comes when this returns. */
static void on_fatal(int number)
{
    uk_process_end(watched);
    uk_report_end(watched, number);
    if (watched->pid == 1)
        _exit(128 + number); /* to a container's first process a default action does nothing */
    syscall(SYS_kill, watched->pid, number);
}

static int handle(struct uk_guest *g, int number, void (*handler)(int))
{
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESETHAND;
    sigfillset(&action.sa_mask);
    if (sigaction(number, NULL, &before))
        return uk_error(g, "cannot see how a signal is handled");
    if (before.sa_handler == SIG_IGN && number != SIGALRM)
        return 0; /* as nohup has it */
    return sigaction(number, &action, NULL) ? uk_error(g, "cannot handle a signal") : 0;
}

static int start_timer(struct uk_guest *g)
{
    uint64_t us = g->timeout_ns / NS_PER_US + 1;
    struct itimerval once = {.it_value = {(time_t)(us / US_PER_S), (suseconds_t)(us % US_PER_S)}};
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    if (handle(g, SIGALRM, on_timeout) || sigprocmask(SIG_UNBLOCK, &alarm, NULL) ||
        setitimer(ITIMER_REAL, &once, NULL))
        return uk_error(g, "cannot start the time limit");
    return 0;
}

/* Write a message that nobody need read: it fails without an error or a signal. */
void uk_tell(int fd, const void *text, size_t length)
{
    static const struct timespec now = {0, 0};
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGPIPE);
    sigaddset(&ours, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    if (write(fd, text, length) < 0 && (errno == EPIPE || errno == EFBIG))
        sigtimedwait(&ours, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Start the time limit, and be told of the signals that end a filter, as far as g asks for it. */
int uk_signals_watch(struct uk_guest *g)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGXFSZ, SIGXCPU};
    watched = g;
    g->pid = getpid();
    /* To a container's first process a default action does nothing: that is ours to do. */
    bool last_words = g->report_fd >= 0 || g->show_stats || g->tender == UK_PROCESS || g->pid == 1;
    for (unsigned i = 0; last_words && i < sizeof fatal / sizeof fatal[0]; i++)
        if (handle(g, fatal[i], on_fatal))
            return -1;
    return g->timeout_ns ? start_timer(g) : 0;
}

/*
 * What exec would do to a child that inherited somebody's handlers: each to its default, and what
 * is ignored stays so, as nohup has it. Trap: Python ignores SIGPIPE and SIGXFSZ of its own, and
 * where SIGCHLD is ignored no child can be waited for.
 */
void uk_signals_reset(void)
{
    struct sigaction standard, before;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) {
        bool ours = number == SIGPIPE || number == SIGXFSZ || number == SIGCHLD;
        if (sigaction(number, NULL, &before) || (before.sa_handler == SIG_IGN && !ours))
            continue;
        sigaction(number, &standard, NULL); /* SIGKILL and SIGSTOP refuse, as they may */
    }
}
