"""Run a click command with errors in our own manner: one line, our statuses, no usage block."""

from __future__ import annotations

import contextlib
import io
import os

import click

from ukfilter.errors import UkfilterError, UsageError, printable
from ukfilter.tender import fill_standard_descriptors


def show(text: str) -> None:
    """Write text to standard output, all of it, now. Raises UkfilterError.

    Not through sys.stdout: it is None where that was closed, and is flushed once more at Python's end.
    """
    data = text.encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as e:
        raise UkfilterError(f"standard output: cannot write to it: {e.strerror}") from None


def invoke(command: click.Command, name: str, words: list[str]) -> object:
    """What command returns; 0 once -h or --version has said what it has to say. click's echo is what says it.

    Raises UsageError for words that do not parse, UkfilterError where standard output fails.
    """
    fill_standard_descriptors()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        got = _invoked(command, name, words)
    show(said.getvalue())
    return got


def _invoked(command: click.Command, name: str, words: list[str]) -> object:
    try:
        with command.make_context(name, words) as context:
            return command.invoke(context)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.NoSuchOption as e:
        raise UsageError(f"no option {printable(e.option_name)}; see {name} -h") from None
    except click.MissingParameter as e:
        with click.Context(command, info_name=name) as context:
            usage = " ".join(command.collect_usage_pieces(context))
        what = e.param.make_metavar(context) if e.param else "argument"
        raise UsageError(f"which {what}? Usage: {name} {usage}") from None
    except click.UsageError as e:
        text = printable(e.format_message().rstrip("."))
        raise UsageError(f"{text[:1].lower()}{text[1:]}; see {name} -h") from None


def status_of(command: click.Command, name: str, words: list[str]) -> int:
    """The same, for a command whose status is what it returns, 0 for nothing."""
    status = invoke(command, name, words)
    return status if isinstance(status, int) else 0
