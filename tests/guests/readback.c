/* readback: writes a line, reads what is there, and again; for two ends that are one file. Prints
 * how many lines were there. */
#include "uk.h"

UK_FILTER();

#define ROUNDS 2000

int main(int argc, char **argv)
{
    int seen = 0;
    (void)argc, (void)argv;
    for (int i = 0; i < 3000; i++)
        uk_walltime(); /* quick ones, for the poller to be awake */
    for (int i = 0; i < ROUNDS; i++) {
        char line[8] = {'0' + i / 1000, '0' + i / 100 % 10, '0' + i / 10 % 10, '0' + i % 10, '\n'};
        char back[8] = {0};
        size_t len = 5;
        uk_net_write(UK_OUT, line, len);
        if (uk_net_read(UK_IN, back, &len) == 0 && memcmp(line, back, 5) == 0)
            seen++;
    }
    eprintf("%d of %d\n", seen, ROUNDS);
    return 0;
}
