/*
 * poller.c: the thread that serves hypercalls while the guest runs, and when it is awake.
 *
 * One lock is held around every hypercall, whoever serves it. The poller spins for requests, goes
 * to sleep once none came for a while, and is woken by the thread that enters the guest, when the
 * exits since then would have paid for it: see reckon().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "exitless.h"

#define STACK_SIZE (64 << 10)
#define US 1000UL /* nanoseconds */

/* What an exit costs is the least distance of two in this many, of which the guest's own work is a
 * part; a later one that took less than half of it shows that. */
#define EXITS_MEASURED 8
#define EXIT_MOST_NS (200 * US)
/* auto: exits that cost less than this are not worth a second busy processor. One costs 1-2 us on
 * hardware KVM, 20-100 on software KVM. */
#define DEAR_EXIT_NS (2 * US)
#define EXIT_ASSUMED_NS (50 * US) /* by --exitless on, until it is measured */

/* Wake the poller when it would have saved 2 exits; twice as many after a waste, up to the most. */
#define WAKE_LEAST 2
#define WAKE_MOST 256
#define SERVED_LEAST 4 /* requests that make a waking good */
/* Over so many requests, one must be served in less time than two exits take: guest and poller are
 * two processors' work, which a call that copies much, or waits, does not repay. */
#define SAMPLE 16
#define LOOKS 32 /* between two looks at the clock */
/* Who keeps a processor for so long computes; a pipe's writer or reader has it for a tenth. */
#define SLICE_NS (500 * US)
#define SLICE_MOST_NS (20000 * US) /* a longer one was a stop of us all */
#define SLICES_KEPT 64             /* for so much longer it is not let in again */

static struct {
    pthread_mutex_t lock; /* H of model/ */
    _Atomic uint32_t asleep;
    _Atomic uint32_t wake_at; /* savings that wake it, in exits */
    bool there, due;          /* due: to be woken when the guest is resumed, not before */
    _Atomic int guest_on;     /* the processor it was resumed on; -1: not yet */
    unsigned exits;
    uint64_t exit_ns, spin_ns, patience_ns, stay_until_ns, resumed_ns, saved_ns;
} poller = {.lock = PTHREAD_MUTEX_INITIALIZER, .asleep = 1, .wake_at = WAKE_LEAST, .guest_on = -1};

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* All patience follows from the cost of an exit. */
static void set_limits(struct uk_guest *g, uint64_t exit_ns)
{
    uint64_t limit = g->exitless_limit_ns;
    poller.exit_ns = exit_ns;
    poller.spin_ns = clamp(4 * exit_ns, 50 * US, 400 * US);
    poller.patience_ns = limit ? limit : clamp(exit_ns / 4, 3 * US, 20 * US);
    g->poll_ns = limit ? limit : clamp(3 * exit_ns, 5 * US, 100 * US);
    uk_handshake_limits(g, poller.patience_ns,
                        limit ? limit : clamp(4 * exit_ns, 10 * US, 200 * US));
}

static void pause_for_a_look(const struct uk_guest *g)
{
    for (int i = 0; i < LOOKS && !uk_handshake_pending(g); i++)
        __builtin_ia32_pause();
}

/* Serve one request, if there is one. It is while the guest waits for that, and knows it, that what
 * takes long is done: what is gathered is written then, if it is due. */
static bool serve_one(struct uk_guest *g, bool due)
{
    unsigned number;
    uint64_t gpa;
    pthread_mutex_lock(&poller.lock);
    bool taken = uk_handshake_take(g, &number, &gpa);
    if (taken) {
        enum uk_verdict verdict = due ? uk_flush(g) : UK_GO;
        if (verdict == UK_GO)
            verdict = uk_hypercall(g, number, gpa, false);
        if (verdict == UK_END)
            uk_finish(g);
        uk_handshake_answer(g, verdict == UK_WOULD_SLEEP);
    }
    pthread_mutex_unlock(&poller.lock);
    return taken;
}

static bool is_overdue(void)
{
    return uk_gather_due() && uk_gather_due() < uk_now_ns();
}

