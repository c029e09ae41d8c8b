"""Network interfaces of the kind tap, which somebody has made and given to this user."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from ukfilter.errors import DeviceError

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
SIOCGIFMTU, SIOCGIFHWADDR = 0x8921, 0x8927  # linux/sockios.h
IFNAMSIZ = 16
REASONS = {
    errno.EPERM: "is not yours; make it so: ip tuntap add {} mode tap user $USER",
    errno.EBUSY: "is in use by another program",
    errno.EINVAL: "is a network interface, but no tap with one queue; make one: ip tuntap add NAME mode tap",
}


def _ask(name: str, request: int) -> bytes:
    """The answer, behind the name, to one of the requests of netdevice(7). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, request, struct.pack("16s24x", name.encode()))[IFNAMSIZ:]


def is_interface(name: str) -> bool:
    """Whether the end called name is a network interface, in this namespace; a path has a slash."""
    try:
        return "/" not in name and bool(socket.if_nametoindex(name))
    except (OSError, ValueError):
        return False


def address_and_mtu(name: str) -> tuple[bytes, int]:
    """What a guest at the tap called name is to be told: six bytes, and bytes a message.

    The address is made from the interface's own, which stays the host's: a bridge drops a frame that
    comes from its own address. Raises OSError.
    """
    mac = bytearray(_ask(name, SIOCGIFHWADDR)[2:8])
    mac[0] |= 2
    mac[-1] ^= 1
    (mtu,) = struct.unpack_from("i", _ask(name, SIOCGIFMTU))
    return bytes(mac), int(mtu)


def open_tap(name: str, shown: str) -> int:
    """A descriptor of the tap called name: one frame a read, without a header. Raises DeviceError."""
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
