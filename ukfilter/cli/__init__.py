"""The command line: which first words are commands, and where each is parsed."""

from __future__ import annotations

COMMANDS = ("run", "pipe", "map", "mount", "umount", "inspect", "doctor", "binfmt")


def main(words: list[str]) -> int:
    """Run what words ask for; an exit status, if the guest does not give its own."""
    from importlib import import_module

    from ukfilter.cli.invoke import invoke

    if words[:1] in (["inspect"], ["doctor"], ["map"], ["binfmt"]):
        name = words[0]
        status = invoke(import_module(f"ukfilter.cli.{name}").command, f"ukfilter {name}", words[1:])
        return status if isinstance(status, int) else 0
    if words[:1] in (["mount"], ["umount"]):
        from ukfilter.cli import mount

        command = mount.command if words[0] == "mount" else mount.umount
        status = invoke(command, f"ukfilter {words[0]}", words[1:])
        return status if isinstance(status, int) else 0
    if words[:1] == ["pipe"]:
        from ukfilter.cli import pipe

        return pipe.main(words[1:])
    from ukfilter.cli import run

    return run.main(words[1:] if words[:1] == ["run"] else words)
