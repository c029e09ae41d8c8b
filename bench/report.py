"""The report: start-up, message size, input size, guests at once, as tables and a plot, dated.

    python bench/report.py [--full] [--quick] [FOLDER]

It writes report.md and report.svg to FOLDER (bench/). What is compared runs in turns; a figure is a median.
--full goes to 4 GB and 200 guests; --quick is for a test that it runs at all. Solo5's tenders are measured
beside, if SOLO5_HVT, SOLO5_SPT or PATH name them and SOLO5_HELLO_HVT and _SPT their test_hello.
"""

from __future__ import annotations

import datetime
import functools
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
UKFILTER = str(BIN / "ukfilter")
IMAGES = HERE.parent / "examples" / "build"
CAT, HELLO = str(IMAGES / "cat.hvt"), str(IMAGES / "hello.hvt")
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700", "#57606a")
WAYS = {
    "kvm": {"UKFILTER_TENDER": "kvm", "UKFILTER_EXITLESS": "auto"},
    "kvm, exitless off": {"UKFILTER_TENDER": "kvm", "UKFILTER_EXITLESS": "off"},
    "process": {"UKFILTER_TENDER": "process", "UKFILTER_EXITLESS": "auto"},
    "process, exitless off": {"UKFILTER_TENDER": "process", "UKFILTER_EXITLESS": "off"},
}


@dataclass(frozen=True)
class Scale:
    """How far to go: sizes in bytes, guests, rounds."""

    messages: tuple[int, ...] = (64, 512, 1500, 4096, 16384, 65536, 1 << 20)
    messages_each: int = 400_000  # of a measurement; a tenth with an exit each
    most: int = 1 << 31  # bytes of a measurement
    inputs: tuple[int, ...] = (1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28)
    guests: tuple[int, ...] = (1, 10, 50, 100)
    starts: int = 21
    rounds: int = 3


QUICK = Scale((1500, 65536), 5000, 1 << 22, (1 << 10, 1 << 16), (1, 3), 3, 1)
FULL = Scale(
    inputs=(1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28, 1 << 32), guests=(1, 10, 50, 100, 200), rounds=5
)


@dataclass(frozen=True)
class Chart:
    """Curves over x; both axes logarithmic. points: by name, y over x."""

    title: str
    x: str
    y: str
    points: dict[str, dict[float, float]]


def environment(way: str) -> dict[str, str]:
    """The environment in which the command runs guests that way."""
    return {**os.environ, **WAYS.get(way, {})}


def took(script: str, way: str = "") -> float:
    """Seconds of a shell's script; a status other than 0 ends the report."""
    start = time.perf_counter()
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], check=True, env=environment(way), stdin=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def medians(names: Sequence[str], rounds: int, measure: Callable[[str], float]) -> dict[str, float]:
    """The median of measure(name) for each name, in turns."""
    seen: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            seen[name].append(measure(name))
    return {name: statistics.median(values) for name, values in seen.items()}


def startup(scale: Scale) -> dict[str, float]:
    """Milliseconds from starting a program to its end."""
    programs = {
        "true": ["/bin/true"],
        "python -c pass": [str(BIN / "python"), "-c", "pass"],
        **{f"ukfilter hello, {way}": [UKFILTER, HELLO] for way in WAYS},
        "ukfilter -m 64M -t 1m hello, kvm": [UKFILTER, "-m", "64M", "-t", "1m", HELLO],
    }
    for kind in ("hvt", "spt"):
        tender = os.environ.get(f"SOLO5_{kind.upper()}") or shutil.which(f"solo5-{kind}")
        image = os.environ.get(f"SOLO5_HELLO_{kind.upper()}")
        if (
            tender
            and image
            and not subprocess.run([tender, image], capture_output=True, check=False).returncode
        ):
            programs[f"solo5-{kind} test_hello"] = [tender, image]

    def measure(name: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            programs[name], env=environment(name.partition(", ")[2]), stdout=subprocess.DEVNULL, check=True
        )
        return (time.perf_counter() - start) * 1000

    return medians(list(programs), scale.starts, measure)


