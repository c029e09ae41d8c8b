/*
 * output.c: complete writes, however long they take, and what is said of one that fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "hypercall.h"

/* The name of a device, in the manifest that we wrote, which the guest may only read. */
static const char *device_name(const struct uk_guest *g, uint64_t handle)
{
    uint64_t manifest;
    memcpy(&manifest,
           g->mem + UK_GPA_BOOT_INFO + (g->spt ? UK_SPT_BOOT_MANIFEST : UK_BOOT_MANIFEST),
           sizeof manifest);
    return (const char *)g->mem + manifest + UK_MANIFEST_HEAD + UK_MANIFEST_ENTRY * handle;
}

/* handle: of the device behind fd; 0 for the console. */
enum uk_verdict uk_io_failed(struct uk_guest *g, const char *verb, int fd, uint64_t handle)
{
    static const char *const standard[] = {"standard input", "standard output", "standard error"};
    int err = errno;
    if (fd >= 0 && fd <= 2)
        return uk_fail(g, 125, "cannot %s %s: %s", verb, standard[fd], strerror(err));
    if (!handle)
        return uk_fail(g, 125, "cannot %s the console: %s", verb, strerror(err));
    return uk_fail(g, 125, "cannot %s the device %s: %s", verb, device_name(g, handle),
                   strerror(err));
}

/* Somebody else made the shared descriptor non-blocking; it is not ours to change. */
static void wait_to_write(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    ppoll(&p, 1, NULL, NULL);
}

/* write(2), however long that takes: a slow reader stalls us here, and so the guest. */
static ssize_t write_waiting(int fd, const uint8_t *data, uint64_t len)
{
    for (;;) {
        ssize_t n = write(fd, data, len);
        if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            return n;
        if (errno == EAGAIN)
            wait_to_write(fd);
    }
}

/* Write it all, in order. */
enum uk_verdict uk_write_all(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                             uint64_t len)
{
    for (uint64_t done = 0; done < len;) {
        ssize_t n = write_waiting(fd, data + done, len - done);
        if (n < 0)
            return uk_io_failed(g, "write to", fd, handle);
        done += (uint64_t)n;
        g->stats.bytes_out += (uint64_t)n;
    }
    return UK_GO;
}

/* The same, from one pipe to another. */
enum uk_verdict uk_splice_all(struct uk_guest *g, int from, int fd, uint64_t handle, uint64_t len)
{
    while (len) {
        ssize_t n = splice(from, NULL, fd, NULL, len, 0);
        if (n > 0) {
            len -= (uint64_t)n;
            g->stats.bytes_out += (uint64_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            wait_to_write(fd);
        } else if (n == 0 || errno != EINTR) {
            return uk_io_failed(g, "write to", fd, handle);
        }
    }
    return UK_GO;
}

/* A datagram, or a frame to a tap: one write each. One that a tap does not take (it is down: EIO;
 * no frame at all: EINVAL) is lost, as on any network. */
enum uk_verdict uk_write_frame(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                               uint64_t len)
{
    if (write_waiting(fd, data, len) < 0 && errno != EIO && errno != EINVAL)
        return uk_io_failed(g, "write to", fd, handle);
    g->stats.bytes_out += len;
    return UK_GO;
}
