"""The manual pages: mandoc has nothing to say, options are the program's, examples run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import harness
import pytest
from harness import EXAMPLES, ROOT, run

from ukfilter.cli import COMMANDS, binfmt, doctor, inspect, map, mount, pipe
from ukfilter.cli import command as main_job

MAN = ROOT / "man"
PAGES = sorted(MAN.glob("*.[17]"))
COMMAND_OF = {
    "ukfilter.1": main_job.command,
    "ukfilter-pipe.1": pipe.command,
    "ukfilter-map.1": map.command,
    "ukfilter-mount.1": mount.command,
    "ukfilter-inspect.1": inspect.command,
    "ukfilter-doctor.1": doctor.command,
    "ukfilter-binfmt.1": binfmt.command,
}
OF_ALL = {"-h", "--help"}


def test_there_is_a_page_for_each_command() -> None:
    told = {p.name for p in PAGES}
    assert told == {*COMMAND_OF, "ukfilter.7"}
    assert {f"ukfilter-{c}.1" for c in COMMANDS if c not in ("run", "umount")} <= told


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_mandoc_has_nothing_to_say(page: Path) -> None:
    got = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", page.name], cwd=MAN, capture_output=True, text=True
    )
    assert got.stdout == ""


def options_of_page(text: str) -> set[str]:
    """The options that .It lines name."""
    found = set()
    for line in text.splitlines():
        if line.startswith(".It Fl"):
            for match in re.finditer(r"Fl (Fl )?([a-zA-Z][a-z-]*)", line):
                found.add(("--" if match[1] else "-") + match[2])
    return found


@pytest.mark.parametrize("page", COMMAND_OF)
def test_options_are_those_of_the_program(page: str) -> None:
    command = COMMAND_OF[page]
    with command.make_context("ukfilter", [], resilient_parsing=True) as context:
        params = command.get_params(context)
        names = {name for p in params if isinstance(p, click.Option) for name in p.opts}
    assert options_of_page((MAN / page).read_text()) == names


def examples() -> list[tuple[str, str]]:
    return [
        (page.name, line.removeprefix(".Dl $ "))
        for page in PAGES
        for line in page.read_text().splitlines()
        if line.startswith(".Dl $ ")
    ]


@pytest.mark.parametrize(("page", "line"), examples())
def test_an_example_runs(page: str, line: str, tmp_path: Path) -> None:
    for image in EXAMPLES.glob("*.hvt"):
        (tmp_path / image.name).symlink_to(image)
    (tmp_path / "uk").mkdir()
    text = line.replace("\\e", "\\").replace("\\&", "")
    result = run("bash", "-o", "pipefail", "-c", text, cwd=tmp_path, timeout=30, stdin=b"")
    assert result.status == 0, result
    assert result.out


def test_the_filter_of_section_7_can_be_built_and_works(tmp_path: Path) -> None:
    page = (MAN / "ukfilter.7").read_text()
    source = re.search(r"\.Bd -literal -offset indent\n(.*?)\.Ed", page, re.S)
    assert source
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("build"))
    (tmp_path / "examples" / "rot13.c").write_text(source[1].replace("\\e", "\\"))
    assert run("make", "-s", "-C", tmp_path / "examples", timeout=120).status == 0
    for target in ("hvt", "spt"):
        result = run(
            harness.UKFILTER, tmp_path / "examples" / "build" / f"rot13.{target}", stdin=b"Uryyb, jbeyq!\n"
        )
        assert (result.status, result.out) == (0, b"Hello, world!\n")
