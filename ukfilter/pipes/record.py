"""How a guest or a command ended, as frozen records. Pure: report lines and wait statuses in, records out.

A status is a shell's: 128+n for death by signal n, and `signal` tells the two apart.
"""

from __future__ import annotations

import json
import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TIMED_OUT = 124  # as timeout(1)
LEFT = "left running: as another user's it cannot be signalled"


@dataclass(frozen=True)
class Figures:
    """What a guest did: bytes by its network devices, calls, exits to the tender, wall time (ms)."""

    bytes_in: int
    bytes_out: int
    hypercalls: int
    exits: int
    ms: float


@dataclass(frozen=True)
class Outcome:
    """The end of one guest or command.

    status: 0 to 255, 128+n for death by signal n, 124 for a time-out. figures is None for a command, and for
    a guest that was killed before it could tell. A command of which nobody can know how it ended, as SIGCHLD
    is ignored, has status 0 and a reason that says so. failed: it could not be started at all; the reason
    says why.
    left: it should have ended and runs on, as it became another user's (sudo) and may not be signalled.
    """

    name: str
    args: tuple[str, ...]
    status: int
    reason: str
    signal: int | None = None
    timed_out: bool = False
    figures: Figures | None = None
    failed: bool = False
    left: bool = False

    def __str__(self) -> str:
        text = f"status {self.status} ({self.reason})"
        f = self.figures
        if f is None:
            return text
        return (
            f"{text}, in {f.bytes_in} bytes, out {f.bytes_out} bytes,"
            f" {f.hypercalls} hypercalls, {f.exits} exits, {f.ms:.1f} ms"
        )


@dataclass(frozen=True)
class Completed:
    """A guest that ran to its end: its outcome, and what was captured of its output (None: it was not)."""

    outcome: Outcome
    stdout: bytes | None
    stderr: bytes | None

    @property
    def image(self) -> str:
        """The image, as it was given."""
        return self.outcome.name

    @property
    def args(self) -> tuple[str, ...]:
        """The guest's arguments."""
        return self.outcome.args

    @property
    def status(self) -> int:
        """As of Outcome."""
        return self.outcome.status

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        return self.outcome.signal

    @property
    def reason(self) -> str:
        """Why it ended, in words."""
        return self.outcome.reason

    @property
    def timed_out(self) -> bool:
        """Whether the time-out ended it."""
        return self.outcome.timed_out

    @property
    def figures(self) -> Figures | None:
        """What it did, if it came to tell."""
        return self.outcome.figures


def signal_name(number: int) -> str:
    """SIGKILL and the like; real-time signals have no name but their number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ended(name: str, args: Sequence[str], code: int | None, timed_out: bool = False) -> Outcome:
    """The outcome of a process of which only its wait status is known: -n for death by signal n.

    None, one that nobody can know: status 0, as subprocess has it, and a reason that says so.
    """
    if code is None and not timed_out:
        return Outcome(name, tuple(args), 0, "status unknown: SIGCHLD is ignored, or another reaped it")
    code = code or 0
    if code < 0:
        reason = "time-out" if timed_out else f"killed by {signal_name(-code)}"
        status = TIMED_OUT if timed_out else 128 - code
        return Outcome(name, tuple(args), status, reason, -code, timed_out)
    reason = "time-out" if timed_out else "exited"
    return Outcome(name, tuple(args), TIMED_OUT if timed_out else code, reason, None, timed_out)


def reported(name: str, args: Sequence[str], report: bytes, code: int, timed_out: bool = False) -> Outcome:
    """The outcome of a guest from its report (JSON objects, one a line) and its wait status.

    The report may be cut short anywhere: a killed tender cannot finish it.
    """
    for line in reversed(report.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        kind = event.get("event") if isinstance(event, dict) else None
        if kind == "failed":
            return Outcome(name, tuple(args), event["status"], event["message"], failed=True)
        if kind == "exit" and "status" in event:
            over = bool(event.get("timed_out"))
            figures = Figures(
                event["bytes_in"], event["bytes_out"], event["hypercalls"], event["exits"], event["ms"]
            )
            reason = event["reason"]
            return Outcome(name, tuple(args), event["status"], reason, None, over, figures)
    return ended(name, args, code, timed_out)


def pipeline_status(outcomes: Iterable[Outcome], pipefail: bool) -> Outcome:
    """The outcome that stands for the pipeline: the last; under pipefail the rightmost that is not 0."""
    every = tuple(outcomes)
    if pipefail:
        for outcome in reversed(every):
            if outcome.status:
                return outcome
    return every[-1]
