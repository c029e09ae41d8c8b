"""^C, and whatever a handler of a signal raises: no guest, no descriptor, no wrong error is left by it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import EXAMPLES, GUESTS, run
from test_pipes_guest import nothing_left  # noqa: F401

import ukfilter

pytestmark = pytest.mark.usefixtures("nothing_left")

# Prints what became of so many interrupted blocks: the exceptions, then children and descriptors left behind.
RANDOM_MOMENTS = f"""
import os, random, signal, sys, trio, ukfilter
CAT, SPIN = {str(EXAMPLES / "cat.hvt")!r}, {str(GUESTS / "spin.hvt")!r}

async def run():
    await ukfilter.run(CAT, input=bytes(100_000))

async def guest():
    async with ukfilter.open_guest(SPIN):
        await trio.sleep(0.002)

async def pipeline():
    async with ukfilter.open_pipeline([CAT, ["!", "cat"]]) as stages:
        await stages.stdin.send_all(b"text")
        await stages.stdin.aclose()
        await stages.wait()

def left():
    children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
    return children, sorted(os.listdir("/proc/self/fd"))

async def main(block):
    await block()
    moments, ends, before = random.Random(8), set(), left()
    for _ in range(120):
        try:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-4, 9e-3))
            await block()
            await trio.sleep(1)
        except BaseException as e:
            ends.add(type(e).__name__)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    await trio.sleep(0.5)
    after = left()
    print(*ends, before == after or (before, after))

signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
trio.run(main, globals()[sys.argv[1]])
"""


@pytest.mark.parametrize("block", ["run", "guest", "pipeline"])
def test_an_interrupt_at_a_random_moment_leaves_nothing(block: str) -> None:
    got = run(sys.executable, "-c", RANDOM_MOMENTS, block, timeout=60)
    assert (got.out, got.err) == (b"KeyboardInterrupt True\n", b"")


class Stop(Exception):
    """What a handler raises."""


@pytest.fixture
def stopping() -> Iterator[None]:
    """SIGALRM and SIGTERM are told by exceptions, as programs have it for time-outs and for their end."""

    def stop(number: int, _: object) -> None:
        raise Stop(signal.Signals(number).name)

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGALRM, signal.SIGTERM)]
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("stopping")
def test_what_a_handler_raises_ends_the_guest_of_run_sync(guest: Callable[[str], Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        start = time.monotonic()
        with pytest.raises(Stop, match="SIGALRM"):
            ukfilter.run_sync(guest("spin"), timeout=60)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(Stop, match="SIGTERM"):
            ukfilter.run_sync(guest("spin"), timeout=60)
        timer.join()
    assert time.monotonic() - start < 30
    assert ukfilter.run_sync(EXAMPLES / "cat.hvt", input=b"x").stdout == b"x"


@pytest.mark.usefixtures("stopping")
@pytest.mark.filterwarnings("error")
def test_a_handler_that_raises_at_a_random_moment_leaves_nothing() -> None:
    def once(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        ukfilter.run_sync(EXAMPLES / "cat.hvt", input=bytes(100_000))
        time.sleep(1)

    ukfilter.run_sync(EXAMPLES / "cat.hvt")  # what is imported is by now
    for n in range(1, 101):
        with pytest.raises(Stop):
            once(n * 1e-4)
