/*
 * hypercall.c: what a guest asks for, and the one place of policy: reads, writes, waiting, end of
 * file.
 *
 * It does not know how the guest was entered. Every number that comes from the guest is hostile: an
 * argument structure is copied out once, checked, then used; results are written and never read
 * back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "hypercall.h"

/* A guest that reads end of file more often than this in a row, with no output, will never stop by
 * itself. It is told AGAIN from then on, so that it comes to what else it has to do: MirageOS reads
 * as long as there is something, and only then looks at its other threads. Where it waits for
 * nothing of its own, or reads as often once more, it is ended. */
#define EOF_READS_MAX 16
#define EOF_READS_MOST (2 * EOF_READS_MAX)
/* `--eof again`: how long each read at end of file is made to take, so that spinning costs nothing.
 */
#define EOF_AGAIN_SLEEP_NS 10000000L
#define NS_PER_S 1000000000ULL
/* A read of so much may take long: what is gathered does not wait for it. */
#define LONG_READ 65536

uint64_t uk_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Host address of [gpa, gpa + len), or NULL where the guest itself could not read or write there.
 */
void *uk_guest_range(struct uk_guest *g, uint64_t gpa, uint64_t len, bool write)
{
    if (!len)
        return g->mem; /* wherever it is said to be: Solo5 takes an empty one from anywhere */
    if (len > g->mem_size || gpa > g->mem_size - len)
        return NULL;
    if (gpa < UK_GPA_BASE)
        return !write && gpa >= UK_GPA_BOOT_INFO && gpa + len <= UK_GPA_BOOT_END ? g->mem + gpa
                                                                                 : NULL;
    for (uint32_t i = 0; write && i < g->segment_count; i++) {
        const struct uk_segment *s = &g->segments[i];
        uint64_t start = s->addr & ~0xfffULL, end = (s->addr + s->memsz + 0xfff) & ~0xfffULL;
        if (!(s->flags & 2) && gpa < end && start < gpa + len)
            return NULL;
    }
    return g->mem + gpa;
}

/* The guest made progress that a user can see: it is neither idle nor stuck at end of file. */
static void note_activity(struct uk_guest *g)
{
    g->eof_reads = 0;
    g->idle_since_ns = 0;
}

static enum uk_verdict serve_puts(struct uk_guest *g, const struct uk_puts_arg *a, bool may_sleep)
{
    const uint8_t *data = uk_guest_range(g, a->data, a->len, false);
    if (!data)
        return uk_fail(g, 255, "PUTS with a wild address: 0x%llx, length %llu",
                       (unsigned long long)a->data, (unsigned long long)a->len);
    if (a->len)
        note_activity(g);
    if (g->console_fd < 0)
        return UK_GO;
    uint64_t done = g->written < a->len ? g->written : a->len;
    return uk_write_soon(g, g->console_fd, 0, data + done, a->len - done, !may_sleep);
}

/* Solo5's rules: whole sectors, nothing past the end; a write to a read-only device is EINVAL too.
 */
static enum uk_verdict serve_block(struct uk_guest *g, struct uk_block_arg *a, bool write)
{
    struct uk_block *b = a->handle < UK_MAX_HANDLES ? &g->blocks[a->handle] : NULL;
    uint8_t *data = uk_guest_range(g, a->data, a->len, !write);
    a->ret = UK_RET_EINVAL;
    if (!b || !b->attached || !data || (write && b->read_only) || a->len % b->sector_size ||
        a->offset % b->sector_size || a->len > b->capacity || a->offset > b->capacity - a->len)
        return UK_GO;
    for (uint64_t done = 0; done < a->len;) {
        off_t at = (off_t)(a->offset + done);
        ssize_t n = write ? pwrite(b->fd, data + done, a->len - done, at)
                          : pread(b->fd, data + done, a->len - done, at);
        if (n == 0)
            return uk_fail(g, 125, "a block device's file has become shorter while in use");
        if (n < 0 && errno != EINTR)
            return uk_io_failed(g, write ? "write to" : "read", b->fd, a->handle);
        done += n > 0 ? (uint64_t)n : 0;
    }
    a->ret = UK_RET_OK;
    if (write) {
        note_activity(g);
        g->stats.bytes_out += a->len;
    } else {
        g->stats.bytes_in += a->len;
    }
    return UK_GO;
}

