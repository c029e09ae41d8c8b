"""Records of ends: what a report says, and what a killed guest's half a report leaves to say."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ukfilter import CommandError, GuestError, GuestTimeoutError, UsageError
from ukfilter.errors import NoTenderError
from ukfilter.pipes.errors import failure
from ukfilter.pipes.pipeline import Command, Stage, to_stage
from ukfilter.pipes.record import Completed, Outcome, ended, pipeline_status, reported
from ukfilter.pipes.settings import to_options

STARTED = {"event": "started", "pid": 7, "tender": "kvm", "image": "cat.hvt"}
EXIT = {
    "event": "exit",
    "status": 3,
    "reason": "halted",
    "timed_out": False,
    "bytes_in": 10,
    "bytes_out": 20,
    "hypercalls": 4,
    "exits": 9,
    "ms": 1.5,
}
REPORT = f"{json.dumps(STARTED)}\n{json.dumps(EXIT)}\n".encode()


def test_a_report_in_full() -> None:
    got = reported("cat.hvt", ["x"], REPORT, 3)
    assert (got.name, got.args, got.status, got.reason, got.signal) == ("cat.hvt", ("x",), 3, "halted", None)
    assert got.figures is not None and got.figures.bytes_out == 20 and got.figures.ms == 1.5
    assert str(got) == "status 3 (halted), in 10 bytes, out 20 bytes, 4 hypercalls, 9 exits, 1.5 ms"


def test_a_guest_that_could_not_be_started() -> None:
    report = json.dumps({"event": "failed", "status": 126, "message": "cat.hvt: no tender"}).encode()
    got = reported("cat.hvt", [], report, 126)
    assert (got.status, got.reason, got.failed) == (126, "cat.hvt: no tender", True)


@given(st.integers(0, len(REPORT) - 2))
def test_a_report_that_is_cut_short(length: int) -> None:
    got = reported("cat.hvt", [], REPORT[:length], -9)
    assert (got.status, got.signal, got.reason, got.figures) == (137, 9, "killed by SIGKILL", None)


@given(st.binary(), st.integers(-64, 255))
def test_any_report_gives_an_outcome(report: bytes, code: int) -> None:
    assert reported("x", [], report, code).status == (code if code >= 0 else 128 - code)


def test_ends_of_commands() -> None:
    assert ended("sort", [], 2).reason == "exited"
    assert ended("sort", [], -13).status == 141
    assert (ended("sort", [], -15, True).status, ended("sort", [], 0, True).timed_out) == (124, True)
    assert (ended("sort", [], None).status, ended("sort", [], None).reason[:14]) == (0, "status unknown")
    assert ended("sort", [], None, True).status == 124
    assert ended("sort", [], -40).reason == "killed by signal 40"


@pytest.mark.parametrize(
    ("statuses", "last", "pipefail"),
    [((0, 0), 0, 0), ((1, 0), 0, 1), ((1, 2, 0), 0, 2), ((0, 3), 3, 3), ((4,), 4, 4)],
)
def test_the_status_of_a_pipeline(statuses: tuple[int, ...], last: int, pipefail: int) -> None:
    outcomes = [ended(str(i), [], s) for i, s in enumerate(statuses)]
    assert pipeline_status(outcomes, False).status == last
    assert pipeline_status(outcomes, True).status == pipefail


def test_errors_say_which_stage_which_image_which_status() -> None:
    outcomes = [ended("a.hvt", [], -13), Outcome("b\n.hvt", (), 255, "guest fault"), ended("c.hvt", [], 0)]
    error = failure(outcomes[1], stage=2, outcomes=outcomes)
    assert str(error) == (
        r"stage 2 of 3: b\n.hvt: ended with status 255 (guest fault); all stages: 141 255 0"
    )
    assert (error.stage, error.status, error.outcomes) == (2, 255, tuple(outcomes))
    said = Completed(outcomes[1], b"", b"one\nukfilter: two\n")
    assert str(failure(outcomes[1], completed=said)).endswith("; it said: ukfilter: two")
    assert type(failure(ended("a", [], -9, True))) is GuestTimeoutError
    assert issubclass(GuestTimeoutError, GuestError)


@pytest.mark.parametrize("end", [b"", b"\n" * 10])
def test_an_error_tells_little_of_a_guest_that_says_much(end: bytes) -> None:
    text = str(
        failure(ended("a", [], 1), completed=Completed(ended("a", [], 1), b"", b"x" * (40 << 20) + end))
    )
    assert len(text) < 300 and text.endswith("xxx...")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_errors_and_records_survive_pickle_and_copy(again: Callable[[Any], Any]) -> None:
    """multiprocessing.Pool hangs for ever on an error that cannot be unpickled."""
    bad, good = reported("x.hvt", ["a"], REPORT, 3), ended("b", [], 0)
    alone, staged = Completed(bad, b"out", b"why\n"), (good, bad)
    over = ended("a", [], -9, True)
    errors = failure(bad, completed=alone), failure(bad, stage=2, outcomes=staged), failure(over)
    for error in errors:
        error.add_note("noted")
        got = again(error)
        assert (type(got), str(got), vars(got)) == (type(error), str(error), vars(error))
    for error in (CommandError("x: no such command", 127), UsageError("wrong"), NoTenderError("none")):
        got = again(error)
        assert (type(got), str(got), got.status) == (type(error), str(error), error.status)
    for record in (bad, bad.figures, alone):
        assert again(record) == record


def test_what_stands_for_a_stage(image) -> None:
    cat = str(image("cat"))
    assert isinstance(to_stage(image("cat")), Stage)
    stage = to_stage([cat, "-b", "100"])
    assert isinstance(stage, Stage) and (stage.name, stage.args) == (cat, ("-b", "100"))
    command = to_stage(["!", "sort", "-r"])
    assert isinstance(command, Command) and (command.name, command.args) == ("sort", ("-r",))
    for nothing in ([], ["!"]):
        with pytest.raises(UsageError):
            to_stage(nothing)


def test_options_by_keyword() -> None:
    options = to_options({"mem": "64M", "nets": {"in": "@3"}, "timeout": 2, "eof": "zero"})
    assert (options.mem, options.nets, options.timeout, options.eof) == (64 << 20, {"in": "@3"}, 2.0, "zero")
    assert to_options({"mem": 64 << 20}).mem == 64 << 20
    for wrong in ({"mem": 1}, {"mem": "lots"}, {"tender": "none"}, {"eof": "maybe"}, {"timeout": -1}):
        with pytest.raises(UsageError):
            to_options(wrong)  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match="memory"):
        to_options({"memory": 5})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"timeout": it} for it in ("5", "", True, float("nan"), float("inf"), 10**400)),
        *({"mtus": {"stdin": it}} for it in (10**9, -1, 1, "1500", True, None)),
        *({"macs": {"stdin": it}} for it in ("02:00:00:00:00:01", b"123", b"1234567", b"\1\0\0\0\0\0")),
        *({"sector_sizes": {"disk": it}} for it in (0, 7, -512, 1 << 20, "512")),
        *({name: it} for name in ("nets", "mtus", "macs", "blocks", "sector_sizes") for it in (5, [1], None)),
        *({"nets": it} for it in ({"stdin": 0}, {1: "@0"}, {"stdin": "\ud800"})),
        {"blocks": {"disk": 1}},
        {"console": 5},
        {"console": b"x"},
        {"quiet": "no"},
        {"drain": "1s"},
    ],
)
def test_a_wrong_option_is_refused_by_its_name(wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}: ") as caught:
        to_options(wrong)
    assert len(str(caught.value)) < 120


def test_a_path_is_as_good_as_its_text() -> None:
    options = to_options({"blocks": {"disk": Path("a")}, "console": Path("b")})
    assert (options.blocks, options.console) == ({"disk": "a"}, "b")
    assert Command(Path("/bin/true")).name == "/bin/true"


def test_a_wrong_stage_is_refused() -> None:
    for wrong in (None, 5, b"x.hvt", [5], ["x.hvt", 5], ["!", 5], ["!", "true", b"x"], ["x.hvt", "\ud800"]):
        with pytest.raises(UsageError):
            to_stage(wrong)  # type: ignore[arg-type]


def test_the_import_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import ukfilter; print(set(sys.modules) - before);"
        "assert 'run' in dir(ukfilter); ukfilter.UkfilterError; assert 'trio' not in sys.modules;"
        "ukfilter.run; assert 'trio' in sys.modules; print(hasattr(ukfilter, 'nonsense'))"
    )
    got = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=20)
    assert (got.stdout, got.stderr) == ("{'ukfilter'}\nFalse\n", "")


def test_every_public_name_resolves() -> None:
    import ukfilter

    for name in ukfilter._HOMES:
        assert getattr(ukfilter, name) is not None