/* The guest is at something else: write what is gathered. */
static void flush(struct uk_guest *g)
{
    if (!uk_gather_due())
        return;
    pthread_mutex_lock(&poller.lock);
    if (uk_flush(g) != UK_GO)
        uk_finish(g);
    pthread_mutex_unlock(&poller.lock);
}

/*
 * Leave the processor that the guest is on, if this is it, for another that the guest may be on:
 * there neither helps the other. It is where the scheduler likes to put a thread that the guest's
 * wakes, again and again.
 */
static void step_aside(const struct uk_guest *g)
{
    int guests = atomic_load_explicit(&poller.guest_on, memory_order_relaxed);
    cpu_set_t others;
    if (guests < 0 || sched_getcpu() != guests || sched_getaffinity(g->pid, sizeof others, &others))
        return;
    CPU_CLR(guests, &others);
    if (CPU_COUNT(&others))
        sched_setaffinity(0, sizeof others, &others);
}

/*
 * The guest does not ask: it computes, or its processor was taken from it. Meanwhile this one is
 * for those who wait for it, above all the guest's writer and reader, which need a few microseconds
 * at a time. Somebody who computes would keep it for a slice, and then the guest would wait: that
 * is paid once in a while. How long it took, in nanoseconds.
 */
static uint64_t give_way(uint64_t now)
{
    if (now < poller.stay_until_ns)
        return 0;
    sched_yield();
    uint64_t took = uk_now_ns() - now;
    if (took > SLICE_NS)
        poller.stay_until_ns = now + SLICES_KEPT * clamp(took, SLICE_NS, SLICE_MOST_NS);
    return took;
}

static void fall_asleep(struct uk_guest *g)
{
    flush(g);
    uk_handshake_advise(g, true);
    atomic_store(&poller.asleep, 1);
}

/* Serve until nothing came for a while, or it was not worth it; how many, 0 if not worth it. The
 * clock is looked at rarely: a look costs a tenth of what a request does. */
static uint64_t serve_while_busy(struct uk_guest *g)
{
    uint64_t served = 0, since = uk_now_ns(), idle = 0, looked = 0;
    bool due = false;
    for (;;) {
        if (serve_one(g, due)) {
            due = false;
            idle = 0;
            if (++served % SAMPLE)
                continue;
            uint64_t now = uk_now_ns();
            if (now - since > SAMPLE * 2 * poller.exit_ns) {
                fall_asleep(g);
                return 0;
            }
            due = is_overdue();
            since = now;
            continue;
        }
        step_aside(g);
        uk_handshake_advise(g, false);
        pause_for_a_look(g);
        if (uk_handshake_pending(g))
            continue;
        flush(g);
        uint64_t now = uk_now_ns();
        if (idle)
            since += now - looked; /* waiting is not serving */
        else
            idle = now;
        looked = now;
        if (uk_handshake_pending(g) || now - idle < poller.patience_ns)
            continue;
        uint64_t away = give_way(now);
        looked += away;
        since += away;
        if (uk_handshake_pending(g) || now - idle < poller.spin_ns)
            continue;
        fall_asleep(g);
        /* The fence of that store is before this look: a request of before it is seen. */
        if (!uk_handshake_pending(g))
            return served;
        atomic_store(&poller.asleep, 0);
    }
}