static void end_input(struct uk_guest *g, struct uk_end *end)
{
    end->eof = 1;
    g->input_ended = true;
}

static struct uk_end *end_of(struct uk_guest *g, uint64_t handle)
{
    return handle < UK_MAX_HANDLES && g->ends[handle].attached ? &g->ends[handle] : NULL;
}

static enum uk_verdict serve_net_write(struct uk_guest *g, struct uk_net_arg *a, bool may_sleep)
{
    struct uk_end *end = end_of(g, a->handle);
    const uint8_t *data = uk_guest_range(g, a->data, a->len, false);
    a->ret = UK_RET_EINVAL;
    if (!end || end->wfd < 0 || !data)
        return UK_GO;
    a->ret = UK_RET_OK;
    if (a->len)
        note_activity(g);
    uint64_t done = g->written < a->len ? g->written : a->len;
    if (end->message != UK_MESSAGES_FOR_EVER)
        return uk_write_soon(g, end->wfd, a->handle, data + done, a->len - done, !may_sleep);
    enum uk_verdict verdict = uk_flush(g);
    return verdict == UK_GO ? uk_write_frame(g, end->wfd, a->handle, data, a->len) : verdict;
}

/* read(2) that does not wait, with the descriptor's flags left alone: -1 and EAGAIN if it would. */
static ssize_t read_at_once(struct uk_end *end, uint8_t *data, uint64_t len)
{
    struct iovec v = {data, len};
    if (!end->blocking) {
        ssize_t n = preadv2(end->rfd, &v, 1, -1, RWF_NOWAIT);
        if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EAGAIN &&
                       errno != ESPIPE && errno != EINVAL))
            return n;
        end->blocking = errno != EAGAIN;
    }
    errno = EAGAIN;
    return -1;
}

/* The same by poll, where that has failed: a regular file's EAGAIN only means that the page is not
 * cached; poll says ready, and read fetches it. */
static ssize_t read_if_ready(const struct uk_end *end, uint8_t *data, uint64_t len)
{
    struct pollfd p = {.fd = end->rfd, .events = POLLIN};
    if (poll(&p, 1, 0) > 0)
        return read(end->rfd, data, len);
    errno = EAGAIN;
    return -1;
}

/* It was told of end of file often enough. */
static bool knows_eof(const struct uk_guest *g)
{
    return g->eof_mode == UK_EOF_AUTO && g->eof_reads > EOF_READS_MAX;
}

static enum uk_verdict end_at_eof(struct uk_guest *g)
{
    return uk_end(g, 0, "ended at end of input: the guest read it over and over");
}

static enum uk_verdict read_at_eof(struct uk_guest *g, struct uk_end *end, struct uk_net_arg *a)
{
    static const int32_t answers[] = {UK_RET_OK, UK_RET_OK, UK_RET_AGAIN, UK_RET_EUNSPEC,
                                      UK_RET_AGAIN};
    a->ret = answers[g->eof_mode];
    a->len = 0;
    end->announced = 0;
    g->eof_reads++;
    if (knows_eof(g))
        a->ret = UK_RET_AGAIN;
    if ((g->eof_mode == UK_EOF_AUTO && g->eof_reads > EOF_READS_MOST) ||
        (g->eof_mode == UK_EOF_HALT && g->eof_reads > EOF_READS_MAX))
        return end_at_eof(g);
    if (g->eof_mode == UK_EOF_AGAIN && g->eof_reads > EOF_READS_MAX) {
        struct timespec t = {0, EOF_AGAIN_SLEEP_NS};
        nanosleep(&t, NULL);
    }
    return UK_GO;
}

