/*
 * kvm.c: enter the guest by KVM, at ring 3, and say what it asked for.
 *
 * The one mode for every KVM: guest code runs at CPL 3 with IOPL 3. Its `out` either exits with the
 * port (hardware KVM) or raises #GP (software KVM), which one of the tender's stubs in low memory
 * turns into an exit; the processor's frame then lies at a known place, the top of the stubs'
 * stack.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/user.h>
#include <unistd.h>

#include "exitless.h"

/* Selectors and addresses of layout.py's descriptor tables. */
#define GPA_PML4 0x1000
#define GPA_GDT 0x7000
#define GDT_LIMIT 0x5f
#define GPA_TSS 0x7100
#define TSS_LIMIT 0x67
#define IDT_LIMIT (32 * 16 - 1)
#define SEL_USER_CODE 0x33
#define SEL_USER_DATA 0x2b
#define SEL_TSS 0x40

/* SDM volume 3A, 2.5 "Control registers", and 2.2.1 "Extended feature enable register". */
#define CR0_PE_MP_ET_NE_WP_PG 0x80010033
#define CR4_PAE 0x20
#define CR4_OSFXSR_OSXMMEXCPT 0x600
#define CR4_OSXSAVE 0x40000
#define EFER_LME_LMA_NXE 0xd00
#define RFLAGS_IOPL3 0x3002
#define XCR0_WANTED 0xe7 /* x87, SSE, AVX and the three parts of AVX-512 */
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

#define CPUID_MAX 256

static int add_memory(struct uk_guest *g, int vm, unsigned slot, uint64_t from, uint64_t to)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = from,
        .memory_size = to - from,
        .userspace_addr = (uintptr_t)g->mem + from,
    };
    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int open_vcpu(struct uk_guest *g, int kvm)
{
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0)
        return uk_error(g, "/dev/kvm: cannot create a virtual machine");
    if (add_memory(g, vm, 0, 0, UK_GPA_DOORBELL) ||
        add_memory(g, vm, 1, UK_GPA_DOORBELL + 4096, g->mem_size))
        return uk_error(g, "/dev/kvm: cannot give the guest its memory");
    g->vcpu_fd = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (g->vcpu_fd < 0)
        return uk_error(g, "/dev/kvm: cannot create a virtual processor");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    g->kvm_run_size = size > 0 ? (uint64_t)size : 4096;
    g->kvm_run = mmap(NULL, g->kvm_run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu_fd, 0);
    if (g->kvm_run == MAP_FAILED)
        return uk_error(g, "/dev/kvm: cannot map the virtual processor");
    int sync = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
    g->sync_regs = sync > 0 && (sync & KVM_SYNC_X86_REGS);
    close(vm); /* the vCPU keeps it */
    return 0;
}

/* At a machine's first run KVM makes a thread of its own, for which there may be no process left:
 * better known now than once there is no way back. */
static int try_to_run(struct uk_guest *g)
{
    struct kvm_run *run = g->kvm_run;
    run->immediate_exit = 1;
    bool runs = ioctl(g->vcpu_fd, KVM_RUN, 0) == 0 || errno == EINTR;
    run->immediate_exit = 0;
    return runs ? 0 : uk_error(g, "/dev/kvm: cannot run a virtual processor");
}

/* Tell the guest what the host has; *xcr0 gets the state components that may be switched on. */
static int set_cpuid(struct uk_guest *g, int kvm, uint64_t *xcr0)
{
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[CPUID_MAX];
    } id;
    id.head.nent = CPUID_MAX;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &id) || ioctl(g->vcpu_fd, KVM_SET_CPUID2, &id))
        return uk_error(g, "/dev/kvm: cannot set the processor's features");

    bool xsave = false;
    for (unsigned i = 0; i < id.head.nent; i++) {
        const struct kvm_cpuid_entry2 *e = &id.entries[i];
        if (e->function == 1)
            xsave = e->ecx >> 26 & 1;
        if (e->function == 0xd && e->index == 0)
            *xcr0 = e->eax & XCR0_WANTED;
    }
    if (!xsave)
        *xcr0 = 0;
    return 0;
}

