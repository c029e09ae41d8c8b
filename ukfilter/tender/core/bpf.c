/* bpf.c: see bpf.h. */
#include <string.h>

#include "bpf.h"

void uk_emit(struct uk_program *p, struct sock_filter instruction)
{
    p->code[p->length++] = instruction;
}

/* Begin a program: a system call of another architecture's kills. */
void uk_program_begin(struct uk_program *p)
{
    p->length = 0;
    uk_emit(p, UK_LOAD(arch));
    uk_emit(p, UK_IF_EQUAL(AUDIT_ARCH_X86_64, 1, 0));
    uk_emit(p, UK_RETURN(SECCOMP_RET_KILL_PROCESS));
}

/* Begin the rule of a system call. */
unsigned uk_rule(struct uk_program *p, unsigned number)
{
    uk_emit(p, UK_IF_EQUAL(number, 0, 0));
    return p->length;
}

/* The low half of the argument, which is all of an int's, must be one of these: less than 255. */
void uk_rule_among(struct uk_program *p, unsigned argument, const uint32_t *values, unsigned n)
{
    uk_emit(p, UK_LOAD(args[argument]));
    for (unsigned i = 0; i < n; i++)
        uk_emit(p, UK_IF_EQUAL(values[i], (uint8_t)(n - i), 0));
    uk_emit(p, UK_RETURN(SECCOMP_RET_KILL_PROCESS));
}

/* The argument must be this. */
void uk_rule_equal(struct uk_program *p, unsigned argument, uint64_t value)
{
    const uint32_t low = (uint32_t)value;
    uk_rule_among(p, argument, &low, 1);
    uk_emit(p, UK_LOAD_HIGH(args[argument]));
    uk_emit(p, UK_IF_EQUAL(value >> 32, 1, 0));
    uk_emit(p, UK_RETURN(SECCOMP_RET_KILL_PROCESS));
}

/* Allow what comes to the rule's end; other system calls go on behind it. */
void uk_rule_end(struct uk_program *p, unsigned rule)
{
    uk_emit(p, UK_RETURN(SECCOMP_RET_ALLOW));
    p->code[rule - 1].jf = (uint8_t)(p->length - rule);
}

/* Allow a system call, whatever its arguments. */
void uk_allow(struct uk_program *p, unsigned number)
{
    uk_rule_end(p, uk_rule(p, number));
}

/* Allow a system call if an argument, an int, is one of these. */
void uk_allow_on(struct uk_program *p, unsigned number, unsigned argument,
                 const struct uk_set *values)
{
    unsigned rule = uk_rule(p, number);
    uk_rule_among(p, argument, values->numbers, values->count);
    uk_rule_end(p, rule);
}

/* Negative: none. */
void uk_set_add(struct uk_set *s, int number)
{
    unsigned at = 0;
    if (number < 0)
        return;
    while (at < s->count && s->numbers[at] < (uint32_t)number)
        at++;
    if (at < s->count && s->numbers[at] == (uint32_t)number)
        return;
    memmove(&s->numbers[at + 1], &s->numbers[at], (s->count - at) * sizeof s->numbers[0]);
    s->numbers[at] = (uint32_t)number;
    s->count++;
}

void uk_set_join(struct uk_set *s, const struct uk_set *other)
{
    for (unsigned i = 0; i < other->count; i++)
        uk_set_add(s, (int)other->numbers[i]);
}

/* The i-th range of numbers that are not in the set, i from 0 to its count: to close them. False:
 * it is empty. */
bool uk_set_gap(const struct uk_set *s, unsigned i, unsigned *from, unsigned *to)
{
    *from = i > 0 ? s->numbers[i - 1] + 1 : 0;
    *to = i < s->count ? s->numbers[i] - 1 : ~0U;
    return i < s->count ? *from < s->numbers[i] : true;
}
