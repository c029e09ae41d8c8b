"""The process tender: what a guest's own process holds, and that it needs no privilege."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import harness
import pytest
from harness import EXAMPLES, GUESTS, UKFILTER, run


@pytest.fixture
def waiting(image):
    """A cat that waits for input under the process tender, and the pid of its guest."""
    words = (UKFILTER, "--tender", "process", image("cat"))
    with harness.running(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        yield p, harness.guest_of(p.pid)


def test_the_guest_has_nothing_of_ours(waiting) -> None:
    _, child = waiting
    assert (
        {"0", "1"} <= set(os.listdir(f"/proc/{child}/fd")) <= {"0", "1", "2"}
    )  # its ends: see test_own_calls.py
    for line in Path(f"/proc/{child}/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(maxsplit=5)
        if name == ["[vsyscall]"]:  # the kernel's, in every process; a call of it is killed by the filter
            continue
        assert int(span.split("-")[1], 16) <= 512 << 20
        assert not ("w" in rights and "x" in rights)


def test_the_guest_is_confined(waiting) -> None:
    _, child = waiting
    status = Path(f"/proc/{child}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    limits = Path(f"/proc/{child}/limits").read_text()
    assert "Max core file size        0 " in limits


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_guest_does_not_outlive_its_tender(number: int, waiting) -> None:
    tender, child = waiting
    tender.send_signal(number)
    assert tender.wait(10) == -number
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and alive(child):
        time.sleep(0.01)
    assert not alive(child)


def alive(pid: int) -> bool:
    """False once it has gone, or waits only to be reaped by somebody else."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_capability_is_needed(image) -> None:
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    got = run(*drop, UKFILTER, "--tender", "process", image("upper"), stdin=b"plain user\n")
    assert (got.status, got.out, got.err) == (0, b"PLAIN USER\n", b"")


def test_a_stop_does_not_cut_a_wait_short(guest) -> None:
    for tender in ("kvm", "process"):
        words = (UKFILTER, "--tender", tender, guest("sleep"), 1500)
        with harness.running(*words, stdout=subprocess.PIPE) as p:
            harness.wait_sandboxed(p.pid)
            p.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            p.send_signal(signal.SIGCONT)
            assert p.wait(10) == 0
            assert p.stdout is not None
            assert p.stdout.read() == b"slept\n"


def test_the_choice_is_told_and_can_be_set(image) -> None:
    for tender in ("kvm", "process"):
        got = run(UKFILTER, "-v", image("hello"), env={**harness.ENV, "UKFILTER_TENDER": tender})
        assert got.status == 0
        assert f"tender: {tender}".encode() in got.err
    got = run(UKFILTER, "--tender", "wasm", image("hello"))
    assert got.status == 125
    assert b"wasm" in got.err


# Go on under a seccomp filter of somebody else's, as in a container: seccomp(2), and struct sock_filter.
UNDER = """
import ctypes, os, struct, sys
flags, code = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
call = ctypes.CDLL(None, use_errno=True).syscall
buffer = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)), 16)
call(157, 38, 1, 0, 0, 0)  # prctl, PR_SET_NO_NEW_PRIVS
fd = call(317, 1, flags, program)  # SECCOMP_SET_MODE_FILTER
assert fd >= 0, os.strerror(ctypes.get_errno())
if flags:
    os.set_inheritable(fd, True)
os.execvp(sys.argv[3], sys.argv[3:])
"""
LOAD, EQUAL, GREATER, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, REFUSE = (RETURN, 0, 0, 0x7FFF0000), (RETURN, 0, 0, 0x00050001)
NUMBER, THIRD = (LOAD, 0, 0, 0), (LOAD, 0, 0, 32)  # of struct seccomp_data
FILTERS = {
    # no second listener can be had, so a request is a stop
    "listens": (8, [ALLOW]),
    # an allow-list, as container runtimes have it
    "known calls": (0, [NUMBER, (GREATER, 0, 1, 470), REFUSE, ALLOW]),
    # refuses just what a guest asks by: a read of 0x501 to 0x508 bytes
    "our call": (
        0,
        [NUMBER, (EQUAL, 0, 4, 0), THIRD, (GREATER, 2, 0, 0x508), (GREATER, 0, 1, 0x500), REFUSE, ALLOW],
    ),
}


def under(kind: str) -> tuple[object, ...]:
    """The words that go before a command, to run it under that filter."""
    flags, code = FILTERS[kind]
    return (sys.executable, "-c", UNDER, flags, b"".join(struct.pack("=HBBI", *c) for c in code).hex())


