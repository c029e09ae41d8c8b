/*
 * trap.c: what a guest at ring 3 may not do itself, done for it; and its faults, delivered to it.
 *
 * Solo5's start-up loads its own GDT, IDT and TSS. The tender keeps its own in force and only
 * remembers where the guest's are, to find the guest's trap handlers by them. All of it is guest
 * memory: hostile.
 */
#include <stdio.h>
#include <string.h>

#include "core.h"

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define VECTOR_GP 13
#define VECTOR_PF 14
#define TSS_IST1 36 /* offset of IST1 in a 64-bit TSS: SDM 3A figure 7-11 */
#define REX_W 8
#define RFLAGS_USER 0xcd5ULL /* the arithmetic flags and DF: what iret may change here */
#define RFLAGS_FIXED 0x3002ULL

/* 8, 10 to 14, 17, 21, 29 and 30 push an error code: SDM 3A table 6-1, AMD APM 2, 8.2. */
bool uk_has_error_code(unsigned vector)
{
    return 0x60227d00U >> vector & 1;
}

/* A hypercall as it stands in Solo5's images: mov $0x50N, %edx; out %eax, %dx. 6 bytes, of which
 * the last is 0xef, or what the process tender has put there. */
bool uk_is_site(const uint8_t *code, uint8_t last)
{
    return code[0] == 0xba && (code[1] & 0xf0) == 0 && code[2] == 0x05 && code[3] == 0 &&
           code[4] == 0 && code[5] == last;
}

struct insn {
    const uint8_t *code;
    unsigned length, left, rex;
    struct uk_guest *g;
    struct uk_regs *regs;
    struct uk_frame *frame;
    uint64_t cr2;
};

static bool user_address(uint64_t a)
{
    return a >> 47 == 0;
}

/* What Linux takes as the base of a segment: below TASK_SIZE_MAX. */
static bool is_base(uint64_t a)
{
    return a < (1ULL << 47) - 4096;
}

static uint8_t fetch(struct insn *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return in->code[in->length++];
}

static int64_t fetch_signed(struct insn *in, unsigned bytes)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint32_t)fetch(in) << (8 * i);
    return bytes == 1 ? (int8_t)v : (int32_t)v;
}

/* The address of a memory operand; SDM volume 2A, tables 2-2 and 2-3. modrm.mod is not 3. */
static uint64_t operand_address(struct insn *in, uint8_t modrm)
{
    unsigned mod = modrm >> 6, rm = modrm & 7;
    uint64_t a = 0;
    bool rip_relative = false;
    unsigned disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        uint8_t sib = fetch(in);
        unsigned index = (sib >> 3 & 7) | (in->rex & 2) << 2, base = (sib & 7) | (in->rex & 1) << 3;
        if (index != 4)
            a += in->regs->r[index] << (sib >> 6);
        if (mod == 0 && (sib & 7) == 5)
            disp = 4;
        else
            a += in->regs->r[base];
    } else if (mod == 0 && rm == 5) {
        rip_relative = true;
        disp = 4;
    } else {
        a += in->regs->r[rm | (in->rex & 1) << 3];
    }
    if (disp)
        a += (uint64_t)fetch_signed(in, disp);
    return rip_relative ? a + in->frame->rip + in->length : a;
}

static bool pop(struct insn *in, uint64_t *words, unsigned count)
{
    const void *at = uk_guest_range(in->g, in->frame->rsp, count * 8UL, false);
    if (at)
        memcpy(words, at, count * 8UL);
    return at != NULL;
}

/* lgdt, lidt: 0f 01 /2 and /3. */
static bool load_table(struct insn *in, uint8_t modrm)
{
    unsigned which = modrm >> 3 & 7;
    if (modrm >> 6 == 3 || (which != 2 && which != 3))
        return false;
    const uint8_t *at = uk_guest_range(in->g, operand_address(in, modrm), 10, false);
    if (!at)
        return false;
    memcpy(which == 2 ? &in->g->gdt_limit : &in->g->idt_limit, at, 2);
    memcpy(which == 2 ? &in->g->gdt_base : &in->g->idt_base, at + 2, 8);
    return true;
}

/* ltr: 0f 00 /3. */
static bool load_task(struct insn *in, uint8_t modrm)
{
    if ((modrm >> 3 & 7) != 3)
        return false;
    if (modrm >> 6 == 3) {
        in->g->tss_selector = (uint16_t)in->regs->r[(modrm & 7) | (in->rex & 1) << 3];
        return true;
    }
    const uint8_t *at = uk_guest_range(in->g, operand_address(in, modrm), 2, false);
    if (at)
        memcpy(&in->g->tss_selector, at, 2);
    return at != NULL;
}