/* True if there is something to read now, after UK_LINGER_NS at most; only for a guest with one
 * input, as another's data must not wait for this one's. */
static bool linger(struct uk_guest *g, const struct uk_end *end)
{
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++)
        if (g->ends[h].attached && g->ends[h].rfd >= 0 && &g->ends[h] != end)
            return false;
    struct pollfd p = {.fd = end->rfd, .events = POLLIN};
    struct timespec t = {0, UK_LINGER_NS};
    return ppoll(&p, 1, &t, NULL) > 0;
}

static enum uk_verdict serve_net_read(struct uk_guest *g, struct uk_net_arg *a, bool may_sleep)
{
    struct uk_end *end = end_of(g, a->handle);
    uint8_t *data = uk_guest_range(g, a->data, a->len, true);
    a->ret = UK_RET_EINVAL;
    if (!end || !data)
        return UK_GO;
    if (end->rfd < 0)
        end_input(g, end);
    if (g->unpolled >= UK_UNPOLLED_MAX && !end->eof) {
        g->unpolled = 0;
        a->ret = UK_RET_AGAIN;
        a->len = 0;
        return UK_GO;
    }
    uint64_t done = 0;
    bool lingered = false;
    enum uk_verdict verdict = a->len >= LONG_READ ? uk_flush(g) : UK_GO;
    while (verdict == UK_GO && done < a->len && !end->eof && !(end->message && done)) {
        ssize_t n = read_at_once(end, data + done, a->len - done);
        /* Not for more: a terminal gives a line a read, and a second one is not this one's. */
        if (n < 0 && errno == EAGAIN && !done) {
            if (end->slow && uk_flush(g) != UK_GO)
                return UK_END;
            n = read_if_ready(end, data, a->len);
        }
        if (n > 0) {
            done += (uint64_t)n;
        } else if (n == 0 && end->message == UK_MESSAGES_FOR_EVER) {
            a->ret = UK_RET_OK; /* an empty datagram */
            a->len = 0;
            return UK_GO;
        } else if ((n == 0 || (errno == EAGAIN && !done)) && uk_gather_due()) {
            verdict = uk_flush(g); /* it may be the same file */
        } else if (n == 0) {
            end_input(g, end);
        } else if (errno == EAGAIN) {
            if (done || lingered || !may_sleep || !linger(g, end))
                break;
            lingered = true;
        } else if (errno == EBADF) {
            end_input(g, end); /* `<&-`: a closed standard input is an empty one */
        } else if (errno != EINTR) {
            return uk_io_failed(g, "read", end->rfd, a->handle);
        }
    }
    if (done == 0 && end->eof && a->len) {
        verdict = uk_flush(g);
        return verdict == UK_GO ? read_at_eof(g, end, a) : verdict;
    }
    a->ret = done || !a->len ? UK_RET_OK : UK_RET_AGAIN;
    a->len = done;
    g->unpolled += done;
    g->stats.bytes_in += done;
    if (done)
        note_activity(g);
    return verdict;
}

struct wait_set {
    struct pollfd fds[UK_MAX_HANDLES];
    uint8_t handles[UK_MAX_HANDLES];
    unsigned count;
    uint64_t at_eof; /* handles that are at end of file, as the guest is to be told */
    bool fresh;      /* one of those has not been announced yet */
    bool all_eof;    /* there are inputs, and all are at end of file */
};

