"""Descriptors whose flags a child cannot change: a seccomp filter answers F_SETFL on them with success.

A tender of Solo5's makes its ends non-blocking and then loses what it cannot write at once. To clear the flag
behind its back is a race that its first writes can win; a filter is none. All other calls are as they were.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable, Sequence

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
ALLOW, ANSWER_ZERO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with no error
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/filter.h: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24  # in struct seccomp_data; arguments by their low halves
X86_64, SYS_FCNTL = 0xC000003E, 72


def program(fds: Sequence[int]) -> bytes:
    """The filter, as an array of struct sock_filter."""
    checks = [(ARCHITECTURE, X86_64), (NUMBER, SYS_FCNTL), (SECOND, fcntl.F_SETFL)]
    out: list[tuple[int, int, int, int]] = []
    for where, value in checks:
        to_allow = 2 * len(checks) - len(out) + len(fds) - 1
        out += [(LOAD, 0, 0, where), (EQUAL, 0, to_allow, value)]
    out.append((LOAD, 0, 0, FIRST))
    out += [(EQUAL, len(fds) - at, 0, fd) for at, fd in enumerate(fds)]
    out += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ANSWER_ZERO)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in out)


def fixing(fds: Sequence[int]) -> Callable[[], None]:
    """What a child runs before exec. It raises OSError where the kernel has no such filters."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    code = program(fds)
    buffer = ctypes.create_string_buffer(code, len(code))

    def fix() -> None:
        head = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
        if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return fix
