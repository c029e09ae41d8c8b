/* calls WHAT [FD]: a guest that jumps to a system call in the page from which it is let through. */
#include "uk.h"

UK_FILTER();

#define TRAMPOLINE 0xd0000L
#define TRAMPOLINE_SIZE 1024
#define SAVED_STACK (*(volatile uint64_t *)0xd20c0)
#define SAVED_RETURN (*(volatile uint64_t *)0xd20c8)

enum { READ = 0, WRITE = 1, GETPID = 39, EXIT_GROUP = 231, CLOCK_GETTIME = 228, OPENAT = 257 };
enum { PPOLL = 271, PREADV2 = 327 };

static char text[4096] = "by hand\n";
static uint64_t stack[64], vectors[4] = {0, 8, 0, 8};

/* The N-th `syscall` of the page, 0: there are not so many. */
static uint64_t site(int n)
{
    const volatile uint8_t *code = (const uint8_t *)TRAMPOLINE;
    for (int i = 0; i + 1 < TRAMPOLINE_SIZE; i++)
        if (code[i] == 0x0f && code[i + 1] == 0x05 && n-- == 0)
            return TRAMPOLINE + (uint64_t)i;
    return 0;
}

static void jump(uint64_t to, long number, long a, long b, long c, long d, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = f;
    register uint64_t there __asm__("r12") = to;
    register uint64_t *top __asm__("r13") = stack + 32;
    /* What is there behind the call goes back as from a hypercall, if it returns. */
    __asm__ __volatile__("movq %%rsp, %[stack]\n"
                         "leaq 1f(%%rip), %%r14\n"
                         "movq %%r14, %[home]\n"
                         "movq %%r13, %%rsp\n"
                         "jmp *%%r12\n"
                         "1:\n"
                         : [stack] "=m"(SAVED_STACK), [home] "=m"(SAVED_RETURN), "+a"(number),
                           "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9), "+r"(there),
                           "+r"(top)
                         :
                         : "rcx", "r11", "r14", "cc", "memory");
}

static void own(long number, long a, long b, long c)
{
    __asm__ __volatile__("syscall"
                         : "+a"(number)
                         : "D"(a), "S"(b), "d"(c)
                         : "rcx", "r11", "memory");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long fd = 1, data = (long)text;
    if (argc > 2)
        uk_number(argv[2], &fd);
    uk_puts(text, 0); /* one call, so that its site is patched */
    vectors[0] = vectors[2] = (uint64_t)text;
    uint64_t to = site(1); /* a write: behind it stands a way back */
    if (strcmp(what, "write") == 0)
        jump(to, WRITE, fd, data, 8, 0, 0);
    else if (strcmp(what, "write-own") == 0)
        own(WRITE, 1, data, 8);
    else if (strcmp(what, "getpid") == 0)
        jump(to, GETPID, 0, 0, 0, 0, 0);
    else if (strcmp(what, "exit") == 0)
        jump(to, EXIT_GROUP, 0, 0, 0, 0, 0);
    else if (strcmp(what, "open") == 0)
        jump(to, OPENAT, -100, data, 0, 0, 0);
    else if (strcmp(what, "read") == 0)
        jump(to, READ, fd, data, 8, 0, 0);
    else if (strcmp(what, "readv") == 0)
        jump(to, PREADV2, fd, (long)vectors, 1, -1, 0);
    else if (strcmp(what, "readv-at") == 0)
        jump(to, PREADV2, fd, (long)vectors, 1, 0, 0);
    else if (strcmp(what, "readv-two") == 0)
        jump(to, PREADV2, fd, (long)vectors, 2, -1, 0);
    else if (strcmp(what, "readv-flag") == 0)
        jump(to, PREADV2, fd, (long)vectors, 1, -1, 1);
    else if (strcmp(what, "poll-two") == 0)
        jump(to, PPOLL, data, 2, 0, 0, 0);
    else if (strcmp(what, "poll-mask") == 0)
        jump(to, PPOLL, data, 1, 0, data, 0);
    else if (strcmp(what, "clock") == 0)
        jump(to, CLOCK_GETTIME, 1, data, 0, 0, 0);
    else if (strcmp(what, "ask") == 0) /* as the last of them does, and wrongly */
        for (int i = 0; site(i); i++)
            to = site(i);
    if (strcmp(what, "ask") == 0)
        jump(to, GETPID, 0, 0xfffffff0, 0x501, 0, 0);
    eprintf("went on\n");
    return 3;
}
