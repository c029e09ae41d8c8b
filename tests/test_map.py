"""`ukfilter map`: blocks at record ends, outputs in order, the block that failed by name."""

from __future__ import annotations

import re

import pytest
from harness import one_line, sh
from hypothesis import given
from hypothesis import strategies as st

from ukfilter.errors import UsageError
from ukfilter.pipes.blocks import Cutter, parse_record_end

END = b"\r\n"


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"a", END)), max_size=20),
    st.integers(1, 40),
    st.sampled_from([b"\n", END, b"\0"]),
)
def test_blocks_are_the_input_cut_at_record_ends(pieces: list[bytes], size: int, end: bytes) -> None:
    cutter = Cutter(size, end)
    blocks = [block for piece in pieces for block in cutter.feed(piece)]
    rest = cutter.rest()
    assert b"".join(blocks) + rest == b"".join(pieces)
    for block in blocks:
        assert block.endswith(end)
        assert len(block) <= size + len(end) - 1 or block.find(end) >= max(size - len(end) + 1, 0) - len(end)


def test_a_long_record_is_a_block_of_its_own() -> None:
    cutter = Cutter(4, b"\n")
    assert list(cutter.feed(b"ab\ncd\nlong record\nx\n")) == [b"ab\n", b"cd\n", b"long record\n"]
    assert (cutter.rest(), cutter.rest()) == (b"x\n", b"")


def test_record_ends() -> None:
    assert parse_record_end(r"\n\t\0\\\x1ez") == b"\n\t\0\\\x1ez"
    for wrong in ("", "\\", r"\q", r"\x1", r"\xzz"):
        with pytest.raises(UsageError, match="is no record end"):
            parse_record_end(wrong)


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_output_is_in_order(jobs: int) -> None:
    result = sh(
        f"seq 300000 | ukfilter map -j {jobs} --block 100K $E/upper.hvt | cmp - <(seq 300000)", timeout=60
    )
    assert (result.status, result.err) == (0, b"")


def test_records_are_whole() -> None:
    """Each block is counted by a guest of its own: the sums are wc's, so no line was cut in two."""
    total = "awk '{l += $1; w += $2; c += $3} END {print l, w, c}'"
    script = f"seq 200000 | ukfilter map --block 50K $E/wc.hvt | {total}"
    assert sh(script).out.split() == sh("seq 200000 | wc").out.split()


def test_other_records() -> None:
    script = "printf 'a\\0bb\\0ccc\\0' | ukfilter map --block 3 --recend '\\0' $E/wc.hvt"
    assert [int(line.split()[2]) for line in sh(script).out.splitlines()] == [2, 3, 4]


GREP = "(seq 1 20000; echo needle; seq 30000 40000)"


def test_a_block_that_fails_is_named_and_ends_it() -> None:
    result = sh(f"{GREP} | ukfilter map -j 2 --block 20K $E/grep.hvt needle")
    assert (result.status, result.out) == (1, b"")
    assert re.match(
        r"ukfilter: block 1 \(bytes 0 to \d+\): .*grep.hvt: status 1 \(halted\)$", one_line(result.err)
    )


def test_keep_going() -> None:
    result = sh(f"{GREP} | ukfilter map --keep-going --stats --block 20K $E/grep.hvt needle")
    assert (result.status, result.out) == (1, b"needle\n")
    lines = result.err.decode().splitlines()
    assert len(lines) > 3 and lines[0].startswith("ukfilter: block 1 ")
    assert lines[-1].endswith(f" {len(lines)} blocks, {len(lines) - 1} failed")


def test_a_status_that_is_fine() -> None:
    result = sh(f"{GREP} | ukfilter map --ok 1 --block 20K $E/grep.hvt needle")
    assert (result.status, result.out, result.err) == (0, b"needle\n", b"")
    result = sh(f"{GREP} | ukfilter map --ok 1 --block 20K $E/grep.hvt nowhere")
    assert (result.status, result.out, result.err) == (1, b"", b""), "as grep itself"


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)", "2>/dev/null"])
def test_a_message_that_cannot_be_told_changes_nothing(stderr: str) -> None:
    found = [str(n) for n in range(1, 1001) if "55" in str(n)]
    script = f"seq 1000 | ukfilter map --block 100 --keep-going --stats $E/grep.hvt 55 {stderr}"
    result = sh(script)
    assert (result.status, result.out.decode().split()) == (1, found)


