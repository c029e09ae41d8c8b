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
#define SERIAL 144        /* of a process's last system call */
#define SAVED_STACK UK_MAILBOX_STACK
#define SAVED_RETURN UK_MAILBOX_STACK + 8
#define STACK_TOP 4096

/* A number of the C text, by a name for the assembler. */
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define SET(name, value) ".set " name ", " STRING(value) "\n"
#define SET_AT(name, offset) SET(name, UK_GPA_MAILBOX + offset)

/* Bytes of what exits, and where in it a process's system call and its int3 end. */
#define EXIT_SIZE 32
#define AFTER_CALL 20
#define AFTER_INT3 28

/* How often the guest looks before it starts to look at the clock. */
#define QUICK_LOOKS 64

/*
 * The trampoline, copied to UK_GPA_TRAMPOLINE; all its addresses are below 2 GB, so absolute. A
 * stub came here with edx the port and eax the argument; rsp and the return are saved. It has a
 * stack of its own, uses no vector register and gives back every register and flag. Two places of
 * EXIT_SIZE bytes are filled in: what exits under this tender, and may overwrite eax, ecx, esi, edi
 * and r11 (once a request was taken, rdi is no longer needed).
 */
/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    SET_AT("uk_word", WORD)
    SET_AT("uk_advice", ADVICE)
    SET_AT("uk_request_limit", REQUEST_LIMIT)
    SET_AT("uk_busy_limit", BUSY_LIMIT)
    SET_AT("uk_saved_stack", SAVED_STACK)
    SET_AT("uk_saved_return", SAVED_RETURN)
    SET_AT("uk_stack_top", STACK_TOP)
    SET("uk_quick_looks", QUICK_LOOKS)
    SET("uk_exit_size", EXIT_SIZE)
    SET("uk_exit_late", UK_EXIT_LATE)
    SET("uk_exit_sync", UK_HYPERCALL_PORT + UK_EXIT_SYNC)

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
    "  movl $uk_stack_top, %esp\n"
    "  pushfq\n"
    "  pushq %r11\n"                  /* a system call overwrites it */
    "  pushq %rax\n"
    "  pushq %rcx\n"
    "  pushq %rsi\n"
    "  pushq %rdi\n"
    "  pushq %rdx\n"
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
    "uk_trampoline_sync: .skip uk_exit_size, 0x90\n"
    "  jmp 2b\n"
    "7:\n"                             /* exit with it */
    "  movl (%rsp), %edx\n"
    "8:\n"
    "  movq 32(%rsp), %rax\n"
    "uk_trampoline_ask: .skip uk_exit_size, 0x90\n"
    "9:\n"
    "  popq %rdx\n"
    "  popq %rdi\n"
    "  popq %rsi\n"
    "  popq %rcx\n"
    "  popq %rax\n"
    "  popq %r11\n"
    "  popfq\n"
    "  movq uk_saved_stack, %rsp\n"
    "  jmp *uk_saved_return\n"
    "uk_trampoline_end:\n"
    ".purgem uk_look\n"
    ".popsection\n");
/* clang-format on */
extern const uint8_t uk_trampoline[] __attribute__((visibility("hidden")));
extern const uint8_t uk_trampoline_sync[] __attribute__((visibility("hidden")));
extern const uint8_t uk_trampoline_ask[] __attribute__((visibility("hidden")));
extern const uint8_t uk_trampoline_end[] __attribute__((visibility("hidden")));

static _Atomic uint64_t *word(const struct uk_guest *g)
{
    return (void *)(g->mem + UK_GPA_MAILBOX + WORD);
}

/* Bytes of the trampoline; the stubs come behind it. */
unsigned uk_handshake_length(void)
{
    return (unsigned)(uk_trampoline_end - uk_trampoline);
}

/* mov %eax, disp32(,%rdx,4): port 0x500 + n is the n-th word of the doorbell page. */
static void write_ring(uint8_t code[EXIT_SIZE])
{
    static const uint8_t form[] = {0x89, 0x04, 0x95};
    int32_t base = UK_GPA_DOORBELL - 4 * UK_HYPERCALL_PORT;
    memcpy(code, form, sizeof form);
    memcpy(code + sizeof form, &base, sizeof base);
}

