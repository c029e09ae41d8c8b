"""ELF files, good and broken, as bytes: each refusal says what is wrong, and nothing else is ever raised."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ukfilter import image
from ukfilter.errors import ImageError, ImageNotFoundError

MB = 1 << 20
R, W, X = image.PF_R, image.PF_W, image.PF_X
TEXT: dict[str, int] = {"flags": R | X, "offset": 0x1000, "vaddr": 0x100000, "filesz": 0x1000}
DATA: dict[str, int] = {
    "flags": R | W,
    "offset": 0x2000,
    "vaddr": 0x101000,
    "filesz": 0x200,
    "memsz": 0x1800,
}


def load(**changes: int) -> dict[str, int]:
    return {**TEXT, **changes}


def abi(target: int = 1, version: int = 2) -> bytes:
    return note(image.NOTE_ABI, struct.pack("<4I", target, version, 0, 0))


def note(kind: int, data: bytes, name: bytes = b"Solo5\0") -> bytes:
    padded = name + bytes(-len(name) % 4)
    return struct.pack("<III", len(name), len(data), kind) + padded + data + bytes(-len(data) % 4)


def entry(name: bytes, kind: int) -> bytes:
    return struct.pack("<68sI32x", name, kind)


RESERVED = entry(b"", 1 << 30)
IN, OUT = entry(b"in", 2), entry(b"out", 2)


def manifest(*entries: bytes, version: int = 1, count: int | None = None) -> bytes:
    number = len(entries) if count is None else count
    data = bytes(4) + struct.pack("<II", version, number) + b"".join(entries)
    return note(image.NOTE_MANIFEST, data)


GOOD_NOTES = (abi(), manifest(RESERVED, IN))


def elf(
    loads: tuple[dict[str, int], ...] = (TEXT, DATA),
    notes: tuple[bytes, ...] = GOOD_NOTES,
    dynamic: bytes = b"",
    phnum: int | None = None,
    **header: int,
) -> bytes:
    """A file whose segments' bytes end at 0x2200; notes, one segment each, follow the headers."""
    table, body = b"", b""
    count = len(loads) + len(notes) + bool(dynamic)
    at = 64 + 56 * count
    extra = [(4, data) for data in notes] + ([(2, dynamic)] if dynamic else [])
    for s in loads:
        memsz, paddr = s.get("memsz", s["filesz"]), s.get("paddr", s["vaddr"])
        row = (1, s["flags"], s["offset"], s["vaddr"], paddr, s["filesz"], memsz, 0x1000)
        table += struct.pack("<IIQQQQQQ", *row)
    for kind, data in extra:
        table += struct.pack("<IIQQQQQQ", kind, R, at + len(body), 0, 0, len(data), len(data), 4)
        body += data
    h: dict[str, Any] = {"klass": 2, "order": 1, "kind": 2, "machine": 62, "entry": 0x100010, **header}
    ident = b"\x7fELF" + bytes((h["klass"], h["order"], 1)) + bytes(9)
    number = count if phnum is None else phnum
    rest = (h["kind"], h["machine"], 1, h["entry"], 64, 0, 0, 64, 56, number, 64, 0, 0)
    return (ident + struct.pack("<HHIQQQIHHHHHH", *rest) + table + body).ljust(0x2200, b"\x90")


def parse(data: bytes) -> image.Image:
    return image.parse(lambda offset, size: data[offset : offset + size], len(data), "x.hvt")


def test_a_good_image() -> None:
    found = parse(elf(notes=(note(1, b"OpenBSD!", b"OpenBSD\0"), abi(), manifest(RESERVED, IN, OUT))))
    assert (found.target, found.abi_version, found.entry, found.fd) == ("hvt", 2, 0x100010, -1)
    assert [(d.name, d.kind, d.handle) for d in found.devices] == [("in", "net", 1), ("out", "net", 2)]
    assert [(s.addr, s.memsz, s.flags) for s in found.segments] == [
        (0x100000, 0x1000, R | X),
        (0x101000, 0x1800, R | W),
    ]
    assert found.end == 0x103000
    image.check(found, 2 * MB)


def test_segments_are_sorted_and_empty_ones_dropped() -> None:
    found = parse(elf(loads=(DATA, load(filesz=0, memsz=0, vaddr=0), TEXT)))
    assert [s.addr for s in found.segments] == [0x100000, 0x101000]


def test_notes_may_share_a_segment() -> None:
    assert parse(elf(notes=(abi() + manifest(RESERVED, IN),))).devices[0].name == "in"


def test_a_segment_of_zeros_may_lie_anywhere_in_the_file() -> None:
    found = parse(elf(loads=(TEXT, {**DATA, "offset": 0x10000, "filesz": 0})))
    assert found.segments[1].filesz == 0


def test_a_position_independent_image_without_relocations() -> None:
    assert parse(elf(kind=3, dynamic=struct.pack("<4Q", 5, 0x100000, 0, 0))).target == "hvt"