static void wait_set_fill(struct uk_guest *g, struct wait_set *w)
{
    bool tell = g->eof_mode != UK_EOF_HALT && g->eof_mode != UK_EOF_AGAIN;
    bool any = false;
    memset(w, 0, offsetof(struct wait_set, count) + sizeof w->count);
    w->at_eof = 0;
    w->fresh = false;
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++) {
        struct uk_end *end = &g->ends[h];
        if (!end->attached || (end->rfd < 0 && end->wfd >= 0 && !end->eof))
            continue; /* an output alone is no input at its end */
        any = true;
        if (end->rfd < 0)
            end_input(g, end);
        if (!end->eof) {
            w->handles[w->count] = (uint8_t)h;
            w->fds[w->count++] = (struct pollfd){.fd = end->rfd, .events = POLLIN};
        } else if (tell) {
            w->at_eof |= 1ULL << h;
            w->fresh |= !end->announced;
        }
    }
    w->all_eof = any && w->count == 0;
    if (knows_eof(g)) {
        g->eof_reads = EOF_READS_MAX + 1; /* it does look at what is ready */
        w->at_eof = 0;
        w->fresh = false;
    }
}

/* How long this POLL may sleep, in nanoseconds: the guest's time-out, cut where --drain would end
 * it. */
static uint64_t wait_limit(struct uk_guest *g, const struct wait_set *w, uint64_t timeout,
                           bool *drain)
{
    *drain = false;
    if (!w->all_eof || g->eof_mode != UK_EOF_AUTO)
        return timeout;
    uint64_t now = uk_now_ns();
    if (!g->idle_since_ns)
        g->idle_since_ns = now;
    uint64_t idle = now - g->idle_since_ns, left = idle < g->drain_ns ? g->drain_ns - idle : 0;
    *drain = left <= timeout;
    return *drain ? left : timeout;
}

/* Wait for one of the set, ns at most; being stopped and continued (^Z, fg) does not cut it short.
 * True: one is ready. */
static bool wait_for(struct wait_set *w, uint64_t ns)
{
    uint64_t most = 1000000ULL * NS_PER_S; /* 11 days: as good as for ever, and no overflow */
    uint64_t left = ns < most ? ns : most, until = uk_now_ns() + left;
    for (;;) {
        struct timespec t = {(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};
        uint64_t now;
        int ready = ppoll(w->fds, w->count, &t, NULL);
        if (ready >= 0 || errno != EINTR || (now = uk_now_ns()) >= until)
            return ready > 0;
        left = until - now;
    }
}

static enum uk_verdict serve_poll(struct uk_guest *g, struct uk_poll_arg *a, bool may_sleep)
{
    struct wait_set w;
    g->unpolled = 0;
    wait_set_fill(g, &w);
    uint64_t look = may_sleep || w.fresh ? 0 : g->poll_ns;
    if (!wait_for(&w, 0)) {
        bool again = uk_gather_due() != 0; /* it may be the same file */
        enum uk_verdict verdict = uk_flush(g);
        if (verdict != UK_GO)
            return verdict;
        if (look || again)
            wait_for(&w, look < a->timeout_nsecs ? look : a->timeout_nsecs);
    }
    uint64_t ready = 0;
    for (int round = 0;; round++) {
        for (unsigned i = 0; i < w.count; i++)
            if (w.fds[i].revents)
                ready |= 1ULL << w.handles[i];
        if (ready || w.fresh || round || !a->timeout_nsecs)
            break;
        if (!may_sleep)
            return UK_WOULD_SLEEP;
        if (w.all_eof && g->eof_mode == UK_EOF_HALT)
            return uk_end(g, 0, "ended at end of input, as --eof halt has it");
        bool drain;
        uint64_t limit = wait_limit(g, &w, a->timeout_nsecs, &drain);
        if (drain && knows_eof(g))
            return end_at_eof(g);
        wait_for(&w, limit);
        if (drain)
            return uk_end(g, 0, "ended at end of input: the guest waited for more");
    }
    a->ready_set = ready | w.at_eof;
    a->ret = __builtin_popcountll(a->ready_set);
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++)
        if (w.at_eof >> h & 1)
            g->ends[h].announced = 1;
    return UK_GO;
}

static enum uk_verdict serve_walltime(struct uk_walltime_arg *a)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    a->nsecs = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
    return UK_GO;
}

