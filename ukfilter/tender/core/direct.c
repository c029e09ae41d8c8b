/*
 * direct.c: a process's trampoline: what the guest does itself, and how it asks for the rest.
 *
 * Its reads and writes are the kernel's work in any case, and to ask the tender for them costs two
 * changes of process more. So its hypercall sites lead here, to code of ours in a page that it may
 * run and not write, which reads the input, writes the output and tells the time by system calls of
 * its own. The filter lets these through from this page alone and on these descriptors alone, which
 * are all that the process has: a guest that jumps about here gets no more than by asking. What is
 * not plainly done goes on to the tender as if nothing had been tried: an error, end of file, the
 * rest of a write, a fault on the guest's arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "bpf.h"
#include "exitless.h"
#include "hypercall.h"

/* What the code here looks up and cannot change, at UK_GPA_TABLE. */
struct table {
    uint64_t mem_size;
    uint64_t heard;     /* it can ask by a system call */
    int64_t console;    /* a descriptor, -1: the tender's work */
    uint64_t linger_ns; /* of a read that finds nothing */
    uint64_t files;     /* handles whose input is a file, is_file() */
    int32_t read[UK_MAX_HANDLES], write[UK_MAX_HANDLES]; /* by handle, as console */
};
_Static_assert(offsetof(struct table, read) == 40, "as below");
_Static_assert(UK_GPA_TABLE + sizeof(struct table) <= UK_GPA_TRAMPOLINE_END, "the table fits");

/* A tender that is stopped, by a signal of its own, must stop its guest too: that asks for each
 * wait for input, and so often at least. Not more often, as a change of process costs up to a turn
 * of the scheduler, where others want the processor. */
#define CALL_IN_MS 20

#define BUSY_CALLS 100 /* of its own, between two requests: it has little to do with its tender */

/* /dev/null and /dev/zero: Linux's Documentation/admin-guide/devices.txt. */
#define NULL_DEVICE makedev(1, 3)
#define ZERO_DEVICE makedev(1, 5)

/* In the mailbox, which the guest may write: what it makes of this is its own affair. */
#define ON (UK_MAILBOX_DIRECT + 0)      /* 0: no more, all to the tender */
#define WRITTEN (UK_MAILBOX_DIRECT + 8) /* bytes of the write that goes on to the tender */
#define CALLS (UK_MAILBOX_DIRECT + 16)  /* done here, for statistics; bytes read; bytes written */
#define IN (UK_MAILBOX_DIRECT + 24)
#define OUT (UK_MAILBOX_DIRECT + 32)
#define VECTOR (UK_MAILBOX_DIRECT + 40)   /* struct iovec */
#define POLLED (UK_MAILBOX_DIRECT + 56)   /* struct pollfd */
#define TIME (UK_MAILBOX_DIRECT + 64)     /* struct timespec */
#define SERIAL (UK_MAILBOX_DIRECT + 80)   /* of the last system call that asked */
#define DUE (UK_MAILBOX_DIRECT + 88)      /* when it asks, whatever for */
#define UNPOLLED (UK_MAILBOX_DIRECT + 96) /* bytes read since it last asked */

/*
 * The code, copied to UK_GPA_TRAMPOLINE. A stub came here with edx the port and eax the address of
 * the argument structure, which r8 is throughout; rsp and the return are saved.
 *
 * The system call by which it asks has a number that a filter on us ourselves, a container's, lets
 * through: read, 0; the address goes to esi, and a serial number to edi, so that a call made again
 * can be told from the next. If it is refused even so, or there is no listener, an int3 asks.
 */
