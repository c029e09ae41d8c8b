"""The names of the package, for a program, for a type checker and for who asks help()."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from pathlib import Path

import harness

import ukfilter

PROGRAM = """
import ukfilter
from ukfilter import AnyStage, Data, End, Image, Input, Output

async def talk(image: Image, stdin: End, stages: list[AnyStage], data: Data) -> bytes:
    async with ukfilter.open_guest(image) as guest:
        await guest.stdin.send_all(data)
        sink: Input = guest.stdin
        source: Output = guest.stdout
        await guest.stdin.send_everything(data)
    async with ukfilter.open_pipeline(stages, stdin=stdin) as pipeline:
        return await pipeline.stdout.receive_some()

ukfilter.run_sink("cat.hvt")
"""


def test_a_type_checker_knows_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ("-m", "mypy", "--strict", "--no-error-summary", "--config-file=", tmp_path / "program.py")
    got = harness.run(sys.executable, *words, timeout=200, cwd=harness.ROOT)
    lines = [line.partition(": ")[2] for line in got.out.decode().splitlines()]
    assert len(lines) == 2, got
    assert lines[0].startswith('error: Item "Input" of "Input | Any" has no attribute "send_everything"')
    assert lines[1].startswith('error: Module has no attribute "run_sink"')


def test_every_name_is_public_and_shown() -> None:
    assert sorted(ukfilter.__all__) == sorted(ukfilter._HOMES)
    code = "from ukfilter import *; print(run_sync.__name__, GuestError.__name__, End)"
    got = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=20)
    assert got.stdout.startswith("run_sync GuestError ") and got.stderr == ""
    text = pydoc.plain(pydoc.render_doc(ukfilter))
    assert "run_sync(" in text and "class Guest(" in text
