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
SECTOR_SIZE = 512
SPT_DEVICE_FD = 1000  # and the handle: what a guest of spt takes for a descriptor (core.h)
MAC_PREFIX = b"\x02ukf\0"  # a locally administered address; the handle follows


class Net:
    """A network device that is attached. end is `-`, a standard name, `@FD`, an interface or a path.

    mac and mtu are None until told: a tap has its own, see ends.py.
    """

    __slots__ = ("end", "handle", "mac", "mtu", "name")

    def __init__(self, name: str, handle: int, end: str, mac: bytes | None, mtu: int | None) -> None:
        self.name, self.handle, self.end, self.mac, self.mtu = name, handle, end, mac, mtu


class Block:
    """A block device that is attached to the file or device at path; sector_size in bytes."""

    __slots__ = ("capacity", "handle", "name", "path", "read_only", "sector_size")

    def __init__(self, name: str, handle: int, path: str, read_only: bool, sector_size: int) -> None:
        self.name, self.handle, self.path = name, handle, path
        self.read_only, self.sector_size = read_only, sector_size
        self.capacity = 0  # bytes; known once it is open


class Plan:
    """All that is attached. console is `stdout`, `stderr`, `null` or a path."""

    __slots__ = ("blocks", "console", "nets")

    def __init__(self, nets: list[Net], blocks: list[Block], console: str) -> None:
        self.nets, self.blocks, self.console = nets, blocks, console


def plan(image: Image, options: Options) -> Plan:
    """Attach image's devices as options say. Raises DeviceError."""
    networks = [d for d in image.devices if d.kind == "net"]
    disks = [d for d in image.devices if d.kind == "block"]
    for name in (*options.nets, *options.mtus, *options.macs):
        _require(name, networks, "network", image)
    for name in (*options.blocks, *options.sector_sizes):
        _require(name, disks, "block", image)
    nets = [_attach(d, networks, image, options) for d in networks]
    blocks = [_attach_block(d, image, options) for d in disks]
    data_on_stdout = any(n.name == "stdout" or n.end in ("stdout", "@1") for n in nets)
    default = "stderr" if data_on_stdout else "stdout"
    return Plan(nets, blocks, options.console or default)


def _require(name: str, devices: list[Device], kind: str, image: Image) -> None:
    if any(d.name == name for d in devices):
        return
    names = ", ".join(d.name for d in devices) or "none"
    message = f"{image.path}: has no {kind} device {printable(name)}; it has: {names}"
    raise DeviceError(message)


def _attach_block(device: Device, image: Image, options: Options) -> Block:
    value = options.blocks.get(device.name)
    if value is None:
        raise DeviceError(
            f"{image.path}: the block device {device.name} is not attached;"
            f" attach it with --block {device.name}=PATH, or PATH,ro"
        )
    path, read_only = (value[:-3], True) if value.endswith(",ro") else (value, False)
    size = options.sector_sizes.get(device.name, SECTOR_SIZE)
    return Block(device.name, device.handle, path, read_only, size)


def _attach(device: Device, networks: list[Device], image: Image, options: Options) -> Net:
    end = options.nets.get(device.name)
    if end is None and options.attach_standard and device.name in STANDARD:
        end = device.name
    elif end is None and options.attach_standard and len(networks) == 1:
        end = STDIO
    elif end is None:
        raise DeviceError(
            f"{image.path}: the network device {device.name} is not attached;"
            f" attach it with --net {device.name}=@FD, --net {device.name}=-, a tap's name or a path"
        )
    mac, mtu = options.macs.get(device.name), options.mtus.get(device.name)
    return Net(device.name, device.handle, end, mac, mtu)


def manifest_bytes(image: Image, attached: Plan) -> bytes:
    """The manifest as the guest gets it: struct mft of Solo5's mft_abi.h, devices filled in."""
    numbers: Mapping[str, int] = {kind: number for number, kind in KINDS.items()}
    out = bytearray(struct.pack("<II", 1, len(image.devices) + 1) + bytes(ENTRY_SIZE))
    struct.pack_into("<I", out, 8 + 68, RESERVED_FIRST)
    for device in image.devices:
        out += struct.pack("<68sI32x", device.name.encode(), numbers[device.kind])
    for net in attached.nets:
        at = 8 + ENTRY_SIZE * net.handle
        mac = net.mac or MAC_PREFIX + bytes((net.handle,))
        struct.pack_into("<6sH", out, at + 72, mac, net.mtu or MTU_DEFAULT)
        out[at + 96] = 1
        _put_descriptor(out, image, net.handle)
    for block in attached.blocks:
        at = 8 + ENTRY_SIZE * block.handle
        struct.pack_into("<QH", out, at + 72, block.capacity, block.sector_size)
        out[at + 96] = 1
        _put_descriptor(out, image, block.handle)
    return bytes(out)


def _put_descriptor(out: bytearray, image: Image, handle: int) -> None:
    if image.target == "spt":
        struct.pack_into("<Q", out, 8 + ENTRY_SIZE * handle + 88, SPT_DEVICE_FD + handle)
