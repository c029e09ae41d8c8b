"""The command line: which first words are commands, and where each is parsed."""

from __future__ import annotations

# What click alone parses: the module, and the command in it.
PLAIN = {
    "map": ("map", "command"),
    "mount": ("mount", "command"),
    "umount": ("mount", "umount"),
    "inspect": ("inspect", "command"),
    "doctor": ("doctor", "command"),
    "binfmt": ("binfmt", "command"),
}
COMMANDS = ("run", "pipe", *PLAIN)


def main(words: list[str]) -> int:
    """Run what words ask for; an exit status, if the guest does not give its own."""
    name = words[0] if words else ""
    if name in PLAIN:
        from importlib import import_module

        from ukfilter.cli.invoke import status_of

        module, command = PLAIN[name]
        click_command = getattr(import_module(f"ukfilter.cli.{module}"), command)
        return status_of(click_command, f"ukfilter {name}", words[1:])
    if words[:1] == ["pipe"]:
        from ukfilter.cli import pipe

        return pipe.main(words[1:])
    from ukfilter.cli import run

    return run.main(words[1:] if words[:1] == ["run"] else words)
