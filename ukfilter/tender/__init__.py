"""One guest, running: lay it out, then become its tender.

Here is the direct path: what it imports is its users' start-up time, so it imports next to nothing.
"""

from __future__ import annotations

import os

from ukfilter import devices, image
from ukfilter.errors import NoTenderError, TenderError, UsageError
from ukfilter.tender import layout
from ukfilter.tender.ends import open_ends
from ukfilter.tender.options import EOF_MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ukfilter.tender.options import Options

NUMBERS = {"kvm": 0, "process": 1}  # enum uk_tender of core.h
TENDERS_OF = {"auto": ("kvm", "process"), "kvm": ("kvm",), "process": ("process",)}  # in order


def fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, put a descriptor there that fails as a closed one does.

    Otherwise the image or the virtual processor would get that number, and the guest's output with it.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", mode)


def command_line(args: list[str], quiet: bool) -> bytes:
    """The guest's command line: Solo5 joins arguments by spaces and knows no quoting."""
    words = [os.fsencode(a) for a in args]
    return b" ".join([b"--solo5:quiet", *words] if quiet else words)


def run_here(path: str, args: list[str], options: Options) -> NoReturn:
    """Become the tender of the image at path: this process ends with the guest's status.

    Raises UkfilterError if the guest cannot be started; nothing has been read or written then.
    """
    fill_standard_descriptors()
    unikernel = image.open_image(path)
    image.check(unikernel, options.mem)
    plan = devices.plan(unikernel, options)
    ends = open_ends(plan)
    try:
        low = layout.build(
            unikernel.segments,
            options.mem,
            unikernel.end,
            command_line(args, options.quiet),
            devices.manifest_bytes(unikernel, plan),
        )
    except layout.LayoutError as e:
        raise UsageError(f"{unikernel.path}: {e}") from None

    from ukfilter.tender._core import ffi, lib  # after the checks: a refusal is quicker still

    guest = ffi.new("struct uk_guest *")
    name = ffi.new("char[]", os.fsencode(os.path.basename(path)))
    buffer = ffi.from_buffer("uint8_t[]", low)
    guest.name, guest.low, guest.low_size = name, buffer, len(low)
    guest.image_fd, guest.entry = unikernel.fd, unikernel.entry
    guest.mem_size = options.mem
    guest.segment_count = len(unikernel.segments)
    for at, s in zip(guest.segments, unikernel.segments, strict=False):
        at.offset, at.filesz, at.addr, at.memsz, at.flags = (
            s.offset,
            s.filesz,
            s.addr,
            s.memsz,
            s.flags,
        )
    for end in ends.ends:
        at = guest.ends[end.handle]
        at.attached, at.rfd, at.wfd, at.message = 1, end.rfd, end.wfd, end.message
    for block, fd in zip(plan.blocks, ends.blocks, strict=True):
        disk = guest.blocks[block.handle]
        disk.attached, disk.fd, disk.read_only = 1, fd, block.read_only
        disk.capacity, disk.sector_size = block.capacity, block.sector_size
    guest.console_fd = ends.console_fd
    guest.eof_mode = EOF_MODES.index(options.eof)
    guest.drain_ns = int(options.drain * 1e9)
    guest.verbose, guest.show_stats = options.verbose, options.stats
    for tender in TENDERS_OF[options.tender]:
        guest.tender, guest.mem_fd, guest.vcpu_fd = NUMBERS[tender], -1, -1
        if options.verbose:
            os.write(2, f"ukfilter: {unikernel.path}: tender: {tender}\n".encode(errors="replace"))
        lib.uk_guest_run_here(guest)
        message = ffi.string(guest.error).decode(errors="replace")
        if tender == options.tender or not message.startswith("/dev/kvm"):
            break
        if options.verbose:
            os.write(2, f"ukfilter: {message}\n".encode())
    if message.startswith("/dev/kvm"):
        raise NoTenderError(kvm_advice(message))
    raise TenderError(f"{unikernel.path}: {message}")


def kvm_advice(message: str) -> str:
    """What the user can do about a /dev/kvm that does not work."""
    if message.endswith(os.strerror(13)):
        return f"{message}; join the group that owns it (usermod -aG kvm NAME), then log in anew"
    if message.endswith(os.strerror(2)):
        return f"{message}; this machine has no KVM, or its module is not loaded (modprobe kvm_amd)"
    return message
