"""What a program may say of a guest: each value is checked here, and refused by the name of its argument."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from ukfilter.errors import UsageError, printable
from ukfilter.tender import options as values
from ukfilter.tender.options import Options

Image = str | os.PathLike[str]
"""The path of a unikernel's image."""
Check = Callable[[str, object], object]


class GuestOptions(TypedDict, total=False):
    """A guest's settings by keyword; what is left out is as UKFILTER_MEM and UKFILTER_TENDER have it.

    mem: bytes, or a text as of --mem; drain and timeout: seconds, no timeout being 0 or None; mtus in bytes,
    macs six bytes each; quiet: let Solo5 print no banner; the rest as the options of those names.
    """

    tender: str
    mem: int | str
    nets: Mapping[str, str]
    mtus: Mapping[str, int]
    macs: Mapping[str, bytes]
    blocks: Mapping[str, Image]
    sector_sizes: Mapping[str, int]
    console: Image | None
    eof: str
    drain: float
    timeout: float | None
    quiet: bool


def to_options(given: GuestOptions) -> Options:
    """Options from keywords. Raises UsageError for a value that cannot be."""
    options = values.options_from_env()
    unknown = given.keys() - CHECKS
    if unknown:
        raise TypeError(f"no such option of a guest: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        setattr(options, name, CHECKS[name](name, value))
    return options


def to_seconds(name: str, value: object) -> float:
    """A time; None is 0. Raises UsageError."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise _wrong(name, value, "a number of seconds, 0 or more")
    return float(value)


def to_path(name: str, value: object) -> str:
    """A file's path. Raises UsageError."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    return _text(name, path, "a path: a text or a Path")


def to_words(name: str, given: Iterable[object]) -> tuple[str, ...]:
    """The arguments of a program. Raises UsageError."""
    return tuple(_text(name, word, "a text") for word in given)


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"{name}: {printable(reprlib.repr(value))} is not {wanted}")


def _text(name: str, value: object, wanted: str) -> str:
    """A text that the kernel can be given."""
    if not isinstance(value, str):
        raise _wrong(name, value, wanted)
    try:
        values.encode(value)
    except UnicodeError:
        raise _wrong(name, value, "a text of this machine's encoding") from None
    return value


def _mem(name: str, value: object) -> int:
    if not isinstance(value, int):
        return values.parse_size(str(value), name)
    if not values.MEM_MIN <= value <= values.MEM_MAX:
        raise UsageError(f"{name}: {reprlib.repr(value)} is out of range; a guest has 2M to 4G")
    return value & -4096


def _mac(name: str, value: object) -> bytes:
    if not isinstance(value, bytes | bytearray) or len(value) != 6 or value[0] & 1:
        raise _wrong(name, value, "six bytes of a unicast address")
    return bytes(value)


def _whole(parse: Callable[[str, str], int], wanted: str) -> Check:
    """A number that parse takes; the option's own reading of it is the one that says which."""

    def check(name: str, value: object) -> int:
        if type(value) is not int:
            raise _wrong(name, value, wanted)
        return parse(reprlib.repr(value), name)

    return check


def _choice(choices: tuple[str, ...]) -> Check:
    return lambda name, value: values.parse_choice(str(value), choices, name)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


def _each(check: Check) -> Check:
    def checked(name: str, value: object) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise _wrong(name, value, "a mapping from devices' names")
        return {
            _text(name, device, "a device's name"): check(f"{name}: {device}", each)
            for device, each in value.items()
        }

    return checked


CHECKS: dict[str, Check] = {
    "tender": _choice(values.TENDERS),
    "mem": _mem,
    "nets": _each(lambda name, value: _text(name, value, "a text, as of --net")),
    "mtus": _each(_whole(values.parse_mtu, "a number of bytes")),
    "macs": _each(_mac),
    "blocks": _each(to_path),
    "sector_sizes": _each(_whole(values.parse_sector_size, "a number of bytes")),
    "console": lambda name, value: None if value is None else to_path(name, value),
    "eof": _choice(values.EOF_MODES),
    "drain": to_seconds,
    "timeout": to_seconds,
    "quiet": _flag,
}