static struct kvm_segment flat(unsigned selector, unsigned type, bool code)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = (uint16_t)selector,
                                .type = (uint8_t)type,
                                .present = 1,
                                .dpl = 3,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

static int set_sregs(struct uk_guest *g, uint64_t xcr0)
{
    struct kvm_sregs s;
    if (ioctl(g->vcpu_fd, KVM_GET_SREGS, &s))
        return uk_error(g, "/dev/kvm: cannot read the segment registers");
    s.cs = flat(SEL_USER_CODE, 0xb, true);
    s.ds = s.es = s.fs = s.gs = s.ss = flat(SEL_USER_DATA, 0x3, false);
    s.tr = (struct kvm_segment){
        .base = GPA_TSS, .limit = TSS_LIMIT, .selector = SEL_TSS, .type = 0xb, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = GPA_GDT, .limit = GDT_LIMIT};
    s.idt = (struct kvm_dtable){.base = UK_GPA_STUBS, .limit = IDT_LIMIT};
    s.cr0 = CR0_PE_MP_ET_NE_WP_PG;
    s.cr3 = GPA_PML4;
    s.cr4 = CR4_PAE | CR4_OSFXSR_OSXMMEXCPT | (xcr0 ? CR4_OSXSAVE : 0);
    s.efer = EFER_LME_LMA_NXE;
    if (ioctl(g->vcpu_fd, KVM_SET_SREGS, &s))
        return uk_error(g, "/dev/kvm: cannot set the segment registers");
    return 0;
}

static int set_state(struct uk_guest *g, uint64_t xcr0)
{
    if (set_sregs(g, xcr0))
        return -1;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = xcr0}}};
    if (xcr0 && ioctl(g->vcpu_fd, KVM_SET_XCRS, &xcrs))
        return uk_error(g, "/dev/kvm: cannot enable the vector registers");
    struct kvm_regs regs = {
        .rip = g->entry, .rsp = g->mem_size - 8, .rdi = UK_GPA_BOOT_INFO, .rflags = RFLAGS_IOPL3};
    if (ioctl(g->vcpu_fd, KVM_SET_REGS, &regs))
        return uk_error(g, "/dev/kvm: cannot set the registers");
    int khz = ioctl(g->vcpu_fd, KVM_GET_TSC_KHZ, 0);
    if (khz <= 0)
        return uk_error(g, "/dev/kvm: cannot tell the frequency of the time-stamp counter");
    g->tsc_hz = (uint64_t)khz * 1000;
    memcpy(g->mem + UK_GPA_BOOT_INFO + UK_BOOT_TSC_HZ, &g->tsc_hz, sizeof g->tsc_hz);
    return 0;
}

/* Make the virtual machine around the loaded memory. -1: see g->error. */
int uk_kvm_open(struct uk_guest *g)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return uk_error(g, "/dev/kvm");
    uint64_t xcr0 = 0;
    if (open_vcpu(g, kvm) || set_cpuid(g, kvm, &xcr0) || set_state(g, xcr0) || try_to_run(g))
        return -1;
    uk_handshake_prepare(g);
    close(kvm);
    return 0;
}

static bool load_regs(struct uk_guest *g, struct kvm_regs *regs)
{
    struct kvm_run *run = g->kvm_run;
    if (!g->sync_regs)
        return ioctl(g->vcpu_fd, KVM_GET_REGS, regs) == 0;
    *regs = run->s.regs.regs;
    return true;
}

/* By register number as instructions encode it: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 ... */
static void to_numbered(const struct kvm_regs *k, struct uk_regs *r, const struct uk_frame *frame)
{
    const uint64_t low[8] = {k->rax, k->rcx, k->rdx, k->rbx, frame->rsp, k->rbp, k->rsi, k->rdi};
    memcpy(r->r, low, sizeof low);
    memcpy(r->r + 8, &k->r8, 8 * sizeof(uint64_t));
    r->dirty = r->msrs_dirty = false;
}

