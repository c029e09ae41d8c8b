/* string.c: the few that gcc itself calls, and a few more. */
#include "uk.h"

void *memcpy(void *to, const void *from, size_t n)
{
    void *at = to;
    __asm__ __volatile__("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n)
        return memcpy(to, from, n);
    char *t = to;
    const char *f = from;
    while (n--)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int value, size_t n)
{
    void *at = to;
    __asm__ __volatile__("rep stosb" : "+D"(at), "+c"(n) : "a"(value) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

void *memchr(const void *at, int value, size_t n)
{
    const unsigned char *p = at;
    for (size_t i = 0; i < n; i++)
        if (p[i] == (unsigned char)value)
            return (void *)(uintptr_t)(p + i);
    return NULL;
}

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

/* A whole decimal number, with a sign or without. */
bool uk_number(const char *s, long *value)
{
    bool negative = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    if (!*s)
        return false;
    unsigned long v = 0;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || v > 900000000000000000UL)
            return false;
        v = 10 * v + (unsigned long)(*s - '0');
    }
    *value = negative ? -(long)v : (long)v;
    return true;
}
