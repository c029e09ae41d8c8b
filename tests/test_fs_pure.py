"""The mount's modules that know no FUSE: the job's states, the spool, what a TOML file may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ukfilter.errors import UsageError
from ukfilter.fs.config import parse_spool, read_filters
from ukfilter.fs.job import Job, VerbError, parse_verbs
from ukfilter.fs.spool import Spool, SpoolGoneError
from ukfilter.fs.tree import ROOT, Tree
from ukfilter.pipes.record import Figures, Outcome

GOOD = Outcome("x.hvt", (), 0, "halted", figures=Figures(1, 2, 3, 4, 5.04))
BAD = Outcome("x.hvt", (), 255, "guest fault: reading address 0x0")


def test_a_job_runs_drains_and_is_over() -> None:
    job = Job()
    assert (job.state, job.join(), job.writers) == ("running", True, 2)
    assert not job.leave()
    assert job.state == "running"
    assert job.leave()
    assert (job.state, job.join(), job.failed) == ("draining", False, False)
    job.finish(GOOD)
    assert (job.state, job.failed) == ("over", False)
    job.bytes_in, job.bytes_out = 3, 4
    assert job.line() == "over in=3 out=4 status=0 ms=5.0 reason=halted"


def test_a_guest_may_end_before_its_writers() -> None:
    job = Job()
    job.finish(BAD)
    job.finish(GOOD)
    assert (job.state, job.failed, job.join()) == ("over", True, False)
    assert job.line() == "over in=0 out=0 status=255 reason=guest fault: reading address 0x0"
    assert not job.leave()


def test_the_end_of_input_comes_once() -> None:
    job = Job()
    assert job.end_input()
    assert not job.end_input()
    assert not job.leave()


def test_a_job_at_its_limit_says_what_to_do() -> None:
    job = Job()
    job.full = True
    assert "read it" in job.line()


def test_verbs() -> None:
    assert parse_verbs(b"kill\n eof forget") == ["kill", "eof", "forget"]
    for wrong in (b"Kill", b"kill now", b"\xff"):
        with pytest.raises(VerbError, match="none of kill, eof, forget"):
            parse_verbs(wrong)


@given(
    st.lists(st.one_of(st.binary(max_size=90), st.tuples(st.integers(0, 900), st.integers(0, 200)))),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_a_spool_is_bytes_in_order(steps: list[bytes | tuple[int, int]], memory: int, file: int) -> None:
    spool, model = Spool(10_000, memory=memory, file=file), b""
    for step in steps:
        if isinstance(step, bytes):
            spool.append(step)
            model += step
        else:
            offset, size = step
            data = spool.read(offset, size)
            assert data == model[offset : offset + len(data)]
            assert len(data) <= size
            assert data or not size or offset >= len(model)
    assert (spool.end, spool.room) == (len(model), 10_000 - len(model))
    spool.close()


def test_what_is_given_back_makes_room() -> None:
    spool = Spool(300, memory=100, file=100)
    spool.append(b"a" * 300)
    assert spool.room == 0
    spool.give_back(99)
    assert spool.room == 0
    spool.give_back(250)
    assert (spool.room, spool.start) == (200, 200)
    with pytest.raises(SpoolGoneError):
        spool.read(199, 1)
    assert spool.read(200, 500) == b"a" * 100
    spool.append(b"b" * 200)
    assert spool.read(300, 500)[:1] == b"b"
    spool.close()
    assert spool.read(spool.end, 1) == b""


def test_filters_by_word(tmp_path: Path) -> None:
    (one, two) = read_filters(["a=x.hvt", "b=/y.hvt"], {"mem": "64M"}, 5000)
    assert (one.name, one.image, two.image) == ("a", str(Path("x.hvt").absolute()), "/y.hvt")
    assert (one.mem, one.options().mem, one.spool) == ("64M", 64 << 20, 5000)


def test_filters_by_file(tmp_path: Path) -> None:
    path = tmp_path / "uk.toml"
    path.write_text(
        '[g]\nimage = "g.hvt"\nargs = ["-v", "x y"]\nmem = 64\ntimeout = "2s"\neof = "halt"\nspool = "1M"\n'
    )
    (one,) = read_filters([str(path)], {"tender": "process"})
    assert (one.image, one.args, one.spool) == (str(tmp_path / "g.hvt"), ("-v", "x y"), 1 << 20)
    options = one.options()
    assert (options.mem, options.timeout, options.eof, options.tender) == (64 << 20, 2.0, "halt", "process")
    assert 'args = ["-v", "x y"]' in one.settings()
    assert 'tender = "process"' in one.settings()


WRONG_FILES = {
    "no TOML": "[a",
    "no setting bad": '[a]\nimage = "x"\nbad = 1',
    "which image": "[a]\nargs = []",
    "not a list of texts": '[a]\nimage = "x"\nargs = "b"',
    "is a value": "a = 1",
    "no directory can have this name": '["a/b"]\nimage = "x"',
    "is not a size": '[a]\nimage = "x"\nmem = "lots"',
    "is not a size of 4096": '[a]\nimage = "x"\nspool = 1',
    "none of auto": '[a]\nimage = "x"\neof = "never"',
}


@pytest.mark.parametrize("reason", WRONG_FILES)
def test_a_wrong_file_is_told_in_a_line(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "uk.toml"
    path.write_text(WRONG_FILES[reason])
    with pytest.raises(UsageError, match=reason) as caught:
        read_filters([str(path)], {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["cat"], ["=x"], ["a=x", "a=y"], ["..=x"], ["no.toml"]])
def test_wrong_words(words: list[str]) -> None:
    with pytest.raises(UsageError):
        read_filters(words, {})


def test_sizes_of_a_spool() -> None:
    assert [parse_spool(t) for t in ("4096", "4k", "2M", "1G")] == [4096, 4096, 2 << 20, 1 << 30]
    for wrong in ("", "1", "x", "-4k", "4kk", "1.5M"):
        with pytest.raises(UsageError):
            parse_spool(wrong)


def test_the_tree() -> None:
    tree = Tree(read_filters(["a=x", "b=y"], {}), 0, 0)
    a = tree.lookup(ROOT, "a")
    assert a is not None and tree.lookup(ROOT, "c") is None
    place = tree.filters["a"]
    names = [name for name, _ in tree.entries(a)]
    assert names == ["in", "out", "err", "status", "wait", "ctl"]
    child = tree.make_private(place, "j", 7, 8, 0o700)
    inodes = [inode for _, inode in tree.entries(a)]
    assert inodes == sorted(set(inodes)) and child.inode in inodes
    out = tree.lookup(child.inode, "out")
    assert out is not None
    tree.remove(child)
    assert tree.lookup(a, "j") is None and tree.lookup(child.inode, "out") is None
    assert tree.node(out) == (child, "out"), "until the kernel forgets it"
    tree.forget(out)
    assert tree.node(out) is None
    tree.forget(a)
    assert tree.node(a) is not None
