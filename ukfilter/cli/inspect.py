"""`ukfilter inspect IMAGE`: what an image is and needs, without running it."""

from __future__ import annotations

import json
import os
import struct

import click

from ukfilter.image import Image, open_image

SHT_SYMTAB = 2


def protection(flags: int) -> str:
    """`r-x` and the like of a segment's flags."""
    return "".join(c if flags & bit else "-" for c, bit in (("r", 4), ("w", 2), ("x", 1)))


def count_symbols(fd: int) -> int:
    """How many symbols a debugger finds; 0 in a stripped image. Layout: gABI, "Section Header".

    The loader never looks at sections: a table that is nonsense has no symbols.
    """
    header = os.pread(fd, 64, 0)
    (offset,) = struct.unpack_from("<Q", header, 40)
    size, count = struct.unpack_from("<HH", header, 58)
    if size != 64 or offset >= 1 << 62:
        return 0
    table = os.pread(fd, size * count, offset)
    total = 0
    for at in range(0, len(table) - size + 1, size):
        kind, _, _, _, length, _, _, _, each = struct.unpack_from("<IQQQQIIQQ", table, at + 4)
        if kind == SHT_SYMTAB and each:
            total += max(length // each - 1, 0)  # the first is a null entry
    return total


def describe(path: str, image: Image) -> dict[str, object]:
    """All that is known of the image at path, as JSON takes it; addresses and sizes in bytes."""
    return {
        "path": path,
        "target": image.target,
        "abi_version": image.abi_version,
        "entry": image.entry,
        "end": image.end,
        "symbols": count_symbols(image.fd),
        "segments": [
            {"address": s.addr, "size": s.memsz, "in_file": s.filesz, "protection": protection(s.flags)}
            for s in image.segments
        ],
        "devices": [
            {"name": d.name, "kind": d.kind, "handle": d.handle, "option": f"--{d.kind} {d.name}=..."}
            for d in image.devices
        ],
    }


def lines(image: Image) -> list[str]:
    """The same for a person."""
    out = [
        f"{image.path}: Solo5 image for {image.target}, ABI version {image.abi_version}",
        f"  entry 0x{image.entry:x}, memory to 0x{image.end:x}",
    ]
    for s in image.segments:
        out.append(
            f"  segment 0x{s.addr:08x}  {protection(s.flags)}  {s.memsz} bytes, {s.filesz} in the file"
        )
    for d in image.devices:
        out.append(
            f"  device {d.name} ({d.kind}): --{d.kind} {d.name}={'END' if d.kind == 'net' else 'PATH'}"
        )
    symbols = count_symbols(image.fd)
    out.append(f"  symbols {symbols}" if symbols else "  no symbols: it is stripped")
    if not image.devices:
        out.append("  no devices: it has the console alone")
    return out


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for a program.")
@click.argument("path", metavar="IMAGE")
def command(path: str, as_json: bool) -> None:
    """Say what IMAGE is and which devices it needs; any Solo5 target."""
    image = open_image(path)
    click.echo(json.dumps(describe(path, image), indent=2) if as_json else "\n".join(lines(image)))