def zeros(directory: str, size: int) -> Path:
    """A file of so many zeros, without blocks; it is kept, and in the page cache from its second use on."""
    path = Path(directory) / str(size)
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(size)
    return path


def by_message(scale: Scale, source: str) -> Chart:
    """MB/s over the message's size, from a pipe or a file to a pipe.

    Start-up is included: each gets as much as makes it count little.
    """
    points: dict[str, dict[float, float]] = {name: {} for name in ("cat", *WAYS)}
    with tempfile.TemporaryDirectory() as directory:

        def measure(name: str, size: int) -> float:
            messages = scale.messages_each // 10 if "off" in name else scale.messages_each
            total = scale.most if name == "cat" else min(size * messages, scale.most)
            filter_ = "cat" if name == "cat" else f"{UKFILTER} {CAT} -b {size}"
            feed = f"head -c {total} /dev/zero | {filter_}"
            if source == "file":
                feed = f"{filter_} < {zeros(directory, total)}"
            return total / took(f"{feed} | cat > /dev/null", name) / 1e6

        for size in scale.messages:
            for name, rate in medians(
                list(points), scale.rounds, functools.partial(measure, size=size)
            ).items():
                points[name][size] = rate
    return Chart(f"Throughput from a {source} by message size", "bytes a message", "MB/s", points)


def by_input(scale: Scale) -> Chart:
    """Milliseconds over the input's size."""
    points: dict[str, dict[float, float]] = {name: {} for name in ("cat", "kvm", "process")}
    for size in scale.inputs:

        def measure(name: str, size: int = size) -> float:
            filter_ = "cat" if name == "cat" else f"{UKFILTER} {CAT}"
            return 1000 * took(f"head -c {size} /dev/zero | {filter_} | cat > /dev/null", name)

        for name, ms in medians(list(points), scale.rounds, measure).items():
            points[name][size] = ms
    return Chart("Time by input size", "bytes of input", "ms", points)


def memory(pids: Sequence[int]) -> float:
    """MB (Pss) of processes and the children that they trace, each."""
    total = 0
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024 / len(pids)


def guests_at_once(scale: Scale) -> tuple[Chart, Chart]:
    """Milliseconds until so many have answered, and MB each while they wait for more; the peer is a Python
    that does no more than that."""
    echo = "import os; os.write(1, os.read(0, 1)); os.read(0, 1)"
    peers = {
        "kvm": [UKFILTER, CAT],
        "process": [UKFILTER, CAT],
        "python": [str(BIN / "python"), "-c", echo],
    }
    times: dict[str, dict[float, float]] = {name: {} for name in peers}
    sizes: dict[str, dict[float, float]] = {name: {} for name in peers}
    for count in scale.guests:
        for name, argv in peers.items():
            start = time.perf_counter()
            pipe = subprocess.PIPE
            all_ = [
                subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment(name)) for _ in range(count)
            ]
            for p in all_:
                assert p.stdin and p.stdout
                p.stdin.write(b"x")
                p.stdin.flush()
            for p in all_:
                assert p.stdout and p.stdout.read(1) == b"x"
            times[name][count] = (time.perf_counter() - start) * 1000
            sizes[name][count] = memory([p.pid for p in all_])
            for p in all_:
                p.communicate()
    return (
        Chart("Guests at once: until all have answered", "guests", "ms", times),
        Chart("Guests at once: memory of one that waits", "guests", "MB (Pss)", sizes),
    )


def machine() -> str:
    """The machine's kind, in a line."""
    cpu = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    modules = {p.name for p in Path("/sys/module").glob("kvm_*")}
    kvm = (
        "hardware KVM" if modules & {"kvm_intel", "kvm_amd"} else "software KVM" if modules else "KVM unknown"
    )
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} processors, Linux {platform.release()}, {kvm}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [
        " | ".join(head),
        " | ".join(["---"] + ["---:"] * (len(head) - 1)),
        *(" | ".join(r) for r in rows),
    ]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def chart_table(chart: Chart) -> str:
    """A chart's figures; with cat, also as ratio to it."""
    xs = sorted({x for curve in chart.points.values() for x in curve})
    cat = chart.points.get("cat")
    rows = []
    for x in xs:
        cells = []
        for name, curve in chart.points.items():
            ratio = f" ({curve[x] / cat[x]:.2f})" if cat and name != "cat" else ""
            cells.append(f"{curve[x]:.1f}{ratio}")
        rows.append([f"{x:.0f}", *cells])
    note = " In brackets: the ratio to cat's." if cat else ""
    return f"## {chart.title}\n\n{chart.y}.{note}\n\n{table([chart.x, *chart.points], rows)}"


