/*
 * listen WHAT: reads as long as there is something, as MirageOS does it, and knows of no end of
 * file. echo: writes each frame at once, the empty ones too. pause: once there is no more to read.
 * sleep: 300 ms after that.
 */
#include "uk.h"

UK_FILTER();

#define FRAME 1500
#define DAY 86400000000000UL
#define PAUSE 300000000UL

static char queue[8 << 20];
static size_t queued;
static uint64_t due;

static void send_queue(void)
{
    uk_write(queue, queued);
    queued = 0;
    due = 0;
}

/* True if there was a frame. */
static int take_frame(int at_once)
{
    size_t len = FRAME;
    if (queued + len > sizeof queue) {
        eprintf("out of memory\n");
        uk_halt(4);
    }
    if (uk_net_read(UK_IN, queue + queued, &len) != UK_OK)
        return 0;
    if (at_once)
        uk_net_write(UK_OUT, queue, len);
    else
        queued += len;
    return 1;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t pause = strcmp(what, "sleep") == 0 ? PAUSE : 0;
    for (;;) {
        while (take_frame(strcmp(what, "echo") == 0))
            ;
        if (queued && !due)
            due = uk_walltime() + pause;
        uint64_t now = uk_walltime();
        if (queued && now >= due)
            send_queue();
        uk_poll(!queued ? DAY : due > now ? due - now : 0, NULL);
    }
}
