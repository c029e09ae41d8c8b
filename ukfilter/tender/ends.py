"""Open what the plan names: the host side of each device, as descriptors.

No flag of a descriptor that was inherited is changed: it is shared with the shell.
"""

from __future__ import annotations

import errno
import os
import stat

from ukfilter.errors import DeviceError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.devices import Block, Plan

CONSOLES = {"stdout": 1, "stderr": 2, "null": -1}
O_ACCMODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


class End:
    """Descriptors of one device, -1 for none; message: it keeps message boundaries."""

    __slots__ = ("handle", "message", "rfd", "wfd")

    def __init__(self, handle: int, rfd: int, wfd: int, message: bool) -> None:
        self.handle, self.rfd, self.wfd, self.message = handle, rfd, wfd, message


class Ends:
    """The ends of all devices, and the console's descriptor (-1: thrown away).

    blocks has the descriptor of each of the plan's block devices, in their order.
    """

    __slots__ = ("blocks", "console_fd", "ends")

    def __init__(self, ends: list[End], blocks: list[int], console_fd: int) -> None:
        self.ends, self.blocks, self.console_fd = ends, blocks, console_fd


def open_ends(plan: Plan) -> Ends:
    """Open every end of plan. Raises DeviceError that names the device."""
    users: dict[str, str] = {}
    ends = []
    for net in plan.nets:
        key = _key(net.end)
        if key in users:
            message = f"--net {net.name}={printable(net.end)}: device {users[key]} has it already"
            raise DeviceError(message)
        users[key] = net.name
        rfd, wfd = _descriptors(net.name, net.end)
        ends.append(End(net.handle, rfd, wfd, _keeps_messages(rfd if rfd >= 0 else wfd)))
    return Ends(ends, [_open_block(b) for b in plan.blocks], _console(plan.console))


def _key(end: str) -> str:
    """end, in one spelling: `@03` is `@3`."""
    number = end[1:]
    if end[:1] != "@" or not (number.isascii() and number.isdecimal()):
        return end
    return "@" + (number.lstrip("0") or "0")


def _open_block(block: Block) -> int:
    """Open the file or device behind block, and fill in its capacity."""
    shown = f"--block {block.name}={printable(block.path)}"
    try:
        mode = os.stat(block.path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise DeviceError(f"{shown}: a block device needs a file or a disk, not a stream or a directory")
        fd = os.open(block.path, (os.O_RDONLY if block.read_only else os.O_RDWR) | os.O_CLOEXEC)
        block.capacity = os.lseek(fd, 0, os.SEEK_END)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        hint = "; add ,ro to read it only" if reason == os.strerror(errno.EACCES) else ""
        raise DeviceError(f"{shown}: cannot open it: {reason}{hint}") from None
    if block.capacity < block.sector_size or block.capacity % block.sector_size:
        os.close(fd)
        size, sector = block.capacity, block.sector_size
        raise DeviceError(f"{shown}: has {size} bytes, which is not a multiple of its {sector}-byte sectors")
    return fd


def _descriptors(name: str, end: str) -> tuple[int, int]:
    if end == "-":
        return 0, 1
    if end in ("stdin", "stdout", "stderr"):
        fd = ("stdin", "stdout", "stderr").index(end)
        return (fd, -1) if fd == 0 else (-1, fd)
    if end.startswith("@"):
        return _by_number(name, end)
    return _by_path(name, end)


def _directions(fd: int) -> tuple[int, int]:
    import fcntl  # not at the top: a filter with no --net has no use for it

    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & O_ACCMODE
    return (fd if mode != os.O_WRONLY else -1), (fd if mode != os.O_RDONLY else -1)


def _by_number(name: str, end: str) -> tuple[int, int]:
    number = end[1:]
    try:
        if not (number.isascii() and number.isdecimal()):
            raise ValueError
        return _directions(int(number))
    except ValueError:
        raise DeviceError(f"--net {name}={printable(end)}: not a descriptor; write it as @3") from None
    except (OSError, OverflowError):
        message = f"--net {name}={end}: descriptor {number} is not open"
        raise DeviceError(message) from None


def _by_path(name: str, path: str) -> tuple[int, int]:
    shown = f"--net {name}={printable(path)}"
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISSOCK(mode):
            fd = _connect(path)
            return fd, fd
        if stat.S_ISDIR(mode):
            raise DeviceError(f"{shown}: is a directory")
        return _directions(_open(path))
    except FileNotFoundError:
        if "/" not in path and os.path.exists(f"/sys/class/net/{path}"):
            raise DeviceError(f"{shown}: this version cannot attach a network interface") from None
        raise DeviceError(f"{shown}: no such file; create it first") from None
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise DeviceError(f"{shown}: cannot open it: {reason}") from None


def _open(path: str) -> int:
    # A fifo too is opened for both, so that opening it does not wait; but then we are one of its
    # writers, and it has no end of file. `--net NAME=@3 3<fifo` has one.
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)


def _connect(path: str) -> int:
    import socket  # heavy, and seldom wanted

    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        end = socket.socket(socket.AF_UNIX, kind)
        try:
            end.connect(path)
        except OSError as e:
            end.close()
            if e.errno != errno.EPROTOTYPE:
                raise
        else:
            return end.detach()
    raise OSError(errno.EPROTOTYPE, os.strerror(errno.EPROTOTYPE))


def _keeps_messages(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
    except OSError:
        return False
    import socket  # heavy, and seldom wanted

    with socket.socket(fileno=os.dup(fd)) as end:
        kind = end.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    return kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


def _console(console: str) -> int:
    if console in CONSOLES:
        return CONSOLES[console]
    try:
        return os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise DeviceError(f"--console {printable(console)}: cannot open it: {reason}") from None
