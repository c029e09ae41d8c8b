/*
 * gather.c: small writes of a guest that runs on, put together.
 *
 * A reader that is woken for every piece costs more than the piece. So the poller keeps small ones
 * back while requests follow upon each other, for GATHER_NS, and never across anything by which
 * somebody could tell: a wait, a read that finds nothing, a write elsewhere, the end.
 *
 * What is put together is never more than a pipe takes as one, so that several writers' lines do
 * not mix that would not have without. For a pipe, such pieces are put aside in a pipe of our own,
 * and spliced to it together: that moves whole pages, and none is parted, however full it is.
 *
 * A pipe takes as many pages, not bytes; write(2) fills up the last one, splice(2) never does. So
 * that a pipe which nobody reads takes no less than without, what its last page has room for is
 * kept apart, as the head, and written.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "hypercall.h"

#define GATHER_NS 100000UL
#define ALONE_MAX (PIPE_BUF / 2) /* without a pipe of our own, nothing is gained by larger ones */
#define ASIDE_MAX 16             /* a page each, and as many as a pipe has unless told */

/* By handle, 0 being the console: the descriptor takes bytes, not messages; and it is a pipe. */
static uint64_t streams, pipes;

static struct {
    uint8_t head[PIPE_BUF], data[PIPE_BUF];
    uint64_t head_length, length, handle;
    int fd;
    unsigned aside; /* pieces in g->aside, to be written before the data */
    uint64_t aside_bytes, last_aside;
    _Atomic uint64_t due_ns; /* not 0 if there is anything */
} gathered;

/* The page that we wrote last, in a pipe: bytes that it still takes, if nobody else wrote since. */
static struct {
    int fd;
    uint64_t room;
} page = {.fd = -1};

/* True if nobody can tell two writes from one: not a socket or a pipe that keeps messages apart,
 * and not any device. */
static bool takes_bytes(int fd, mode_t mode)
{
    int kind = 0;
    socklen_t size = sizeof kind;
    if (S_ISSOCK(mode))
        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 && kind == SOCK_STREAM;
    if (S_ISFIFO(mode))
        return !(fcntl(fd, F_GETFL) & O_DIRECT);
    return S_ISREG(mode) || isatty(fd);
}

/* What it is; all zero: none. */
static struct stat status_of(int fd)
{
    struct stat is;
    return fd >= 0 && fstat(fd, &is) == 0 ? is : (struct stat){0};
}

/* The guest reads where it writes: it would see that a write of its own is still to come. */
static bool is_read(const struct uk_guest *g, const struct stat *is)
{
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++) {
        if (!g->ends[h].attached)
            continue;
        struct stat in = status_of(g->ends[h].rfd);
        if (in.st_dev == is->st_dev && in.st_ino == is->st_ino)
            return true;
    }
    return false;
}

static void look_at(const struct uk_guest *g, uint64_t handle, int fd)
{
    struct stat is = status_of(fd);
    mode_t mode = is.st_mode;
    bool keeps = S_ISREG(mode) || S_ISFIFO(mode);
    if (!mode || !takes_bytes(fd, mode) || (keeps && is_read(g, &is)))
        return;
    streams |= 1ULL << handle;
    if (S_ISFIFO(mode))
        pipes |= 1ULL << handle;
}

/* A file or a device: poll says that it is ready, and knows nothing. */
static bool is_slow(int fd)
{
    mode_t mode = status_of(fd).st_mode;
    return mode && !S_ISFIFO(mode) && !S_ISSOCK(mode);
}

/* Look at where the guest writes to, and from where it reads, and make g->aside if that is of use.
 * (A user with very many pipes gets short ones.) */
void uk_gather_open(struct uk_guest *g)
{
    int ends[2];
    if (g->trace_fd >= 0)
        return; /* its lines are of what is done */
    look_at(g, 0, g->console_fd);
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++) {
        if (!g->ends[h].attached)
            continue;
        look_at(g, h, g->ends[h].wfd);
        g->ends[h].slow = is_slow(g->ends[h].rfd);
    }
    if (!pipes || pipe2(ends, O_CLOEXEC))
        return;
    if (fcntl(ends[1], F_GETPIPE_SZ) < ASIDE_MAX * PIPE_BUF ||
        fcntl(ends[1], F_SETFL, O_NONBLOCK)) {
        close(ends[0]);
        close(ends[1]);
        return;
    }
    g->aside[0] = ends[0];
    g->aside[1] = ends[1];
}

