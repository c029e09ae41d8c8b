/*
 * trace.c: --trace: one line a hypercall, in strace's manner: time since the start, the call with
 * its arguments, the result, the time that it took. One write a line.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "hypercall.h"

#define SHOWN 32 /* bytes of data in a line, as strace has it */

struct line {
    char text[512];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    size_t room = sizeof l->text - l->length;
    int n = vsnprintf(l->text + l->length, room, format, ap);
    va_end(ap);
    l->length += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

/* The start of the bytes at a guest address, quoted as in C; the address alone where it is wild. */
static void add_data(struct line *l, struct uk_guest *g, uint64_t gpa, uint64_t length)
{
    const uint8_t *data = uk_guest_range(g, gpa, length, false);
    if (!data) {
        add(l, "0x%llx", (unsigned long long)gpa);
        return;
    }
    add(l, "\"");
    for (uint64_t i = 0; i < length && i < SHOWN; i++) {
        static const char names[] = "abtnvfr"; /* \a is 7 */
        uint8_t c = data[i];
        if (c == '"' || c == '\\')
            add(l, "\\%c", c);
        else if (c >= 7 && c <= 13)
            add(l, "\\%c", names[c - 7]);
        else if (c < 32 || c > 126)
            add(l, "\\%03o", c);
        else
            add(l, "%c", c);
    }
    add(l, length > SHOWN ? "\"..." : "\"");
}

static const char *ret_name(int32_t ret)
{
    static const char *const names[] = {"OK", "AGAIN", "EINVAL", "EUNSPEC"};
    return ret >= 0 && ret < 4 ? names[ret] : "?";
}

static void add_poll(struct line *l, const struct uk_poll_arg *asked,
                     const struct uk_poll_arg *answer)
{
    if (asked->timeout_nsecs == ~0ULL)
        add(l, "for ever");
    else
        add(l, "%llu ns", (unsigned long long)asked->timeout_nsecs);
    add(l, ") = %d ready {", answer->ret);
    const char *separator = "";
    for (unsigned h = 0; h < UK_MAX_HANDLES; h++)
        if (answer->ready_set >> h & 1) {
            add(l, "%s%u", separator, h);
            separator = ", ";
        }
    add(l, "}");
}

static void add_block(struct line *l, struct uk_guest *g, const struct uk_block_arg *asked,
                      const struct uk_block_arg *answer)
{
    add(l, "%llu, offset %llu, ", (unsigned long long)asked->handle,
        (unsigned long long)asked->offset);
    add_data(l, g, asked->data, asked->len);
    add(l, ", %llu) = %s", (unsigned long long)asked->len, ret_name(answer->ret));
}

static void add_call(struct line *l, struct uk_guest *g, unsigned number, const union uk_arg *asked,
                     const union uk_arg *answer)
{
    const struct uk_net_arg *net = &asked->net;
    add(l, "%s(", uk_calls[number].name);
    switch (number) {
    case UK_HC_WALLTIME:
        add(l, ") = %llu ns", (unsigned long long)answer->walltime.nsecs);
        break;
    case UK_HC_PUTS:
        add_data(l, g, asked->puts.data, asked->puts.len);
        add(l, ", %llu)", (unsigned long long)asked->puts.len);
        break;
    case UK_HC_POLL:
        add_poll(l, &asked->poll, &answer->poll);
        break;
    case UK_HC_NET_WRITE:
        add(l, "%llu, ", (unsigned long long)net->handle);
        add_data(l, g, net->data, net->len);
        add(l, ", %llu) = %s", (unsigned long long)net->len, ret_name(answer->net.ret));
        break;
    case UK_HC_NET_READ:
        add(l, "%llu, ", (unsigned long long)net->handle);
        add_data(l, g, net->data, answer->net.ret == UK_RET_OK ? answer->net.len : 0);
        add(l, ", %llu) = %s", (unsigned long long)net->len, ret_name(answer->net.ret));
        if (answer->net.ret == UK_RET_OK)
            add(l, ", %llu bytes", (unsigned long long)answer->net.len);
        break;
    case UK_HC_HALT:
        add(l, "%d)", asked->halt.status);
        break;
    default:
        add_block(l, g, &asked->block, &answer->block);
    }
}

/* One hypercall was served: asked is what the guest gave, answer what it gets. */
void uk_trace(struct uk_guest *g, unsigned number, const union uk_arg *asked,
              const union uk_arg *answer, enum uk_verdict verdict, uint64_t start_ns)
{
    struct line l = {.length = 0};
    uint64_t now = uk_now_ns();
    add(&l, "%12.6f ", (double)(start_ns - g->stats.started_ns) / 1e9);
    add_call(&l, g, number, asked, answer);
    if (verdict == UK_END && number != UK_HC_HALT)
        add(&l, " = ? (%s)", g->reason);
    add(&l, " <%.6f>", (double)(now - start_ns) / 1e9);
    if (l.length > sizeof l.text - 2)
        l.length = sizeof l.text - 2;
    l.text[l.length++] = '\n';
    uk_tell(g->trace_fd, l.text, l.length);
}
