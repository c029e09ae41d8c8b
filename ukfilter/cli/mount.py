"""`ukfilter mount MOUNTPOINT NAME=IMAGE...` and `ukfilter umount MOUNTPOINT`."""

from __future__ import annotations

import os
import signal

import click

from ukfilter import devices, image
from ukfilter.cli.invoke import status_of
from ukfilter.errors import UkfilterError, UsageError, printable
from ukfilter.fs.config import SPOOL_DEFAULT, Filter, parse_spool, read_filters
from ukfilter.tender import options as values

EPILOG = """In the mount: NAME/in takes input, NAME/out and err give output, status a line on how it is,
wait the same once it is over, ctl takes kill, eof and forget. mkdir NAME/JOB makes a private job.

\b
Exit status: 0 once it is unmounted or ended by a signal; 125 if it cannot be mounted;
126 if an IMAGE cannot be run; 127 if there is none."""
# What fstab(5) may hold for mount(8) itself, beside what fs/mount.py drops.
FSTAB = ("auto", "noauto", "user", "users", "nouser", "nofail", "_netdev", "owner", "group")
MISSING = (
    "mount: pyfuse3 is not installed; install it: apt install libfuse3-dev pkg-config fuse3, then pip install"
)


def check(filters: list[Filter]) -> None:
    """That every image can be run with its settings. Raises UkfilterError."""
    for each in filters:
        options = each.options()
        devices.plan(image.look_at(each.image, options.mem), options)


@click.command(
    epilog=EPILOG, options_metavar="[OPTION...]", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--tender", metavar="auto|kvm|process", default="", help="What runs the guests.")
@click.option("-m", "--mem", metavar="SIZE", default="", help="Memory of a guest: 512M unless told.")
@click.option("-t", "--timeout", metavar="TIME", default="", help="End a job after TIME, with status 124.")
@click.option("--spool", metavar="SIZE", help="How much output a job may keep: 1G unless told.")
@click.option("--daemon", is_flag=True, help="Go to the background once it is ready.")
@click.option("--ready-fd", metavar="N", help="Write a line to descriptor N once it is ready.")
@click.option(
    "-o", "given", metavar="OPTION[,...]", multiple=True, help="Of the mount: allow_other and the like."
)
@click.argument("mountpoint", metavar="MOUNTPOINT")
@click.argument("words", metavar="NAME=IMAGE|FILE.toml...", nargs=-1, required=True)
def command(
    tender: str,
    mem: str,
    timeout: str,
    spool: str | None,
    daemon: bool,
    ready_fd: str | None,
    given: tuple[str, ...],
    mountpoint: str,
    words: tuple[str, ...],
) -> int:
    """Mount unikernels as files at MOUNTPOINT: write NAME/in, read NAME/out."""
    limit = parse_spool(spool) if spool else SPOOL_DEFAULT
    filters = read_filters(list(words), {"tender": tender, "mem": mem, "timeout": timeout}, limit)
    check(filters)
    fd = values.parse_descriptor(ready_fd, "--ready-fd") if ready_fd else -1
    try:
        from ukfilter.fs import mount
    except ImportError as e:
        if "pyfuse3" not in str(e):
            raise
        raise UkfilterError(f"{MISSING} 'ukfilter[fuse]'") from None
    if fd >= 0:
        mount.check_descriptor(fd)
    path = mount.check_mountpoint(mountpoint)

    names = ", ".join(f.name for f in filters)

    def ready() -> None:
        if fd >= 0:
            os.write(fd, b"ready\n")
            os.close(fd)
        elif not daemon:
            end = f"^C or ukfilter umount {printable(mountpoint)} ends it"
            mount.warn(f"{printable(mountpoint)}: ready, with {printable(names)}; {end}")

    # A guest may be gone while a client writes to it: EPIPE for that client, and no end of the mount.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if daemon:
        return mount.serve_in_background(path, filters, given, ready)
    mount.serve(path, filters, given, ready)
    return 0


def helper(words: list[str]) -> int:
    """As mount(8) calls its helper for the type fuse.ukfilter: SOURCE DIRECTORY [-sfnv] [-o OPTIONS].

    SOURCE is what `ukfilter mount` takes: NAME=IMAGE or a .toml file.
    """
    if len(words) < 2:
        raise UsageError("mount.fuse.ukfilter: which source and directory? mount(8) calls this")
    source, directory, *rest = words
    given = [rest[at + 1] for at, word in enumerate(rest[:-1]) if word == "-o"]
    options = [
        o for text in given for o in text.split(",") if o.partition("=")[0] not in FSTAB and o[:2] != "x-"
    ]
    mount = ["-o", ",".join(options)] if options else []
    return status_of(command, "ukfilter mount", ["--daemon", *mount, "--", directory, source])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint", metavar="MOUNTPOINT")
def umount(mountpoint: str) -> int:
    """End the mount at MOUNTPOINT, and its guests."""
    try:
        from ukfilter.fs import mount
    except ImportError:
        raise UkfilterError(f"{MISSING} 'ukfilter[fuse]'") from None
    mount.unmount(os.path.abspath(mountpoint))
    return 0