RELOCATED = struct.pack("<4Q", 7, 0x100000, 0, 0)
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not an ELF file"),
    "a script": (b"#!/bin/sh\necho hello\n", "is not an ELF file"),
    "only the magic": (b"\x7fELF", "is truncated"),
    "half a header": (elf()[:40], "is truncated"),
    "half a table": (elf()[:100], "is truncated"),
    "half a segment": (elf()[:0x1800], "is truncated"),
    "32-bit": (elf(klass=1, machine=3), "x86 \\(32-bit\\)"),
    "x32": (elf(klass=1), "built for"),
    "big-endian": (elf(order=2), "big-endian"),
    "arm": (elf(machine=183), "built for aarch64"),
    "a strange machine": (elf(machine=999), "ELF machine 999"),
    "an object": (elf(kind=1), "not an executable"),
    "a core file": (elf(kind=4), "not an executable"),
    "no table": (elf(phnum=0), "table of segments"),
    "a huge table": (elf(phnum=65535), "table of segments"),
    "relocations": (elf(kind=3, dynamic=RELOCATED), "needs relocation"),
    "nothing to load": (elf(loads=()), "nothing to load"),
    "virtual is not physical": (elf(loads=(load(paddr=0x200000),)), "physical address 0x200000"),
    "too low": (elf(loads=(load(vaddr=0xFF000),)), "below 0x100000"),
    "too high": (elf(loads=(load(vaddr=(1 << 32) - 0x800),)), "beyond 4 GB"),
    "wraps around": (elf(loads=(load(vaddr=(1 << 64) - 0x1000),)), "beyond 4 GB"),
    "endless": (elf(loads=(load(memsz=(1 << 64) - 1),)), "beyond 4 GB"),
    "more in the file": (elf(loads=(load(memsz=0x800),)), "larger in the file"),
    "W+X": (elf(loads=(load(flags=R | W | X),)), "both writable and executable"),
    "offset past the end": (elf(loads=(load(offset=(1 << 64) - 1),)), "is truncated"),
    "overlap": (elf(loads=(TEXT, {**DATA, "vaddr": 0x100800})), "overlap"),
    "one page, two rights": (elf(loads=(load(filesz=0x800), {**DATA, "vaddr": 0x100800})), "one page"),
    "entry in data": (elf(entry=0x101000), "entry point 0x101000 outside"),
    "entry nowhere": (elf(entry=0), "entry point 0x0 outside"),
    "no notes": (elf(notes=()), "not a Solo5 image"),
    "foreign notes": (elf(notes=(note(1, b"1234", b"GNU\0"),)), "not a Solo5 image"),
    "two ABI notes": (elf(notes=(abi(), abi(), manifest(RESERVED))), "ABI note"),
    "a short ABI note": (elf(notes=(note(image.NOTE_ABI, b"1234"),)), "ABI note"),
    "an unknown target": (elf(notes=(abi(target=77), manifest(RESERVED))), "unknown Solo5 target"),
    "a note too long": (elf(notes=(abi()[:-4],)), "longer than its segment"),
    "huge notes": (elf(notes=(abi() + bytes(70000),)), "notes of 70036 bytes"),
    "no manifest": (elf(notes=(abi(),)), "without a manifest"),
    "two manifests": (elf(notes=(abi(), manifest(RESERVED), manifest(RESERVED))), "more than one"),
    "an empty manifest": (elf(notes=(abi(), note(image.NOTE_MANIFEST, b""))), "cut short"),
    "manifest version": (elf(notes=(abi(), manifest(RESERVED, version=9))), "of version 9"),
    "no entries": (elf(notes=(abi(), manifest())), "of 0 entries"),
    "65 entries": (elf(notes=(abi(), manifest(RESERVED, *[IN] * 64))), "of 65 entries"),
    "entries missing": (elf(notes=(abi(), manifest(RESERVED, count=3))), "of 3 entries"),
    "billions": (elf(notes=(abi(), manifest(RESERVED, count=0xFFFFFFFF))), "of 4294967295 entries"),
    "no reserved entry": (elf(notes=(abi(), manifest(IN))), "reserved first entry"),
    "a named reserved entry": (
        elf(notes=(abi(), manifest(entry(b"a", 1 << 30)))),
        "reserved first entry",
    ),
    "nameless": (elf(notes=(abi(), manifest(RESERVED, entry(b"", 2)))), "bad device name"),
    "a name of 68": (elf(notes=(abi(), manifest(RESERVED, entry(b"a" * 68, 2)))), "bad device name"),
    "an escape": (elf(notes=(abi(), manifest(RESERVED, entry(b"a\x1b[2J", 2)))), "bad device name"),
    "same name": (elf(notes=(abi(), manifest(RESERVED, IN, IN))), "two devices named in"),
    "unknown type": (elf(notes=(abi(), manifest(RESERVED, entry(b"a", 9)))), "unknown type 9"),
    "reserved twice": (
        elf(notes=(abi(), manifest(RESERVED, entry(b"a", 1 << 30)))),
        "unknown type 1073741824",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(ImageError, match=rf"^x\.hvt: .*{reason}") as caught:
        parse(data)
    assert caught.value.status == 126
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("number", "target"), [(2, "spt"), (3, "virtio"), (4, "muen"), (6, "xen")])
def test_other_targets_are_named(number: int, target: str) -> None:
    found = parse(elf(notes=(abi(target=number), manifest(RESERVED))))
    with pytest.raises(ImageError, match=rf"built for Solo5's {target} target.*build it for hvt"):
        image.check(found, 512 * MB, ("hvt",))
    if target == "spt":
        image.check(found, 512 * MB)
    else:
        with pytest.raises(ImageError, match=rf"built for Solo5's {target} target"):
            image.check(found, 512 * MB)


