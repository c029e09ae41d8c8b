"""Images of the spt target: what they may ask for, and what ends them. Parity is in test_parity.py."""

from __future__ import annotations

import pytest
from harness import one_line, sh


@pytest.mark.parametrize("what", ["open", "x32", "kill", "write-2", "arch-prctl-wild", "vsyscall"])
def test_a_system_call_that_is_not_of_solo5_ends_the_guest(what: str) -> None:
    result = sh(f"ukfilter $G/spt_calls.spt {what} < /dev/null")
    assert (result.status, result.out) == (255, b"")
    assert one_line(result.err).startswith("ukfilter: spt_calls.spt: the guest made a system call (")


def test_a_32_bit_system_call_ends_the_guest() -> None:
    result = sh("ukfilter $G/spt_calls.spt int80 < /dev/null")
    assert (result.status, result.out) == (255, b"")
    assert "system call of the host" in one_line(result.err)


def test_wild_arguments_are_errors_as_linux_has_them() -> None:
    result = sh("echo data | ukfilter $G/spt_calls.spt wild")
    assert result.status == 7
    expected = {"read": -22, "write": -22, "read-text": -22, "time": -14, "timer": -14, "wait": -14}
    expected |= {"wait-none": -22, "block": -22}
    assert result.err.decode() == "".join(f"{name} {value}\n" for name, value in expected.items())


def test_auto_takes_the_process_tender() -> None:
    result = sh("ukfilter -v $E/hello.spt")
    assert (result.status, result.out) == (0, b"Hello, world!\n")
    assert b"tender: process" in result.err


def test_kvm_cannot_run_it() -> None:
    result = sh("ukfilter --tender kvm $E/hello.spt")
    assert result.status == 126
    assert "use --tender process" in one_line(result.err)


def test_a_guest_that_sleeps_and_one_with_two_devices() -> None:
    result = sh("ukfilter $G/sleep.spt 100")
    assert (result.status, result.out) == (0, b"slept\n")
    result = sh("echo data | ukfilter --net a=@0 --net b=@1 $G/two_net.spt")
    assert (result.status, result.out, result.err) == (0, b"data\n", b"5\n")
