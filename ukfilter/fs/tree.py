"""The tree: which directory and which file an inode is. No FUSE, no guest; it knows names and numbers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ukfilter.fs.config import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.fs.run import Run

ROOT = 1  # FUSE_ROOT_ID of libfuse's fuse_lowlevel.h
FILES = ("in", "out", "err", "status", "wait", "ctl")
MODES = {"in": 0o222, "out": 0o444, "err": 0o444, "status": 0o444, "wait": 0o444, "ctl": 0o644}


@dataclass
class Place:
    """A directory where jobs run, one after the other: a filter's own, or a private one inside it."""

    name: str
    filter: Filter
    inode: int
    uid: int
    gid: int
    mode: int
    parent: Place | None = None
    files: dict[str, int] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    run: Run | None = None
    made_ns: int = field(default_factory=time.time_ns)
    removed: bool = False


class Tree:
    """All inodes. A number is never given twice."""

    def __init__(self, filters: list[Filter], uid: int, gid: int) -> None:
        self._numbers = itertools.count(ROOT + 1)
        self._nodes: dict[int, tuple[Place, str]] = {}  # the file's name, "" for the directory itself
        self.known: set[int] = set()  # inodes that the kernel has been told of, and will forget
        self.uid, self.gid, self.made_ns = uid, gid, time.time_ns()
        self.filters = {f.name: self._make(f.name, f, uid, gid, 0o755, None) for f in filters}

    def _make(self, name: str, filter_: Filter, uid: int, gid: int, mode: int, parent: Place | None) -> Place:
        place = Place(name, filter_, next(self._numbers), uid, gid, mode, parent)
        self._nodes[place.inode] = place, ""
        for file in FILES:
            place.files[file] = next(self._numbers)
            self._nodes[place.files[file]] = place, file
        return place

    def node(self, inode: int) -> tuple[Place, str] | None:
        """The place and the file's name ("": the directory itself); None for the root, or no such inode."""
        return self._nodes.get(inode)

    def lookup(self, parent: int, name: str) -> int | None:
        """The inode called name in the directory parent."""
        if parent == ROOT:
            inode = self.filters[name].inode if name in self.filters else None
        else:
            place, file = self._nodes[parent]
            if file or place.removed:
                return None
            inode = place.children[name].inode if name in place.children else place.files.get(name)
        if inode is not None:
            self.known.add(inode)
        return inode

    def entries(self, inode: int) -> list[tuple[str, int]]:
        """Names and inodes in a directory, in an order that only grows: files, then private jobs by age."""
        if inode == ROOT:
            return [(name, place.inode) for name, place in self.filters.items()]
        place, _ = self._nodes[inode]
        if place.removed:
            return []
        return [*place.files.items(), *((name, child.inode) for name, child in place.children.items())]

    def make_private(self, parent: Place, name: str, uid: int, gid: int, mode: int) -> Place:
        """A private job's directory; the name is free."""
        child = self._make(name, parent.filter, uid, gid, mode, parent)
        parent.children[name] = child
        self.known.add(child.inode)
        return child

    def remove(self, place: Place) -> None:
        """Take a private job's directory away; its inodes stay known until they are forgotten."""
        assert place.parent is not None
        del place.parent.children[place.name]
        place.removed = True
        for inode in (place.inode, *place.files.values()):
            if inode not in self.known:
                del self._nodes[inode]

    def forget(self, inode: int) -> None:
        """The kernel knows inode no more: it can go, if it has no name either."""
        self.known.discard(inode)
        node = self._nodes.get(inode)
        if node is not None and node[0].removed:
            del self._nodes[inode]

    def places(self) -> Iterator[Place]:
        """Every directory where jobs run."""
        for place in self.filters.values():
            yield place
            yield from place.children.values()
