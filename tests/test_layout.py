"""Low memory as bytes: what the guest may reach, and that Python and C have the same picture of it."""

import struct

import pytest
from ukfilter.tender._core import ffi, lib

from ukfilter.image import Segment
from ukfilter.tender import layout

MB = 1 << 20
TEXT = Segment(offset=0x1000, filesz=0x2345, addr=0x100000, memsz=0x2345, flags=5)
RODATA = Segment(offset=0x4000, filesz=0x100, addr=0x103000, memsz=0x100, flags=4)
DATA = Segment(offset=0x5000, filesz=0x100, addr=0x104000, memsz=0x5000, flags=6)


def walk(low: bytes, address: int) -> int:
    """The page-table entry that maps address, 0 if none, as the processor walks: SDM 3A, 4.5."""
    table = layout.PML4
    for shift in (39, 30, 21, 12):
        (entry,) = struct.unpack_from("<Q", low, table + 8 * (address >> shift & 511))
        if not entry & layout.PRESENT:
            return 0
        if shift == 12 or entry & layout.LARGE_PAGE:
            return entry
        assert entry & layout.USER and entry & layout.WRITABLE
        table = entry & 0x000FFFFFFFFFF000
    raise AssertionError


def build(mem: int = 64 * MB, segments: tuple[Segment, ...] = (TEXT, RODATA, DATA)) -> bytes:
    return layout.build(segments, mem, 0x109000, b"--solo5:quiet a", b"manifest")


def rights(low: bytes, address: int) -> str:
    entry = walk(low, address)
    if not entry & layout.USER:
        return ""
    text = "r" + ("w" if entry & layout.WRITABLE else "")
    return text + ("" if entry & layout.NO_EXECUTE else "x")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0, ""),
        (layout.PML4, ""),
        (layout.GDT, ""),
        (layout.IDT, ""),
        (layout.STACK_TOP - 8, ""),
        (layout.BOOT_INFO, "r"),
        (layout.COMMAND_LINE, "r"),
        (layout.BOOT_END - 1, "r"),
        (layout.BOOT_END, ""),
        (layout.TABLES, ""),
        (layout.DOORBELL - 1, ""),
        (layout.DOORBELL, "rw"),
        (layout.DOORBELL + 0x1000, ""),
        (0xFFFFF, ""),
        (0x100000, "rx"),
        (0x102344, "rx"),
        (0x103000, "r"),
        (0x104000, "rw"),
        (0x108FFF, "rw"),
        (0x109000, "rw"),
        (64 * MB - 1, "rw"),
        (64 * MB, ""),
        (4096 * MB, ""),
    ],
)
def test_what_the_guest_may_reach(address: int, expected: str) -> None:
    assert rights(build(), address) == expected


@pytest.mark.parametrize("mem", [2 * MB, 5 * MB, 5 * MB + 4096, 512 * MB, 4096 * MB])
def test_memory_ends_where_it_ends(mem: int) -> None:
    low = build(mem)
    assert rights(low, mem - 1) == "rw"
    assert rights(low, mem) == ""


def test_every_address_is_mapped_to_itself() -> None:
    low = build()
    for address in (0x100000, 0x104000, 0x1FF000, 0x200000, 0x3E00000):
        entry = walk(low, address)
        page = layout.LARGE if entry & layout.LARGE_PAGE else layout.PAGE
        assert entry & 0x000FFFFFFFFFF000 == address & -page


def test_python_and_c_agree_on_addresses() -> None:
    assert layout.IDT == lib.UK_GPA_STUBS
    assert layout.STACK_TOP == lib.UK_GPA_STACK_TOP
    assert layout.BOOT_INFO == lib.UK_GPA_BOOT_INFO
    assert layout.BOOT_END == lib.UK_GPA_BOOT_END
    assert layout.BASE == lib.UK_GPA_BASE
    assert layout.DOORBELL == lib.UK_GPA_DOORBELL
    assert layout.TRAP_PORT == lib.UK_TRAP_PORT


def test_structures_that_cross_cffi() -> None:
    assert ffi.sizeof("struct uk_segment") == 40
    assert [ffi.offsetof("struct uk_segment", f) for f in ("offset", "filesz", "addr", "memsz")] == [
        0,
        8,
        16,
        24,
    ]
    assert ffi.offsetof("struct uk_segment", "flags") == 32
    assert ffi.offsetof("struct uk_end", "wfd") == 4
    assert ffi.offsetof("struct uk_end", "attached") == 8
    assert ffi.offsetof("struct uk_end", "message") == 9
    assert lib.UK_MAX_HANDLES == 64


def test_boot_information() -> None:
    low = build(512 * MB)
    words = struct.unpack_from("<5Q2IQ", low, layout.BOOT_INFO)
    assert words == (512 * MB, 0x109000, 0, layout.COMMAND_LINE, layout.MANIFEST, 0, 0, 0)
    assert low[layout.COMMAND_LINE :].startswith(b"--solo5:quiet a\0")
    assert low[layout.MANIFEST :].startswith(b"manifest")


def test_the_command_line_has_a_limit() -> None:
    layout.build((TEXT,), 2 * MB, 0x103000, b"x" * 8191, b"")
    with pytest.raises(layout.LayoutError, match="8192 bytes"):
        layout.build((TEXT,), 2 * MB, 0x103000, b"x" * 8192, b"")


def test_an_image_that_spans_too_much_is_refused() -> None:
    far = Segment(offset=0, filesz=0, addr=0x200000, memsz=500 * MB, flags=6)
    with pytest.raises(layout.ImageLayoutError, match="too large"):
        layout.build((TEXT, far), 1024 * MB, 0x103000, b"", b"")
