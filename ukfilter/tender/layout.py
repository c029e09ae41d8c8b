"""Guest memory below 0x100000 as bytes: page tables, descriptor tables, trap stubs, boot information.

Pure. All of it but the boot information is the supervisor's: the guest runs at ring 3 and can
reach neither the tables that confine it nor the null page. Addresses are guest-physical, which is
also what the guest sees (identity map). Layouts are from the SDM, volume 3A, chapters 4 to 7.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ukfilter.image import Segment

PAGE = 0x1000
LARGE = 0x200000
BASE = 0x100000

PML4 = 0x1000
PDPT = 0x2000
DIRECTORIES = 0x3000  # four of them: 4 GiB
GDT = 0x7000
TSS = 0x7100
IDT = 0x8000
STUBS = 0x8200
STACK_TOP = 0xA000
BOOT_INFO = 0x10000  # vm.mmap_min_addr of a stock kernel: a process could have it here as well
COMMAND_LINE = 0x11000
COMMAND_LINE_MAX = 8191  # HVT_CMDLINE_SIZE of hvt_abi.h, less the final NUL
MANIFEST = 0x13000
BOOT_END = 0x15000
TABLES = 0x20000  # page tables, as many as the image needs; up to TABLES_END
TABLES_END = 0xD0000
TRAMPOLINE, TRAMPOLINE_END = 0xD0000, 0xD2000  # code of the tender's that the guest runs (handshake.c)
MAILBOX = 0xD2000  # a page that guest and tender share
DOORBELL = 0xF0000  # a page without memory, writable: a store there exits to the tender (kvm.c)

SPT_EPOLL_FD, SPT_TIMER_FD = 900, 901  # numbers that only the tender's spt.c knows

PRESENT, WRITABLE, USER, LARGE_PAGE = 1, 2, 4, 0x80
ACCESSED_DIRTY = 0x60  # set beforehand, so that the processor need not write to the tables
NO_EXECUTE = 1 << 63
DATA = PRESENT | WRITABLE | USER | ACCESSED_DIRTY | NO_EXECUTE
SUPERVISOR = PRESENT | WRITABLE | ACCESSED_DIRTY | NO_EXECUTE

USER_DATA, USER_CODE, KERNEL_CODE, TASK = 0x28, 0x30, 0x08, 0x40
TRAP_PORT = 0x80
VECTORS = 32
ERROR_CODE_VECTORS = frozenset((8, 10, 11, 12, 13, 14, 17, 21, 29, 30))
USER_VECTORS = frozenset((3, 4))  # int3 and into may be raised by the guest's own instruction


class LayoutError(Exception):
    """The guest's command line does not fit."""


class ImageLayoutError(LayoutError):
    """The image does not fit."""


def build(
    segments: Sequence[Segment],
    mem_size: int,
    end: int,
    command_line: bytes,
    manifest: bytes,
    target: str = "hvt",
) -> bytes:
    """The bytes of guest memory from address 0 on.

    mem_size is in bytes, a multiple of 4096, at most 4 GiB; end is the first address after the
    image (`kernel_end`). cpu_cycle_freq stays 0: the tender fills it in. Raises LayoutError.
    """
    if len(command_line) > COMMAND_LINE_MAX:
        raise LayoutError(
            f"the guest's command line has {len(command_line)} bytes; Solo5 takes {COMMAND_LINE_MAX} at most"
        )
    tables = page_tables(segments, mem_size)
    low = bytearray(TABLES + PAGE * (len(tables) - 6))
    for index, entries in enumerate(tables):
        at = PML4 + PAGE * index if index < 6 else TABLES + PAGE * (index - 6)
        struct.pack_into(f"<{len(entries)}Q", low, at, *entries)
    _put(low, GDT, descriptors())
    _put(low, TSS, task_segment())
    _put(low, IDT, gates())
    _put(low, STUBS, stubs())
    _put(low, BOOT_INFO, (boot_info if target == "hvt" else spt_boot_info)(mem_size, end))
    _put(low, COMMAND_LINE, command_line)
    _put(low, MANIFEST, manifest)
    return bytes(low)


def _put(low: bytearray, at: int, data: bytes) -> None:
    low[at : at + len(data)] = data


def boot_info(mem_size: int, end: int) -> bytes:
    """struct hvt_boot_info of Solo5's hvt_abi.h, 56 bytes; no ring is offered."""
    return struct.pack("<5Q2IQ", mem_size, end, 0, COMMAND_LINE, MANIFEST, 0, 0, 0)


