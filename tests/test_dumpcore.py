"""--dumpcore: an ELF core of the guest at its abort, as a debugger and as a reader of its own see it."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import harness
import pytest
from harness import GUESTS, one_line, run, sh

from ukfilter.image import open_image

pytestmark = pytest.mark.usefixtures("tender")

PAGE = 4096
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
    assert core.memory(text.addr + PAGE // 2, 64) == data[PAGE // 2 : PAGE // 2 + 64]
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
