"""A guest on a tap, in a network namespace: the kernel's own ARP and IP are its peer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import GUESTS, UKFILTER, run

pytestmark = pytest.mark.usefixtures("tender")

HOST = Path(__file__).parent / "tap_host.py"


def on_a_tap(mode: str) -> list[str]:
    result = run("unshare", "-n", sys.executable, HOST, mode, UKFILTER, GUESTS / "ping.hvt", timeout=60)
    assert (result.status, result.err) == (0, b""), result
    return result.out.decode().splitlines()


@pytest.mark.parametrize("mode", ["up", "down"])
def test_a_guest_answers_pings(mode: str) -> None:
    """mode down: the interface goes down and up again meanwhile, and frames are lost, nothing else."""
    count = {"up": 4, "down": 5}[mode]
    told, answered, last = on_a_tap(mode)
    assert told == "mtu 1440 mac 2:0:0:0:0:11"
    assert last == f"{count} of {count} answered, status 0"
    words = answered.split()
    assert int(words[1]) >= 1 and int(words[3]) >= count


def test_a_tap_that_is_not_there_is_named() -> None:
    result = run("unshare", "-n", UKFILTER, "--net:service=tap7", GUESTS / "ping.hvt")
    assert (result.status, result.out) == (125, b"")
    assert b"--net service=tap7: no such file or network interface" in result.err