def short(number: float) -> str:
    """A number for an axis: 1500, 64K, 1M."""
    for unit, size in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number >= size and number % size == 0:
            return f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def plot(chart: Chart, left: float, top: float) -> list[str]:
    """SVG of one chart, 440 by 300, its corner at left, top."""
    import math

    xs = [math.log10(x) for curve in chart.points.values() for x in curve]
    ys = [math.log10(max(y, 1e-3)) for curve in chart.points.values() for y in curve.values()]
    x0, x1 = min(xs), max(max(xs), min(xs) + 0.1)
    y0, y1 = math.floor(min(ys)), max(math.ceil(max(ys)), math.floor(min(ys)) + 1)

    def at(x: float, y: float) -> str:
        px = left + 60 + 240 * (math.log10(x) - x0) / (x1 - x0)
        py = top + 250 - 210 * (math.log10(max(y, 1e-3)) - y0) / (y1 - y0)
        return f"{px:.1f},{py:.1f}"

    out = [f'<text x="{left + 60}" y="{top + 24}" font-weight="bold">{chart.title}</text>']
    for power in range(y0, y1 + 1):
        py = top + 250 - 210 * (power - y0) / (y1 - y0)
        ends = f'x1="{left + 60}" x2="{left + 300}" y1="{py:.1f}" y2="{py:.1f}"'
        out.append(f'<line {ends} stroke="#d0d7de"/>')
        out.append(f'<text x="{left + 54}" y="{py + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for x in sorted({x for curve in chart.points.values() for x in curve}):
        px = at(x, 1).split(",")[0]
        out.append(f'<text x="{px}" y="{top + 266}" text-anchor="middle" font-size="9">{short(x)}</text>')
    out.append(f'<text x="{left + 180}" y="{top + 284}" text-anchor="middle">{chart.x}; {chart.y}</text>')
    for number, (name, curve) in enumerate(chart.points.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(at(x, y) for x, y in sorted(curve.items()))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{left + 308}" y="{top + 50 + 16 * number}" fill="{colour}">{name}</text>')
    return out


def svg(charts: Sequence[Chart], title: str) -> str:
    """All charts, two in a row."""
    rows = (len(charts) + 1) // 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="920" height="{40 + 300 * rows}"'
        ' font-family="sans-serif" font-size="11">',
        f"<title>{title}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="20" y="20">{title}</text>',
    ]
    for number, chart in enumerate(charts):
        out += plot(chart, 460 * (number % 2), 30 + 300 * (number // 2))
    return "\n".join([*out, "</svg>", ""])


def main(words: list[str]) -> None:
    """Measure, and write the two files."""
    scale = QUICK if "--quick" in words else FULL if "--full" in words else Scale()
    folder = Path(next((w for w in words if not w.startswith("--")), HERE))
    title = f"{datetime.datetime.now().astimezone().date()}, {machine()}"
    starts = startup(scale)
    base = starts["python -c pass"]
    rows = [[name, f"{ms:.2f}", f"{ms / base:.2f}"] for name, ms in starts.items()]
    charts = [
        by_message(scale, "pipe"),
        by_message(scale, "file"),
        by_input(scale),
        *guests_at_once(scale),
    ]
    parts = [
        "# Benchmark of ukfilter",
        f"{title}. Medians of runs in turns; the plot is report.svg. `make bench` writes this.",
        f"## Start to end\n\nms; to Python's own start.\n\n{table(['program', 'ms', 'ratio'], rows)}",
        *map(chart_table, charts),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(parts)
    print(text)
    (folder / "report.md").write_text(text)
    (folder / "report.svg").write_text(svg(charts, title))
    print(f"written: {folder}/report.md, {folder}/report.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
