"""A filter over the blocks of one input: a guest a block, some at a time, outputs in order."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

from ukfilter.errors import UkfilterError
from ukfilter.pipes.blocks import Cutter
from ukfilter.pipes.guest import Guest, start_guest
from ukfilter.pipes.pipeline import Stage
from ukfilter.pipes.record import Outcome
from ukfilter.pipes.run import drain, feed
from ukfilter.pipes.scope import Scope
from ukfilter.pipes.streams import PIPE, read_some, write_all

READ = 1 << 20  # bytes a read of the input, at most


@dataclass(frozen=True)
class Block:
    """A piece of the input: number from 1 on, start in bytes, data."""

    number: int
    start: int
    data: bytes


@dataclass
class Totals:
    """How the blocks went. status: as the command's."""

    blocks: int = 0
    failed: list[tuple[Block, Outcome]] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    @property
    def status(self) -> int:
        """Of the first block that failed; else 0, or the least where no block had 0 (grep found nothing)."""
        if self.failed:
            return self.failed[0][1].status
        return min(self.statuses, default=0)


def read_input(fd: int) -> bytes:
    """Some of standard input, b"" at its end or where it is closed. Raises UkfilterError. For a thread."""
    try:
        return read_some(fd, READ)
    except OSError as e:
        if e.errno == errno.EBADF:
            return b""
        raise UkfilterError(f"standard input: cannot read it: {e.strerror}") from None


def write_output(fd: int, data: bytes) -> None:
    """All of data to standard output. Raises BrokenPipeError, UkfilterError. For a thread."""
    try:
        write_all(fd, data)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise UkfilterError(f"standard output: cannot write to it: {e.strerror}") from None


async def read_blocks(fd: int, cutter: Cutter) -> AsyncIterator[Block]:
    """The blocks of standard input, which is read in a thread: its flags are the shell's as well."""
    number = start = 0
    at_end = False
    while not at_end:
        data = await trio.to_thread.run_sync(read_input, fd, abandon_on_cancel=True)
        at_end = not data
        blocks = list(cutter.feed(data))
        if at_end and (rest := cutter.rest()):
            blocks.append(rest)
        for block in blocks:
            number += 1
            yield Block(number, start, block)
            start += len(block)


class Mapper:
    """One run of `map`: at most `jobs` blocks are in memory, with what their guests wrote."""

    def __init__(
        self,
        stage: Stage,
        jobs: int,
        fine: frozenset[int],
        keep_going: bool,
        tell: Callable[[Block, Outcome], None],
    ) -> None:
        self.stage, self.fine, self.keep_going, self.tell = stage, fine, keep_going, tell
        self.totals = Totals()
        self._slots = trio.Semaphore(jobs)

    async def run(self, blocks: AsyncIterator[Block], output: int) -> Totals:
        """Run a guest for each of blocks; outputs go to the descriptor output, in the order of the blocks.

        A block that fails ends it all, once the outputs up to its own are written, unless keep_going.
        """
        async with trio.open_nursery() as nursery:
            before = trio.Event()
            before.set()
            async for block in blocks:
                await self._slots.acquire()
                done = trio.Event()
                nursery.start_soon(self._one, block, output, before, done, nursery.cancel_scope)
                before = done
        return self.totals

    async def _one(
        self, block: Block, output: int, before: trio.Event, done: trio.Event, all_: trio.CancelScope
    ) -> None:
        outcome, text = await self._filter(block.data)
        await before.wait()
        await trio.to_thread.run_sync(write_output, output, text)
        self.totals.blocks += 1
        self.totals.statuses.add(outcome.status)
        if outcome.status not in self.fine:
            self.totals.failed.append((block, outcome))
            self.tell(block, outcome)
            if not self.keep_going:
                all_.cancel()
        self._slots.release()
        done.set()

    async def _filter(self, data: bytes) -> tuple[Outcome, bytes]:
        async def start() -> Guest:
            return start_guest(self.stage.name, self.stage.args, self.stage.options, PIPE, PIPE, None)

        text = bytearray()
        async with Scope(start) as guest, trio.open_nursery() as nursery:
            assert guest.stdin is not None and guest.stdout is not None
            nursery.start_soon(feed, guest.stdin, data)
            nursery.start_soon(drain, guest.stdout, text)
            outcome = await guest.wait()
        return outcome, bytes(text)
