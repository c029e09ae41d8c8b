"""The API on real guests: streams, records, errors, time-outs, and that a scope leaves nothing behind."""

from __future__ import annotations

import array
import contextlib
import io
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import harness
import pytest
import trio
import trio.testing
from harness import EXAMPLES, eventually, proc_status

import ukfilter
from ukfilter.pipes.streams import Input, Output

pytestmark = pytest.mark.usefixtures("nothing_left")
Image = Callable[[str], Path]


def descriptors() -> set[tuple[int, str]]:
    """The open descriptors of this process, and what they are of."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the one that listed them
    return found


def children() -> set[int]:
    """Pids of the children of this process, zombies too."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ends just now
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process and no descriptor is left behind by a test."""
    before = descriptors(), children()
    yield
    assert children() == before[1]
    assert descriptors() <= before[0]


# run


@pytest.mark.trio
async def test_run(image: Image) -> None:
    got = await ukfilter.run(image("wc"), "-l", "-c", input=b"one\ntwo\n")
    assert (got.status, got.stdout, got.stderr) == (0, b"      2       8\n", b"")
    assert (got.image, got.args, got.signal, got.timed_out) == (str(image("wc")), ("-l", "-c"), None, False)
    assert got.figures is not None
    assert got.figures.bytes_in == 8 and got.figures.hypercalls > 0 and got.figures.ms > 0
    with pytest.raises(AttributeError):
        got.status = 1  # type: ignore[misc]


@pytest.mark.trio
async def test_run_takes_big_input_and_gives_all_output(image: Image) -> None:
    data = random.Random(4).randbytes(10_000_000)
    assert (await ukfilter.run(image("cat"), input=data)).stdout == data


@pytest.mark.trio
async def test_input_is_all_bytes_of_a_view(image: Image) -> None:
    numbers = array.array("I", range(100_000))
    assert (await ukfilter.run(image("cat"), input=memoryview(numbers))).stdout == numbers.tobytes()
    assert (await ukfilter.run(image("cat"), input=memoryview(array.array("I")))).stdout == b""
    with pytest.raises(ukfilter.UsageError, match=r"^input: .*not contiguous"):
        await ukfilter.run(image("cat"), input=memoryview(b"abcdef")[::2])
    async with ukfilter.open_guest(image("cat")) as guest:
        with pytest.raises(ukfilter.UsageError, match="not contiguous"):
            await guest.stdin.send_all(memoryview(b"abcdef")[::2])


@pytest.mark.trio
async def test_run_of_a_guest_that_reads_no_input(image: Image) -> None:
    got = await ukfilter.run(image("seq"), "3", input=bytes(1 << 20))
    assert got.stdout == b"1\n2\n3\n"


@pytest.mark.trio
async def test_run_from_and_to_files(image: Image, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"abc\n")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        got = await ukfilter.run(image("upper"), input=source, capture_stdout=False, stdout=sink)
    assert (got.stdout, (tmp_path / "out").read_bytes()) == (None, b"ABC\n")


@pytest.mark.trio
async def test_an_end_that_is_given_is_not_captured(image: Image, guest: Image, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as sink:
        got = await ukfilter.run(image("cat"), input=b"abc\n", stdout=sink)
        assert (got.stdout, got.stderr, (tmp_path / "out").read_bytes()) == (None, b"", b"abc\n")
        got = await ukfilter.run(
            guest("two_net"), stderr=sink, nets={"a": "-", "b": "stderr"}, input=b"two\n"
        )
        assert (got.stdout, got.stderr, (tmp_path / "out").read_bytes()) == (b"4\n", None, b"abc\ntwo\n")
        for wrong in (
            {"stdout": sink, "capture_stdout": True},
            {"stderr": ukfilter.STDOUT, "capture_stderr": True},
            {"stdout": ukfilter.PIPE, "capture_stdout": False},
            {"stdout": ukfilter.STDOUT},
        ):
            with pytest.raises(ukfilter.UsageError, match=r"^std(out|err): "):
                await ukfilter.run(image("cat"), **wrong)  # type: ignore[arg-type]
    got = await ukfilter.run(guest("fault"), "null", stderr=ukfilter.STDOUT, check=False)
    assert got.stdout is not None and b"\nukfilter: fault.hvt: " in got.stdout and got.stderr is None
    assert (await ukfilter.run(image("cat"), input=b"abc", stdout=ukfilter.PIPE)).stdout == b"abc"


@pytest.mark.trio
async def test_what_is_no_end_is_refused_by_its_name(image: Image) -> None:
    closed = open("/dev/null", "rb")  # noqa: SIM115
    closed.close()
    for wrong in (ukfilter.PIPE, ukfilter.STDOUT, "text", [b"x"], 1.5, io.BytesIO(b"x"), closed, -7, 1 << 40):
        with pytest.raises(ukfilter.UsageError, match=r"^input: "), trio.fail_after(20):
            await ukfilter.run(image("cat"), input=wrong)  # type: ignore[arg-type]
    for name in ("stdin", "stdout", "stderr"):
        for other in ("text", closed, -7, 1 << 40, 1000):
            with pytest.raises(ukfilter.UsageError, match=f"^{name}: "):
                async with ukfilter.open_guest(image("cat"), **{name: other}):  # type: ignore[arg-type]
                    pass


@pytest.mark.trio
async def test_a_status_raises_unless_asked(image: Image) -> None:
    with pytest.raises(ukfilter.GuestError) as caught:
        await ukfilter.run(image("grep"), "needle", input=b"hay\n")
    assert (caught.value.status, caught.value.stage) == (1, None)
    assert caught.value.image == str(image("grep"))
    assert caught.value.completed is not None and caught.value.completed.stdout == b""
    assert "grep.hvt: ended with status 1 (" in str(caught.value)
    assert (await ukfilter.run(image("grep"), "needle", input=b"hay\n", check=False)).status == 1


@pytest.mark.trio
async def test_a_fault_is_told(guest: Image) -> None:
    with pytest.raises(ukfilter.GuestError, match=r"fault\.hvt: ended with status 255 .*it said: ukfilter: "):
        await ukfilter.run(guest("fault"), "null")


@pytest.mark.trio
@pytest.mark.parametrize("tender", ["kvm", "process"])
async def test_either_tender(image: Image, tender: str) -> None:
    assert (await ukfilter.run(image("rev"), input=b"abc\n", tender=tender)).stdout == b"cba\n"


@pytest.mark.trio
async def test_errors_of_a_start(image: Image, guest: Image) -> None:
    with pytest.raises(ukfilter.ImageNotFoundError, match="no-such"):
        await ukfilter.run("no-such.hvt")
    with pytest.raises(ukfilter.ImageError):
        await ukfilter.run("/etc/passwd")
    with pytest.raises(ukfilter.DeviceError, match="--net"):
        await ukfilter.run(guest("two_net"))
    with pytest.raises(ukfilter.UsageError):
        await ukfilter.run(image("cat"), mem="1T")
    for wrong in (5, b"cat.hvt", None):
        with pytest.raises(ukfilter.UsageError, match=r"^image: "):
            await ukfilter.run(wrong)  # type: ignore[arg-type]
    for wrong in (5, b"x", None):
        with pytest.raises(ukfilter.UsageError, match=r"^args: "):
            await ukfilter.run(image("cat"), wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await ukfilter.run(image("cat"), nonsense=1)  # type: ignore[call-arg]


# Prints what became of a run, an open block and a pipeline without KVM, and what the last left of its input.
NO_KVM = f"""
import os, trio, ukfilter
CAT = {str(EXAMPLES / "cat.hvt")!r}

