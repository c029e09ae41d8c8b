"""What the tender may still do once the guest runs, looked at from outside while a guest waits."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def waiting(image) -> Iterator[int]:
    """The process of a cat.hvt that waits for input, started with a descriptor too many."""
    extra = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        with harness.running(
            harness.UKFILTER,
            image("cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        ) as p:
            harness.wait_sandboxed(p.pid)
            yield p.pid
    finally:
        os.close(extra)


def test_no_new_privileges_and_a_filter(waiting: int) -> None:
    status = harness.proc_status(waiting)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    # KVM has worker threads of the kernel's own in the process; of ours there is one, the poller.
    tasks = [t for t in Path(f"/proc/{waiting}/task").iterdir() if t.name != str(waiting)]
    ours = [t for t in tasks if not (t / "comm").read_text().startswith("kvm-")]
    assert len(ours) == (len(os.sched_getaffinity(0)) > 1)
    for task in ours:
        lines = (task / "status").read_text().splitlines()
        assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines


def test_no_descriptor_but_the_ends_and_kvm(waiting: int) -> None:
    directory = Path(f"/proc/{waiting}/fd")
    try:
        names = {int(p.name): os.readlink(p) for p in directory.iterdir()}
    except PermissionError:
        # Only root may look into a process that has made itself undumpable: that is part of it.
        assert os.geteuid() != 0
        return
    standard = {fd: name for fd, name in names.items() if fd <= 2}
    others = [name for fd, name in names.items() if fd > 2]
    assert sorted(standard) == [0, 1, 2]
    assert standard[0].startswith("pipe:")
    assert standard[1].startswith("pipe:")
    pipe = [n for n in others if n.startswith("pipe:")]  # one of its own, for what it puts together
    assert len(pipe) in (0, 2) and len(set(pipe)) <= 1 and not set(pipe) & set(standard.values())
    others = [n for n in others if n not in pipe]
    assert [n for n in others if "kvm" in n] == others
    assert "anon_inode:kvm-vm" not in others
    assert "/dev/kvm" not in others


def test_no_core_dump(waiting: int) -> None:
    limits = Path(f"/proc/{waiting}/limits").read_text().splitlines()
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


def test_idle_guest_costs_no_time(waiting: int) -> None:
    time.sleep(0.3)
    before = harness.cpu_ticks(waiting)
    time.sleep(3)
    assert harness.cpu_ticks(waiting) - before <= TICKS // 50


def test_no_child(waiting: int) -> None:
    children = Path(f"/proc/{waiting}/task/{waiting}/children").read_text()
    assert children == ""


def test_memory_is_what_the_guest_touched(waiting: int) -> None:
    """The floor: 20 MB beyond what the guest touched, which for cat.hvt is less than 1 MB."""
    kilobytes = int(harness.proc_status(waiting)["VmRSS"].split()[0])
    assert kilobytes < 21 << 10


def test_stats_tell_what_is_in_force(image) -> None:
    got = harness.run(harness.UKFILTER, "--stats", "-v", image("cat"), stdin=b"data")
    assert (got.status, got.out) == (0, b"data")
    text = got.err.decode()
    assert "in 4 bytes, out 4 bytes" in text
    assert "seccomp" in text
    assert "no new privileges" in text
    assert all(line.startswith("ukfilter: ") for line in text.splitlines())
