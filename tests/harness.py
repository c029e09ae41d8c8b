"""Run command lines as a user's shell would, with a time limit, and leave no process behind.

Output goes to files, not to pipes: a background process that keeps a pipe open would hold up the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "build"
GUESTS = ROOT / "tests" / "guests" / "build"
BIN = Path(sys.executable).parent
UKFILTER = BIN / "ukfilter"

ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("UKFILTER_", "LC_", "LANG"))},
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "LC_ALL": "C",
    "E": str(EXAMPLES),
    "G": str(GUESTS),
}


@dataclass(frozen=True)
class Result:
    """What a user saw: the status is as subprocess has it, -n for death by signal n."""

    status: int
    out: bytes
    err: bytes
    seconds: float


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """End every process of the group that `process` leads, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(*argv: object, **kwargs: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which is killed with all its children at the end."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    kwargs.setdefault("env", ENV)
    kwargs.setdefault("start_new_session", True)
    process = subprocess.Popen([str(a) for a in argv], **kwargs)
    try:
        yield process
    finally:
        kill_session(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def run(*argv: object, stdin: bytes | int | None = None, timeout: float = 20, **kwargs: Any) -> Result:
    """Run to the end. stdin: bytes (given as a file), a descriptor, or None for /dev/null."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryFile())
        err = stack.enter_context(tempfile.TemporaryFile())
        source: Any = subprocess.DEVNULL if stdin is None else stdin
        if isinstance(source, bytes):
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(source)
            file.seek(0)
            source = file
        kwargs.setdefault("stdout", out)
        kwargs.setdefault("stderr", err)
        start = time.monotonic()
        with running(*argv, stdin=source, **kwargs) as process:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"did not return within {timeout} s: {argv}") from None
            seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        return Result(status, out.read(), err.read(), seconds)


# A program that may not signal other users' processes, and a command that becomes such a one, as sudo does.
POWERLESS = "setpriv --bounding-set=-kill --inh-caps=-kill"
OUT_OF_REACH = "setpriv --reuid 65534 --clear-groups"

# Ways of exitless hypercalls: `hasty` forces their races; `pinned` has one processor for all.
HASTY = {"UKFILTER_EXITLESS": "on", "UKFILTER_EXITLESS_LIMIT": "1us"}
WAYS: dict[str, dict[str, str]] = {
    "": {},
    "spt": {},
    "on": {"UKFILTER_EXITLESS": "on"},
    "off": {"UKFILTER_EXITLESS": "off"},
    "hasty": HASTY,
    "pinned": HASTY,
}
MODES = [
    *("kvm", "process", "kvm-hasty", "process-hasty"),
    *(
        pytest.param(f"{tender}-{way}", marks=pytest.mark.slow)
        for tender in ("kvm", "process")
        for way in ("on", "off", "pinned")
    ),
]

SUFFIX = {"images": ".hvt"}  # what a script's .hvt stands for


def sh(script: str, stdin: bytes | int | None = None, timeout: float = 20, **kwargs: Any) -> Result:
    """Run a script by bash under pipefail; $E and $G are the directories of the images."""
    script = script.replace(".hvt", SUFFIX["images"])
    return run("bash", "-o", "pipefail", "-c", script, stdin=stdin, timeout=timeout, **kwargs)


def eventually(check: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Wait until check() holds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def proc_status(pid: int) -> dict[str, str]:
    """/proc/PID/status as a table; empty once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu_ticks(pid: int) -> int:
    """Processor time that a process took so far, in SC_CLK_TCK: utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wait_sandboxed(pid: int) -> None:
    """Wait until ukfilter has shut its sandbox, that is, until the guest runs."""
    eventually(lambda: proc_status(pid).get("Seccomp") == "2", "the sandbox is shut")


def guest_of(pid: int) -> int:
    """The pid of the guest's own process, once it runs under the process tender pid."""
    wait_sandboxed(pid)
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def figures(script: str) -> dict[str, int]:
    """The last report of a script that gives its filter --status-fd 3."""
    result = sh(f"{{ {script} ; }} 3>&1 >/dev/null", timeout=60)
    assert result.status == 0, result
    last = json.loads(result.out.splitlines()[-1])
    return {name: int(last[name]) for name in ("hypercalls", "exits", "bytes_in", "bytes_out")}


def one_line(err: bytes) -> str:
    """The one message that stands in err; fails if it is not in the form of all our messages."""
    text = err.decode()
    assert "Traceback" not in text
    assert text.startswith("ukfilter: "), text
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    return text
