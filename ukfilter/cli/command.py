"""The main job as click has it, from the table: for help, the version, and words that do not parse."""

from __future__ import annotations

from typing import Any

import click

from ukfilter import __version__
from ukfilter.cli import grammar, solo5
from ukfilter.errors import UsageError
from ukfilter.image import ABI_VERSIONS

EPILOG = """Other commands, each with -h: run (this one, spelled out), pipe, map,
mount, umount, inspect, doctor, binfmt.

\b
Exit status: the guest's own; 125 ukfilter's own failure or wrong usage;
126 IMAGE cannot be run; 127 IMAGE not found; 128+n killed by signal n."""
KINDS: dict[int, dict[str, Any]] = {
    grammar.ONE: {},
    grammar.MANY: {"multiple": True},
    grammar.OPTIONAL: {},  # as grammar.spelled_out() has left it
    grammar.FLAG: {"is_flag": True},
    grammar.COUNT: {"count": True},
}


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """One line; in place of one of Solo5's tenders also which ABI that has, as it says itself."""
    if not wanted:
        return
    called = context.info_name or ""
    if called in solo5.TARGETS:
        click.echo(f"{called} tender, ukfilter {__version__}")
        click.echo(f"ABI version {ABI_VERSIONS[solo5.TARGETS[called]]}")
    else:
        click.echo(f"{called} {__version__}")
    context.exit()


def refuse(_: click.Context, __: click.Parameter, wanted: bool) -> None:
    """Raise UsageError: a stage does not answer for itself."""
    if wanted:
        raise UsageError("pipe: -h and --version are no options of a stage; see ukfilter pipe -h")


def options() -> list[click.Parameter]:
    """A click option for each line of the table."""
    return [
        click.Option([*spellings, name], metavar=metavar or None, help=text, **KINDS[kind])
        for spellings, name, kind, metavar, text in grammar.OPTIONS
    ]


def given_by(image: str, args: tuple[str, ...], **given: Any) -> grammar.Read:
    """Run the unikernel IMAGE as a filter: stdin is its input, stdout its output.

    All that follows IMAGE is the guest's.
    """
    return image, list(args), given


def made(answer: click.Option, **settings: Any) -> click.Command:
    """The command with one option more than the table has."""
    image = click.Argument(["image"], metavar="IMAGE")
    args = click.Argument(["args"], nargs=-1, metavar="[ARG...]", type=click.UNPROCESSED)
    command = click.Command(
        "ukfilter",
        callback=given_by,
        help=given_by.__doc__,
        epilog=EPILOG,
        options_metavar="[OPTION...]",
        params=[*options(), answer, image, args],
        **settings,
    )
    command.allow_interspersed_args = False
    return command


FLAG: dict[str, Any] = {"is_flag": True, "is_eager": True, "expose_value": False}
HELP = ["-h", "--help"]
VERSION = ["--version"]
command = made(
    click.Option(VERSION, callback=show_version, help="Say which.", **FLAG),
    context_settings={"help_option_names": HELP},
)
stage = made(click.Option([*HELP, *VERSION], callback=refuse, **FLAG), add_help_option=False)
