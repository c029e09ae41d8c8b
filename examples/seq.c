/* seq: the numbers from FIRST (1) to LAST by STEP (1); it has no input. */
#include "uk.h"

UK_MANIFEST(1, UK_NET("stdout"));

static char buffer[65536];
static size_t used;

static void flush(void)
{
    if (used && uk_net_write(1, buffer, used) != UK_OK)
        uk_halt(1);
    used = 0;
}

static void emit(long value)
{
    char text[24];
    size_t at = sizeof text;
    unsigned long v = value < 0 ? -(unsigned long)value : (unsigned long)value;
    text[--at] = '\n';
    do
        text[--at] = (char)('0' + v % 10);
    while (v /= 10);
    if (value < 0)
        text[--at] = '-';
    if (used + sizeof text > sizeof buffer)
        flush();
    memcpy(buffer + used, text + at, sizeof text - at);
    used += sizeof text - at;
}

int main(int argc, char **argv)
{
    long v[3] = {1, 1, 1};
    bool good = argc >= 2 && argc <= 4;
    for (int i = 1; good && i < argc; i++)
        good = uk_number(argv[i], &v[i - 1]);
    long first = argc > 2 ? v[0] : 1, step = argc == 4 ? v[1] : 1, last = good ? v[argc - 2] : 0;
    if (!good || step == 0) {
        eprintf("usage: seq [FIRST [STEP]] LAST\n");
        return 1;
    }
    for (long i = first; step > 0 ? i <= last : i >= last;) {
        emit(i);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    flush();
    return 0;
}