static bool move_msr(struct insn *in, bool write)
{
    uint64_t *r = in->regs->r;
    uint32_t index = (uint32_t)r[1];
    if (index != MSR_FS_BASE && index != MSR_GS_BASE)
        return false;
    uint64_t *base = index == MSR_FS_BASE ? &in->g->fs_base : &in->g->gs_base;
    if (write) {
        uint64_t value = r[2] << 32 | (uint32_t)r[0];
        if (!is_base(value))
            return false;
        *base = value;
        in->regs->msrs_dirty = true;
    } else {
        r[0] = (uint32_t)*base;
        r[2] = *base >> 32;
        in->regs->dirty = true;
    }
    return true;
}

/* mov %cr2, reg: 0f 20 with reg field 2. No other control register is the guest's to see. */
static bool read_cr2(struct insn *in, uint8_t modrm)
{
    if (modrm >> 6 != 3 || (modrm >> 3 & 7) != 2 || (in->rex & 4))
        return false;
    unsigned to = (modrm & 7) | (in->rex & 1) << 3;
    if (to == 4)
        in->frame->rsp = in->cr2;
    in->regs->r[to] = in->cr2;
    in->regs->dirty = true;
    return true;
}

static bool emulate_two_byte(struct insn *in)
{
    switch (fetch(in)) {
    case 0x00:
        return load_task(in, fetch(in));
    case 0x01:
        return load_table(in, fetch(in));
    case 0x20:
        return read_cr2(in, fetch(in));
    case 0x30:
        return move_msr(in, true);
    case 0x32:
        return move_msr(in, false);
    default:
        return false;
    }
}

static bool far_return(struct insn *in)
{
    uint64_t words[2];
    if (!(in->rex & REX_W) || !pop(in, words, 2) || !user_address(words[0]))
        return false;
    in->frame->rsp += sizeof words;
    in->frame->rip = words[0];
    in->length = 0;
    return true;
}

static bool interrupt_return(struct insn *in)
{
    uint64_t w[5];
    if (!(in->rex & REX_W) || !pop(in, w, 5) || !user_address(w[0]) || !user_address(w[3]))
        return false;
    in->frame->rip = w[0];
    in->frame->rflags = (w[2] & RFLAGS_USER) | RFLAGS_FIXED;
    in->frame->rsp = w[3];
    in->length = 0;
    return true;
}

/* Do what the instruction at rip asks for; false: that is not the guest's to ask. */
static bool emulate(struct insn *in)
{
    uint8_t op = fetch(in);
    if (op == 0x66)
        op = fetch(in);
    if ((op & 0xf0) == 0x40) {
        in->rex = op & 0xf;
        op = fetch(in);
    }
    switch (op) {
    case 0x0f:
        return emulate_two_byte(in);
    case 0x8e: { /* mov to a segment register: flat segments stay in force */
        uint8_t modrm = fetch(in);
        if (modrm >> 6 != 3)
            operand_address(in, modrm);
        return true;
    }
    case 0xcb:
        return far_return(in);
    case 0xcf:
        return interrupt_return(in);
    case 0xfa: /* cli, sti: no interrupt is ever sent */
    case 0xfb:
        return true;
    default:
        return false;
    }
}

/* The stack to deliver on: the gate's IST from the guest's TSS, else the one that it was on. */
static bool trap_stack(struct uk_guest *g, unsigned ist, uint64_t *rsp)
{
    if (ist == 0)
        return true;
    unsigned at = g->tss_selector & ~7U;
    const uint8_t *descriptor = uk_guest_range(g, g->gdt_base + at, 16, false);
    if (!at || at + 15U > g->gdt_limit || !descriptor)
        return false;
    uint64_t base = (uint64_t)descriptor[2] | (uint64_t)descriptor[3] << 8 |
                    (uint64_t)descriptor[4] << 16 | (uint64_t)descriptor[7] << 24;
    uint32_t high;
    memcpy(&high, descriptor + 8, sizeof high);
    base |= (uint64_t)high << 32;
    const uint8_t *entry = uk_guest_range(g, base + TSS_IST1 + 8UL * (ist - 1), 8, false);
    if (entry)
        memcpy(rsp, entry, sizeof *rsp);
    return entry != NULL;
}

