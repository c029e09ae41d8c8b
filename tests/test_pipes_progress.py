"""`--progress`: what is drawn and where, and that nothing else changes."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import time

import harness
import pytest
from harness import one_line, run, sh

DATA = bytes(range(256)) * 40_000


def on_terminal(script: str, seconds: float = 30) -> tuple[int, str]:
    """Run a script whose stderr is a terminal; its status, and what was drawn."""
    ours, theirs = os.openpty()
    try:
        with harness.running("bash", "-o", "pipefail", "-c", script, stderr=theirs, stdout=-3) as process:
            deadline = time.monotonic() + seconds
            drawn = b""
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                assert time.monotonic() < deadline
                if select.select([ours], [], [], 0.05)[0]:
                    drawn += os.read(ours, 65536)
            return process.returncode, drawn.decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_on_a_terminal_with_a_file_the_share_is_known(tmp_path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    status, drawn = on_terminal(f"ukfilter --progress $E/cat.hvt < {tmp_path}/in")
    assert status == 0
    assert re.search(
        r"cat\.hvt: 100%\|.*\| 9\.77M/9\.77M \[\d\d:\d\d<\d\d:\d\d, +[\d.]+[kMG]?B/s\]", drawn
    ), drawn


def test_from_a_pipe_bytes_and_rate_and_time() -> None:
    status, drawn = on_terminal("head -c 3000000 /dev/zero | ukfilter --progress $E/cat.hvt")
    assert status == 0
    assert re.search(r"cat\.hvt: 2\.86MB \[\d\d:\d\d, +[\d.]+[kMG]?B/s\]", drawn), drawn


def test_a_line_a_stage() -> None:
    stages = "$E/seq.hvt 200000 '|' $E/grep.hvt 7 '|' ! wc"
    status, drawn = on_terminal(f"ukfilter pipe --progress {stages} < /dev/null")
    assert status == 0
    for name in ("seq.hvt ", "grep.hvt", "wc      "):
        assert f"{name}: " in drawn
    assert "grep.hvt: 1.23MB [" in drawn


@pytest.mark.parametrize("command", ["ukfilter", "ukfilter pipe"])
def test_only_on_a_terminal_unless_forced(command: str) -> None:
    for option, draws in (("--progress", False), ("--progress=never", False), ("--progress=always", True)):
        got = sh(f"{command} {option} $E/cat.hvt", stdin=DATA)
        assert (got.status, got.out) == (0, DATA)
        assert (b"cat.hvt: 100%" in got.err) is draws, got.err


def test_all_that_goes_through_is_intact() -> None:
    got = sh("cat | ukfilter pipe --progress=always $E/cat.hvt '|' ! cat '|' $E/cat.hvt | cat", stdin=DATA)
    assert got.out == DATA


def test_the_guests_status_and_its_words_stay() -> None:
    got = sh("ukfilter --progress=always $E/grep.hvt x", stdin=b"no\n")
    assert (got.status, got.out) == (1, b"")
    assert run(harness.UKFILTER, "--progress=always", "no-such.hvt").status == 127
    assert b"ukfilter: fault.hvt: " in sh("ukfilter --progress=always $G/fault.hvt null").err
    assert sh("ukfilter --progress=always -t 0.3 $G/spin.hvt").status == 124


def test_death_by_sigpipe_stays() -> None:
    got = sh("set +o pipefail; yes | ukfilter --progress=always $E/cat.hvt | head -1; echo ${PIPESTATUS[*]}")
    assert got.out == b"y\n141 141 0\n"


@pytest.mark.parametrize("command", ["ukfilter", "ukfilter pipe"])
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)", "2< /dev/null"])
def test_lines_that_cannot_be_drawn_change_nothing(command: str, stderr: str) -> None:
    """The input pauses, so that there is something to draw before its end."""
    source = "(cat; sleep 0.4; echo end)"
    got = sh(f"{source} | {command} --progress=always $E/cat.hvt {stderr}", stdin=DATA)
    assert (got.status, got.out) == (0, DATA + b"end\n")
    assert sh(f"echo | {command} --progress=always $E/grep.hvt x {stderr}").status == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [("-t 0.3 $G/spin.hvt", 124), ("-t 0.3 ! sleep 100", 124), ("$E/cat.hvt", 0)],
)
def test_lines_that_nobody_reads_hold_up_nothing(words: str, status: int) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)))
        script = f"exec ukfilter pipe --progress=always {words}"
        got = sh(script, stdin=DATA, stderr=writer)
        assert (got.status, got.out) == (status, DATA if status == 0 else b"")
    finally:
        os.close(reader)
        os.close(writer)


def test_it_ends_with_the_guest_and_not_with_its_input() -> None:
    assert sh("ukfilter --progress=always $E/head.hvt -n 1 < <(echo 1; exec sleep 100)").out == b"1\n"
    assert sh("ukfilter --progress=always $E/cat.hvt <&-").status == 0


def test_no_flag_of_an_inherited_descriptor_changes() -> None:
    reader, writer = os.pipe()
    try:
        words = [harness.UKFILTER, "--progress=always", harness.EXAMPLES / "cat.hvt"]
        with harness.running(
            *words, stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr
            process.stderr.read(10)
            assert os.get_blocking(reader)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == -signal.SIGINT
    finally:
        os.close(reader)
        os.close(writer)


def test_an_input_that_another_made_non_blocking() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    words = [harness.UKFILTER, "--progress=always", harness.EXAMPLES / "cat.hvt"]
    pipe = subprocess.PIPE
    with harness.running(*words, stdin=reader, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        os.close(reader)
        with os.fdopen(writer, "wb") as source:
            source.write(b"early")
            source.flush()
            assert process.stdout
            assert process.stdout.read(5) == b"early"
            source.write(bytes(50000))
        assert len(process.stdout.read()) == 50000
        assert process.wait(10) == 0


def test_refusals() -> None:
    for words in (
        ["--progress=maybe"],
        ["pipe", "--progress=maybe"],
        ["--progress=always", "--status-fd", "2"],
    ):
        got = run(harness.UKFILTER, *words, harness.EXAMPLES / "cat.hvt")
        assert got.status == 125
        assert "--progress" in one_line(got.err)
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            for command in ("ukfilter", "ukfilter pipe"):
                got = sh(f"{command} --progress=always $E/cat.hvt", stdin=theirs.fileno())
                assert (got.status, got.out) == (125, b"")
                assert "--progress: standard input" in one_line(got.err)
    got = sh("ukfilter pipe $E/cat.hvt '|' --progress $E/cat.hvt")
    assert got.status == 125
    assert "--progress is no option of a stage" in one_line(got.err)
