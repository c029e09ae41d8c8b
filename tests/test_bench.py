"""The benchmark's report can be made, and is well-formed: it must not rot between its runs."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from harness import ROOT, run


def test_the_report_is_written(tmp_path: Path) -> None:
    result = run(sys.executable, ROOT / "bench" / "report.py", "--quick", tmp_path, timeout=120)
    assert (result.status, result.err) == (0, b"")
    text = (tmp_path / "report.md").read_text()
    for title in (
        "Start to end",
        "Throughput from a pipe by message size",
        "Throughput from a file by message size",
        "Time by input size",
        "Guests at once: memory",
    ):
        assert title in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    assert len(tables) == 6
    for rows in (t.splitlines() for t in tables):
        assert len({row.count("|") for row in rows}) == 1 and len(rows) >= 3
    root = ET.parse(tmp_path / "report.svg").getroot()
    assert root.tag.endswith("svg")
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 5 + 5 + 3 + 3 + 3
