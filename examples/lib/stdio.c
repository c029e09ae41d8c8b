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

/* Where text goes: len is all of it, used what stands in the buffer. Without emit a full one drops
 * the rest. */
struct sink {
    char *to;
    size_t size, len, used;
    void (*emit)(const void *data, size_t len);
};

static void put(struct sink *s, char c)
{
    if (s->used == s->size && s->emit) {
        s->emit(s->to, s->used);
        s->used = 0;
    }
    if (s->used < s->size)
        s->to[s->used++] = c;
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

/* A sign, zeros and text, in a field of the width asked for. */
static void put_field(struct sink *s, const struct spec *f, bool negative, int zeros,
                      const char *text, size_t len)
{
    zeros = zeros > 0 ? zeros : 0;
    int spaces = f->width - negative - zeros - (int)len;
    if (!f->left)
        pad(s, ' ', spaces);
    pad(s, '-', negative);
    pad(s, '0', zeros);
    for (size_t i = 0; i < len; i++)
        put(s, text[i]);
    if (f->left)
        pad(s, ' ', spaces);
}

static void put_text(struct sink *s, const struct spec *f, const char *text, size_t len)
{
    put_field(s, f, false, 0, text, len);
}

static void put_number(struct sink *s, const struct spec *f, bool negative, uint64_t v,
                       unsigned base)
{
    char text[24];
    size_t at = sizeof text;
    for (; v || (at == sizeof text && f->precision != 0); v /= base)
        text[--at] = "0123456789abcdef"[v % base];
    int len = (int)(sizeof text - at);
    int least = f->precision >= 0 ? f->precision : f->zero && !f->left ? f->width - negative : 0;
    put_field(s, f, negative, least - len, text + at, (size_t)len);
}

#define LIMBS 35 /* of nine digits: the largest double has 309 */
#define PLACES_MAX 18

/* A double of 2^63 or more, which is a whole number: its bits, doubled as often as its exponent has
 * it. */
static void put_large(struct sink *s, uint64_t mantissa, int exponent)
{
    static const uint32_t base = 1000000000;
    uint32_t limb[LIMBS] = {(uint32_t)(mantissa % base), (uint32_t)(mantissa / base)};
    while (exponent-- > 0) {
        uint32_t carry = 0;
        for (int i = 0; i < LIMBS; i++) {
            uint32_t v = 2 * limb[i] + carry;
            carry = v >= base;
            limb[i] = v - carry * base;
        }
    }
    int top = LIMBS - 1;
    while (top > 0 && limb[top] == 0)
        top--;
    struct spec first = {.precision = -1}, next = {.precision = 9};
    for (int i = top; i >= 0; i--)
        put_number(s, i == top ? &first : &next, false, limb[i], 10);
}

/* %f, exactly rounded, half to even, with 18 places at most. */
static void put_double(struct sink *s, const struct spec *f, double v)
{
    char text[400];
    struct sink t = {.to = text, .size = sizeof text};
    struct spec plain = {.precision = -1};
    int places = f->precision < 0 ? 6 : f->precision > PLACES_MAX ? PLACES_MAX : f->precision;
    uint64_t bits, scale = 1, part = 0;
    memcpy(&bits, &v, sizeof bits);
    bool negative = bits >> 63;
    int biased = bits >> 52 & 0x7ff;
    int exponent = (biased ? biased : 1) - 1075; /* |v| is mantissa * 2^exponent */
    uint64_t mantissa = (bits & ((1ULL << 52) - 1)) | (uint64_t)(biased != 0) << 52;
    for (int i = 0; i < places; i++)
        scale *= 10;
    if (biased == 0x7ff) {
        put_field(s, f, negative, 0, v != v ? "nan" : "inf", 3);
        return;
    }
    if (exponent > 10) {
        put_large(&t, mantissa, exponent);
    } else {
        uint64_t whole = exponent >= 0    ? mantissa << exponent
                         : exponent > -64 ? mantissa >> -exponent
                                          : 0;
        if (exponent < 0 && exponent > -127) { /* what is smaller rounds to 0 */
            unsigned __int128 one = (unsigned __int128)1 << -exponent;
            unsigned __int128 scaled = (mantissa & (one - 1)) * scale, rest = scaled & (one - 1);
            part = (uint64_t)(scaled >> -exponent);
            bool odd = (places ? part : whole) & 1;
            part += rest > one / 2 || (rest == one / 2 && odd);
        }
        put_number(&t, &plain, false, whole + part / scale, 10);
    }
    if (places) {
        struct spec digits = {.precision = places};
        put(&t, '.');
        put_number(&t, &digits, false, part % scale, 10);
    }
    int zeros = f->zero && !f->left ? f->width - negative - (int)t.len : 0;
    put_field(s, f, negative, zeros, text, t.len);
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

/* %d %i %u %x %c %s %f %%, with l, ll and z, width, precision, - and 0. */
static void format_to(struct sink *s, const char *format, __builtin_va_list ap)
{
    for (const char *at = format; *at; at++) {
        if (*at != '%') {
            put(s, *at);
            continue;
        }
        struct spec f;
        at = parse_spec(at + 1, &f);
        bool wide = *at == 'l' || *at == 'z';
        while (*at == 'l' || *at == 'z')
            at++;
        if (*at == 'd' || *at == 'i') {
            int64_t v = wide ? __builtin_va_arg(ap, int64_t) : __builtin_va_arg(ap, int);
            put_number(s, &f, v < 0, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
        } else if (*at == 'u' || *at == 'x') {
            uint64_t v = wide ? __builtin_va_arg(ap, uint64_t) : __builtin_va_arg(ap, unsigned);
            put_number(s, &f, false, v, *at == 'x' ? 16 : 10);
        } else if (*at == 's') {
            const char *text = __builtin_va_arg(ap, const char *);
            size_t len = strlen(text);
            put_text(s, &f, text,
                     f.precision >= 0 && len > (size_t)f.precision ? (size_t)f.precision : len);
        } else if (*at == 'c') {
            char c = (char)__builtin_va_arg(ap, int);
            put_text(s, &f, &c, 1);
        } else if (*at == 'f') {
            put_double(s, &f, __builtin_va_arg(ap, double));
        } else {
            put(s, *at);
        }
    }
}

/* The length, as vsnprintf has it; what is beyond the size is dropped. */
int uk_vformat(char *to, size_t size, const char *format, __builtin_va_list ap)
{
    struct sink s = {.to = to, .size = size};
    format_to(&s, format, ap);
    return (int)s.len;
}

#define LINE 4096

int printf(const char *format, ...)
{
    char text[LINE];
    struct sink s = {.to = text, .size = sizeof text, .emit = uk_put};
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    format_to(&s, format, ap);
    __builtin_va_end(ap);
    uk_put(text, s.used);
    return (int)s.len;
}

static void put_console(const void *data, size_t len)
{
    uk_puts(data, len);
}

int eprintf(const char *format, ...)
{
    char text[LINE];
    struct sink s = {.to = text, .size = sizeof text, .emit = put_console};
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    format_to(&s, format, ap);
    __builtin_va_end(ap);
    uk_puts(text, s.used);
    return (int)s.len;
}
