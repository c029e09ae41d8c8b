"""Options read the quick way: the same as click makes of them, or left to click."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ukfilter.cli.command import command
from ukfilter.cli.grammar import OPTIONS, read, spelled_out
from ukfilter.cli.invoke import invoke
from ukfilter.errors import UsageError

SPELLINGS = [spelling for spellings, *_ in OPTIONS for spelling in spellings]
WORDS = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from([*SPELLINGS, "--version", "--nets"]).flatmap(
        lambda o: st.sampled_from([f"{o}=", f"{o}=a=b", f"{o}:a=b", f"{o}5", f"{o}q", o[:4]])
    ),
    st.sampled_from(["-", "--", "", "x.hvt", "-vv", "-qv", "-x", "-5", "a=b", "=", "-h", "\udcff"]),
)


@given(st.lists(WORDS, max_size=8))
def test_it_is_what_click_makes_of_them(words: list[str]) -> None:
    words = spelled_out(words)
    mine = read(words)
    if mine is not None:
        assert mine == invoke(command, "ukfilter", words)


@pytest.mark.parametrize("spellings", [o[0] for o in OPTIONS])
def test_each_option_is_read_so(spellings: tuple[str, ...]) -> None:
    for spelling in spellings:
        for words in ([spelling, "a=b"], [f"{spelling}=a=b"], [spelling], [f"{spelling}5"]):
            words = spelled_out([*words, "x.hvt", "-q", "--", "y"])
            try:
                his = invoke(command, "ukfilter", list(words))  # it eats them
            except UsageError:
                assert read(words) is None
            else:
                assert read(words) == his


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        ("-vt 5 --trace -q x", "-vt 5 --trace= -q x"),
        ("-vm 64M --net:a=b x", "-vm 64M --net a=b x"),
        ("-m64M --progress x", "-m64M --progress=auto x"),
        ("-mv --trace x", "-mv --trace= x"),
        ("-xt 5 --trace", "-xt 5 --trace"),
        ("--console --trace x", "--console --trace x"),
        ("--console --net:a=b x --trace", "--console --net:a=b x --trace"),
        ("-m -- --trace x", "-m -- --trace= x"),
        ("- --trace", "- --trace"),
        ("-- --trace", "-- --trace"),
        ("--mem=5 --block:a=b x", "--mem=5 --block a=b x"),
        ("-q --nets:a=b --trace x", "-q --nets:a=b --trace= x"),
    ],
)
def test_spelled_out_up_to_the_image(words: str, spelled: str) -> None:
    assert spelled_out(words.split()) == spelled.split()


def test_a_value_that_looks_like_an_option_is_clicks_to_judge() -> None:
    words = ["--console", "--trace", "x.hvt"]
    assert read(spelled_out(words)) is None
    image, args, given_ = invoke(command, "ukfilter", words)
    assert (image, args, given_["console"]) == ("x.hvt", [], "--trace")


@pytest.mark.parametrize("words", [[], ["-q"], ["--mem"], ["--"], ["-h"], ["--version"], ["--no", "x.hvt"]])
def test_what_needs_a_word_is_left_to_click(words: list[str]) -> None:
    assert read(spelled_out(words)) is None
