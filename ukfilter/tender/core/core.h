/*
 * core.h: what the files of the tender core share.
 *
 * One `struct uk_guest` is one guest: what was laid out for it by Python, its memory, and the state
 * of its devices. hypercall.c serves what the guest asks for, kvm.c enters it, sandbox.c shuts the
 * door behind the tender. Nothing here allocates; the structure belongs to the caller.
 */
#ifndef UKFILTER_CORE_H
#define UKFILTER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest-physical layout of low memory; layout.py writes it, and a test compares the two. */
#define UK_GPA_STUBS 0x8000      /* IDT, then 32 trap stubs of 8 bytes (supervisor) */
#define UK_GPA_STUBS_END 0x9000  /* end of that page */
#define UK_GPA_STACK_TOP 0xa000  /* the stubs' stack, one page, grows down from here */
#define UK_GPA_BOOT_INFO 0x10000 /* user, read-only: boot info, command line, manifest */
#define UK_GPA_BOOT_END 0x15000  /* end of what the guest may read below UK_GPA_BASE */
/* User, executable: where hypercall sites lead to (handshake.c, direct.c); in its last KiB, what
 * direct.c looks up. */
#define UK_GPA_TRAMPOLINE 0xd0000
#define UK_GPA_TABLE 0xd1c00
#define UK_GPA_TRAMPOLINE_END 0xd2000
#define UK_GPA_MAILBOX 0xd2000  /* user, writable: a page that it shares with the tender */
#define UK_GPA_DOORBELL 0xf0000 /* a page without memory: a store there is a hypercall (kvm.c) */
#define UK_GPA_BASE 0x100000    /* lowest address of an image: HVT_GUEST_MIN_BASE of hvt_abi.h */
#define UK_BOOT_TSC_HZ 16       /* offset of cpu_cycle_freq in struct hvt_boot_info */
#define UK_BOOT_MANIFEST 32     /* ... and of the manifest's address */
#define UK_SPT_BOOT_MANIFEST 24 /* the same in struct spt_boot_info */
#define UK_MANIFEST_HEAD 8      /* bytes before the first entry of a manifest, mft_abi.h */
#define UK_MANIFEST_ENTRY 104   /* of an entry, which begins with its name */
#define UK_TRAP_PORT 0x80       /* stub v tells of vector v by a write to this port + v */
#define UK_HYPERCALL_PORT 0x500 /* HVT_HYPERCALL_PIO_BASE */

/* Descriptors as a guest of the spt target knows them; layout.py and devices.py tell it. */
#define UK_SPT_EPOLL_FD 900
#define UK_SPT_TIMER_FD 901
#define UK_SPT_DEVICE_FD 1000 /* and the handle */

#define UK_MAX_HANDLES 64  /* MFT_MAX_ENTRIES of mft_abi.h */
#define UK_MAX_SEGMENTS 64 /* more program headers than any linker writes for a unikernel */

enum uk_eof { UK_EOF_AUTO, UK_EOF_ZERO, UK_EOF_HALT, UK_EOF_ERROR, UK_EOF_AGAIN };

/* What a read takes: all there is; one message of a seqpacket socket; one of a datagram socket or a
 * tap, which have no end. */
enum uk_message { UK_STREAM, UK_MESSAGES, UK_MESSAGES_FOR_EVER };

enum uk_tender { UK_KVM, UK_PROCESS };

enum uk_exitless { UK_EXITLESS_AUTO, UK_EXITLESS_ON, UK_EXITLESS_OFF };

enum uk_verdict { UK_GO, UK_END, UK_WOULD_SLEEP };

struct uk_segment { /* a PT_LOAD; bytes */
    uint64_t offset, filesz, addr, memsz;
    uint32_t flags; /* PF_X 1, PF_W 2, PF_R 4 */
};

