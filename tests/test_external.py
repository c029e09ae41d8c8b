"""`--tender PATH`: a guest under another tender, with our pumps between.

Here that is our own command, under the name of Solo5's, and a stand-in that loses and aborts as Solo5's does:
tenders/stand_in.c. Where VARIABLES name Solo5's own (v0.9), those too.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import harness
import pytest
from harness import eventually, one_line, proc_status, sh

OWN = [("own", "spt"), ("own", "hvt")]
VARIABLES = {"UKFILTER_TEST_SOLO5_SPT": "spt", "UKFILTER_TEST_SOLO5_HVT": "hvt"}
FOREIGN = [(os.environ[name], target) for name, target in VARIABLES.items() if name in os.environ]


@pytest.fixture(params=[*OWN, *FOREIGN], ids=str)
def external(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of image that the tender $X runs."""
    path, target = request.param
    if path == "own":
        path = str(tmp_path / f"solo5-{target}")
        Path(path).symlink_to(harness.UKFILTER)
    monkeypatch.setitem(harness.ENV, "X", path)
    monkeypatch.setitem(harness.SUFFIX, "images", f".{target}")
    return str(target)


def test_all_input_comes_through(external: str) -> None:
    result = sh("seq 300000 | ukfilter --tender $X $E/cat.hvt | cmp - <(seq 300000)", timeout=30)
    assert (result.status, result.err) == (0, b"")


def test_a_slow_reader_loses_nothing(external: str) -> None:
    script = "head -c 40M /dev/zero | ukfilter --tender $X $E/cat.hvt | (sleep 1; wc -c)"
    assert int(sh(script, timeout=40).out) == 40 << 20


def test_input_from_a_file_and_no_input(external: str) -> None:
    assert sh("ukfilter --tender $X $E/upper.hvt < README.md | cmp - <(tr a-z A-Z < README.md)").status == 0
    assert sh("ukfilter --tender $X $E/cat.hvt < /dev/null").status == 0


def test_a_guest_that_ends_by_itself_has_its_status(external: str) -> None:
    assert sh("ukfilter --tender $X $G/exit.hvt 7").status == 7
    assert sh("yes | ukfilter --tender $X $E/head.hvt -n 2; echo ${PIPESTATUS[1]}").out == b"y\ny\n0\n"


def test_a_guest_that_waits_is_ended_after_drain(external: str) -> None:
    """two_net waits for ever if its tender tells no end of file, and ends at once if it does."""
    result = sh("echo data | ukfilter --tender $X --drain 300ms --net a=- --net b=stdout $G/two_net.hvt")
    assert (result.status, result.out) == (0, b"data\n")


def test_a_guests_burst_is_whole_and_so_is_its_status(external: str) -> None:
    script = "echo hi | ukfilter --tender $X --drain 300ms $G/burst.hvt 768 | (sleep 1; wc -c)"
    result = sh(f"{script}; echo ${{PIPESTATUS[1]}}", timeout=40)
    assert result.out == b"12582912\n7\n"


def test_a_device_that_is_input_and_output_loses_nothing(external: str) -> None:
    script = "head -c 8M /dev/zero | ukfilter --tender $X --net service=- $G/one_net.hvt | (sleep 1; wc -c)"
    assert sh(script, timeout=40).out == b"8388608\n"


def test_a_guest_at_work_is_let_finish(external: str) -> None:
    result = sh("echo hi | ukfilter --tender $X --drain 300ms $G/compute.hvt 1500")
    assert (result.status, result.out) == (7, b"done\n")


def test_addresses_and_sector_sizes_are_passed_on(tmp_path: Path) -> None:
    tender = tmp_path / "echo"
    tender.write_text('#!/bin/sh\necho "$@"\n')
    tender.chmod(0o755)
    mac = "--net-mac stdin=02:00:00:00:00:07"
    result = sh(f"ukfilter --tender {tender} {mac} $E/cat.hvt < /dev/null")
    assert b" --net-mac:stdin=02:00:00:00:00:07 " in result.err
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8192))
    words = f"--block disk={disk} --block-sector-size disk=4096"
    result = sh(f"ukfilter --tender {tender} {words} $G/disk.hvt < /dev/null")
    assert f" --block:disk={disk} --block-sector-size:disk=4096 -- ".encode() in result.out