/*
 * The system call by which a process asks. Its number is one that a filter on us ourselves, a
 * container's, lets through: read, 0; the address goes to esi, and a serial number to edi, so that
 * a call made again can be told from the next. If it is refused even so, or there is no listener,
 * an int3 asks.
 */
static void write_call(uint8_t code[EXIT_SIZE], bool heard)
{
    static const uint8_t form[EXIT_SIZE] = {
        0x89, 0xc6,                        /* mov %eax, %esi */
        0xff, 0x04, 0x25, 0,    0,   0, 0, /* incl SERIAL */
        0x8b, 0x3c, 0x25, 0,    0,   0, 0, /* mov SERIAL, %edi */
        0x31, 0xc0,                        /* xor %eax, %eax */
        0x0f, 0x05,                        /* syscall */
        0x3d, 0,    0,    0,    0,         /* cmp $UK_HEARD, %eax */
        0x74, 0x01,                        /* je, over */
        0xcc, 0x90, 0x90, 0x90, 0x90};     /* int3 */
    const uint32_t serial = UK_GPA_MAILBOX + SERIAL, answer = UK_HEARD;
    memcpy(code, form, sizeof form);
    memcpy(code + 5, &serial, sizeof serial);
    memcpy(code + 12, &serial, sizeof serial);
    memcpy(code + AFTER_CALL + 1, &answer, sizeof answer);
    if (!heard)
        memset(code + 2, 0x90, AFTER_INT3 - 1 - 2);
}

/* Put the trampoline into low memory, with this tender's way to exit. */
void uk_handshake_prepare(struct uk_guest *g)
{
    uint8_t *text = g->mem + UK_GPA_TRAMPOLINE, *ask = text + (uk_trampoline_ask - uk_trampoline);
    memcpy(text, uk_trampoline, uk_handshake_length());
    if (g->tender == UK_KVM)
        write_ring(ask);
    else
        write_call(ask, g->listener_fd >= 0);
    memcpy(text + (uk_trampoline_sync - uk_trampoline), ask, EXIT_SIZE);
    uk_handshake_advise(g, true);
}

/* Where the guest's two exits are. */
static void find_exits(uint32_t at[2])
{
    at[0] = UK_GPA_TRAMPOLINE + (uint32_t)(uk_trampoline_ask - uk_trampoline);
    at[1] = UK_GPA_TRAMPOLINE + (uint32_t)(uk_trampoline_sync - uk_trampoline);
}

/* The addresses behind the system calls by which a process asks. */
void uk_handshake_calls(uint32_t behind[2])
{
    find_exits(behind);
    behind[0] += AFTER_CALL;
    behind[1] += AFTER_CALL;
}

/* True for the address behind an int3 by which a process asks. */
bool uk_handshake_is_exit(uint64_t rip)
{
    uint32_t at[2];
    find_exits(at);
    return rip == at[0] + AFTER_INT3 || rip == at[1] + AFTER_INT3;
}

/* The registers of a guest that is stopped in the trampoline, as they were at its call. */
void uk_handshake_caller(const struct uk_guest *g, struct user_regs_struct *r)
{
    if (r->rip < UK_GPA_TRAMPOLINE || r->rip >= UK_GPA_TRAMPOLINE + uk_handshake_length())
        return;
    uint64_t pushed[7], saved[2];
    memcpy(pushed, g->mem + UK_GPA_MAILBOX + STACK_TOP - sizeof pushed, sizeof pushed);
    memcpy(saved, g->mem + UK_GPA_MAILBOX + UK_MAILBOX_STACK, sizeof saved);
    r->rdx = pushed[0], r->rdi = pushed[1], r->rsi = pushed[2], r->rcx = pushed[3];
    r->rax = pushed[4], r->r11 = pushed[5], r->eflags = pushed[6];
    r->rsp = saved[0], r->rip = saved[1];
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
