"""`ukfilter [OPTION...] IMAGE [ARG...]`: the options of the main job."""

from __future__ import annotations

from typing import cast

import click

from ukfilter import __version__
from ukfilter.cli import solo5
from ukfilter.cli.invoke import invoke
from ukfilter.image import ABI_VERSIONS
from ukfilter.tender import options as values
from ukfilter.tender import run_here

COLON_OPTIONS = ("--net", "--net-mac", "--net-mtu", "--block", "--block-sector-size")
OPTIONAL = {"--trace": "", "--progress": "auto"}
Parsed = tuple[str, list[str], values.Options]
WithProgress = tuple[Parsed, str | None]
EPILOG = """Other commands, each with -h: run (this one, spelled out), pipe, map,
mount, umount, inspect, doctor, binfmt.

\b
Exit status: the guest's own; 125 ukfilter's own failure or wrong usage;
126 IMAGE cannot be run; 127 IMAGE not found; 128+n killed by signal n."""


def with_colons(words: list[str]) -> list[str]:
    """Solo5's spelling `--net:NAME=END` as `--net NAME=END`, up to the first word of no option."""
    out: list[str] = []
    for at, word in enumerate(words):
        if word in OPTIONAL:  # its value is optional, so it must stand in the same word
            out.append(f"{word}={OPTIONAL[word]}")
            continue
        option, colon, rest = word.partition(":")
        if word == "--" or not word.startswith("-"):
            if out and out[-1] in TAKING_VALUE and word != "--":
                out.append(word)
                continue
            return [*out, *words[at:]]
        out += [option, rest] if colon and option in COLON_OPTIONS else [word]
    return out


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


@click.command(
    context_settings={"ignore_unknown_options": False, "help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
    options_metavar="[OPTION...]",
)
@click.option("-m", "--mem", metavar="SIZE", help="Guest memory: 512M unless told, up to 4G.")
@click.option(
    "--tender", metavar="auto|kvm|process|PATH", help="What runs the guest; PATH: solo5-hvt or solo5-spt."
)
@click.option(
    "--net",
    "nets",
    multiple=True,
    metavar="NAME=END",
    help="Attach a network device: @FD, - (stdin and stdout), or a path. Also --net:NAME=END.",
)
@click.option("--net-mtu", "mtus", multiple=True, metavar="NAME=N", help="The MTU it is told.")
@click.option("--net-mac", "macs", multiple=True, metavar="NAME=MAC", help="The address it is told.")
@click.option(
    "--block",
    "blocks",
    multiple=True,
    metavar="NAME=PATH[,ro]",
    help="Attach a file or disk as block device.",
)
@click.option(
    "--block-sector-size", "sectors", multiple=True, metavar="NAME=N", help="Bytes a sector: 512 unless told."
)
@click.option("--console", metavar="WHERE", help="stdout, stderr, null or a path.")
@click.option("--eof", metavar="MODE", help="auto, zero, halt, error or again.")
@click.option("--drain", metavar="TIME", help="How long a guest may wait at end of input: 1s.")
@click.option("-t", "--timeout", metavar="TIME", help="End the guest after TIME, with status 124.")
@click.option("-k", "--kill-after", metavar="TIME", help="As timeout(1) has it; a guest ends at once anyway.")
@click.option("--status-fd", metavar="N", help="Write JSON to descriptor N: start, and end with figures.")
@click.option(
    "--trace",
    metavar="[=PATH]",
    is_flag=False,
    flag_value="",
    help="One line a hypercall, to standard error or to PATH.",
)
@click.option("--dumpcore", metavar="DIR", help="If the guest aborts, write its core there, for gdb.")
@click.option("--exitless", metavar="WHEN", help="Serve hypercalls without an exit: auto, on or off.")
@click.option("--progress", metavar="[=WHEN]", help="Show bytes, rate and time: auto, always or never.")
@click.option("--no-quiet", is_flag=True, help="Let Solo5 print its banner.")
@click.option("--stats", is_flag=True, help="Print figures on stderr at the end.")
@click.option("-v", "--verbose", count=True, help="Say more.")
@click.option("-q", "--quiet", "silent", is_flag=True, help="Say nothing but errors.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Say which."
)
@click.argument("image", metavar="IMAGE")
@click.argument("args", nargs=-1, metavar="[ARG...]", type=click.UNPROCESSED)
def command(image: str, args: tuple[str, ...], progress: str | None, **given: object) -> WithProgress:
    """Run the unikernel IMAGE as a filter: stdin is its input, stdout its output.

    All that follows IMAGE is the guest's.
    """
    return (image, list(args), to_options(given)), progress


command.allow_interspersed_args = False
TAKING_VALUE = frozenset(
    name
    for p in command.params
    if isinstance(p, click.Option) and not (p.is_flag or p.count)
    for name in p.opts
)


def _pairs(given: object, what: str) -> dict[str, str]:
    assert isinstance(given, tuple)
    return dict(values.parse_assignment(text, what) for text in given)


def to_options(given: dict[str, object]) -> values.Options:
    """Options from what click parsed. Raises UsageError."""
    options = values.options_from_env()
    text = {key: value for key, value in given.items() if isinstance(value, str)}
    if "mem" in text:
        options.mem = values.parse_size(text["mem"])
    if "tender" in text:
        options.tender = values.parse_tender(text["tender"])
    if "eof" in text:
        options.eof = values.parse_choice(text["eof"], values.EOF_MODES, "--eof")
    if "drain" in text:
        options.drain = values.parse_time(text["drain"])
    if "timeout" in text:
        options.timeout = values.parse_time(text["timeout"], "--timeout")
    if "kill_after" in text:
        values.parse_time(text["kill_after"], "--kill-after")
    if "status_fd" in text:
        options.status_fd = values.parse_descriptor(text["status_fd"], "--status-fd")
    options.dumpcore = text.get("dumpcore")
    if "exitless" in text:
        options.exitless = values.parse_choice(text["exitless"], values.EXITLESS, "--exitless")
    options.trace = text.get("trace")
    options.console = text.get("console")
    options.nets = _pairs(given["nets"], "--net")
    mtus, macs = _pairs(given["mtus"], "--net-mtu"), _pairs(given["macs"], "--net-mac")
    options.mtus = {name: values.parse_mtu(value) for name, value in mtus.items()}
    options.macs = {name: values.parse_mac(value) for name, value in macs.items()}
    options.blocks = _pairs(given["blocks"], "--block")
    sectors = _pairs(given["sectors"], "--block-sector-size")
    options.sector_sizes = {name: values.parse_sector_size(value) for name, value in sectors.items()}
    options.quiet = not given["no_quiet"]
    silent = bool(given["silent"])
    options.stats = bool(given["stats"]) and not silent
    options.verbose = 0 if silent else int(str(given["verbose"]))
    return options


def parse(words: list[str]) -> Parsed | int:
    """The image, its arguments, the options; or a status, once -h or --version has been answered.

    Raises UsageError.
    """
    parsed = parse_with_progress(words)
    return parsed if isinstance(parsed, int) else parsed[0]


def parse_with_progress(words: list[str], called: str = "ukfilter") -> WithProgress | int:
    """The same, and the value of --progress; that is no setting of the guest."""
    parsed = invoke(command, called, with_colons(words))
    return parsed if isinstance(parsed, int) else cast(WithProgress, parsed)


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
