/* eof WHAT [N]: what a guest may do at end of file. */
#include "uk.h"
UK_FILTER();
static char buffer[4096];
int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long n = 3;
    size_t len;
    int ret;
    if (argc > 2)
        uk_number(argv[2], &n);
    if (strcmp(what, "never-read") == 0) { /* waits, and looks at nothing */
        uint64_t until = uk_walltime() + (uint64_t)n * 1000000;
        while (uk_walltime() < until)
            uk_poll(until - uk_walltime(), NULL);
        return 6;
    }
    do { /* copy, up to and with the first read of end of file */
        len = sizeof buffer;
        ret = uk_net_read(UK_IN, buffer, &len);
        if (ret == UK_OK && len)
            uk_write(buffer, len);
        if (ret == UK_AGAIN && strcmp(what, "spin") != 0)
            uk_poll(1000000000, NULL);
    } while (ret == UK_AGAIN || (ret == UK_OK && len));
    if (strcmp(what, "again") == 0) { /* reads it n times, then ends by itself */
        for (long i = 0; i < n; i++) {
            len = sizeof buffer;
            ret = uk_net_read(UK_IN, buffer, &len);
            printf("%d:%zu\n", ret, len);
            uk_flush();
        }
        return 7;
    }
    if (strcmp(what, "spin") == 0) /* reads it for ever */
        for (;;) {
            len = sizeof buffer;
            uk_net_read(UK_IN, buffer, &len);
        }
    if (strcmp(what, "wait") == 0) /* waits for what cannot come */
        for (;;)
            uk_poll(3600000000000, NULL);
    if (strcmp(what, "late") ==
        0) { /* works on for n ms, waiting in between, then ends by itself */
        uint64_t until = uk_walltime() + (uint64_t)n * 1000000;
        while (uk_walltime() < until) {
            uk_poll(50000000, NULL);
            uk_write(".", 1);
        }
        return 8;
    }
    uint64_t ready = 0;
    int count = uk_poll(0, &ready);
    printf("ret %d len %zu poll %d ready %lx\n", ret, len, count, (unsigned long)ready);
    return 9;
}
