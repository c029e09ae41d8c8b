/*
 * dumpcore.c: --dumpcore: what a guest had in memory and registers at its abort, as an ELF core.
 *
 * The tender is confined by then: it may create one file in one directory, never open one that is
 * there. Layout: struct elf_prstatus of Linux's elfcore.h, and System V's gABI, "Program Header".
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include "core.h"

#define PAGE 4096UL
#define ABORTED 255 /* SOLO5_EXIT_ABORT; a fault is one as well */

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

/* If the guest aborted and this is asked for, write its core and say where; or why not. */
void uk_dump_core(struct uk_guest *g)
{
    static struct head head;
    char name[64];
    if (g->core_dir_fd < 0 || g->status != ABORTED)
        return;
    snprintf(name, sizeof name, "core.solo5-%s.%d", g->spt ? "spt" : "hvt", (int)g->pid);
    int fd = openat(g->core_dir_fd, name, UK_CORE_FLAGS, 0600);
    fill(g, &head);
    struct user_regs_struct regs;
    bool known = g->tender == UK_KVM ? uk_kvm_regs(g, &regs) : uk_process_regs(g, &regs);
    if (known)
        memcpy(&head.status.pr_reg, &regs, sizeof regs);
    if (fd < 0 || !put(fd, &head, sizeof head, 0) || !put_memory(g, fd))
        uk_say(g, "%s/%s: cannot write the guest's core: %s", g->core_dir, name, strerror(errno));
    else
        uk_say(g, "the guest's core is in %s/%s", g->core_dir, name);
}
