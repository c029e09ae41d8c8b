/*
 * exitless.h: hypercalls that cost less than a change to the tender.
 *
 * patch.c leads the guest's hypercall sites to a trampoline in low memory. That of a process
 * (direct.c) makes the system call itself where it may. Under KVM, where an exit is dear, a second
 * thread of the tender, the poller, serves hypercalls through a word of shared memory while the
 * guest runs on: handshake.c has that trampoline and the word; poller.c has the thread, and decides
 * when it is awake. Nothing waits for a wake-up: a guest that is not served soon makes a real exit,
 * which carries its own request.
 */
#ifndef UKFILTER_EXITLESS_H
#define UKFILTER_EXITLESS_H

#include "core.h"

/* Beside a hypercall's own number, 1 to 8, the trampoline's exits have two more kinds. */
#define UK_EXIT_LATE 0x40 /* and the number: the poller did not take it in time, serve it */
#define UK_EXIT_SYNC 0xf0 /* the poller is at it, but takes long: sleep until it is through */

/* What a process's system call returns when it was heard; no error, and no filter's answer. */
#define UK_HEARD 0x0b5e55ed

/* In the mailbox page: the guest's rsp while it is in the trampoline, then where it goes on. */
#define UK_MAILBOX_STACK 192
#define UK_MAILBOX_DIRECT 256     /* what direct.c has there */
#define UK_MAILBOX_STACK_TOP 4096 /* the stack of what runs there; it takes 100 bytes */

/* A number of the C text, by a name for the assembler. */
#define UK_STRING_(x) #x
#define UK_STRING(x) UK_STRING_(x)
#define UK_SET(name, value) ".set " name ", " UK_STRING(value) "\n"
#define UK_SET_AT(name, offset) UK_SET(name, UK_GPA_MAILBOX + offset)

/* Into a trampoline and out of it, for its assembler text: to a stack of its own, with what
 * uk_patch_caller() looks for at its top; back with every register and flag. */
#define UK_TRAMPOLINE_NAMES                                                                        \
    UK_SET_AT("uk_stack_top", UK_MAILBOX_STACK_TOP)                                                \
    UK_SET_AT("uk_saved_stack", UK_MAILBOX_STACK)                                                  \
    UK_SET_AT("uk_saved_return", UK_MAILBOX_STACK + 8)
#define UK_TRAMPOLINE_ENTER                                                                        \
    "  movl $uk_stack_top, %esp\n"                                                                 \
    "  pushfq\n"                                                                                   \
    "  pushq %rax\n"                                                                               \
    "  pushq %rcx\n"                                                                               \
    "  pushq %rsi\n"                                                                               \
    "  pushq %rdi\n"                                                                               \
    "  pushq %rdx\n"
#define UK_TRAMPOLINE_LEAVE                                                                        \
    "  popq %rdx\n"                                                                                \
    "  popq %rdi\n"                                                                                \
    "  popq %rsi\n"                                                                                \
    "  popq %rcx\n"                                                                                \
    "  popq %rax\n"                                                                                \
    "  popfq\n"                                                                                    \
    "  movq uk_saved_stack, %rsp\n"                                                                \
    "  jmp *uk_saved_return\n"

/* handshake.c */
void uk_handshake_prepare(struct uk_guest *g);
void uk_handshake_limits(struct uk_guest *g, uint64_t request_ns, uint64_t busy_ns);
bool uk_handshake_pending(const struct uk_guest *g);
bool uk_handshake_take(struct uk_guest *g, unsigned *number, uint64_t *gpa);
void uk_handshake_answer(struct uk_guest *g, bool retry);
void uk_handshake_advise(struct uk_guest *g, bool exit);

/* patch.c */
struct user_regs_struct;
void uk_patch_prepare(struct uk_guest *g, const uint8_t *start, const uint8_t *end);
void uk_patch_caller(const struct uk_guest *g, struct user_regs_struct *r);
void uk_patch(struct uk_guest *g, uint64_t site, unsigned number);

/* poller.c */
int uk_poller_open(struct uk_guest *g);
void uk_exit_begin(struct uk_guest *g);
void uk_exit_end(struct uk_guest *g);
enum uk_verdict uk_exit_call(struct uk_guest *g, unsigned kind, uint64_t gpa);

/* direct.c */
struct uk_program;
struct uk_set;
void uk_direct_choose(struct uk_guest *g);
void uk_direct_prepare(struct uk_guest *g);
void uk_direct_keep(const struct uk_guest *g, struct uk_set *keep);
void uk_direct_allow(struct uk_program *p);
uint32_t uk_direct_exit(void);
bool uk_direct_is_exit(uint64_t rip);
bool uk_direct_busy(const struct uk_guest *g);
void uk_direct_asked(struct uk_guest *g);
void uk_direct_answered(struct uk_guest *g);
void uk_direct_called(struct uk_guest *g);
bool uk_direct_retreat(const struct uk_guest *g, uint64_t *rip);

/* child.c */
void uk_process_share(const struct uk_guest *g, bool together);

#endif