def test_a_time_limit(external: str) -> None:
    assert sh("ukfilter --tender $X -t 400ms $G/spin.hvt < /dev/null", timeout=10).status == 124


def test_a_reader_that_leaves(external: str) -> None:
    result = sh("yes | ukfilter --tender $X $E/cat.hvt | head -1; echo ${PIPESTATUS[1]}", timeout=10)
    assert result.out == b"y\n141\n"


def test_one_that_takes_no_descriptors_is_told_apart(tmp_path: Path) -> None:
    """What solo5-spt of v0.12 says and does."""
    tender = tmp_path / "solo5-spt"
    tender.write_text('#!/bin/sh\necho "solo5-spt: Could not attach interface: @5: Success" >&2\nexit 1\n')
    tender.chmod(0o755)
    result = sh(f"echo x | ukfilter --tender {tender} $E/cat.spt")
    assert (result.status, result.out) == (126, b"")
    assert "does not take descriptors" in one_line(result.err) and "v0.9" in one_line(result.err)


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ("--tender /no/such $E/cat.hvt", 127, "/no/such: no such command"),
        ("--tender ./README.md $E/cat.hvt", 126, "README.md: cannot run it"),
        ("--tender /bin/true $E/none.hvt", 127, "none.hvt"),
        ("--tender /bin/true --trace $E/cat.hvt", 125, "--trace: is of ukfilter's own tenders only"),
        ("--tender /bin/true --eof zero $E/cat.hvt", 125, "--eof: is of ukfilter's own tenders only"),
        ("--tender /bin/true --stats $E/cat.hvt", 125, "--stats: is of ukfilter's own tenders only"),
        ("--tender /bin/true --block disk=README.md,ro $G/disk.hvt", 125, "--block disk=PATH,ro: is of"),
        ("--tender /bin/true --console /no/such $E/cat.hvt", 125, "--console /no/such: cannot open it: No"),
        ("--tender /bin/true --block disk=/no/such $G/disk.hvt", 125, "cannot open it: No such file"),
        ("--tender /bin/true --block disk=/dev $G/disk.hvt", 125, "a block device needs a file or a disk"),
        ("--tender /bin/true --net stdin=@x $E/cat.hvt", 125, "--net stdin=@x: not a descriptor; write it"),
        ("--tender /bin/true --net stdin=@ $E/cat.hvt", 125, "--net stdin=@: not a descriptor; write it"),
        ("--tender /bin/true --net stdin=@-1 $E/cat.hvt", 125, "--net stdin=@-1: not a descriptor; write"),
        ("--tender /bin/true --net stdin=@99 $E/cat.hvt", 125, "--net stdin=@99: descriptor 99 is not open"),
        ("--tender /bin/true --net stdin=@99999999999 $E/cat.hvt", 125, "99999999999 is not open"),
        ("--tender /bin/true --net stdin=- --net stdout=- $E/cat.hvt", 125, "device stdin has it already"),
        ("--tender /bin/true --net stdout=stdin $E/cat.hvt", 125, "device stdin has it already"),
        ("--tender /bin/true --net stdin=notap0 $E/cat.hvt", 125, "no such file or network interface"),
        ("--tender /bin/true --net stdin=lo $E/cat.hvt", 125, "--net stdin=lo: "),
        ("--tender /bin/true --net stdin=/dev $E/cat.hvt", 125, "--net stdin=/dev: is a directory"),
        (
            "--tender /bin/true --net stdin=README.md $E/cat.hvt",
            125,
            "cannot have a file for both directions",
        ),
        ("--tender /bin/true $E/cat.hvt $(seq 3000)", 125, "bytes; Solo5 takes 8191 at most"),
        ("--tender /no/solo5-hvt $E/cat.spt", 126, "/no/solo5-hvt runs images of hvt: take solo5-spt"),
        ("--tender /no/solo5-spt-debug $G/exit.hvt", 126, "runs images of spt: take solo5-hvt"),
        ("--tender solo5-spt $E/cat.hvt", 125, "is none of auto"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words: str, status: int, reason: str) -> None:
    result = sh(f"echo x | ukfilter {words}")
    assert (result.status, result.out) == (status, b"")
    assert reason in one_line(result.err)


