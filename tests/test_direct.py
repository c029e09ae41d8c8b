"""The direct path: a filter imports nothing that is not needed, with options and without."""

from __future__ import annotations

import sys

import harness

HEAVY = ("click", "trio", "re", "dataclasses", "enum", "typing", "inspect", "argparse", "socket")


def imported(*words: object) -> set[str]:
    """Names of the modules that `ukfilter WORDS...` imports, as the interpreter itself tells."""
    command = (sys.executable, "-X", "importtime", "-m", "ukfilter", *words)
    got = harness.run(*command)
    assert got.status == 0, got.err
    lines = got.err.decode().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def started(modules: set[str]) -> set[str]:
    """What is imported beyond an interpreter of this environment that does nothing."""
    got = harness.run(sys.executable, "-X", "importtime", "-c", "pass")
    lines = got.err.decode().splitlines()
    return modules - {line.rpartition("|")[2].strip() for line in lines}


def test_image_first_imports_no_parser_and_no_event_loop() -> None:
    modules = started(imported(harness.EXAMPLES / "hello.hvt"))
    assert "ukfilter.tender" in modules
    assert not [m for m in modules if m.partition(".")[0] in HEAVY]


def test_options_need_no_parser_either() -> None:
    words = ("-q", "--mem=64M", "-t", "20s", "--eof", "auto", "--console", "stdout", "--tender", "process")
    modules = started(imported(*words, harness.EXAMPLES / "hello.hvt"))
    assert "ukfilter.cli.grammar" in modules
    assert not [m for m in modules if m.partition(".")[0] in HEAVY]


def test_importing_ukfilter_costs_nothing() -> None:
    code = "import sys; a = set(sys.modules); import ukfilter; print(len(set(sys.modules) - a))"
    got = harness.run(sys.executable, "-c", code)
    assert got.out == b"1\n"


def test_the_command_is_our_own_program() -> None:
    """A generated script would be Python from its first line: slower, and open to ^C too early."""
    assert harness.UKFILTER.read_bytes()[:4] == b"\x7fELF"