/* When what is gathered must be written, by uk_now_ns(); 0: there is nothing. Without the lock it
 * is a hint. */
uint64_t uk_gather_due(void)
{
    return atomic_load_explicit(&gathered.due_ns, memory_order_relaxed);
}

static void set_due(uint64_t ns)
{
    atomic_store_explicit(&gathered.due_ns, ns, memory_order_relaxed);
}

static bool is_pipe(uint64_t handle)
{
    return pipes >> handle & 1;
}

static uint64_t room_in(int fd)
{
    return page.fd == fd ? page.room : 0;
}

/* So much is written to a pipe, as one: what remains of whole pages goes to the last one if that
 * has room, else to a new one. */
static void note_write(int fd, uint64_t length)
{
    uint64_t rest = length % PIPE_BUF, room = room_in(fd);
    page.room = rest > room ? PIPE_BUF - rest : length < PIPE_BUF ? room - rest : 0;
    page.fd = fd;
}

static enum uk_verdict write_now(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                                 uint64_t length)
{
    if (is_pipe(handle))
        note_write(fd, length);
    return uk_write_all(g, fd, handle, data, length);
}

/* What is for this device may be put aside. */
static bool has_aside(const struct uk_guest *g, uint64_t handle)
{
    return g->aside[1] >= 0 && is_pipe(handle);
}

/* Put the data aside, as one piece; false if that cannot be. */
static bool put_aside(const struct uk_guest *g)
{
    if (!has_aside(g, gathered.handle) || gathered.aside == ASIDE_MAX ||
        write(g->aside[1], gathered.data, gathered.length) != (ssize_t)gathered.length)
        return false;
    gathered.aside++;
    gathered.aside_bytes += gathered.length;
    gathered.last_aside = gathered.length;
    gathered.length = 0;
    return true;
}

/* Write what is gathered. */
enum uk_verdict uk_flush(struct uk_guest *g)
{
    enum uk_verdict verdict = UK_GO;
    if (gathered.aside && gathered.length)
        put_aside(g);
    int fd = gathered.fd;
    uint64_t handle = gathered.handle, head = gathered.head_length, aside = gathered.aside_bytes,
             length = gathered.length;
    gathered.head_length = gathered.aside_bytes = gathered.aside = gathered.length = 0;
    set_due(0);
    if (head)
        verdict = write_now(g, fd, handle, gathered.head, head);
    if (aside && verdict == UK_GO) {
        page.fd = fd;
        page.room = PIPE_BUF - gathered.last_aside;
        verdict = uk_splice_all(g, g->aside[0], fd, handle, aside);
    }
    if (length && verdict == UK_GO)
        verdict = write_now(g, fd, handle, gathered.data, length);
    return verdict;
}

/* It belongs to the head: the last page would have taken it. */
static bool is_of_head(uint64_t length)
{
    return is_pipe(gathered.handle) && !gathered.aside && !gathered.length &&
           length <= room_in(gathered.fd) - gathered.head_length;
}

static void append(uint8_t *to, uint64_t *filled, const uint8_t *data, uint64_t length)
{
    memcpy(to + *filled, data, length);
    *filled += length;
}

/* There is room for so much more. */
static bool make_room(const struct uk_guest *g, uint64_t length)
{
    return is_of_head(length) || length <= sizeof gathered.data - gathered.length ||
           (put_aside(g) && gathered.aside < ASIDE_MAX);
}

/* Write a piece to fd, of the device that handle is, now or, if it is small and may_gather, soon.
 */
enum uk_verdict uk_write_soon(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                              uint64_t length, bool may_gather)
{
    bool small = may_gather && streams >> handle & 1 &&
                 length <= (has_aside(g, handle) ? sizeof gathered.data : ALONE_MAX);
    if (!length)
        return UK_GO;
    if (uk_gather_due() && (!small || fd != gathered.fd || !make_room(g, length))) {
        enum uk_verdict verdict = uk_flush(g);
        if (verdict != UK_GO)
            return verdict;
    }
    if (!small)
        return write_now(g, fd, handle, data, length);
    if (!uk_gather_due()) {
        gathered.fd = fd;
        gathered.handle = handle;
        set_due(uk_now_ns() + GATHER_NS);
    }
    if (is_of_head(length))
        append(gathered.head, &gathered.head_length, data, length);
    else
        append(gathered.data, &gathered.length, data, length);
    return UK_GO;
}
