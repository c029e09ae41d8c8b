"""What a user may say of one guest, and how the values of options are read.

Pure, and without imports of weight: the direct path uses it for its defaults.
"""

from __future__ import annotations

import posix as os  # not os: see __main__.py
import sys

from ukfilter.errors import UsageError, printable
from ukfilter.image import MEMORY_MAX

EOF_MODES = ("auto", "zero", "halt", "error", "again")  # the order of enum uk_eof in core.h
TENDERS = ("auto", "kvm", "process")
EXITLESS = ("auto", "on", "off")  # the order of enum uk_exitless
MEM_DEFAULT = 512 << 20
MEM_MIN, MEM_MAX = 2 << 20, MEMORY_MAX
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's least; the manifest has 16 bits for it
UNITS = {"k": 10, "m": 20, "g": 30}
TIME_UNITS = {"us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Options:
    """One guest's settings; mem in bytes, drain and timeout in seconds (0: no limit), macs six bytes each.

    trace is a path, empty for standard error. targets: the images that may run. attach_standard: a device
    that is not attached may be standard input and output. exitless_limit: seconds that a guest waits for an
    exitless hypercall, so that a test can force the races; 0: by the cost of an exit.
    """

    def __init__(self) -> None:
        self.tender = "auto"
        self.mem = MEM_DEFAULT
        self.nets: dict[str, str] = {}
        self.mtus: dict[str, int] = {}
        self.macs: dict[str, bytes] = {}
        self.blocks: dict[str, str] = {}
        self.sector_sizes: dict[str, int] = {}
        self.console: str | None = None
        self.eof = "auto"
        self.drain = 1.0
        self.quiet = True
        self.verbose = 0
        self.stats = False
        self.timeout = 0.0
        self.status_fd: int | None = None
        self.trace: str | None = None
        self.dumpcore: str | None = None
        self.targets: tuple[str, ...] = ("hvt", "spt")
        self.attach_standard = True
        self.exitless = "auto"
        self.exitless_limit = 0.0


def encode(text: str) -> bytes:
    """A word of the command line as it was before Python decoded it: os.fsencode."""
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def from_env(name: str) -> str | None:
    """The value of a variable of the environment."""
    value = os.environ.get(encode(name))
    return None if value is None else value.decode(sys.getfilesystemencoding(), "surrogateescape")


def options_from_env() -> Options:
    """The defaults, as UKFILTER_MEM, _TENDER and _EXITLESS change them. Raises UsageError."""
    options = Options()
    mem = from_env("UKFILTER_MEM")
    if mem:
        options.mem = parse_size(mem, "UKFILTER_MEM")
    tender = from_env("UKFILTER_TENDER")
    if tender:
        options.tender = parse_tender(tender, "UKFILTER_TENDER")
    exitless = from_env("UKFILTER_EXITLESS")
    if exitless:
        options.exitless = parse_choice(exitless, EXITLESS, "UKFILTER_EXITLESS")
    limit = from_env("UKFILTER_EXITLESS_LIMIT")
    if limit:
        options.exitless_limit = parse_time(limit, "UKFILTER_EXITLESS_LIMIT")
    return options


def parse_tender(text: str, what: str = "--tender") -> str:
    """auto, kvm, process, or the path, with a slash, of a tender of Solo5's."""
    return text if "/" in text else parse_choice(text, TENDERS, what)


def parse_choice(text: str, choices: tuple[str, ...], what: str) -> str:
    """text, if it is one of choices."""
    if text not in choices:
        raise UsageError(f"{what}: {printable(text)} is none of {', '.join(choices)}")
    return text


def parse_size(text: str, what: str = "--mem") -> int:
    """Bytes of guest memory, as 512M or 1G; a bare number is MB, as in Solo5."""
    number, unit = text, 20
    suffix = text[-1:].lower()
    if suffix in UNITS:
        number, unit = text[:-1], UNITS[suffix]
    if not (number.isascii() and number.isdecimal()) or len(number) > 12:
        raise UsageError(f"{what}: {printable(text)} is not a size; write it as 512M or 1G")
    size = int(number) << unit
    if not MEM_MIN <= size <= MEM_MAX:
        raise UsageError(f"{what}: {printable(text)} is out of range; a guest has 2M to 4G")
    return size & -4096


def parse_bytes(text: str, what: str, least: int = 1) -> int:
    """Bytes, as 64K or 2G; a bare number is bytes."""
    unit = UNITS.get(text[-1:].lower(), 0)
    number = text[:-1] if unit else text
    decimal = number.isascii() and number.isdecimal() and len(number) <= 12
    if not decimal or not least <= int(number) << unit <= 1 << 50:
        raise UsageError(
            f"{what}: {printable(text)} is not a size of {least} bytes or more; write it as 64K or 2G"
        )
    return int(number) << unit


def parse_time(text: str, what: str = "--drain") -> float:
    """Seconds, as 2, 1.5s, 200ms, 1m, 1h."""
    for unit in ("us", "ms", "s", "m", "h", "d", ""):
        if text.endswith(unit):
            break
    number = text[: len(text) - len(unit)]
    try:
        if not number.replace(".", "", 1).isdecimal() or not number.isascii():
            raise ValueError
        seconds = float(number) * TIME_UNITS.get(unit, 1.0)
        if seconds > 1e9:
            raise ValueError
    except ValueError:
        message = f"{what}: {printable(text)} is not a time; write it as 2s or 200ms"
        raise UsageError(message) from None
    return seconds


def parse_descriptor(text: str, what: str) -> int:
    """The number of a descriptor."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise UsageError(f"{what}: {printable(text)} is not a descriptor; write it as 3")
    return int(text)


def parse_mac(text: str, what: str = "--net-mac") -> bytes:
    """Six bytes, as 02:00:00:00:00:01; a unicast address."""
    parts = text.split(":")
    try:
        mac = bytes(int(p, 16) for p in parts if len(p) == 2 and p.isascii() and p.isalnum())
    except ValueError:
        mac = b""
    if len(parts) != 6 or len(mac) != 6:
        raise UsageError(f"{what}: {printable(text)} is not an address like 02:00:00:00:00:01")
    if mac[0] & 1:
        raise UsageError(f"{what}: {printable(text)} is a multicast address, not a device's")
    return mac


def parse_mtu(text: str, what: str = "--net-mtu") -> int:
    """Bytes a message."""
    number = text.isascii() and text.isdecimal() and len(text) <= 5
    if not number or not MTU_MIN <= int(text) <= MTU_MAX:
        raise UsageError(f"{what}: {printable(text)} is not an MTU, {MTU_MIN} to {MTU_MAX}")
    return int(text)


def parse_sector_size(text: str, what: str = "--block-sector-size") -> int:
    """Bytes: a power of two, 512 or more (Solo5's rule); the manifest has 16 bits for it."""
    size = int(text[:9]) if text.isascii() and text.isdecimal() else 0
    if not 512 <= size <= 32768 or size & size - 1:
        raise UsageError(f"{what}: {printable(text)} is not a power of two, 512 to 32768")
    return size


def parse_assignment(text: str, what: str) -> tuple[str, str]:
    """NAME and VALUE of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise UsageError(f"{what}: {printable(text)} is not of the form NAME=VALUE")
    return name, value
