"""A guest on a tap, in a network namespace: the kernel's own ARP and IP are its peer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from harness import ENV, GUESTS, UKFILTER, Result, run

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


def in_a_namespace(script: str) -> Result:
    script = f"U={UKFILTER}; {script}"
    return run("unshare", "-n", "bash", "-c", script, env={**ENV, "PATH": f"{ENV['PATH']}:/usr/sbin"})


def test_a_tap_that_somebody_else_has_is_named() -> None:
    result = in_a_namespace(
        "ip tuntap add tap7 mode tap; $U --net:service=tap7 $G/ping.hvt & sleep 1;"
        " $U --net:service=tap7 $G/ping.hvt; status=$?; kill %1; exit $status"
    )
    assert result.status == 125
    assert b"--net service=tap7: is in use by another program" in result.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a tap of another user's")
def test_a_tap_of_another_users_is_named() -> None:
    """Root without its capabilities is a user like any other."""
    drop = "setpriv --bounding-set=-all --inh-caps=-all"
    result = in_a_namespace(
        f"ip tuntap add tap7 mode tap user 12345; {drop} $U --net:service=tap7 $G/ping.hvt"
    )
    assert (result.status, result.out) == (125, b"")
    assert b"--net service=tap7: is not yours" in result.err