async def run():
    await ukfilter.run(CAT, tender="kvm", check=False)

async def guest():
    async with ukfilter.open_guest(CAT, tender="kvm"):
        print("entered")

source, sink = os.pipe()
os.write(sink, b"text")
os.close(sink)

async def pipeline():
    async with ukfilter.open_pipeline([["!", "cat"], CAT, ukfilter.Stage(CAT, tender="kvm")], stdin=source):
        print("entered")

for each in (run, guest, pipeline):
    try:
        trio.run(each)
    except ukfilter.UkfilterError as e:
        print(type(e).__name__, e.status, e)
print(os.read(source, 10))
"""


def test_a_tender_that_cannot_be_had_is_told_before_anything_runs() -> None:
    script = 'mount --bind /dev/null /dev/kvm; exec "$0" -c "$1"'
    got = harness.run("unshare", "-m", "bash", "-c", script, sys.executable, NO_KVM)
    lines = got.out.decode().splitlines()
    told = "NoTenderError 126 {}/dev/kvm: cannot create a virtual machine: "
    assert len(lines) == 4, got
    for line, stage in zip(lines, ("", "", "stage 3 of 3: "), strict=False):
        assert line.startswith(told.format(stage))
    assert (lines[3:], got.err) == (["b'text'"], b"")


@pytest.mark.trio
@pytest.mark.parametrize("left", range(24))
async def test_a_start_with_few_descriptors_left_succeeds_or_is_told(image: Image, left: int) -> None:
    """The child fails where the parent did not: it needs descriptors of its own."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    stages = [image("cat"), ["!", "cat"], image("cat")]
    await ukfilter.run(image("cat"))  # what is imported is by now
    try:
        with contextlib.suppress(ukfilter.TenderError, ukfilter.ImageError, ukfilter.CommandError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1 + left, before[1])
            )
            assert (await ukfilter.run(image("cat"), input=b"x")).stdout == b"x"
            async with ukfilter.open_pipeline(stages):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.trio
