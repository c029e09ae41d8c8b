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
SYSTEM_SHARE = 3  # or more than one part in so many of its time in the kernel: it does nothing but ask


class Quiet:
    """How long the process pid has been quiet, in seconds."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
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
        """By what it is doing now, and what it has done since a byte moved."""
        state, user, system = self._stat()
        counts = user, system, self._reads()
        self._before = self._before or counts
        user, system, reads = (after - before for after, before in zip(counts, self._before, strict=True))
        asks = reads > READS_MAX or system * SYSTEM_SHARE > user + system
        return state == "D" or (state == "R" and not asks)

    def _stat(self) -> tuple[str, int, int]:
        """State, user time, system time in ticks: fields 3, 14 and 15 of proc_pid_stat(5)."""
        try:
            fields = (self._proc / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return "X", 0, 0
        return fields[0], int(fields[11]), int(fields[12])

    def _reads(self) -> int:
        """Calls of read(2), as proc_pid_io(5) counts; 0 where the kernel does not or nobody may know."""
        try:
            lines = (self._proc / "io").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith("syscr:"))
