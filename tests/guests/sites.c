/* sites: hypercalls of which two share one `out`, as compilers like to have it. Prints how often
 * each was answered. */
#include "uk.h"

UK_FILTER();

/* time_site asks for WALLTIME; puts_site for PUTS, by a jump into the middle of the other. */
__asm__("time_site:\n"
        "  movl $0x501, %edx\n"
        "shared:\n"
        "  outl %eax, %dx\n"
        "  ret\n"
        "puts_site:\n"
        "  movl $0x502, %edx\n"
        "  jmp shared\n");
void time_site(void);
void puts_site(void);

static volatile uint64_t now;
static volatile struct {
    const char *data;
    size_t len;
} line;

static void ask(void (*site)(void), volatile void *arguments)
{
    __asm__ __volatile__("call *%1"
                         :
                         : "a"((uint32_t)(uintptr_t)arguments), "r"(site)
                         : "rdx", "memory");
}

int main(int argc, char **argv)
{
    int answered = 0;
    (void)argc, (void)argv;
    line.data = "line\n";
    line.len = 5;
    for (int i = 0; i < 40; i++) {
        now = 0;
        ask(time_site, &now);
        answered += now != 0;
        if (i % 10 == 9)
            ask(puts_site, &line);
    }
    return answered;
}
