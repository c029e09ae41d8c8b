"""Our ends of a guest's pipes, as trio streams.

They are made of our own pipes alone: a stream makes its descriptor non-blocking, and that flag of an
inherited descriptor would be the shell's as well.
"""

from __future__ import annotations

import os
import select
import subprocess
from typing import Protocol

import trio

from ukfilter.errors import UsageError
from ukfilter.tender import fill_standard_descriptors

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL


def read_some(fd: int, size: int) -> bytes:
    """read(2), which waits until there is something; b"" at the end. Raises OSError. For a thread.

    An inherited descriptor may have been made non-blocking by another program; that is not ours to change.
    """
    while True:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            wait_for(fd, select.POLLIN)


def write_all(fd: int, data: bytes | bytearray) -> None:
    """write(2) until all is written, however long that takes. Raises OSError. For a thread, as read_some."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            wait_for(fd, select.POLLOUT)


def is_writable(fd: int) -> bool:
    """Whether there is room for a small write, or an error to be had."""
    return wait_for(fd, select.POLLOUT, 0)


def wait_for(fd: int, event: int, timeout: float | None = None) -> bool:
    """Wait until a descriptor is ready for select.POLLIN or POLLOUT; whether it is, after timeout ms."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(timeout))


Data = bytes | bytearray | memoryview


def octets(data: Data, name: str) -> memoryview:
    """data as bytes, whatever its items are: what sends a view in pieces counts items, write(2) bytes.

    Raises UsageError, which calls it name, for a view with gaps; TypeError for what has no bytes at all.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise UsageError(f"{name}: its bytes are not contiguous in memory; give a copy, by bytes()")
    return view.cast("B") if view.nbytes else memoryview(b"")  # an empty one cannot be cast


class HasFileno(Protocol):
    """A file, a socket: what has a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


End = int | HasFileno | None
"""PIPE (a stream), DEVNULL, a descriptor or what has one, None (our own); for stderr STDOUT as well."""


def is_ours(number: int) -> bool:
    """Whether a standard descriptor is one that a program is to have of us.

    Where it was closed, its number is the next thing's that is opened: trio's own, for one. That is told by
    its being closed on exec, as nothing can be that has come through an exec.
    """
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def descriptor_of(end: int | HasFileno, name: str) -> int:
    """The open descriptor that end is, or has. Raises UsageError, which calls it name."""
    try:
        number = end if isinstance(end, int) else end.fileno()
        os.fstat(number)
    except (AttributeError, TypeError):
        raise UsageError(
            f"{name}: a {type(end).__name__} is no end; give a descriptor, a file, DEVNULL or None"
        ) from None
    except (OSError, OverflowError, ValueError):
        fault = f"{end} is not" if isinstance(end, int) else f"this {type(end).__name__} has not"
        raise UsageError(f"{name}: {fault} an open descriptor") from None
    return number


class Input(trio.abc.SendStream):
    """Bytes to a guest's input. Sending raises trio.BrokenResourceError once nobody reads it any more."""

    def __init__(self, fd: int) -> None:
        self._stream = trio.lowlevel.FdStream(fd)

    async def send_all(self, data: Data) -> None:
        """Send all of data; waits while the guest does not take it. UsageError: it is a view with gaps."""
        await self._stream.send_all(octets(data, "data"))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        await self._stream.wait_send_all_might_not_block()

    @trio.lowlevel.enable_ki_protection
    async def send_eof(self) -> None:
        """End of file for the guest. The same as aclose: there is no other direction to keep open."""
        await self._stream.aclose()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close it: the guest reads end of file, after all that was sent."""
        await self._stream.aclose()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """aclose, at once and without a checkpoint."""
        self._stream.close()


class Output(trio.abc.ReceiveStream):
    """Bytes from a guest."""

    def __init__(self, fd: int) -> None:
        self._stream = trio.lowlevel.FdStream(fd)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, b"" at the end. What is not received stalls the guest, once the pipe is full."""
        return bytes(await self._stream.receive_some(max_bytes))

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close it: the guest's next write there ends it by SIGPIPE."""
        await self._stream.aclose()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """aclose, at once and without a checkpoint."""
        self._stream.close()


def close_all(*streams: Input | Output | None) -> None:
    """Close those that there are, without a checkpoint."""
    for stream in streams:
        if stream is not None:
            stream.close()


class Ends:
    """The three descriptors of a process to be, and our streams to them.

    A context manager: leaving it closes the descriptors that were made for the process, and our streams too
    where it is left by an exception.
    """

    def __init__(self, stdin: End, stdout: End, stderr: End) -> None:
        self.input: Input | None = None
        self.output: Output | None = None
        self.errors: Output | None = None
        self._theirs: list[int] = []
        fill_standard_descriptors()  # or one of ours would get such a number, and what is written there
        try:
            self.stdin = self._input(stdin)
            self.stdout, self.output = self._output("stdout", stdout, 1)
            if stderr == STDOUT:
                self.stderr = self.stdout
            else:
                self.stderr, self.errors = self._output("stderr", stderr, 2)
        except BaseException:
            self.__exit__(BaseException)
            raise

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for fd in self._theirs:
            os.close(fd)
        self._theirs.clear()
        if kind is not None:
            for stream in (self.input, self.output, self.errors):
                if stream is not None:
                    stream.close()

    def _input(self, end: End) -> int:
        if end != PIPE:
            return self._given("stdin", end, 0, os.O_RDONLY)
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        self._theirs.append(theirs)
        self.input = Input(ours)
        return theirs

    def _output(self, name: str, end: End, own: int) -> tuple[int, Output | None]:
        if end != PIPE:
            return self._given(name, end, own, os.O_WRONLY), None
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._theirs.append(theirs)
        return theirs, Output(ours)

    def _given(self, name: str, end: End, own: int, mode: int) -> int:
        if end is None:
            if is_ours(own):
                return own
            mode = os.O_WRONLY if mode == os.O_RDONLY else os.O_RDONLY  # one that fails, as a closed one does
            end = DEVNULL
        if end == STDOUT:
            raise UsageError(f"{name}: STDOUT is for stderr alone")
        if end == DEVNULL:
            self._theirs.append(os.open(os.devnull, mode | os.O_CLOEXEC))
            return self._theirs[-1]
        return descriptor_of(end, name)
