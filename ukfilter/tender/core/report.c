/*
 * report.c: what is told of a guest: messages and --stats for a person, --status-fd for a program.
 *
 * A signal handler may be what calls it, so it uses nothing but its stack and write(2).
 */
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

struct json {
    char text[2048];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct json *j, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    size_t room = sizeof j->text - j->length;
    int n = vsnprintf(j->text + j->length, room, format, ap);
    va_end(ap);
    j->length += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

/* The bytes of the character at the start of text, 0 if it is none: RFC 3629, section 4. */
static int utf8_length(const char *text)
{
    const unsigned char *b = (const unsigned char *)text;
    int length = b[0] < 0x80 ? 1 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (b[0] >= 0x80 && (b[0] < 0xc2 || b[0] > 0xf4))
        return 0;
    for (int i = 1; i < length; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xf0 && b[1] < 0x90);
    bool surrogate = b[0] == 0xed && b[1] > 0x9f;
    bool too_large = b[0] == 0xf4 && b[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : length;
}

/* A string of JSON; a byte that is of no character goes as U+DC80 on, as Python's surrogateescape.
 */
static void add_string(struct json *j, const char *text)
{
    add(j, "\"");
    for (int length; *text; text += length ? length : 1) {
        unsigned char c = (unsigned char)*text;
        length = utf8_length(text);
        if (c == '"' || c == '\\')
            add(j, "\\%c", c);
        else if (!length)
            add(j, "\\udc%02x", c);
        else if (length > 1)
            add(j, "%.*s", length, text);
        else if (c < 32)
            add(j, "\\u%04x", c);
        else
            add(j, "%c", c);
    }
    add(j, "\"");
}

static void send(const struct uk_guest *g, struct json *j)
{
    add(j, "}");
    if (j->length > sizeof j->text - 2)
        j->length = sizeof j->text - 2;
    j->text[j->length++] = '\n';
    uk_tell(g->report_fd, j->text, j->length);
}

static double elapsed_ms(const struct uk_guest *g)
{
    return (double)(uk_now_ns() - g->stats.started_ns) / 1e6;
}

static struct uk_stats stats_of(const struct uk_guest *g)
{
    struct uk_stats all = g->stats;
    uk_direct_count(g, &all);
    return all;
}

/* The guest is about to run. */
void uk_report_start(const struct uk_guest *g)
{
    struct json j = {.length = 0};
    if (g->report_fd < 0)
        return;
    add(&j, "{\"event\":\"started\",\"pid\":%d,\"tender\":\"%s\",\"image\":", (int)g->pid,
        g->tender == UK_KVM ? "kvm" : "process");
    add_string(&j, g->name);
    send(g, &j);
}

static void report_exit(const struct uk_guest *g, int signal)
{
    struct uk_stats s = stats_of(g);
    struct json j = {.length = 0};
    if (signal)
        add(&j, "{\"event\":\"exit\",\"signal\":%d,\"reason\":\"killed by signal %d\"", signal,
            signal);
    else {
        add(&j, "{\"event\":\"exit\",\"status\":%d,\"reason\":", g->status);
        add_string(&j, g->reason);
    }
    add(&j,
        ",\"timed_out\":%s,\"bytes_in\":%llu,\"bytes_out\":%llu,\"hypercalls\":%llu,"
        "\"exits\":%llu,\"ms\":%.3f",
        g->timed_out ? "true" : "false", (unsigned long long)s.bytes_in,
        (unsigned long long)s.bytes_out, (unsigned long long)s.hypercalls,
        (unsigned long long)s.exits, elapsed_ms(g));
    send(g, &j);
}

static void say_stats(const struct uk_guest *g, int signal)
{
    struct uk_stats s = stats_of(g);
    char how[sizeof g->reason + 32];
    if (signal)
        snprintf(how, sizeof how, "killed by signal %d", signal);
    else
        snprintf(how, sizeof how, "status %d (%s)", g->status, g->reason);
    uk_say(g, "%s, in %llu bytes, out %llu bytes, %llu hypercalls, %llu exits, %.1f ms", how,
           (unsigned long long)s.bytes_in, (unsigned long long)s.bytes_out,
           (unsigned long long)s.hypercalls, (unsigned long long)s.exits, elapsed_ms(g));
    if (g->verbose)
        uk_say(g,
               "sandbox: no new privileges, no core dump, no descriptor but the ends%s, seccomp "
               "filter of %u instructions",
               g->tender == UK_KVM ? " and the vCPU" : "", g->filter_length);
}

/* The guest is over: by itself, or by a signal that its tender is about to die of. Told once; of
 * two threads that come to tell, the second stays here until the first ends the process. */
void uk_report_end(const struct uk_guest *g, int signal)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    /* initial-exec: no allocation on first use, in a signal handler */
    static _Thread_local bool telling __attribute__((tls_model("initial-exec")));
    while (atomic_flag_test_and_set(&told))
        if (telling)
            return; /* a signal came while this thread tells */
        else
            poll(NULL, 0, -1);
    telling = true;
    if (g->failed && !signal)
        uk_say(g, "%s", g->reason);
    if (g->show_stats)
        say_stats(g, signal);
    if (g->report_fd >= 0)
        report_exit(g, signal);
}

/* The guest could not be started, and status will be the exit status. */
void uk_report_failure(const struct uk_guest *g, int status)
{
    struct json j = {.length = 0};
    if (g->report_fd < 0)
        return;
    add(&j, "{\"event\":\"failed\",\"status\":%d,\"message\":", status);
    add_string(&j, g->error);
    send(g, &j);
}
