/*
 * hypercall.h: the numbers of hypercalls and their argument structures: enum hvt_hypercall and
 * struct hvt_hc_* of Solo5's hvt_abi.h, version 2. A guest that asks by system call (spt.c) is
 * served through the same structures.
 */
#ifndef UKFILTER_HYPERCALL_H
#define UKFILTER_HYPERCALL_H

#include "core.h"

enum {
    UK_HC_WALLTIME = 1,
    UK_HC_PUTS,
    UK_HC_POLL,
    UK_HC_BLOCK_WRITE,
    UK_HC_BLOCK_READ,
    UK_HC_NET_WRITE,
    UK_HC_NET_READ,
    UK_HC_HALT,
    UK_HC_COUNT
};
enum { UK_RET_OK, UK_RET_AGAIN, UK_RET_EINVAL, UK_RET_EUNSPEC };

/* A read that finds nothing waits this long before it says AGAIN. The guest would ask POLL next:
 * two more exits, at up to 100 us each, for data that a busy writer has there by then. */
#define UK_LINGER_NS 100000L

/* So much may be read in a row; then one read says AGAIN, though there is more. MirageOS reads
 * until it is told so, and what it has read waits in its memory until its other threads have their
 * turn. Bytes: some milliseconds' worth, so that a POLL each time costs nothing. */
#define UK_UNPOLLED_MAX (1 << 20)

struct uk_walltime_arg {
    uint64_t nsecs;
};
struct uk_puts_arg {
    uint64_t data, len;
};
struct uk_poll_arg {
    uint64_t timeout_nsecs, ready_set;
    int32_t ret;
};
struct uk_block_arg {
    uint64_t handle, offset, data, len;
    int32_t ret;
};
struct uk_net_arg {
    uint64_t handle, data, len;
    int32_t ret;
};
struct uk_halt_arg {
    uint64_t cookie;
    int32_t status;
};
union uk_arg {
    struct uk_walltime_arg walltime;
    struct uk_puts_arg puts;
    struct uk_poll_arg poll;
    struct uk_block_arg block;
    struct uk_net_arg net;
    struct uk_halt_arg halt;
};

struct uk_call {
    const char *name;
    uint8_t size; /* of its argument structure, bytes */
    bool out;     /* results are written into it */
};
extern const struct uk_call uk_calls[UK_HC_COUNT];

enum uk_verdict uk_serve(struct uk_guest *g, unsigned number, union uk_arg *a, bool may_sleep);

/* output.c */
enum uk_verdict uk_write_all(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                             uint64_t len);
enum uk_verdict uk_splice_all(struct uk_guest *g, int from, int fd, uint64_t handle, uint64_t len);
enum uk_verdict uk_write_frame(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                               uint64_t len);
enum uk_verdict uk_io_failed(struct uk_guest *g, const char *verb, int fd, uint64_t handle);

/* gather.c */
enum uk_verdict uk_write_soon(struct uk_guest *g, int fd, uint64_t handle, const uint8_t *data,
                              uint64_t length, bool may_gather);

/* trace.c */
void uk_trace(struct uk_guest *g, unsigned number, const union uk_arg *asked,
              const union uk_arg *answer, enum uk_verdict verdict, uint64_t start_ns);

#endif
