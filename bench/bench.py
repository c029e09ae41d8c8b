"""Start-up, throughput and memory, each as a ratio against a peer of the same run.

Peers are measured in turns (a b c a b c ...), so that a machine that slows down does so for all of them; a
figure is a median. Run it by `make bench`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
UKFILTER = str(BIN / "ukfilter")
IMAGES = ROOT / "examples" / "build"
HELLO, CAT = str(IMAGES / "hello.hvt"), str(IMAGES / "cat.hvt")

START_ROUNDS = 41
THROUGHPUT_ROUNDS = 5
AIM_SECONDS = 0.7  # how long one measurement of throughput shall take
SIZES_MB = (16, 32, 64, 128, 256, 512, 1024)
MESSAGES = (1500, 65536, 1 << 20)
IDLE_MANY = 100


def table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under a title, columns aligned."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, tuple("-" * w for w in widths), *rows):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        print("  " + "  ".join([first, *rest]))
    sys.stdout.flush()


def seconds(command: str) -> float:
    """Wall time of a shell command; an exit status other than 0 ends the benchmark."""
    start = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start


def spawn_ms(argv: list[str]) -> float:
    """Milliseconds from starting a program to its end, without a shell between."""
    start = time.perf_counter()
    to_null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=to_null)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    took = (time.perf_counter() - start) * 1000
    if status:
        raise SystemExit(f"bench: {' '.join(argv)}: status {status}")
    return took


def bench_start() -> None:
    """The start-up of a guest that says hello."""
    peers = {
        "ukfilter hello.hvt": [UKFILTER, HELLO],
        "/bin/true": ["/bin/true"],
        "python -c pass (this venv)": [sys.executable, "-c", "pass"],
    }
    solo5 = shutil.which("solo5-hvt")
    if solo5:
        peers["solo5-hvt hello.hvt"] = [solo5, HELLO]
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(START_ROUNDS):
        for name, argv in peers.items():
            times[name].append(spawn_ms(argv))
    ours = statistics.median(times["ukfilter hello.hvt"])
    rows = []
    for name, taken in times.items():
        median = statistics.median(taken)
        ratio = "" if name.startswith("ukfilter") else f"{ours / median:.2f}"
        rows.append((name, f"{median:.2f}", f"{min(taken):.2f}", ratio))
    table("Start-up, ms", ("", "median", "best", "ukfilter takes x times"), rows)


@contextlib.contextmanager
def zeros(megabytes: int) -> Iterator[Path]:
    """A file of zeros, in memory where that can be had, gone at the end."""
    directory = Path("/dev/shm") if Path("/dev/shm").is_dir() else ROOT
    path = directory / f"ukfilter-bench-{os.getpid()}"
    try:
        with path.open("wb") as file:
            for _ in range(megabytes):
                file.write(bytes(1 << 20))
        yield path
    finally:
        path.unlink(missing_ok=True)


def rate(source: str, megabytes: int, filter_: str, file: Path) -> float:
    """MB/s, start-up included, as a user has it."""
    if source == "pipe":
        command = f"head -c {megabytes}M /dev/zero | {filter_} | cat > /dev/null"
    else:
        command = f"{filter_} < {file} | cat > /dev/null"
    return megabytes / seconds(command)


def fitting_size(source: str, filter_: str) -> int:
    """Megabytes that take about AIM_SECONDS, so that start-up counts little and the run stays short."""
    size = SIZES_MB[0]
    for bigger in SIZES_MB[1:]:
        with zeros(size if source == "file" else 0) as file:
            if size / rate(source, size, filter_, file) > AIM_SECONDS:
                break
        size = bigger
    return size


def bench_throughput() -> None:
    """cat.hvt under each tender against cat."""
    rows = []
    for source in ("pipe", "file"):
        for message in MESSAGES:
            kvm, process = (f"{UKFILTER} --tender {name} {CAT} -b {message}" for name in ("kvm", "process"))
            size = fitting_size(source, kvm)
            rates: dict[str, list[float]] = {kvm: [], process: [], "cat": []}
            with zeros(size if source == "file" else 0) as file:
                for _ in range(THROUGHPUT_ROUNDS):
                    for filter_, taken in rates.items():
                        taken.append(rate(source, size, filter_, file))
            by_kvm, by_process, cats = (statistics.median(taken) for taken in rates.values())
            ratios = [f"{mine / cats:.2f}" for mine in (by_kvm, by_process)]
            speeds = [f"{speed:.0f}" for speed in (by_kvm, by_process, cats)]
            rows.append((f"{source}, {message} bytes", f"{size}", *speeds, *ratios))
    head = ("from, a message", "MB", "kvm, MB/s", "process, MB/s", "cat, MB/s", "kvm / cat", "process / cat")
    table("Throughput of cat.hvt, start-up included", head, rows)


def resident_kb(pid: int) -> tuple[int, int | None]:
    """Resident and proportional kilobytes; the second is None where only root may look."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    try:
        smaps = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        return rss, None
    return rss, next(int(line.split()[1]) for line in smaps if line.startswith("Pss:"))


@contextlib.contextmanager
def idle(argv: list[str], count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that wait for input."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        waiting = list(processes)
        while waiting and time.monotonic() < deadline:
            time.sleep(0.1)
            waiting = [p for p in waiting if "State:\tS" not in Path(f"/proc/{p.pid}/status").read_text()]
        time.sleep(1)
        yield processes
    finally:
        for p in processes:
            p.send_signal(signal.SIGKILL)
        for p in processes:
            p.wait()
            if p.stdin:
                p.stdin.close()


def bench_memory() -> None:
    """Resident memory of idle guests, each of 512 MB."""
    wait = [sys.executable, "-c", "import os; os.read(0, 1)"]
    rows = []
    for name, argv, count in (
        ("python that waits (this venv)", wait, 1),
        ("an idle cat.hvt", [UKFILTER, CAT], 1),
        (f"each of {IDLE_MANY} idle cat.hvt", [UKFILTER, CAT], IDLE_MANY),
    ):
        with idle(argv, count) as processes:
            figures = [resident_kb(p.pid) for p in processes]
        rss = statistics.median(rss for rss, _ in figures) / 1024
        shares = [pss for _, pss in figures if pss is not None]
        pss = f"{statistics.median(shares) / 1024:.1f}" if shares else "only for root"
        total = f"{sum(shares) / 1024:.0f}" if shares else ""
        rows.append((name, f"{rss:.1f}", pss, total))
    table("Memory, MB", ("", "resident (RSS)", "its share (PSS)", "PSS of all"), rows)


def main() -> None:
    """Print the three tables."""
    for path in (UKFILTER, HELLO, CAT):
        if not Path(path).exists():
            raise SystemExit(f"bench: {path} is missing: run `make setup`")
    machine = os.uname()
    print(f"{machine.sysname} {machine.release}, {os.cpu_count()} processors")
    bench_start()
    bench_throughput()
    bench_memory()


if __name__ == "__main__":
    main()