/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    UK_SET_AT("ukd_on", ON)
    UK_SET_AT("ukd_written", WRITTEN)
    UK_SET_AT("ukd_calls", CALLS)
    UK_SET_AT("ukd_in", IN)
    UK_SET_AT("ukd_out", OUT)
    UK_SET_AT("ukd_vector", VECTOR)
    UK_SET_AT("ukd_polled", POLLED)
    UK_SET_AT("ukd_time", TIME)
    UK_SET_AT("ukd_serial", SERIAL)
    UK_SET_AT("ukd_due", DUE)
    UK_SET_AT("ukd_unpolled", UNPOLLED)
    UK_SET("ukd_unpolled_max", UK_UNPOLLED_MAX)
    UK_TRAMPOLINE_NAMES
    UK_SET("ukd_base", UK_GPA_BASE)
    UK_SET("ukd_handles", UK_MAX_HANDLES)
    /* struct table */
    UK_SET("ukd_mem_size", UK_GPA_TABLE)
    UK_SET("ukd_heard", UK_GPA_TABLE + 8)
    UK_SET("ukd_console", UK_GPA_TABLE + 16)
    UK_SET("ukd_linger_ns", UK_GPA_TABLE + 24)
    UK_SET("ukd_files", UK_GPA_TABLE + 32)
    UK_SET("ukd_read", UK_GPA_TABLE + 40)
    UK_SET("ukd_write", UK_GPA_TABLE + 40 + 4 * UK_MAX_HANDLES)

    /* To the tender unless [rsi, rsi + rdx) is the guest's memory, and not empty. */
    ".macro ukd_check\n"
    "  cmpq $ukd_base, %rsi\n"
    "  jb uk_direct_away\n"
    "  movq ukd_mem_size, %rcx\n"
    "  subq %rsi, %rcx\n"
    "  jb uk_direct_away\n"
    "  cmpq %rdx, %rcx\n"
    "  jb uk_direct_away\n"
    "  testq %rdx, %rdx\n"
    "  jz uk_direct_away\n"
    ".endm\n"

    /* The descriptor of the handle in the argument to rdi, from one of the tables. */
    ".macro ukd_descriptor table\n"
    "  movq (%r8), %rcx\n"
    "  cmpq $ukd_handles, %rcx\n"
    "  jae uk_direct_away\n"
    "  movslq \\table(,%rcx,4), %rdi\n"
    "  testl %edi, %edi\n"
    "  js uk_direct_away\n"
    ".endm\n"

    /* preadv2(edi, VECTOR, 1, -1, 0, r9d) */
    ".macro ukd_preadv2\n"
    "  movl $ukd_vector, %esi\n"
    "  movl $1, %edx\n"
    "  movq $-1, %r10\n"
    "  movl $" UK_STRING(SYS_preadv2) ", %eax\n"
    "  syscall\n"
    ".endm\n"

    /* ppoll(POLLED, 1, TIME, NULL): is there something to read from edi? */
    ".macro ukd_ppoll\n"
    "  movl %edi, ukd_polled\n"
    "  movl $1, ukd_polled + 4\n"      /* POLLIN, and no revents */
    "  movl $ukd_polled, %edi\n"
    "  movl $1, %esi\n"
    "  movl $ukd_time, %edx\n"
    "  xorl %r10d, %r10d\n"
    "  movl $" UK_STRING(SYS_ppoll) ", %eax\n"
    "  syscall\n"
    "  movl ukd_polled, %edi\n"
    ".endm\n"

    ".balign 64\n"
    "uk_direct:\n"
    UK_TRAMPOLINE_ENTER
    "  pushq %r11\n"
    "  cmpb $0, ukd_on\n"
    "  je ukd_ask\n"
    "  pushq %r8\n"
    "  pushq %r9\n"
    "  pushq %r10\n"
    "  rdtsc\n"
    "  shlq $32, %rdx\n"
    "  addq %rdx, %rax\n"
    "  cmpq ukd_due, %rax\n"
    "  jae uk_direct_away\n"
    "  movl 64(%rsp), %r8d\n"         /* eax and edx again */
    "  movl 32(%rsp), %edx\n"
    "  cmpb $7, %dl\n"
    "  je ukd_net_read\n"
    "  cmpb $6, %dl\n"
    "  je ukd_net_write\n"
    "  cmpb $2, %dl\n"
    "  je ukd_puts\n"
    "  cmpb $1, %dl\n"
    "  jne uk_direct_away\n"

    "  movl $" UK_STRING(SYS_clock_gettime) ", %eax\n"
    "  xorl %edi, %edi\n"              /* CLOCK_REALTIME */
    "  movl $ukd_time, %esi\n"
    "  syscall\n"
    "  testq %rax, %rax\n"
    "  jnz uk_direct_away\n"
    "  imulq $1000000000, ukd_time, %rax\n"
    "  addq ukd_time + 8, %rax\n"
    "  movq %rax, (%r8)\n"
    "  jmp ukd_done\n"

    "ukd_puts:\n"
    "  movl ukd_console, %edi\n"
    "  testl %edi, %edi\n"
    "  js uk_direct_away\n"
    "  movq (%r8), %rsi\n"
    "  movq 8(%r8), %rdx\n"
    "  jmp 1f\n"
    "ukd_net_write:\n"
    "  ukd_descriptor ukd_write\n"
    "  movq 8(%r8), %rsi\n"
    "  movq 16(%r8), %rdx\n"
    "  movl $0, 24(%r8)\n"             /* OK; a fault is better now than behind the write */
    "1:\n"
    "  ukd_check\n"
    "  movl $" UK_STRING(SYS_write) ", %eax\n"
    "  syscall\n"
    "  testq %rax, %rax\n"
    "  jle uk_direct_away\n"
    "  addq %rax, ukd_out\n"
    "  cmpq %rdx, %rax\n"
    "  je ukd_done\n"
    "  movq %rax, ukd_written\n"
    "  jmp uk_direct_away\n"

    "ukd_net_read:\n"
    "  ukd_descriptor ukd_read\n"
    "  movq 8(%r8), %rsi\n"
    "  movq 16(%r8), %rdx\n"
    "  ukd_check\n"
    "  movl $1, 24(%r8)\n"             /* AGAIN, until there is something */
    "  xorl %eax, %eax\n"
    "  cmpq $ukd_unpolled_max, ukd_unpolled\n"
    "  jae 4f\n"
    "  movq (%r8), %rcx\n"
    "  btq %rcx, ukd_files\n"
    "  jnc 3f\n"
    "  movl $" UK_STRING(SYS_read) ", %eax\n"
    "  syscall\n"
    "  testq %rax, %rax\n"
    "  jg 2f\n"
    "  jmp uk_direct_away\n"
    "3:\n"
    "  movq %rsi, ukd_vector\n"
    "  movq %rdx, ukd_vector + 8\n"
    "  movl $" UK_STRING(RWF_NOWAIT) ", %r9d\n"
    "  ukd_preadv2\n"
    "  testq %rax, %rax\n"
    "  jg 2f\n"
    "  jz uk_direct_away\n"
    "  cmpq $-" UK_STRING(EAGAIN) ", %rax\n"
    "  je 1f\n"
    "  cmpq $-" UK_STRING(EOPNOTSUPP) ", %rax\n"
    "  jne uk_direct_away\n"
    "  xorl %r9d, %r9d\n"              /* not to be had: look first */
    "1:\n"
    "  movq ukd_linger_ns, %rax\n"
    "  movq %rax, ukd_time + 8\n"
    "  movq $0, ukd_time\n"
    "  ukd_ppoll\n"
    "  testq %rax, %rax\n"
    "  js uk_direct_away\n"
    "  jz 2f\n"
    "  ukd_preadv2\n"
    "  testq %rax, %rax\n"
    "  jle uk_direct_away\n"
    "2:\n"
    "  addq %rax, ukd_in\n"
    "  addq %rax, ukd_unpolled\n"
    "  movq %rax, 16(%r8)\n"
    "  testq %rax, %rax\n"
    "  jz ukd_done\n"
    "  movl $0, 24(%r8)\n"
    "  jmp ukd_done\n"
    "4:\n"
    "  movq %rax, ukd_unpolled\n"
    "  movq %rax, 16(%r8)\n"

    "ukd_done:\n"
    "  incq ukd_calls\n"
    "  popq %r10\n"
    "  popq %r9\n"
    "  popq %r8\n"
    "  jmp ukd_back\n"

    "uk_direct_away:\n"
    "  popq %r10\n"
    "  popq %r9\n"
    "  popq %r8\n"
    "ukd_ask:\n"
    "  movq 8(%rsp), %rdx\n"
    "  movl 40(%rsp), %esi\n"
    "  cmpb $0, ukd_heard\n"
    "  je 1f\n"
    "  incl ukd_serial\n"
    "  movl ukd_serial, %edi\n"
    "  xorl %eax, %eax\n"
    "  syscall\n"
    "uk_direct_call:\n"
    "  cmpl $" UK_STRING(UK_HEARD) ", %eax\n"
    "  je ukd_back\n"
    "1:\n"
    "  int3\n"
    "uk_direct_int3:\n"

    "ukd_back:\n"
    "  popq %r11\n"
    UK_TRAMPOLINE_LEAVE
    "uk_direct_end:\n"
    ".purgem ukd_check\n"
    ".purgem ukd_descriptor\n"
    ".purgem ukd_preadv2\n"
    ".purgem ukd_ppoll\n"
    ".popsection\n");