def test_a_target_with_other_rules_is_named_before_its_segments_are_judged() -> None:
    data = elf(loads=(load(flags=R | W | X),), notes=(abi(target=3), manifest(RESERVED)))
    with pytest.raises(ImageError, match="built for Solo5's virtio target"):
        parse(data)


def test_abi_version() -> None:
    found = parse(elf(notes=(abi(version=1), manifest(RESERVED))))
    with pytest.raises(ImageError, match="version 1 of Solo5's hvt ABI"):
        image.check(found, 512 * MB)


def test_memory_that_is_too_small() -> None:
    found = parse(elf(loads=(TEXT, {**DATA, "memsz": 40 * MB})))
    with pytest.raises(ImageError, match=r"does not fit in 32 MB of memory; give it more with --mem 42$"):
        image.check(found, 32 * MB)
    image.check(found, 42 * MB)


def test_memory_that_no_guest_has() -> None:
    """Nobody is told to give it more than --mem takes."""
    most = parse(elf(loads=(TEXT, {**DATA, "memsz": (4096 << 20) - 0x102000})))
    with pytest.raises(ImageError, match=r"give it more with --mem 4096$"):
        image.check(most, 512 * MB)
    image.check(most, 4096 * MB)
    for mem in (512, 4096):
        more = parse(elf(loads=(TEXT, {**DATA, "memsz": (4096 << 20) - 0x101000})))
        with pytest.raises(ImageError, match=r"does not fit in 4 GB of memory, which is the most"):
            image.check(more, mem * MB)


def test_open_image(tmp_path: Path) -> None:
    path = tmp_path / "good.hvt"
    path.write_bytes(elf())
    found = image.open_image(str(path))
    try:
        assert os.get_inheritable(found.fd) is False
        assert os.pread(found.fd, 4, 0) == b"\x7fELF"
    finally:
        os.close(found.fd)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "kind", "status", "reason"),
    [
        (nothing, ImageNotFoundError, 127, "no such image"),
        (Path.mkdir, ImageError, 126, "is a directory"),
        (fifo, ImageError, 126, "not a regular file"),
        (Path.touch, ImageError, 126, "is not an ELF file"),
        (lambda path: path.symlink_to(path), ImageError, 126, "cannot open the image"),
    ],
    ids=["missing", "directory", "fifo", "empty", "loop"],
)
def test_what_cannot_be_opened(
    tmp_path: Path, make: Callable[[Path], None], kind: type[ImageError], status: int, reason: str
) -> None:
    path = tmp_path / "x\n.hvt"
    make(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(kind, match=reason) as caught:
        image.open_image(str(path))
    assert caught.value.status == status
    assert "\n" not in str(caught.value)
    assert os.listdir("/proc/self/fd") == before


def test_below_a_file_there_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageNotFoundError, match="no such image"):
        image.open_image(str(tmp_path / "file" / "x.hvt"))


SEED = elf(kind=3, notes=(abi(), manifest(RESERVED, IN, OUT)), dynamic=struct.pack("<4Q", 5, 1, 0, 0))
HEADERS = 64 + 56 * 5 + 512  # all that parse() looks at


def survives(data: bytes) -> None:
    try:
        found = parse(data)
        image.check(found, 512 * MB)
    except ImageError:
        return
    for s in found.segments:
        assert s.addr >= image.BASE and s.addr + s.memsz <= found.end <= 512 * MB
        assert not (s.flags & W and s.flags & X)
        assert s.filesz == 0 or s.offset + s.filesz <= len(data)


@given(st.lists(st.tuples(st.integers(0, HEADERS), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_mutation_is_an_image_or_an_image_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SEED)
    for at, value in changes:
        data[at] = value
    survives(bytes(data))


FIELDS = st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, (1 << 64) - 1, 0xFFF])


@given(st.lists(st.tuples(st.integers(0, HEADERS // 8), FIELDS), min_size=1, max_size=3))
def test_extreme_numbers(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SEED)
    for at, value in changes:
        struct.pack_into("<Q", data, 8 * at, value)
    survives(bytes(data))


@given(st.integers(0, len(SEED)))
def test_any_truncation(length: int) -> None:
    survives(SEED[:length])


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    survives(data)
    survives(SEED[:64] + data)
