"""The real mount, driven by the real command: started, waited for, and gone at the end, whatever happened."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import harness
from harness import EXAMPLES, GUESTS, UKFILTER

FILTERS = [
    *(f"{name}={EXAMPLES}/{name}.hvt" for name in ("cat", "wc", "upper")),
    *(f"{name}={GUESTS}/{name}.hvt" for name in ("spin", "write_forever")),
]
SETTINGS = f"""
[fault]
image = "{GUESTS}/fault.hvt"
args = ["null"]
[deaf]
image = "{GUESTS}/eof.hvt"
args = ["never-read", "30000"]
"""


class Mount:
    """A mount at `path`; its daemon is `process`."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.path, self.process, self.log = path, process, log

    def sh(self, script: str, timeout: float = 20, **kwargs: object) -> harness.Result:
        """Run a script in the mount, by bash; every client is bounded in time."""
        return harness.run("bash", "-c", script, timeout=timeout, cwd=self.path, **kwargs)


@contextlib.contextmanager
def mounted(tmp_path: Path, *options: object, filters: list[str] | None = None) -> Iterator[Mount]:
    """Mount filters at tmp_path/uk. After the block it is gone, and the daemon ended with status 0."""
    path, log = tmp_path / "uk", tmp_path / "log"
    path.mkdir()
    settings = tmp_path / "filters.toml"
    settings.write_text(SETTINGS)
    words = filters or [*FILTERS, str(settings)]
    ours, theirs = os.pipe()
    argv = [UKFILTER, "mount", "--ready-fd", str(theirs), *options, path, *words]
    out = subprocess.DEVNULL
    with log.open("wb") as f:
        process = subprocess.Popen(argv, stdin=out, stdout=out, stderr=f, pass_fds=[theirs], env=harness.ENV)
    os.close(theirs)
    mount = Mount(path, process, log)
    status: int | None = None
    try:
        with os.fdopen(ours, "rb") as ready:
            assert ready.read(6) == b"ready\n", log.read_text()
        yield mount
    finally:
        status = end(mount)
        assert not is_mounted(path)
    assert status == 0, log.read_text()


def is_mounted(path: Path) -> bool:
    """Whether something is mounted at path; os.path.ismount() says no where its daemon is dead."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


def end(mount: Mount) -> int | None:
    """End the daemon and the mount, by force if need be; the daemon's status, if it ended by itself."""
    mount.process.terminate()
    try:
        return mount.process.wait(5)
    except subprocess.TimeoutExpired:
        mount.process.kill()
        mount.process.wait(5)
        return None
    finally:
        for flag in ("-u", "-uz"):
            if is_mounted(mount.path):
                subprocess.run(
                    ["fusermount3", flag, mount.path], check=False, capture_output=True, timeout=10
                )
        until = time.monotonic() + 5
        while is_mounted(mount.path) and time.monotonic() < until:
            time.sleep(0.05)