/* clang-format on */
extern const uint8_t uk_direct[] __attribute__((visibility("hidden")));
extern const uint8_t uk_direct_away[] __attribute__((visibility("hidden")));
extern const uint8_t uk_direct_call[] __attribute__((visibility("hidden")));
extern const uint8_t uk_direct_int3[] __attribute__((visibility("hidden")));
extern const uint8_t uk_direct_end[] __attribute__((visibility("hidden")));

static struct table table;

/* True if a descriptor may be the guest's own: not a terminal, which may stop who uses it, nor a
 * socket, which tells of an error once, and then it would be lost. */
static bool is_plain(int fd)
{
    struct stat is;
    if (fd < 0 || fstat(fd, &is))
        return false;
    if (S_ISCHR(is.st_mode))
        return is.st_rdev == NULL_DEVICE || is.st_rdev == ZERO_DEVICE;
    return S_ISREG(is.st_mode) || S_ISFIFO(is.st_mode);
}

/* True if no read of it waits for a writer: a file of no size may be one of the kernel's that does,
 * as trace_pipe. */
static bool is_file(int fd)
{
    struct stat is;
    return fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && is.st_size > 0;
}

/* The ends that the guest may use itself. */
static void choose_ends(const struct uk_guest *g)
{
    unsigned inputs = 0;
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++) {
        const struct uk_end *end = &g->ends[h];
        bool plain = end->attached && end->message == UK_STREAM;
        table.read[h] = plain && is_plain(end->rfd) ? end->rfd : -1;
        table.write[h] = plain && is_plain(end->wfd) ? end->wfd : -1;
        if (table.read[h] >= 0 && is_file(table.read[h]))
            table.files |= 1ULL << h;
        inputs += end->attached && end->rfd >= 0;
    }
    table.linger_ns = inputs == 1 ? UK_LINGER_NS : 0;
}

