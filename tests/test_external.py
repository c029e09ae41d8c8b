"""`--tender PATH`: a guest under another tender, with our pumps between.

Here that is our own command, under the name of Solo5's; where VARIABLES name Solo5's own (v0.9), those too.
"""

from __future__ import annotations

import os
from pathlib import Path

import harness
import pytest
from harness import one_line, sh

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


def test_addresses_and_sector_sizes_are_passed_on(tmp_path: Path) -> None:
    tender = tmp_path / "echo"
    tender.write_text('#!/bin/sh\necho "$@"\n')
    tender.chmod(0o755)
    mac = "--net-mac stdin=02:00:00:00:00:07"
    result = sh(f"ukfilter --tender {tender} {mac} $E/cat.hvt < /dev/null")
    assert b" --net-mac:stdin=02:00:00:00:00:07 " in result.err
    disk = "--block disk=README.md --block-sector-size disk=4096"
    result = sh(f"ukfilter --tender {tender} {disk} $G/disk.hvt < /dev/null")
    assert b" --block:disk=README.md --block-sector-size:disk=4096 -- " in result.out


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
        ("--tender /bin/true --console $E/x $E/cat.hvt", 125, "--console"),
        ("--tender solo5-spt $E/cat.hvt", 125, "is none of auto"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words: str, status: int, reason: str) -> None:
    result = sh(f"echo x | ukfilter {words}")
    assert (result.status, result.out) == (status, b"")
    assert reason in one_line(result.err)