static bool store_regs(struct uk_guest *g, struct kvm_regs *k, const struct uk_regs *r)
{
    if (r->dirty) {
        k->rax = r->r[0], k->rcx = r->r[1], k->rdx = r->r[2], k->rbx = r->r[3];
        k->rbp = r->r[5], k->rsi = r->r[6], k->rdi = r->r[7];
        memcpy(&k->r8, r->r + 8, 8 * sizeof(uint64_t));
        if (ioctl(g->vcpu_fd, KVM_SET_REGS, k))
            return false;
    }
    if (r->msrs_dirty) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry entries[2];
        } m = {.head = {.nmsrs = 2},
               .entries = {{.index = MSR_FS_BASE, .data = g->fs_base},
                           {.index = MSR_GS_BASE, .data = g->gs_base}}};
        if (ioctl(g->vcpu_fd, KVM_SET_MSRS, &m) != 2)
            return false;
    }
    return true;
}

/* The guest's registers as a debugger knows them; an exception's are what the processor pushed. */
bool uk_kvm_regs(struct uk_guest *g, struct user_regs_struct *out)
{
    struct kvm_regs k;
    struct kvm_sregs s;
    if (ioctl(g->vcpu_fd, KVM_GET_REGS, &k) || ioctl(g->vcpu_fd, KVM_GET_SREGS, &s))
        return false;
    struct uk_frame frame = {k.rip, s.cs.selector, k.rflags, k.rsp, s.ss.selector};
    if (k.rip >= UK_GPA_STUBS && k.rip < UK_GPA_STUBS_END)
        memcpy(&frame, g->mem + UK_GPA_STACK_TOP - sizeof frame, sizeof frame);
    *out = (struct user_regs_struct){.rax = k.rax,
                                     .rbx = k.rbx,
                                     .rcx = k.rcx,
                                     .rdx = k.rdx,
                                     .rsi = k.rsi,
                                     .rdi = k.rdi,
                                     .rbp = k.rbp,
                                     .r8 = k.r8,
                                     .r9 = k.r9,
                                     .r10 = k.r10,
                                     .r11 = k.r11,
                                     .r12 = k.r12,
                                     .r13 = k.r13,
                                     .r14 = k.r14,
                                     .r15 = k.r15,
                                     .rip = frame.rip,
                                     .cs = frame.cs,
                                     .eflags = frame.rflags,
                                     .rsp = frame.rsp,
                                     .ss = frame.ss,
                                     .fs_base = s.fs.base,
                                     .gs_base = s.gs.base};
    return true;
}

/* A stub told of an exception at CPL 3. */
static enum uk_verdict handle_trap(struct uk_guest *g, struct kvm_regs *regs, unsigned vector)
{
    struct uk_frame *frame = (void *)(g->mem + UK_GPA_STACK_TOP - sizeof *frame);
    uint64_t error = 0, cr2 = 0;
    if (uk_has_error_code(vector))
        memcpy(&error, (uint8_t *)frame - 8, sizeof error);
    if (vector == 13 && error == 0 && (regs->rdx & 0xfff0) == UK_HYPERCALL_PORT) {
        const uint8_t *code = uk_guest_range(g, frame->rip, 1, false);
        if (code && *code == 0xef) { /* outl %eax, %dx */
            uk_patch(g, frame->rip - 5, regs->rdx & 0xf);
            frame->rip += 1;
            return uk_exit_call(g, (unsigned)(regs->rdx & 0xf), (uint32_t)regs->rax);
        }
    }
    struct uk_regs numbered;
    to_numbered(regs, &numbered, frame);
    struct kvm_sregs sregs;
    if (ioctl(g->vcpu_fd, KVM_GET_SREGS, &sregs) == 0) {
        cr2 = sregs.cr2;
        g->fs_base = sregs.fs.base, g->gs_base = sregs.gs.base; /* it can load them itself */
    }
    enum uk_verdict verdict = uk_trap(g, vector, error, cr2, frame, &numbered);
    if (verdict == UK_GO && !store_regs(g, regs, &numbered))
        return uk_fail(g, 125, "/dev/kvm: cannot set the guest's registers: %s", strerror(errno));
    return verdict;
}