static enum uk_verdict serve(struct uk_guest *g, unsigned number, union uk_arg *a, bool may_sleep)
{
    bool elsewhere =
        number == UK_HC_HALT || number == UK_HC_BLOCK_READ || number == UK_HC_BLOCK_WRITE;
    enum uk_verdict verdict = elsewhere ? uk_flush(g) : UK_GO;
    if (verdict != UK_GO)
        return verdict;
    switch (number) {
    case UK_HC_WALLTIME:
        return serve_walltime(&a->walltime);
    case UK_HC_PUTS:
        return serve_puts(g, &a->puts, may_sleep);
    case UK_HC_POLL:
        return serve_poll(g, &a->poll, may_sleep);
    case UK_HC_NET_WRITE:
        return serve_net_write(g, &a->net, may_sleep);
    case UK_HC_NET_READ:
        return serve_net_read(g, &a->net, may_sleep);
    case UK_HC_HALT:
        if (!may_sleep)
            return UK_WOULD_SLEEP;
        g->halt_cookie = a->halt.cookie;
        return uk_end(g, a->halt.status & 0xff, "halted");
    default:
        return serve_block(g, &a->block, number == UK_HC_BLOCK_WRITE);
    }
}

const struct uk_call uk_calls[UK_HC_COUNT] = {
    [UK_HC_WALLTIME] = {"WALLTIME", sizeof(struct uk_walltime_arg), true},
    [UK_HC_PUTS] = {"PUTS", sizeof(struct uk_puts_arg), false},
    [UK_HC_POLL] = {"POLL", sizeof(struct uk_poll_arg), true},
    [UK_HC_BLOCK_WRITE] = {"BLOCK_WRITE", sizeof(struct uk_block_arg), true},
    [UK_HC_BLOCK_READ] = {"BLOCK_READ", sizeof(struct uk_block_arg), true},
    [UK_HC_NET_WRITE] = {"NET_WRITE", sizeof(struct uk_net_arg), true},
    [UK_HC_NET_READ] = {"NET_READ", sizeof(struct uk_net_arg), true},
    [UK_HC_HALT] = {"HALT", sizeof(struct uk_halt_arg), false},
};

/* Serve one hypercall whose arguments are at hand, number being a known one; its results are in a.
 * UK_GO: the guest goes on; UK_END: it is over, the status and the reason are in g;
 * UK_WOULD_SLEEP: only if !may_sleep; nothing was done but to write what had been gathered. */
enum uk_verdict uk_serve(struct uk_guest *g, unsigned number, union uk_arg *a, bool may_sleep)
{
    if (g->trace_fd < 0) {
        enum uk_verdict verdict = serve(g, number, a, may_sleep);
        g->stats.hypercalls += verdict != UK_WOULD_SLEEP;
        return verdict;
    }
    union uk_arg asked = *a;
    uint64_t start = uk_now_ns();
    enum uk_verdict verdict = serve(g, number, a, may_sleep);
    if (verdict != UK_WOULD_SLEEP) {
        g->stats.hypercalls++;
        uk_trace(g, number, &asked, a, verdict, start);
    }
    return verdict;
}

/* The same, its argument structure being at guest address gpa, and its number the guest's. */
enum uk_verdict uk_hypercall(struct uk_guest *g, unsigned number, uint64_t gpa, bool may_sleep)
{
    if (number < UK_HC_WALLTIME || number > UK_HC_HALT)
        return uk_fail(g, 255, "unknown hypercall %u", number);
    const struct uk_call *call = &uk_calls[number];
    void *at = uk_guest_range(g, gpa, call->size, call->out);
    if (!at)
        return uk_fail(g, 255, "hypercall %s with its arguments at a wild address: 0x%llx",
                       call->name, (unsigned long long)gpa);
    union uk_arg a;
    memcpy(&a, at, call->size);
    enum uk_verdict verdict = uk_serve(g, number, &a, may_sleep);
    if (verdict == UK_GO && call->out)
        memcpy(at, &a, call->size);
    return verdict;
}
