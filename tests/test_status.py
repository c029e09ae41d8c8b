"""Exit statuses, signals and messages: what a shell sees of a filter's end."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import harness
import pytest
from harness import eventually, one_line, proc_status, run, sh

from ukfilter.image import PT_LOAD

pytestmark = pytest.mark.usefixtures("tender")

UKFILTER = harness.UKFILTER


@pytest.mark.parametrize("status", [0, 1, 2, 3, 63, 64, 77, 123, 124, 125, 126, 127, 128, 130, 141, 254, 255])
def test_the_guests_status_is_the_status(guest, status: int) -> None:
    got = run(UKFILTER, guest("exit"), status)
    assert (got.status, got.out, got.err) == (status, b"exit\n", b"")


def test_every_status() -> None:
    script = 'for i in $(seq 0 255); do ukfilter $G/exit.hvt $i >/dev/null; [ $? = $i ] || echo "$i"; done'
    got = sh(script, timeout=120)
    assert (got.out, got.err) == (b"", b"")


def test_pipestatus_of_three() -> None:
    last = "(cat > /dev/null; ukfilter $G/exit.hvt 5)"
    got = sh(f"ukfilter $G/exit.hvt 3 | ukfilter $E/cat.hvt | {last}; echo ${{PIPESTATUS[*]}}")
    assert got.out.endswith(b"3 0 5\n")
    assert got.err == b""


# Usage and images: one line, which names the object.
WRONG = {
    "no-image": ("ukfilter", 125, "which IMAGE?"),
    "empty-name": ("ukfilter ''", 127, ""),
    "not-found": ("ukfilter /no/such/image.hvt", 127, "/no/such/image.hvt"),
    "not-found-after-option": ("ukfilter -q no-such.hvt", 127, "no-such.hvt"),
    "below-a-file": ("ukfilter /etc/passwd/x.hvt", 127, "/etc/passwd/x.hvt"),
    "name-too-long": ("ukfilter $(printf 'x%.0s' {1..5000})", 126, ""),
    "odd-name": ("ukfilter $'no\\nsuch\\e[1mimage\\xff'", 127, ""),
    "directory": ("ukfilter /etc", 126, "/etc"),
    "text": ("ukfilter README.md", 126, "README.md"),
    "empty-file": ("ukfilter /dev/null", 126, "/dev/null"),
    "native-program": ("ukfilter /bin/true", 126, "/bin/true"),
    "unknown-option": ("ukfilter --no-such $E/cat.hvt", 125, "--no-such"),
    "unknown-short-option": ("ukfilter -Z $E/cat.hvt", 125, "-Z"),
    "bad-size": ("ukfilter --mem lots $E/cat.hvt", 125, "--mem"),
    "too-much-memory": ("ukfilter --mem 1T $E/cat.hvt", 125, "--mem"),
    "too-little-memory": ("ukfilter --mem 4k $E/cat.hvt", 125, "--mem"),
    "bad-eof": ("ukfilter --eof maybe $E/cat.hvt", 125, "--eof"),
    "bad-drain": ("ukfilter --drain soon $E/cat.hvt", 125, "--drain"),
    "no-value": ("ukfilter --mem", 125, "--mem"),
    "no-image-after-options": ("ukfilter --mem 64M", 125, "which IMAGE?"),
    "net-no-value": ("ukfilter --net stdin $E/cat.hvt", 125, "--net"),
    "net-unknown-device": ("ukfilter --net nosuch=- $E/cat.hvt", 125, "nosuch"),
    "net-descriptor-not-open": ("ukfilter --net stdin=@77 $E/cat.hvt", 125, "77"),
    "net-descriptor-nonsense": ("ukfilter --net stdin=@x $E/cat.hvt", 125, "@x"),
    "net-no-file": ("ukfilter --net stdin=/no/such/file $E/cat.hvt", 125, "/no/such/file"),
    "net-directory": ("ukfilter --net stdin=/etc $E/cat.hvt", 125, "/etc"),
    "net-colon-unknown-device": ("ukfilter --net:nosuch=- $E/cat.hvt", 125, "nosuch"),
    "net-mtu-nonsense": ("ukfilter --net-mtu stdin=x $E/cat.hvt", 125, "--net-mtu"),
    "net-mac-nonsense": ("ukfilter --net-mac stdin=x $E/cat.hvt", 125, "--net-mac"),
    "console-no-file": ("ukfilter --console /no/such/file $E/hello.hvt", 125, "/no/such/file"),
    "environment": ("UKFILTER_MEM=lots ukfilter $E/cat.hvt", 125, "UKFILTER_MEM"),
    "not-attached": ("ukfilter $G/two_net.hvt", 125, "--net"),
    "arguments-too-long": ("ukfilter $E/cat.hvt $(printf 'x%.0s' {1..9000})", 125, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_refusals_are_one_line(name: str) -> None:
    script, status, mention = WRONG[name]
    got = sh(script, cwd=harness.ROOT)
    assert mention in one_line(got.err)
    assert (got.status, got.out) == (status, b"")


def test_unreadable_image(tmp_path: Path) -> None:
    path = tmp_path / "secret.hvt"
    path.write_bytes((harness.EXAMPLES / "cat.hvt").read_bytes())
    path.chmod(0)
    # Root reads everything by a capability; without any it is an ordinary user with root's files.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    got = run(*drop, UKFILTER, path)
    assert got.status == 126
    assert "secret.hvt" in one_line(got.err)


def test_an_image_that_is_too_large(tmp_path: Path) -> None:
    """Its last segment has 400 MB: more than the page tables that low memory has room for."""
    data = bytearray((harness.EXAMPLES / "cat.hvt").read_bytes())
    (table,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    loads = [at for at in range(table, table + 56 * count, 56) if data[at] == PT_LOAD]
    struct.pack_into("<Q", data, loads[-1] + 40, 400 << 20)
    path = tmp_path / "large.hvt"
    path.write_bytes(data)
    got = run(UKFILTER, "-m", "1G", path)
    assert (got.status, got.out) == (126, b"")
    assert "large.hvt: the image is too large" in one_line(got.err)


def test_version_and_help() -> None:
    got = run(UKFILTER, "--version")
    assert (got.status, got.err) == (0, b"")
    assert got.out.startswith(b"ukfilter ")
    for option in ("-h", "--help"):
        got = run(UKFILTER, option)
        assert (got.status, got.err) == (0, b"")
        for word in (b"--eof", b"--net", b"--mem", b"IMAGE"):
            assert word in got.out


def test_run_is_the_same_spelled_out(image) -> None:
    for words in (["run"], ["--"], ["run", "--"], ["--mem", "64M", "--"], ["run", "-m", "64"]):
        got = run(UKFILTER, *words, image("cat"), stdin=b"data")
        assert (got.status, got.out, got.err) == (0, b"data", b"")


def test_options_after_the_image_are_the_guests(image) -> None:
    got = run(UKFILTER, image("grep"), "--version", stdin=b"say --version\nno\n")
    assert b"ukfilter" not in got.out


# Signals: ukfilter dies by the same one, as cat does.
SIGNALS = ["INT", "TERM", "HUP", "QUIT", "KILL", "USR1", "PIPE", "ALRM"]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "spinning"])
def test_dies_of_the_signal(name: str, busy: bool, image, guest) -> None:
    number = getattr(signal, f"SIG{name}")
    path = guest("spin") if busy else image("cat")
    with harness.running(
        UKFILTER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        harness.wait_sandboxed(p.pid)
        p.send_signal(number)
        assert p.wait(10) == -number
        assert p.stdout is not None
        assert p.stderr is not None
        assert p.stdout.read() == b""
        assert p.stderr.read() == b""


@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05])
def test_interrupted_at_any_time_shows_no_python(delay: float, image) -> None:
    for _ in range(5):
        with harness.running(UKFILTER, image("cat"), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            time.sleep(delay)
            p.send_signal(signal.SIGINT)
            assert p.wait(10) == -signal.SIGINT
            assert p.stderr is not None
            assert p.stderr.read() == b""


def test_ignored_signals_stay_ignored(image) -> None:
    """nohup and `trap '' INT` reach the filter as they reach cat."""
    with harness.running(
        "bash", "-c", f"trap '' INT HUP; exec ukfilter {image('cat')}", stdin=subprocess.PIPE
    ) as p:
        harness.wait_sandboxed(p.pid)
        p.send_signal(signal.SIGHUP)
        p.send_signal(signal.SIGINT)
        assert p.stdin is not None
        p.stdin.close()
        assert p.wait(10) == 0


IGNORED = ("HUP", "INT", "QUIT", "TERM")


def send_to_group(process: subprocess.Popen[bytes]) -> None:
    """What is ignored, as a terminal sends it."""
    for name in IGNORED:
        os.killpg(process.pid, getattr(signal, f"SIG{name}"))


@pytest.mark.parametrize(
    "job", ["pipe $E/cat.hvt", "pipe $E/cat.hvt '|' ! cat", "--progress=always $E/cat.hvt"]
)
def test_ignored_signals_stay_ignored_in_what_we_start(job: str) -> None:
    script = f"trap '' {' '.join(IGNORED)}; exec ukfilter {job}"
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with harness.running("bash", "-c", script, stdin=pipe, stdout=pipe, stderr=null) as p:
        assert p.stdin is not None and p.stdout is not None
        p.stdin.write(b"early\n")
        p.stdin.flush()
        assert p.stdout.readline() == b"early\n"
        send_to_group(p)
        p.stdin.write(b"late\n")
        p.stdin.close()
        assert (p.stdout.read(), p.wait(10)) == (b"late\n", 0)


def test_ignored_signals_stay_ignored_in_the_guests_of_map() -> None:
    script = f"trap '' {' '.join(IGNORED)}; exec ukfilter map $G/sleep.hvt 1500 <<< x"
    with harness.running("bash", "-c", script, stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        children = Path(f"/proc/{p.pid}/task/{p.pid}/children")
        eventually(
            lambda: any(proc_status(int(c)).get("Seccomp") == "2" for c in children.read_text().split()),
            "the guest runs",
        )
        send_to_group(p)
        assert (p.stdout.read(), p.wait(10)) == (b"slept\n", 0)


def test_an_ignored_sigchld_hides_no_status() -> None:
    job = "ukfilter pipe --pipefail $E/cat.hvt '|' ! sh -c 'cat; exit 3' '|' $E/cat.hvt"
    got = sh(f"env --ignore-signal=CHLD {job}", stdin=b"data")
    assert (got.status, got.out) == (3, b"data")


def test_the_shell_sees_the_signal() -> None:
    script = "mkfifo $T/f; sleep 100 > $T/f & ukfilter $E/cat.hvt < $T/f & p=$!; sleep .5; kill -TERM $p"
    with tempfile.TemporaryDirectory() as directory:
        got = sh(f"{script}; wait $p; echo $?", env={**harness.ENV, "T": directory})
    assert got.out == b"143\n"


def test_killed_leaves_nothing(image) -> None:
    with harness.running(UKFILTER, image("cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        harness.wait_sandboxed(p.pid)
        children = Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
        p.kill()
        assert p.wait(10) == -signal.SIGKILL
        eventually(lambda: not any(proc_status(int(c)) for c in children), "its children are gone")
        session = subprocess.run(
            ["pgrep", "-s", str(p.pid)], stdout=subprocess.PIPE, check=False
        ).stdout.split()
        assert session == []
        assert p.stdout is not None
        assert p.stdout.read() == b""


@pytest.mark.parametrize("words", ["$E/cat.hvt < /dev/zero", "$G/write_forever.hvt", "$E/seq.hvt 10000000"])
def test_death_by_sigpipe_has_no_message(words: str) -> None:
    got = sh(f"ukfilter {words} | head -c 1 > /dev/null; echo ${{PIPESTATUS[*]}}")
    assert (got.out, got.err) == (b"141 0\n", b"")


def test_sigpipe_as_python_leaves_it_to_its_children(image) -> None:
    """A parent that ignores SIGPIPE, as Python does, makes a filter that dies of it all the same."""
    read, write = os.pipe()
    os.close(read)
    try:
        got = run(UKFILTER, image("cat"), stdin=b"data", stdout=write, restore_signals=False)
    finally:
        os.close(write)
    assert (got.status, got.err) == (-signal.SIGPIPE, b"")


# Output that cannot be written.
@pytest.mark.parametrize("words", ["$E/cat.hvt < README.md", "$E/hello.hvt", "$E/seq.hvt 100000"])
@pytest.mark.parametrize("where", ["> /dev/full", ">&-"])
def test_output_that_cannot_be_written(words: str, where: str) -> None:
    got = sh(f"ukfilter {words} {where}", cwd=harness.ROOT)
    assert "standard output" in one_line(got.err)
    assert (got.status, got.out) == (125, b"")


def test_closed_stdout_of_a_guest_that_writes_nothing() -> None:
    got = sh("ukfilter $E/cat.hvt < /dev/null >&-")
    assert (got.status, got.err) == (0, b"")


def test_all_closed() -> None:
    got = sh("ukfilter $E/cat.hvt <&- >&- 2>&-; echo $?")
    assert (got.out, got.err) == (b"0\n", b"")
    got = sh("ukfilter $E/hello.hvt <&- >&- 2>&-; echo $?")
    assert (got.out, got.err) == (b"125\n", b"")


def test_closed_stderr_does_not_mix_messages_into_data(tmp_path: Path) -> None:
    got = sh(
        "ukfilter /no/such/image > $T/out 2>&-; echo $?; cat $T/out", env={**harness.ENV, "T": str(tmp_path)}
    )
    assert got.out == b"127\n"


def test_input_that_cannot_be_read() -> None:
    got = sh("ukfilter $E/cat.hvt < /etc")
    assert "standard input" in one_line(got.err)
    assert (got.status, got.out) == (125, b"")


def test_nothing_of_the_environment_is_needed() -> None:
    got = sh("env -i $(command -v ukfilter) $E/hello.hvt")
    assert (got.status, got.err) == (0, b"")
    assert got.out


def test_ten_in_a_row_are_quiet() -> None:
    got = sh("for i in 1 2 3 4 5 6 7 8 9 10; do ukfilter $E/hello.hvt > /dev/null || echo $?; done")
    assert (got.status, got.out, got.err) == (0, b"", b"")


def test_a_closed_standard_error_takes_no_log() -> None:
    got = sh("ukfilter $E/cat.hvt bad 2>&-")
    assert (got.status, got.out) == (2, b"")
    got = sh("ukfilter $G/exit.hvt 3 > >(cat) 2>&-")
    assert (got.status, got.out) == (3, b"exit\n")


def test_a_containers_first_process_ends_by_a_broken_pipe() -> None:
    script = "unshare --pid --fork ukfilter $E/seq.hvt 1000000 | head -n1; echo ${PIPESTATUS[0]}"
    got = sh(script)
    assert (got.out, got.err) == (b"1\n141\n", b"")


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("way", ["auto", "on", "off"])
def test_where_there_may_be_few_processes(most: int, way: str) -> None:
    """KVM has a thread of its own for a machine, which counts as well."""
    group = Path(f"/sys/fs/cgroup/pids/ukfilter-test-{os.getpid()}")
    if not os.access(group.parent, os.W_OK):
        pytest.skip("the pids controller of cgroups is not here")
    group.mkdir()
    try:
        (group / "pids.max").write_text(f"{most}\n")
        got = sh(f"echo $$ > {group}/cgroup.procs; exec ukfilter --exitless {way} $E/cat.hvt <<< abc")
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "all have ended")
        group.rmdir()
    if got.status:
        assert got.status in (125, 126)
        assert "Resource temporarily unavailable" in one_line(got.err)
    else:
        assert (got.out, got.err) == (b"abc\n", b"")
    assert got.status == 0 or most < 3