@pytest.mark.parametrize("tender", ["kvm", "process"])
@pytest.mark.parametrize("program", ["spin", "cat", "write_forever"])
async def test_a_time_out(image: Image, guest: Image, program: str, tender: str) -> None:
    """It spins, waits for input that does not come, or writes to a pipe that nobody reads."""
    path = image("cat") if program == "cat" else guest(program)
    async with ukfilter.open_guest(path, timeout=0.3, tender=tender) as running:
        with trio.fail_after(10):
            outcome = await running.wait()
    assert (outcome.status, outcome.timed_out) == (124, True)


@pytest.mark.trio
async def test_a_time_out_of_one_that_is_stopped(guest: Image) -> None:
    async with ukfilter.open_guest(guest("spin"), timeout=0.3) as running:
        harness.wait_sandboxed(running.pid)
        os.kill(running.pid, signal.SIGSTOP)
        with trio.fail_after(10):
            outcome = await running.wait()
    assert (outcome.status, outcome.timed_out, outcome.reason) == (124, True, "time-out")


@pytest.mark.trio
async def test_partial_output_is_in_the_error_of_a_time_out(image: Image) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"early\n")
        with pytest.raises(ukfilter.GuestTimeoutError) as caught:
            await ukfilter.run(image("cat"), input=reader, timeout=0.5)
    finally:
        os.close(reader)
        os.close(writer)
    assert caught.value.status == 124
    assert caught.value.completed is not None and caught.value.completed.stdout == b"early\n"


def test_run_sync(image: Image) -> None:
    assert ukfilter.run_sync(image("cat"), input=b"data").stdout == b"data"
    with pytest.raises(ukfilter.GuestError):
        ukfilter.run_sync(image("grep"), "needle")


def test_run_sync_in_a_thread(image: Image) -> None:
    got = []
    thread = threading.Thread(target=lambda: got.append(ukfilter.run_sync(image("cat"), input=b"data")))
    thread.start()
    thread.join(20)
    assert [g.stdout for g in got] == [b"data"]


@pytest.mark.trio
async def test_run_sync_is_not_for_trio(image: Image) -> None:
    with pytest.raises(ukfilter.UsageError, match="await"):
        ukfilter.run_sync(image("cat"))


def test_an_interrupt_of_run_sync_ends_the_guest(guest: Image) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ukfilter.run_sync(guest("spin"))
    timer.join()


