"""Build the tender core through cffi, API mode: module `ukfilter.tender._core`.

The C compiler checks what stands in CDEF against core.h: a field that is renamed there fails the build here.
"""

from __future__ import annotations

import os

from cffi import FFI

HERE = os.path.relpath(os.path.dirname(os.path.abspath(__file__)))
SOURCES = (
    "bpf.c",
    "child.c",
    "direct.c",
    "dumpcore.c",
    "gather.c",
    "guest.c",
    "handshake.c",
    "hypercall.c",
    "kvm.c",
    "output.c",
    "patch.c",
    "poller.c",
    "process.c",
    "report.c",
    "sandbox.c",
    "signals.c",
    "spt.c",
    "trace.c",
    "trap.c",
)

CDEF = """
#define UK_GPA_STUBS ...
#define UK_GPA_STACK_TOP ...
#define UK_GPA_BOOT_INFO ...
#define UK_GPA_BOOT_END ...
#define UK_GPA_BASE ...
#define UK_GPA_DOORBELL ...
#define UK_GPA_TRAMPOLINE ...
#define UK_GPA_TRAMPOLINE_END ...
#define UK_GPA_MAILBOX ...
#define UK_TRAP_PORT ...
#define UK_SPT_EPOLL_FD ...
#define UK_SPT_TIMER_FD ...
#define UK_SPT_DEVICE_FD ...
#define UK_MAX_HANDLES ...
#define UK_MAX_SEGMENTS ...

struct uk_segment {
    uint64_t offset, filesz, addr, memsz;
    uint32_t flags;
    ...;
};

struct uk_end {
    int32_t rfd, wfd;
    uint8_t attached, message;
    ...;
};

struct uk_block {
    uint64_t capacity;
    int32_t fd;
    uint32_t sector_size;
    uint8_t attached, read_only;
    ...;
};

struct uk_guest {
    const char *name, *shown;
    int32_t image_fd;
    uint64_t mem_size, entry;
    uint32_t segment_count;
    struct uk_segment segments[...];
    const uint8_t *low;
    uint64_t low_size;
    struct uk_end ends[...];
    struct uk_block blocks[...];
    int32_t console_fd;
    uint32_t eof_mode;
    uint64_t drain_ns;
    uint32_t verbose, show_stats;
    uint32_t tender, spt, may_fall_back;
    int32_t trace_fd, report_fd, core_dir_fd, core_fd;
    const char *core_dir;
    uint64_t timeout_ns;
    uint32_t exitless;
    uint64_t exitless_limit_ns;
    int32_t mem_fd, listener_fd, vcpu_fd, aside[2];
    bool unusable;
    char error[...];
    ...;
};

int uk_guest_run_here(struct uk_guest *g);
int uk_process_try(void);
int uk_guest_spawn(struct uk_guest *g, const int32_t standard[3], int32_t *pidfd);
"""

ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source(
    "ukfilter.tender._core",
    '#include "core.h"',
    sources=[os.path.join(HERE, name) for name in SOURCES],
    depends=[os.path.join(HERE, name) for name in ("core.h", "exitless.h", "hypercall.h")],
    include_dirs=[HERE],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"],
)
