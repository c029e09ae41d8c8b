"""What a guest wrote, kept until everybody has read it: in memory at first, then in unlinked files.

Offsets are bytes from the beginning of the output. It knows no clock and no waiting.
"""

from __future__ import annotations

import os
import tempfile

MEMORY = 8 << 20  # bytes that stay in memory
FILE = 64 << 20  # bytes a file; what everybody has read is given back by files


class SpoolGoneError(Exception):
    """The offset is of what was given back already."""


class _Block:
    """A piece of the spool: bytes from `start` on, in memory or in a file that has no name."""

    def __init__(self, start: int, capacity: int, in_memory: bool) -> None:
        self.start, self.end, self.capacity = start, start, capacity
        self.memory = bytearray()
        # Closed with the last reference to it: a job that nobody knows any more takes its files along.
        self.file = None if in_memory else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def append(self, data: memoryview) -> int:
        """Take as much of data as there is room for; how much."""
        data = data[: self.capacity - (self.end - self.start)]
        if self.file is None:
            self.memory += data
        else:
            at, done = self.end - self.start, 0
            while done < len(data):
                done += os.pwrite(self.file.fileno(), data[done:], at + done)
        self.end += len(data)
        return len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Up to size bytes from offset on, which lies in this block."""
        at = offset - self.start
        if self.file is None:
            return bytes(memoryview(self.memory)[at : at + size])
        return os.pread(self.file.fileno(), min(size, self.end - offset), at)

    def close(self) -> None:
        """Give its file back now."""
        if self.file is not None:
            self.file.close()


class Spool:
    """Output in order, `limit` bytes of it at most at one time."""

    def __init__(self, limit: int, memory: int = MEMORY, file: int = FILE) -> None:
        self.limit, self._memory, self._file = limit, memory, file
        self.start = self.end = 0
        self._blocks: list[_Block] = []

    @property
    def room(self) -> int:
        """Bytes that can be appended now."""
        return self.limit - (self.end - self.start)

    def append(self, data: bytes) -> None:
        """Add data, no more than there is room for. Raises OSError if the disk is full."""
        left = memoryview(data)
        while left:
            if not self._blocks or self._blocks[-1].end - self._blocks[-1].start == self._blocks[-1].capacity:
                first = self.end == 0
                self._blocks.append(_Block(self.end, self._memory if first else self._file, first))
            took = self._blocks[-1].append(left)
            self.end += took
            left = left[took:]

    def read(self, offset: int, size: int) -> bytes:
        """Up to size bytes from offset on, b"" at the end. Raises SpoolGoneError."""
        if offset < self.start:
            raise SpoolGoneError
        for block in self._blocks:
            if block.start <= offset < block.end:
                return block.read(offset, size)
        return b""

    def give_back(self, offset: int) -> None:
        """Nobody will ask for what is before offset: make room, as far as whole blocks allow."""
        while self._blocks and self._blocks[0].end <= min(offset, self.end):
            block = self._blocks.pop(0)
            self.start = block.end
            block.close()

    def close(self) -> None:
        """Forget it all; from now on it is empty."""
        for block in self._blocks:
            block.close()
        self._blocks.clear()
        self.start = self.end