/* Decide what the guest does itself, if anything: before it gets its descriptors. */
void uk_direct_choose(struct uk_guest *g)
{
    g->direct = !g->spt && g->exitless != UK_EXITLESS_OFF && g->trace_fd < 0;
    table = (struct table){.mem_size = g->mem_size};
    table.console = is_plain(g->console_fd) ? g->console_fd : -1;
    choose_ends(g);
}

/* Put code and table into low memory, once it is known how the guest asks. */
void uk_direct_prepare(struct uk_guest *g)
{
    table.heard = g->listener_fd >= 0;
    uk_patch_prepare(g, uk_direct, uk_direct_end);
    memcpy(g->mem + UK_GPA_TABLE, &table, sizeof table);
    g->mem[UK_GPA_MAILBOX + ON] = g->direct;
}

static uint32_t address_of(const uint8_t *place)
{
    return UK_GPA_TRAMPOLINE + (uint32_t)(place - uk_direct);
}

/* The address behind the system call by which it asks. */
uint32_t uk_direct_exit(void)
{
    return address_of(uk_direct_call);
}

/* True for the address behind the int3 by which it asks. */
bool uk_direct_is_exit(uint64_t rip)
{
    return rip == address_of(uk_direct_int3);
}

static void collect(struct uk_set *in, struct uk_set *out)
{
    in->count = out->count = 0;
    uk_set_add(out, (int)table.console);
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++) {
        uk_set_add(in, table.read[h]);
        uk_set_add(out, table.write[h]);
    }
}

