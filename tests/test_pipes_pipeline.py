"""Pipelines of real guests and ordinary commands, by the API."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness
import pytest
import trio
from harness import GUESTS, run, sh
from test_pipes_guest import children, descriptors, nothing_left  # noqa: F401

import ukfilter
import ukfilter.pipes.pipeline
import ukfilter.pipes.streams

pytestmark = pytest.mark.usefixtures("nothing_left")
Image = Callable[[str], Path]


async def through(stages: list[ukfilter.pipes.pipeline.AnyStage], data: bytes) -> tuple[bytes, list[int]]:
    """What comes out of stages for data, and each one's status."""
    out = bytearray()

    async def feed(stream: ukfilter.pipes.streams.Input) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
        await stream.aclose()

    with trio.fail_after(120):
        async with ukfilter.open_pipeline(stages) as pipeline, trio.open_nursery() as nursery:
            assert pipeline.stdin and pipeline.stdout and pipeline.stderr is None
            nursery.start_soon(feed, pipeline.stdin)
            async for piece in pipeline.stdout:
                out += piece
            outcomes = await pipeline.wait()
    return bytes(out), [o.status for o in outcomes]


@pytest.mark.trio
async def test_ten_megabytes_through_five_stages_as_the_shell_has_it(image: Image, tmp_path: Path) -> None:
    words = random.Random(5)
    data = b"".join(b"%d foo %x\n" % (words.getrandbits(60), words.getrandbits(200)) for _ in range(130_000))
    data = data[:10_000_000]
    assert len(data) > 9_000_000
    stages = [image("cat"), [image("grep"), "foo"], image("upper"), [image("grep"), "-v", "FF"], image("rev")]
    got, statuses = await through([[str(w) for w in s] if isinstance(s, list) else s for s in stages], data)
    (tmp_path / "in").write_bytes(data)
    ours = "cat.hvt | ukfilter $E/grep.hvt foo | ukfilter $E/upper.hvt | ukfilter $E/grep.hvt -v FF"
    shell = sh(f"ukfilter $E/{ours} | ukfilter $E/rev.hvt", stdin=data, timeout=120)
    peer = sh("cat | grep -aF foo | tr a-z A-Z | grep -avF FF | rev", stdin=data, timeout=120)
    assert shell.out == peer.out and len(peer.out) > 1_000_000
    assert got == peer.out
    assert statuses == [0] * 5


@pytest.mark.trio
async def test_commands_between_guests(image: Image) -> None:
    stages = [image("cat"), ["!", "sort", "-r"], ukfilter.Stage(image("upper"), mem="16M")]
    assert await through([*stages, ukfilter.Command("head", "-1")], b"a\nc\nb\n") == (b"C\n", [0, 0, 0, 0])


@pytest.mark.trio
async def test_a_stage_that_goes_away_ends_those_before_it(image: Image) -> None:
    seq = [str(image("seq")), "1000000000"]
    got, statuses = await through([seq, image("cat"), [str(image("head")), "-n", "1"]], b"")
    assert (got, statuses) == (b"1\n", [141, 141, 0])
    got, statuses = await through([["!", "yes"], image("cat"), ["!", "head", "-1"]], b"")
    assert (got, statuses) == (b"y\n", [141, 141, 0])


@pytest.mark.trio
async def test_a_crash_in_the_middle_is_named(image: Image, guest: Image) -> None:
    stages = [image("cat"), guest("abort"), image("cat")]
    async with ukfilter.open_pipeline(stages, stdin=ukfilter.DEVNULL, stdout=ukfilter.DEVNULL) as pipeline:
        with pytest.raises(ukfilter.GuestError) as caught:
            await pipeline.wait(check=True)
        await pipeline.wait(check=True, pipefail=False)
    assert (caught.value.stage, caught.value.image, caught.value.status) == (2, str(guest("abort")), 255)
    assert "stage 2 of 3: " in str(caught.value) and "abort.hvt: ended with status 255" in str(caught.value)
    assert [o.status for o in caught.value.outcomes][1:] == [255, 0]


@pytest.mark.trio
async def test_a_stage_that_cannot_be_started_is_named_and_no_input_is_lost(image: Image) -> None:
    for wrong, error, status in (
        ("no-such.hvt", ukfilter.ImageNotFoundError, 127),
        (["!", "no-such-command"], ukfilter.CommandError, 127),
        (["!", "/etc/passwd"], ukfilter.CommandError, 126),
    ):
        with pytest.raises(error, match=r"^stage 2 of 3: .*(no-such|/etc/passwd)") as caught:
            async with ukfilter.open_pipeline([image("cat"), wrong, image("cat")]):
                pass
        assert caught.value.status == status
    with pytest.raises(ukfilter.UsageError):
        async with ukfilter.open_pipeline([]):
            pass


