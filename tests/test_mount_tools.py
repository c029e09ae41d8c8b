"""What a mount keeps and what it lets go of: descriptors, memory, guests, under clients that are not kind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import running
from mounted import Mount, mounted

MB = 1 << 20


@pytest.fixture
def uk(tmp_path: Path) -> Iterator[Mount]:
    """A mount of its own for each test: they look at the daemon."""
    with mounted(tmp_path) as mount:
        yield mount


def until(true: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether it becomes true; release and forget come after the client has gone on."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def spool_files(mount: Mount) -> int:
    count = 0
    for fd in Path(f"/proc/{mount.process.pid}/fd").iterdir():
        try:
            link = os.readlink(fd)
            count += link.endswith("(deleted)") and "memfd:" not in link
        except FileNotFoundError:
            continue
    return count


def descriptors(mount: Mount) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{mount.process.pid}/fd"))


def resident(mount: Mount) -> int:
    """Bytes of the daemon that are in memory."""
    pages = Path(f"/proc/{mount.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def guests(mount: Mount) -> int:
    """Tenders that the daemon has running; what else it has for children is not in its process group."""
    pid = mount.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_runs(child, os.getpgid(pid)) for child in children)


def _runs(pid: str, group: int) -> bool:
    try:
        state, _, its_group = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:3]
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return state != "Z" and int(its_group) == group and not command.startswith("fusermount3")


def refused(writer: int) -> bool:
    """Whether a write ends in EPIPE."""
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return True
    return False


def test_a_job_that_another_replaces_gives_its_files_back(uk: Mount) -> None:
    for _ in range(3):
        result = uk.sh("head -c 20M /dev/zero > cat/in && cat cat/out | wc -c")
        assert result.out.split() == [b"20971520"], result.err
    assert spool_files(uk) >= 1
    assert uk.sh("echo a > cat/in; cat cat/out").out == b"a\n"
    assert until(lambda: spool_files(uk) == 0)


def test_a_private_job_gives_its_files_back(uk: Mount) -> None:
    script = "mkdir cat/a; head -c 20M /dev/zero > cat/a/in; cat cat/a/out | wc -c; rmdir cat/a"
    for _ in range(3):
        assert uk.sh(script).out.split() == [b"20971520"]
    assert until(lambda: spool_files(uk) == 0)


def test_private_jobs_give_their_memory_back(uk: Mount) -> None:
    script = """
    for n in $(seq 10); do
        d=$(mktemp -d $PWD/cat/XXXXXX); head -c 7M /dev/zero > $d/in; cat $d/out | wc -c; rmdir $d
    done"""
    assert uk.sh(script, timeout=60).out.split() == [b"7340032"] * 10
    before = resident(uk)
    assert uk.sh(script, timeout=60).out.split() == [b"7340032"] * 10
    assert resident(uk) - before < 35 * MB


def test_what_is_open_outlives_its_directory(uk: Mount) -> None:
    script = "cd cat; mkdir a; echo kept > a/in; cat a/wait > /dev/null; exec 5< a/out; rmdir a; cat <&5"
    assert uk.sh(script).out == b"kept\n"
    assert uk.sh("ls cat").out.split() == [b"ctl", b"err", b"in", b"out", b"status", b"wait"]


def test_without_descriptors_a_job_is_refused_and_the_next_one_is_not(uk: Mount) -> None:
    assert uk.sh("echo a > cat/in; cat cat/out").out == b"a\n"
    assert until(lambda: guests(uk) == 0)
    soft, hard = resource.prlimit(uk.process.pid, resource.RLIMIT_NOFILE)
    for spare in range(12):
        # The lowest free numbers are what a limit leaves.
        taken = set(descriptors(uk))
        free = [n for n in range(max(taken) + 20) if n not in taken]
        resource.prlimit(uk.process.pid, resource.RLIMIT_NOFILE, (free[spare], hard))
        result = uk.sh("mkdir cat/a; echo b > cat/a/in; cd cat/a; cat out; cat err status; rmdir ../a")
        done = result.out.startswith(b"b\nover in=2 out=2 status=0 ")
        assert done or b"Too many open files" in result.out + result.err
        resource.prlimit(uk.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert uk.sh("echo c > cat/in; cat cat/out").out == b"c\n", spare
    assert until(lambda: guests(uk) == 0)


def test_a_guest_that_nobody_can_reach_is_ended(uk: Mount) -> None:
    uk.sh(": > deaf/in; : > deaf/in; : > deaf/in")
    assert until(lambda: guests(uk) == 1)
    time.sleep(0.3)
    assert guests(uk) == 1  # the last one is reached by its directory


def test_a_guest_with_a_reader_is_not_ended_by_the_next(uk: Mount) -> None:
    with running("bash", "-c", "exec cat deaf/out", cwd=uk.path):
        uk.sh(": > deaf/in; exec 5< deaf/out; : > deaf/in; cat deaf/status <&-")
    with running("bash", "-c", ": > deaf/in; exec cat deaf/out", cwd=uk.path) as reader:
        assert until(lambda: guests(uk) >= 1)
        time.sleep(0.3)
        uk.sh(": > deaf/in")
        time.sleep(0.3)
        assert guests(uk) == 2
        reader.send_signal(signal.SIGINT)
        reader.wait(5)
    assert until(lambda: guests(uk) == 1)


@pytest.mark.parametrize("client", ["cat cat/a/out", "cat cat/a/wait", "tail -n +1 -f cat/a/out"])
def test_rmdir_frees_a_blocked_reader(client: str, uk: Mount) -> None:
    uk.sh("mkdir cat/a")
    writer = os.open(uk.path / "cat/a/in", os.O_WRONLY | os.O_TRUNC)
    try:
        with running("bash", "-c", f"exec timeout 8 {client}", cwd=uk.path) as reader:
            time.sleep(0.3)
            assert uk.sh("rmdir cat/a").status == 0
            if "tail" not in client:  # which looks for the file again and again
                assert reader.wait(5) in (0, 1)
        assert until(lambda: guests(uk) == 0)
        assert until(lambda: refused(writer))
    finally:
        os.close(writer)


def test_rmdir_frees_a_blocked_writer(uk: Mount) -> None:
    uk.sh("mkdir deaf/a")
    with running("bash", "-c", "exec head -c 9M /dev/zero > deaf/a/in", cwd=uk.path) as writer:
        assert until(lambda: guests(uk) == 1)
        time.sleep(0.3)
        assert uk.sh("rmdir deaf/a").status == 0
        writer.wait(5)
    assert until(lambda: guests(uk) == 0)


@pytest.mark.parametrize("way", ["SIGTERM", "fusermount3 -uz"])
def test_the_end_of_the_mount_frees_blocked_clients(way: str, uk: Mount) -> None:
    script = "head -c 9M /dev/zero > deaf/in & sleep 0.3; cat deaf/out & cat deaf/wait & wait"
    with running("bash", "-c", script, cwd=uk.path) as clients:
        assert until(lambda: guests(uk) == 1)
        time.sleep(0.6)
        if way == "SIGTERM":
            uk.process.terminate()
        else:
            subprocess.run([*way.split(), uk.path], check=True, timeout=10)
            uk.process.terminate()
        assert uk.process.wait(8) == 0
        clients.wait(8)


def test_clients_killed_at_any_time_leave_nothing(uk: Mount) -> None:
    script = """
    for n in $(seq 25); do (
        d=$(mktemp -d $PWD/cat/XXXXXX)
        timeout -s KILL 0.0$n head -c 3M /dev/zero > $d/in &
        timeout -s KILL 0.$n cat $d/out > /dev/null
        timeout -s KILL 0.0$n cat $d/wait
        rmdir $d
    ) & done 2> /dev/null; wait"""
    uk.sh(script, timeout=60)
    assert until(lambda: guests(uk) == 0)
    assert uk.sh("ls -d cat/*/").status != 0
    assert uk.sh("echo a > cat/in; cat cat/out").out == b"a\n"
