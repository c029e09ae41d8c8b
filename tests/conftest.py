"""Fixtures: where the command and the images are. Nothing is skipped where KVM or an image is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import harness
import pytest


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