@pytest.mark.trio
@pytest.mark.parametrize("wrong", ["5", -1, float("nan"), True])
async def test_a_wrong_time_is_refused_by_its_name(wrong: float) -> None:
    for name in ("timeout", "kill_after"):
        with pytest.raises(ukfilter.UsageError, match=f"^{name}: "):
            async with ukfilter.open_pipeline([["!", "true"]], **{name: wrong}):  # type: ignore[arg-type]
                pass


@pytest.mark.trio
async def test_one_image_is_no_list_of_stages() -> None:
    for wrong in ("cat.hvt", Path("cat.hvt"), b"cat.hvt", 5):
        with pytest.raises(ukfilter.UsageError, match=r"^stages: "):
            async with ukfilter.open_pipeline(wrong):  # type: ignore[arg-type]
                pass


@pytest.mark.trio
@pytest.mark.parametrize("tender", ["kvm", "process"])
async def test_cancellation_at_random_points(image: Image, tender: str) -> None:
    before = descriptors(), children()
    points = random.Random(tender)
    stages = [ukfilter.Stage(image("cat"), tender=tender), ["!", "cat"], ukfilter.Stage(image("wc"))]
    cut = 0
    for _ in range(40):
        with trio.move_on_after(points.uniform(0, 0.15)) as scope:
            await through(stages, bytes(300_000))
        cut += scope.cancelled_caught
        assert (descriptors() <= before[0], children()) == (True, before[1])
    assert cut


@pytest.mark.trio
async def test_a_time_out_ends_guests_and_commands(image: Image) -> None:
    start = time.monotonic()
    stages = [image("cat"), ["!", "sleep", "1000"], image("cat")]
    async with ukfilter.open_pipeline(stages, timeout=0.5, stdout=ukfilter.DEVNULL) as pipeline:
        with pytest.raises(ukfilter.GuestTimeoutError):
            await pipeline.wait(check=True)
    assert pipeline.timed_out and time.monotonic() - start < 10
    outcomes = [s.outcome for s in pipeline.stages]
    assert outcomes[1] is not None and outcomes[1].signal == signal.SIGTERM and outcomes[1].status == 124


@pytest.mark.trio
async def test_a_command_that_ignores_term_is_killed_later() -> None:
    stubborn = ["!", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    async with ukfilter.open_pipeline([stubborn], timeout=0.5, kill_after=0.3) as pipeline:
        assert pipeline.stdout
        with trio.fail_after(20):
            (outcome,) = await pipeline.wait()
    assert (outcome.status, outcome.signal, outcome.timed_out) == (124, signal.SIGKILL, True)


@pytest.mark.trio
async def test_what_ended_in_time_did_not_time_out(image: Image) -> None:
    async with ukfilter.open_pipeline([["!", "true"], image("cat"), ["!", "sleep", "1000"]], timeout=1) as p:
        statuses = [o.status for o in await p.wait()]
    assert statuses == [0, 0, 124]


@pytest.mark.trio
async def test_an_exception_comes_through_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ukfilter.open_pipeline([GUESTS / "spin.hvt", ["!", "sleep", "1000"]], timeout=1000):
            raise ZeroDivisionError


POWERLESS = """
import sys, trio, ukfilter

async def main():
    stages = [["!", *sys.argv[1].split(), "sleep", "100"], ["!", "sleep", "100"], sys.argv[2]]
    null = ukfilter.DEVNULL
    async with ukfilter.open_pipeline(stages, stdin=null, stdout=null, timeout=TIMEOUT) as pipeline:
        await trio.sleep(0.3)
        WAIT
    for stage in pipeline.stages:
        o = stage.outcome
        print(o.status, o.timed_out, o.left)

trio.run(main)
"""


@pytest.mark.parametrize(
    ("timeout", "wait", "told"),
    [
        ("None", "pass", ["125 False True", *["137 False False"] * 2]),
        ("None", "pipeline.kill(); await pipeline.wait()", ["125 False True", *["137 False False"] * 2]),
        ("0.5", "await pipeline.wait()", ["124 True True", *["124 True False"] * 2]),
    ],
)
def test_one_that_may_not_be_signalled_is_left_alone(timeout: str, wait: str, told: list[str]) -> None:
    code = POWERLESS.replace("TIMEOUT", timeout).replace("WAIT", wait)
    words = [*harness.POWERLESS.split(), sys.executable, "-c", code, harness.OUT_OF_REACH]
    got = run(*words, GUESTS / "spin.hvt")
    assert (got.status, got.out.decode().splitlines(), got.err) == (0, told, b"")


@pytest.mark.trio
async def test_a_status_that_nobody_can_know_is_no_failure(image: Image) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        for command in (["true"], ["sh", "-c", "sleep 0.1; exit 3"]) * 5:
            got, statuses = await through([image("cat"), ["!", *command]], b"text")
            assert (got, statuses[1]) == (b"", 0)
        async with ukfilter.open_guest(GUESTS / "spin.hvt") as guest:
            guest.kill()
            assert (await guest.wait()).status == 137
    finally:
        signal.signal(signal.SIGCHLD, before)
