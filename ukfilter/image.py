"""A Solo5 ELF as data: segments, ABI, manifest. Every byte of it is untrusted.

Layouts: System V gABI chapter 4 and 5 (ELF64); elf_abi.h and mft_abi.h of Solo5 v0.12.1 (notes).
"""

from __future__ import annotations

import posix as os  # not os: see __main__.py
import stat
import struct

from ukfilter.errors import ImageError, ImageNotFoundError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reader = Callable[[int, int], bytes]

PAGE = 0x1000
BASE = 0x100000  # HVT_GUEST_MIN_BASE
MEMORY_MAX = 4 << 30  # of any guest
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4
DT_RELA, DT_REL, DT_JMPREL = 7, 17, 23
EM_X86_64 = 62
HEADERS_MAX = 64
NOTES_MAX = 65536
NOTE_ABI, NOTE_MANIFEST = 0x31494241, 0x3154464D
TARGETS = {1: "hvt", 2: "spt", 3: "virtio", 4: "muen", 5: "genode", 6: "xen"}
ABI_VERSIONS = {"hvt": 2, "spt": 2}
ENTRY_SIZE = 104
ENTRIES_MAX = 64
RESERVED_FIRST = 1 << 30
KINDS = {1: "block", 2: "net"}
MACHINES = {3: "x86 (32-bit)", 40: "ARM", 183: "aarch64", 243: "RISC-V", 21: "POWER"}


class Segment:
    """A PT_LOAD. offset and filesz are of the file, addr and memsz of the guest; all in bytes."""

    __slots__ = ("addr", "filesz", "flags", "memsz", "offset")

    def __init__(self, offset: int, filesz: int, addr: int, memsz: int, flags: int) -> None:
        self.offset, self.filesz, self.addr, self.memsz = offset, filesz, addr, memsz
        self.flags = flags


class Device:
    """A manifest entry; handle is its index, kind is `net` or `block`."""

    __slots__ = ("handle", "kind", "name")

    def __init__(self, name: str, kind: str, handle: int) -> None:
        self.name, self.kind, self.handle = name, kind, handle


class Image:
    """What parse() found. fd is -1 unless open_image() made it; end is `kernel_end`."""

    __slots__ = ("abi_version", "devices", "end", "entry", "fd", "path", "segments", "target")

    def __init__(
        self,
        path: str,
        target: str,
        abi_version: int,
        entry: int,
        segments: list[Segment],
        devices: list[Device],
    ) -> None:
        self.path, self.target, self.abi_version, self.entry = path, target, abi_version, entry
        self.segments, self.devices, self.fd = segments, devices, -1
        self.end = (max(s.addr + s.memsz for s in segments) + PAGE - 1) & -PAGE


