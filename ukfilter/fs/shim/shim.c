/*
 * shim.c: let a blocked request of pyfuse3 be interrupted.
 *
 * pyfuse3 never tells libfuse what to do when a client's system call is interrupted, so ^C and even
 * SIGKILL would wait for the daemon's answer. This defines fuse_session_new, which pyfuse3 calls;
 * being loaded first, with RTLD_GLOBAL, it is found instead of libfuse's. It puts itself before the
 * operations that may block, and remembers which request is being begun: the handler, which runs
 * next and on the same thread, asks for it and registers an interrupt function.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 35
#include <dlfcn.h>
#include <fuse_lowlevel.h>
#include <string.h>

#include "shim.h"

#define OPERATIONS_MAX 2048 /* bytes; libfuse adds operations at the end of the structure */

typedef struct fuse_session *new_session(struct fuse_args *, const struct fuse_lowlevel_ops *,
                                         size_t, void *);

static struct fuse_lowlevel_ops real;
static fuse_req_t current;
static int installed;

static void begin_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    current = req;
    real.read(req, ino, size, off, fi);
}

static void begin_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                        struct fuse_file_info *fi)
{
    current = req;
    real.write(req, ino, data, size, off, fi);
}

/* What libfuse calls for every write, where it is there. */
static void begin_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *data, off_t off,
                            struct fuse_file_info *fi)
{
    current = req;
    real.write_buf(req, ino, data, off, fi);
}

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *op,
                                      size_t op_size, void *userdata)
{
    static char copy[OPERATIONS_MAX] __attribute__((aligned(16)));
    struct fuse_lowlevel_ops *ours = (void *)copy;
    void *library = dlopen("libfuse3.so.3", RTLD_NOW | RTLD_NOLOAD);
    new_session *make = library ? (new_session *)dlsym(library, "fuse_session_new") : NULL;
    if (!make || make == fuse_session_new)
        return NULL;
    if (op_size > sizeof copy || op_size < sizeof real || !op->read || !op->write)
        return make(args, op, op_size, userdata);
    memcpy(copy, op, op_size);
    real = *op;
    ours->read = begin_read;
    ours->write = begin_write;
    if (op->write_buf)
        ours->write_buf = begin_write_buf;
    installed = 1;
    return make(args, ours, op_size, userdata);
}

int uk_shim_installed(void)
{
    return installed;
}

void *uk_shim_take(void)
{
    fuse_req_t taken = current;
    current = NULL;
    return taken;
}

static void interrupted(fuse_req_t req, void *data)
{
    (void)req;
    uk_shim_interrupted((size_t)data);
}

void uk_shim_watch(void *request, size_t number)
{
    fuse_req_interrupt_func(request, number ? interrupted : NULL, (void *)number);
}
