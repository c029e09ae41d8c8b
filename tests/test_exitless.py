"""Hypercalls without an exit: that they happen, that nobody can tell, and what a guest can do with them.

The other suites run with them as well: see harness.MODES.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest
from harness import GUESTS, UKFILTER, figures, one_line, run, running, sh

MB = 1 << 20
WAYS = ["on", "off", "auto", "hasty"]

needs_two = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="with one processor there is nobody to serve beside the guest"
)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable, value in harness.WAYS.get(request.param, {"UKFILTER_EXITLESS": "auto"}).items():
        monkeypatch.setitem(harness.ENV, variable, value)
    return str(request.param)


@needs_two
def test_hypercalls_make_no_exit(tender: str) -> None:
    seen = figures("head -c 20M /dev/zero | ukfilter --exitless on --status-fd 3 $E/cat.hvt -b 1500")
    assert seen["bytes_in"] == 20 * MB
    assert seen["hypercalls"] > 2 * 20 * MB // 1500
    # A hundred exits where the machine is idle; how many where it is busy is the scheduler's to say.
    assert seen["exits"] < seen["hypercalls"] - 500


def test_off_means_an_exit_each(tender: str) -> None:
    seen = figures("head -c 1M /dev/zero | ukfilter --exitless off --status-fd 3 $E/cat.hvt -b 1500")
    assert seen["exits"] >= seen["hypercalls"]


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_hypercall_keeps_every_register(tender: str, way: str) -> None:
    result = sh("ukfilter $G/keep.hvt 100000", timeout=60)
    assert (result.status, result.out) == (0, b"kept\n")


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
@pytest.mark.parametrize("what", ["itself", "halt"])
def test_a_request_that_cannot_be_served_so_is_nothing(tender: str, way: str, what: str) -> None:
    """`itself` has its answer in the mailbox, which is no guest memory to the tender."""
    result = sh(f"ukfilter $G/mailbox.hvt {what} < /dev/null", timeout=60)
    if what == "itself" and result.status == 255:
        assert "wild address" in one_line(result.err)
    else:
        assert (result.status, result.out) == (3, b"survived\n")


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
@pytest.mark.parametrize("what", ["wild-address", "tables", "unknown"])
def test_a_hostile_request_ends_the_guest_or_nothing(tender: str, way: str, what: str) -> None:
    """Whether the poller sees it is a race that the guest can win; what then happens is not."""
    result = sh(f"ukfilter $G/mailbox.hvt {what} < /dev/null", timeout=60)
    if result.status != 3:
        assert (result.status, result.out) == (255, b"")
        told = "unknown hypercall 99" if what == "unknown" else "with its arguments at a wild address"
        assert told in one_line(result.err)


@needs_two
def test_the_poller_does_end_a_guest() -> None:
    """The case of the test above that is meant, seen at least once in ten."""
    results = [sh("ukfilter --tender kvm --exitless on $G/mailbox.hvt tables < /dev/null") for _ in range(10)]
    assert any(r.status == 255 for r in results)


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
def test_scribbling_on_the_word_hurts_nobody_else(tender: str, way: str) -> None:
    result = sh("ukfilter -t 20 $G/mailbox.hvt scribble < /dev/null", timeout=60)
    assert result.status in (0, 255), result
    assert b"Traceback" not in result.err


@pytest.mark.parametrize("what", ["write-trampoline", "run-mailbox"])
def test_the_pages_are_writable_or_executable_never_both(tender: str, what: str) -> None:
    result = sh(f"ukfilter --exitless on $G/mailbox.hvt {what} < /dev/null")
    assert (result.status, result.out) == (255, b"")
    assert "guest fault" in one_line(result.err)


def test_off_reads_no_mailbox_in_a_virtual_machine() -> None:
    """A process asks through the trampoline in any case."""
    result = sh("ukfilter --exitless off --tender kvm $G/mailbox.hvt unknown < /dev/null")
    assert (result.status, result.out) == (3, b"survived\n")


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_jump_to_the_out_of_a_patched_site(tender: str, way: str) -> None:
    """As gcc -Os makes it of two calls in the branches of an if."""
    result = sh("ukfilter $G/sites.hvt < /dev/null")
    assert (result.status, result.err) == (40, b"line\n" * 4)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_guest_that_reads_its_own_output_finds_it(tender: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "both").write_bytes(bytes(10000))
    result = sh(f"ukfilter $G/readback.hvt < {tmp_path}/both 1<> {tmp_path}/both")
    assert (result.status, result.err) == (0, b"2000 of 2000\n")


@pytest.mark.parametrize("value", ["", "yes", "1"])
def test_a_wrong_value_is_named(value: str) -> None:
    result = sh(f"ukfilter --exitless '{value}' $E/hello.hvt")
    assert result.status == 125
    assert "auto, on, off" in one_line(result.err)


def test_the_environment_sets_it_too() -> None:
    result = sh("UKFILTER_EXITLESS=maybe ukfilter $E/hello.hvt")
    assert result.status == 125
    assert "UKFILTER_EXITLESS" in one_line(result.err)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and the children that it traces; all its threads."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


@pytest.mark.slow
@pytest.mark.parametrize("way", ["on", "auto"], indirect=True)
def test_a_guest_that_waits_uses_no_processor(tender: str, way: str) -> None:
    argv = [harness.UKFILTER, harness.EXAMPLES / "cat.hvt"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=harness.ENV) as p:
        assert p.stdin and p.stdout
        for _ in range(200):  # busy first, so that the poller was awake
            p.stdin.write(b"x" * 1000)
            p.stdin.flush()
            assert p.stdout.read1(1000)
        time.sleep(0.5)
        before = cpu_seconds(p.pid)
        time.sleep(5)
        used = cpu_seconds(p.pid) - before
        p.stdin.close()
        assert p.stdout.read() == b""
    assert (p.returncode, used) == (0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["on", "off", "hasty", "pinned"])
def test_twenty_megabytes_fifty_times(
    tender: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in harness.WAYS[way].items():
        monkeypatch.setitem(harness.ENV, variable, value)
    data = tmp_path / "data"
    data.write_bytes(os.urandom(20 * MB))
    on_one = "taskset -c 0" if way == "pinned" else ""
    for size in (1500, 4096, 65536, 1 << 20, 333) * 10:
        result = run(
            *("bash", "-o", "pipefail", "-c"),
            f"cat {data} | {on_one} ukfilter $E/cat.hvt -b {size} | cmp - {data}",
            timeout=120,
        )
        assert (result.status, result.out, result.err) == (0, b"", b""), size


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
def test_small_writes_keep_their_order(tender: str, way: str) -> None:
    """Console and output are one pipe; what is gathered of one is written before the other's."""
    result = sh("ukfilter $G/pieces.hvt turns 2000 2>&1 | cat")
    assert result.out == b"".join(b"console %d\noutput\n" % i for i in range(2000))


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
def test_small_writes_are_seen_while_the_guest_computes(tender: str, way: str) -> None:
    result = sh("ukfilter -t 2 $G/pieces.hvt spin 3000 | wc -c")
    assert result.out.split() == [b"303000"]


