"""The example for Spark, in local mode. Skipped where Java or pyspark is missing (pip install pyspark)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from harness import EXAMPLES, GUESTS, ROOT, UKFILTER, Result, run

PYTHON = os.environ.get("UKFILTER_TEST_SPARK_PYTHON", sys.executable)  # one that has pyspark

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed"),
    pytest.mark.skipif(
        sys.executable == PYTHON and importlib.util.find_spec("pyspark") is None,
        reason="pyspark is not installed",
    ),
]


def spark(image: Path, tmp_path: Path, *args: str) -> Result:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"line {n}\n" for n in range(1000)))
    words = (PYTHON, ROOT / "examples" / "spark_pipe.py", UKFILTER, image, source, tmp_path / "out", *args)
    return run(*words, timeout=120)


def test_each_partition_goes_through_a_guest(tmp_path: Path) -> None:
    result = spark(EXAMPLES / "upper.hvt", tmp_path)
    assert result.status == 0, result
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert len(parts) >= 2
    assert "".join(p.read_text() for p in parts) == "".join(f"LINE {n}\n" for n in range(1000))


def test_a_guest_that_fails_fails_the_job(tmp_path: Path) -> None:
    result = spark(GUESTS / "fault.hvt", tmp_path, "null")
    assert result.status != 0
    assert b"guest fault" in result.err or b"255" in result.err
    assert not (tmp_path / "out" / "_SUCCESS").exists()
