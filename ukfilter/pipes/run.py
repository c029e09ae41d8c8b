"""Run a guest to its end: `await run("cat.hvt", input=b"data")`, and the same without trio."""

from __future__ import annotations

import functools
from typing import Unpack

import trio

from ukfilter.errors import UsageError
from ukfilter.pipes.blocking import run_blocking
from ukfilter.pipes.errors import failure
from ukfilter.pipes.guest import Guest, open_guest
from ukfilter.pipes.record import Completed
from ukfilter.pipes.settings import GuestOptions, Image
from ukfilter.pipes.streams import (
    DEVNULL,
    PIPE,
    STDOUT,
    Data,
    End,
    HasFileno,
    Input,
    Output,
    descriptor_of,
    octets,
)


async def feed(stream: Input, data: Data) -> None:
    """Send data and end of file; a guest that takes no more of it is within its rights."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        pass
    finally:
        stream.close()


async def drain(stream: Output, into: bytearray) -> None:
    """Receive all there is, to the end."""
    while piece := await stream.receive_some():
        into += piece


def _source(given: Data | int | HasFileno | None) -> tuple[Data | None, End]:
    """What to feed the guest, if there is that, and its standard input. Raises UsageError."""
    if given is None or given == DEVNULL:
        return None, given
    if given in (PIPE, STDOUT):
        raise UsageError("input: neither PIPE nor STDOUT is one; to talk to a guest there is open_guest")
    if isinstance(given, int) or hasattr(given, "fileno"):
        return None, descriptor_of(given, "input")
    try:
        return octets(given, "input"), PIPE
    except TypeError:
        raise UsageError(
            f"input: a {type(given).__name__} is none; give bytes, a descriptor, a file, DEVNULL or None"
        ) from None


def _sink(name: str, end: End, capture: bool | None) -> End:
    """Where an output goes: PIPE if it is captured, as it is unless told. Raises UsageError."""
    captured = end is None or end == PIPE if capture is None else capture
    if end is not None and captured != (end == PIPE):
        raise UsageError(f"{name}: cannot be had together with capture_{name}={capture}; leave one out")
    return PIPE if captured else end


@trio.lowlevel.enable_ki_protection  # ^C within start_soon leaves a task that never runs nor ends
def _carry(
    nursery: trio.Nursery, guest: Guest, data: Data | None, texts: tuple[bytearray, bytearray]
) -> None:
    if guest.stdin is not None and data is not None:
        nursery.start_soon(feed, guest.stdin, data)
    for stream, text in zip((guest.stdout, guest.stderr), texts, strict=True):
        if stream is not None:
            nursery.start_soon(drain, stream, text)


async def run(
    image: Image,
    *args: str,
    input: Data | int | HasFileno | None = b"",
    capture_stdout: bool | None = None,
    capture_stderr: bool | None = None,
    stdout: End = None,
    stderr: End = None,
    check: bool = True,
    **options: Unpack[GuestOptions],
) -> Completed:
    """Run the unikernel image to its end.

    input: bytes, or a descriptor or file to read from, or None: our own standard input. Output is captured,
    but for what stdout or stderr gives another end: a descriptor, a file, DEVNULL, for stderr STDOUT (where
    that goes, captured or not). With capture_stdout or capture_stderr False it goes to our own. options: see
    GuestOptions; after timeout seconds it ends with status 124, and what it wrote until then is kept.

    Raises GuestError if check is set and the status is not 0 (GuestTimeoutError for a time-out; both have the
    record as `completed`), UkfilterError if it cannot be started. Cancelled, it ends the guest first.
    """
    data, source = _source(input)
    out, err = _sink("stdout", stdout, capture_stdout), _sink("stderr", stderr, capture_stderr)
    texts = bytearray(), bytearray()
    try:
        async with (
            open_guest(image, *args, stdin=source, stdout=out, stderr=err, **options) as guest,
            trio.open_nursery() as nursery,
        ):
            _carry(nursery, guest, data, texts)
            outcome = await guest.wait()
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):  # our tasks are nobody's business
            raise KeyboardInterrupt from group
        raise
    completed = Completed(
        outcome,
        bytes(texts[0]) if out == PIPE else None,
        bytes(texts[1]) if err == PIPE else None,
    )
    if check and outcome.status:
        raise failure(outcome, completed=completed)
    return completed


def run_sync(
    image: Image,
    *args: str,
    input: Data | int | HasFileno | None = b"",
    capture_stdout: bool | None = None,
    capture_stderr: bool | None = None,
    stdout: End = None,
    stderr: End = None,
    check: bool = True,
    **options: Unpack[GuestOptions],
) -> Completed:
    """`run`, for a program without trio: blocks until the guest is over. Not for use inside of trio.

    What a handler of a signal raises meanwhile, KeyboardInterrupt or other, ends the guest first. Inside of
    asyncio nothing else goes on, and its handler of ^C raises at the second one only.
    """
    call = functools.partial(
        run,
        image,
        *args,
        input=input,
        capture_stdout=capture_stdout,
        capture_stderr=capture_stderr,
        stdout=stdout,
        stderr=stderr,
        check=check,
        **options,
    )
    if trio.lowlevel.in_trio_run():
        raise UsageError("run_sync: trio runs in this thread already; write `await ukfilter.run(...)`")
    return run_blocking(call)
