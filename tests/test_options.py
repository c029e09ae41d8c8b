"""How the values of options are read: every text is a value or a one-line refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ukfilter.errors import ImageNotFoundError, UkfilterError, UsageError, printable
from ukfilter.tender import options

MB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", 64 * MB),
        ("512M", 512 * MB),
        ("512m", 512 * MB),
        ("1G", 1 << 30),
        ("4g", 4 << 30),
        ("4096", 4 << 30),
        ("2", 2 * MB),
        ("2049k", 2048 * 1024),
        ("2052K", 2052 * 1024),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert options.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "0x40", "64 M", "64MB", "٣٤", "1" * 5000])
def test_not_sizes(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--mem: .*write it as 512M or 1G"):
        options.parse_size(text)


@pytest.mark.parametrize("text", ["0", "1", "4097", "5G", "1024k"])
def test_sizes_out_of_range(text: str) -> None:
    with pytest.raises(UsageError, match="out of range; a guest has 2M to 4G"):
        options.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5", 1.5), ("200ms", 0.2), ("2s", 2), ("1m", 60), ("1h", 3600), ("0", 0), (".5s", 0.5)],
)
def test_times(text: str, seconds: float) -> None:
    assert options.parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", ".", "-1", "1e3", "nan", "inf", "1.2.3", "1 s", "9" * 400])
def test_not_times(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time; write it as 2s or 200ms"):
        options.parse_time(text)


def test_macs() -> None:
    assert options.parse_mac("02:00:00:00:00:fF") == b"\x02\0\0\0\0\xff"


@pytest.mark.parametrize(
    "text", ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02:00:00:00:00:0g", "02-0"]
)
def test_not_macs(text: str) -> None:
    with pytest.raises(UsageError, match="is not an address like"):
        options.parse_mac(text)


def test_a_multicast_address_is_no_device() -> None:
    with pytest.raises(UsageError, match="multicast"):
        options.parse_mac("01:00:00:00:00:01")


@pytest.mark.parametrize(("text", "mtu"), [("68", 68), ("1500", 1500), ("65535", 65535)])
def test_mtus(text: str, mtu: int) -> None:
    assert options.parse_mtu(text) == mtu


@pytest.mark.parametrize("text", ["", "67", "65536", "-1", "1k", "000000068999", "9" * 5000])
def test_not_mtus(text: str) -> None:
    with pytest.raises(UsageError, match="is not an MTU, 68 to 65535"):
        options.parse_mtu(text)


def test_assignments() -> None:
    assert options.parse_assignment("a=b=c", "--net") == ("a", "b=c")
    for text in ("", "a", "a=", "=b"):
        with pytest.raises(UsageError, match=r"^--net: .*NAME=VALUE"):
            options.parse_assignment(text, "--net")


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UKFILTER_MEM", raising=False)
    monkeypatch.delenv("UKFILTER_TENDER", raising=False)
    chosen = options.options_from_env()
    assert (chosen.mem, chosen.eof, chosen.drain, chosen.quiet) == (512 * MB, "auto", 1.0, True)
    assert (chosen.nets, chosen.console, chosen.verbose, chosen.stats) == ({}, None, 0, False)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UKFILTER_MEM", "64")
    assert options.options_from_env().mem == 64 * MB
    monkeypatch.setenv("UKFILTER_MEM", "lots")
    with pytest.raises(UsageError, match=r"^UKFILTER_MEM: lots is not a size"):
        options.options_from_env()
    monkeypatch.setenv("UKFILTER_MEM", "")
    assert options.options_from_env().mem == 512 * MB


PARSERS = (options.parse_size, options.parse_time, options.parse_mac, options.parse_mtu)


@pytest.mark.parametrize("parser", PARSERS)
@given(text=st.text() | st.text("0123456789abcdef:.kmsh", max_size=20))
def test_any_text_is_a_value_or_one_line(parser: Callable[[str], object], text: str) -> None:
    said = ""
    try:
        parser(text)
    except UsageError as e:
        said = str(e)
    assert said.isprintable()


@given(st.text(st.characters()))
def test_printable_is_one_line_of_valid_text(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


def test_printable_keeps_what_can_be_read() -> None:
    assert printable("a b/é.hvt") == "a b/é.hvt"
    assert printable("a\n\x1b\udcff") == "a\\n\\x1b\\udcff"


def test_statuses() -> None:
    assert (UkfilterError.status, UsageError.status, ImageNotFoundError.status) == (125, 125, 127)
