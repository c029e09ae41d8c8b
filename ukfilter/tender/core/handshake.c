/*
 * handshake.c: the word through which guest and poller meet, and the guest's side of it.
 *
 * The word is gpa << 32 | number << 8 | state. The guest writes REQUEST over DONE; the poller takes
 * it by a compare-and-swap to BUSY, and has number and address from that operation alone, as the
 * guest may scribble on the word at any time; it answers DONE or RETRY. A guest that is tired of
 * waiting takes a REQUEST back by a compare-and-swap of its own, so one of the two serves it, never
 * both. model/ has the same as a model, checked.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/user.h>

#include "exitless.h"

enum { DONE, REQUEST, BUSY, RETRY };

/* The mailbox: a page that the guest may write. What belongs to one side has a cache line. */
#define WORD 0
#define ADVICE 64         /* not 0: do not ask, exit at once. A hint, as all here */
#define REQUEST_LIMIT 128 /* ticks of the time-stamp counter until a request is taken back */
#define BUSY_LIMIT 136    /* the same until the guest exits to sleep */

/* How often the guest looks before it starts to look at the clock. */
#define QUICK_LOOKS 64

/*
 * The trampoline, copied to UK_GPA_TRAMPOLINE; all its addresses are below 2 GB, so absolute. A
 * stub came here with edx the port and eax the argument; rsp and the return are saved. It has a
 * stack of its own, uses no vector register and gives back every register and flag. An exit is a
 * store to the doorbell page: port 0x500 + n is its n-th word.
 */
/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    UK_SET_AT("uk_word", WORD)
    UK_SET_AT("uk_advice", ADVICE)
    UK_SET_AT("uk_request_limit", REQUEST_LIMIT)
    UK_SET_AT("uk_busy_limit", BUSY_LIMIT)
    UK_TRAMPOLINE_NAMES
    UK_SET("uk_quick_looks", QUICK_LOOKS)
    UK_SET("uk_doorbell", UK_GPA_DOORBELL - 4 * UK_HYPERCALL_PORT)
    UK_SET("uk_exit_late", UK_EXIT_LATE)
    UK_SET("uk_exit_sync", UK_HYPERCALL_PORT + UK_EXIT_SYNC)

    /* The state to ecx; done, or off to exit with it. */
    ".macro uk_look\n"
    "  movzbl uk_word, %ecx\n"
    "  testb %cl, %cl\n"
    "  jz 9f\n"                        /* DONE */
    "  cmpb $3, %cl\n"
    "  je 7f\n"                        /* RETRY */
    ".endm\n"

    ".balign 64\n"
    "uk_trampoline:\n"
    UK_TRAMPOLINE_ENTER
    "  cmpb $0, uk_advice\n"
    "  jne 7f\n"
    "  movl %eax, %edi\n"
    "  shlq $32, %rdi\n"
    "  movzbl %dl, %ecx\n"
    "  shll $8, %ecx\n"
    "  leaq 1(%rdi,%rcx), %rdi\n"      /* REQUEST */
    "  movq %rdi, %rcx\n"
    "  xchgq %rcx, uk_word\n"
    "  movl $uk_quick_looks, %esi\n"
    "1:\n"
    "  uk_look\n"
    "  decl %esi\n"
    "  jnz 1b\n"
    "2:\n"                             /* from now on by the clock, of which rsi is the start */
    "  rdtsc\n"
    "  shlq $32, %rdx\n"
    "  leaq (%rdx,%rax), %rsi\n"
    "3:\n"
    "  pause\n"
    "  rdtsc\n"
    "  shlq $32, %rdx\n"
    "  addq %rdx, %rax\n"
    "  subq %rsi, %rax\n"
    "  uk_look\n"
    "  cmpb $2, %cl\n"
    "  je 5f\n"                        /* BUSY */
    "  cmpq uk_request_limit, %rax\n"
    "  jb 3b\n"
    "  movq %rdi, %rax\n"              /* take the request back */
    "  xorl %ecx, %ecx\n"
    "  lock cmpxchgq %rcx, uk_word\n"
    "  jne 3b\n"
    "  movl (%rsp), %edx\n"
    "  orl $uk_exit_late, %edx\n"
    "  jmp 8f\n"
    "5:\n"
    "  cmpq uk_busy_limit, %rax\n"
    "  jb 3b\n"
    "  movl $uk_exit_sync, %edx\n"
    "  movl %eax, uk_doorbell(,%rdx,4)\n"
    "  jmp 2b\n"
    "7:\n"                             /* exit with it */
    "  movl (%rsp), %edx\n"
    "8:\n"
    "  movq 32(%rsp), %rax\n"
    "  movl %eax, uk_doorbell(,%rdx,4)\n"
    "9:\n"
    UK_TRAMPOLINE_LEAVE
    "uk_trampoline_end:\n"
    ".purgem uk_look\n"
    ".popsection\n");
/* clang-format on */
extern const uint8_t uk_trampoline[] __attribute__((visibility("hidden")));
extern const uint8_t uk_trampoline_end[] __attribute__((visibility("hidden")));

static _Atomic uint64_t *word(const struct uk_guest *g)
{
    return (void *)(g->mem + UK_GPA_MAILBOX + WORD);
}

/* Put the trampoline into low memory. */
void uk_handshake_prepare(struct uk_guest *g)
{
    uk_patch_prepare(g, uk_trampoline, uk_trampoline_end);
    uk_handshake_advise(g, true);
}

/* How long the guest waits until a request is taken, and until it is served, in nanoseconds. */
void uk_handshake_limits(struct uk_guest *g, uint64_t request_ns, uint64_t busy_ns)
{
    uint64_t request = request_ns * (g->tsc_hz / 1000) / 1000000;
    uint64_t busy = busy_ns * (g->tsc_hz / 1000) / 1000000;
    memcpy(g->mem + UK_GPA_MAILBOX + REQUEST_LIMIT, &request, sizeof request);
    memcpy(g->mem + UK_GPA_MAILBOX + BUSY_LIMIT, &busy, sizeof busy);
}

/* Tell the guest not to ask the poller (or that it may). */
void uk_handshake_advise(struct uk_guest *g, bool exit)
{
    _Atomic uint8_t *advice = (void *)(g->mem + UK_GPA_MAILBOX + ADVICE);
    if (atomic_load_explicit(advice, memory_order_relaxed) != exit)
        atomic_store_explicit(advice, exit, memory_order_relaxed);
}

bool uk_handshake_pending(const struct uk_guest *g)
{
    return (atomic_load_explicit(word(g), memory_order_relaxed) & 0xff) == REQUEST;
}

/* Take the request, if there is one: it is the poller's to serve from then on. */
bool uk_handshake_take(struct uk_guest *g, unsigned *number, uint64_t *gpa)
{
    uint64_t asked = atomic_load_explicit(word(g), memory_order_relaxed);
    if ((asked & 0xff) != REQUEST)
        return false;
    if (!atomic_compare_exchange_strong(word(g), &asked, (asked & ~0xffULL) | BUSY))
        return false;
    *number = (unsigned)(asked >> 8 & 0xff);
    *gpa = asked >> 32;
    return true;
}

/* The request that was taken is served, or (retry) would make the poller sleep: exit with it. */
void uk_handshake_answer(struct uk_guest *g, bool retry)
{
    atomic_store_explicit(word(g), retry ? RETRY : DONE, memory_order_release);
}
