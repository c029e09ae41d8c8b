"""`ukfilter binfmt`: let the kernel run an image by its name, through binfmt_misc.

Solo5's own mark, the interpreter string `/nonexistent/solo5/`, lies beyond the 256 bytes that the kernel
looks at. What it can see is the program header of that string, which Solo5's linker scripts put first, and
its size: no other linker makes an x86-64 executable so. ukfilter itself sees whether it is an image.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from ukfilter.errors import UkfilterError, UsageError, printable

TABLE = Path("/proc/sys/fs/binfmt_misc")
ENTRY = TABLE / "ukfilter"
MARK_SIZES = (0x14, 0x18)  # bytes of the string with its NUL, plain and padded to 8
INTERPRETER_MAX = 127  # BINPRM_BUF_SIZE of the older kernels, less one


class BinfmtError(UkfilterError):
    """The kernel's table cannot be changed."""


def command_path() -> str:
    """The command itself, beside the interpreter that runs this."""
    path = os.path.join(os.path.dirname(sys.executable), "ukfilter")
    if not os.access(path, os.X_OK):
        raise BinfmtError(f"binfmt: {path}: no such command; install ukfilter first")
    if len(os.fsencode(path)) > INTERPRETER_MAX or ":" in path or "\n" in path:
        raise BinfmtError(f"binfmt: {path}: the kernel cannot have this path; install ukfilter elsewhere")
    return path


def entry(command: str) -> str:
    """What `register` takes: name, type, offset, magic, mask, interpreter; see binfmt-misc.rst.

    The bytes are the ELF header's (gABI): 64-bit, little-endian, ET_EXEC, x86-64, program headers at 64; then
    the first program header's type, PT_INTERP, and its size in the file. The mask lets the two sizes pass.
    """
    magic, mask = bytearray(0x68), bytearray(0x68)

    def want(at: int, value: bytes, bits: bytes | None = None) -> None:
        magic[at : at + len(value)] = value
        mask[at : at + len(value)] = bits or b"\xff" * len(value)

    want(0, b"\x7fELF\x02\x01\x01")
    want(16, b"\x02\x00\x3e\x00")
    want(32, (64).to_bytes(8, "little"))
    want(64, (3).to_bytes(4, "little"))
    low, high = MARK_SIZES
    same = ~(low ^ high) & 0xFF
    want(0x60, bytes((low & same, *bytes(7))), bytes((same, *b"\xff" * 7)))
    return f":ukfilter:M::{_escaped(magic)}:{_escaped(mask)}:{command}:\n"


def _escaped(data: bytes | bytearray) -> str:
    return "".join(f"\\x{b:02x}" for b in data)


def mount_table() -> None:
    """Mount binfmt_misc, if it is not there. Raises BinfmtError."""
    if (TABLE / "register").exists():
        return
    words = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(TABLE)]
    try:
        got = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as e:
        raise BinfmtError(f"binfmt: {TABLE}: is not mounted, and mount cannot be run: {e.strerror}") from None
    if got.returncode:
        said = got.stderr.strip().partition("\n")[0] or f"mount ended with status {got.returncode}"
        why = "only root can mount it; use sudo" if os.geteuid() else printable(said.rstrip("."))
        raise BinfmtError(f"binfmt: {TABLE}: is not mounted, and {why}")


def write(path: Path, text: str) -> None:
    """Write to a file of the table. Raises BinfmtError."""
    try:
        path.write_text(text)
    except PermissionError:
        raise BinfmtError(f"binfmt: {path}: only root can change it; use sudo") from None
    except OSError as e:
        raise BinfmtError(f"binfmt: {path}: cannot change it: {e.strerror}") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, options_metavar="OPTION")
@click.option("--register", is_flag=True, help="From now on ./cat.hvt runs by itself. Needs root.")
@click.option("--unregister", is_flag=True, help="No longer. Needs root.")
@click.option("--status", is_flag=True, help="Say whether it is registered, and with which command.")
def command(register: bool, unregister: bool, status: bool) -> int:
    """Let the kernel run images by their name: ./cat.hvt < in > out.

    They have to be executable files. It lasts until the machine is started anew.
    """
    if register + unregister + status != 1:
        raise UsageError("binfmt: which one of --register, --unregister and --status?")
    if register:
        line = entry(command_path())
        mount_table()
        if ENTRY.exists():
            write(ENTRY, "-1")
        write(TABLE / "register", line)
    elif unregister:
        if not ENTRY.exists():
            raise BinfmtError("binfmt: is not registered")
        write(ENTRY, "-1")
    elif not ENTRY.exists():
        click.echo("not registered")
        return 1
    else:
        lines = ENTRY.read_text().splitlines()
        words = dict(line.split(" ", 1) for line in lines if " " in line)
        click.echo(f"registered, {lines[0]}: {words.get('interpreter', '?')}")
    return 0
