"""A process that runs: wait for it by its pidfd, end it, reap it.

Nothing watches it in the background: who waits, reaps; who leaves the scope, ends and reaps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import resource
import signal
import threading
import time
from abc import ABC, abstractmethod

import trio

from ukfilter.errors import UkfilterError
from ukfilter.pipes.record import LEFT, Outcome

LET_GO_SECONDS = 0.5  # that what we may not signal has to end of itself: its ends are closed, or soon will be
REAP_SECONDS = 10.0  # after SIGKILL: what the kernel does not let go must not hold its scope for ever
LOOK = 0.01  # seconds between two looks at whether those are over


def die_of(number: int) -> None:
    """End this program by a signal, as a single filter in its place would be; no core is dumped."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


def _reap_later(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


class Running(ABC):
    """A guest or an ordinary command."""

    def __init__(self, name: str, args: tuple[str, ...], pid: int, pidfd: int) -> None:
        self.name, self.args, self.pid = name, args, pid
        self.timed_out = False  # set by who ends it for that reason
        self._pidfd = pidfd
        self._lock = trio.Lock()
        self._waiting = trio.CancelScope()
        self._patience = math.inf  # trio's clock
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None as long as that has not been waited for."""
        return self._outcome

    @abstractmethod
    def _conclude(self, code: int | None) -> Outcome:
        """The outcome, from a wait status: -n for death by signal n. Closes what is left open.

        None: nobody can know it any more. SIGCHLD is ignored, or another part of this program reaped it.
        """

    async def started(self) -> None:
        """Wait until it runs. Raises UkfilterError if it turns out that it cannot."""
        await trio.lowlevel.checkpoint_if_cancelled()

    async def wait(self) -> Outcome:
        """Wait for its end. Any number of tasks may; to cancel it ends nothing."""
        await trio.lowlevel.checkpoint()
        async with self._lock:
            while self._outcome is None:
                with trio.CancelScope(deadline=self._patience) as self._waiting:
                    await trio.lowlevel.wait_readable(self._pidfd)
                self._reap()
                if self._outcome is None and self._waiting.cancelled_caught:
                    self._let_go()
        return self._outcome

    @trio.lowlevel.enable_ki_protection  # a number of a descriptor that is closed must not be kept
    def _reap(self) -> None:
        code: int | None = None
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            if found is None:
                return
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        self._outcome = self._conclude(code)

    @trio.lowlevel.enable_ki_protection
    def _let_go(self) -> None:
        """It runs on, and is nobody's but for a thread that reaps it one day."""
        threading.Thread(target=_reap_later, args=(self.pid,), daemon=True).start()
        outcome = self._conclude(UkfilterError.status)
        self._outcome = dataclasses.replace(outcome, reason=LEFT, left=True)

    def is_over(self) -> bool:
        """Whether it has ended by now, waited for or not."""
        if self._outcome is not None:
            return True
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PIDFD, self._pidfd, flags) is not None
        except ChildProcessError:
            return True

    def send_signal(self, number: int) -> None:
        """Send a signal; none once it is over. Its pid cannot have been given to another meanwhile.

        Raises PermissionError for a command that has become another user's.
        """
        if self._outcome is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End it at once, by SIGKILL; wait() tells when that is done, or cannot be: see Outcome.left."""
        self.end_by(signal.SIGKILL)

    def end_by(self, number: int) -> None:
        """Send a signal that is to end it; where that is not allowed, wait() is over soon."""
        try:
            self.send_signal(number)
        except PermissionError:  # sudo, and what else becomes root
            self._patience = min(self._patience, trio.current_time() + LET_GO_SECONDS)
            self._waiting.deadline = self._patience

    @trio.lowlevel.enable_ki_protection
    async def end(self) -> None:
        """Kill and reap it, whatever was cancelled; ^C is raised when that is done."""
        interrupt: KeyboardInterrupt | None = None
        self.kill()
        until = time.monotonic() + REAP_SECONDS  # trio's clock may be a test's, and run ahead
        while self._outcome is None and time.monotonic() < until:
            try:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + LOOK):
                    await self.wait()
            except KeyboardInterrupt as e:
                interrupt = e
        if interrupt is not None:
            raise interrupt
