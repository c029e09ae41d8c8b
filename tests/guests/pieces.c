/* pieces: many small writes, one hypercall each. `turns N`: on the console and to the output, in
 * turns; `spin N`: to the output, then it computes for ever; `lines N L`: lines of 100 times the
 * letter L; `echo N`: to the output, and each is there to be read at once, where that is the input.
 */
#include "uk.h"
UK_FILTER();

static char line[101];

/* What was written is there, and no more than that. */
static bool comes_back(long turn)
{
    char back[2 * sizeof line];
    size_t length = sizeof back;
    if (turn % 2 && uk_poll(0, NULL) != 1)
        return false;
    return uk_net_read(1, back, &length) == UK_OK && length == sizeof line;
}

int main(int argc, char **argv)
{
    long count;
    if (argc < 3 || !uk_number(argv[2], &count))
        return 2;
    memset(line, argc > 3 ? argv[3][0] : '.', 100);
    line[100] = '\n';
    for (long i = 0; i < count; i++) {
        if (strcmp(argv[1], "turns") == 0) {
            eprintf("console %ld\n", i);
            uk_write("output\n", 7);
        } else {
            uk_write(line, sizeof line);
            if (strcmp(argv[1], "echo") == 0 && !comes_back(i))
                return 1;
        }
    }
    while (strcmp(argv[1], "spin") == 0)
        __asm__ __volatile__("");
    return 0;
}
