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


ATTACHED = "--net:stdin=@0 --net:stdout=@1"
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
    result = sh(f"solo5-hvt {ATTACHED} $G/bootinfo.hvt a b")
    assert (result.status, result.out.count(b"--solo5:quiet")) == (0, 0)
    result = sh("ukfilter $G/bootinfo.hvt a b")
    assert (result.status, result.out.count(b"--solo5:quiet")) == (0, 1)


def test_a_device_takes_a_descriptor_with_a_colon() -> None:
    result = sh("echo data | solo5-hvt --net:a=@0 --net:b=@1 --mem=64 -- $G/two_net.hvt")
    assert (result.status, result.out, result.err) == (0, b"data\n", b"5\n")


@pytest.mark.parametrize("name", ["solo5-hvt", "ukfilter"])
def test_a_block_device_with_its_sector_size(name: str) -> None:
    result = sh(
        f"truncate -s 1M $T/disk; {name} --mem=64 --block:disk=$T/disk --block-sector-size:disk=4096"
        " -- $G/disk.hvt"
    )
    assert (result.status, result.err) == (0, b"")
    assert result.out.startswith(b"1048576 4096\n")


def test_memory_is_in_megabytes() -> None:
    assert sh(f"solo5-hvt {ATTACHED} --mem=64 $G/bootinfo.hvt").out.startswith(b"mem 64 ")


def test_an_address() -> None:
    """ping.hvt says what it was told, and ends at the end of its input."""
    result = sh("solo5-hvt --net:service=@0 --net-mac:service=02:00:00:00:00:07 $G/ping.hvt")
    assert (result.status, result.out.splitlines()[0]) == (0, b"mtu 1500 mac 2:0:0:0:0:7")


def test_its_own_arguments_are_not_looked_at() -> None:
    result = sh(f"solo5-hvt {ATTACHED} $G/bootinfo.hvt --mem=64 run --help")
    assert result.status == 0
    assert b"--mem=64 run --help" in result.out


def test_a_command_of_ukfilters_is_an_image_there() -> None:
    result = sh("solo5-hvt inspect $E/hello.hvt")
    assert result.status == 127
    assert "inspect: no such image" in one_line(result.err)


def test_one_device_of_two_is_not_enough() -> None:
    result = sh("echo data | solo5-hvt --net:stdin=@0 $E/cat.hvt")
    assert (result.status, result.out) == (125, b"")
    assert "the network device stdout is not attached" in one_line(result.err)


@pytest.mark.parametrize(("name", "version"), [("solo5-hvt", 2), ("solo5-spt", 2)])
def test_version(name: str, version: int) -> None:
    result = sh(f"{name} --version")
    first, second = result.out.decode().splitlines()
    assert (result.status, result.err) == (0, b"")
    assert first.startswith(f"{name} tender, ukfilter ") and second == f"ABI version {version}"


def test_a_copy_by_a_hard_path_is_not_misled() -> None:
    """What it is called by counts, not what the image or a directory is called."""
    result = sh("mkdir $T/d-solo5-spt; ln -s $T/solo5-hvt $T/d-solo5-spt/uk; $T/d-solo5-spt/uk $E/hello.spt")
    assert (result.status, result.out) == (0, b"Hello, world!\n")


def test_a_device_must_be_attached() -> None:
    """No standard input by default there: what Solo5 refuses, this refuses."""
    result = sh("echo data | solo5-hvt $E/cat.hvt")
    assert result.status == 125
    assert "not attached" in one_line(result.err)


@pytest.mark.parametrize("name", ["solo5-hvt", "solo5-spt", "ukfilter"])
def test_help(name: str) -> None:
    result = sh(f"{name} --help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: {name} [OPTION...] IMAGE".encode())
    assert b"--net" in result.out and b"--mem" in result.out and b"--dumpcore" in result.out


def test_no_image() -> None:
    result = sh("solo5-hvt")
    assert result.status == 125
    assert "Usage: solo5-hvt [OPTION...] IMAGE" in one_line(result.err)
