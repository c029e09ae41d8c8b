"""What a guest that is a process does itself: it holds no more than that, and nobody can tell otherwise."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import harness
import pytest
from harness import EXAMPLES, GUESTS, UKFILTER, figures, guest_of, one_line, run, sh

MB = 1 << 20


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.ENV, "UKFILTER_TENDER", "process")


def descriptors(pid: int) -> dict[int, str]:
    return {int(p.name): os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir()}


@pytest.mark.parametrize(
    ("words", "held"), [((), {0, 1, 2}), (("--exitless", "off"), set()), (("--trace",), set())]
)
def test_the_guest_holds_its_ends_alone(words: tuple[str, ...], held: set[int], tmp_path: Path) -> None:
    other = os.open("/etc/passwd", os.O_RDONLY)
    try:
        with harness.running(
            UKFILTER,
            *words,
            EXAMPLES / "cat.hvt",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[other],
        ) as p:
            assert set(descriptors(guest_of(p.pid))) == held
    finally:
        os.close(other)


def test_a_terminal_is_the_tenders() -> None:
    """It may stop or hang up who uses it."""
    ours, theirs = pty.openpty()
    try:
        with harness.running(UKFILTER, EXAMPLES / "cat.hvt", stdin=theirs, stdout=theirs, stderr=theirs) as p:
            assert descriptors(guest_of(p.pid)) == {}
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_call_from_its_page_on_its_end_goes_through() -> None:
    """What the cases below differ from in one thing each."""
    result = sh("ukfilter $G/calls.hvt write < /dev/null")
    assert (result.status, result.out, result.err) == (3, b"by hand\n", b"went on\n")


FORBIDDEN = [
    "write-own", "write 0", "write 3", "write 7", "read 1", "readv 1", "readv 7", "readv-at 0", "readv-two 0",
    "readv-flag 0", "poll-two", "poll-mask", "clock", "getpid", "exit", "open",
]  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
def test_any_other_call_ends_the_guest(what: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123456789abcdef")
    result = sh(f"ukfilter $G/calls.hvt {what} < {source} | cat")
    assert (result.status, result.out) == (255, b"")
    assert "made a system call of the host, which no guest may" in one_line(result.err)


@pytest.mark.parametrize("what", ["write", "read 0", "readv 0", "getpid"])
def test_without_exitless_hypercalls_there_is_none(what: str) -> None:
    result = sh(f"ukfilter --exitless off $G/calls.hvt {what} < /dev/null | cat")
    assert (result.status, result.out) == (255, b"")
    assert "made a system call of the host, which no guest may" in one_line(result.err)


def test_a_request_made_by_hand_is_one_like_any_other() -> None:
    result = sh("ukfilter $G/calls.hvt ask < /dev/null | cat")
    assert (result.status, result.out) == (255, b"")
    assert one_line(result.err)


@pytest.mark.parametrize("size", [100, 1500, 65536])
def test_the_figures_are_true(size: int) -> None:
    seen = figures(f"head -c 8M /dev/zero | ukfilter --status-fd 3 $E/cat.hvt -b {size}")
    assert (seen["bytes_in"], seen["bytes_out"]) == (8 * MB, 8 * MB)
    assert seen["hypercalls"] >= 2 * 8 * MB // size
    assert seen["exits"] < seen["hypercalls"] / 2


def test_a_write_that_is_cut_short_is_finished(tmp_path: Path) -> None:
    """Somebody made the shared pipe non-blocking: what it does not take at once is the tender's to write."""
    data, report = os.urandom(20 * MB), tmp_path / "report"
    (tmp_path / "data").write_bytes(data)
    out, out_in = os.pipe()
    os.set_blocking(out_in, False)
    words = (UKFILTER, "--status-fd", 2, EXAMPLES / "cat.hvt", "-b", 1000000)
    with (
        (tmp_path / "data").open("rb") as source,
        report.open("wb") as log,
        harness.running(*words, stdin=source, stdout=out_in, stderr=log) as p,
        open(out, "rb") as reader,
    ):
        os.close(out_in)
        assert reader.read() == data
        assert p.wait(10) == 0
    seen = json.loads(report.read_bytes().splitlines()[-1])
    assert (seen["bytes_in"], seen["bytes_out"]) == (20 * MB, 20 * MB)