/* Enter the guest's own handler as the processor would have; false: it has none that works. */
static bool deliver(struct uk_guest *g, unsigned vector, bool with_error, uint64_t error,
                    struct uk_frame *frame)
{
    uint8_t gate[16];
    const uint8_t *at = uk_guest_range(g, g->idt_base + 16UL * vector, sizeof gate, false);
    if (!g->idt_base || 16U * vector + 15 > g->idt_limit || !at)
        return false;
    memcpy(gate, at, sizeof gate);
    if (!(gate[5] & 0x80))
        return false;
    uint32_t high;
    memcpy(&high, gate + 8, sizeof high);
    uint64_t handler = (uint64_t)gate[0] | (uint64_t)gate[1] << 8 | (uint64_t)gate[6] << 16 |
                       (uint64_t)gate[7] << 24 | (uint64_t)high << 32;
    uint64_t rsp = frame->rsp;
    if (!user_address(handler) || !trap_stack(g, gate[4] & 7, &rsp))
        return false;
    uint64_t words[6] = {(uint32_t)error, frame->rip, frame->cs,
                         frame->rflags,   frame->rsp, frame->ss};
    size_t size = with_error ? 48 : 40;
    rsp = (rsp & ~15ULL) - size;
    uint8_t *to = uk_guest_range(g, rsp, size, true);
    if (!to)
        return false;
    memcpy(to, with_error ? words : words + 1, size);
    frame->rip = handler;
    frame->rsp = rsp;
    frame->rflags = RFLAGS_FIXED;
    return true;
}

static const char *fault_name(unsigned vector)
{
    static const char *const names[32] = {
        [0] = "division error",
        [1] = "debug trap",
        [3] = "breakpoint",
        [4] = "overflow trap",
        [5] = "bound exceeded",
        [6] = "undefined instruction",
        [7] = "no FPU",
        [8] = "double fault",
        [10] = "invalid TSS",
        [11] = "segment not present",
        [12] = "stack fault",
        [VECTOR_GP] = "privileged instruction",
        [VECTOR_PF] = "page fault",
        [16] = "x87 error",
        [17] = "alignment error",
        [18] = "machine check",
        [19] = "SIMD floating-point error",
    };
    return vector < 32 && names[vector] ? names[vector] : "exception";
}

static enum uk_verdict fault(struct uk_guest *g, unsigned vector, uint64_t error, uint64_t cr2,
                             const struct uk_frame *f, const struct uk_regs *r)
{
    const char *hint = g->verbose ? "" : " (-v shows the registers)";
    if (g->verbose)
        uk_say(
            g,
            "rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx rbp %llx rsp %llx r8 %llx r9 "
            "%llx r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx r15 %llx rflags %llx error %llx",
            (unsigned long long)r->r[0], (unsigned long long)r->r[3], (unsigned long long)r->r[1],
            (unsigned long long)r->r[2], (unsigned long long)r->r[6], (unsigned long long)r->r[7],
            (unsigned long long)r->r[5], (unsigned long long)f->rsp, (unsigned long long)r->r[8],
            (unsigned long long)r->r[9], (unsigned long long)r->r[10], (unsigned long long)r->r[11],
            (unsigned long long)r->r[12], (unsigned long long)r->r[13],
            (unsigned long long)r->r[14], (unsigned long long)r->r[15],
            (unsigned long long)f->rflags, (unsigned long long)error);
    if (vector != VECTOR_PF)
        return uk_fail(g, 255, "guest fault: %s at rip 0x%llx%s", fault_name(vector),
                       (unsigned long long)f->rip, hint);
    const char *verb = error & UK_ACCESS_UNKNOWN ? "accessing"
                       : error & 16              ? "executing"
                       : error & 2               ? "writing"
                                                 : "reading";
    return uk_fail(g, 255, "guest fault: page fault %s address 0x%llx at rip 0x%llx%s", verb,
                   (unsigned long long)cr2, (unsigned long long)f->rip, hint);
}

/*
 * An exception at CPL 3: emulate what is allowed, else hand it to the guest's own handler, else end
 * the guest with one line. error is the processor's error code, cr2 the address of a page fault.
 */
enum uk_verdict uk_trap(struct uk_guest *g, unsigned vector, uint64_t error, uint64_t cr2,
                        struct uk_frame *frame, struct uk_regs *regs)
{
    if (vector == VECTOR_PF)
        g->fault_address = cr2;
    if (vector == VECTOR_GP) {
        struct insn in = {.g = g, .regs = regs, .frame = frame, .cr2 = g->fault_address};
        for (in.left = 15; in.left && !in.code; in.left -= !in.code)
            in.code = uk_guest_range(g, frame->rip, in.left, false);
        if (in.code && emulate(&in)) {
            frame->rip += in.length;
            return UK_GO;
        }
        const uint8_t *op = uk_guest_range(g, frame->rip, 1, false);
        if (op && *op == 0xf4)
            return uk_fail(g, 255, "the guest stopped its processor (hlt) at rip 0x%llx",
                           (unsigned long long)frame->rip);
    }
    if (deliver(g, vector, uk_has_error_code(vector), error, frame))
        return UK_GO;
    return fault(g, vector, error, cr2, frame, regs);
}
