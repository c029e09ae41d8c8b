"""What is attached to which manifest entry. Pure: names and numbers; tender/ends.py opens them."""

from __future__ import annotations

import struct

from ukfilter.errors import DeviceError, printable
from ukfilter.image import ENTRY_SIZE, KINDS, RESERVED_FIRST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ukfilter.image import Device, Image
    from ukfilter.tender.options import Options

STANDARD = ("stdin", "stdout", "stderr")
STDIO = "-"  # reads from stdin, writes to stdout
MTU_DEFAULT = 1500
MAC_PREFIX = b"\x02ukf\0"  # a locally administered address; the handle follows


class Net:
    """A network device that is attached. end is `-`, a standard name, `@FD` or a path."""

    __slots__ = ("end", "handle", "mac", "mtu", "name")

    def __init__(self, name: str, handle: int, end: str, mac: bytes, mtu: int) -> None:
        self.name, self.handle, self.end, self.mac, self.mtu = name, handle, end, mac, mtu


class Plan:
    """All that is attached. console is `stdout`, `stderr`, `null` or a path."""

    __slots__ = ("console", "nets")

    def __init__(self, nets: list[Net], console: str) -> None:
        self.nets, self.console = nets, console


def plan(image: Image, options: Options) -> Plan:
    """Attach image's devices as options say. Raises DeviceError."""
    networks = [d for d in image.devices if d.kind == "net"]
    for name in (*options.nets, *options.mtus, *options.macs):
        _require(name, networks, image)
    blocks = [d for d in image.devices if d.kind == "block"]
    if blocks:
        raise DeviceError(
            f"{image.path}: needs the block device {blocks[0].name};"
            " this version attaches network devices only"
        )
    nets = [_attach(d, networks, image, options) for d in networks]
    default = "stderr" if any("stdout" in (n.name, n.end) for n in nets) else "stdout"
    return Plan(nets, options.console or default)


def _require(name: str, networks: list[Device], image: Image) -> None:
    if any(d.name == name for d in networks):
        return
    names = ", ".join(d.name for d in networks) or "none"
    message = f"{image.path}: has no network device {printable(name)}; it has: {names}"
    raise DeviceError(message)


def _attach(device: Device, networks: list[Device], image: Image, options: Options) -> Net:
    end = options.nets.get(device.name)
    if end is None and device.name in STANDARD:
        end = device.name
    elif end is None and len(networks) == 1:
        end = STDIO
    elif end is None:
        raise DeviceError(
            f"{image.path}: the network device {device.name} is not attached;"
            f" attach it with --net {device.name}=@FD, --net {device.name}=- or a path"
        )
    mac = options.macs.get(device.name, MAC_PREFIX + bytes((device.handle,)))
    return Net(device.name, device.handle, end, mac, options.mtus.get(device.name, MTU_DEFAULT))


def manifest_bytes(image: Image, attached: Plan) -> bytes:
    """The manifest as the guest gets it: struct mft of Solo5's mft_abi.h, devices filled in."""
    numbers: Mapping[str, int] = {kind: number for number, kind in KINDS.items()}
    out = bytearray(struct.pack("<II", 1, len(image.devices) + 1) + bytes(ENTRY_SIZE))
    struct.pack_into("<I", out, 8 + 68, RESERVED_FIRST)
    for device in image.devices:
        out += struct.pack("<68sI32x", device.name.encode(), numbers[device.kind])
    for net in attached.nets:
        at = 8 + ENTRY_SIZE * net.handle
        struct.pack_into("<6sH", out, at + 72, net.mac, net.mtu)
        out[at + 96] = 1
    return bytes(out)
