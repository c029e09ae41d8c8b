/* mailbox WHAT: a guest that meddles with the page that it shares with the poller. */
#include "uk.h"

UK_MANIFEST(0);

#define MAILBOX 0xd2000L
#define TRAMPOLINE 0xd0000L

static volatile uint64_t *const word = (void *)MAILBOX;
static uint64_t answer;

static void ask(uint64_t gpa, unsigned number)
{
    *word = gpa << 32 | number << 8 | 1;
}

/* Enough ordinary hypercalls for the poller to be awake. */
static void warm_up(void)
{
    for (int i = 0; i < 20000; i++)
        uk_walltime();
}

static int scribble(long rounds)
{
    uint64_t x = 88172645463325252UL, good = 0;
    for (long i = 0; i < rounds; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        *word =
            x & 0xff ? x | 2 : (uint64_t)&answer << 32 | 0x101; /* BUSY, RETRY, 6 ... or a call */
        good += uk_walltime() != 0;
    }
    eprintf("%d of %d\n", (int)good, (int)rounds);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    warm_up();
    if (strcmp(what, "scribble") == 0)
        return scribble(20000);
    if (strcmp(what, "wild-address") == 0)
        ask(0xfffffff0, 1);
    else if (strcmp(what, "tables") == 0)
        ask(0x1000, 1);
    else if (strcmp(what, "itself") == 0)
        ask(MAILBOX + 8, 1);
    else if (strcmp(what, "unknown") == 0)
        ask((uint64_t)&answer, 99);
    else if (strcmp(what, "halt") == 0)
        ask((uint64_t)&answer, 8);
    else if (strcmp(what, "write-trampoline") == 0)
        *(volatile uint8_t *)TRAMPOLINE = 0x90;
    else if (strcmp(what, "run-mailbox") == 0) {
        *(volatile uint8_t *)(MAILBOX + 512) = 0xc3;
        ((void (*)(void))(MAILBOX + 512))();
    }
    for (int i = 0; i < 1000000 && *word & 0xff; i++)
        __asm__ __volatile__("pause");
    warm_up();
    eprintf("survived\n");
    return 3;
}
