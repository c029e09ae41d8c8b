"""One guest as an async context manager: `async with open_guest("cat.hvt") as guest`.

A guest is a child of the thread that opened it and dies with it, so open it from trio's own thread.
"""

from __future__ import annotations

import contextlib
import os
from typing import Unpack

from ukfilter.pipes.process import Running
from ukfilter.pipes.record import Outcome, reported
from ukfilter.pipes.scope import Scope
from ukfilter.pipes.settings import GuestOptions, Image, to_options, to_path, to_words
from ukfilter.pipes.streams import PIPE, End, Ends, Input, Output
from ukfilter.tender.options import Options
from ukfilter.tender.spawn import Child, spawn


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
    path, args = to_path("image", image), to_words("args", args)
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
