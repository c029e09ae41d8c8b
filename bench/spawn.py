"""Spawning from the API, and pipelines, each as a ratio against a peer of the same run.

Guests are started many times in one process, so imports do not count. Run it by `make bench`, or alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

import ukfilter

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "examples" / "build"
UKFILTER = Path(sys.executable).parent / "ukfilter"
SPAWN_ROUNDS = 60
PIPELINE_ROUNDS = 7
MEGABYTES = 64
STAGES = 5


async def by_run(tender: str) -> None:
    """hello.hvt by `run`, its output captured."""
    got = await ukfilter.run(IMAGES / "hello.hvt", tender=tender)
    assert got.stdout == b"Hello, world!\n"


async def by_kvm() -> None:
    """The same under KVM."""
    await by_run("kvm")


async def by_process() -> None:
    """The same as a traced process."""
    await by_run("process")


async def by_trio() -> None:
    """/bin/true by trio.run_process, its output captured as well."""
    await trio.run_process(["/bin/true"], capture_stdout=True, capture_stderr=True)


async def spawn_times() -> dict[str, list[float]]:
    """Milliseconds from spawn to exit, of each peer in turn."""
    peers: dict[str, Callable[[], Awaitable[None]]] = {"kvm": by_kvm, "process": by_process, "true": by_trio}
    times: dict[str, list[float]] = {name: [] for name in peers}
    for peer in peers.values():
        await peer()
    for _ in range(SPAWN_ROUNDS):
        for name, peer in peers.items():
            start = time.perf_counter()
            await peer()
            times[name].append((time.perf_counter() - start) * 1000)
    return times


def rate(command: str) -> float:
    """MB/s of a shell command that carries MEGABYTES, start-up included; a failure ends the benchmark."""
    start = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)
    return MEGABYTES / (time.perf_counter() - start)


def pipeline_rates() -> dict[str, list[float]]:
    """A pipeline of cats: `ukfilter pipe`, the shell's of as many ukfilters, and of as many cat(1)s."""
    cat = str(IMAGES / "cat.hvt")
    commands = {
        "ukfilter pipe": f"{UKFILTER} pipe " + " '|' ".join([cat] * STAGES),
        "shell": " | ".join([f"{UKFILTER} {cat}"] * STAGES),
        "cat": " | ".join(["cat"] * STAGES),
    }
    rates: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(PIPELINE_ROUNDS):
        for name, command in commands.items():
            rates[name].append(rate(f"head -c {MEGABYTES}M /dev/zero | {command} > /dev/null"))
    return rates


def main() -> None:
    """Print both comparisons."""
    times = {name: statistics.median(taken) for name, taken in trio.run(spawn_times).items()}
    print("\nSpawn to exit of hello.hvt from the API, in one process; median ms")
    print(f"  trio.run_process(/bin/true)  {times['true']:7.2f}")
    for tender in ("kvm", "process"):
        ratio = times[tender] / times["true"]
        print(f"  ukfilter.run, {tender:14} {times[tender]:7.2f}   {ratio:.2f} times that")
    rates = {name: statistics.median(taken) for name, taken in pipeline_rates().items()}
    print(f"\nPipeline of {STAGES} cats, {MEGABYTES} MB from a pipe; median MB/s, start-up included")
    for name, label in (("shell", f"shell, {STAGES} x ukfilter"), ("cat", f"shell, {STAGES} x cat(1)")):
        ratio = rates["ukfilter pipe"] / rates[name]
        print(f"  {label:26} {rates[name]:7.0f}   ukfilter pipe has {ratio:.2f} times that")
    print(f"  {'ukfilter pipe':26} {rates['ukfilter pipe']:7.0f}", flush=True)


if __name__ == "__main__":
    main()
