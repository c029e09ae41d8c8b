"""`ukfilter pipe`: as the shell's own pipeline, in one command."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import harness
import pytest
from harness import eventually, one_line, proc_status, run, sh

PIPE = "ukfilter pipe"


def test_a_pipeline() -> None:
    got = sh(f"{PIPE} $E/cat.hvt '|' $E/grep.hvt foo '|' $E/wc.hvt -l", stdin=b"foo\nbar\nfoo\n")
    assert (got.status, got.out, got.err) == (0, b"2\n", b"")


def test_a_single_stage() -> None:
    assert sh(f"{PIPE} $E/upper.hvt", stdin=b"abc").out == b"ABC"


def test_ten_megabytes_through_five_stages_as_the_shell_has_it() -> None:
    lines = random.Random(6)
    data = b"".join(b"%x foo %d\n" % (lines.getrandbits(256), lines.getrandbits(64)) for _ in range(120_000))
    stages = "$E/cat.hvt | $E/grep.hvt foo | $E/upper.hvt | $E/rev.hvt | $E/cat.hvt"
    quoted = stages.replace("|", "'|'")
    ours = sh(f"{PIPE} {quoted}", stdin=data, timeout=120)
    shells = sh("ukfilter " + stages.replace("| ", "| ukfilter "), stdin=data, timeout=120)
    assert (ours.status, ours.err) == (0, b"")
    assert ours.out == shells.out and len(ours.out) == len(data)


@pytest.mark.parametrize(
    ("stages", "last", "pipefail"),
    [
        ("$E/cat.hvt '|' $G/exit.hvt 5", 5, 5),
        ("$G/exit.hvt 5 '|' $E/cat.hvt", 0, 5),
        ("$G/exit.hvt 5 '|' $G/exit.hvt 6 '|' ! cat", 0, 6),
        ("$E/cat.hvt '|' ! sh -c 'cat; exit 7'", 7, 7),
        ("! false '|' $E/cat.hvt", 0, 1),
        ("$E/cat.hvt '|' $E/cat.hvt", 0, 0),
    ],
)
def test_the_status(stages: str, last: int, pipefail: int) -> None:
    assert sh(f"{PIPE} {stages}").status == last
    assert sh(f"{PIPE} --pipefail {stages}").status == pipefail


def test_a_stage_that_goes_away_ends_those_before_it() -> None:
    got = sh(f"{PIPE} --stats $E/seq.hvt 1000000000 '|' $E/cat.hvt '|' $E/head.hvt -n 1; echo $?")
    assert got.out == b"1\n0\n"
    assert [line.split(b": ")[3].split()[1] for line in got.err.splitlines()] == [b"141", b"141", b"0"]
    assert sh(f"{PIPE} ! yes '|' $E/cat.hvt '|' ! head -1").out == b"y\n"


def test_a_reader_of_all_that_goes_away() -> None:
    got = sh(
        f"set +o pipefail; {PIPE} $E/seq.hvt 1000000000 '|' $E/cat.hvt | head -1; echo ${{PIPESTATUS[*]}}"
    )
    assert (got.out, got.err) == (b"1\n141 0\n", b"")


def test_a_writer_to_all_sees_that_the_first_stage_is_gone() -> None:
    got = sh(
        f"set +o pipefail; yes | {PIPE} $E/head.hvt -n 1 '|' ! sh -c 'cat; sleep 1'; echo ${{PIPESTATUS[*]}}"
    )
    assert (got.out, got.err) == (b"y\n141 0\n", b"")


def test_stats_are_a_line_a_stage() -> None:
    got = sh(f"{PIPE} --stats $E/cat.hvt '|' ! sort '|' $E/grep.hvt x", stdin=b"abc")
    lines = got.err.decode().splitlines()
    assert [line.split(": ")[1] for line in lines] == ["stage 1", "stage 2", "stage 3"]
    assert "cat.hvt: status 0 (" in lines[0] and "in 3 bytes, out 3 bytes" in lines[0]
    assert lines[1].endswith("sort: status 0 (exited)")
    assert "grep.hvt: status 1 (" in lines[2]
    assert sh(f"{PIPE} -q --stats $E/cat.hvt").err == b""


def test_a_crash_in_the_middle_is_named() -> None:
    got = sh(f"{PIPE} --pipefail $E/cat.hvt '|' $G/fault.hvt null '|' $E/cat.hvt")
    assert "fault.hvt: " in one_line(got.err)
    assert got.status == 255


def test_a_stage_that_is_killed_is_named() -> None:
    got = sh(f"{PIPE} $E/hello.hvt '|' ! sh -c 'kill -KILL $$' '|' $E/cat.hvt")
    assert one_line(got.err) == "ukfilter: stage 2: sh: killed by SIGKILL\n"


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_a_death_of_the_last_is_ours(name: str) -> None:
    got = run(harness.UKFILTER, "pipe", "!", "sh", "-c", f"kill -{name} $$")
    assert got.status == -getattr(signal, f"SIG{name}")


def test_options_of_a_stage(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file\n")
    script = f"{PIPE} -m 64M -- --net stdin=@4 $E/cat.hvt '|' --mem 16M $E/upper.hvt 4< {tmp_path}/in"
    assert sh(script).out == b"FROM A FILE\n"


REFUSED = {
    "nothing": ("", 125, "STAGE"),
    "empty-first": ("'|' $E/cat.hvt", 125, "stage 1 of 2"),
    "empty-middle": ("$E/cat.hvt '|' '|' $E/cat.hvt", 125, "stage 2 of 3"),
    "empty-last": ("$E/cat.hvt '|'", 125, "stage 2 of 2"),
    "no-command": ("$E/cat.hvt '|' !", 125, "`!`"),
    "no-image": ("$E/cat.hvt '|' no-such.hvt", 127, "stage 2 of 2: no-such.hvt"),
    "not-an-image": ("README.md '|' $E/cat.hvt", 126, "stage 1 of 2: README.md"),
    "no-such-command": ("$E/cat.hvt '|' ! no-such-command", 127, "no-such-command"),
    "not-a-program": ("$E/cat.hvt '|' ! /etc/passwd", 126, "/etc/passwd"),
    "option": ("--no-such $E/cat.hvt", 125, "--no-such"),
    "option-of-a-stage": ("$E/cat.hvt '|' --no-such $E/cat.hvt", 125, "--no-such"),
    "help-of-a-stage": ("$E/cat.hvt '|' -h", 125, "no options of a stage"),
    "version-of-a-stage": ("$E/cat.hvt '|' -q --version $E/cat.hvt", 125, "no options of a stage"),
    "help-in-a-cluster": ("$E/cat.hvt '|' -qh $E/cat.hvt", 125, "no options of a stage"),
    "bad-time": ("-t soon $E/cat.hvt", 125, "--timeout"),
    "bad-kill-after": ("-k soon $E/cat.hvt", 125, "--kill-after"),
    "bad-size": ("-m lots $E/cat.hvt", 125, "--mem"),
    "not-attached": ("$E/cat.hvt '|' $G/two_net.hvt", 125, "--net"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_and_consume_nothing(name: str) -> None:
    script, status, mention = REFUSED[name]
    got = sh(f"{{ {PIPE} {script}; echo $?; cat; }}", stdin=b"all of it\n", cwd=harness.ROOT)
    assert mention in one_line(got.err)
    assert got.out.decode() == f"{status}\nall of it\n"


def test_help() -> None:
    got = run(harness.UKFILTER, "pipe", "-h")
    assert (got.status, got.err) == (0, b"")
    assert b"--pipefail" in got.out and b"grep.hvt" in got.out


@pytest.mark.parametrize("stages", ["$G/spin.hvt", "$E/cat.hvt '|' $E/cat.hvt", "$E/cat.hvt '|' ! sleep 100"])
def test_a_time_out(stages: str) -> None:
    start = time.monotonic()
    got = sh(f"{PIPE} -t 0.7 {stages} < <(echo early; exec sleep 100); echo $?")
    assert got.out.endswith(b"124\n")
    assert time.monotonic() - start < 10
    if "cat.hvt '|' $E/cat" in stages:
        assert got.out == b"early\n124\n"


def test_a_stubborn_command_is_killed() -> None:
    got = sh(f"{PIPE} -t 0.3 -k 0.3 ! sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'", timeout=20)
    assert (got.status, got.err) == (124, b"")


@pytest.mark.parametrize("options", ["", "--stats", "-k 0.1"])
def test_a_command_that_may_not_be_signalled_is_named_and_left(options: str) -> None:
    stages = f"$G/spin.hvt '|' ! {harness.OUT_OF_REACH} sleep 100 '|' ! sleep 100"
    got = sh(f"{harness.POWERLESS} ukfilter pipe -t 0.5 {options} {stages}")
    assert got.status == 124
    named = [line for line in got.err.decode().splitlines() if "left running: " in line]
    assert len(named) == 1 and named[0].startswith("ukfilter: stage 2: setpriv: ")
    assert len(got.err.splitlines()) == (3 if options == "--stats" else 1), got.err


def descendants(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "KILL"])
def test_no_stage_outlives_us(name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    reader, writer = os.pipe()
    try:
        words = [harness.EXAMPLES / "cat.hvt", "|", "!", "sleep", "1000", "|", harness.EXAMPLES / "cat.hvt"]
        with harness.running(harness.UKFILTER, "pipe", *words, stdin=reader) as process:
            eventually(lambda: len(descendants(process.pid)) == 3, "all stages run")
            stages = descendants(process.pid)
            process.send_signal(number)
            assert process.wait(10) == -number
            eventually(lambda: not any(map(proc_status, stages)), "no stage is left")
    finally:
        os.close(reader)
        os.close(writer)
