/*
 * gather.c: small writes of a guest that runs on, put together.
 *
 * A reader that is woken for every piece costs more than the piece. So the poller keeps a small one
 * back while requests follow upon each other, for GATHER_NS at most, and never across anything by
 * which somebody could tell: a wait, a read that finds nothing, a write elsewhere, the end. What is
 * gathered is never more than a pipe takes in one piece, so that several writers' lines do not mix
 * that would not have without.
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

#define GATHER_NS 50000UL
#define PIECE_MAX (PIPE_BUF / 2) /* with a larger one there is nothing to be gained */

/* By handle, 0 being the console: the descriptor takes bytes, not messages. */
static uint64_t streams;

static struct {
    uint8_t data[PIPE_BUF];
    uint64_t length, handle;
    int fd;
    _Atomic uint64_t due_ns;
} gathered;

/* True if nobody can tell two writes from one: not a socket or a pipe that keeps messages apart,
 * and not any device. */
static bool takes_bytes(int fd)
{
    struct stat is;
    int kind = 0;
    socklen_t size = sizeof kind;
    if (fd < 0 || fstat(fd, &is))
        return false;
    if (S_ISSOCK(is.st_mode))
        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 && kind == SOCK_STREAM;
    if (S_ISFIFO(is.st_mode))
        return !(fcntl(fd, F_GETFL) & O_DIRECT);
    return S_ISREG(is.st_mode) || isatty(fd);
}

/* Look at where the guest writes to. */
void uk_gather_open(const struct uk_guest *g)
{
    streams = takes_bytes(g->console_fd);
    for (unsigned h = 1; h < UK_MAX_HANDLES; h++)
        if (g->ends[h].attached && takes_bytes(g->ends[h].wfd))
            streams |= 1ULL << h;
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

/* Write what is gathered. */
enum uk_verdict uk_flush(struct uk_guest *g)
{
    uint64_t length = gathered.length;
    if (!length)
        return UK_GO;
    gathered.length = 0;
    set_due(0);
    return uk_write_all(g, gathered.fd, gathered.handle, gathered.data, length);
}

/* Write a piece to fd, of the device that handle is, now or, if it is small and may_gather, soon.
 */
enum uk_verdict uk_write_soon(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                              uint64_t length, bool may_gather)
{
    bool small = may_gather && length <= PIECE_MAX && streams >> handle & 1;
    if (!length)
        return UK_GO;
    if (gathered.length &&
        (!small || fd != gathered.fd || length > sizeof gathered.data - gathered.length)) {
        enum uk_verdict verdict = uk_flush(g);
        if (verdict != UK_GO)
            return verdict;
    }
    if (!small)
        return uk_write_all(g, fd, handle, data, length);
    if (!gathered.length) {
        gathered.fd = fd;
        gathered.handle = handle;
        set_due(uk_now_ns() + GATHER_NS);
    }
    memcpy(gathered.data + gathered.length, data, length);
    gathered.length += length;
    return UK_GO;
}
