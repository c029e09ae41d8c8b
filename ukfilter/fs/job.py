"""One run of a guest, as a state machine: who writes its input, how it ended, the line that says so. Pure.

running --last writer leaves, or `eof`--> draining --the guest ends--> over
   `------------- the guest ends, or cannot be started -----------------'
"""

from __future__ import annotations

from ukfilter.errors import UkfilterError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.pipes.record import Outcome

IDLE = "idle"
VERBS = ("kill", "eof", "forget")


class VerbError(UkfilterError):
    """What was written to `ctl` is no verb."""


class Job:
    """A run whose first writer is there already. Counts are bytes."""

    def __init__(self) -> None:
        self.writers = 1
        self.input_open = True
        self.bytes_in = self.bytes_out = 0
        self.outcome: Outcome | None = None
        self.full = False  # the guest waits, as its output is at the limit

    @property
    def state(self) -> str:
        """running, draining or over."""
        if self.outcome is not None:
            return "over"
        return "running" if self.input_open else "draining"

    @property
    def failed(self) -> bool:
        """Over, with a status other than 0."""
        return self.outcome is not None and self.outcome.status != 0

    def join(self) -> bool:
        """One more writer; False if the input is closed."""
        if not self.input_open or self.outcome is not None:
            return False
        self.writers += 1
        return True

    def leave(self) -> bool:
        """A writer is gone; True if that is the end of input."""
        self.writers -= 1
        return self.writers == 0 and self.end_input()

    def end_input(self) -> bool:
        """The end of input; True if it was still open."""
        was, self.input_open = self.input_open, False
        return was

    def finish(self, outcome: Outcome) -> None:
        """The guest is over; the first word on that is the last."""
        self.input_open = False
        if self.outcome is None:
            self.outcome = outcome

    def line(self) -> str:
        """The line of `status`: the state, then NAME=VALUE, the reason last as it has spaces."""
        text = f"{self.state} in={self.bytes_in} out={self.bytes_out}"
        if self.outcome is None:
            return text + (" waiting=the output is at its limit; read it" if self.full else "")
        ms = f" ms={self.outcome.figures.ms:.1f}" if self.outcome.figures else ""
        return f"{text} status={self.outcome.status}{ms} reason={printable(self.outcome.reason)}"


def parse_verbs(data: bytes) -> list[str]:
    """The verbs of a write to `ctl`, separated by white space. Raises VerbError for any other word."""
    words = data.decode(errors="replace").split()
    for word in words:
        if word not in VERBS:
            raise VerbError(f"ctl: {printable(word)} is none of {', '.join(VERBS)}")
    return words
