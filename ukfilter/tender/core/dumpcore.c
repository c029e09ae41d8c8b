/*
 * dumpcore.c: --dumpcore: what a guest had in memory and registers at its abort, as an ELF core.
 *
 * The tender is confined by then: it may create the one file that uk_core_prepare() named, never
 * open one that is there. Trap: code in guest memory is not what the image has, as hypercall sites
 * are patched; it is loaded again. Layout: struct elf_prstatus of Linux's elfcore.h, and System V's
 * gABI, "Program Header".
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include <unistd.h>

#include "exitless.h"

#define PAGE 4096UL
#define ABORTED 255   /* SOLO5_EXIT_ABORT; a fault is one as well */
#define TRAP_FRAME 16 /* what the processor pushed stands behind cr2 and the error code */

struct head { /* the first page of the file; guest memory follows */
    Elf64_Ehdr elf;
    Elf64_Phdr notes, memory;
    uint32_t pad; /* so that nothing lies between the note's head and the status */
    Elf64_Nhdr note;
    char owner[8];
    struct elf_prstatus status;
};

static void fill(const struct uk_guest *g, struct head *h)
{
    memset(h, 0, sizeof *h);
    memcpy(h->elf.e_ident, ELFMAG, SELFMAG);
    h->elf.e_ident[EI_CLASS] = ELFCLASS64;
    h->elf.e_ident[EI_DATA] = ELFDATA2LSB;
    h->elf.e_ident[EI_VERSION] = h->elf.e_version = EV_CURRENT;
    h->elf.e_type = ET_CORE;
    h->elf.e_machine = EM_X86_64;
    h->elf.e_ehsize = sizeof h->elf;
    h->elf.e_phoff = offsetof(struct head, notes);
    h->elf.e_phentsize = sizeof h->notes;
    h->elf.e_phnum = 2;
    h->notes.p_type = PT_NOTE;
    h->notes.p_offset = offsetof(struct head, note);
    h->notes.p_filesz = sizeof *h - offsetof(struct head, note);
    h->memory.p_type = PT_LOAD;
    h->memory.p_flags = PF_R | PF_W | PF_X;
    h->memory.p_offset = PAGE;
    h->memory.p_filesz = h->memory.p_memsz = g->mem_size;
    h->memory.p_align = PAGE;
    h->note.n_namesz = sizeof "CORE";
    h->note.n_descsz = sizeof h->status;
    h->note.n_type = NT_PRSTATUS;
    memcpy(h->owner, "CORE", sizeof "CORE");
    h->status.pr_pid = g->pid;
    h->status.pr_cursig = g->failed || g->halt_cookie ? SIGSEGV : SIGABRT;
}

/* The guest's registers; if a trap handler of its own ended it, those that the trap found, as far
 * as it tells: struct trap_regs of Solo5's cpu_x86_64.h. */
static bool registers(struct uk_guest *g, struct user_regs_struct *r)
{
    if (!(g->tender == UK_KVM ? uk_kvm_regs(g, r) : uk_process_regs(g, r)))
        return false;
    uk_patch_caller(g, r);
    const uint8_t *trap =
        uk_guest_range(g, g->halt_cookie, TRAP_FRAME + sizeof(struct uk_frame), false);
    if (!g->halt_cookie || !trap)
        return true;
    struct uk_frame f;
    memcpy(&f, trap + TRAP_FRAME, sizeof f);
    r->rip = f.rip, r->cs = f.cs, r->eflags = f.rflags, r->rsp = f.rsp, r->ss = f.ss;
    return true;
}

/* Code as the image has it. */
static void restore_code(struct uk_guest *g)
{
    for (uint32_t i = 0; i < g->segment_count; i++)
        if (!(g->segments[i].flags & PF_W))
            uk_segment_load(g, &g->segments[i]);
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static bool put(int fd, const void *data, size_t size, uint64_t at)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)data + done, size - done, (off_t)(at + done));
        if (n <= 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* The pages that hold something: where memory is a file, a look at a hole would fill it. */
static bool put_memory(const struct uk_guest *g, int fd)
{
    for (uint64_t at = 0; at < g->mem_size; at += PAGE) {
        if (g->mem_fd >= 0) {
            off_t data = lseek(g->mem_fd, (off_t)at, SEEK_DATA);
            if (data < 0)
                break;
            at = (uint64_t)data & ~(PAGE - 1);
        }
        if (!is_zero(g->mem + at) && !put(fd, g->mem + at, PAGE, PAGE + at))
            return false;
    }
    return ftruncate(fd, (off_t)(PAGE + g->mem_size)) == 0;
}

/*
 * Choose the name and the descriptor's number. The name lies in a page that nobody can write to
 * once the tender is confined, so that a filter can let it pass by its address.
 */
int uk_core_prepare(struct uk_guest *g)
{
    static char name[PAGE] __attribute__((aligned(PAGE)));
    if (g->core_dir_fd < 0)
        return 0;
    snprintf(name, sizeof name, "core.solo5-%s.%d", g->spt ? "spt" : "hvt", (int)g->pid);
    /* The next file that is opened gets the lowest number that is free. */
    g->core_fd = fcntl(g->core_dir_fd, F_DUPFD, 0);
    if (g->core_fd < 0 || close(g->core_fd) || mprotect(name, sizeof name, PROT_READ))
        return uk_error(g, "cannot prepare for --dumpcore");
    g->core_name = name;
    return 0;
}

/* If the guest aborted and this is asked for, write its core and say where; or why not. */
void uk_dump_core(struct uk_guest *g)
{
    static struct head head;
    struct user_regs_struct regs;
    if (g->core_dir_fd < 0 || g->status != ABORTED)
        return;
    sigset_t limit;
    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &limit, NULL); /* a core that is too large is said to be */
    int fd = openat(g->core_dir_fd, g->core_name, UK_CORE_FLAGS, UK_CORE_MODE);
    fill(g, &head);
    if (registers(g, &regs))
        memcpy(&head.status.pr_reg, &regs, sizeof regs);
    restore_code(g);
    if (fd < 0 || !put(fd, &head, sizeof head, 0) || !put_memory(g, fd))
        uk_say(g, "%s/%s: cannot write the guest's core: %s", g->core_dir, g->core_name,
               strerror(errno));
    else
        uk_say(g, "the guest's core is in %s/%s", g->core_dir, g->core_name);
}
