/* fault KIND: one fault of that kind; nothing here handles it. */
#include "uk.h"
UK_MANIFEST(0);
static uint8_t data_code[16] = {0xc3};
__attribute__((noinline)) static int deep(volatile int *above)
{
    volatile char room[65536];
    room[0] = (char)*above;
    return *above == 12345 ? 0 : deep((volatile int *)room) + room[0];
}
int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    volatile int zero = 0;
    eprintf("before\n");
    if (strcmp(kind, "page") == 0)
        *(volatile int *)0x7f0000000000 = 1;
    if (strcmp(kind, "null") == 0)
        zero = *(volatile int *)(uintptr_t)zero;
    if (strcmp(kind, "data") == 0)
        ((void (*)(void))data_code)();
    if (strcmp(kind, "text") == 0)
        *(volatile uint8_t *)(uintptr_t)main = 0x90;
    if (strcmp(kind, "constant") == 0)
        *(volatile char *)(uintptr_t)uk_name = 'x';
    if (strcmp(kind, "boot") == 0)
        ((volatile struct uk_boot_info *)(uintptr_t)uk_boot)->mem_size = 1;
    if (strcmp(kind, "tables") == 0)
        *(volatile uint64_t *)0x20000 = 7;
    if (strcmp(kind, "doorbell") ==
        0) /* the tender's page without memory: a store would be a call */
        zero = *(volatile int *)0xf0000;
    if (strcmp(kind, "beyond") == 0)
        zero = *(volatile int *)uk_boot->mem_size;
    if (strcmp(kind, "undefined") == 0)
        __asm__ __volatile__("ud2");
    if (strcmp(kind, "divide") == 0)
        __asm__ __volatile__("xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
    if (strcmp(kind, "hlt") == 0)
        __asm__ __volatile__("hlt");
    if (strcmp(kind, "cr3") == 0)
        __asm__ __volatile__("mov %%rax, %%cr3" ::"a"(0UL));
    if (strcmp(kind, "msr") == 0)
        __asm__ __volatile__("wrmsr" ::"c"(0xc0000080), "a"(0), "d"(0));
    if (strcmp(kind, "in") == 0)
        __asm__ __volatile__("in %%dx, %%al" ::"d"(0x3f8) : "eax");
    if (strcmp(kind, "out") == 0)
        __asm__ __volatile__("outb %%al, %%dx" ::"d"(0x8e), "a"(0));
    if (strcmp(kind, "int3") == 0)
        __asm__ __volatile__("int3");
    if (strcmp(kind, "int80") == 0)
        __asm__ __volatile__("int $0x80" ::"a"(1));
    if (strcmp(kind, "syscall") == 0)
        __asm__ __volatile__("syscall" ::"a"(39) : "rcx", "r11");
    if (strcmp(kind, "sysenter") == 0)
        __asm__ __volatile__("sysenter");
    if (strcmp(kind, "vsyscall") == 0)
        ((long (*)(void *))0xffffffffff600400)(NULL);
    if (strcmp(kind, "compat") == 0) {
        static struct {
            uint32_t offset;
            uint16_t selector;
        } far_pointer = {0x100000, 0x23};
        __asm__ __volatile__("ljmpl *%0" ::"m"(far_pointer));
    }
    if (strcmp(kind, "stack") == 0)
        return deep(&zero);
    eprintf("after\n");
    return 3;
}
