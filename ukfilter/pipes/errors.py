"""What a guest's end can raise: the record is in the error, and so is all output that was captured."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

from ukfilter.errors import TenderError, UkfilterError, printable
from ukfilter.pipes.record import Completed, Outcome

LINE_MAX = 200  # characters of what a guest said, in the text of an error
TAIL = 4096  # bytes of it that are looked at: all may be a gigabyte, without a newline


def last_line(said: bytes) -> str:
    """The last line that is not empty, fit to be shown."""
    lines = said[-TAIL:].strip().splitlines() or [b""]
    text = lines[-1].decode(errors="replace")
    return printable(text if len(text) <= LINE_MAX else text[:LINE_MAX] + "...")


class GuestError(UkfilterError):
    """A guest or a stage ended with a status other than 0.

    status: the guest's, as of Outcome; stage: its place in the pipeline from 1 on, None outside of one;
    outcomes: of every stage; completed: what `run` would have returned.
    """

    def __init__(
        self,
        outcome: Outcome,
        *,
        stage: int | None = None,
        outcomes: Sequence[Outcome] = (),
        completed: Completed | None = None,
    ) -> None:
        self.outcome, self.image, self.status = outcome, outcome.name, outcome.status
        self.stage, self.outcomes, self.completed = stage, tuple(outcomes) or (outcome,), completed
        super().__init__(self._text())

    def __reduce__(self) -> tuple[object, ...]:
        make = functools.partial(
            type(self), stage=self.stage, outcomes=self.outcomes, completed=self.completed
        )
        return make, (self.outcome,), vars(self)

    def _text(self) -> str:
        text = printable(self.image)
        if self.stage is not None:
            text = f"stage {self.stage} of {len(self.outcomes)}: {text}"
        if self.outcome.failed or self.outcome.left:
            return f"{text}: {self.outcome.reason}"
        text += f": ended with status {self.status} ({self.outcome.reason})"
        said = last_line(self.completed.stderr or b"") if self.completed else ""
        if said:
            text += f"; it said: {said}"
        if self.stage is not None:
            text += f"; all stages: {' '.join(str(o.status) for o in self.outcomes)}"
        return text


class GuestTimeoutError(GuestError):
    """Its time was over; status 124."""


class CommandError(UkfilterError):
    """An ordinary command could not be started: 127 where there is none of that name, else 126."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.status), vars(self)


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """What the system refuses in this block, descriptors for one, is a TenderError about name."""
    try:
        yield
    except OSError as e:
        raise TenderError(f"{printable(name)}: cannot be started: {e.strerror}") from None


def first_of(group: BaseException) -> BaseException:
    """An exception of a group, which is as good as all of them: a user is told of one."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


@contextlib.contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """If a nursery raises a group, and all of it is of these kinds, the first comes out of this block bare.

    Trap: what is raised in an `except*` is put in a group again by Debian 12's Python, 3.11.2.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(kinds)[1]:
            raise
        raise first_of(group) from None


def failure(
    outcome: Outcome,
    *,
    stage: int | None = None,
    outcomes: Sequence[Outcome] = (),
    completed: Completed | None = None,
) -> GuestError:
    """The error for an outcome that is not good."""
    kind = GuestTimeoutError if outcome.timed_out else GuestError
    return kind(outcome, stage=stage, outcomes=outcomes, completed=completed)
