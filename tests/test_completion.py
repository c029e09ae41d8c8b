"""Completion: the files are what the program's options make, and a real shell completes by them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT

FOLDER = ROOT / "completion"


@pytest.mark.parametrize("file", ["ukfilter", "_ukfilter", "ukfilter.fish"])
def test_the_files_are_up_to_date(file: str) -> None:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (FOLDER / file).read_text() == module.FILES[file](), "run .venv/bin/python completion/generate.py"


def bash(words: list[str], cwd: Path) -> set[str]:
    """What bash offers for the last of words."""
    call = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ukfilter; printf "%s\\n" "${COMPREPLY[@]}"'
    script = f"source {FOLDER}/ukfilter; {call}"
    got = subprocess.run(
        ["bash", "-c", script, "bash", *words], cwd=cwd, capture_output=True, text=True, timeout=10
    )
    assert got.stderr == ""
    return set(got.stdout.split())


def test_bash(tmp_path: Path) -> None:
    for name in ("a.hvt", "b.spt", "c.txt", "d.toml"):
        (tmp_path / name).touch()
    (tmp_path / "e").mkdir()
    assert {"a.hvt", "b.spt", "d.toml", "e", "pipe", "mount"} <= bash(["ukfilter", ""], tmp_path)
    assert "c.txt" not in bash(["ukfilter", ""], tmp_path)
    assert bash(["ukfilter", "--tim"], tmp_path) == {"--timeout"}
    assert bash(["ukfilter", "pipe", "--pi"], tmp_path) == {"--pipefail"}
    assert bash(["ukfilter", "mo"], tmp_path) == {"mount"}
    assert bash(["ukfilter", "--stats", "a"], tmp_path) == {"a.hvt"}
    assert bash(["ukfilter", "mount", "--re"], tmp_path) == {"--ready-fd"}


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_can_read_it() -> None:
    subprocess.run(["zsh", "-n", FOLDER / "_ukfilter"], check=True, timeout=10)


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(tmp_path: Path) -> None:
    script = f"source {FOLDER}/ukfilter.fish; complete -C 'ukfilter pipe --pi'"
    got = subprocess.run(
        ["fish", "-N", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=10
    )
    assert got.stdout.startswith("--pipefail")