# The stand-in, as spt or hvt has it; $X is the tender.


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, built."""
    program = tmp_path_factory.mktemp("tenders") / "stand_in"
    source = harness.ROOT / "tests" / "tenders" / "stand_in.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


@pytest.fixture(params=["hvt", "spt"])
def stand_in(
    request: pytest.FixtureRequest, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The kind that it stands for; a space in its name is one more word of /proc/PID/stat."""
    path = tmp_path / f"a) solo5-{request.param}"
    shutil.copy(compiled, path)
    monkeypatch.setitem(harness.ENV, "X", str(path))
    monkeypatch.setitem(harness.SUFFIX, "images", f".{request.param}")
    return str(request.param)


def slowly(script: str) -> bytes:
    """What wc -c counts behind a reader that is slow by itself: an unread pipe stays full."""
    reader = "import os, time\nn = 0\nwhile d := os.read(0, 4096): n += len(d); time.sleep(0.0005)\nprint(n)"
    return sh(f'{script} | python3 -c "{reader}"', timeout=60).out


def test_a_fast_tender_loses_nothing_to_a_slow_reader(stand_in: str) -> None:
    assert slowly('head -c 4M /dev/zero | ukfilter --tender "$X" $E/cat.hvt copy') == b"4194304\n"


def test_one_end_for_both_ways_loses_nothing_either(stand_in: str) -> None:
    filter_ = 'ukfilter --tender "$X" --net a=- --net b=@3 $G/two_net.hvt copy 0 both-ways 3>/dev/null'
    assert slowly(f"head -c 4M /dev/zero | {filter_}") == b"4194304\n"


@pytest.mark.parametrize("ways", ["", "both-ways"])
def test_a_read_without_input_does_not_block(stand_in: str, ways: str) -> None:
    result = sh(
        f'ukfilter --tender "$X" --net a=- --net b=stdout $G/two_net.hvt again 0 {ways} < <(sleep 15)'
    )
    assert (result.status, result.out) == (7, b".")
    assert result.seconds < 10


def test_a_filter_that_is_stopped_meanwhile_loses_nothing(stand_in: str) -> None:
    """As by ^Z: a signal to its whole group, in which a write of the tender's would be cut short."""
    script = (
        'set -m; head -c 4M /dev/zero | ukfilter --tender "$X" $E/cat.hvt copy | (sleep 2; wc -c) &'
        " sleep 1; for i in 1 2 3; do kill -STOP %1; sleep 0.1; kill -CONT %1; sleep 0.1; done; wait %1"
    )
    assert sh(script).out.splitlines()[-1] == b"4194304"


def test_a_burst_is_whole_and_the_status_the_guests(stand_in: str) -> None:
    script = 'echo hi | ukfilter --tender "$X" --drain 200ms $E/cat.hvt burst 768 | (sleep 1; wc -c)'
    result = sh(f"{script}; echo ${{PIPESTATUS[1]}}")
    assert result.out == b"12582912\n7\n"


def test_a_guest_that_computes_is_not_quiet(stand_in: str) -> None:
    result = sh('echo hi | ukfilter --tender "$X" --drain 200ms $E/cat.hvt compute 1500')
    assert (result.status, result.out) == (7, b"done\n")


