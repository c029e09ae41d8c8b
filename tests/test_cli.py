"""What the command line means: parsed only, no guest is run."""

from __future__ import annotations

import pytest

from ukfilter.cli import COMMANDS
from ukfilter.cli.run import main, parse
from ukfilter.errors import UsageError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UKFILTER_MEM", raising=False)
    monkeypatch.delenv("UKFILTER_TENDER", raising=False)


def test_parsing_stops_at_the_image() -> None:
    path, args, options = parse(["-v", "x.hvt", "--mem", "7", "-h", "--", "--net:a=b", ""])
    assert (path, args) == ("x.hvt", ["--mem", "7", "-h", "--", "--net:a=b", ""])
    assert (options.verbose, options.mem) == (1, 512 << 20)


def test_a_double_dash_before_the_image_is_dropped() -> None:
    assert parse(["--", "x.hvt", "--", "a"])[:2] == ("x.hvt", ["--", "a"])
    assert parse(["-v", "--", "--net:a=b"])[:2] == ("--net:a=b", [])


def test_every_option() -> None:
    words = "-m 64M --net a=@3 --net b=/x=y --net-mtu a=9000 --net-mac a=02:00:00:00:00:01 --console null"
    words += " --eof zero --drain 200ms --no-quiet -vv -q --stats x.hvt"
    path, args, options = parse(words.split())
    assert (path, args) == ("x.hvt", [])
    assert options.mem == 64 << 20
    assert options.nets == {"a": "@3", "b": "/x=y"}
    assert (options.mtus, options.macs) == ({"a": 9000}, {"a": b"\2\0\0\0\0\1"})
    assert (options.console, options.eof, options.drain) == ("null", "zero", 0.2)
    assert (options.quiet, options.verbose, options.stats) == (False, 0, False)  # -q has the last word


def test_colon_spellings() -> None:
    words = ["--mem=64", "-m", "32", "--net:a=-", "--net-mtu:a=1280", "--net-mac:a=02:00:00:00:00:01"]
    path, args, options = parse([*words, "x.hvt", "--net:b=c"])
    assert (path, args) == ("x.hvt", ["--net:b=c"])
    assert (options.nets, options.mtus) == ({"a": "-"}, {"a": 1280})
    assert options.macs == {"a": b"\2\0\0\0\0\1"}
    assert options.mem == 32 << 20


def test_a_value_is_not_taken_for_the_image() -> None:
    assert parse(["--console", "x", "--net:a=@3", "y.hvt"])[2].nets == {"a": "@3"}


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UKFILTER_MEM", "64")
    assert parse(["-v", "x"])[2].mem == 64 << 20
    assert parse(["-m", "32", "x"])[2].mem == 32 << 20


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], r"which IMAGE\? Usage: ukfilter \[OPTION...\] IMAGE \[ARG...\]"),
        (["-v"], r"which IMAGE\?"),
        (["--"], r"which IMAGE\?"),
        (["--foo", "x"], "no option --foo; see ukfilter -h"),
        (["--foo\n\x1b", "x"], r"no option --foo\\n\\x1b"),
        (["-Z", "x"], "no option -Z"),
        (["--mem"], "--mem"),
        (["--stats=1", "x"], "--stats"),
        (["--mem", "much", "x"], "--mem: much is not a size"),
        (["--eof", "never", "x"], "--eof: never is none of auto, zero, halt, error, again"),
        (["--drain", "long", "x"], "--drain: long is not a time"),
        (["--net", "a", "x"], "--net: a is not of the form NAME=VALUE"),
        (["--net:a", "x"], "--net: a is not of the form NAME=VALUE"),
        (["--net-mtu", "a=1", "x"], "--net-mtu: 1 is not an MTU"),
        (["--net-mac:a=1", "x"], "--net-mac: 1 is not an address"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        parse(words)
    assert str(caught.value).isprintable()
    assert caught.value.status == 125


@pytest.mark.parametrize(
    ("word", "text"),
    [("-h", "Usage: ukfilter [OPTION...] IMAGE"), ("--help", "Exit status"), ("--version", "ukfilter 0.")],
)
def test_help_and_version_are_output(word: str, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert parse([word]) == 0
    capfd.readouterr()
    assert main([word]) == 0
    out, err = capfd.readouterr()
    assert text in out and err == ""


def test_run_is_a_command_and_a_file_of_that_name_has_a_slash() -> None:
    assert "run" in COMMANDS
    assert parse(["./run", "a"])[:2] == ("./run", ["a"])
