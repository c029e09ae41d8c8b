"""One guest as an async context manager: `async with open_guest("cat.hvt") as guest`.

A guest is a child of the thread that opened it and dies with it, so open it from trio's own thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TypedDict, Unpack

from ukfilter.errors import UsageError
from ukfilter.pipes.process import Running
from ukfilter.pipes.record import Outcome, reported
from ukfilter.pipes.scope import Scope
from ukfilter.pipes.streams import PIPE, End, Ends, Input, Output
from ukfilter.tender import options as values
from ukfilter.tender.options import Options
from ukfilter.tender.spawn import Child, spawn

Image = str | os.PathLike[str]


class GuestOptions(TypedDict, total=False):
    """A guest's settings by keyword; what is left out is as UKFILTER_MEM and UKFILTER_TENDER have it.

    mem: bytes, or a text as of --mem; drain and timeout: seconds, no timeout being 0 or None; mtus in bytes,
    macs six bytes each; quiet: let Solo5 print no banner; the rest as the options of those names.
    """

    tender: str
    mem: int | str
    nets: Mapping[str, str]
    mtus: Mapping[str, int]
    macs: Mapping[str, bytes]
    blocks: Mapping[str, str]
    sector_sizes: Mapping[str, int]
    console: str | None
    eof: str
    drain: float
    timeout: float | None
    quiet: bool


def to_options(given: GuestOptions) -> Options:
    """Options from keywords. Raises UsageError for a value that cannot be."""
    options = values.options_from_env()
    unknown = set(given) - set(GuestOptions.__annotations__)
    if unknown:
        raise TypeError(f"no such option of a guest: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if isinstance(value, Mapping):
            value = dict(value)
        if name == "mem":
            value = value if isinstance(value, int) else values.parse_size(str(value), "mem")
            if not values.MEM_MIN <= value <= values.MEM_MAX:
                raise UsageError(f"mem: {value} is out of range; a guest has 2M to 4G")
            value &= -4096
        elif name == "tender":
            value = values.parse_choice(str(value), values.TENDERS, "tender")
        elif name == "eof":
            value = values.parse_choice(str(value), values.EOF_MODES, "eof")
        elif name in ("drain", "timeout"):
            value = _seconds(name, value or 0)
        setattr(options, name, value)
    return options


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise UsageError(f"{name}: {value!r} is not a number of seconds, 0 or more")
    return float(value)


class Guest(Running):
    """A running guest. A stream is None where its end was handed over as a descriptor."""

    def __init__(self, image: str, args: tuple[str, ...], child: Child, ends: Ends) -> None:
        super().__init__(image, args, child.pid, child.pidfd)
        self.stdin: Input | None = ends.input
        self.stdout: Output | None = ends.output
        self.stderr: Output | None = ends.errors
        self._child = child

    def _conclude(self, code: int) -> Outcome:
        report = bytearray()
        # The tender is gone, so all that it will ever report is in the pipe.
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._child.report_fd, 65536):
                report += piece
        self._child.close()
        return reported(self.name, self.args, bytes(report), code, self.timed_out)

    def close_streams(self) -> None:
        """Close our ends, without a checkpoint."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    async def leave(self) -> None:
        """Close our ends, end it and reap it."""
        self.close_streams()
        await self.end()


def start_guest(
    image: Image, args: tuple[str, ...], options: Options, stdin: End, stdout: End, stderr: End
) -> Guest:
    """Start a guest whose end is the caller's to see to. Raises UkfilterError; nothing is left then."""
    path = os.fspath(image)
    with Ends(stdin, stdout, stderr) as ends:
        child = spawn(path, list(args), options, stdin=ends.stdin, stdout=ends.stdout, stderr=ends.stderr)
        return Guest(path, args, child, ends)


def open_guest(
    image: Image,
    *args: str,
    stdin: End = PIPE,
    stdout: End = PIPE,
    stderr: End = PIPE,
    **options: Unpack[GuestOptions],
) -> Scope[Guest]:
    """Run the unikernel image; leaving the block ends it and reaps it, always.

    Each of stdin, stdout and stderr is a stream of the guest (PIPE), or a descriptor or file that is handed
    over as it is, or DEVNULL, or None: our own. A stream that nobody reads stalls the guest, once 64 KiB are
    in it; that holds for stderr as well. With timeout the guest ends after so many seconds (status 124).

    Raises UkfilterError (ImageError, DeviceError, TenderError, UsageError) if it cannot be started. Whatever
    the guest does is told by wait(), and raises nothing.
    """

    async def start() -> Guest:
        return start_guest(image, args, to_options(options), stdin, stdout, stderr)

    return Scope(start)
