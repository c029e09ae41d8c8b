"""Images by their name. In a user namespace of its own, where the kernel has a table a namespace (6.7)."""

from __future__ import annotations

import pytest
from harness import EXAMPLES, UKFILTER, Result, one_line, run, sh

from ukfilter.cli.binfmt import entry

TABLE = "/proc/sys/fs/binfmt_misc"


def matches(data: bytes) -> bool:
    """As the kernel compares."""
    _, _, _, _, magic, mask, _, _ = entry("/x").split(":")
    want, bits = (bytes.fromhex(text.replace("\\x", "")) for text in (magic, mask))
    return all(d & b == w & b for d, w, b in zip(data, want, bits, strict=False))


def test_images_match_and_other_programs_do_not() -> None:
    for image in (*EXAMPLES.glob("*.hvt"), *EXAMPLES.glob("*.spt")):
        assert matches(image.read_bytes()[:256]), image
    for other in ("/bin/ls", "/bin/bash", UKFILTER):
        with open(other, "rb") as f:
            assert not matches(f.read(256)), other


def namespaced(script: str) -> Result:
    return run("unshare", "-Urm", "bash", "-c", f"mount -t binfmt_misc b {TABLE} && {script}", cwd=EXAMPLES)


@pytest.mark.skipif(namespaced("true").status != 0, reason="no binfmt_misc in a user namespace here")
def test_an_image_runs_by_its_name() -> None:
    script = (
        f"{UKFILTER} binfmt --status; {UKFILTER} binfmt --register && {UKFILTER} binfmt --status"
        " && seq 3 | ./wc.hvt && printf 'a\\nb\\n' | ./grep.spt b && ./seq.hvt 2"
        f" && {UKFILTER} binfmt --unregister; ./hello.hvt; echo $?; {UKFILTER} binfmt --unregister"
    )
    result = namespaced(script)
    lines = result.out.decode().splitlines()
    assert lines[:2] == ["not registered", f"registered, enabled: {UKFILTER}"], result
    assert lines[2].split() == ["3", "3", "6"]
    assert lines[3:] == ["b", "1", "2", "127"] or lines[3:] == ["b", "1", "2", "126"]
    assert result.status == 125 and b"binfmt: is not registered" in result.err


def test_it_takes_one_option() -> None:
    for words in ((), ("--register", "--status")):
        result = run(UKFILTER, "binfmt", *words)
        assert result.status == 125
        assert "which one of" in one_line(result.err)


NO_TABLE = "mount -t tmpfs t /proc/sys"  # also where binfmt_misc is mounted


def test_what_mount_says_of_it_is_told() -> None:
    result = sh(f"unshare -Urm bash -c '{NO_TABLE}; ukfilter binfmt --register'")
    assert result.status == 125
    assert "is not mounted, and mount: " in one_line(result.err)
    assert b"dmesg" not in result.err


def test_without_mount_at_hand() -> None:
    result = sh(f"unshare -Urm bash -c '{NO_TABLE}; PATH=/none {UKFILTER} binfmt --register'")
    assert result.status == 125
    assert "mount cannot be run: No such file" in one_line(result.err)
