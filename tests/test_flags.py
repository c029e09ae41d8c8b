"""What a run leaves behind on the descriptors it shares with the shell: only the file position."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
from pathlib import Path

import harness
import pytest

pytestmark = pytest.mark.usefixtures("tender")

CAT = (harness.UKFILTER, harness.EXAMPLES / "cat.hvt")


def flags(*fds: int) -> list[int]:
    return [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in fds]


def check_unchanged(stdin: int, stdout: int, stderr: int, argv: tuple[object, ...] = CAT) -> None:
    before = flags(stdin, stdout, stderr)
    with harness.running(*argv, stdin=stdin, stdout=stdout, stderr=stderr) as p:
        p.wait(20)
    assert flags(stdin, stdout, stderr) == before


@pytest.mark.parametrize("nonblocking", [False, True])
def test_pipes(nonblocking: bool) -> None:
    fds = [*os.pipe(), *os.pipe(), *os.pipe()]
    in_r, in_w, out_r, out_w, _err_r, err_w = fds
    try:
        os.write(in_w, b"data")
        os.close(in_w)
        fds.remove(in_w)
        for fd in (in_r, out_w, err_w):
            os.set_blocking(fd, not nonblocking)
        check_unchanged(in_r, out_w, err_w)
        assert os.read(out_r, 100) == b"data"
    finally:
        for fd in fds:
            os.close(fd)


def test_nonblocking_pipe_that_is_empty_and_then_full() -> None:
    """Somebody else's O_NONBLOCK stays, and costs no data."""
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    content = os.urandom(1 << 20)
    try:
        os.set_blocking(in_r, False)
        os.set_blocking(out_w, False)
        with harness.running(*CAT, stdin=in_r, stdout=out_w) as p:
            before = flags(in_r, out_w)
            harness.wait_sandboxed(p.pid)
            with harness.running("cat", stdin=subprocess.PIPE, stdout=in_w) as feeder:
                os.close(in_w)
                os.close(in_r)
                with harness.running("sha256sum", stdin=out_r, stdout=subprocess.PIPE) as reader:
                    assert feeder.stdin is not None
                    assert reader.stdout is not None
                    feeder.stdin.write(content)
                    feeder.stdin.close()
                    assert p.wait(20) == 0
                    assert flags(out_w) == before[1:]
                    os.close(out_w)
                    got = reader.stdout.read()
        assert got == harness.run("sha256sum", stdin=content).out
    finally:
        os.close(out_r)


def test_append_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"kept\n")
    with (
        open("/dev/null", "rb") as null,
        open(path, "ab", buffering=0) as log,
        open(os.devnull, "wb") as err,
    ):
        assert flags(log.fileno())[0] & os.O_APPEND
        check_unchanged(null.fileno(), log.fileno(), err.fileno())
        assert flags(log.fileno())[0] & os.O_APPEND


def test_appends_of_many_do_not_overwrite(tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5; do echo $i | ukfilter $E/cat.hvt >> $T/log & done; wait; sort $T/log"
    got = harness.sh(script, env={**harness.ENV, "T": str(tmp_path)})
    assert got.out == b"1\n2\n3\n4\n5\n"


def test_terminal() -> None:
    master, slave = pty.openpty()
    try:
        os.write(master, b"line\n\x04")
        check_unchanged(slave, slave, slave)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("words", ["fault page", "abort", "eof spin"])
def test_guest_that_ends_badly(words: str) -> None:
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    os.close(in_w)
    try:
        name, *args = words.split()
        argv = (harness.UKFILTER, harness.GUESTS / f"{name}.hvt", *args)
        with open(os.devnull, "wb") as err:
            check_unchanged(in_r, out_w, err.fileno(), argv)
    finally:
        for fd in (in_r, out_r, out_w):
            os.close(fd)


def test_killed() -> None:
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    try:
        before = flags(in_r, out_w)
        with harness.running(*CAT, stdin=in_r, stdout=out_w) as p:
            harness.wait_sandboxed(p.pid)
            p.kill()
            p.wait(10)
        assert flags(in_r, out_w) == before
    finally:
        for fd in (in_r, in_w, out_r, out_w):
            os.close(fd)


def test_file_position_is_where_reading_stopped(tmp_path: Path) -> None:
    """`(a; b) < file`: what a consumed is gone for b, as for any two commands."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    with open(path, "rb", buffering=0) as file:
        file.seek(1000)
        got = harness.run(*CAT, stdin=file.fileno())
        assert got.out == path.read_bytes()[1000:]
        assert file.tell() == 256_000
        got = harness.run(*CAT, stdin=file.fileno())
        assert (got.status, got.out) == (0, b"")


def test_file_position_of_a_guest_that_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with open(path, "rb", buffering=0) as file:
        harness.run(harness.UKFILTER, harness.EXAMPLES / "hello.hvt", stdin=file.fileno())
        assert file.tell() == 0


def test_output_position_is_shared() -> None:
    got = harness.sh("{ echo before; echo in | ukfilter $E/cat.hvt; echo after; }")
    assert got.out == b"before\nin\nafter\n"
