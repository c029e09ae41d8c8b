"""`ukfilter [OPTION...] IMAGE [ARG...]`: the main job."""

from __future__ import annotations

from ukfilter.cli import grammar, solo5
from ukfilter.tender import run_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.tender.options import Options

    Parsed = tuple[str, list[str], Options]
    WithProgress = tuple[Parsed, str | None]


def parse(words: list[str]) -> Parsed | int:
    """The image, its arguments, the options; or a status, once -h or --version has been answered.

    Raises UsageError.
    """
    parsed = parse_with_progress(words)
    return parsed if isinstance(parsed, int) else parsed[0]


def parse_with_progress(
    words: list[str], called: str = "ukfilter", *, stage: bool = False
) -> WithProgress | int:
    """The same, and the value of --progress; that is no setting of the guest. A stage is always parsed."""
    words = grammar.spelled_out(words)
    got = grammar.read(words) or explained(words, called, stage)
    if isinstance(got, int):
        return got
    image, args, given = got
    return (image, args, grammar.to_options(given)), given["progress"]


def explained(words: list[str], called: str, stage: bool) -> grammar.Read | int:
    """What click makes of words: it knows more spellings, and what to say of a wrong one."""
    from ukfilter.cli import command
    from ukfilter.cli.invoke import invoke

    got = invoke(command.stage if stage else command.command, called, words)
    assert isinstance(got, (int, tuple))
    return got


def main(words: list[str], called: str = "ukfilter") -> int:
    """Parse and run, called by this name: ukfilter, or see solo5.py. Raises UkfilterError."""
    got = parse_with_progress(words, called)
    if isinstance(got, int):
        return got
    parsed, progress = got
    if called in solo5.TARGETS:
        solo5.stand_in(parsed[2], called)
    if progress is not None:
        from ukfilter.pipes.progress import is_on

        if is_on(progress):
            from ukfilter.cli.pipe import run_with_progress

            return run_with_progress(*parsed)
    if "/" in parsed[2].tender:
        from ukfilter.pipes.external import run_external

        return run_external(*parsed)
    run_here(*parsed)