@pytest.mark.parametrize("way", ["auto", "on", "off"])
@pytest.mark.parametrize("name", ["cat.hvt", "cat.spt"])
@pytest.mark.parametrize("kind", FILTERS)
def test_under_a_filter_of_somebody_elses(kind: str, name: str, way: str) -> None:
    words = (*under(kind), UKFILTER, "--tender", "process", "--exitless", way)
    data = os.urandom(1 << 20)
    got = run(*words, EXAMPLES / name, "-b", 1500, stdin=data)
    assert (got.status, got.err, got.out == data) == (0, b"", True)
    got = run(*words, GUESTS / "fault.hvt", "null")
    assert (got.status, got.out) == (255, b"before\n")
    assert "guest fault" in harness.one_line(got.err)


def test_signals_while_it_starts(image) -> None:
    """A terminal that is resized tells all of its foreground's processes."""
    for _ in range(30):
        with harness.running(
            *(UKFILTER, "--tender", "process", image("hello")), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as p:
            while p.poll() is None:
                os.killpg(p.pid, signal.SIGWINCH)
            assert p.communicate() == (b"Hello, world!\n", b"")
            assert p.returncode == 0


def test_a_guest_that_waits_can_be_frozen(waiting) -> None:
    """As a suspend does it, which a process in an uninterruptible sleep would prevent; a signal changes
    nothing of that, nor is the request served twice."""
    tender, child = waiting
    tender.stdin.write(b"once ")
    tender.stdin.flush()
    assert tender.stdout.read1() == b"once "
    for _ in range(3):
        os.kill(child, signal.SIGWINCH)
        time.sleep(0.05)
        assert harness.proc_status(child)["State"][0] in "St"
    assert tender.communicate(b"twice", timeout=10)[0] == b"twice"


@pytest.mark.parametrize("kind", ["known calls", "listens"])
def test_a_guest_reads_and_writes_itself_there_too(kind: str) -> None:
    words = (*under(kind), UKFILTER, "--tender", "process", "--status-fd", 2, EXAMPLES / "cat.hvt", "-b", 100)
    result = run(*words, stdin=bytes(1 << 20))
    assert (result.status, result.out) == (0, bytes(1 << 20))
    seen = json.loads(result.err.splitlines()[-1])
    assert seen["exits"] < seen["hypercalls"] / 4


def test_a_guest_that_is_killed_while_it_waits(waiting) -> None:
    tender, child = waiting
    os.kill(child, signal.SIGKILL)
    assert tender.wait(10) == 128 + signal.SIGKILL


@pytest.mark.parametrize("way", ["on", "off"])
@pytest.mark.parametrize("kind", ["known calls", "listens"])
@pytest.mark.parametrize("name", ["cat.hvt", "cat.spt"])
def test_signals_to_the_guest_change_nothing(name: str, kind: str, way: str) -> None:
    """No request is lost, and none is served twice, however often it is interrupted; nor is a signal of
    somebody's taken for a fault."""
    data = os.urandom(1 << 20)
    words = (*under(kind), UKFILTER, "--tender", "process", "--exitless", way, EXAMPLES / name, "-b", 100)
    queue = ctypes.CDLL(None).sigqueue
    kinds = itertools.cycle(
        (signal.SIGWINCH, signal.SIGSTOP, signal.SIGTRAP, signal.SIGINT, signal.SIGSEGV, signal.SIGCONT)
    )
    with harness.running(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        children = Path(f"/proc/{p.pid}/task/{p.pid}/children")
        harness.eventually(lambda: bool(children.read_text()), "the guest's process")
        child = int(children.read_text())
        over = threading.Event()

        def disturb() -> None:
            for number in kinds:
                if over.is_set():
                    return
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
                    queue(child, number, None)
                time.sleep(0.0005)

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            out, _ = p.communicate(data, timeout=60)
        finally:
            over.set()
            thread.join()
        assert (p.returncode, out == data) == (0, True)


@pytest.mark.parametrize("suffix", ["hvt", "spt"])
def test_a_guest_that_is_killed_while_it_is_served(suffix: str) -> None:
    """The tender writes to a pipe that is full, which nobody reads: it says what became of the guest."""
    words = (UKFILTER, "--tender", "process", EXAMPLES / f"cat.{suffix}")
    pipe = subprocess.PIPE
    with open("/dev/zero") as zero, harness.running(*words, stdin=zero, stdout=pipe, stderr=pipe) as p:
        child = harness.guest_of(p.pid)
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        assert p.wait(20) == 128 + signal.SIGKILL
        _, err = p.communicate(timeout=20)
        assert "the guest's process was killed (signal 9)" in harness.one_line(err)


def test_where_no_memory_may_become_code() -> None:
    """As systemd's MemoryDenyWriteExecute= has it."""
    deny = (
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    words = (sys.executable, "-c", deny, UKFILTER, "--tender", "process")
    for image in (EXAMPLES / "cat.hvt", EXAMPLES / "cat.spt"):
        got = run(*words, image, stdin=b"data")
        assert (got.status, got.out, got.err) == (0, b"data", b"")