def drained(fd: int, most: int) -> bytes:
    """All that comes out of a pipe, read in pieces of at most so many bytes."""
    with os.fdopen(fd, "rb", buffering=0) as source:
        return b"".join(iter(lambda: source.read(most), b""))


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
@pytest.mark.parametrize("most", [5000, 1 << 17])
@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("pages", [1, 16])
def test_lines_of_two_writers_do_not_mix(
    tender: str, way: str, pages: int, blocking: bool, most: int
) -> None:
    """Each was one write of less than PIPE_BUF, so it stays in one piece, full as the pipe may be."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, pages * 4096)
    os.set_blocking(theirs, blocking)
    with (
        running(UKFILTER, GUESTS / "pieces.hvt", "lines", 20000, "a", stdout=theirs) as p,
        running(UKFILTER, GUESTS / "pieces.hvt", "lines", 20000, "b", stdout=theirs) as q,
    ):
        os.close(theirs)
        lines = drained(ours, most).splitlines()
        assert (p.wait(10), q.wait(10)) == (0, 0)
    assert sorted(set(lines)) == [b"a" * 100, b"b" * 100]
    assert len(lines) == 40000


@needs_two
def test_small_pieces_wake_a_reader_once_for_many() -> None:
    """Seen from the reader's side: what it finds at once is more than one write may be. Where others
    keep the processors busy it is fewer, so the best of some runs is looked at.
    """

    def mean_size() -> float:
        filtering = f"{UKFILTER} --tender kvm --exitless on {harness.EXAMPLES}/cat.hvt -b 1500"
        with running("bash", "-c", f"head -c 20M /dev/zero | {filtering}", stdout=subprocess.PIPE) as p:
            assert p.stdout
            sizes = [len(piece) for piece in iter(lambda: os.read(p.stdout.fileno(), 1 << 17), b"")]
        assert sum(sizes) == 20 * MB
        return sum(sizes) / len(sizes)

    harness.eventually(lambda: mean_size() > 2 * 4096, "pieces are put together")


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
@pytest.mark.parametrize("size", [16, 100, 1000, 1500, 3000])
def test_a_pipe_that_nobody_reads_takes_no_less(tender: str, way: str, size: int) -> None:
    """As many as one write a piece would have put there; who waits for the end and then reads, gets all."""
    ours, theirs = os.pipe()
    pages, per_page = 16, 4096 // size
    count = pages * per_page
    words = (UKFILTER, harness.EXAMPLES / "cat.hvt", "-b", size)
    assert run(*words, stdin=bytes(size * count), stdout=theirs).status == 0
    os.close(theirs)
    assert len(drained(ours, MB)) == size * count


@pytest.mark.parametrize("way", ["on", "off", "hasty"], indirect=True)
def test_a_guest_finds_what_it_wrote(tender: str, way: str, tmp_path: Path) -> None:
    """Where its output is its input. Nothing of it is kept back while it looks."""
    os.mkfifo(tmp_path / "f")
    script = "exec 5<> $F; ukfilter $G/pieces.hvt echo 5000 <&5 >&5"
    result = sh(script, env={**harness.ENV, "F": str(tmp_path / "f")})
    assert (result.status, result.err) == (0, b"")


@pytest.mark.parametrize("way", ["on", "off", "hasty"], indirect=True)
def test_a_trace_stands_between_what_it_tells_of(tender: str, way: str) -> None:
    result = sh("ukfilter --trace $G/pieces.hvt lines 200 a 2>&1 < /dev/null | cut -c 1")
    assert result.out.count(b"a\n") == 200
    assert b"a\na\n" not in result.out


@pytest.mark.parametrize("way", ["on", "off", "hasty"], indirect=True)
def test_figures_are_of_what_was_written(tender: str, way: str) -> None:
    """Not of what was still on its way, to a reader that stalls, when time ran out."""
    ours, theirs = os.pipe()
    report, their_report = os.pipe()
    words = (UKFILTER, "-t", "0.5", "--status-fd", their_report, GUESTS / "pieces.hvt", "lines", 20000, "a")
    result = run(*words, stdout=theirs, pass_fds=[their_report])
    os.close(theirs)
    os.close(their_report)
    assert result.status == 124
    last = json.loads(drained(report, MB).splitlines()[-1])
    assert last["bytes_out"] == len(drained(ours, MB))


@pytest.mark.parametrize("way", ["on", "off", "hasty"], indirect=True)
def test_a_signal_that_the_parent_has_blocked_stays_so(tender: str, way: str) -> None:
    block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])"
    script = f"{sys.executable} -c '{block}; os.execvp(sys.argv[1], sys.argv[1:])' ukfilter $E/cat.hvt -b 100"
    result = sh(f"{script} < /dev/zero | head -c 1000 > /dev/null; exit ${{PIPESTATUS[0]}}")
    assert result.status == 125
    assert "standard output: Broken pipe" in one_line(result.err)


@needs_two
def test_the_poller_keeps_off_the_guests_processor() -> None:
    """It is put there again and again, and leaves of its own, though others are busy elsewhere."""
    both = set(sorted(os.sched_getaffinity(0))[:2])
    argv = [UKFILTER, "--tender", "kvm", "--exitless", "on", harness.EXAMPLES / "cat.hvt", "-b", "1500"]
    zeros = os.open("/dev/zero", os.O_RDONLY)
    hog = ("sh", "-c", "while :; do :; done")
    with running(*hog), running(*hog), running(*argv, stdin=zeros, stdout=subprocess.DEVNULL) as p:
        os.close(zeros)
        harness.wait_sandboxed(p.pid)
        tasks = [t for t in Path(f"/proc/{p.pid}/task").iterdir() if t.name != str(p.pid)]
        (poller,) = [int(t.name) for t in tasks if not (t / "comm").read_text().startswith("kvm-")]
        os.sched_setaffinity(p.pid, both)

        def has_left() -> bool:
            on = int(Path(f"/proc/{p.pid}/stat").read_text().rpartition(")")[2].split()[36])
            os.sched_setaffinity(poller, {on})
            time.sleep(0.01)
            os.sched_setaffinity(poller, both)
            time.sleep(0.02)
            return len(os.sched_getaffinity(poller)) == 1

        harness.eventually(has_left, "the poller has left")
        for only in both:  # both threads are told where to be: that is where they stay
            os.sched_setaffinity(p.pid, {only})
            os.sched_setaffinity(poller, {only})
            time.sleep(0.05)
            assert os.sched_getaffinity(poller) == {only}
        assert p.poll() is None


@pytest.mark.parametrize("way", ["on", "hasty"], indirect=True)
def test_messages_are_not_gathered(tender: str, way: str) -> None:
    """A socket that keeps messages apart gets each write of the guest as one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, running(UKFILTER, "-q", GUESTS / "pieces.hvt", "lines", 2000, "x", stdout=theirs) as p:
        theirs.close()
        lengths = {len(ours.recv(65536)) for _ in range(2000)}
        assert (lengths, ours.recv(1), p.wait(10)) == ({101}, b"", 0)