struct uk_end { /* the host side of one network device; the index in the table is its handle */
    int32_t rfd, wfd; /* -1: none (a read is end of file, a write is EINVAL) */
    uint8_t attached;
    uint8_t message;   /* enum uk_message */
    uint8_t eof;       /* end of file was seen, for good */
    uint8_t announced; /* POLL has reported that end of file, and no read has come since */
    uint8_t blocking;  /* RWF_NOWAIT is not to be had: poll first, then read */
    uint8_t slow;      /* a read may take long though poll says that it is ready */
};

struct uk_block {      /* the host side of one block device, at the same index as its handle */
    uint64_t capacity; /* bytes, a multiple of the sector size */
    int32_t fd;
    uint32_t sector_size;
    uint8_t attached, read_only;
};

struct uk_stats {
    uint64_t bytes_in, bytes_out, hypercalls, exits, started_ns;
};

struct uk_guest {
    /* laid out by Python */
    const char *name;  /* the image, as it is called: any bytes but a slash */
    const char *shown; /* the same in one line of text, for messages */
    int32_t image_fd;
    uint64_t mem_size, entry;
    uint32_t segment_count;
    struct uk_segment segments[UK_MAX_SEGMENTS];
    const uint8_t *low; /* the bytes from guest address 0 on */
    uint64_t low_size;
    struct uk_end ends[UK_MAX_HANDLES];
    struct uk_block blocks[UK_MAX_HANDLES];
    int32_t console_fd; /* -1: thrown away */
    uint32_t eof_mode;  /* enum uk_eof */
    uint64_t drain_ns;
    uint32_t verbose, show_stats;
    uint32_t tender;            /* enum uk_tender */
    uint32_t spt;               /* the image is for spt: it makes system calls, which are served */
    uint32_t may_fall_back;     /* from KVM, where that cannot be used, to a process */
    int32_t trace_fd;           /* --trace; -1: none */
    int32_t report_fd;          /* --status-fd; -1: none */
    int32_t core_dir_fd;        /* --dumpcore; -1: none */
    const char *core_dir;       /* its name, for the message, in one line of text */
    uint64_t timeout_ns;        /* 0: none */
    uint32_t exitless;          /* enum uk_exitless */
    uint64_t exitless_limit_ns; /* for what the guest waits, to force races; 0: by an exit's cost */

    /* running */
    uint8_t *mem;
    int32_t mem_fd;      /* process: the memory as a file, which the child maps too; else -1 */
    int32_t pid;         /* the tender's own */
    int32_t child;       /* process: the traced child's pid; else 0 */
    int32_t listener_fd; /* process: where it asks by a system call; else -1 */
    bool direct;         /* process: it reads and writes itself */
    int32_t vcpu_fd;     /* KVM; else -1 */
    int32_t aside[2];    /* gather.c: a pipe for what is on its way to another, both ends; or -1 */
    void *kvm_run;
    uint64_t kvm_run_size;
    uint32_t sync_regs;
    uint32_t eof_reads; /* reads of end of file in a row, with no output between */
    uint64_t unpolled;  /* bytes read since it last asked what is ready */
    uint64_t idle_since_ns;
    uint64_t written; /* bytes of the write that is asked for, by the guest itself */
    bool input_ended; /* one is at its end: it matters what the guest asks for, and when */
    uint64_t idt_base, gdt_base; /* as the guest's own lidt and lgdt had it */
    uint16_t idt_limit, gdt_limit, tss_selector;
    uint64_t fs_base, gs_base, fault_address;
    uint64_t spt_deadline_ns; /* until when a guest of spt waits */
    uint32_t filter_length;
    int32_t core_fd;       /* the number that the core file will have */
    const char *core_name; /* the core file's, in a page that cannot be written to */
    uint64_t halt_cookie;  /* what the guest said at its end: where its trap frame lies, or 0 */
    uint64_t tsc_hz;
    bool exitless_open;       /* the poller is there */
    bool exitless_active;     /* KVM: what an exit costs is known, and the poller may serve */
    uint32_t trampoline_size; /* bytes; the stubs are behind it */
    uint32_t stubs;           /* how many hypercall sites are led there */
    uint64_t poll_ns; /* how long a POLL that may not sleep looks for something to be ready */
    struct uk_stats stats;

