/* stdio.c: reading that waits, buffered writing, lines, and printf. */
#include "uk.h"

#define BUFFER 65536
#define FOREVER (~0ULL >> 1)

static char input[BUFFER], output[BUFFER];
static size_t in_at, in_end, out_end;
static bool in_over;

static void die(const char *what)
{
    eprintf("%s: %s\n", uk_name, what);
    uk_halt(2);
}

/* What is ready now, or else the next that comes; 0 at end of file. */
size_t uk_read(void *buffer, size_t size)
{
    for (;;) {
        size_t len = size;
        int ret = uk_net_read(UK_IN, buffer, &len);
        if (ret == UK_OK)
            return len;
        if (ret != UK_AGAIN)
            die("read error");
        uk_poll(FOREVER, NULL);
    }
}

void uk_write(const void *data, size_t len)
{
    if (len && uk_net_write(UK_OUT, data, len) != UK_OK)
        die("write error");
}

void uk_flush(void)
{
    uk_write(output, out_end);
    out_end = 0;
}

void uk_put(const void *data, size_t len)
{
    if (len > BUFFER - out_end)
        uk_flush();
    if (len >= BUFFER) {
        uk_write(data, len);
        return;
    }
    memcpy(output + out_end, data, len);
    out_end += len;
}

static bool fill(void)
{
    if (in_at == in_end && !in_over) {
        in_at = 0;
        in_end = uk_read(input, BUFFER);
        in_over = in_end == 0;
    }
    return in_at < in_end;
}

int uk_getc(void)
{
    return fill() ? (unsigned char)input[in_at++] : -1;
}

/* The next line, newline included if it has one, in memory that the next call uses again. */
ptrdiff_t uk_getline(char **line)
{
    size_t room, len = 0;
    char *heap = uk_heap(&room);
    *line = heap;
    while (fill()) {
        char *newline = memchr(input + in_at, '\n', in_end - in_at);
        size_t part = newline ? (size_t)(newline + 1 - (input + in_at)) : in_end - in_at;
        if (len + part > room)
            die("line too long for the guest's memory");
        memcpy(heap + len, input + in_at, part);
        len += part;
        in_at += part;
        if (newline)
            break;
    }
    return len ? (ptrdiff_t)len : -1;
}

struct sink {
    char *to;
    size_t size, len;
};

static void put(struct sink *s, char c)
{
    if (s->len < s->size)
        s->to[s->len] = c;
    s->len++;
}

static void pad(struct sink *s, char c, int count)
{
    while (count-- > 0)
        put(s, c);
}

struct spec {
    bool left, zero;
    int width, precision; /* -1: none */
};

static void put_text(struct sink *s, const struct spec *f, const char *text, size_t len)
{
    int fill_count = f->width - (int)len;
    if (!f->left)
        pad(s, ' ', fill_count);
    for (size_t i = 0; i < len; i++)
        put(s, text[i]);
    if (f->left)
        pad(s, ' ', fill_count);
}

static void put_number(struct sink *s, const struct spec *f, bool negative, uint64_t v,
                       unsigned base)
{
    char text[80];
    size_t at = sizeof text;
    do
        text[--at] = "0123456789abcdef"[v % base];
    while (v /= base);
    int least = f->precision >= 0 ? f->precision : f->zero && !f->left ? f->width - negative : 0;
    while ((int)(sizeof text - at) < least && at > 1)
        text[--at] = '0';
    if (negative)
        text[--at] = '-';
    put_text(s, f, text + at, sizeof text - at);
}

/* %f for what is below 2^63: whole and fraction as integers, rounded half up at the last place. */
static void put_double(struct sink *s, const struct spec *f, double v)
{
    char text[80];
    struct sink t = {text, sizeof text, 0};
    struct spec plain = {.precision = -1};
    int places = f->precision < 0 ? 6 : f->precision > 15 ? 15 : f->precision;
    uint64_t scale = 1;
    for (int i = 0; i < places; i++)
        scale *= 10;
    bool negative = v < 0;
    v = negative ? -v : v;
    if (!(v < 9e18)) {
        put_text(s, f, v != v ? "nan" : "inf", 3);
        return;
    }
    uint64_t whole = (uint64_t)v, part = (uint64_t)((v - (double)whole) * (double)scale + 0.5);
    whole += part / scale;
    part %= scale;
    put_number(&t, &plain, negative, whole, 10);
    if (places) {
        struct spec digits = {.precision = places};
        put(&t, '.');
        put_number(&t, &digits, false, part, 10);
    }
    put_text(s, f, text, t.len);
}

static int decimal(const char **at)
{
    int v = 0;
    while (**at >= '0' && **at <= '9')
        v = 10 * v + (*(*at)++ - '0');
    return v;
}

static const char *parse_spec(const char *at, struct spec *f)
{
    *f = (struct spec){.precision = -1};
    for (; *at == '-' || *at == '0'; at++) {
        f->left |= *at == '-';
        f->zero |= *at == '0';
    }
    f->width = decimal(&at);
    if (*at == '.') {
        at++;
        f->precision = decimal(&at);
    }
    return at;
}

/* %d %i %u %x %c %s %f %%, with l, ll and z, width, precision, - and 0. The length, as vsnprintf
 * has it. */
int uk_vformat(char *to, size_t size, const char *format, __builtin_va_list ap)
{
    struct sink s = {to, size, 0};
    for (const char *at = format; *at; at++) {
        if (*at != '%') {
            put(&s, *at);
            continue;
        }
        struct spec f;
        at = parse_spec(at + 1, &f);
        bool wide = *at == 'l' || *at == 'z';
        while (*at == 'l' || *at == 'z')
            at++;
        if (*at == 'd' || *at == 'i') {
            int64_t v = wide ? __builtin_va_arg(ap, int64_t) : __builtin_va_arg(ap, int);
            put_number(&s, &f, v < 0, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
        } else if (*at == 'u' || *at == 'x') {
            uint64_t v = wide ? __builtin_va_arg(ap, uint64_t) : __builtin_va_arg(ap, unsigned);
            put_number(&s, &f, false, v, *at == 'x' ? 16 : 10);
        } else if (*at == 's') {
            const char *text = __builtin_va_arg(ap, const char *);
            size_t len = strlen(text);
            put_text(&s, &f, text,
                     f.precision >= 0 && len > (size_t)f.precision ? (size_t)f.precision : len);
        } else if (*at == 'c') {
            char c = (char)__builtin_va_arg(ap, int);
            put_text(&s, &f, &c, 1);
        } else if (*at == 'f') {
            put_double(&s, &f, __builtin_va_arg(ap, double));
        } else {
            put(&s, *at);
        }
    }
    return (int)s.len;
}

#define LINE 4096

int printf(const char *format, ...)
{
    char text[LINE];
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    int n = uk_vformat(text, sizeof text, format, ap);
    __builtin_va_end(ap);
    uk_put(text, (size_t)n < sizeof text ? (size_t)n : sizeof text);
    return n;
}

int eprintf(const char *format, ...)
{
    char text[LINE];
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    int n = uk_vformat(text, sizeof text, format, ap);
    __builtin_va_end(ap);
    uk_puts(text, (size_t)n < sizeof text ? (size_t)n : sizeof text);
    return n;
}
