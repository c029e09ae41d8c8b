"""The life of a mount: mount it, say that it is ready, serve it, end it and its guests in good order.

The daemon must not touch its own mount from trio's thread, or it would wait for itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable

import trio

from ukfilter.errors import UkfilterError, UsageError, complain, printable
from ukfilter.fs import interrupt
from ukfilter.fs.config import Filter
from ukfilter.fs.operations import Operations, pyfuse3
from ukfilter.fs.tree import Tree
from ukfilter.pipes.errors import ungrouped

MIN_TASKS, MAX_TASKS = 30, 100_000  # a blocked reader holds a task: at pyfuse3's 99, even ls would hang
OURS = ("fsname=ukfilter", "subtype=ukfilter", "default_permissions")
LOOKS = 30  # at a tenth of a second: the time that the death of a process may take
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class MountError(UkfilterError):
    """It cannot be mounted, or unmounted."""


def check_mountpoint(path: str) -> str:
    """path, made absolute, if something can be mounted there; a leftover mount is cleared away first.

    Raises MountError.
    """
    shown, path = printable(path), os.path.abspath(path)
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise MountError(f"{shown}: no such directory; make it: mkdir {shown}") from None
    except NotADirectoryError:
        raise MountError(f"{shown}: is not a directory") from None
    except OSError as e:
        if e.errno != errno.ENOTCONN:
            raise MountError(f"{shown}: cannot use it: {e.strerror}") from None
        unmount(path)
        return check_mountpoint(path)
    if os.path.ismount(path) and "fuse.ukfilter" in kinds_at(path):
        raise MountError(f"{shown}: is a mount of ukfilter already; end it: ukfilter umount {shown}")
    if names:
        raise MountError(f"{shown}: is not empty; use an empty directory")
    return path


def kinds_at(path: str) -> list[str]:
    """The types of what is mounted at path: proc(5), mountinfo."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        lines = [line.split() for line in f]
    escaped = path.replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
    return [words[words.index("-") + 1] for words in lines if words[4] == escaped]


def unmount(path: str) -> None:
    """Unmount path, as any user may what is his. Raises MountError."""
    try:
        result = subprocess.run(["fusermount3", "-u", path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MountError("fusermount3: not found; install the package fuse3") from None
    if result.returncode:
        said = result.stderr.strip().splitlines()[-1:] or ["fusermount3 failed"]
        raise MountError(f"{printable(path)}: cannot unmount it: {printable(said[0])}")


def fuse_options(given: Iterable[str]) -> set[str]:
    """Options of the mount: ours, and those of -o."""
    options = {*pyfuse3.default_options, *OURS, "auto_unmount"}
    for word in given:
        options.update(part for part in word.split(",") if part and part not in ("rw", "defaults"))
    options.discard("nonempty")
    return options


def serve(path: str, filters: list[Filter], given: Iterable[str], ready: Callable[[], None]) -> None:
    """Mount filters at path and serve them to the end. Raises UkfilterError.

    ready is called once clients can come.
    """
    over = watch_over(path)
    try:
        with ungrouped(UkfilterError):
            trio.run(_serve, path, filters, fuse_options(given), ready)
    finally:
        with contextlib.suppress(OSError):
            os.write(over, b"\n")
        os.close(over)


def watch_over(path: str) -> int:
    """A process that unmounts path if this one is killed; to be told by a byte that all is well.

    libfuse's own auto_unmount looks once, and may do so before the kernel knows that the daemon is dead.
    """
    theirs, ours = os.pipe()
    if os.fork():
        os.close(theirs)
        return ours
    os.setsid()
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    let_go_of_streams()
    os.closerange(3, theirs)
    os.closerange(theirs + 1, 1024)
    os.chdir("/")
    for _ in range(LOOKS if not os.read(theirs, 1) else 0):
        try:
            os.stat(path)
        except OSError as e:
            if e.errno == errno.ENOTCONN:
                with contextlib.suppress(MountError):
                    unmount(path)
                break
        time.sleep(0.1)
    os._exit(0)


def let_go_of_streams() -> None:
    """Standard input, output and error are nobody's from now on: whoever waits for their end has it."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:  # else it took the place of a stream that was closed
        os.close(null)


async def _serve(path: str, filters: list[Filter], options: set[str], ready: Callable[[], None]) -> None:
    tree = Tree(filters, os.getuid(), os.getgid())
    async with trio.open_nursery() as guests:
        operations = Operations(tree, guests)
        try:
            pyfuse3.init(operations, path, options)
        except RuntimeError as e:  # libfuse has said why on standard error
            raise MountError(f"{printable(path)}: cannot mount there: {e}; see ukfilter doctor") from None
        try:
            if not interrupt.works():
                warn("blocked readers and writers cannot be interrupted, as libfuse is not as expected")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_on_signal, tree)
                ready()
                await pyfuse3.main(min_tasks=MIN_TASKS, max_tasks=MAX_TASKS)
                nursery.cancel_scope.cancel()
        finally:
            end_guests(tree)
            pyfuse3.close(unmount=True)
        guests.cancel_scope.cancel()


async def _end_on_signal(tree: Tree) -> None:
    with trio.open_signal_receiver(*ENDINGS) as signals:
        async for _ in signals:
            end_guests(tree)  # readers that wait for them get their end of file, or EIO
            await trio.sleep(0.05)
            pyfuse3.terminate()


def end_guests(tree: Tree) -> None:
    """Kill every guest that still runs."""
    for place in tree.places():
        if place.run is not None and place.run.job.outcome is None:
            place.run.kill()


def warn(text: str) -> None:
    """A line on standard error."""
    complain(f"mount: {text}")


def serve_in_background(
    path: str, filters: list[Filter], given: Iterable[str], ready: Callable[[], None]
) -> int:
    """serve() in a daemon; returns 0 as soon as that is ready, or its status if it never is."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ours)
        if os.read(theirs, 1):
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(theirs)
    os.setsid()
    os.chdir("/")

    def let_go() -> None:
        ready()
        let_go_of_streams()
        os.write(ours, b"\n")
        os.close(ours)

    status = 0
    try:
        serve(path, filters, given, let_go)
    except UkfilterError as e:
        warn(str(e))
        status = e.status
    os._exit(status)


def check_descriptor(fd: int) -> None:
    """Raises UsageError unless fd is open."""
    try:
        os.fstat(fd)
    except OSError:
        raise UsageError(f"--ready-fd {fd}: descriptor {fd} is not open") from None