    /* over */
    int32_t status;
    char reason[200]; /* why it ended, for --stats and messages */
    bool failed;      /* the reason goes to stderr, unasked */
    bool timed_out;
    bool unusable;   /* the tender cannot be used here at all */
    char error[200]; /* why it could not be started */
};

/* hypercall.c */
enum uk_verdict uk_hypercall(struct uk_guest *g, unsigned number, uint64_t gpa, bool may_sleep);
void *uk_guest_range(struct uk_guest *g, uint64_t gpa, uint64_t len, bool write);
uint64_t uk_now_ns(void);

/* direct.c */
void uk_direct_count(const struct uk_guest *g, struct uk_stats *stats);

/* gather.c */
void uk_gather_open(struct uk_guest *g);
enum uk_verdict uk_flush(struct uk_guest *g);
uint64_t uk_gather_due(void);

/* guest.c: memory, beginning and end */
int uk_guest_load(struct uk_guest *g);
int uk_segment_load(struct uk_guest *g, const struct uk_segment *s);
enum uk_verdict uk_end(struct uk_guest *g, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum uk_verdict uk_fail(struct uk_guest *g, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int uk_error(struct uk_guest *g, const char *what);
void uk_say(const struct uk_guest *g, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
_Noreturn void uk_finish(struct uk_guest *g);
int uk_guest_run_here(struct uk_guest *g);
int uk_guest_spawn(struct uk_guest *g, const int32_t standard[3], int32_t *pidfd);

/* report.c: what is told of a guest, to a person and to a program */
void uk_report_start(const struct uk_guest *g);
void uk_report_end(const struct uk_guest *g, int signal);
void uk_report_failure(const struct uk_guest *g, int status);

/* signals.c */
int uk_signals_watch(struct uk_guest *g);
void uk_signals_reset(void);
void uk_tell(int fd, const void *text, size_t length);

/* dumpcore.c */
#define UK_CORE_FLAGS (O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW)
#define UK_CORE_MODE 0600
int uk_core_prepare(struct uk_guest *g);
void uk_dump_core(struct uk_guest *g);

/* kvm.c */
struct user_regs_struct;
bool uk_kvm_regs(struct uk_guest *g, struct user_regs_struct *out);
int uk_kvm_open(struct uk_guest *g);
void uk_kvm_loop(struct uk_guest *g);

/* child.c */
int uk_process_open(struct uk_guest *g);
int uk_process_try(void);

/* process.c */
int uk_process_watch(struct uk_guest *g);
bool uk_process_regs(struct uk_guest *g, struct user_regs_struct *out);
void uk_process_end(struct uk_guest *g);
void uk_process_loop(struct uk_guest *g);

/* spt.c */
enum uk_verdict uk_spt_call(struct uk_guest *g, struct user_regs_struct *r);

/* trap.c: what a guest at ring 3 may not do itself */
struct uk_frame { /* what the processor pushes on an exception, in memory order; SDM 3A 6.14.2 */
    uint64_t rip, cs, rflags, rsp, ss;
};
#define UK_ACCESS_UNKNOWN                                                                          \
    (1ULL << 32) /* with a page fault's error code: no telling if read or write */
struct uk_regs { /* of the guest, by x86 register number: rax 0, rcx 1, rdx 2 ... r15 15 */
    uint64_t r[16];
    bool dirty, msrs_dirty;
};
bool uk_has_error_code(unsigned vector);
bool uk_is_site(const uint8_t *code, uint8_t last);
enum uk_verdict uk_trap(struct uk_guest *g, unsigned vector, uint64_t error, uint64_t cr2,
                        struct uk_frame *frame, struct uk_regs *regs);

/* sandbox.c */
int uk_sandbox_close(struct uk_guest *g);
int uk_sandbox_enter(struct uk_guest *g);
int uk_sandbox_no_core(struct uk_guest *g);

#endif
