"""`ukfilter map -j N IMAGE [ARG...]`: the blocks of standard input, each through a guest of its own."""

from __future__ import annotations

import os
import signal

import click
import trio

from ukfilter import image as images
from ukfilter.cli import run
from ukfilter.errors import UkfilterError, UsageError, complain, printable
from ukfilter.pipes.blocks import Cutter, parse_record_end
from ukfilter.pipes.errors import ungrouped
from ukfilter.pipes.map import Block, Mapper, Totals, read_blocks
from ukfilter.pipes.pipeline import Stage
from ukfilter.pipes.process import die_of
from ukfilter.pipes.record import Outcome
from ukfilter.tender import options as values

SHARED = ("mem", "tender", "eof", "drain", "timeout", "console")
JOBS_MAX = 1000
EPILOG = """Records stay whole: a block ends at a record end, or with the input. The outputs come in the
order of the blocks. A block whose guest fails is named, and ends it all.

\b
  ukfilter map -j 4 --block 4M --ok 1 grep.hvt needle < big"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG, options_metavar="[OPTION...]"
)
@click.option("-j", "--jobs", metavar="N", help="Guests at a time: as many as processors unless told.")
@click.option("--block", metavar="SIZE", default="1M", help="Bytes a block, about: 1M unless told.")
@click.option("--recend", metavar="BYTES", default="\\n", help="What ends a record: '\\n' unless told.")
@click.option("--keep-going", is_flag=True, help="Go on after a block that failed.")
@click.option("--ok", metavar="N[,N...]", help="Statuses beside 0 that are no failure.")
@click.option("--stats", is_flag=True, help="Print at the end how many blocks there were.")
@click.option("-t", "--timeout", metavar="TIME", help="End a guest after TIME; its status is 124.")
@click.option("-m", "--mem", metavar="SIZE", help="Memory of each guest.")
@click.option("--tender", metavar="auto|kvm|process", help="What runs the guests.")
@click.option("--eof", metavar="MODE", help="auto, zero, halt, error or again.")
@click.option("--drain", metavar="TIME", help="How long a guest may wait at end of input: 1s.")
@click.option(
    "--console",
    metavar="WHERE",
    type=click.Choice(["stdout", "stderr", "null"]),
    help="Where guests write their logs: stdout, stderr or null.",
)
@click.argument("image", metavar="IMAGE")
@click.argument("args", nargs=-1, metavar="[ARG...]", type=click.UNPROCESSED)
def command(image: str, args: tuple[str, ...], **given: object) -> int:
    """Run the unikernel IMAGE on each block of standard input, several at a time."""
    shared = [word for name in SHARED if given[name] is not None for word in (f"--{name}", str(given[name]))]
    parsed = run.parse([*shared, "--", image, *args])
    if isinstance(parsed, int):
        return parsed
    jobs = parse_jobs(given["jobs"])
    fine = parse_statuses(given["ok"])
    cutter = Cutter(
        values.parse_bytes(str(given["block"]), "--block"), parse_record_end(str(given["recend"]))
    )
    images.look_at(parsed[0], parsed[2].mem)  # also where there will be no block to run it on
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a guest that takes no more input is within its rights
    mapper = Mapper(Stage.of(*parsed), jobs, fine, bool(given["keep_going"]), tell)
    totals = trio.run(supervise, mapper, cutter)
    if given["stats"]:
        complain(f"{printable(image)}: {totals.blocks} blocks, {len(totals.failed)} failed")
    return totals.status


command.allow_interspersed_args = False


async def supervise(mapper: Mapper, cutter: Cutter) -> Totals:
    """Standard input to standard output."""
    try:
        with ungrouped(UkfilterError, OSError):
            return await mapper.run(read_blocks(0, cutter), 1)
    except BrokenPipeError:  # who read us is gone: our end, as a filter's is
        die_of(signal.SIGPIPE)
        raise


def parse_jobs(text: object) -> int:
    """Guests at a time. Raises UsageError."""
    if text is None:
        return len(os.sched_getaffinity(0))
    word = str(text)
    if not (word.isascii() and word.isdecimal() and len(word) <= 4 and 1 <= int(word) <= JOBS_MAX):
        raise UsageError(f"--jobs: {printable(word)} is not a number from 1 to {JOBS_MAX}")
    return int(word)


def parse_statuses(text: object) -> frozenset[int]:
    """Statuses that are no failure. Raises UsageError."""
    words = str(text).split(",") if text else []
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) <= 3 and int(word) <= 255):
            raise UsageError(f"--ok: {printable(word)} is not a status, 0 to 255")
    return frozenset((0, *map(int, words)))


def tell(block: Block, outcome: Outcome) -> None:
    """The line of a block that failed."""
    where = f"block {block.number} (bytes {block.start} to {block.start + len(block.data)})"
    complain(f"{where}: {printable(outcome.name)}: status {outcome.status} ({printable(outcome.reason)})")
