"""Open what the plan names: the host side of each device, as descriptors.

No flag of a descriptor that was inherited is changed: it is shared with the shell.
"""

from __future__ import annotations

import errno
import posix as os  # not os: see __main__.py
import stat

from ukfilter.devices import STANDARD, STDIO
from ukfilter.errors import DeviceError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.devices import Block, Net, Plan

CONSOLES = {"stdout": 1, "stderr": 2, "null": -1}
TUN_DEVICE = os.makedev(10, 200)  # /dev/net/tun: Documentation/admin-guide/devices.txt
NO_MESSAGES, MESSAGES, MESSAGES_FOR_EVER = 0, 1, 2  # a stream; with an end; an empty one is no end
SEEK_END = 2  # lseek(2)
O_ACCMODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


class End:
    """Descriptors of one device, -1 for none; message: NO_MESSAGES, MESSAGES or MESSAGES_FOR_EVER."""

    __slots__ = ("handle", "message", "rfd", "wfd")

    def __init__(self, handle: int, rfd: int, wfd: int, message: int) -> None:
        self.handle, self.rfd, self.wfd, self.message = handle, rfd, wfd, message


class Ends:
    """The ends of all devices, and the console's descriptor (-1: thrown away).

    blocks has the descriptor of each of the plan's block devices, in their order.
    """

    __slots__ = ("blocks", "console_fd", "ends")

    def __init__(self, ends: list[End], blocks: list[int], console_fd: int) -> None:
        self.ends, self.blocks, self.console_fd = ends, blocks, console_fd


def open_ends(plan: Plan, standard: tuple[int, int, int], opened: list[int]) -> Ends:
    """Open every end of plan. Raises DeviceError that names the device.

    standard: what is, or will be, descriptors 0 to 2. What is opened is added to opened at once.
    """
    users: dict[str, str] = {}
    ends = []
    for net in plan.nets:
        key = _key(net.end)
        if key in users:
            message = f"--net {net.name}={printable(net.end)}: device {users[key]} has it already"
            raise DeviceError(message)
        users[key] = net.name
        rfd, wfd = _descriptors(net, standard, opened)
        ends.append(End(net.handle, rfd, wfd, keeps_messages(_real(rfd if rfd >= 0 else wfd, standard))))
    blocks = [_open_block(b, opened) for b in plan.blocks]
    return Ends(ends, blocks, _console(plan.console, opened))


def open_report(number: int | None, standard: tuple[int, int, int]) -> int:
    """The descriptor of --status-fd, -1 for none. Raises UsageError if it cannot be written."""
    if number is None:
        return -1
    try:
        _, fd = _directions(number, standard)
    except (OSError, OverflowError):
        raise UsageError(f"--status-fd {number}: descriptor {number} is not open") from None
    if fd < 0:
        raise UsageError(f"--status-fd {number}: descriptor {number} is open for reading only")
    return fd


def open_trace(where: str | None, opened: list[int]) -> int:
    """The descriptor of --trace: standard error if where is empty, else that file; -1 for None."""
    if not where:
        return -1 if where is None else 2
    return _create(where, "--trace", opened)


def open_core_dir(path: str | None, opened: list[int]) -> int:
    """The directory of --dumpcore; -1 for None."""
    if path is None:
        return -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise DeviceError(f"--dumpcore {printable(path)}: cannot use this directory: {reason}") from None
    opened.append(fd)
    if not os.access(path, os.W_OK):
        raise DeviceError(f"--dumpcore {printable(path)}: cannot use this directory: {os.strerror(13)}")
    return fd


def _key(end: str) -> str:
    """end, in one spelling: `@03` is `@3`."""
    number = end[1:]
    if end[:1] != "@" or not (number.isascii() and number.isdecimal()):
        return end
    return "@" + (number.lstrip("0") or "0")


