"""What is short is told in one line: descriptors, processes, memory, /dev/null. Never a traceback."""

from __future__ import annotations

import os

import pytest
from harness import one_line, sh

PIPE = "pipe $E/cat.hvt '|' ! cat '|' $E/cat.hvt"
# A user of whom nothing else runs, since a limit of processes is a user's; who may read what root can.
NOBODY = "setpriv --reuid 54321 --clear-groups --inh-caps +dac_override --ambient-caps +dac_override"


@pytest.mark.parametrize("words", ["--progress=always $E/cat.hvt", PIPE, "map $E/cat.hvt"])
def test_descriptors(words: str) -> None:
    """Whichever the call is that finds none left."""
    for limit in range(6, 16, 2):
        got = sh(f"ulimit -n {limit}; exec ukfilter {words}", stdin=b"x\n")
        assert got.status in (125, 126) and got.out == b"", limit  # 126: it was the image's turn
        assert "too many open files" in one_line(got.err).lower()


@pytest.mark.skipif(os.geteuid() != 0, reason="a user of whom nothing else runs takes root")
@pytest.mark.parametrize(
    ("limit", "words"),
    [(1, "map --tender process $E/cat.hvt"), (3, "--progress=always --tender process $E/cat.hvt")],
)
def test_processes(limit: int, words: str) -> None:
    got = sh(f"exec {NOBODY} prlimit --nproc={limit} ukfilter {words}", stdin=b"x\n")
    assert (got.status, got.out) == (125, b"")
    assert "no more processes or threads" in one_line(got.err)


def test_memory() -> None:
    """Python itself cannot start with less than this."""
    told = 0
    for limit in range(3000, 7000, 1000):
        for words in ("$E/cat.hvt", "doctor"):
            got = sh(f"ulimit -d {limit}; exec ukfilter {words}", stdin=b"x\n")
            assert b"Traceback" not in got.err
            told += got.status == 125 and "no memory" in one_line(got.err)
    assert told


def test_a_machine_without_dev_null() -> None:
    got = sh("unshare -m bash -c 'mount -t tmpfs t /dev; exec ukfilter $E/cat.hvt <&-'")
    assert (got.status, got.out) == (125, b"")
    assert "/dev/null: No such file" in one_line(got.err)
