"""Under the names of Solo5's own tenders, by a symbolic link, and with their options as they spell them."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
from harness import one_line, sh


@pytest.fixture(autouse=True)
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("solo5-hvt", "solo5-spt"):
        (tmp_path / name).symlink_to(harness.UKFILTER)
    monkeypatch.setitem(harness.ENV, "PATH", f"{tmp_path}:{harness.ENV['PATH']}")
    monkeypatch.setitem(harness.ENV, "T", str(tmp_path))


TENDERS = [("solo5-hvt", "hvt", "spt"), ("solo5-spt", "spt", "hvt")]


@pytest.mark.parametrize(("name", "target", "other"), TENDERS)
def test_an_image_of_its_target_runs(name: str, target: str, other: str) -> None:
    result = sh(f"{name} $E/hello.{target}") if target == "hvt" else sh(f"{name} $E/hello.spt")
    assert (result.status, result.out, result.err) == (0, b"Hello, world!\n", b"")


@pytest.mark.parametrize(("name", "target", "other"), TENDERS)
def test_one_of_the_other_is_refused(name: str, target: str, other: str) -> None:
    result = sh(f"{name} $E/hello.{other}")
    assert result.status == 126
    assert f"hello.{other}: built for Solo5's {other} target; {target} images can be run" in one_line(
        result.err
    )


def test_the_banner_is_not_suppressed() -> None:
    """Solo5's library prints it unless it is told `--solo5:quiet`, which is the guest's first word."""
    assert sh("solo5-hvt $G/bootinfo.hvt a b").out.count(b"--solo5:quiet") == 0
    assert sh("ukfilter $G/bootinfo.hvt a b").out.count(b"--solo5:quiet") == 1


def test_a_device_takes_a_descriptor_with_a_colon() -> None:
    result = sh("echo data | solo5-hvt --net:a=@0 --net:b=@1 --mem=64 -- $G/two_net.hvt")
    assert (result.status, result.out, result.err) == (0, b"data\n", b"5\n")


@pytest.mark.parametrize("name", ["solo5-hvt", "ukfilter"])
def test_all_options_of_solo5(name: str) -> None:
    result = sh(
        f"truncate -s 1M $T/disk; {name} --mem=64 --block:storage=$T/disk --block-sector-size:storage=4096"
        f" $G/disk.hvt info"
    )
    assert b"no option" not in result.err


def test_a_device_must_be_attached() -> None:
    """No standard input by default there: what Solo5 refuses, this refuses."""
    result = sh("echo data | solo5-hvt $E/cat.hvt")
    assert result.status == 125
    assert "not attached" in one_line(result.err)


@pytest.mark.parametrize("name", ["solo5-hvt", "solo5-spt", "ukfilter"])
def test_help(name: str) -> None:
    result = sh(f"{name} --help")
    assert result.status == 0
    assert b"--net" in result.out and b"--mem" in result.out and b"--dumpcore" in result.out


def test_no_image() -> None:
    result = sh("solo5-hvt")
    assert result.status == 125
    one_line(result.err)
