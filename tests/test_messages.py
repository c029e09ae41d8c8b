"""Ends that keep messages apart: datagram and seqpacket sockets, taps; and waiting for several at once."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest
from harness import ENV, GUESTS, UKFILTER, run, running

pytestmark = pytest.mark.usefixtures("tender")

SIZES = (1, 2048, 7, 60, 1)  # two_net's buffer has 2048
KINDS = [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]
Pair = tuple[socket.socket, socket.socket]


@contextlib.contextmanager
def pairs(*kinds: int) -> Iterator[list[Pair]]:
    """Ours and the guest's end, of each kind."""
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair(socket.AF_UNIX, kind) for kind in kinds]
        for pair in made:
            for end in pair:
                stack.enter_context(end).settimeout(20)
        yield made


@contextlib.contextmanager
def guest(name: str, names: str, ends: list[Pair]) -> Iterator[subprocess.Popen[bytes]]:
    """The guest called name, with its devices names, a letter each, attached to ends."""
    fds = [theirs.fileno() for _, theirs in ends]
    nets = [word for letter, fd in zip(names, fds, strict=True) for word in ("--net", f"{letter}=@{fd}")]
    with running(
        UKFILTER, *nets, GUESTS / f"{name}.hvt", pass_fds=fds, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for _, theirs in ends:
            theirs.close()
        yield process


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_stays_one_both_ways(kind: int) -> None:
    """All of them wait before the guest looks, so that nothing but their kind keeps them apart."""
    sent = [bytes([n]) * size for n, size in enumerate(SIZES)]
    with pairs(kind, kind) as ((source, theirs), (sink, out)):
        for message in sent:
            source.send(message)
        if kind == socket.SOCK_DGRAM:
            source.send(b"")
        else:
            source.shutdown(socket.SHUT_WR)
        with guest("two_net", "ab", [(source, theirs), (sink, out)]) as p:
            assert [sink.recv(65536) for _ in sent] == sent
            output, err = p.communicate(timeout=20)
        assert (p.returncode, err) == (0, b"")
        assert [int(line) for line in output.split()] == list(SIZES)


def test_a_message_longer_than_the_buffer_is_cut_and_the_next_is_whole() -> None:
    with pairs(socket.SOCK_DGRAM, socket.SOCK_DGRAM) as ((source, theirs), (sink, out)):
        for message in (b"x" * 3000, b"next", b""):
            source.send(message)
        with guest("two_net", "ab", [(source, theirs), (sink, out)]) as p:
            assert [sink.recv(65536) for _ in range(2)] == [b"x" * 2048, b"next"]
            assert p.wait(20) == 0


def test_poll_tells_of_all_that_are_ready_at_once() -> None:
    stream, datagram, packet = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    with pairs(stream, datagram, packet) as ends:
        (a, _), (b, _), (c, _) = ends
        a.send(b"12345")
        b.send(b"")
        b.send(b"abc")
        c.send(b"x" * 5000)
        with guest("ready", "abc", ends) as p:
            # All goes to c, in the order of handles; b's first is empty. Through a seqpacket socket, where
            # reading nothing is the end of file, that one is not sent.
            got = [c.recv(65536) for _ in range(3)]
            a.shutdown(socket.SHUT_WR)
            output, err = p.communicate(timeout=20)
        assert (p.returncode, err) == (0, b"")
        first, second, last = output.decode().splitlines()
        assert first == "3 7 5 0 5000"
        assert second == "1 2 3"
        assert last == "1 1 0"
        assert got == [b"12345", b"x" * 5000, b"abc"]


def test_an_empty_message_goes_out_as_one() -> None:
    datagram = socket.SOCK_DGRAM
    with pairs(socket.SOCK_STREAM, datagram, datagram) as ends:
        (a, _), (b, _), (c, _) = ends
        with guest("ready", "abc", ends) as p:
            for message in (b"1", b"", b"22"):
                b.send(message)
            assert [c.recv(65536) for _ in range(3)] == [b"1", b"", b"22"]
            a.shutdown(socket.SHUT_WR)
            assert p.wait(20) == 0


def test_frames_for_a_tap_that_is_down_are_lost_and_nothing_else() -> None:
    frames = "ip tuntap add tap7 mode tap; head -c 5000 /dev/zero |"
    script = f"{frames} {UKFILTER} --net a=@0 --net b=tap7 {GUESTS}/two_net.hvt"
    result = run("unshare", "-n", "bash", "-c", script, env={**ENV, "PATH": f"{ENV['PATH']}:/usr/sbin"})
    assert (result.status, result.err) == (0, b"")
    assert sum(int(line) for line in result.out.split()) == 5000


def test_a_tap_that_is_deleted_ends_the_guest_and_is_named() -> None:
    script = (
        f"ip tuntap add tap7 mode tap; {UKFILTER} --net service=tap7 {GUESTS}/ping.hvt & sleep 1;"
        " ip link del tap7; wait $!"
    )
    result = run("unshare", "-n", "bash", "-c", script, env={**ENV, "PATH": f"{ENV['PATH']}:/usr/sbin"})
    assert result.status == 125
    assert b"ping.hvt: cannot read the device service: " in result.err


def test_a_device_that_is_full_ends_the_guest_and_is_named() -> None:
    with open("/dev/full", "wb") as full:
        fd = full.fileno()
        words = (UKFILTER, "--net", "a=-", "--net", f"b=@{fd}", GUESTS / "two_net.hvt")
        result = run(*words, stdin=b"data", pass_fds=[fd])
    assert result.status == 125
    assert b"two_net.hvt: cannot write to the device b: No space left on device" in result.err


def test_a_console_that_is_full_ends_the_guest_and_is_named() -> None:
    words = (UKFILTER, "--console", "/dev/full", "--net", "a=-", "--net", "b=@1", GUESTS / "two_net.hvt")
    result = run(*words, stdin=b"data")
    assert result.status == 125
    assert b"two_net.hvt: cannot write to the console: No space left on device" in result.err
