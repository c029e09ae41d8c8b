"""The mount beside a pipe: throughput of cat by `in` and `out`, and the time of a job of one byte.

Measured in turns; a figure is a median. Run it by `make bench`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
UKFILTER = str(BIN / "ukfilter")
CAT = str(Path(__file__).resolve().parent.parent / "examples" / "build" / "cat.hvt")
MEGABYTES = int(os.environ.get("BENCH_MOUNT_MB", "200"))
ROUNDS = 5
JOBS = 20


def seconds(script: str) -> float:
    """Wall time of a shell's script; a status other than 0 ends the benchmark."""
    start = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", script], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Mount, measure, unmount."""
    with tempfile.TemporaryDirectory() as directory:
        path, data = Path(directory, "uk"), Path(directory, "data")
        path.mkdir()
        data.write_bytes(os.urandom(1 << 20) * MEGABYTES)
        subprocess.run([UKFILTER, "mount", "--daemon", path, f"cat={CAT}"], check=True)
        try:
            measure(path, data)
        finally:
            subprocess.run([UKFILTER, "umount", path], check=True)


def measure(path: Path, data: Path) -> None:
    """Print the table."""
    scripts = {
        "the mount: cat f > in; cat out": f"cat {data} > {path}/cat/in; cat {path}/cat/out > /dev/null",
        "the filter: cat f | ukfilter | cat": f"cat {data} | {UKFILTER} {CAT} | cat > /dev/null",
        "a pipe: cat f | cat | cat": f"cat {data} | cat | cat > /dev/null",
    }
    scripts["the mount, both at once"] = (
        f"exec 5> {path}/cat/in; cat {path}/cat/out > /dev/null 5>&- & cat {data} >&5; exec 5>&-; wait"
    )
    took: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(ROUNDS):
        for name, script in scripts.items():
            took[name].append(seconds(script))
    print(f"\nThe mount: {MEGABYTES} MB through cat.hvt; median MB/s, the filter's start-up included")
    for name, times in took.items():
        print(f"  {name:36} {MEGABYTES * 1.048576 / statistics.median(times):6.0f}")
    byte = f"printf x > {path}/cat/in; cat {path}/cat/out > /dev/null"
    alone = statistics.median([seconds("printf x > /dev/null; cat /dev/null") for _ in range(JOBS)])
    whole = statistics.median([seconds(byte) for _ in range(JOBS)])
    print(f"  a job of one byte: {1000 * (whole - alone):.1f} ms, beyond the shell's {1000 * alone:.1f}")


if __name__ == "__main__":
    main()