/* The descriptors that the guest's process keeps. */
void uk_direct_keep(const struct uk_guest *g, struct uk_set *keep)
{
    struct uk_set in, out;
    if (!g->direct)
        return;
    collect(&in, &out);
    uk_set_join(keep, &in);
    uk_set_join(keep, &out);
}

/* What the guest's filter allows from the page of this code. */
void uk_direct_allow(struct uk_program *p)
{
    static const uint32_t flags[] = {0, RWF_NOWAIT}, clock = CLOCK_REALTIME;
    struct uk_set in, out;
    collect(&in, &out);
    uk_allow_on(p, SYS_write, 0, &out);
    uk_allow_on(p, SYS_read, 0, &in);
    unsigned rule = uk_rule(p, SYS_preadv2);
    uk_rule_among(p, 0, in.numbers, in.count);
    uk_rule_equal(p, 2, 1);
    uk_rule_equal(p, 3, ~0ULL); /* from where the file is, and nowhere else */
    uk_rule_among(p, 5, flags, 2);
    uk_rule_end(p, rule);
    rule = uk_rule(p, SYS_ppoll);
    uk_rule_equal(p, 1, 1);
    uk_rule_equal(p, 3, 0);
    uk_rule_end(p, rule);
    rule = uk_rule(p, SYS_clock_gettime);
    uk_rule_among(p, 0, &clock, 1);
    uk_rule_end(p, rule);
}

/* The guest asks: for a write, perhaps, of which it did the first part. */
void uk_direct_asked(struct uk_guest *g)
{
    const uint64_t none = 0;
    if (!g->direct)
        return;
    memcpy(&g->written, g->mem + UK_GPA_MAILBOX + WRITTEN, sizeof g->written);
    memcpy(g->mem + UK_GPA_MAILBOX + WRITTEN, &none, sizeof none);
}

/* It is about to go on, with a MiB to read before a read says AGAIN; once an input is at its end it
 * asks for all, as there is more to it then than reading and writing. */
void uk_direct_answered(struct uk_guest *g)
{
    if (!g->direct)
        return;
    memset(g->mem + UK_GPA_MAILBOX + UNPOLLED, 0, sizeof(uint64_t));
    if (g->input_ended)
        g->mem[UK_GPA_MAILBOX + ON] = 0;
}

/* It asked from here, and need not call in for a while. */
void uk_direct_called(struct uk_guest *g)
{
    const uint64_t due = __builtin_ia32_rdtsc() + g->tsc_hz / 1000 * CALL_IN_MS;
    if (g->direct)
        memcpy(g->mem + UK_GPA_MAILBOX + DUE, &due, sizeof due);
}

/* If the guest's arguments made this code fault: it goes on to the tender, which looks at them. */
bool uk_direct_retreat(const struct uk_guest *g, uint64_t *rip)
{
    const uint32_t away = address_of(uk_direct_away);
    if (!g->direct || *rip < UK_GPA_TRAMPOLINE || *rip >= away)
        return false;
    *rip = away;
    return true;
}

/* Add what the guest did itself, by its own account. */
void uk_direct_count(const struct uk_guest *g, struct uk_stats *stats)
{
    uint64_t done[3];
    if (!g->direct)
        return;
    memcpy(done, g->mem + UK_GPA_MAILBOX + CALLS, sizeof done);
    stats->hypercalls += done[0];
    stats->bytes_in += done[1];
    stats->bytes_out += done[2];
}

/* True if it did much itself since the last time that this was asked. */
bool uk_direct_busy(const struct uk_guest *g)
{
    static uint64_t before;
    uint64_t calls;
    if (!g->direct)
        return false;
    memcpy(&calls, g->mem + UK_GPA_MAILBOX + CALLS, sizeof calls);
    bool busy = calls - before >= BUSY_CALLS;
    before = calls;
    return busy;
}
