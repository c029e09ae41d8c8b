"""Stages joined directly by pipes: guests, and ordinary commands between them.

Stages are started from the last to the first: until the first runs none has had any input, so a pipeline
that cannot be started has consumed nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Unpack

import trio

from ukfilter.errors import UkfilterError, UsageError
from ukfilter.pipes.command import start_command
from ukfilter.pipes.errors import failure, starting
from ukfilter.pipes.guest import Guest, start_guest
from ukfilter.pipes.process import Running
from ukfilter.pipes.record import Outcome, pipeline_status
from ukfilter.pipes.scope import Scope, oversee
from ukfilter.pipes.settings import GuestOptions, Image, to_options, to_path, to_seconds, to_words
from ukfilter.pipes.streams import PIPE, End, Ends, Input, Output, close_all
from ukfilter.tender.options import Options

GRACE = 0.03  # seconds that guests get to end themselves by their own time-out, and to tell their figures


class Stage:
    """A guest of a pipeline: image, arguments, and settings as of `open_guest`. Raises UsageError."""

    def __init__(self, image: Image, *args: str, **options: Unpack[GuestOptions]) -> None:
        self.name, self.args = to_path("image", image), to_words("args", args)
        self.options = to_options(options)

    @classmethod
    def of(cls, image: Image, args: Sequence[str], options: Options) -> Stage:
        """The same from options that are at hand."""
        stage = cls(image, *args)
        stage.options = options
        return stage


class Command:
    """An ordinary command of a pipeline, found by PATH. Raises UsageError.

    tied: the kernel kills it when the thread that started it ends. That runs a little Python between fork
    and exec, so it is for programs of one thread.
    """

    def __init__(self, name: Image, *args: str, tied: bool = False) -> None:
        self.name, self.args, self.tied = to_path("name", name), to_words("args", args), tied


AnyStage = Stage | Command | Image | Sequence[str]
Joint = Callable[[int, int, int], None]
"""Called with a stage's index and the two ends, in and out, between which it shall carry bytes; owns both."""


def to_stage(given: AnyStage) -> Stage | Command:
    """A stage from what stands for one: an image, or its words; after a word `!` an ordinary command's."""
    if isinstance(given, Stage | Command):
        return given
    if isinstance(given, str | os.PathLike):
        return Stage(given)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise UsageError(f"stages: a {type(given).__name__} is no stage; it is an image or a list of words")
    words = list(given)
    if words[:1] == ["!"]:
        if len(words) < 2:
            raise UsageError("a stage has no command after its `!`")
        return Command(*words[1:])
    if not words:
        raise UsageError("a stage is empty; it needs an IMAGE, or `!` and a command")
    return Stage(*words)


class Pipeline:
    """A running pipeline: stdin is the first stage's, stdout the last's, None where handed over."""

    def __init__(self, stages: Sequence[Running], ends: Ends) -> None:
        self.stages = tuple(stages)
        self.stdin: Input | Any = ends.input
        self.stdout: Output | Any = ends.output
        self.stderr: Output | Any = ends.errors
        self.timed_out = False
        self._watch = trio.CancelScope()

    async def wait(self, *, check: bool = False, pipefail: bool = True) -> tuple[Outcome, ...]:
        """Wait for every stage; their outcomes in order, as PIPESTATUS has statuses.

        With check, raises GuestError (GuestTimeoutError for a time-out) if a stage's status is not 0: it
        names the rightmost that failed, or with pipefail off looks at the last alone.
        """
        outcomes = tuple([await stage.wait() for stage in self.stages])
        self.timed_out |= any(o.timed_out for o in outcomes)
        if check:
            bad = pipeline_status(outcomes, pipefail)
            if bad.status:
                stage = max(i for i, o in enumerate(outcomes, 1) if o is bad)
                raise failure(bad, stage=stage, outcomes=outcomes)
        return outcomes

    def kill(self) -> None:
        """End every stage at once."""
        for stage in self.stages:
            stage.kill()

    def close_streams(self) -> None:
        """Close our ends, without a checkpoint."""
        close_all(self.stdin, self.stdout, self.stderr)

    async def leave(self) -> None:
        """Close our ends, end every stage and reap it."""
        self.close_streams()
        self._watch.cancel()
        await _end_all(self.stages)

    def limit(self, deadline: float, kill_after: float | None) -> None:
        """Have enforce() done, as long as nobody leaves."""
        self._watch = oversee(functools.partial(self.enforce, deadline, kill_after))

    async def enforce(self, deadline: float, kill_after: float | None) -> None:
        """At deadline (trio's clock) end guests, and commands by SIGTERM, kill_after seconds later by SIGKILL

        A guest has the same deadline in its own tender, which tells its figures; here is who makes sure.
        """
        await trio.sleep_until(deadline)
        self.timed_out = not all(stage.is_over() for stage in self.stages)
        commands = [s for s in self.stages if not isinstance(s, Guest)]
        for stage in commands:
            stage.timed_out = not stage.is_over()
            stage.end_by(signal.SIGTERM)
            stage.end_by(signal.SIGCONT)  # a stopped one could not die
        await trio.sleep(GRACE)
        for stage in self.stages:
            if isinstance(stage, Guest):
                stage.timed_out = not stage.is_over()
                stage.kill()
        if kill_after is not None:
            await trio.sleep(max(0.0, kill_after - GRACE))
            for stage in commands:
                stage.kill()


