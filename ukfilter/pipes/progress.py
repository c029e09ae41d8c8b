"""Progress: pumps that count what goes into each stage, and lines on stderr, drawn by tqdm.

A pump is a thread that blocks: an inherited descriptor must not be made non-blocking, and a regular file can
never be waited for. One that waits for standard input ends with the process, so this is for commands. So it
is with the lines: a terminal may be stopped, or nobody reads, and that must hold up nothing but themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from ukfilter.errors import UsageError, printable
from ukfilter.pipes.streams import read_some, wait_for, write_all

MODES = ("auto", "always", "never")
PIECE = 1 << 20
INTERVAL = 0.1  # seconds between two drawings
LAST = 2.0  # seconds at most that the end waits for the last one


def is_on(mode: str | None) -> bool:
    """Whether to draw: --progress=MODE; None where it was not asked for. Raises UsageError."""
    if mode is not None and mode not in MODES:
        raise UsageError(f"--progress: {printable(mode)} is none of {', '.join(MODES)}")
    return mode == "always" or (mode == "auto" and os.isatty(2))


def size_left(fd: int) -> int | None:
    """Bytes from the offset of a regular file to its end; None for all else."""
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return None
        return max(0, about.st_size - os.lseek(fd, 0, os.SEEK_CUR))
    except OSError:
        return None


class Meter:
    """The pump before one stage. count: bytes carried; total: how many there will be, where that is known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.total: int | None = None
        self.error = ""  # why the input ended too early

    def start(self, source: int, sink: int) -> None:
        """Carry all from source to sink, both of which are this meter's from now on."""
        self.total = size_left(source)
        threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: int, sink: int) -> None:
        move = _splice
        try:
            while True:
                try:
                    moved = move(source, sink)
                except BlockingIOError:  # another program has made the source non-blocking
                    wait_for(source, select.POLLIN)
                    wait_for(sink, select.POLLOUT)
                    continue
                except OSError as e:
                    if e.errno != errno.EINVAL or move is _copy:
                        raise
                    move = _copy  # a terminal, and much else, cannot be spliced
                    continue
                if not moved:
                    break
                self.count += moved
        except OSError as e:
            if e.errno not in (errno.EPIPE, errno.EBADF):  # the stage is gone; stdin was closed all along
                self.error = e.strerror or str(e)
        finally:
            os.close(source)
            os.close(sink)


def _splice(source: int, sink: int) -> int:
    return os.splice(source, sink, PIECE)


def _copy(source: int, sink: int) -> int:
    data = read_some(source, 65536)
    write_all(sink, data)
    return len(data)


class Canvas:
    """Standard error as a file for tqdm. What it does not take is not drawn, and that is all."""

    encoding = sys.stderr.encoding if sys.stderr else "ascii"

    def fileno(self) -> int:
        """For the size of the terminal."""
        return 2

    def write(self, text: str) -> None:
        """Write at once; may block."""
        with contextlib.suppress(OSError):
            write_all(2, text.encode(self.encoding, "backslashreplace"))

    def flush(self) -> None:
        """Nothing is kept back."""


def _shape(lines: int) -> dict[str, int | bool]:
    """tqdm's words for the size of the terminal; one that says it has no size would get nothing drawn."""
    try:
        known = all(os.get_terminal_size(2))
    except OSError:
        return {}
    return {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": lines + 1}


class Display:
    """A line a stage. Its `joint` is for open_pipeline, in a program that ignores SIGPIPE."""

    def __init__(self, names: Sequence[str]) -> None:
        labels = [os.path.basename(printable(name)) for name in names]
        width = max(map(len, labels))
        self.meters = [Meter(label.ljust(width)) for label in labels]
        self._over = threading.Event()

    def joint(self, at: int, source: int, sink: int) -> None:
        """Put a meter between source and sink, before stage number at (from 0 on)."""
        self.meters[at].start(source, sink)

    @contextlib.contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw while in the block, and then once more; where that cannot be, the thread is left behind."""
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(LAST)

    def _follow(self) -> None:
        tqdm.monitor_interval = 0  # no thread of tqdm's: all is drawn from here
        bars = [
            tqdm(
                desc=meter.name,
                total=meter.total,
                position=at,
                file=Canvas(),
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0,
                miniters=0,
                **_shape(len(self.meters)),
            )
            for at, meter in enumerate(self.meters)
        ]
        while not self._over.wait(INTERVAL):
            self._draw(bars)
        self._draw(bars)
        for bar in bars:
            bar.close()

    def _draw(self, bars: Sequence[tqdm[object]]) -> None:
        for bar, meter in zip(bars, self.meters, strict=True):
            bar.update(meter.count - bar.n)
