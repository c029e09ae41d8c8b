"""One guest as an async context manager: `async with open_guest("cat.hvt") as guest`.

A guest is a child of the thread that opened it and dies with it, so open it from trio's own thread.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import Any, Unpack

import trio

from ukfilter.errors import NoTenderError
from ukfilter.pipes.errors import starting
from ukfilter.pipes.process import Running
from ukfilter.pipes.record import Outcome, reported
from ukfilter.pipes.scope import Scope, oversee
from ukfilter.pipes.settings import GuestOptions, Image, to_options, to_path, to_words
from ukfilter.pipes.streams import PIPE, End, Ends, Input, Output, close_all
from ukfilter.tender.guest import start_failure
from ukfilter.tender.options import Options
from ukfilter.tender.spawn import Child, spawn

LATE = 1.0  # seconds after a time-out in which the tender has time to do it itself, and to tell its figures


class Guest(Running):
    """A running guest.

    A stream is None where its end was handed over as a descriptor: who has done that knows, so its type says
    `Any` for it, and the default needs no assertion.
    """

    def __init__(self, image: str, args: tuple[str, ...], child: Child, ends: Ends) -> None:
        super().__init__(image, args, child.pid, child.pidfd)
        self.stdin: Input | Any = ends.input
        self.stdout: Output | Any = ends.output
        self.stderr: Output | Any = ends.errors
        self._child = child
        self._report = bytearray()
        self._watch = trio.CancelScope()

    def _conclude(self, code: int | None) -> Outcome:
        self._read_report()  # the tender is gone, so all that it will ever report is in the pipe
        self._child.close()
        if code is None:
            code = -signal.SIGKILL  # what else keeps a tender from its report, which is believed before this
        return reported(self.name, self.args, bytes(self._report), code, self.timed_out)

    def _read_report(self) -> bool:
        """Take what there is of the report; whether there can be more."""
        try:
            while piece := os.read(self._child.report_fd, 65536):
                self._report += piece
        except BlockingIOError:
            return True
        return False

    async def started(self) -> None:
        """Wait until it runs, or is over. Raises TenderError if its child could not start it."""
        while self._read_report() and b"\n" not in self._report:
            await trio.lowlevel.wait_readable(self._child.report_fd)
        told = reported(self.name, self.args, bytes(self._report), 0)
        if told.failed:
            raise start_failure(self.name, told.reason, told.status == NoTenderError.status)

    def close_streams(self) -> None:
        """Close our ends, without a checkpoint."""
        close_all(self.stdin, self.stdout, self.stderr)

    def limit(self, timeout: float) -> None:
        """Have it ended, a little late, where its tender cannot do it: one that is stopped."""
        self._watch = oversee(functools.partial(self._enforce, trio.current_time() + timeout + LATE))

    async def _enforce(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        self.timed_out = not self.is_over()
        self.kill()

    async def leave(self) -> None:
        """Close our ends, end it and reap it."""
        self._watch.cancel()
        self.close_streams()
        await self.end()


def start_guest(
    image: Image, args: tuple[str, ...], options: Options, stdin: End, stdout: End, stderr: End
) -> Guest:
    """Start a guest whose end is the caller's to see to. Raises UkfilterError; nothing is left then."""
    path, args = to_path("image", image), to_words("args", args)
    with starting(path), Ends(stdin, stdout, stderr) as ends:
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

    Raises UkfilterError (ImageError, DeviceError, TenderError, UsageError) if it cannot be started; in the
    block it runs. Whatever the guest does is told by wait(), and raises nothing.
    """

    async def start() -> Guest:
        settings = to_options(options)
        guest = start_guest(image, args, settings, stdin, stdout, stderr)
        if settings.timeout:
            guest.limit(settings.timeout)
        try:
            await guest.started()
        except BaseException:
            await guest.leave()
            raise
        return guest

    return Scope(start)
