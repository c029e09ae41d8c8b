"""Block devices by Solo5's rules, under both tenders."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import UKFILTER, run

pytestmark = pytest.mark.usefixtures("tender")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"A" * 512 + b"B" * 512 + b"C" * 1024)
    return path


def words(got: bytes) -> dict[str, str]:
    return dict(word.split("=") for word in got.decode().splitlines()[1].split())


@pytest.mark.parametrize("spelling", ["--block=disk={}", "--block:disk={}"])
def test_reads_and_writes_whole_sectors_and_nothing_else(spelling: str, disk: Path, guest) -> None:
    got = run(UKFILTER, spelling.format(disk), guest("disk"))
    assert (got.status, got.err) == (0, b"")
    assert got.out.startswith(b"2048 512\n")
    said = words(got.out)
    assert said["first"] == "A"
    assert [said[k] for k in ("read", "write", "whole")] == ["0", "0", "0"]
    assert [said[k] for k in ("past", "across", "wrap", "unaligned", "part", "handle")] == ["2"] * 6
    assert disk.read_bytes() == b"A" * 512 + b"B" * 512 + b"C" * 512 + b"W" * 512


def test_read_only(disk: Path, guest) -> None:
    before = disk.read_bytes()
    disk.chmod(0o400)
    got = run(UKFILTER, "--block", f"disk={disk},ro", guest("disk"))
    assert got.status == 0
    assert words(got.out)["write"] == "2"
    assert disk.read_bytes() == before


def test_sector_size(disk: Path, guest) -> None:
    got = run(UKFILTER, "--block", f"disk={disk}", "--block-sector-size:disk=1024", guest("disk"))
    assert got.out.startswith(b"2048 1024\n")
    assert words(got.out)["unaligned"] == "2"


@pytest.mark.parametrize(
    ("options", "mention"),
    [
        ([], "--block disk=PATH"),
        (["--block", "disk=/no/such"], "/no/such"),
        (["--block", "disk=/dev/null"], "not a stream"),
        (["--block", "disk=/etc"], "directory"),
        (["--block", "disk={odd}"], "multiple"),
        (["--block", "disk={empty}"], "multiple"),
        (["--block", "cd={odd}"], "no block device cd"),
        (["--block", "disk={odd}", "--block-sector-size", "disk=1000"], "power of two"),
        (["--net", "disk=-", "--block", "disk={odd}"], "no network device disk"),
    ],
)
def test_refusals_name_the_device(options: list[str], mention: str, tmp_path: Path, guest) -> None:
    names = {"odd": tmp_path / "odd", "empty": tmp_path / "empty"}
    names["odd"].write_bytes(b"x" * 700)
    names["empty"].write_bytes(b"")
    got = run(UKFILTER, *(o.format(**names) for o in options), guest("disk"))
    assert (got.status, got.out) == (125, b"")
    assert got.err.startswith(b"ukfilter: ")
    assert got.err.count(b"\n") == 1
    assert mention in got.err.decode()
