"""Network interfaces of the kind tap, which somebody has made and given to this user."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ukfilter.errors import DeviceError

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
IFNAMSIZ = 16
REASONS = {
    errno.EPERM: "is not yours; make it so: ip tuntap add {} mode tap user $USER",
    errno.EBUSY: "is in use by another program",
    errno.EINVAL: "has several queues, or another kind; a tap with one queue is needed",
}


def attribute(name: str, what: str) -> str:
    """A line of /sys/class/net/NAME. Raises OSError."""
    with open(f"/sys/class/net/{name}/{what}", encoding="ascii") as f:
        return f.read().strip()


def is_interface(name: str) -> bool:
    """Whether the end called name is a network interface; one that is a path has a slash."""
    return "/" not in name and os.path.exists(f"/sys/class/net/{name}")


def address_and_mtu(name: str) -> tuple[bytes, int]:
    """What a guest at the tap called name is to be told: six bytes, and bytes a message.

    The address is made from the interface's own, which stays the host's: a bridge drops a frame that
    comes from its own address. Raises OSError.
    """
    mac = bytearray(int(part, 16) for part in attribute(name, "address").split(":"))
    mac[0] |= 2
    mac[-1] ^= 1
    return bytes(mac), int(attribute(name, "mtu"))


def open_tap(name: str, shown: str) -> int:
    """A descriptor of the tap called name: one frame a read, without a header. Raises DeviceError."""
    try:
        flags = int(attribute(name, "tun_flags"), 16)
    except (OSError, ValueError):
        flags = 0
    if not flags & IFF_TAP:
        raise DeviceError(
            f"{shown}: is a network interface, but no tap; make one: ip tuntap add NAME mode tap"
        )
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise DeviceError(f"{shown}: cannot open {TUN}: {e.strerror}; see ukfilter doctor") from None
    request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI)
    try:
        fcntl.ioctl(fd, TUNSETIFF, request)
    except OSError as e:
        os.close(fd)
        reason = REASONS.get(e.errno or 0, f"cannot be attached: {e.strerror}").format(name)
        raise DeviceError(f"{shown}: {reason}") from None
    return fd