async def _end_all(stages: Sequence[Running]) -> None:
    async with contextlib.AsyncExitStack() as stack:  # each of them, whatever the one before it raises
        for stage in stages:
            stack.push_async_callback(stage.end)
        for stage in stages:
            stage.kill()


def _start(stage: Stage | Command, timeout: float | None, stdin: int, stdout: int, stderr: int) -> Running:
    if isinstance(stage, Command):
        return start_command(stage.name, stage.args, stage.tied, stdin, stdout, stderr)
    options = copy.copy(stage.options)
    if timeout is not None:
        options.timeout = min(timeout, options.timeout or timeout)
    return start_guest(stage.name, stage.args, options, stdin, stdout, stderr)


@contextlib.contextmanager
def _naming(at: int, total: int) -> Iterator[None]:
    """What goes wrong in this block is of stage number at, from 0 on."""
    try:
        yield
    except UkfilterError as e:
        if total > 1:
            e.args = (f"stage {at + 1} of {total}: {e}",)
        raise


async def _start_all(
    stages: Sequence[Stage | Command],
    ends: Ends,
    timeout: float | None,
    joint: Joint | None,
    running: list[Running],
) -> None:
    """Start stages, from the last to the first, into running; all others run when the first is started."""
    joints: list[tuple[int, int, int]] = []
    total = len(stages)
    with starting("pipeline"), contextlib.ExitStack() as pipes, contextlib.ExitStack() as joined:

        def own(fd: int, owner: contextlib.ExitStack = pipes) -> int:
            owner.callback(os.close, fd)
            return fd

        def pipe() -> tuple[int, int]:
            source, sink = os.pipe2(os.O_CLOEXEC)
            return own(source), own(sink)

        out = ends.stdout
        for at in range(total - 1, -1, -1):
            into, upstream = (ends.stdin, -1) if at == 0 else pipe()
            if joint is not None:
                source, (into, sink) = into, pipe()
                joints.append((at, own(os.dup(source), joined), own(os.dup(sink), joined)))
            if at == 0:
                await _all_run(running, total)
            with _naming(at, total):
                running.insert(0, _start(stages[at], timeout, into, out, ends.stderr))
            out = upstream
        await _all_run(running, total)
        joined.pop_all()
    for each in joints:
        assert joint is not None
        joint(*each)


async def _all_run(running: Sequence[Running], total: int) -> None:
    for at, stage in enumerate(running, total - len(running)):
        with _naming(at, total):
            await stage.started()


def open_pipeline(
    stages: Sequence[AnyStage],
    *,
    stdin: End = PIPE,
    stdout: End = PIPE,
    stderr: End = None,
    timeout: float | None = None,
    kill_after: float | None = None,
    joint: Joint | None = None,
) -> Scope[Pipeline]:
    """Run stages, each one's output being the next one's input; leaving the block ends them all, always.

    A stage is an image, a list of an image and its arguments, a list of `!` and an ordinary command's words,
    a Stage (with settings) or a Command. Nothing sits between two stages but a pipe, so one that goes away
    ends those before it by SIGPIPE. stdin, stdout, stderr: as of open_guest; all stages share stderr.
    After timeout seconds guests are ended at once and commands get SIGTERM, kill_after seconds later SIGKILL;
    what they ended has status 124. joint: see Joint; it puts something between each stage and its input.

    Raises UkfilterError, naming the stage, if one cannot be started: then none has read any input.
    """

    async def start() -> Pipeline:
        if isinstance(stages, str | bytes) or not isinstance(stages, Iterable):
            raise UsageError("stages: not a list of stages; a single one goes in a list, too")
        return await _start_pipeline(list(stages), (stdin, stdout, stderr), timeout, kill_after, joint)

    return Scope(start)


async def _start_pipeline(
    given: Sequence[AnyStage],
    standard: tuple[End, End, End],
    timeout: float | None,
    kill_after: float | None,
    joint: Joint | None,
) -> Pipeline:
    stages = [to_stage(s) for s in given]
    if not stages:
        raise UsageError("a pipeline needs a stage")
    timeout = to_seconds("timeout", timeout) or None  # as timeout(1): 0 is none
    kill_after = None if kill_after is None else to_seconds("kill_after", kill_after)
    began = trio.current_time()
    running: list[Running] = []
    try:
        with starting("pipeline"), Ends(*standard) as ends:
            await _start_all(stages, ends, timeout, joint, running)
    except BaseException:
        await _end_all(running)
        raise
    pipeline = Pipeline(running, ends)
    if timeout is not None:
        pipeline.limit(began + timeout, kill_after)
    return pipeline
