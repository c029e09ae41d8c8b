"""Which device is which descriptor, and what the guest is told of it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ukfilter.devices import manifest_bytes, plan
from ukfilter.errors import DeviceError
from ukfilter.image import Device, Image, Segment
from ukfilter.tender.ends import End, open_ends
from ukfilter.tender.options import Options


def unikernel(*names: str, kind: str = "net") -> Image:
    devices = [Device(name, kind, handle) for handle, name in enumerate(names, 1)]
    return Image("x.hvt", "hvt", 2, 0x100000, [Segment(0, 1, 0x100000, 1, 5)], devices)


def options(**nets: str) -> Options:
    chosen = Options()
    chosen.nets = nets
    return chosen


def opened(image: Image, chosen: Options) -> list[End]:
    return open_ends(plan(image, chosen), (0, 1, 2), []).ends


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_one_device_is_stdin_and_stdout() -> None:
    ends = open_ends(plan(unikernel("service"), Options()), (0, 1, 2), [])
    (end,) = ends.ends
    assert (end.handle, end.rfd, end.wfd) == (1, 0, 1)
    assert ends.console_fd == 1


def test_no_device_is_fine() -> None:
    assert opened(unikernel(), Options()) == []


def test_standard_names() -> None:
    ends = open_ends(plan(unikernel("stdout", "stdin", "stderr"), Options()), (0, 1, 2), [])
    assert [(e.handle, e.rfd, e.wfd) for e in ends.ends] == [(1, -1, 1), (2, 0, -1), (3, -1, 2)]
    assert ends.console_fd == 2, "the console must not be mixed into the output"


def test_the_console_is_on_stderr_wherever_stdout_is_attached(pipe: tuple[int, int]) -> None:
    assert open_ends(plan(unikernel("stdout"), options(stdout=f"@{pipe[1]}")), (0, 1, 2), []).console_fd == 2


@pytest.mark.parametrize(("name", "fd"), [("stdout", 1), ("stderr", 2), ("null", -1)])
def test_console(name: str, fd: int) -> None:
    chosen = Options()
    chosen.console = name
    assert open_ends(plan(unikernel("stdout"), chosen), (0, 1, 2), []).console_fd == fd


def test_console_in_a_file(tmp_path: Path) -> None:
    chosen = Options()
    chosen.console = str(tmp_path / "log")
    fd = open_ends(plan(unikernel(), chosen), (0, 1, 2), []).console_fd
    os.write(fd, b"x")
    os.close(fd)
    assert (tmp_path / "log").read_bytes() == b"x"
    chosen.console = str(tmp_path / "no" / "log")
    with pytest.raises(DeviceError, match=r"--console .*cannot open it: No such file"):
        open_ends(plan(unikernel(), chosen), (0, 1, 2), [])


def test_a_device_that_is_not_attached_is_named_with_the_option() -> None:
    with pytest.raises(DeviceError, match=r"^x\.hvt: .*device b is not attached.*--net b=@FD") as caught:
        plan(unikernel("a", "b"), options(a="-"))
    assert caught.value.status == 125


@pytest.mark.parametrize("what", ["nets", "mtus", "macs"])
def test_an_option_for_a_device_that_is_not_there(what: str) -> None:
    chosen = Options()
    getattr(chosen, what)["c"] = "-"
    with pytest.raises(DeviceError, match="no network device c; it has: a, b"):
        plan(unikernel("a", "b"), chosen)
    with pytest.raises(DeviceError, match="it has: none"):
        plan(unikernel(), chosen)


def test_block_devices_are_not_there_yet() -> None:
    with pytest.raises(DeviceError, match="block device disk"):
        plan(unikernel("disk", kind="block"), Options())


def test_the_manifest_that_the_guest_gets() -> None:
    chosen = options(b="-", a="-")
    chosen.mtus["b"] = 9000
    chosen.macs["b"] = b"\x02\0\0\0\0\x09"
    image = unikernel("a", "b")
    data = manifest_bytes(image, plan(image, chosen))
    assert struct.unpack_from("<II", data) == (1, 3)
    assert len(data) == 8 + 3 * 104
    reserved, first, second = (data[8 + 104 * i :][:104] for i in range(3))
    assert struct.unpack_from("<68sI", reserved) == (bytes(68), 1 << 30)
    assert reserved[72:] == bytes(32)
    assert struct.unpack_from("<68sI6sH", first) == (b"a".ljust(68, b"\0"), 2, b"\x02ukf\0\x01", 1500)
    assert struct.unpack_from("<68sI6sH", second) == (
        b"b".ljust(68, b"\0"),
        2,
        b"\x02\0\0\0\0\x09",
        9000,
    )
    assert first[96] == second[96] == 1


def test_descriptors_by_number_keep_their_direction(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    ends = opened(unikernel("a", "b"), options(a=f"@{reader}", b=f"@{writer}"))
    assert [(e.rfd, e.wfd, bool(e.message)) for e in ends] == [(reader, -1, False), (-1, writer, False)]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("@999", "descriptor 999 is not open"),
        ("@99999999999999999999", "is not open"),
        ("@", "not a descriptor"),
        ("@x", "not a descriptor"),
        ("@-1", "not a descriptor"),
        ("lo", "is a network interface, but no tap"),
        ("/nonexistent/x", "no such file"),
        ("/", "is a directory"),
        ("a\0b", "not a file name"),
    ],
)
def test_ends_that_cannot_be(end: str, reason: str) -> None:
    with pytest.raises(DeviceError, match=f"^--net a=.*{reason}") as caught:
        opened(unikernel("a"), options(a=end))
    assert caught.value.status == 125 and "\n" not in str(caught.value)


def test_one_descriptor_is_not_for_two_devices(pipe: tuple[int, int]) -> None:
    with pytest.raises(DeviceError, match="device a has it already"):
        opened(unikernel("a", "b"), options(a=f"@{pipe[0]}", b=f"@0{pipe[0]}"))


def test_a_file_is_opened_for_both_and_not_inherited(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (end,) = opened(unikernel("a"), options(a=str(tmp_path / "f")))
    assert end.rfd == end.wfd > 2
    assert not os.get_inheritable(end.rfd)
    os.close(end.rfd)


def test_a_fifo_by_path_is_refused_and_told_how(tmp_path: Path) -> None:
    """Opened for both directions it would have no end of file, ever."""
    os.mkfifo(tmp_path / "f")
    with pytest.raises(DeviceError, match=r"is a fifo; give one end of it: --net a=@3 3< "):
        opened(unikernel("a"), options(a=str(tmp_path / "f")))


@pytest.mark.parametrize(
    ("kind", "message"),
    [(socket.SOCK_STREAM, False), (socket.SOCK_SEQPACKET, True), (socket.SOCK_DGRAM, True)],
)
def test_a_unix_socket_is_connected_to(tmp_path: Path, kind: socket.SocketKind, message: bool) -> None:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(tmp_path / "s"))
        if kind != socket.SOCK_DGRAM:
            server.listen()
        (end,) = opened(unikernel("a"), options(a=str(tmp_path / "s")))
        assert bool(end.message) is message
        assert end.rfd == end.wfd and not os.get_inheritable(end.rfd)
        os.close(end.rfd)


def test_a_socket_with_no_one_behind_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    with pytest.raises(DeviceError, match="cannot open it: Connection refused"):
        opened(unikernel("a"), options(a=str(tmp_path / "s")))


def test_an_inherited_socket_keeps_its_messages() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        (end,) = opened(unikernel("a"), options(a=f"@{left.fileno()}"))
        assert end.message and end.rfd == end.wfd == left.fileno()
