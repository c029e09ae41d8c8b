/*
 * guest.c: a guest's memory, its beginning and its end.
 *
 * Until the sandbox is shut, a failure is returned to Python, which words it; from then on the
 * guest's end is the process's end, and what is to be said is said here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core.h"

/* A large image (MirageOS: 3-5 MB) boots in half the time on huge pages; a small one starts quicker
 * without. Bytes loaded from which on they are asked for. */
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
    int n = snprintf(line, sizeof line, "ukfilter: %.200s: ", g->name);
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
    if (g->mem_fd < 0 || ftruncate(g->mem_fd, (off_t)g->mem_size))
        return uk_error(g, "cannot reserve guest memory");
    void *at =
        mmap(NULL, g->mem_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, g->mem_fd, 0);
    if (at == MAP_FAILED)
        return uk_error(g, "cannot map guest memory");
    g->mem = at;
    return 0;
}

static int map_memory(struct uk_guest *g)
{
    uint64_t loaded = 0;
    for (uint32_t i = 0; i < g->segment_count; i++)
        loaded += g->segments[i].filesz;
    if (g->tender == UK_PROCESS)
        return share_memory(g);
    bool huge = loaded >= HUGE_IMAGE;
    uint8_t *at = mmap(NULL, g->mem_size + HUGE_PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return uk_error(g, "cannot reserve guest memory");
    at = (uint8_t *)(((uintptr_t)at + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (mprotect(at, g->mem_size, PROT_READ | PROT_WRITE))
        return uk_error(g, "cannot map guest memory");
    madvise(at, g->mem_size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    g->mem = at;
    return 0;
}

/* Map the guest's memory and put the image and the low memory in it. -1: see g->error. */
int uk_guest_load(struct uk_guest *g)
{
    if (map_memory(g))
        return -1;
    memcpy(g->mem, g->low, g->low_size);
    for (uint32_t i = 0; i < g->segment_count; i++) {
        const struct uk_segment *s = &g->segments[i];
        for (uint64_t done = 0; done < s->filesz;) {
            ssize_t n = pread(g->image_fd, g->mem + s->addr + done, s->filesz - done,
                              (off_t)(s->offset + done));
            if (n == 0)
                errno = ENODATA;
            if (n <= 0)
                return uk_error(g, "cannot read the image");
            done += (uint64_t)n;
        }
    }
    return 0;
}

static void say_end(struct uk_guest *g)
{
    if (g->failed)
        uk_say(g, "%s", g->reason);
    if (!g->show_stats)
        return;
    double ms = (double)(uk_now_ns() - g->stats.started_ns) / 1e6;
    uk_say(g, "status %d (%s), in %llu bytes, out %llu bytes, %llu hypercalls, %llu exits, %.1f ms",
           g->status, g->reason, (unsigned long long)g->stats.bytes_in,
           (unsigned long long)g->stats.bytes_out, (unsigned long long)g->stats.hypercalls,
           (unsigned long long)g->stats.exits, ms);
    if (g->verbose)
        uk_say(g,
               "sandbox: no new privileges, no core dump, no descriptor but the ends%s, seccomp "
               "filter "
               "of %u instructions",
               g->tender == UK_KVM ? " and the vCPU" : "", g->filter_length);
}

/* Become the tender of this guest: returns (-1, g->error) only if it could not be started. */
int uk_guest_run_here(struct uk_guest *g)
{
    g->stats.started_ns = uk_now_ns();
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* waits of microseconds are meant */
    bool kvm = g->tender == UK_KVM;
    if (uk_sandbox_no_core(g) || uk_guest_load(g) || (kvm ? uk_kvm_open(g) : uk_process_open(g)) ||
        uk_sandbox_close(g) || uk_sandbox_enter(g))
        return -1;
    if (kvm)
        uk_kvm_loop(g);
    else
        uk_process_loop(g);
    say_end(g);
    _exit(g->status);
}
