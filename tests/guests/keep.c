/* keep N: N hypercalls, each with every register, flag and the red zone filled in before, and
 * looked at after. Prints what was lost. */
#include "uk.h"

UK_MANIFEST(0);

#define REGISTERS 15 /* rax rbx rcx rsi rdi rbp r8 ... r15, then flags; rdx is the port's */

static uint64_t __attribute__((used)) before[REGISTERS], after[REGISTERS], zone_after, xmm_after[2];
static uint64_t __attribute__((used)) saved_stack, saved_frame;
static uint64_t argument;
static const uint64_t xmm_before[2] = {0x0123456789abcdefUL, 0xfedcba9876543210UL};

#define ALL(form)                                                                                  \
    form(rbx, 1) form(rcx, 2) form(rsi, 3) form(rdi, 4) form(rbp, 5) form(r8, 6) form(r9, 7)       \
        form(r10, 8) form(r11, 9) form(r12, 10) form(r13, 11) form(r14, 12) form(r15, 13)
#define LOAD(name, i) "movq before+8*" #i ", %%" #name "\n"
#define STORE(name, i) "movq %%" #name ", after+8*" #i "\n"

/* WALLTIME, as Solo5's images make it. */
static void call(void)
{
    /* clang-format off */
    __asm__ __volatile__(
        "movq %%rsp, saved_stack\n"
        "movq %%rbp, saved_frame\n"
        ALL(LOAD)
        "movups xmm_before, %%xmm5\n"
        "pushq before+8*14\n"
        "popfq\n"
        "movq %%rbp, -8(%%rsp)\n"
        "movq before, %%rax\n"
        "movl $0x501, %%edx\n"
        "outl %%eax, %%dx\n"
        "movq %%rax, after\n"
        ALL(STORE)
        "movq -8(%%rsp), %%rax\n"
        "movq %%rax, zone_after\n"
        "pushfq\n"
        "popq after+8*14\n"
        "movups %%xmm5, xmm_after\n"
        "movq saved_stack, %%rsp\n"
        "movq saved_frame, %%rbp\n"
        "cld\n"
        :
        :
        : "memory", "cc", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
          "r12", "r13", "r14", "r15", "xmm5");
    /* clang-format on */
}

static const char *lost(void)
{
    for (int i = 1; i < REGISTERS - 1; i++)
        if (after[i] != before[i])
            return "a register";
    if (after[0] != before[0])
        return "rax";
    if ((after[14] ^ before[14]) & 0xcd5)
        return "a flag";
    if (zone_after != before[5])
        return "the red zone";
    return memcmp(xmm_after, xmm_before, 16) ? "a vector register" : NULL;
}

int main(int argc, char **argv)
{
    long count = 0;
    if (argc > 1)
        uk_number(argv[1], &count);
    for (long n = 0; n < count; n++) {
        uint64_t seed = (uint64_t)n * 0x9e3779b97f4a7c15UL;
        for (int i = 1; i < REGISTERS; i++)
            before[i] = seed ^ ((uint64_t)i << 56 | (uint64_t)i << 8);
        before[14] = 0x202 | (seed & 0xcd5 & ~0x400UL) | (n & 1 ? 0x400 : 0);
        before[0] = 0xabcd000000000000UL | (uint64_t)&argument;
        argument = 0;
        call();
        if (lost() || !argument) {
            eprintf("call %d lost %s\n", (int)n, argument ? lost() : "its answer");
            return 1;
        }
    }
    eprintf("kept\n");
    return 0;
}