static enum uk_verdict handle_io(struct uk_guest *g, struct kvm_run *run)
{
    struct kvm_regs regs;
    if (!load_regs(g, &regs))
        return uk_fail(g, 125, "/dev/kvm: cannot read the guest's registers: %s", strerror(errno));
    unsigned port = run->io.port;
    bool out = run->io.direction == KVM_EXIT_IO_OUT;
    /* Only a stub runs in the stubs' page, which is the supervisor's: a guest cannot forge a trap.
     */
    if (regs.rip >= UK_GPA_STUBS && regs.rip < UK_GPA_STUBS_END)
        return handle_trap(g, &regs, port - UK_TRAP_PORT);
    if (out && run->io.size == 4 && run->io.count == 1 && port >= UK_HYPERCALL_PORT &&
        port <= 0x5ff) {
        uint32_t gpa;
        memcpy(&gpa, (uint8_t *)run + run->io.data_offset, sizeof gpa);
        if (g->exitless_active) {
            /* rip is at the `out` or behind it, as KVM has it; a site alone is patched. */
            uk_patch(g, regs.rip - 5, port & 0xff);
            uk_patch(g, regs.rip - 6, port & 0xff);
        }
        return uk_exit_call(g, port - UK_HYPERCALL_PORT, gpa);
    }
    return uk_fail(g, 255, "privileged instruction: %s port 0x%x at rip 0x%llx",
                   out ? "write to" : "read of", port, (unsigned long long)regs.rip);
}

static enum uk_verdict handle_doorbell(struct uk_guest *g, struct kvm_run *run)
{
    uint64_t offset = run->mmio.phys_addr - UK_GPA_DOORBELL;
    struct kvm_regs regs;
    if (!load_regs(g, &regs))
        return uk_fail(g, 125, "/dev/kvm: cannot read the guest's registers: %s", strerror(errno));
    if (!run->mmio.is_write || run->mmio.len != 4 || offset % 4 || offset / 4 > 0xff)
        return uk_fail(g, 255,
                       "guest fault: access to address 0x%llx at rip 0x%llx, where no memory is",
                       (unsigned long long)run->mmio.phys_addr, (unsigned long long)regs.rip);
    uint32_t gpa;
    memcpy(&gpa, run->mmio.data, sizeof gpa);
    return uk_exit_call(g, (unsigned)(offset / 4), gpa);
}

static enum uk_verdict handle_exit(struct uk_guest *g, struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return handle_io(g, run);
    case KVM_EXIT_MMIO:
        return handle_doorbell(g, run);
    case KVM_EXIT_SHUTDOWN:
        return uk_fail(g, 255, "the guest's processor shut down (triple fault)");
    case KVM_EXIT_FAIL_ENTRY:
        return uk_fail(g, 125, "/dev/kvm: the guest could not be entered (reason 0x%llx)",
                       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        return uk_fail(g, 255, "/dev/kvm: cannot go on with the guest (internal error %u)",
                       run->internal.suberror);
    default:
        return uk_fail(g, 255, "unexpected exit of the virtual processor (reason %u)",
                       run->exit_reason);
    }
}

/* Run the guest to its end. */
void uk_kvm_loop(struct uk_guest *g)
{
    struct kvm_run *run = g->kvm_run;
    run->kvm_valid_regs = g->sync_regs ? KVM_SYNC_X86_REGS : 0;
    enum uk_verdict verdict = UK_GO;
    while (verdict == UK_GO) {
        int err = ioctl(g->vcpu_fd, KVM_RUN, 0) ? errno : 0;
        if (err == EINTR)
            continue;
        g->stats.exits += !err;
        uk_exit_begin(g);
        verdict = err ? uk_fail(g, 125, "/dev/kvm: cannot run the guest: %s", strerror(err))
                      : handle_exit(g, run);
        if (verdict == UK_GO)
            uk_exit_end(g);
    }
}
