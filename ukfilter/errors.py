"""What can go wrong, each with its exit status. The text of an error is the line that its user reads.

It names the object first, then what is wrong with it, then what to do; `ukfilter: ` is put before it at
the edge.
"""

from __future__ import annotations

import posix as os  # os itself takes 1.3 ms of each start, and has nothing more that is wanted here


class UkfilterError(Exception):
    """The base: ukfilter's own failure."""

    status = 125


class UsageError(UkfilterError):
    """The command line asks for something that cannot be."""


class DeviceError(UkfilterError):
    """A device cannot be attached as asked, or is not attached."""


class TenderError(UkfilterError):
    """The guest could not be started."""


class NoTenderError(TenderError):
    """This machine has no tender for the image."""

    status = 126


class ImageError(UkfilterError):
    """The image was found, but cannot be run."""

    status = 126


class ImageNotFoundError(ImageError):
    """There is no image of that name."""

    status = 127


def printable(text: str) -> str:
    """text in one line, whatever a hostile name holds: control characters and broken bytes escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def complain(text: str) -> None:
    """One line on descriptor 2; sys.stderr is None where that was closed, and nobody is left to tell."""
    try:  # noqa: SIM105, contextlib would be one more import
        os.write(2, f"ukfilter: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass
