"""`ukfilter pipe IMAGE [ARG...] '|' IMAGE ...`: a whole pipeline in one command."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

import click
import trio

from ukfilter.cli import grammar, run
from ukfilter.cli.invoke import status_of
from ukfilter.errors import UkfilterError, UsageError, complain, printable
from ukfilter.pipes.pipeline import Command, Stage, open_pipeline
from ukfilter.pipes.process import die_of
from ukfilter.pipes.record import TIMED_OUT, Outcome, pipeline_status, signal_name
from ukfilter.tender import fill_standard_descriptors
from ukfilter.tender import options as values
from ukfilter.tender.ends import NO_MESSAGES, keeps_messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.pipes.progress import Display

BAR = "|"
SHARED = ("mem", "tender", "eof", "drain")
EPILOG = """A stage is what may follow `ukfilter`: options, IMAGE, arguments; the first one's own options come
after a `--`. A stage that begins with `!` is an ordinary command. Quote the bars, or the shell takes them.

\b
  ukfilter pipe cat.hvt '|' grep.hvt foo '|' ! sort '|' wc.hvt -l"""


def split(words: Sequence[str]) -> list[list[str]]:
    """The words of each stage. Raises UsageError for one that is empty."""
    stages: list[list[str]] = [[]]
    for word in words:
        if word == BAR:
            stages.append([])
        else:
            stages[-1].append(word)
    for at, stage in enumerate(stages, 1):
        if stage in ([], ["!"]):
            what = "has no command after its `!`" if stage else "is empty"
            raise UsageError(f"pipe: stage {at} of {len(stages)} {what}; see ukfilter pipe -h")
    return stages


def to_stage(words: list[str], shared: list[str]) -> Stage | Command:
    """A stage from its words; shared: options for every guest, which its own override. Raises UsageError."""
    if words[0] == "!":
        return Command(*words[1:], tied=True)
    parsed = run.parse_with_progress([*shared, *words], stage=True)
    assert not isinstance(parsed, int)
    (image, args, options), progress = parsed
    for name, value in (("--status-fd", options.status_fd), ("--progress", progress)):
        if value is not None:
            raise UsageError(
                f"pipe: {name} is no option of a stage; --stats and --progress go before the stages"
            )
    return Stage.of(image, args, options)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
    options_metavar="[OPTION...]",
)
@click.option("--pipefail", is_flag=True, help="Status of the rightmost stage that failed, not of the last.")
@click.option("--stats", is_flag=True, help="Print each stage's outcome on stderr at the end.")
@click.option("-t", "--timeout", metavar="TIME", help="End all after TIME, with status 124.")
@click.option("-k", "--kill-after", metavar="TIME", help="Kill a command that SIGTERM did not end by then.")
@click.option("-m", "--mem", metavar="SIZE", help="Memory of each guest.")
@click.option("--tender", metavar="auto|kvm|process", help="What runs the guests.")
@click.option("--eof", metavar="MODE", help="auto, zero, halt, error or again, for each guest.")
@click.option("--drain", metavar="TIME", help="How long a guest may wait at end of input: 1s.")
@click.option("--progress", metavar="[=WHEN]", help="Show each stage's progress: auto, always or never.")
@click.option("-q", "--quiet", "silent", is_flag=True, help="Say nothing but errors.")
@click.argument("words", nargs=-1, metavar="STAGE ['|' STAGE]...", type=click.UNPROCESSED, required=True)
def command(words: tuple[str, ...], **given: object) -> int:
    """Run unikernels, and ordinary commands, each one's output being the next one's input.

    The status is the last stage's.
    """
    shared = [word for name in SHARED if given[name] is not None for word in (f"--{name}", str(given[name]))]
    stages = [to_stage(stage, shared) for stage in split(words)]
    timeout, kill_after = (
        None if given[name] is None else values.parse_time(str(given[name]), f"--{name.replace('_', '-')}")
        for name in ("timeout", "kill_after")
    )
    mode = given["progress"]
    display = make_display(stages) if progress_is_on(None if mode is None else str(mode)) else None
    outcomes, timed_out = trio.run(supervise, stages, timeout, kill_after, display)
    tell(outcomes, bool(given["stats"] and not given["silent"]))
    check_input(display)
    return TIMED_OUT if timed_out else end_as(pipeline_status(outcomes, bool(given["pipefail"])))


command.allow_interspersed_args = False


def progress_is_on(mode: str | None) -> bool:
    """Whether to draw. Raises UsageError."""
    if mode is None:
        return False
    from ukfilter.pipes.progress import is_on  # it loads tqdm

    return is_on(mode)


def make_display(stages: Sequence[Stage | Command]) -> Display:
    """A display of stages; from now on a broken pipe is an error of ours, and not the end of us.

    Raises UsageError for an input that a pump would change.
    """
    from ukfilter.pipes.progress import Display

    if keeps_messages(0) != NO_MESSAGES:
        raise UsageError(
            "--progress: standard input has messages, whose bounds a pump would lose; leave it out"
        )
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return Display([stage.name for stage in stages])


def check_input(display: Display | None) -> None:
    """Raises UkfilterError if a pump could not read its input to the end."""
    for at, meter in enumerate(display.meters if display else (), 1):
        if meter.error:
            raise UkfilterError(f"input of stage {at}: cannot carry it: {meter.error}")


def run_with_progress(image: str, args: list[str], options: values.Options) -> int:
    """A single filter with a line of progress; returns its status. Raises UkfilterError."""
    if options.status_fd is not None:
        raise UsageError("--progress: cannot be had together with --status-fd; leave one out")
    fill_standard_descriptors()
    stages = [Stage.of(image, args, options)]
    display = make_display(stages)
    outcomes, _ = trio.run(supervise, stages, None, None, display)
    if outcomes[0].failed:
        raise UkfilterError(outcomes[0].reason)
    check_input(display)
    return end_as(outcomes[0])


async def supervise(
    stages: Sequence[Stage | Command],
    timeout: float | None,
    kill_after: float | None,
    display: Display | None,
) -> tuple[tuple[Outcome, ...], bool]:
    """Run stages between our own ends; the outcomes, and whether time ran out."""
    async with open_pipeline(
        stages,
        stdin=None,
        stdout=None,
        timeout=timeout,
        kill_after=kill_after,
        joint=display.joint if display else None,
    ) as pipeline:
        give_away_standard_ends()
        with display.drawn() if display else contextlib.nullcontext():
            return await pipeline.wait(), pipeline.timed_out


def give_away_standard_ends() -> None:
    """Let the stages alone have our ends: who writes to us shall see SIGPIPE once the first is gone."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def tell(outcomes: Sequence[Outcome], stats: bool) -> None:
    """A line a stage, on stderr: for all under --stats, else for those of whose end nobody has told."""
    for at, outcome in enumerate(outcomes, 1):
        killed = outcome.signal not in (None, signal.SIGPIPE) and not outcome.timed_out
        name = printable(outcome.name)
        if stats:
            complain(f"stage {at}: {name}: {outcome}")
        elif outcome.failed:
            complain(f"stage {at}: {printable(outcome.reason)}")
        elif outcome.left:
            complain(f"stage {at}: {name}: {outcome.reason}")
        elif killed and outcome.signal is not None:
            complain(f"stage {at}: {name}: killed by {signal_name(outcome.signal)}")


def end_as(outcome: Outcome) -> int:
    """The outcome's status; where a signal ended it, die by the same one, as for a single filter."""
    if outcome.signal is not None:
        die_of(outcome.signal)
    return outcome.status


def kinds() -> dict[str, tuple[str, int]]:
    """What the command's own options take, for grammar.spelled_out()."""
    options = [p for p in command.params if isinstance(p, click.Option)]
    taken = {
        spelling: ("", grammar.FLAG if p.is_flag else grammar.ONE) for p in options for spelling in p.opts
    }
    return {**taken, "--progress": grammar.KINDS["--progress"]}


def main(words: list[str]) -> int:
    """Parse and run. Raises UkfilterError."""
    return status_of(command, "ukfilter pipe", grammar.spelled_out(words, kinds()))
