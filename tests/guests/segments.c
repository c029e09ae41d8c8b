/* segments WHAT: a guest that loads segment registers, or their bases, by itself; then it asks for
 * an instruction that the tender does for it, as that goes through all registers. */
#include "uk.h"

UK_MANIFEST(0);

#define FS_BASE 0xc0000100U
#define GS_BASE 0xc0000101U

static void set_base(uint32_t which, uint64_t base)
{
    __asm__ __volatile__("wrmsr" : : "c"(which), "a"((uint32_t)base), "d"(base >> 32));
}

static uint64_t base_of(uint32_t which)
{
    uint32_t low, high;
    __asm__ __volatile__("rdmsr" : "=a"(low), "=d"(high) : "c"(which));
    return (uint64_t)high << 32 | low;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "data") == 0) {
        __asm__ __volatile__("movl %0, %%ds" : : "r"(0x28));
    } else if (strcmp(what, "null") == 0) {
        __asm__ __volatile__("movl %0, %%es" : : "r"(1));
    } else if (strcmp(what, "high-base") == 0) {
        set_base(FS_BASE, 0x7ffffffff800UL);
    } else if (strcmp(what, "base") == 0) {
        /* A selector brings its own base, 0; the other base is none of its business. */
        set_base(FS_BASE, 0x200000);
        __asm__ __volatile__("movl %0, %%fs" : : "r"(0x2b));
        set_base(GS_BASE, 0x300000);
        if (base_of(FS_BASE) != 0 || base_of(GS_BASE) != 0x300000)
            return 4;
    }
    __asm__ __volatile__("cli");
    return 3;
}
