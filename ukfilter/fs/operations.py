"""FUSE's requests, each a few lines: which place and file, then what run.py, job.py or tree.py say to it.

An exception that is no FUSEError would end the whole mount: each handler is guarded, and such a one is an
EIO for its client and a line on standard error for us.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import stat
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import trio

from ukfilter.errors import complain, printable
from ukfilter.fs.interrupt import interruptible, load
from ukfilter.fs.job import IDLE, VerbError, parse_verbs
from ukfilter.fs.run import Run
from ukfilter.fs.tree import MODES, ROOT, Place, Tree
from ukfilter.tender.ends import O_ACCMODE

pyfuse3: Any = load()
FUSEError: type[Exception] = pyfuse3.FUSEError

P = ParamSpec("P")
R = TypeVar("R")


def guarded(handler: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """handler, whose OSError becomes the client's errno, and any other exception EIO."""

    @functools.wraps(handler)
    async def guard(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except OSError as e:
            raise FUSEError(e.errno or errno.EIO) from None
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            text = f"{type(e).__name__}: {e} ({os.path.basename(where.filename)}:{where.lineno})"
            complain(f"mount: {handler.__name__}: {printable(text)}")
            raise FUSEError(errno.EIO) from None

    return cast(Callable[P, Awaitable[R]], guard)


class OpenFile:
    """An open file: what it is of, and for `status`, `wait` and `ctl` the text, once it is known."""

    def __init__(self, handle: int, place: Place, file: str, flags: int, run: Run | None) -> None:
        self.handle, self.place, self.file, self.run = handle, place, file, run
        self.blocking = not flags & os.O_NONBLOCK
        self.text: bytes | None = None
        self.position = 0


class Operations(pyfuse3.Operations):  # type: ignore[misc]
    """The requests on a tree whose guests run in the nursery."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, tree: Tree, nursery: trio.Nursery) -> None:
        super().__init__()
        self.tree, self.nursery = tree, nursery
        self.open_files: dict[int, OpenFile] = {}
        self.next_handle = 1

    # --- names and attributes

    def attributes(self, inode: int) -> Any:
        """Attributes of an inode; of `out` the size is what there is by now."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.attr_timeout = entry.entry_timeout = 0
        entry.generation = 0
        if inode == ROOT:
            entry.st_mode, entry.st_nlink = stat.S_IFDIR | 0o755, 2
            entry.st_uid, entry.st_gid, when = self.tree.uid, self.tree.gid, self.tree.made_ns
        else:
            node = self.tree.node(inode)
            if node is None:
                raise FUSEError(errno.ESTALE)
            place, file = node
            when = place.run.changed_ns if place.run else place.made_ns
            entry.st_uid, entry.st_gid = place.uid, place.gid
            if file:
                entry.st_mode, entry.st_nlink = stat.S_IFREG | MODES[file], 1
                entry.st_size = self.size(place, file)
            else:
                entry.st_mode, entry.st_nlink = stat.S_IFDIR | place.mode, 2 + len(place.children)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = when
        entry.st_blksize, entry.st_blocks = 1 << 17, (entry.st_size + 511) // 512
        return entry

    @staticmethod
    def size(place: Place, file: str) -> int:
        """Bytes that a client may count on; the rest is read until end of file."""
        run = place.run
        if file == "status":
            return len(status_text(run))
        if file == "ctl":
            return len(place.filter.settings().encode())
        if run is None or file in ("in", "wait"):
            return 0
        return run.spool(file).end

    @guarded
    async def getattr(self, inode: int, ctx: Any = None) -> Any:
        return self.attributes(inode)

    @guarded
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> Any:
        inode = self.tree.lookup(parent_inode, os.fsdecode(name))
        if inode is None:
            raise FUSEError(errno.ENOENT)
        return self.attributes(inode)

    @guarded
    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any = None) -> Any:
        """cp and dd truncate `in`; cp -p sets times, mode and owner: accepted, and nothing to do."""
        return self.attributes(inode)

    @guarded
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, _ in inode_list:
            self.tree.forget(inode)

    @guarded
    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    @guarded
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        for name, inode in self.tree.entries(fh):  # inodes ascend, so each is its own place to go on from
            if inode > start_id and not pyfuse3.readdir_reply(
                token, os.fsencode(name), self.attributes(inode), inode
            ):
                break
            self.tree.known.add(inode)

    @guarded
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        node = self.tree.node(parent_inode)
        if node is None or node[0].parent is not None or node[1]:
            raise FUSEError(errno.EPERM)
        place = node[0]
        if self.tree.lookup(parent_inode, os.fsdecode(name)) is not None:
            raise FUSEError(errno.EEXIST)
        mode &= 0o777 & ~ctx.umask
        child = self.tree.make_private(place, os.fsdecode(name), ctx.uid, ctx.gid, mode)
        return self.attributes(child.inode)

    @guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        inode = self.tree.lookup(parent_inode, os.fsdecode(name))
        if inode is None:
            raise FUSEError(errno.ENOENT)
        node = self.tree.node(inode)
        if node is None or node[1]:
            raise FUSEError(errno.ENOTDIR)
        place = node[0]
        if place.parent is None:
            raise FUSEError(errno.EPERM)
        if place.run:
            place.run.kill()
        self.tree.remove(place)

    @guarded
    async def statfs(self, ctx: Any) -> Any:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_namemax = 255
        return data

    @guarded
    async def access(self, inode: int, mode: int, ctx: Any) -> bool:
        return True

    async def refuse(self, *args: object) -> Any:
        """What makes or moves a name: the tree is what it is."""
        raise FUSEError(errno.EPERM)

    create = mknod = unlink = rename = link = symlink = refuse

    # --- open files

    @guarded
    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        node = self.tree.node(inode)
        if node is None or not node[1]:
            raise FUSEError(errno.EISDIR)
        place, file = node
        check_access(file, flags)
        run = place.run
        if file == "in":
            run = self.open_input(place, flags)
        elif file in ("out", "err", "wait") and run is None:
            raise FUSEError(errno.ENODATA)
        handle, self.next_handle = self.next_handle, self.next_handle + 1
        opened = self.open_files[handle] = OpenFile(handle, place, file, flags, run)
        if file == "out" and run is not None:
            run.moved(handle, 0)
        if file == "ctl":
            opened.text = place.filter.settings().encode()
        return pyfuse3.FileInfo(fh=handle, direct_io=True, keep_cache=False, nonseekable=False)

    def open_input(self, place: Place, flags: int) -> Run:
        """The run that `in` is opened for: the current one by `>>`, else a new one."""
        run = place.run
        if run is not None and flags & os.O_APPEND and not flags & os.O_TRUNC and run.job.join():
            return run
        if run is not None and run.job.input_open and run.job.writers:
            raise FUSEError(errno.EBUSY)
        if place.removed:
            raise FUSEError(errno.ENOENT)
        started = Run(place.filter)
        try:
            started.start(self.nursery)
        except OSError:  # no descriptor or process left; the job before stays
            started.close_input()
            raise
        place.run = started
        if run is not None:
            self.end_if_lost(run, place)
        return started

    def end_if_lost(self, run: Run, place: Place) -> None:
        """Kill the guest of a run that no directory and no open file knows: nobody could do it later."""
        known = run is place.run or any(opened.run is run for opened in self.open_files.values())
        if not known and run.job.outcome is None:
            run.kill()

    @guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        with interruptible():
            opened = self.open_files[fh]
            run = opened.run
            if opened.file in ("out", "err") and run is not None:
                data = await run.read(run.spool(opened.file), off, size, opened.blocking)
                opened.position = off + len(data)
                if opened.file == "out":
                    run.moved(fh, opened.position)
                return data
            if opened.text is None or (opened.file == "status" and off == 0):
                opened.text = await self.text_of(opened)
            return opened.text[off : off + size]
        raise AssertionError

    async def text_of(self, opened: OpenFile) -> bytes:
        """The text of `status` or `wait`; the latter blocks until the job is over."""
        if opened.file == "status":
            return status_text(opened.place.run)
        assert opened.run is not None
        return f"{await opened.run.wait(opened.blocking)}\n".encode()

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        with interruptible():
            opened = self.open_files[fh]
            if opened.file == "ctl":
                self.control(opened.place, buf)
                return len(buf)
            assert opened.run is not None
            return await opened.run.write(buf, opened.blocking)
        raise AssertionError

    def control(self, place: Place, data: bytes) -> None:
        """Do what was written to `ctl`."""
        try:
            verbs = parse_verbs(data)
        except VerbError:
            raise FUSEError(errno.EINVAL) from None
        for verb in verbs:
            run = place.run
            if run is None:
                raise FUSEError(errno.ENODATA)
            if verb == "kill":
                run.kill()
            elif verb == "eof":
                run.close_input()
                run.changed()
            elif run.job.outcome is None:
                raise FUSEError(errno.EBUSY)
            else:
                run.forget()
                place.run = None

    @guarded
    async def release(self, fh: int) -> None:
        opened = self.open_files.pop(fh)
        if opened.run is None:
            return
        if opened.file == "in":
            opened.run.leave()
        elif opened.file == "out":
            opened.run.gone(fh)
        self.end_if_lost(opened.run, opened.place)

    @guarded
    async def poll(self, inode: int, fh: int, poll_handle: Any, ctx: Any) -> int:
        opened = self.open_files[fh]
        run = opened.run
        if run is None or opened.file == "ctl":
            return select.POLLIN | select.POLLOUT
        over = run.job.outcome is not None
        if opened.file == "in":
            ready = select.POLLOUT | (select.POLLERR if over else 0) if over or run.writable() else 0
        elif opened.file == "wait":
            ready = select.POLLIN if over else 0
        else:
            more = run.spool(opened.file).end > opened.position
            ready = select.POLLIN if over or more else 0
        if not ready and poll_handle is not None:
            run.pollers.append(poll_handle.notify)
            if opened.file == "in":
                self.nursery.start_soon(run.tell_when_writable)
        return ready


def check_access(file: str, flags: int) -> None:
    """Root passes the permission bits; and one descriptor for both directions would lock up in the kernel."""
    mode = flags & O_ACCMODE
    wanted = {"in": (os.O_WRONLY,), "ctl": (os.O_RDONLY, os.O_WRONLY)}.get(file, (os.O_RDONLY,))
    if mode not in wanted:
        raise FUSEError(errno.EACCES)


def status_text(run: Run | None) -> bytes:
    """The content of `status`."""
    return f"{run.job.line() if run else IDLE}\n".encode()
