/*
 * stand_in: a tender in place of Solo5's v0.9, and its guest. It treats its descriptors as those
 * do: makes them non-blocking, takes a write that is short for the end, and by the name solo5-hvt
 * knows no end of file. The first network is the guest's input, the last one its output; its words
 * say what it does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int in = -1, out = -1, tells_end;
static char buffer[1 << 16];

static void put(const char *data, size_t size)
{
    ssize_t n = write(out, data, size);
    if (n != (ssize_t)size) { /* solo5-hvt: assert(wr->len == ret) */
        fprintf(stderr, "stand_in: wrote %zd of %zu\n", n, size);
        abort();
    }
}

/* What a guest reads; 0 at an end of file that it is told of. */
static size_t get(size_t size)
{
    for (;;) {
        ssize_t n = read(in, buffer, size);
        if (n > 0 || (n == 0 && tells_end))
            return (size_t)n;
        struct pollfd p = {.fd = in, .events = POLLIN};
        if (n == 0)
            usleep(10000);
        else
            poll(&p, 1, 1000);
    }
}

static long ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int act(const char *verb, long n)
{
    if (strcmp(verb, "copy") == 0) {
        for (size_t got; (got = get(sizeof buffer)) > 0;)
            put(buffer, got);
        return 0;
    }
    if (strcmp(verb, "burst") == 0) { /* n pieces of 16 KiB, at the first input */
        get(sizeof buffer);
        while (n-- > 0)
            put(buffer, 16384);
        return 7;
    }
    if (strcmp(verb, "compute") == 0) { /* for n ms, on the first input */
        get(sizeof buffer);
        for (long until = ms() + n; ms() < until;)
            for (volatile long i = 0; i < 1000000; i++)
                ;
        put("done\n", 5);
        return 7;
    }
    if (strcmp(verb, "again") == 0) { /* where nothing has come, has something else to do */
        if (read(in, buffer, sizeof buffer) >= 0 || errno != EAGAIN)
            return 1;
        put(".", 1);
        return 7;
    }
    if (strcmp(verb, "spin") == 0) /* reads end of file over and over */
        for (;;)
            if (read(in, buffer, sizeof buffer) > 0)
                put(".", 1);
    if (strcmp(verb, "console") == 0) { /* n lines, one in 100 ms */
        get(sizeof buffer);
        while (n-- > 0) {
            usleep(100000);
            if (write(1, "line\n", 5) != 5)
                return 1;
        }
        return 7;
    }
    if (strcmp(verb, "say") == 0) { /* n KiB on standard error */
        while (n-- > 0)
            fprintf(stderr, "%1023s\n", "word");
        return 7;
    }
    if (strcmp(verb, "refuse") == 0) { /* as from v0.10 on, in two pieces */
        fprintf(stderr, "solo5-spt: Could not attach inter");
        usleep(100000);
        fprintf(stderr, "face: @5: Success\nUsage: not for you\n");
        return 1;
    }
    if (strcmp(verb, "die") == 0)
        raise((int)n);
    return 99;
}

int main(int argc, char **argv)
{
    tells_end = strstr(argv[0], "hvt") == NULL;
    for (int i = 1; i < argc; i++) {
        char *at = strstr(argv[i], "=@");
        if (strncmp(argv[i], "--net:", 6) == 0 && at) {
            out = atoi(at + 2);
            in = in < 0 ? out : in;
            if (fcntl(out, F_SETFL, O_NONBLOCK) < 0)
                return 98;
        }
        if (strcmp(argv[i], "--") == 0) { /* image, --solo5:quiet, verb, number */
            const char *both = i + 5 < argc ? argv[i + 5] : "";
            out = strcmp(both, "both-ways") == 0 ? in : out;
            return i + 3 < argc ? act(argv[i + 3], i + 4 < argc ? atol(argv[i + 4]) : 0) : 97;
        }
    }
    return 96;
}
