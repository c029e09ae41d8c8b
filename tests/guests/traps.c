/* traps KIND: brings tables of its own, as Solo5 does, and handles a page fault: by ending, or by
 * going on. */
#include "uk.h"
UK_MANIFEST(0);
struct gate {
    uint16_t low, selector;
    uint8_t ist, type;
    uint16_t middle;
    uint32_t high, zero;
};
static struct gate idt[32] __attribute__((aligned(64)));
static uint64_t gdt[5] __attribute__((aligned(64))) = {0, 0x00af99000000ffff, 0x00cf93000000ffff};
static uint8_t tss[104] __attribute__((aligned(16))), stack[16384] __attribute__((aligned(16)));
static bool go_on;
struct table {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* Saved registers, the error code, then the processor's frame. */
__attribute__((used)) static void handle(uint64_t *frame)
{
    uint64_t cr2;
    __asm__ __volatile__("mov %%cr2, %0" : "=r"(cr2));
    eprintf("trap error %lu cr2 %lx stack %d\n", frame[9], cr2,
            (uint8_t *)frame > stack && (uint8_t *)frame < stack + sizeof stack);
    if (!go_on)
        uk_halt(42);
    frame[10] += 2; /* past the 2-byte access */
}
__asm__("entry: push %rax; push %rcx; push %rdx; push %rbx; push %rsi; push %rdi; push %r8; push "
        "%r9; push %r10\n"
        "mov %rsp, %rdi; cld; sub $8, %rsp; call handle; add $8, %rsp\n" /* aligned for C */
        "pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rbx; pop %rdx; pop %rcx; pop %rax\n"
        "add $8, %rsp; iretq\n");
extern const char entry[];

static void load_tables(void)
{
    struct table g = {sizeof gdt - 1, (uintptr_t)gdt}, i = {sizeof idt - 1, (uintptr_t)idt};
    uint64_t at = (uintptr_t)entry, t = (uintptr_t)tss, top = (uintptr_t)(stack + sizeof stack);
    idt[14] =
        (struct gate){(uint16_t)at, 8, 1, 0x8e, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
    memcpy(tss + 36, &top, sizeof top);
    gdt[3] = 0x67 | (t & 0xffffff) << 16 | 0x89UL << 40 | (t >> 24 & 0xff) << 56;
    __asm__ __volatile__("cli; lgdt %0; pushq $8; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:\n"
                         "mov $16, %%eax; mov %%eax, %%ss; mov %%eax, %%ds; mov %%eax, %%es\n"
                         "mov $24, %%eax; ltr %%ax; lidt %1"
                         :
                         : "m"(g), "m"(i)
                         : "rax", "memory");
}
int main(int argc, char **argv)
{
    uint64_t fs, tls = 0x1234;
    go_on = argc > 1 && strcmp(argv[1], "return") == 0;
    load_tables();
    __asm__ __volatile__("wrmsr" ::"c"(0xc0000100), "a"((uint32_t)(uintptr_t)&tls), "d"(0));
    __asm__ __volatile__("mov %%fs:0, %0" : "=r"(fs));
    eprintf("fs %lx\n", fs);
    __asm__ __volatile__("mov (%%rax), %%eax" : : "a"(0x5000) : "memory");
    eprintf("went on\n");
    return 0;
}
