/* privileged KIND: an instruction that a tender emulates for Solo5's start, with a wild operand; or
 * one that it has no reason to. */
#include "uk.h"
UK_MANIFEST(0);
int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    uint64_t wild = 0x7f0000000000, zero = 0;
    eprintf("before\n");
    if (strcmp(kind, "lidt") == 0)
        __asm__ __volatile__("lidt (%0)" ::"r"(wild));
    if (strcmp(kind, "lgdt") == 0)
        __asm__ __volatile__("lgdt (%0)" ::"r"(wild));
    if (strcmp(kind, "ltr") == 0)
        __asm__ __volatile__("ltr %w0" ::"r"(0xfff8));
    if (strcmp(kind, "cr0") == 0)
        __asm__ __volatile__("mov %0, %%cr0" ::"r"(zero));
    if (strcmp(kind, "cr4") == 0)
        __asm__ __volatile__("mov %0, %%cr4" ::"r"(zero));
    if (strcmp(kind, "rdmsr") == 0)
        __asm__ __volatile__("rdmsr" ::"c"(0xc0000080) : "eax", "edx");
    if (strcmp(kind, "fs-wild") == 0) /* an FS base that is not canonical */
        __asm__ __volatile__("wrmsr" ::"c"(0xc0000100), "a"(0), "d"(0x80000000));
    if (strcmp(kind, "invlpg") == 0)
        __asm__ __volatile__("invlpg (%0)" ::"r"(wild));
    if (strcmp(kind, "iretq") == 0) /* to nowhere */
        __asm__ __volatile__("pushq $0; pushq $0; pushq $0; pushq $0xff; pushq $0; iretq");
    eprintf("after\n");
    return 3;
}
