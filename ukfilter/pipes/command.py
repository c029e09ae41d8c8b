"""An ordinary command as a stage of a pipeline."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence

from ukfilter.errors import printable
from ukfilter.pipes.errors import CommandError
from ukfilter.pipes.process import Running
from ukfilter.pipes.record import Outcome, ended

PR_SET_PDEATHSIG = 1  # prctl(2)


class RunningCommand(Running):
    """A running command."""

    def __init__(self, args: tuple[str, ...], process: subprocess.Popen[bytes]) -> None:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            pidfd = -1  # over and reaped, by the kernel where SIGCHLD is ignored
        super().__init__(str(process.args[0]), args, process.pid, pidfd)  # type: ignore[index]
        self._process = process
        if pidfd < 0:
            self._outcome = self._conclude(None)

    def _conclude(self, code: int | None) -> Outcome:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        # Reaped here; Popen would warn of a child that nobody waited for. A status that cannot be known is 0
        # as Popen has it, and no failure that is made up.
        self._process.returncode = code or 0
        return ended(self.name, self.args, code, self.timed_out)


def _tie() -> Callable[[], None]:
    """What a child runs before exec, so that it does not outlive us."""
    import ctypes  # only for a pipeline with commands in it

    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)

    return tie


def start_command(
    name: str,
    args: tuple[str, ...],
    tied: bool,
    stdin: int,
    stdout: int,
    stderr: int,
    others: Sequence[int] = (),
    fixed: Sequence[int] | None = None,
) -> RunningCommand:
    """Start a command with these descriptors, and others by their own numbers.

    fixed: descriptors whose flags it cannot change, see fixed_flags.py; it is then a process group of its
    own. Raises CommandError with a shell's statuses: 127 not found, 126 not to be run.
    """
    before = [_tie()] if tied else []
    if fixed is not None:
        from ukfilter.pipes.fixed_flags import fixing  # only for a foreign tender

        before.append(fixing(fixed))
    try:
        process = subprocess.Popen(
            [name, *args],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=(lambda: [act() for act in before]) if before else None,
            pass_fds=others,
            process_group=None if fixed is None else 0,
        )
    except FileNotFoundError:
        raise CommandError(f"{printable(name)}: no such command", 127) from None
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else "an argument has a NUL in it"
        raise CommandError(f"{printable(name)}: cannot run it: {reason}", 126) from None
    except subprocess.SubprocessError:  # of what is done before exec, seccomp alone can fail
        reason = "the kernel has no seccomp filters, or takes no more"
        raise CommandError(f"{printable(name)}: cannot run it: {reason}", 126) from None
    try:
        return RunningCommand(args, process)
    except OSError as e:
        process.kill()
        process.wait()
        raise CommandError(f"{printable(name)}: cannot watch it: {e.strerror}", 126) from None
