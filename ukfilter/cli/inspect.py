"""`ukfilter inspect IMAGE`: what an image is and needs, without running it."""

from __future__ import annotations

import json

import click

from ukfilter.image import Image, open_image


def protection(flags: int) -> str:
    """`r-x` and the like of a segment's flags."""
    return "".join(c if flags & bit else "-" for c, bit in (("r", 4), ("w", 2), ("x", 1)))


def describe(image: Image) -> dict[str, object]:
    """All that is known of image, as JSON takes it; addresses and sizes in bytes."""
    return {
        "path": image.path,
        "target": image.target,
        "abi_version": image.abi_version,
        "entry": image.entry,
        "end": image.end,
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
    if not image.devices:
        out.append("  no devices: it has the console alone")
    return out


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for a program.")
@click.argument("path", metavar="IMAGE")
def command(path: str, as_json: bool) -> None:
    """Say what IMAGE is and which devices it needs; any Solo5 target."""
    image = open_image(path)
    click.echo(json.dumps(describe(image), indent=2) if as_json else "\n".join(lines(image)))