def test_a_guest_that_prints_is_not_quiet(stand_in: str) -> None:
    result = sh('echo hi | ukfilter --tender "$X" --drain 400ms --console null $E/cat.hvt console 10')
    assert result.status == 7


def test_one_that_reads_the_end_over_and_over_is_ended(stand_in: str) -> None:
    result = sh('echo | ukfilter --tender "$X" --drain 300ms $E/cat.hvt spin')
    assert (result.status, result.out) == (0, b".")


def test_a_socket_may_still_send(stand_in: str) -> None:
    """Not ended by the quiet rule: a datagram may come, whatever has become of standard input."""
    code = (
        "import os, socket, subprocess, sys, time\n"
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "p = subprocess.Popen(['ukfilter', '--tender', os.environ['X'], '--drain', '100ms', '--net',"
        " f'a=@{a.fileno()}', '--net', 'b=-', sys.argv[1], 'burst', '1'], pass_fds=[a.fileno()],"
        " stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)\n"
        "time.sleep(1); b.send(b'x'); print(p.wait())"
    )
    assert sh(f'python3 -c "{code}" $G/two_net.hvt').out == b"7\n"


@pytest.mark.parametrize(
    ("options", "redirection", "status", "said"),
    [
        ("", ">&-", 125, "cannot write to standard output: Bad file descriptor"),
        ("", "1</dev/null", 125, "cannot write to standard output: Bad file descriptor"),
        ("", ">/dev/full", 125, "cannot write to standard output: No space left on device"),
        ("", "</dev", 125, "cannot read standard input: Is a directory"),
        ("--net stdin=@3", "3</dev", 125, "cannot read the device stdin: Is a directory"),
        ("", "2>&-", 0, None),
        ("--net stdin=@0 --net stdout=@1", "", 0, None),
    ],
)
def test_standard_descriptors(
    stand_in: str, options: str, redirection: str, status: int, said: str | None
) -> None:
    filter_ = f'ukfilter --tender "$X" --drain 200ms {options} $E/cat.hvt copy {redirection}'
    result = sh(filter_, stdin=b"hi\n")
    assert (result.status, result.out) == (status, b"" if status else b"hi\n")
    assert result.err == b"" if said is None else said in one_line(result.err)


@pytest.mark.parametrize("where", ["<&-", "0>/dev/null"])
def test_no_standard_input(stand_in: str, where: str) -> None:
    result = sh(f'ukfilter --tender "$X" --drain 200ms $E/cat.hvt copy {where}')
    assert (result.status, result.out, result.err) == (0, b"", b"")


def test_other_descriptors(stand_in: str) -> None:
    ends = "--net stdin=@3 --net stdout=@4"
    filter_ = f'ukfilter --tender "$X" --drain 200ms {ends} $E/cat.hvt copy'
    result = sh(f"{filter_} 3<LICENSE 4> >(cmp - LICENSE) && wait $!")
    assert (result.status, result.out, result.err) == (0, b"", b"")


def test_descriptors_that_somebody_made_non_blocking(stand_in: str) -> None:
    other = "python3 -c 'import os; os.set_blocking({}, False)'"
    filter_ = 'ukfilter --tender "$X" --drain 200ms $E/cat.hvt copy'
    read = f"(sleep 0.5; seq 1000) | ({other.format(0)}; {filter_}) | cmp - <(seq 1000)"
    write = f"seq 100000 | ({other.format(1)}; {filter_}) | (sleep 1; cmp - <(seq 100000))"
    for script in (read, write):
        result = sh(script)
        assert (result.status, result.err) == (0, b"")


def test_too_few_descriptors_are_told_in_a_line(stand_in: str) -> None:
    result = sh('ulimit -n 12; echo x | ukfilter --tender "$X" $E/cat.hvt copy')
    assert result.status == 125
    assert "Too many open files" in one_line(result.err)


