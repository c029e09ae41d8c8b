"""As many network devices as a manifest can hold, each a socket that keeps messages apart."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from harness import GUESTS, UKFILTER, running

pytestmark = pytest.mark.usefixtures("tender")

DEVICES = 63
MESSAGES = (b"a", b"bc" * 700, b"d" * 30000, b"e")


def test_sixty_three_devices_are_polled_and_keep_their_messages(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(DEVICES)]
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
                end.settimeout(20)
        fds = [theirs.fileno() for _, theirs in pairs]
        nets = [word for n, fd in enumerate(fds, 1) for word in ("--net", f"d{n}=@{fd}")]
        words = (UKFILTER, *nets, GUESTS / "many_net.hvt")
        with running(*words, pass_fds=fds) as p:
            for _, theirs in pairs:
                theirs.close()
            for n in (63, 1, 32, 2):
                ours, below = pairs[n - 1][0], pairs[(n - 2) % DEVICES][0]
                for message in MESSAGES:
                    ours.send(message)
                assert [below.recv(65536) for _ in MESSAGES] == list(MESSAGES)
            for ours, _ in pairs:
                ours.shutdown(socket.SHUT_WR)
            assert p.wait(20) == 0


def test_an_empty_datagram_is_a_message(tmp_path: Path) -> None:
    """two_net takes it for the end of its input, and ends in good order."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, open(os.devnull, "wb") as null:
        fds = (theirs.fileno(), null.fileno())
        words = (UKFILTER, "--net", f"a=@{fds[0]}", "--net", f"b=@{fds[1]}", GUESTS / "two_net.hvt")
        with running(*words, pass_fds=fds) as p:
            ours.send(b"full")
            ours.send(b"")
            assert p.wait(20) == 0
