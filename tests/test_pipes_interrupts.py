"""^C, and whatever a handler of a signal raises: no guest, no descriptor, no wrong error is left by it."""

from __future__ import annotations

import sys

import pytest
from harness import EXAMPLES, GUESTS, run

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
    after = left()
    print(*ends, before == after or (before, after))

signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
trio.run(main, globals()[sys.argv[1]])
"""


@pytest.mark.parametrize("block", ["run", "guest", "pipeline"])
def test_an_interrupt_at_a_random_moment_leaves_nothing(block: str) -> None:
    got = run(sys.executable, "-c", RANDOM_MOMENTS, block, timeout=60)
    assert (got.out, got.err) == (b"KeyboardInterrupt True\n", b"")