def _open_block(block: Block, opened: list[int]) -> int:
    """Open the file or device behind block, and fill in its capacity."""
    shown = f"--block {block.name}={printable(block.path)}"
    try:
        mode = os.stat(block.path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise DeviceError(f"{shown}: a block device needs a file or a disk, not a stream or a directory")
        fd = os.open(block.path, (os.O_RDONLY if block.read_only else os.O_RDWR) | os.O_CLOEXEC)
        opened.append(fd)
        block.capacity = os.lseek(fd, 0, SEEK_END)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        hint = "; add ,ro to read it only" if reason == os.strerror(errno.EACCES) else ""
        raise DeviceError(f"{shown}: cannot open it: {reason}{hint}") from None
    if block.capacity < block.sector_size or block.capacity % block.sector_size:
        size, sector = block.capacity, block.sector_size
        raise DeviceError(f"{shown}: has {size} bytes, which is not a multiple of its {sector}-byte sectors")
    return fd


def _descriptors(net: Net, standard: tuple[int, int, int], opened: list[int]) -> tuple[int, int]:
    """Where net is read and written; -1: it is not."""
    if net.end == STDIO:
        return 0, 1
    if net.end in STANDARD:
        fd = STANDARD.index(net.end)
        return (fd, -1) if fd == 0 else (-1, fd)
    if net.end.startswith("@"):
        return _by_number(net.name, net.end, standard)
    shown = f"--net {net.name}={printable(net.end)}"
    fd = -1 if "/" in net.end else _by_interface(net, shown)
    if fd < 0:
        return _by_path(net.name, net.end, shown, opened)
    opened.append(fd)
    return fd, fd


def _by_interface(net: Net, shown: str) -> int:
    """The tap that net's end names, -1 if that names no interface; net is told what it says of itself."""
    from ukfilter.tender import taps  # not at the top: it has weight, and few have a tap

    if not taps.is_interface(net.end):
        return -1
    try:
        mac, mtu = taps.address_and_mtu(net.end)
    except OSError as e:
        raise DeviceError(f"{shown}: cannot open it: {e.strerror}") from None
    net.mac, net.mtu = net.mac or mac, net.mtu or mtu
    return taps.open_tap(net.end, shown)


def _real(fd: int, standard: tuple[int, int, int]) -> int:
    """The descriptor that fd will be in the tender."""
    return standard[fd] if 0 <= fd <= 2 else fd


def _directions(fd: int, standard: tuple[int, int, int] = (0, 1, 2)) -> tuple[int, int]:
    import fcntl  # not at the top: a filter with no --net has no use for it

    mode = fcntl.fcntl(_real(fd, standard), fcntl.F_GETFL) & O_ACCMODE
    return (fd if mode != os.O_WRONLY else -1), (fd if mode != os.O_RDONLY else -1)


def _by_number(name: str, end: str, standard: tuple[int, int, int]) -> tuple[int, int]:
    number = end[1:]
    try:
        if not (number.isascii() and number.isdecimal()):
            raise ValueError
        return _directions(int(number), standard)
    except ValueError:
        raise DeviceError(f"--net {name}={printable(end)}: not a descriptor; write it as @3") from None
    except (OSError, OverflowError):
        message = f"--net {name}={end}: descriptor {number} is not open"
        raise DeviceError(message) from None


def _by_path(name: str, path: str, shown: str, opened: list[int]) -> tuple[int, int]:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise DeviceError(f"{shown}: is a directory")
        if stat.S_ISFIFO(mode):  # opened for both directions it would have no end of file, ever
            raise DeviceError(f"{shown}: is a fifo; give one end of it: --net {name}=@3 3< {printable(path)}")
        opened.append(_connect(path) if stat.S_ISSOCK(mode) else _open(path))
        return _directions(opened[-1])
    except FileNotFoundError:
        raise DeviceError(f"{shown}: no such file or network interface; create it first") from None
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise DeviceError(f"{shown}: cannot open it: {reason}") from None


def _open(path: str) -> int:
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


def keeps_messages(fd: int) -> int:
    """How fd is read: NO_MESSAGES, MESSAGES or MESSAGES_FOR_EVER."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return NO_MESSAGES
    if stat.S_ISCHR(mode) and os.fstat(fd).st_rdev == TUN_DEVICE:
        return MESSAGES_FOR_EVER
    if not stat.S_ISSOCK(mode):
        return NO_MESSAGES
    import socket  # heavy, and seldom wanted

    with socket.socket(fileno=os.dup(fd)) as end:
        kind = end.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if kind == socket.SOCK_DGRAM:
        return MESSAGES_FOR_EVER
    return MESSAGES if kind == socket.SOCK_SEQPACKET else NO_MESSAGES


def _console(console: str, opened: list[int]) -> int:
    return CONSOLES[console] if console in CONSOLES else _create(console, "--console", opened)


def _create(path: str, option: str, opened: list[int]) -> int:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not a file name"
        raise DeviceError(f"{option} {printable(path)}: cannot open it: {reason}") from None
    opened.append(fd)
    return fd
