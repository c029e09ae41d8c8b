"""Run inside a network namespace of its own: a tap, a guest on it, and the kernel's network as its peer.

usage: tap_host.py MODE UKFILTER IMAGE. It prints what the guest printed, and one line of its own.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time

GUEST = "10.0.0.2"
SIZES = (0, 56, 1000, 1400)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(sequence: int, size: int, seconds: float = 5) -> bool:
    """True if the guest echoes size bytes. Asked again each 0.2 s, as it may still be starting."""
    body = os.urandom(size)
    head = struct.pack(">BBHHH", 8, 0, 0, 77, sequence)
    packet = struct.pack(">BBHHH", 8, 0, checksum(head + body), 77, sequence) + body
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            s.sendto(packet, (GUEST, 0))
            while select.select([s], [], [], 0.2)[0]:
                got = s.recv(65536)[20:]
                if got[:1] == b"\0" and got[4:] == packet[4:] and checksum(got) == 0:
                    return True
    return False


def main(mode: str, ukfilter: str, image: str) -> None:
    ip("tuntap", "add", "tap7", "mode", "tap")
    ip("link", "set", "tap7", "address", "02:00:00:00:00:10", "mtu", "1440")
    ip("addr", "add", "10.0.0.1/24", "dev", "tap7")
    ip("link", "set", "tap7", "up")
    with subprocess.Popen([ukfilter, "-t", "30", "--net:service=tap7", image]) as guest:
        answered = [ping(n, size) for n, size in enumerate(SIZES)]
        if mode == "down":
            ip("link", "set", "tap7", "down")
            time.sleep(0.3)
            ip("link", "set", "tap7", "up")
            answered.append(ping(99, 100))
    print(f"{sum(answered)} of {len(answered)} answered, status {guest.returncode}")


main(*sys.argv[1:])
