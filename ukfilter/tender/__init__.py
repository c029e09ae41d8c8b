"""One guest, running: lay it out, then become its tender; or spawn one that does (spawn.py).

Here is the direct path: what it imports is its users' start-up time, so it imports next to nothing.
"""

from __future__ import annotations

import posix as os  # not os: see __main__.py

from ukfilter.tender.guest import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ukfilter.tender.options import Options


def fill_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, put a descriptor there that fails as a closed one does.

    Otherwise the image or the virtual processor would get that number, and the guest's output with it.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", mode)


def run_here(path: str, args: list[str], options: Options) -> NoReturn:
    """Become the tender of the image at path: this process ends with the guest's status.

    Raises UkfilterError if the guest cannot be started; nothing has been read or written then.
    """
    fill_standard_descriptors()
    guest = Guest(path, args, options)
    guest.run_here()
    raise guest.failure()
