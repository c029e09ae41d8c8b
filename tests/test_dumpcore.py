"""--dumpcore: an ELF core of the guest at its abort, as a debugger and as a reader of its own see it."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import harness
import pytest
from harness import GUESTS, UKFILTER, one_line, run, running, sh, wait_sandboxed

from ukfilter.image import open_image

pytestmark = pytest.mark.usefixtures("tender")

PAGE = 4096
NO_SUCH = os.strerror(2)
# struct user_regs_struct of sys/user.h, as far as this looks
REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
)


class Core:
    """What this test wants of a core: layout as the gABI and Linux's elf_prstatus have it."""

    def __init__(self, path: Path) -> None:
        self.data = path.open("rb")
        head = self.data.read(64)
        assert head[:5] == b"\x7fELF\x02" and struct.unpack_from("<HH", head, 16) == (4, 62)
        (count,) = struct.unpack_from("<H", head, 56)
        (at,) = struct.unpack_from("<Q", head, 32)
        self.loads = []
        for n in range(count):
            kind, _, offset, vaddr, _, size = struct.unpack("<IIQQQQ", self.part(at + 56 * n, 40))
            if kind == 4:
                (self.signal,) = struct.unpack("<H", self.part(offset + 20 + 12, 2))
                self.registers = dict(
                    zip(REGISTERS, struct.unpack("<21Q", self.part(offset + 20 + 112, 168)), strict=True)
                )
            elif kind == 1:
                self.loads.append((vaddr, offset, size))

    def part(self, offset: int, size: int) -> bytes:
        self.data.seek(offset)
        return self.data.read(size)

    def memory(self, address: int, size: int) -> bytes:
        (offset,) = (o + address - v for v, o, n in self.loads if v <= address < v + n)
        return self.part(offset, size)


def dump(words: str, directory: Path) -> tuple[Core, Path, harness.Result]:
    result = sh(f"ukfilter --dumpcore={directory} {words}", timeout=60)
    assert result.status == 255, result
    (path,) = directory.iterdir()
    assert f"the guest's core is in {path}" in result.err.decode()
    return Core(path), path, result


@pytest.mark.parametrize("words", ["$G/abort.hvt", "$G/fault.hvt null"])
def test_core_has_registers_and_memory(words: str, tmp_path: Path) -> None:
    core, path, _ = dump(words, tmp_path)
    image = open_image(str(GUESTS / words.split()[0].removeprefix("$G/")))
    text = next(s for s in image.segments if s.flags & 1)
    data = os.pread(image.fd, text.filesz, text.offset)
    assert text.addr <= core.registers["rip"] < text.addr + text.filesz
    assert core.memory(text.addr, text.filesz) == data, "code as the image has it, no trace of the tender"
    assert core.registers["rsp"] > text.addr
    assert path.stat().st_blocks * 512 < 4 << 20, "holes are not written"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_guest_of_spt_too(tmp_path: Path, tender: str) -> None:
    if tender == "kvm":
        pytest.skip("KVM has no spt guests")
    result = sh(f"ukfilter --dumpcore={tmp_path} $G/exit.spt 255", timeout=60)
    assert result.status == 255
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("core.solo5-spt.")
    assert Core(path).registers["orig_rax"] == 231, "exit_group"


def test_what_a_handler_of_the_guests_caught(tmp_path: Path) -> None:
    """Solo5's own tells where the frame of the trap lies, as cookie.hvt does: that is where it stood."""
    core, _, _ = dump("$G/cookie.hvt frame", tmp_path)
    assert [core.registers[name] for name in ("rip", "rsp", "eflags")] == [0x123456, 0x234560, 0x10246]
    assert core.signal == signal.SIGSEGV


def test_a_wild_cookie_is_ignored(tmp_path: Path) -> None:
    core, _, _ = dump("$G/cookie.hvt wild", tmp_path)
    assert core.registers["rip"] != 0x123456


def test_memory_at_the_end(tmp_path: Path) -> None:
    """All of 64 MB is there, and the guest's first word of stack with it."""
    core, path, _ = dump("--mem 64 $G/abort.hvt", tmp_path)
    assert core.loads == [(0, PAGE, 64 << 20)]
    assert path.stat().st_size == PAGE + (64 << 20)
    assert any(core.memory(core.registers["rsp"], (64 << 20) - core.registers["rsp"]))
    assert core.signal == signal.SIGABRT


def test_a_directory_that_went_away(tmp_path: Path) -> None:
    """The guest's status stands, and the failure is told."""
    where = tmp_path / "cores"
    where.mkdir()
    words = (UKFILTER, "--dumpcore", where, GUESTS / "cookie.hvt", "late")
    with running(*words, stderr=subprocess.PIPE) as p:
        wait_sandboxed(p.pid)
        where.rmdir()
        _, err = p.communicate(timeout=20)
        assert p.returncode == 255
        assert one_line(err).endswith(f"core.solo5-hvt.{p.pid}: cannot write the guest's core: {NO_SUCH}\n")


def test_a_directory_of_an_odd_name(tmp_path: Path) -> None:
    """It is told in one line."""
    where = tmp_path / "a\nb"
    where.mkdir()
    result = run(UKFILTER, "--dumpcore", where, GUESTS / "abort.hvt")
    assert result.status == 255
    assert "the guest's core is in" in result.err.decode().splitlines()[-1]
    assert "/a\\nb/core.solo5-hvt." in result.err.decode().splitlines()[-1]


def test_a_core_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    words = (UKFILTER, "--dumpcore", tmp_path, GUESTS / "cookie.hvt", "late")
    with running(*words, stderr=subprocess.PIPE) as p:
        path = tmp_path / f"core.solo5-hvt.{p.pid}"
        path.write_bytes(b"mine")
        _, err = p.communicate(timeout=20)
        assert (p.returncode, path.read_bytes()) == (255, b"mine")
        assert one_line(err).endswith("cannot write the guest's core: File exists\n")


@pytest.mark.parametrize("status", [0, 1, 254])
def test_no_core_of_a_guest_that_ends_itself(status: int, tmp_path: Path) -> None:
    result = sh(f"ukfilter --dumpcore={tmp_path} $G/exit.hvt {status}")
    assert (result.status, list(tmp_path.iterdir())) == (status, [])


@pytest.mark.parametrize(
    ("where", "reason"), [("/nonexistent", "No such file"), ("/etc/passwd", "Not a directory")]
)
def test_a_directory_that_cannot_be_used_is_named(where: str, reason: str) -> None:
    result = sh(f"ukfilter --dumpcore={where} $E/hello.hvt")
    assert (result.status, result.out) == (125, b"")
    assert f"--dumpcore {where}: cannot use this directory: {reason}" in one_line(result.err)


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_gdb_reads_it(tmp_path: Path) -> None:
    _, path, _ = dump("$G/abort.hvt", tmp_path)
    commands = ("-ex", "info symbol $rip", "-ex", "backtrace")
    result = run("gdb", "-batch", "-nx", *commands, GUESTS / "abort.hvt", path, timeout=60)
    assert b"in section .text" in result.out, result
    assert b"in uk_halt ()" in result.out


def test_a_core_that_is_too_large_is_said_to_be(tmp_path: Path) -> None:
    got = sh(f"ulimit -f 20; ukfilter --tender kvm --dumpcore={tmp_path} $G/abort.hvt")
    assert got.status == 255
    assert b"cannot write the guest's core: File too large" in got.err
