"""Whether a guest under a foreign tender is quiet: no byte moves, and it does not compute.

A guest that computes on what it has read must not be taken for one that waits for more. Nor the reverse: one
that reads or polls an end of file over and over takes all the time there is as well.
"""

from __future__ import annotations

import time
from pathlib import Path

LOOK = 0.02  # seconds between two looks
LOOK_MAX = 0.1  # seconds that a look may count: we may have been stopped in between
READS_MAX = 16  # reads with no byte to show for it: as our own tenders have it
SYSTEM_SHARE = 3  # or, where it is told of the end, more than one part in so many of its time in the kernel


class Quiet:
    """How long the process pid, with all that it started, has been quiet, in seconds.

    tells_end: it tells its guest of an end of file, which may poll that over and over. Elsewhere the share of
    the kernel means nothing: a KVM that is software takes the guest's own time for the kernel's.
    """

    def __init__(self, pid: int, tells_end: bool) -> None:
        self._pid, self._tells_end = pid, tells_end
        self._looked = time.monotonic()
        self.stir()

    def stir(self) -> None:
        """A byte moved."""
        self.seconds = 0.0
        self._before: tuple[int, int, int] | None = None

    def look(self) -> None:
        """Count the time since the last look: a look at which it computes takes back one at which it waits.

        So one that wakes now and then, by a timer, comes to be quiet, and one that works does not.
        """
        now = time.monotonic()
        passed = min(now - self._looked, LOOK_MAX)
        self._looked = now
        self.seconds = max(0.0, self.seconds - passed) if self._computes() else self.seconds + passed

    def _computes(self) -> bool:
        """By what its threads are doing now, and what they have done since a byte moved."""
        processes = [_Process(pid) for pid in _tree(self._pid)]
        states = "".join(p.states for p in processes)
        counts = (
            sum(p.user for p in processes),
            sum(p.system for p in processes),
            sum(p.reads for p in processes),
        )
        self._before = self._before or counts
        user, system, reads = (after - before for after, before in zip(counts, self._before, strict=True))
        asks = reads > READS_MAX or (self._tells_end and system * SYSTEM_SHARE > user + system)
        return "D" in states or ("R" in states and not asks)


class _Process:
    """What proc(5) says of a process: its threads' states, ticks of their time, calls of read(2)."""

    def __init__(self, pid: int) -> None:
        self.states, self.user, self.system = "", 0, 0
        for path in Path(f"/proc/{pid}/task").glob("*/stat"):
            fields = _text(path).rpartition(")")[2].split()
            if fields:
                self.states += fields[0]
                self.user += int(fields[11])
                self.system += int(fields[12])
        reads = [line.split()[1] for line in _text(f"/proc/{pid}/io").splitlines() if line[:6] == "syscr:"]
        self.reads = int(reads[0]) if reads else 0  # not all kernels count them


def _tree(pid: int) -> list[int]:
    """pid, and what descends from it."""
    children = [int(word) for word in _text(f"/proc/{pid}/task/{pid}/children").split()]
    return [pid, *(one for child in children for one in _tree(child))]


def _text(path: str | Path) -> str:
    """What a file of proc(5) says; nothing where it is gone, or not for us."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