static void *run_poller(void *argument)
{
    struct uk_guest *g = argument;
    for (;;) {
        while (atomic_load(&poller.asleep))
            syscall(SYS_futex, &poller.asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
        uint64_t served = serve_while_busy(g);
        uint32_t next = 2 * atomic_load(&poller.wake_at);
        if (served >= SERVED_LEAST)
            next = WAKE_LEAST;
        atomic_store(&poller.wake_at, next < WAKE_MOST ? next : WAKE_MOST);
    }
    return NULL;
}

static void wake(void)
{
    poller.due = false;
    poller.saved_ns = 0;
    atomic_store(&poller.asleep, 0);
    syscall(SYS_futex, &poller.asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/*
 * An exit, gap after the guest was resumed: would the poller have been worth its time? It would
 * have saved this exit, had it been spinning still; else it would have spun in vain. (A count of
 * quick exits in a row would start anew at each pause.)
 */
static void reckon(uint64_t gap)
{
    if (gap < poller.spin_ns)
        poller.saved_ns += poller.exit_ns;
    else
        poller.saved_ns -= poller.saved_ns < poller.spin_ns ? poller.saved_ns : poller.spin_ns;
    if (poller.saved_ns >= poller.exit_ns * atomic_load(&poller.wake_at))
        poller.due = true;
}

static void measure(struct uk_guest *g, uint64_t gap)
{
    if (!poller.exits || gap < poller.exit_ns)
        poller.exit_ns = gap < EXIT_MOST_NS ? gap : EXIT_MOST_NS;
    if (poller.exits < EXITS_MEASURED && ++poller.exits < EXITS_MEASURED)
        return;
    if (g->exitless == UK_EXITLESS_AUTO && poller.exit_ns < DEAR_EXIT_NS) {
        poller.there = false; /* and asleep for good */
        return;
    }
    set_limits(g, poller.exit_ns);
    g->exitless_active = true;
}

/* The guest made an exit: what follows is under the lock, until it is resumed. */
void uk_exit_begin(struct uk_guest *g)
{
    if (!g->exitless_open)
        return;
    uint64_t gap = uk_now_ns() - poller.resumed_ns;
    pthread_mutex_lock(&poller.lock);
    if (!poller.there || !poller.resumed_ns)
        return;
    if (poller.exits < EXITS_MEASURED || gap < poller.exit_ns / 2)
        measure(g, gap);
    else if (atomic_load(&poller.asleep))
        reckon(gap);
}

void uk_exit_end(struct uk_guest *g)
{
    if (!g->exitless_open)
        return;
    pthread_mutex_unlock(&poller.lock);
    if (poller.due)
        wake();
    poller.resumed_ns = uk_now_ns();
    atomic_store_explicit(&poller.guest_on, sched_getcpu(), memory_order_relaxed);
}

/* Serve the hypercall of an exit: its number as it is, or with what the trampoline adds. */
enum uk_verdict uk_exit_call(struct uk_guest *g, unsigned kind, uint64_t gpa)
{
    if (is_overdue() && uk_flush(g) != UK_GO)
        return UK_END;
    if (g->exitless_active && kind == UK_EXIT_SYNC)
        return UK_GO; /* whoever held the lock is through */
    if (g->exitless_active && (kind & ~0xfU) == UK_EXIT_LATE) {
        /* The poller has no processor just now; it takes this back once it has one. */
        uk_handshake_advise(g, true);
        kind &= 0xf;
    }
    return uk_hypercall(g, kind, gpa, true);
}

static int start(struct uk_guest *g)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t most, before;
    /* Signals are for the thread that enters the guest; SIGPIPE is a writer's own. */
    sigfillset(&most);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    if (!sigismember(&before, SIGPIPE))
        sigdelset(&most, SIGPIPE);
    if (!sigismember(&before, SIGXFSZ))
        sigdelset(&most, SIGXFSZ);
    pthread_sigmask(SIG_SETMASK, &most, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int bad = pthread_create(&thread, &attributes, run_poller, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return bad;
}

/* Start the poller, asleep, if g asks for it and the machine has a processor for it. -1: see
 * g->error. */
int uk_poller_open(struct uk_guest *g)
{
    cpu_set_t all;
    if (g->tender != UK_KVM || g->exitless == UK_EXITLESS_OFF ||
        sched_getaffinity(0, sizeof all, &all))
        return 0;
    if (CPU_COUNT(&all) < 2 && g->exitless == UK_EXITLESS_AUTO)
        return 0;
    errno = start(g);
    if (errno)
        return g->exitless == UK_EXITLESS_AUTO ? 0 : uk_error(g, "cannot start the poller");
    uk_gather_open(g);
    g->exitless_open = poller.there = true;
    if (g->exitless == UK_EXITLESS_ON) {
        set_limits(g, EXIT_ASSUMED_NS);
        g->exitless_active = true;
    }
    return 0;
}
