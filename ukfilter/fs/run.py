"""One guest at work for the mount: its pipes pumped into spools, its readers and writers made to wait."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable

import trio

from ukfilter.errors import UkfilterError
from ukfilter.fs.config import Filter
from ukfilter.fs.job import Job
from ukfilter.fs.spool import Spool, SpoolGoneError
from ukfilter.pipes.guest import Guest, start_guest
from ukfilter.pipes.record import Outcome
from ukfilter.pipes.streams import PIPE, Output

PIECE = 1 << 16
ERRORS_LIMIT = 1 << 20  # bytes of `err` that are kept: the first
SPOOL_FAILED = 125

Notify = Callable[[], None]


class Run:
    """A job and what it has written. Its tasks live in the nursery that start() is given."""

    def __init__(self, filter_: Filter) -> None:
        self.filter, self.job = filter_, Job()
        self.out, self.err = Spool(filter_.spool), Spool(ERRORS_LIMIT)
        self.changed_ns = time.time_ns()
        self.positions: dict[int, int] = {}  # by open file of `out`: what it has read up to
        self.pollers: list[Notify] = []  # to be called once, at the next change
        self._lot = trio.lowlevel.ParkingLot()
        self._stuck: set[trio.CancelScope] = set()  # writers that wait for the guest to read
        self._guest: Guest | None = None
        self._input = -1
        self._turn = trio.Lock()

    def start(self, nursery: trio.Nursery) -> None:
        """Start the guest. If that fails, the job is over, with the reason in `status` and `err`."""
        theirs, self._input = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._input, False)
        try:
            options = self.filter.options()
            self._guest = start_guest(self.filter.image, self.filter.args, options, theirs, PIPE, PIPE)
        except UkfilterError as e:
            self.err.append(f"ukfilter: {e}\n".encode(errors="backslashreplace"))
            self._finish(Outcome(self.filter.image, self.filter.args, e.status, str(e), failed=True))
        else:
            nursery.start_soon(self._supervise, self._guest)
        finally:
            os.close(theirs)

    # --- the guest's side

    async def _supervise(self, guest: Guest) -> None:
        assert guest.stdout is not None and guest.stderr is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_output, guest.stdout)
                nursery.start_soon(self._keep_errors, guest.stderr)
            outcome = await guest.wait()
        except OSError as e:
            await guest.end()
            reason = f"cannot keep the output: {e.strerror}"
            outcome = Outcome(guest.name, guest.args, SPOOL_FAILED, reason, failed=True)
        finally:
            guest.close_streams()
            await guest.end()
        self._finish(outcome)

    async def _keep_output(self, stream: Output) -> None:
        while data := await stream.receive_some(min(PIECE, self.out.limit)):
            while self.out.room < len(data):
                self._make_room()
                if self.out.room >= len(data):
                    break
                self.job.full = True
                self._free_the_stuck()
                await self._lot.park()
            self.job.full = False
            self.out.append(data)
            self.job.bytes_out = self.out.end
            self.changed()

    async def _keep_errors(self, stream: Output) -> None:
        while data := await stream.receive_some(PIECE):
            self.err.append(data[: self.err.room])
            self.changed()

    def _make_room(self) -> None:
        """What all readers have read need not be kept, once the limit is reached."""
        if self.positions:
            self.out.give_back(min(self.positions.values()))

    def _free_the_stuck(self) -> None:
        """The guest cannot go on, and nobody reads: a writer would wait for ever."""
        if not self.positions:
            for scope in self._stuck:
                scope.cancel()

    def _finish(self, outcome: Outcome) -> None:
        self.job.finish(outcome)
        self.close_input()
        self.changed()

    def changed(self) -> None:
        """Wake everybody who waits for a change of this job."""
        self.changed_ns = time.time_ns()
        self._lot.unpark_all()
        pollers, self.pollers = self.pollers, []
        for notify in pollers:
            notify()

    # --- the clients' side

    async def read(self, spool: Spool, offset: int, size: int, wait: bool) -> bytes:
        """As read(2): waits for data while the guest runs; b"" at the end.

        Raises OSError: EIO at the end of a job that failed; EAGAIN instead of waiting, while input is open.
        """
        while True:
            try:
                data = spool.read(offset, size)
            except SpoolGoneError:
                raise OSError(errno.ESPIPE, "what was there is given back already") from None
            if data:
                return data
            if self.job.outcome is not None:
                if self.job.failed and spool is self.out:
                    raise OSError(errno.EIO, "the guest failed")
                return b""
            # gzip opens what it takes for a regular file with O_NONBLOCK, and knows no EAGAIN. Once the input
            # is closed the guest needs nobody any more, so waiting for it cannot lock anybody up.
            if not wait and self.job.input_open:
                raise OSError(errno.EAGAIN, "nothing yet")
            await self._lot.park()

    def spool(self, file: str) -> Spool:
        """What `out` or `err` shows."""
        return self.out if file == "out" else self.err

    def moved(self, handle: int, position: int) -> None:
        """A reader of `out` has read up to position."""
        self.positions[handle] = max(position, self.positions.get(handle, 0))
        if self.job.full:
            self._lot.unpark_all()

    def gone(self, handle: int) -> None:
        """A reader of `out` is gone."""
        self.positions.pop(handle, None)
        if self.job.full:
            self._free_the_stuck()

    async def wait(self, block: bool = True) -> str:
        """The status line, once the job is over. Raises OSError, EAGAIN, instead of waiting."""
        while self.job.outcome is None:
            if not block:
                raise OSError(errno.EAGAIN, "not over yet")
            await self._lot.park()
        return self.job.line()

    async def write(self, data: bytes, wait: bool) -> int:
        """As write(2) to the guest's input: all of data, or less if this is cancelled meanwhile.

        Raises OSError: EPIPE if the guest is over, ENOSPC if it waits for readers and there is none, EAGAIN.
        """
        done = 0
        view = memoryview(data)
        try:
            async with self._turn:
                while done < len(data):
                    if self._input < 0:
                        raise OSError(errno.EPIPE, "the guest takes no more")
                    try:
                        done += os.write(self._input, view[done:])
                    except BlockingIOError:
                        if not wait:
                            if done:
                                break
                            raise
                        await self._wait_for_guest()
        except (trio.Cancelled, OSError):
            if not done:
                raise
            # What the guest has taken cannot be taken back: that much is the answer.
            return done
        finally:
            self.job.bytes_in += done
        return done

    async def _wait_for_guest(self) -> None:
        with trio.CancelScope() as scope:
            self._stuck.add(scope)
            try:
                if self.job.full:
                    self._free_the_stuck()
                await trio.lowlevel.wait_writable(self._input)
            except trio.ClosedResourceError:
                raise OSError(errno.EPIPE, "the guest takes no more") from None
            finally:
                self._stuck.discard(scope)
        if scope.cancelled_caught:
            raise OSError(errno.ENOSPC, "the output is at its limit, and nobody reads it")

    def writable(self) -> bool:
        """Whether a write would not wait."""
        if self._input < 0:  # it would fail at once
            return True
        poll = select.poll()
        poll.register(self._input, select.POLLOUT)
        return bool(poll.poll(0))

    async def tell_when_writable(self) -> None:
        """Call the pollers once the guest takes more."""
        with contextlib.suppress(trio.ClosedResourceError, OSError):
            if self._input >= 0:
                await trio.lowlevel.wait_writable(self._input)
        self.changed()

    def close_input(self) -> None:
        """End of file for the guest."""
        self.job.end_input()
        if self._input >= 0:
            fd, self._input = self._input, -1
            trio.lowlevel.notify_closing(fd)
            os.close(fd)

    def leave(self) -> None:
        """A writer is gone; with the last one goes the input."""
        if self.job.leave():
            self.close_input()
            self.changed()

    def kill(self) -> None:
        """End the guest at once."""
        if self._guest is not None:
            self._guest.kill()

    def forget(self) -> None:
        """Give back what was kept. The job is to be over."""
        self.out.close()
        self.err.close()