def test_a_stop_of_the_tender_stops_the_guest() -> None:
    """A signal to it alone, not to its group: the guest is another process."""
    with (
        open("/dev/zero", "rb") as zeros,
        harness.running(UKFILTER, EXAMPLES / "cat.hvt", "-b", 4096, stdin=zeros, stdout=subprocess.PIPE) as p,
    ):
        assert p.stdout is not None
        out = p.stdout.fileno()
        for _ in range(1000):
            os.read(out, 65536)
        os.kill(p.pid, signal.SIGSTOP)
        os.set_blocking(out, False)

        def is_dry() -> bool:
            for _ in range(1000):
                try:
                    os.read(out, 65536)
                except BlockingIOError:
                    return True
            return False

        harness.eventually(is_dry, "no more comes")
        time.sleep(0.3)
        assert is_dry()
        os.kill(p.pid, signal.SIGCONT)
        os.set_blocking(out, True)
        for _ in range(1000):
            assert os.read(out, 65536)


@pytest.mark.parametrize("words", [("-t", "0.2"), ("--stats",), ()])
def test_nothing_is_written_once_it_is_over(words: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "out"
    for _ in range(5):
        with (
            open("/dev/zero", "rb") as zeros,
            target.open("wb") as out,
            harness.running(
                UKFILTER,
                *words,
                EXAMPLES / "cat.hvt",
                "-b",
                MB,
                stdin=zeros,
                stdout=out,
                stderr=subprocess.DEVNULL,
            ) as p,
        ):
            if "-t" not in words:
                harness.eventually(lambda: target.stat().st_size > 0, "it writes")
                p.terminate()
            assert p.wait(10) == (124 if "-t" in words else -signal.SIGTERM)
            size = target.stat().st_size
            time.sleep(0.02)
            assert target.stat().st_size == size > 0


def test_nothing_is_held_once_it_is_over(tmp_path: Path) -> None:
    """Not a moment longer, on one processor too: a program that it wrote can be run."""
    script = """
        for i in $(seq 20); do
            ukfilter $E/cat.hvt < /bin/true > new && chmod +x new && taskset -c 0 ./new || exit
            rm new
        done
    """
    result = run(
        "taskset", "-c", "0", "bash", "-c", script, cwd=tmp_path, env={**harness.ENV, "E": str(EXAMPLES)}
    )
    assert (result.status, result.err) == (0, b"")


def test_an_early_signal_leaves_nobody_behind() -> None:
    """One that comes while the guest's process is being made: who reads the output sees its end."""
    for _ in range(20):
        with harness.running(
            UKFILTER, EXAMPLES / "cat.hvt", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as p:
            children = Path(f"/proc/{p.pid}/task/{p.pid}/children")
            while not children.read_text():
                pass
            p.terminate()
            assert p.wait(10) == -signal.SIGTERM
            assert p.stdout is not None
            assert select.select([p.stdout], [], [], 5)[0]
            assert p.stdout.read() == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of processes needs root")
@pytest.mark.parametrize(("guest", "words"), [("spin", ()), ("sleep", (60000,)), ("sleep", (60000, "off"))])
def test_a_signal_ends_a_containers_first_process(guest: str, words: tuple[object, ...]) -> None:
    """For process 1 of a namespace the kernel drops a signal whose action is the default."""
    way = "off" if "off" in words else "auto"
    command = (UKFILTER, "--exitless", way, GUESTS / f"{guest}.hvt", *words[:1])
    with harness.running("unshare", "--pid", "--fork", "--kill-child", *command) as p:
        children = Path(f"/proc/{p.pid}/task/{p.pid}/children")
        harness.eventually(lambda: bool(children.read_text()), "the tender")
        tender = int(children.read_text())
        harness.wait_sandboxed(tender)
        os.kill(tender, signal.SIGTERM)
        assert p.wait(10) == 128 + signal.SIGTERM


def test_a_guest_that_computes_may_run_anywhere() -> None:
    """Beside its tender it is only while the two take turns."""
    with harness.running(UKFILTER, GUESTS / "spin.hvt") as p:
        assert os.sched_getaffinity(guest_of(p.pid)) == os.sched_getaffinity(0)
    with (
        open("/dev/zero", "rb") as zeros,
        harness.running(UKFILTER, EXAMPLES / "cat.hvt", stdin=zeros, stdout=subprocess.DEVNULL) as p,
    ):
        child = guest_of(p.pid)
        harness.eventually(lambda: os.sched_getaffinity(child) == os.sched_getaffinity(0), "it is free")


def test_what_it_writes_itself_is_activity() -> None:
    """A guest that goes on at end of input is not ended by --drain, as it is not idle."""
    result = sh("printf x | ukfilter --drain 0.3 $G/ticker.hvt 40")
    assert (result.status, result.out) == (0, b"tick\n" * 40)


def test_an_error_of_a_socket_is_told() -> None:
    """It is told to the first who asks, once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
        with (
            ours,
            harness.running(
                UKFILTER, EXAMPLES / "wc.hvt", stdin=ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as p,
        ):
            peer.sendall(bytes(100000))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(0.1)
            peer.close()
            out, err = p.communicate(timeout=10)
    assert (p.returncode, out) == (125, b"")
    assert "cannot read standard input: Connection reset by peer" in one_line(err)


@pytest.mark.parametrize("guest", ["spin", "write_forever"])
def test_a_limit_of_processor_time_ends_it(guest: str) -> None:
    result = sh(f"ulimit -c 0; ulimit -S -t 1; ukfilter $G/{guest}.hvt < /dev/null > /dev/null")
    assert result.status == 128 + signal.SIGXCPU
    assert b"ukfilter:" not in result.err


@pytest.mark.parametrize("guest", ["spin", "write_forever"])
def test_the_last_of_its_processor_time_ends_it_as_it_ends_any_program(guest: str) -> None:
    result = sh(f"ulimit -c 0; ulimit -t 1; ukfilter $G/{guest}.hvt < /dev/null > /dev/null")
    assert result.status == 128 + signal.SIGKILL
    assert "guest's process was killed (signal 9)" in one_line(result.err)


def test_the_guests_processor_time_is_its_tenders() -> None:
    with harness.running(UKFILTER, "-t", "0.5", GUESTS / "spin.hvt", stderr=subprocess.DEVNULL) as p:
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    assert p.returncode == 124
    assert used.ru_utime > 0.1


def test_a_reader_that_goes_away_ends_it() -> None:
    result = sh("ukfilter $E/cat.hvt < /dev/zero | head -c 10M | wc -c")
    assert (result.status, result.out.strip()) == (141, str(10 * MB).encode())


def test_a_limit_of_the_file_size_ends_it(tmp_path: Path) -> None:
    target = tmp_path / "out"
    words = (UKFILTER, EXAMPLES / "cat.hvt", "-b", 100)
    with target.open("wb") as out, harness.running(*words, stdin=subprocess.PIPE, stdout=out) as p:
        for pid in (guest_of(p.pid), p.pid):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, 1024))
        p.communicate(bytes(1 << 16), timeout=10)
    assert p.returncode == -signal.SIGXFSZ
    assert target.stat().st_size == 1024


def test_such_a_limit_counts_its_memory() -> None:
    result = sh("ulimit -f 1; ukfilter $E/cat.hvt < /dev/zero")
    assert result.status == 125
    assert "ulimit -f" in one_line(result.err)


def test_the_rest_of_the_input_is_the_next_commands() -> None:
    result = sh("seq 100000 | { ukfilter $E/head.hvt -n 1 > /dev/null; wc -c; }")
    left = int(result.out)
    assert result.status == 0, result
    assert 0 < left <= len("".join(f"{n}\n" for n in range(1, 100001))) - 65536
