"""A foreign tender's ends: sockets, and pumps between them and the user's descriptors.

The user's descriptors may block, and their flags are the shell's as well: they are read and written in
threads, which are left behind where nobody waits for them any more.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import signal
import socket
import struct
from collections.abc import Callable
from typing import TypeVar

import trio

from ukfilter.errors import UkfilterError
from ukfilter.pipes.process import die_of
from ukfilter.pipes.streams import is_writable, read_some, write_all

PIECE = 1 << 16  # bytes
SIOCOUTQ = 0x5411  # linux/sockios.h: what was sent and is not read yet, by the memory that it takes
REFUSAL = b"Could not attach interface: @"  # what a tender says that takes no descriptors
STANDARD = ("standard input", "standard output", "standard error")

T = TypeVar("T")
Stir = Callable[[], None]  # called where a byte moves


def make_pair(written: bool) -> tuple[socket.socket, socket.socket]:
    """A stream socket of ours, and the tender's, which fixed_flags.py keeps as it is made here.

    One that the tender writes blocks, so that a write is whole. A guest may read it too, and waits elsewhere
    if there is nothing: a time limit, which the kernel rounds up to its tick, makes that EAGAIN after all.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.setblocking(written)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1))
    return ours, theirs


def stream_of(end: socket.socket) -> trio.SocketStream:
    """Our end as a stream, for both directions."""
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))


class End:
    """A descriptor of the user's. For messages: the image, and what the end is called if not standard."""

    def __init__(self, image: str, fd: int, shown: str) -> None:
        self.image, self.fd, self.shown = image, fd, STANDARD[fd] if 0 <= fd <= 2 else shown
        self._limit = trio.CapacityLimiter(1)  # its own: trio's, for all, would let 40 ends wait at a time

    async def _in_thread(self, verb: str, act: Callable[..., T], *args: object) -> T:
        """act, which may block; cancelled, it is left behind. Raises UkfilterError for what fails."""
        try:
            return await trio.to_thread.run_sync(act, *args, abandon_on_cancel=True, limiter=self._limit)
        except BrokenPipeError:  # the reader is gone: our end, as a filter's is
            die_of(signal.SIGPIPE)
            raise
        except (OSError, RuntimeError) as e:  # the latter: there is no thread to be had
            reason = e.strerror if isinstance(e, OSError) else e
            raise UkfilterError(f"{self.image}: cannot {verb} {self.shown}: {reason}") from None


class Inlet(End):
    """What the user gives, to the guest."""

    def __init__(self, image: str, fd: int, shown: str, stream: trio.SocketStream) -> None:
        super().__init__(image, fd, shown)
        self.stream = stream
        self._left = 0

    async def pump(self, stir: Stir, tell_end: bool) -> None:
        """Carry all there is; tell_end: say that this was all. Raises UkfilterError."""
        try:
            while data := await self._in_thread("read", _read_open, self.fd, PIECE):
                await self.stream.send_all(data)
                stir()
            if tell_end:
                await self.stream.send_eof()
        except trio.BrokenResourceError:
            pass  # a tender that takes no more, or is over, is within its rights

    def is_left(self, stir: Stir) -> bool:
        """Whether the guest has not taken all that was sent."""
        left = array.array("i", [0])
        fcntl.ioctl(self.stream.socket.fileno(), SIOCOUTQ, left)
        if left[0] != self._left:
            stir()
        self._left = left[0]
        return left[0] > 0


class Outlet(End):
    """What the guest writes, to the user; fd -1 throws it away."""

    def __init__(self, image: str, fd: int, shown: str, stream: trio.abc.ReceiveStream) -> None:
        super().__init__(image, fd, shown)
        self.stream = stream
        self.writing = self.over = False

    async def pump(self, stir: Stir) -> None:
        """Carry all there is. Raises UkfilterError."""
        while data := await self._receive():
            stir()
            self.writing = True
            await self._write(data)
            self.writing = False
            stir()
        await self._write(b"")
        self.over = True

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(PIECE))
        except trio.BrokenResourceError:  # reset: the tender ended with input that it had not read
            return b""

    async def _write(self, data: bytes) -> None:
        """Write some more; nothing at the end."""
        if self.fd >= 0:
            await self._in_thread("write to", write_all, self.fd, data)

    def moves(self) -> bool:
        """Whether there may be more to carry, and nothing to wait for but the tender."""
        return not self.over and (self.fd < 0 or is_writable(self.fd))


class Words(Outlet):
    """What the tender itself says, by lines, until it refuses. That nobody can be told is no failure."""

    refused = False
    _line = b""

    async def _write(self, data: bytes) -> None:
        self._line += data
        whole = self._line.rfind(b"\n") + 1 if data and len(self._line) < PIECE else len(self._line)
        lines, self._line = self._line[:whole], self._line[whole:]
        self.refused = self.refused or REFUSAL in lines
        if not self.refused:
            await self._in_thread("write to", _write_if_possible, self.fd, lines)


def _read_open(fd: int, size: int) -> bytes:
    """read_some, but what is closed, or open for writing only, is at its end: as under our own tenders."""
    try:
        return read_some(fd, size)
    except OSError as e:
        if e.errno != errno.EBADF:
            raise
        return b""


def _write_if_possible(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        write_all(fd, data)