def spt_boot_info(mem_size: int, end: int) -> bytes:
    """struct spt_boot_info of Solo5's spt_abi.h, 40 bytes."""
    return struct.pack("<4Qii", mem_size, end, COMMAND_LINE, MANIFEST, SPT_EPOLL_FD, SPT_TIMER_FD)


def page_tables(segments: Sequence[Segment], mem_size: int) -> list[list[int]]:
    """Six upper tables (PML4, PDPT, four directories), then the page tables in the order of use.

    2 MiB pages, except where low memory, the image or the end of memory ask for 4 KiB ones.
    """
    fine = {0}
    for s in segments:
        fine.update(range(s.addr // LARGE, (s.addr + s.memsz - 1) // LARGE + 1))
    if mem_size % LARGE:
        fine.add(mem_size // LARGE)
    if TABLES + PAGE * len(fine) > TABLES_END:
        raise ImageLayoutError("the image is too large: its segments span more than 352 MB")
    directory = [0] * 2048
    for i in range(mem_size // LARGE):
        directory[i] = i * LARGE | DATA | LARGE_PAGE
    pages: list[list[int]] = []
    link = PRESENT | WRITABLE | USER | ACCESSED_DIRTY
    for i in sorted(fine):
        directory[i] = TABLES + PAGE * len(pages) | link
        pages.append(_page_table(i * LARGE, segments, mem_size))
    upper = [PDPT | link], [DIRECTORIES + PAGE * i | link for i in range(4)]
    return [*upper, *(directory[i : i + 512] for i in range(0, 2048, 512)), *pages]


def _page_table(start: int, segments: Sequence[Segment], mem_size: int) -> list[int]:
    stop = min(start + LARGE, mem_size)
    entries = [a | DATA for a in range(start, stop, PAGE)]
    for s in segments:
        bits = PRESENT | USER | ACCESSED_DIRTY
        bits |= WRITABLE if s.flags & 2 else 0
        bits |= 0 if s.flags & 1 else NO_EXECUTE
        first = max(s.addr & -PAGE, start)
        for a in range(first, min(s.addr + s.memsz, stop), PAGE):
            entries[(a - start) // PAGE] = a | bits
    if start == 0:
        entries[: BASE // PAGE] = [0] * (BASE // PAGE)
        entries[GDT // PAGE] = GDT | SUPERVISOR
        entries[IDT // PAGE] = IDT | PRESENT | ACCESSED_DIRTY
        entries[(STACK_TOP - 1) // PAGE] = STACK_TOP - PAGE | SUPERVISOR
        for a in range(BOOT_INFO, BOOT_END, PAGE):
            entries[a // PAGE] = a | PRESENT | USER | ACCESSED_DIRTY | NO_EXECUTE
        for a in range(TRAMPOLINE, TRAMPOLINE_END, PAGE):
            entries[a // PAGE] = a | PRESENT | USER | ACCESSED_DIRTY
        entries[MAILBOX // PAGE] = MAILBOX | DATA
        entries[DOORBELL // PAGE] = DOORBELL | DATA
    return entries


def descriptors() -> bytes:
    """The GDT: flat segments; the guest's own selector 0x10 loads as data, with no trap."""
    kernel_code, kernel_data = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    user_code, user_data = 0x00AFFB000000FFFF, 0x00CFF3000000FFFF
    task = 0x67 | TSS << 16 | 0x8B << 40
    return struct.pack("<10Q", 0, kernel_code, user_data, kernel_data, 0, user_data, user_code, 0, task, 0)


def task_segment() -> bytes:
    """A TSS of 104 bytes: the stubs' stack, and no I/O bitmap (its offset is the limit)."""
    return struct.pack("<IQ88xHH", 0, STACK_TOP, 0, 0x68)


def gates() -> bytes:
    """The IDT: 32 interrupt gates to the stubs."""
    out = bytearray()
    for vector in range(VECTORS):
        kind = 0xEE if vector in USER_VECTORS else 0x8E
        out += struct.pack("<HHBBHII", STUBS + 8 * vector, KERNEL_CODE, 0, kind, 0, 0, 0)
    return bytes(out)


def stubs() -> bytes:
    """Per vector, 8 bytes: `out %al, $port`; drop the error code if there is one; `iretq`."""
    out = bytearray()
    for vector in range(VECTORS):
        drop = b"\x48\x83\xc4\x08" if vector in ERROR_CODE_VECTORS else b""
        out += (b"\xe6" + bytes((TRAP_PORT + vector,)) + drop + b"\x48\xcf").ljust(8, b"\x90")
    return bytes(out)