CLOSED = f"""
import fcntl, os, sys
report = os.fdopen(fcntl.fcntl(int(sys.argv[1]), fcntl.F_DUPFD_CLOEXEC, 10), "w")
os.close(int(sys.argv[1]))
import trio, ukfilter
CAT = {str(EXAMPLES / "cat.hvt")!r}

async def run():
    return await ukfilter.run(CAT, input=b"text", capture_stdout=False, check=False)

async def pipeline():
    async with ukfilter.open_pipeline([CAT, ["!", "cat"]], stdout=None, stderr=ukfilter.DEVNULL) as stages:
        await stages.stdin.send_all(b"text")
        await stages.stdin.aclose()
        return (await stages.wait())[-1]

captured = ukfilter.run_sync(CAT, input=b"text")
for got in (ukfilter.run_sync(CAT, input=b"text", capture_stdout=False, check=False), trio.run(run)):
    report.write(f"{{captured.stdout}} {{got.status}} {{got.reason}}; ")
report.write(f"{{trio.run(pipeline).status}}")
"""


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_output_is_one_for_the_guest(closed: str, tmp_path: Path) -> None:
    """As `cat >&-` has it; and nothing of ours or of trio's that got the number is written to."""
    said = tmp_path / "said"
    script = f'exec "$0" -c "$1" 9 9> {said} {closed}'
    got = harness.run("bash", "-c", script, sys.executable, CLOSED)
    once = "b'text' 125 cannot write to standard output: Bad file descriptor; "
    assert (got.status, said.read_text()) == (0, once * 2 + "1")


# open_guest


@pytest.mark.trio
async def test_a_conversation(image: Image) -> None:
    async with ukfilter.open_guest(image("upper")) as guest:
        assert guest.stdin and guest.stdout and guest.stderr
        assert guest.pid in children()
        for word in (b"one\n", b"two\n"):
            await guest.stdin.send_all(word)
            assert await guest.stdout.receive_some() == word.upper()
        await guest.stdin.send_eof()
        assert await guest.stdout.receive_some() == b""
        outcome = await guest.wait()
        assert await guest.wait() is outcome is guest.outcome
    assert outcome.status == 0


@pytest.mark.trio
async def test_descriptors_handed_over(image: Image) -> None:
    reader, writer = os.pipe()
    async with ukfilter.open_guest(
        image("hello"), stdin=ukfilter.DEVNULL, stdout=writer, stderr=None
    ) as guest:
        assert (guest.stdin, guest.stdout, guest.stderr) == (None, None, None)
        await guest.wait()
    os.close(writer)
    assert os.read(reader, 100) == b"Hello, world!\n"
    os.close(reader)


@pytest.mark.trio
async def test_stderr_with_stdout(guest: Image) -> None:
    async with ukfilter.open_guest(guest("fault"), "null", stderr=ukfilter.STDOUT) as running:
        assert running.stdout is not None and running.stderr is None
        text = b"".join([piece async for piece in running.stdout])
    assert b"ukfilter: fault.hvt: " in text


@pytest.mark.trio
async def test_kill(guest: Image) -> None:
    async with ukfilter.open_guest(guest("spin")) as running:
        running.kill()
        outcome = await running.wait()
        running.kill()  # of what is over: nothing
    assert (outcome.status, outcome.signal, outcome.reason) == (137, 9, "killed by SIGKILL")


@pytest.mark.trio
async def test_a_reader_that_goes_away(image: Image) -> None:
    async with ukfilter.open_guest(image("seq"), "1000000000") as guest:
        assert guest.stdout
        await guest.stdout.aclose()
        outcome = await guest.wait()
    assert (outcome.status, outcome.signal) == (141, signal.SIGPIPE)


@pytest.mark.trio
async def test_leaving_the_block_ends_the_guest(guest: Image) -> None:
    async with ukfilter.open_guest(guest("spin")) as running:
        pid = running.pid
    assert running.outcome is not None and running.outcome.status == 137
    assert not proc_status(pid)


