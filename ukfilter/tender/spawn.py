"""A tender in a child: forked without exec, with only C after the fork, and watched by its pidfd."""

from __future__ import annotations

import os

from ukfilter.errors import TenderError
from ukfilter.tender import _core  # noqa: F401  # now: with no descriptor left it could not be loaded
from ukfilter.tender.guest import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.tender.options import Options


class Child:
    """A guest that runs in a child of this process.

    pidfd is readable once it is over; reap it by os.waitid(os.P_PIDFD, pidfd, os.WEXITED). report_fd
    is the read end of a pipe, non-blocking, of JSON objects, one a line: see README, --status-fd.
    """

    __slots__ = ("path", "pid", "pidfd", "report_fd")

    def __init__(self, path: str, pid: int, pidfd: int, report_fd: int) -> None:
        self.path, self.pid, self.pidfd, self.report_fd = path, pid, pidfd, report_fd

    def close(self) -> None:
        """Close pidfd and report_fd. The child goes on, if it is not over."""
        for fd in (self.pidfd, self.report_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.report_fd = -1


def spawn(path: str, args: list[str], options: Options, *, stdin: int, stdout: int, stderr: int) -> Child:
    """Run the image at path in a child, which has these three as its descriptors 0, 1 and 2.

    The caller keeps them, and closes its own. The child dies with the thread that calls this. Raises
    UkfilterError if the guest cannot be laid out; what fails later is told through report_fd.
    """
    standard = (stdin, stdout, stderr)
    guest = Guest(path, args, options, standard)
    try:
        report, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(report, False)
            guest.raw.report_fd = theirs
            pidfd = guest.ffi.new("int32_t *")
            pid = guest.lib.uk_guest_spawn(guest.raw, guest.ffi.new("int32_t[3]", standard), pidfd)
            if pid < 0:
                raise guest.failure()
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(theirs)
    except OSError as e:
        raise TenderError(f"{guest.path}: cannot spawn the guest: {e.strerror}") from None
    finally:
        guest.close()
    return Child(guest.path, pid, pidfd[0], report)
