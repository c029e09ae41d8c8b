"""The model of the exitless handshake holds, and each variant that is wrong by design is found wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import harness
import pytest

MODEL = harness.ROOT / "model" / "exitless.pml"

RIGHT = ("", "NO_WAKE", "ANY_ADVICE", "NO_SECOND_LOOK", "NO_LIMIT LOOK_AFTER", "HOSTILE")
DEADLOCK = "invalid end state"
TWICE = "assertion violated (served[id]==1)"
WRONG = {
    "NO_LIMIT": DEADLOCK,
    "NO_LIMIT LOOK_AFTER NO_SECOND_LOOK": DEADLOCK,
    "NO_LIMIT LOOK_AFTER NO_FENCE": DEADLOCK,
    "SERVE_WITHOUT_CAS": TWICE,
    "CANCEL_BY_STORE": TWICE,
    "RETRY_IS_DONE": "assertion violated (served[call]==1)",
    "NO_LOCK": "assertion violated (((word&3)==0)||((word&3)==3))",
    "NO_LOCK HOSTILE": "assertion violated  !(running)",
    "NEVER_SLEEP": "non-progress cycle",
}

pytestmark = pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed")


def done(*argv: object, cwd: Path) -> str:
    """What a tool prints; it must end well."""
    got = harness.run(*argv, cwd=cwd, timeout=60)
    assert got.status == 0, (argv, got.out, got.err)
    return got.out.decode()


def verify(variant: str, where: Path) -> tuple[str, str]:
    """Reports of spin's verifier: one on assertions and deadlocks, one on runs that do not end."""
    done("spin", *(f"-D{name}" for name in variant.split()), "-a", MODEL, cwd=where)
    done("gcc", "-O1", "-w", "-o", "safety", "pan.c", cwd=where)
    done("gcc", "-O1", "-w", "-DNP", "-o", "cycles", "pan.c", cwd=where)
    return done("./safety", cwd=where), done("./cycles", "-l", cwd=where)


def errors(report: str) -> int:
    """Errors found by a search that was not cut short."""
    assert "max search depth too small" not in report
    assert "Search not completed" not in report or "pan:1:" in report
    found = re.search(r"errors: (\d+)", report)
    assert found, report
    return int(found[1])


@pytest.mark.parametrize("variant", RIGHT)
def test_the_handshake_holds(variant: str, tmp_path: Path) -> None:
    for report in verify(variant, tmp_path):
        assert errors(report) == 0, report


def test_no_line_of_the_model_is_dead(tmp_path: Path) -> None:
    """A model whose lines are never reached would prove nothing; the poller's end alone may not be."""
    report, _ = verify("", tmp_path)
    unreached = re.findall(r"exitless\.pml:\d+, state \d+, (.*)", report)
    assert unreached == ['"-end-"']


@pytest.mark.parametrize("variant", WRONG)
def test_a_broken_handshake_is_found(variant: str, tmp_path: Path) -> None:
    reports = verify(variant, tmp_path)
    assert sum(errors(report) for report in reports) > 0
    assert WRONG[variant] in "".join(reports)