def test_leaving_the_block_ends_the_guest_whatever_the_clock(guest: Image) -> None:
    async def leave() -> None:
        for _ in range(5):
            async with ukfilter.open_guest(guest("spin")) as running:
                pass
            assert running.outcome is not None and running.outcome.status == 137

    trio.run(leave, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.trio
async def test_an_exception_comes_through_as_it_is(guest: Image) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ukfilter.open_guest(guest("spin")):
            raise ZeroDivisionError


@pytest.mark.trio
async def test_many_wait_for_one(image: Image) -> None:
    outcomes = []

    async def wait(guest: ukfilter.Guest) -> None:
        outcomes.append(await guest.wait())

    async with ukfilter.open_guest(image("cat")) as guest, trio.open_nursery() as nursery:
        assert guest.stdin
        for _ in range(5):
            nursery.start_soon(wait, guest)
        with trio.move_on_after(0.05):
            await guest.wait()  # to cancel a wait ends nothing
        await guest.stdin.aclose()
    assert [o.status for o in outcomes] == [0] * 5


@pytest.mark.trio
@pytest.mark.parametrize("tender", ["kvm", "process"])
async def test_cancellation_at_random_points(image: Image, tender: str) -> None:
    before = descriptors(), children()
    points = random.Random(tender)
    cut = 0
    for _ in range(60):
        with trio.move_on_after(points.uniform(0, 0.06)) as scope:
            await ukfilter.run(image("cat"), input=bytes(300_000), tender=tender)
        cut += scope.cancelled_caught
        assert (descriptors() <= before[0], children()) == (True, before[1])
    assert cut


@pytest.mark.trio
async def test_a_hundred_at_once(image: Image) -> None:
    results = {}

    async def one(n: int) -> None:
        results[n] = (await ukfilter.run(image("rev"), input=b"%d\n" % n * 1000, mem="16M")).stdout

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, n)
    assert results == {n: str(n)[::-1].encode().join([b"", b"\n"]) * 1000 for n in range(100)}


def resident_kb(pid: int | str) -> int:
    return int(proc_status(pid)["VmRSS"].split()[0])  # type: ignore[arg-type]


@pytest.mark.trio
@pytest.mark.parametrize("tender", ["kvm", "process"])
async def test_a_consumer_that_stops_reading_stalls_the_guest(image: Image, tender: str) -> None:
    async with ukfilter.open_guest(image("seq"), "1000000000", tender=tender) as guest:
        assert guest.stdout
        assert await guest.stdout.receive_some(2) == b"1\n"
        await trio.sleep(0.5)
        before = harness.cpu_ticks(guest.pid), resident_kb(guest.pid), resident_kb("self")
        await trio.sleep(1)
        after = harness.cpu_ticks(guest.pid), resident_kb(guest.pid), resident_kb("self")
        assert after[0] - before[0] <= 5  # hundredths of a second
        assert after[1] <= before[1] + 256 and after[2] <= before[2] + 256


def test_a_guest_does_not_outlive_its_parent(image: Image) -> None:
    code = f"""
import trio, ukfilter
async def main():
    async with ukfilter.open_guest({str(image("cat"))!r}) as guest:
        print(guest.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    with harness.running(sys.executable, "-c", code, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        eventually(lambda: not proc_status(pid) or proc_status(pid)["State"][0] == "Z", "the guest is gone")


# Streams


async def a_pipe() -> tuple[Input, Output]:
    reader, writer = os.pipe()
    return Input(writer), Output(reader)


async def a_full_pipe() -> tuple[Input, Output]:
    sender, receiver = await a_pipe()
    with trio.move_on_after(0.1):
        while True:
            await sender.send_all(bytes(65536))
    return sender, receiver


@pytest.mark.trio
async def test_streams_of_a_pipe_are_trios() -> None:
    await trio.testing.check_one_way_stream(a_pipe, a_full_pipe)


@pytest.mark.trio
async def test_streams_through_a_guest_are_trios(image: Image) -> None:
    async with AsyncExitStack() as stack:

        async def through_a_guest() -> tuple[Input, Output]:
            guest = await stack.enter_async_context(ukfilter.open_guest(image("cat"), mem="16M"))
            assert guest.stdin and guest.stdout
            return guest.stdin, guest.stdout

        await trio.testing.check_one_way_stream(through_a_guest, None)
