"""The command line: which first words are commands, and where each is parsed."""

from __future__ import annotations

COMMANDS = ("run",)


def main(words: list[str]) -> int:
    """Run what words ask for; an exit status, if the guest does not give its own."""
    from ukfilter.cli import run

    return run.main(words[1:] if words[:1] == ["run"] else words)
