"""--timeout, --status-fd and --trace of the direct path, for every tender."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import harness
import pytest
from harness import sh

pytestmark = pytest.mark.usefixtures("tender")


def test_timeout_ends_a_guest_that_waits() -> None:
    result = sh("sleep 20 | { ukfilter -t 0.3 $E/cat.hvt; echo $?; kill 0; }", start_new_session=True)
    assert result.out == b"124\n"
    assert result.seconds < 5


def test_timeout_ends_a_guest_that_spins() -> None:
    result = sh("ukfilter -t 300ms $G/spin.hvt")
    assert (result.status, result.out, result.err) == (124, b"", b"")
    assert 0.3 <= result.seconds < 5


def test_timeout_keeps_what_was_written_and_frees_a_full_pipe() -> None:
    result = sh("ukfilter -t 300ms $E/seq.hvt 10000000 | { sleep 1; head -2; }; echo ${PIPESTATUS[0]}")
    assert result.out == b"1\n2\n124\n"


def test_timeout_that_does_not_pass_changes_nothing() -> None:
    result = sh("echo x | ukfilter -t 20s -k 1s $E/cat.hvt")
    assert (result.status, result.out, result.err) == (0, b"x\n", b"")


def test_timeout_of_zero_is_none() -> None:
    assert sh("(sleep 0.3; echo x) | ukfilter -t 0 $E/cat.hvt").out == b"x\n"


def reports(err: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in err.splitlines()]


def test_status_fd(tender: str) -> None:
    result = sh("printf abc | ukfilter --status-fd 3 $E/cat.hvt 3>&2 2>/dev/null")
    started, end = reports(result.err)
    assert (started["event"], started["tender"], started["image"]) == ("started", tender, "cat.hvt")
    assert end["event"] == "exit"
    assert (end["status"], end["reason"], end["timed_out"]) == (0, "halted", False)
    assert (end["bytes_in"], end["bytes_out"]) == (3, 3)


NAMES = [
    *(b"a\nb\x1b[1m\x7f.hvt", "é €\U0001f600.hvt".encode(), b'q"\\.hvt'),
    *(b"\xc3", b"x\xe9\xff", b"\xed\xa0\x80", b"\xc0\xaf\xe0\x80\x80\xf0\x80\x80\x80"),
    b"\xf4\x90\x80\x80\xf5\xe2\x82",
]


@pytest.mark.parametrize("name", NAMES)
def test_status_fd_has_the_images_name_as_it_is(name: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(harness.EXAMPLES / "hello.hvt", path)
    result = harness.run(harness.UKFILTER, "--status-fd", 2, os.fsdecode(path))
    started, _ = reports(result.err)
    assert started["image"] == os.fsdecode(name)


def test_messages_have_the_images_name_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "f\nx\x1b[1m\udcffé.hvt"
    shutil.copy(harness.GUESTS / "fault.hvt", path)
    result = harness.run(harness.UKFILTER, path, "null")
    assert result.status == 255
    assert "ukfilter: f\\nx\\x1b[1m\\udcffé.hvt: guest fault" in harness.one_line(result.err)
    shutil.copy(harness.EXAMPLES / "hello.hvt", path)
    result = harness.run(harness.UKFILTER, "--stats", path)
    assert "ukfilter: f\\nx\\x1b[1m\\udcffé.hvt: status 0" in harness.one_line(result.err)


def test_status_fd_tells_a_timeout() -> None:
    end = reports(sh("ukfilter -t 0.2 --status-fd 2 $G/spin.hvt").err)[-1]
    assert (end["status"], end["timed_out"]) == (124, True)


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("INT", 2), ("HUP", 1)])
def test_status_fd_tells_a_signal_and_the_shell_sees_it(name: str, number: int, tmp_path: Path) -> None:
    report = tmp_path / "report"
    with (
        report.open("wb") as file,
        harness.running(
            harness.UKFILTER, "--status-fd", "2", harness.GUESTS / "spin.hvt", stderr=file
        ) as process,
    ):
        harness.eventually(lambda: b"started" in report.read_bytes(), "the guest runs")
        process.send_signal(number)
        assert process.wait(10) == -number
    assert reports(report.read_bytes())[-1]["signal"] == number


def test_status_fd_tells_of_a_reader_that_went_away() -> None:
    result = sh("ukfilter --status-fd 2 $E/seq.hvt 1000000 | head -1; echo ${PIPESTATUS[0]}")
    assert result.out == b"1\n141\n"
    assert reports(result.err)[-1]["signal"] == 13


@pytest.mark.parametrize("option", ["--status-fd 77", "--status-fd x", "--status-fd 0"])
def test_status_fd_that_cannot_be(option: str) -> None:
    result = sh(f"ukfilter {option} $E/hello.hvt 0</dev/null")
    assert result.status == 125
    assert harness.one_line(result.err).startswith("ukfilter: --status-fd")


def test_trace() -> None:
    result = sh(r"printf 'a\n\001' | ukfilter --trace $E/cat.hvt")
    assert result.out == b"a\n\x01"
    text = result.err.decode()
    assert r'NET_READ(1, "a\n\001", 65536) = OK, 3 bytes <' in text
    assert r'NET_WRITE(2, "a\n\001", 3) = OK <' in text
    assert text.splitlines()[-1].split()[1] == "HALT(0)"


def test_trace_to_a_file(tmp_path: Path) -> None:
    result = sh(f"ukfilter --trace={tmp_path}/t $E/hello.hvt")
    assert result.err == b""
    assert 'PUTS("Hello, world!\\n", 14) <' in (tmp_path / "t").read_text()


def test_trace_to_a_place_that_cannot_be() -> None:
    result = sh("ukfilter --trace=/nonexistent/t $E/hello.hvt")
    assert result.status == 125
    assert "--trace /nonexistent/t: cannot open it" in harness.one_line(result.err)


@pytest.mark.parametrize("option", ["--status-fd 3", "--trace=/dev/fd/3"])
def test_whoever_asked_for_it_may_go_away(option: str) -> None:
    got = sh(f"seq 100000 | ukfilter {option} $E/cat.hvt 3> >(exec true) | tail -n1; echo ${{PIPESTATUS[1]}}")
    assert (got.out, got.err) == (b"100000\n0\n", b"")


def test_a_trace_that_reaches_a_limit_is_cut_there(tmp_path: Path) -> None:
    script = f"ulimit -f 1; seq 2000 | ukfilter --trace={tmp_path}/trace $E/cat.hvt -b 100 | tail -n1"
    got = sh(script)
    if b"cannot" in got.err:  # the memory of a process is a file
        assert harness.ENV["UKFILTER_TENDER"] == "process"
    else:
        assert (got.status, got.out) == (0, b"2000\n")
        assert (tmp_path / "trace").stat().st_size == 1024
