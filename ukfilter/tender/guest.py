"""One guest, laid out: the structure that the C core runs, and what must stay alive and open for it."""

from __future__ import annotations

import posix as os  # not os: see __main__.py

from ukfilter import devices, image
from ukfilter.errors import ImageError, NoTenderError, TenderError, UsageError, printable
from ukfilter.tender import layout
from ukfilter.tender.ends import Ends, open_core_dir, open_ends, open_report, open_trace
from ukfilter.tender.options import EOF_MODES, EXITLESS, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ukfilter.tender.options import Options

NUMBERS = {"kvm": 0, "process": 1}  # enum uk_tender of core.h
TENDERS_OF = {"auto": ("kvm", "process"), "kvm": ("kvm",), "process": ("process",)}  # in order
STANDARD = (0, 1, 2)


def command_line(args: list[str], quiet: bool) -> bytes:
    """The guest's command line: Solo5 joins arguments by spaces and knows no quoting."""
    words = [encode(a) for a in args]
    return b" ".join([b"--solo5:quiet", *words] if quiet else words)


class Guest:
    """The guest of the image at path, with its ends open. standard: what will be descriptors 0 to 2.

    Raises UkfilterError, and leaves nothing open then.
    """

    def __init__(
        self, path: str, args: list[str], options: Options, standard: tuple[int, int, int] = STANDARD
    ) -> None:
        self.opened: list[int] = []  # descriptors that are this guest's alone
        try:
            self._lay_out(path, args, options, standard)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what was opened for this guest; a child that runs it has its own copies."""
        while self.opened:
            os.close(self.opened.pop())

    def _lay_out(self, path: str, args: list[str], options: Options, standard: tuple[int, int, int]) -> None:
        if options.tender not in TENDERS_OF:
            raise UsageError(
                f"--tender {printable(options.tender)}: a tender by its path runs a filter alone, not as part"
                " of a pipe, map, mount or --progress, nor from Python; use auto, kvm or process"
            )
        unikernel = image.open_image(path)
        self.opened.append(unikernel.fd)
        self.path = unikernel.path
        image.check(unikernel, options.mem, options.targets)
        spt = unikernel.target == "spt"
        if spt and options.tender == "kvm":
            raise NoTenderError(f"{self.path}: KVM cannot run spt images; use --tender process, or auto")
        # A guest whose core is wanted makes each call by an exit, so that it stands at one.
        exitless = options.exitless if options.dumpcore is None else "off"
        plan = devices.plan(unikernel, options)
        ends = open_ends(plan, standard, self.opened)
        report_fd = open_report(options.status_fd, standard)
        trace_fd = open_trace(options.trace, self.opened)
        core_dir_fd = open_core_dir(options.dumpcore, self.opened)
        try:
            low = layout.build(
                unikernel.segments,
                options.mem,
                unikernel.end,
                command_line(args, options.quiet),
                devices.manifest_bytes(unikernel, plan),
                unikernel.target,
            )
        except layout.ImageLayoutError as e:
            raise ImageError(f"{unikernel.path}: {e}") from None
        except layout.LayoutError as e:
            raise UsageError(f"{unikernel.path}: {e}") from None

        from ukfilter.tender._core import ffi, lib  # after the checks: a refusal is quicker still

        self.ffi, self.lib = ffi, lib
        self.raw = guest = ffi.new("struct uk_guest *")
        name = ffi.new("char[]", encode(path.rpartition("/")[2]))
        buffer = ffi.from_buffer("uint8_t[]", low)
        shown = ffi.new("char[]", encode(self.path.rpartition("/")[2]))
        core_dir = ffi.new("char[]", encode(printable(options.dumpcore or "")))
        self.alive = name, shown, buffer, core_dir
        guest.name, guest.shown, guest.low, guest.low_size = name, shown, buffer, len(low)
        guest.image_fd, guest.entry, guest.mem_size = unikernel.fd, unikernel.entry, options.mem
        guest.segment_count = len(unikernel.segments)
        for at, s in zip(guest.segments, unikernel.segments, strict=False):
            at.offset, at.filesz, at.flags = s.offset, s.filesz, s.flags
            at.addr, at.memsz = s.addr, s.memsz
        _attach(guest, plan, ends)
        _set(guest, options, spt)
        guest.report_fd, guest.trace_fd = report_fd, trace_fd
        guest.exitless = EXITLESS.index(exitless)
        guest.core_dir, guest.core_dir_fd, guest.core_fd = core_dir, core_dir_fd, -1

    def run_here(self) -> None:
        """Become the tender; returns only if the guest could not be started: see failure()."""
        self.lib.uk_guest_run_here(self.raw)

    def failure(self) -> TenderError:
        """Why the guest could not be started."""
        message = self.ffi.string(self.raw.error).decode(errors="replace")
        return start_failure(self.path, message, bool(self.raw.unusable))


def _attach(guest: Any, plan: devices.Plan, ends: Ends) -> None:
    for end in ends.ends:
        at = guest.ends[end.handle]
        at.attached, at.rfd, at.wfd, at.message = 1, end.rfd, end.wfd, end.message
    for block, fd in zip(plan.blocks, ends.blocks, strict=True):
        disk = guest.blocks[block.handle]
        disk.attached, disk.fd, disk.read_only = 1, fd, block.read_only
        disk.capacity, disk.sector_size = block.capacity, block.sector_size
    guest.console_fd = ends.console_fd


def _set(guest: Any, options: Options, spt: bool) -> None:
    tenders = ("process",) if spt else TENDERS_OF[options.tender]
    guest.spt = spt
    guest.tender, guest.may_fall_back = NUMBERS[tenders[0]], len(tenders) > 1
    guest.mem_fd = guest.listener_fd = guest.vcpu_fd = -1
    guest.aside = (-1, -1)
    guest.eof_mode = EOF_MODES.index(options.eof)
    guest.drain_ns = int(options.drain * 1e9)
    guest.timeout_ns = int(options.timeout * 1e9)
    guest.exitless_limit_ns = int(options.exitless_limit * 1e9)
    guest.verbose, guest.show_stats = options.verbose, options.stats


def start_failure(path: str, message: str, unusable: bool) -> TenderError:
    """Why the guest could not be started, by what the core says of it."""
    return NoTenderError(kvm_advice(message)) if unusable else TenderError(f"{path}: {message}")


def kvm_advice(message: str) -> str:
    """What the user can do about a /dev/kvm that does not work."""
    if message.endswith(os.strerror(13)):
        return f"{message}; join the group that owns it (usermod -aG kvm NAME), then log in anew"
    if message.endswith(os.strerror(2)):
        return f"{message}; this machine has no KVM, or its module is not loaded (modprobe kvm_amd)"
    return message
