/*
 * patch.c: the guest's hypercalls, made cheaper in place.
 *
 * Solo5's images ask by `mov $0x50N, %edx; out %eax, %dx`. Once such a site has made its first
 * exit, so that it is known to be code, its 6 bytes become a store that exits at less cost under
 * KVM, or, with exitless hypercalls and for a process, a jump to a stub of its own and on to the
 * trampoline: handshake.c's or direct.c's. Only memory is changed, never the file. The guest does
 * not run meanwhile, and cannot write its own text.
 */
#include <string.h>
#include <sys/user.h>

#include "exitless.h"

#define SITE_SIZE 6
#define NUMBER_MAX 7 /* HALT, 8, ends the guest: nothing to be gained */
#define STUB_SIZE 32
#define OUT 0xef  /* out %eax, %dx */
#define INT3 0xcc /* a trap by int3 is quicker than one by #GP: where there are no more stubs */

/* Put a tender's trampoline into low memory; the stubs come behind it. */
void uk_patch_prepare(struct uk_guest *g, const uint8_t *start, const uint8_t *end)
{
    g->trampoline_size = (uint32_t)(end - start);
    memcpy(g->mem + UK_GPA_TRAMPOLINE, start, g->trampoline_size);
}

/* The registers of a guest that is stopped in the trampoline, as they were at its call. */
void uk_patch_caller(const struct uk_guest *g, struct user_regs_struct *r)
{
    if (r->rip < UK_GPA_TRAMPOLINE || r->rip >= UK_GPA_TRAMPOLINE + g->trampoline_size)
        return;
    uint64_t pushed[7], saved[2];
    memcpy(pushed, g->mem + UK_GPA_MAILBOX + UK_MAILBOX_STACK_TOP - sizeof pushed, sizeof pushed);
    memcpy(saved, g->mem + UK_GPA_MAILBOX + UK_MAILBOX_STACK, sizeof saved);
    if (g->tender == UK_PROCESS)
        r->r11 = pushed[0];
    r->rdx = pushed[1], r->rdi = pushed[2], r->rsi = pushed[3], r->rcx = pushed[4];
    r->rax = pushed[5], r->eflags = pushed[6], r->rsp = saved[0], r->rip = saved[1];
}

/* A stub: save rsp and where to go on, load edx as the site would have, jump to the trampoline. */
static void write_stub(uint8_t *at, uint64_t address, uint64_t back, unsigned number)
{
    static const uint8_t form[STUB_SIZE] = {
        0x48, 0x89, 0x24, 0x25, 0, 0, 0, 0,             /* mov %rsp, SAVED_STACK */
        0x48, 0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, /* movq $back, SAVED_RETURN */
        0xba, 0,    0x05, 0,    0,                      /* mov $0x50N, %edx */
        0xe9, 0,    0,    0,    0,                      /* jmp trampoline */
        0xcc, 0xcc};
    const uint32_t stack = UK_GPA_MAILBOX + UK_MAILBOX_STACK, home = stack + 8;
    const uint32_t to = (uint32_t)back;
    const int32_t jump = (int32_t)(UK_GPA_TRAMPOLINE - (address + 30));
    memcpy(at, form, sizeof form);
    memcpy(at + 4, &stack, 4);
    memcpy(at + 12, &home, 4);
    memcpy(at + 16, &to, 4);
    at[21] = (uint8_t)number;
    memcpy(at + 26, &jump, 4);
}

static bool lead_to_stub(struct uk_guest *g, uint8_t *code, uint64_t site, unsigned number)
{
    uint64_t back = site + SITE_SIZE;
    uint64_t first = UK_GPA_TRAMPOLINE + ((g->trampoline_size + 63) & ~63U);
    uint64_t stub = first + (uint64_t)g->stubs * STUB_SIZE;
    if (stub + STUB_SIZE > UK_GPA_TABLE)
        return false;
    g->stubs++;
    write_stub(g->mem + stub, stub, back, number);
    int32_t distance = (int32_t)(stub - (site + 5));
    code[0] = 0xe9;
    memcpy(code + 1, &distance, sizeof distance);
    code[5] = OUT; /* a jump to it is still a hypercall */
    return true;
}

/* The guest made this hypercall at site, an address that may be anything: make the next one
 * cheaper.
 */
void uk_patch(struct uk_guest *g, uint64_t site, unsigned number)
{
    bool near = site >= UK_GPA_BASE && site < INT32_MAX - SITE_SIZE; /* for 32-bit distances */
    uint8_t *code = near ? uk_guest_range(g, site, SITE_SIZE, false) : NULL;
    if (!code || number > NUMBER_MAX || code[1] != number)
        return;
    bool built = uk_is_site(code, OUT);
    if (!built && !uk_is_site(code, INT3))
        return;
    if (!lead_to_stub(g, code, site, number) && built && g->tender == UK_PROCESS)
        code[5] = INT3;
}
