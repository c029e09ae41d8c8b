"""`inspect` and `doctor`, as commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest
from harness import EXAMPLES, UKFILTER, one_line, run, sh


def test_inspect_says_what_an_image_is_and_needs(image) -> None:
    got = run(UKFILTER, "inspect", image("cat"))
    assert (got.status, got.err) == (0, b"")
    for words in (b"Solo5 image for hvt, ABI version 2", b"--net stdin=", b"--net stdout=", b"r-x", b"rw-"):
        assert words in got.out


def test_inspect_for_a_program(image) -> None:
    got = run(UKFILTER, "inspect", "--json", image("cat"))
    said = json.loads(got.out)
    assert (said["target"], said["abi_version"]) == ("hvt", 2)
    assert [(d["name"], d["kind"], d["handle"]) for d in said["devices"]] == [
        ("stdin", "net", 1),
        ("stdout", "net", 2),
    ]
    assert {s["protection"] for s in said["segments"]} == {"r-x", "r--", "rw-"}
    assert any(s["address"] <= said["entry"] < s["address"] + s["size"] for s in said["segments"])


def test_doctor_says_that_this_machine_will_do() -> None:
    got = run(UKFILTER, "doctor")
    assert (got.status, got.err) == (0, b"")
    assert b"yes  kvm " in got.out
    assert b"yes  process " in got.out
    said = json.loads(run(UKFILTER, "doctor", "--json").out)
    assert said["usable"]
    assert set(said) == {"usable", "kvm", "process", "fuse", "taps"}


def test_doctor_without_kvm_still_says_yes() -> None:
    """Where /dev/kvm is hidden, the mend for it is named, and guests can run all the same."""
    hide = f"mount -t tmpfs none /dev && mknod /dev/null c 1 3 && {UKFILTER} doctor"
    got = run("unshare", "--mount", "bash", "-c", hide)
    assert got.status == 0
    assert b"no   kvm " in got.out
    assert b"modprobe" in got.out


# Run argv where a seccomp filter forbids ptrace, as some containers do: EPERM for it, the rest is allowed.
NO_PTRACE = """
import ctypes, os, struct, sys
code = b"".join(struct.pack("HBBI", *i) for i in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 101), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)))
kept = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_doctor_tries_to_trace() -> None:
    without = (sys.executable, "-c", NO_PTRACE, UKFILTER)
    assert run(*without, "--tender", "process", EXAMPLES / "hello.hvt").status == 125
    got = run(*without, "doctor")
    assert b"no   process  cannot trace a child: Operation not permitted" in got.out
    assert b"allow ptrace(2)" in got.out
    hide = 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$@"'
    assert run("unshare", "--mount", "bash", "-c", hide, "-", *without, "doctor").status == 125


def test_auto_takes_the_process_tender_where_there_is_no_kvm(image) -> None:
    hide = f"mount -t tmpfs none /dev && mknod /dev/null c 1 3 && {UKFILTER} -v {image('hello')}"
    got = run("unshare", "--mount", "bash", "-c", hide)
    assert got.status == 0
    assert b"Hello" in got.out
    assert b"tender: process" in got.err
    assert b"/dev/kvm" in got.err


@pytest.mark.parametrize("words", ["inspect", "inspect /no/such", "inspect README.md", "doctor --bogus"])
def test_wrong_use_is_one_line(words: str) -> None:
    got = run(UKFILTER, *words.split(), cwd=harness.ROOT)
    assert got.status in (125, 126, 127)
    assert got.out == b""
    assert got.err.startswith(b"ukfilter: ")
    assert got.err.count(b"\n") == 1


@pytest.mark.parametrize("target", ["hvt", "spt"])
def test_inspect_tells_a_stripped_image(target: str, tmp_path: Path) -> None:
    whole, stripped = EXAMPLES / f"cat.{target}", tmp_path / "s"
    subprocess.run(["strip", "-o", stripped, whole], check=True)
    assert json.loads(run(UKFILTER, "inspect", "--json", whole).out)["symbols"] > 10
    assert json.loads(run(UKFILTER, "inspect", "--json", stripped).out)["symbols"] == 0
    assert b"symbols" in run(UKFILTER, "inspect", whole).out
    assert b"no symbols" in run(UKFILTER, "inspect", stripped).out
    assert f"image for {target}".encode() in run(UKFILTER, "inspect", whole).out


@pytest.mark.parametrize("name", ["a\nb.hvt", "é.hvt", 'q"\\.hvt', os.fsdecode(b"x\xe9\xff.hvt")])
def test_inspect_gives_a_program_the_name_as_it_is(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "cat.hvt", tmp_path / name)
    said = json.loads(run(UKFILTER, "inspect", "--json", tmp_path / name).out)
    assert said["path"] == str(tmp_path / name)


@pytest.mark.parametrize(
    "words",
    [
        *("--version", "-h", "pipe -h", "map -h", "inspect $E/cat.hvt", "inspect --json $E/cat.hvt"),
        *("doctor", "doctor --json", "binfmt --status"),
    ],
)
@pytest.mark.parametrize("where", ["> /dev/full", ">&-", "<&- >&-"])
def test_output_that_cannot_be_written_fails_as_that_of_cat(words: str, where: str) -> None:
    got = sh(f"ukfilter {words} {where}")
    assert "standard output: cannot write to it" in one_line(got.err)
    assert (got.status, got.out) == (125, b"")


def test_doctor_without_proc_tells_the_rest() -> None:
    got = sh("unshare -m bash -c 'mount -t tmpfs t /proc; ukfilter doctor'")
    assert (got.status, got.err) == (0, b"")
    assert b"/proc/cpuinfo would tell: No such file" in got.out
    assert b"yes  process " in got.out


def test_another_errors_object_is_not_standard_output() -> None:
    got = sh("ulimit -n 8; ukfilter pipe $E/cat.hvt '|' $E/cat.hvt")
    assert got.status == 125
    assert "Too many open files" in one_line(got.err) and b"standard output" not in got.err