def test_a_crash_and_a_time_out_are_failures() -> None:
    result = sh("seq 10 | ukfilter map $G/fault.hvt null")
    assert result.status == 255
    assert b"guest fault" in result.err and b"block 1 " in result.err
    result = sh("seq 10 | ukfilter map -t 300ms $G/spin.hvt")
    assert result.status == 124


def test_a_reader_that_leaves_ends_it() -> None:
    result = sh("seq 1000000 | ukfilter map $E/cat.hvt | head -1; echo ${PIPESTATUS[1]}", timeout=30)
    assert result.out == b"1\n141\n"


def test_descriptors_that_somebody_made_non_blocking() -> None:
    other = "python3 -c 'import os; os.set_blocking(0, False); os.set_blocking(1, False)'"
    map_ = "ukfilter map -j 2 --block 256K $E/cat.hvt"
    script = f"(sleep 0.5; seq 200000) | ({other}; {map_}) | (sleep 1; cmp - <(seq 200000))"
    result = sh(script)
    assert (result.status, result.err) == (0, b"")


def test_no_input() -> None:
    result = sh("ukfilter map --stats $E/wc.hvt < /dev/null")
    assert (result.status, result.out) == (0, b"")
    assert "0 blocks, 0 failed" in one_line(result.err)


def test_a_closed_input_is_an_empty_one() -> None:
    result = sh("ukfilter map --stats $E/wc.hvt <&-")
    assert (result.status, result.out) == (0, b"")
    assert "0 blocks, 0 failed" in one_line(result.err)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("< /etc/hostname > /dev/full", "standard output: cannot write to it: No space left on device"),
        ("< /etc/hostname >&-", "standard output: cannot write to it: Bad file descriptor"),
        ("< /proc/$$/mem; exit $?", "standard input: cannot read it: Input/output error"),
    ],
)
def test_an_end_that_fails_is_named(where: str, what: str) -> None:
    result = sh(f"ukfilter map $E/cat.hvt {where}")
    assert (result.status, result.out) == (125, b"")
    assert what in one_line(result.err)


WRONG = {
    "none": ("$E/none.hvt", 127),
    "no image": ("README.md", 126),
    "no words": ("", 125),
    "jobs": ("-j 0 $E/cat.hvt", 125),
    "block": ("--block x $E/cat.hvt", 125),
    "recend": ("--recend '' $E/cat.hvt", 125),
    "ok": ("--ok 256 $E/cat.hvt", 125),
    "device": ("$G/two_net.hvt", 125),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_a_line(what: str) -> None:
    words, status = WRONG[what]
    result = sh(f"echo x | ukfilter map {words}")
    assert (result.status, result.out) == (status, b"")
    assert "Traceback" not in one_line(result.err)


@pytest.mark.slow
def test_memory_is_bounded_by_the_blocks() -> None:
    script = "head -c 1G /dev/zero | tr '\\0' '\\n' | /usr/bin/env python3 -c '"
    script += "import resource, subprocess, sys, os; "
    script += 'argv = ["ukfilter", "map", "-j", "2", os.environ["E"] + "/cat.hvt"];'
    script += "subprocess.run(argv, stdout=subprocess.DEVNULL);"
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'"
    result = sh(script, timeout=120)
    assert int(result.out) < 120_000, "KiB"


def test_the_console_of_all_guests() -> None:
    for where, out, err in (("stdout", b"exit\n", b""), ("stderr", b"", b"exit\n"), ("null", b"", b"")):
        got = sh(f"ukfilter map --console {where} $G/exit.hvt 0", stdin=b"block\n")
        assert (got.status, got.out, got.err) == (0, out, err)
    assert "stdout" in one_line(sh("ukfilter map --console /tmp $G/exit.hvt 0").err)
