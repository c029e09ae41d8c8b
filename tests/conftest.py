"""Fixtures: where the command and the images are. Nothing is skipped where KVM or an image is missing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest

# A suite that was started in the background inherits SIGINT and SIGQUIT ignored, and its children would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def _must_exist(path: Path) -> Path:
    assert path.exists(), f"{path} is missing: run `make setup`"
    return path


@pytest.fixture(scope="session")
def ukfilter() -> Path:
    """The command, as a user starts it."""
    return _must_exist(harness.UKFILTER)


@pytest.fixture(scope="session")
def image() -> Callable[[str], Path]:
    """The path of an example image."""
    return lambda name: _must_exist(harness.EXAMPLES / f"{name}.hvt")


@pytest.fixture(scope="session")
def guest() -> Callable[[str], Path]:
    """The path of a test guest's image."""
    return lambda name: _must_exist(harness.GUESTS / f"{name}.hvt")


@pytest.fixture
def sh() -> Callable[..., harness.Result]:
    """Run a script by bash under pipefail: see harness.sh."""
    return harness.sh


@pytest.fixture(params=("kvm", "process"))
def tender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One suite for every tender: a module that uses this runs each of its cases under both.

    A parameter `TENDER-WAY` has exitless hypercalls in that way, see harness.MODES; `process-spt` takes every
    image of a script in its build for the spt target.
    """
    name, _, way = request.param.partition("-")
    monkeypatch.setitem(harness.ENV, "UKFILTER_TENDER", name)
    for variable, value in harness.WAYS[way].items():
        monkeypatch.setitem(harness.ENV, variable, value)
    monkeypatch.setitem(harness.SUFFIX, "images", ".spt" if way == "spt" else ".hvt")
    before = os.sched_getaffinity(0)
    if way == "pinned":
        os.sched_setaffinity(0, {min(before)})
    yield name
    os.sched_setaffinity(0, before)