def test_a_time_limit_does_not_wait_for_the_reader(stand_in: str) -> None:
    filter_ = 'ukfilter --tender "$X" -t 1 $E/cat.hvt copy'
    result = sh(f"yes | (SECONDS=0; {filter_}; echo $? $SECONDS >&2) | (sleep 5; head -c 1 >/dev/null)")
    status, seconds = map(int, result.err.split())
    assert status == 124
    assert seconds < 4


def test_what_was_written_before_the_time_limit_is_kept(stand_in: str) -> None:
    script = 'echo hi | ukfilter --tender "$X" -t 500ms --drain 10 $E/cat.hvt copy'
    result = sh(f"(echo hi; sleep 5) | {script[10:]}")
    assert (result.status, result.out) == (124, b"hi\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_tender_that_dies_takes_its_filter_along(stand_in: str, number: int) -> None:
    result = sh(f'exec ukfilter --tender "$X" $E/cat.hvt die {number} < /dev/null')
    assert (result.status, result.err) == (-number, b"")


def test_a_tender_does_not_outlive_its_filter(stand_in: str) -> None:
    """Though it is a process group of its own."""
    script = (
        'sleep 20 | ukfilter --tender "$X" $E/cat.hvt copy & filter=$!;'
        ' until tender=$(cat /proc/$filter/task/$filter/children); [ "$tender" ]; do sleep 0.1; done;'
        " sleep 0.5; kill -9 $filter; echo $tender"
    )
    tender = int(sh(script).out)
    eventually(lambda: proc_status(tender).get("State", "Z")[0] == "Z", "the tender is gone")


def test_the_console_may_be_a_file(stand_in: str, tmp_path: Path) -> None:
    console = tmp_path / "console"
    assert sh(f'echo | ukfilter --tender "$X" --console {console} $E/cat.hvt console 2').status == 7
    assert console.read_bytes() == b"line\nline\n"


def test_its_words_are_lost_where_nobody_listens(stand_in: str) -> None:
    for where in ("2>&-", "2>/dev/full", "2> >(true)"):
        result = sh(f'ukfilter --tender "$X" $E/cat.hvt say 100 < /dev/null {where}')
        assert result.status == 7, where
    assert sh('ukfilter --tender "$X" $E/cat.hvt say 3 < /dev/null').err.count(b"word\n") == 3


def test_a_refusal_in_two_pieces(stand_in: str) -> None:
    result = sh('ukfilter --tender "$X" $E/cat.hvt refuse < /dev/null')
    assert result.status == 126
    assert "does not take descriptors" in one_line(result.err)


def test_the_environment_names_a_tender_too(stand_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.ENV, "UKFILTER_TENDER", harness.ENV["X"])
    for words in ("", "--mem 64M", "run"):
        result = sh(f"seq 3 | ukfilter {words} $E/cat.hvt copy")
        assert (result.status, result.out) == (0, b"1\n2\n3\n")


def test_a_tender_that_is_ourselves_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "solo5-hvt"
    path.symlink_to(harness.UKFILTER)
    monkeypatch.setitem(harness.ENV, "UKFILTER_TENDER", str(path))
    assert sh("seq 3 | ukfilter $E/cat.hvt").out == b"1\n2\n3\n"


@pytest.mark.parametrize(
    "command",
    [
        "ukfilter pipe -- --tender /no/such $E/cat.hvt",
        "ukfilter pipe -- --tender /no/such $E/cat.spt",
        "ukfilter pipe --tender /no/such $E/cat.hvt '|' $E/cat.hvt",
        "ukfilter map --tender /no/such $E/cat.hvt",
        "ukfilter --progress=always --tender /no/such $E/cat.hvt",
        "UKFILTER_TENDER=/no/such ukfilter pipe $E/cat.hvt",
    ],
)
def test_where_it_cannot_be_it_is_refused(command: str) -> None:
    result = sh(f"echo x | {command}")
    assert (result.status, result.out) == (125, b"")
    assert "--tender /no/such: a tender by its path runs a filter alone" in one_line(result.err)
