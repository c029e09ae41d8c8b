/*
 * bpf.h: how a seccomp program is written down, the tender's own (sandbox.c) and a guest's
 * (child.c).
 *
 * A rule allows one system call; all others fall through it, with their number still loaded. It
 * begins with uk_rule(), goes on with what the arguments must be, or the process is killed, and
 * ends with uk_rule_end().
 */
#ifndef UKFILTER_BPF_H
#define UKFILTER_BPF_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "core.h"

struct uk_program {
    struct sock_filter code[2048];
    unsigned length;
};

/* Descriptors, or processes: ascending, each once. */
struct uk_set {
    uint32_t numbers[2 * UK_MAX_HANDLES + 4];
    unsigned count;
};

#define UK_LOAD(field)                                                                             \
    (struct sock_filter)                                                                           \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define UK_LOAD_HIGH(field)                                                                        \
    (struct sock_filter)                                                                           \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field) + 4)
#define UK_RETURN(action) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, action)
#define UK_IF_EQUAL(value, yes, no)                                                                \
    (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), yes, no)
#define UK_IF_LEAST(value, yes, no)                                                                \
    (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)(value), yes, no)

void uk_program_begin(struct uk_program *p);
void uk_emit(struct uk_program *p, struct sock_filter instruction);
unsigned uk_rule(struct uk_program *p, unsigned number);
void uk_rule_among(struct uk_program *p, unsigned argument, const uint32_t *values, unsigned n);
void uk_rule_equal(struct uk_program *p, unsigned argument, uint64_t value);
void uk_rule_end(struct uk_program *p, unsigned rule);
void uk_allow(struct uk_program *p, unsigned number);
void uk_allow_on(struct uk_program *p, unsigned number, unsigned argument,
                 const struct uk_set *values);

void uk_set_add(struct uk_set *s, int number);
void uk_set_join(struct uk_set *s, const struct uk_set *other);
bool uk_set_gap(const struct uk_set *s, unsigned i, unsigned *from, unsigned *to);

#endif