def open_image(path: str) -> Image:
    """Open and parse the image at path; its fd stays open.

    Raises ImageNotFoundError if there is none, ImageError if it is not an image.
    """
    name = printable(path)
    try:
        # O_NONBLOCK: opening a fifo must not wait for its writer. O_NOCTTY: a terminal stays a file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise ImageNotFoundError(f"{name}: no such image ({e.strerror})") from None
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise ImageError(f"{name}: cannot open the image: {reason}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(f"{name}: is {what}; an image is an ELF file")
        image = parse(lambda offset, size: os.pread(fd, size, offset), status.st_size, name)
    except BaseException:
        os.close(fd)
        raise
    image.fd = fd
    return image


def look_at(path: str, mem_size: int) -> Image:
    """The image at path, checked and closed again: whether it can be run, before it is. Raises ImageError."""
    image = open_image(path)
    os.close(image.fd)
    image.fd = -1
    check(image, mem_size)
    return image


def parse(read: Reader, size: int, name: str) -> Image:
    """The image in a file of size bytes; read(offset, length) gives its bytes. Raises ImageError."""
    try:
        return _Parser(read, size).image(name)
    except _Bad as e:
        raise ImageError(f"{name}: {e}") from None
    except OSError as e:
        raise ImageError(f"{name}: cannot read the image: {e.strerror}") from None


def check(image: Image, mem_size: int, targets: tuple[str, ...] = ("hvt", "spt")) -> None:
    """Raise ImageError unless a tender for targets can run image in mem_size bytes."""
    if image.target not in targets:
        raise ImageError(f"{image.path}: {_foreign(image.target, targets)}")
    wanted = ABI_VERSIONS[image.target]
    if image.abi_version != wanted:
        raise ImageError(
            f"{image.path}: has version {image.abi_version} of Solo5's {image.target} ABI;"
            f" only version {wanted} is known: build it with Solo5 0.6 or newer"
        )
    if image.end + PAGE > MEMORY_MAX:
        raise ImageError(f"{image.path}: does not fit in 4 GB of memory, which is the most that a guest has")
    if image.end + PAGE > mem_size:
        raise ImageError(
            f"{image.path}: does not fit in {mem_size >> 20} MB of memory;"
            f" give it more with --mem {(image.end >> 20) + 1}"
        )


def _foreign(target: str, targets: tuple[str, ...]) -> str:
    runs = " and ".join(targets)
    return f"built for Solo5's {target} target; {runs} images can be run: build it for hvt"


class _Bad(Exception):
    pass


class _Parser:
    def __init__(self, read: Reader, size: int) -> None:
        self.read, self.size = read, size

    def part(self, offset: int, length: int, what: str) -> bytes:
        if offset + length > self.size:
            raise _Bad(f"is truncated: {what} would end at byte {offset + length} of {self.size}")
        data = self.read(offset, length)
        if len(data) != length:
            raise _Bad(f"is truncated: cannot read {what}")
        return data

    def image(self, name: str) -> Image:
        entry, phoff, phnum = self.header()
        table = self.part(phoff, 56 * phnum, "the table of segments")
        headers = list(struct.iter_unpack("<IIQQQQQQ", table))
        notes = list(self.notes(headers))
        target, version = _abi([n for kind, n in notes if kind == NOTE_ABI])
        try:
            segments = self.loads(headers, entry)
            devices = _manifest([n for kind, n in notes if kind == NOTE_MANIFEST])
        except _Bad:
            if target in ABI_VERSIONS:
                raise
            # Other targets have other rules: that it is one of theirs is what is wrong with it.
            raise _Bad(_foreign(target, tuple(ABI_VERSIONS))) from None
        return Image(name, target, version, entry, segments, devices)

    def loads(self, headers: list[tuple[int, ...]], entry: int) -> list[Segment]:
        segments = self.segments(headers)
        self.refuse_relocations(headers)
        if not any(s.flags & PF_X and s.addr <= entry < s.addr + s.memsz for s in segments):
            raise _Bad(f"has its entry point 0x{entry:x} outside of its code")
        return segments

    def header(self) -> tuple[int, int, int]:
        magic = self.read(0, 20)
        if magic[:4] != b"\x7fELF":
            raise _Bad("is not an ELF file")
        header = self.part(0, 64, "the ELF header")
        kind, machine = struct.unpack_from("<HH", header, 16)
        if header[5] != 1:
            raise _Bad("is a big-endian ELF file; images for x86-64 can be run")
        if header[4] != 2 or machine != EM_X86_64:
            what = MACHINES.get(machine, f"ELF machine {machine}")
            raise _Bad(f"is built for {what}; images for x86-64 can be run")
        if kind not in (2, 3):
            raise _Bad("is an ELF file, but not an executable")
        entry, phoff = struct.unpack_from("<QQ", header, 24)
        phentsize, phnum = struct.unpack_from("<HH", header, 54)
        if phentsize != 56 or not 0 < phnum <= HEADERS_MAX:
            raise _Bad(f"has a nonsensical table of segments ({phnum} of {phentsize} bytes)")
        return entry, phoff, phnum

    def notes(self, headers: list[tuple[int, ...]]) -> Iterator[tuple[int, bytes]]:
        """The type and the descriptor of every note of Solo5's."""
        for kind, _, offset, _, _, filesz, _, _ in headers:
            if kind != PT_NOTE:
                continue
            if filesz > NOTES_MAX:
                raise _Bad(f"has notes of {filesz} bytes; an image's are under {NOTES_MAX}")
            data, at = self.part(offset, filesz, "the notes"), 0
            while at + 12 <= len(data):
                name_size, size, note = struct.unpack_from("<III", data, at)
                start = at + 12 + (name_size + 3 & -4)
                if start + size > len(data):
                    raise _Bad("has a note that is longer than its segment")
                if data[at + 12 : at + 12 + name_size] == b"Solo5\0":
                    yield note, data[start : start + size]
                at = start + (size + 3 & -4)

    def segments(self, headers: list[tuple[int, ...]]) -> list[Segment]:
        segments = []
        for kind, flags, offset, vaddr, paddr, filesz, memsz, _ in headers:
            if kind != PT_LOAD or memsz == 0:
                continue
            where = f"the segment at 0x{vaddr:x}"
            if vaddr != paddr:
                raise _Bad(f"wants {where} at physical address 0x{paddr:x}: they must be the same")
            if vaddr < BASE:
                raise _Bad(f"has {where}, below 0x{BASE:x}, where a guest's memory begins")
            if vaddr + memsz > MEMORY_MAX:
                raise _Bad(f"has {where} end beyond 4 GB")
            if filesz > memsz:
                raise _Bad(f"has {where} larger in the file than in memory")
            if flags & PF_W and flags & PF_X:
                raise _Bad(f"has {where} both writable and executable, which is never allowed")
            if filesz and offset + filesz > self.size:
                raise _Bad(f"is truncated: {where} would end at byte {offset + filesz}")
            segments.append(Segment(offset, filesz, vaddr, memsz, flags))
        if not segments:
            raise _Bad("has nothing to load")
        segments.sort(key=lambda s: s.addr)
        for low, high in zip(segments, segments[1:], strict=False):
            if low.addr + low.memsz > high.addr:
                raise _Bad(f"has segments that overlap, at 0x{low.addr:x} and 0x{high.addr:x}")
            if low.flags != high.flags and (low.addr + low.memsz - 1) // PAGE >= high.addr // PAGE:
                raise _Bad(f"has segments of different protection on one page, at 0x{high.addr:x}")
        return segments

    def refuse_relocations(self, headers: list[tuple[int, ...]]) -> None:
        for kind, _, offset, _, _, filesz, _, _ in headers:
            if kind != PT_DYNAMIC:
                continue
            data = self.part(offset, min(filesz, NOTES_MAX) & -16, "the dynamic section")
            for tag, _ in struct.iter_unpack("<QQ", data):
                if tag == 0:
                    break
                if tag in (DT_RELA, DT_REL, DT_JMPREL):
                    raise _Bad("needs relocation; link it as a static executable")


def _abi(notes: list[bytes]) -> tuple[str, int]:
    if not notes:
        raise _Bad("is an ELF file, but not a Solo5 image (it has no ABI note)")
    if len(notes) > 1 or len(notes[0]) != 16:
        raise _Bad("has a nonsensical ABI note")
    target, version = struct.unpack_from("<II", notes[0])
    if target not in TARGETS:
        raise _Bad(f"is built for an unknown Solo5 target ({target})")
    return TARGETS[target], version


def _manifest(notes: list[bytes]) -> list[Device]:
    if not notes:
        raise _Bad("is a Solo5 image without a manifest")
    if len(notes) > 1:
        raise _Bad("has more than one manifest")
    data = notes[0][4:]  # aligned to 8 behind a header of 20 bytes
    if len(data) < 8:
        raise _Bad("has a manifest that is cut short")
    version, entries = struct.unpack_from("<II", data)
    if version != 1:
        raise _Bad(f"has a manifest of version {version}; only version 1 is known")
    if not 1 <= entries <= ENTRIES_MAX or len(data) < 8 + ENTRY_SIZE * entries:
        raise _Bad(f"has a manifest of {entries} entries in {len(data)} bytes")
    devices: list[Device] = []
    for handle in range(entries):
        entry = data[8 + ENTRY_SIZE * handle :][:ENTRY_SIZE]
        (kind,) = struct.unpack_from("<I", entry, 68)
        raw = entry[:68].split(b"\0", 1)[0]
        if handle == 0:
            if kind != RESERVED_FIRST or raw:
                raise _Bad("has a manifest without its reserved first entry")
            continue
        if not 0 < len(raw) <= 67 or not raw.isalnum():
            raise _Bad(f"has a manifest with a bad device name in entry {handle}")
        name = raw.decode("ascii")
        if kind not in KINDS:
            raise _Bad(f"has a device {name} of unknown type {kind}")
        if any(d.name == name for d in devices):
            raise _Bad(f"has two devices named {name}")
        devices.append(Device(name, KINDS[kind], handle))
    return devices
