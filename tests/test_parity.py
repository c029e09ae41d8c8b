"""One command line with the native tool and with our image: the same bytes and statuses, and it returns.

A case is a script in which @cat@ stands for the tool; PIPESTATUS of its last pipeline is part of the output.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from harness import sh

pytestmark = [
    pytest.mark.usefixtures("tender"),
    pytest.mark.parametrize("tender", [*harness.MODES, "process-spt"], indirect=True),
]

# Our image's name, where it is not that of the native command.
NATIVE = {"upper": "tr a-z A-Z", "grep": "grep -F"}

FILES = {
    "empty": b"",
    "byte": b"x",
    "newline": b"\n",
    "open-line": b"first line\nno newline at its end",
    "text": b"".join(b"line %d: The quick brown fox\tjumps  over\n" % i for i in range(5000)),
    "long-line": b"word " * 40_000 + b"\n",
    "random": random.Random(1).randbytes(1 << 20),
    "zeros": bytes(100_000),
    "crlf": b"one\r\ntwo\r\n\r\nfox\r\n",
}
TEXTS = [name for name in FILES if name not in ("random", "zeros")]
TOOLS = {
    "cat": ("@cat@", list(FILES)),
    "wc": ("@wc@", list(FILES)),
    "upper": ("@upper@", list(FILES)),
    "sha256sum": ("@sha256sum@", list(FILES)),
    "grep": ("@grep@ fox", TEXTS),
    "head": ("@head@", TEXTS),
    "rev": ("@rev@", TEXTS),
}
OF_INPUT = {
    f"{tool}-{file}": f"cat $D/{file} | {command}"
    for tool, (command, files) in TOOLS.items()
    for file in files
}

LINES = {
    # where input comes from
    "file": "@cat@ < $D/text",
    "file-random": "@sha256sum@ < $D/random",
    "file-empty": "@cat@ < $D/empty",
    "dev-null": "@cat@ < /dev/null",
    "dev-null-sum": "@sha256sum@ < /dev/null",
    "dev-zero": "head -c 3000000 /dev/zero | @sha256sum@",
    "dev-zero-head": "@cat@ < /dev/zero | head -c 1000000 | sha256sum",
    "here-document": "@upper@ <<X\nhello\n$((6 * 7))\nX",
    "here-string": "@rev@ <<< 'a here string'",
    "substitution": "@cat@ < <(printf 'a\\nb\\n')",
    "read-write-descriptor": "cp $D/text $T/f; @sha256sum@ <> $T/f",
    "fifo-pausing": "mkfifo $T/f; (printf a; sleep .3; printf b; sleep .3; echo c) > $T/f & @cat@ < $T/f",
    "fifo-no-data": "mkfifo $T/f; : > $T/f & @wc@ < $T/f",
    "writer-pauses": "(echo one; sleep .4; echo two; sleep .4; printf three) | @upper@",
    "writer-fails": "(echo partial; exit 3) | @cat@",
    "writer-is-killed": "bash -c \"sh -c 'echo partial; kill -9 \\$\\$'; true\" 2>/dev/null | @cat@",
    "drips": "(for i in 1 2 3 4 5 6 7 8 9; do printf $i; sleep .02; done) | @sha256sum@",
    "second-half": "(head -c 1000 >/dev/null; @cat@) < <(head -c 200000 $D/random)",
    # where output goes
    "append": "echo kept > $T/f; @cat@ < $D/text >> $T/f; @cat@ < $D/text >> $T/f; sha256sum < $T/f",
    "to-file": "@cat@ < $D/random > $T/f; cmp $D/random $T/f",
    "clobber": "echo longer than one byte > $T/f; @cat@ < $D/byte > $T/f; cat $T/f",
    "to-dev-null": "@cat@ < $D/random > /dev/null",
    "to-fifo": "mkfifo $T/f; sha256sum < $T/f & @cat@ < $D/random > $T/f; wait",
    "to-substitution": "@cat@ < $D/text > >(sha256sum > $T/f; echo > $T/done)"
    "; until [ -e $T/done ]; do sleep .05; done; cat $T/f",
    "stderr-as-stdout": "@cat@ < $D/text 2>&1",
    "tee": "@cat@ < $D/text | tee $T/f | @wc@; cmp $D/text $T/f",
    "slow-reader": "@cat@ < $D/random | (sleep .5; dd bs=5000 status=none | sha256sum)",
    "dripping-reader": '@cat@ < $D/text | while read -r line; do echo "$line"; done | sha256sum',
    # who ends first
    "head-1": "cat $D/text $D/random | @cat@ | head -1",
    "yes-head": "yes | @cat@ | head -1",
    "seq-head": "@seq@ 1000000 | head -1",
    "seq-head-own": "seq 1000000 | @head@ -n 1 | cat",
    "yes-own-head": "yes | @head@ -n 3",
    "reader-gone": "(sleep .3; cat $D/random) | @cat@ | true",
    "reader-gone-in-the-middle": "yes | @cat@ | head -c 300000 | sha256sum",
    "pipefail": "false | @cat@ | true",
    # pipelines of guests
    "two": "cat $D/random | @cat@ | @cat@ | sha256sum",
    "two-kinds": "cat $D/text | @upper@ | @rev@ | sha256sum",
    "five": "cat $D/text | @cat@ | @upper@ | @rev@ | @grep@ XOF | @wc@",
    "one-after-another": "@cat@ < $D/byte; @cat@ < $D/newline; @wc@ < /dev/null",
    "subshell": "(@cat@; echo after) < $D/open-line | @wc@",
    "group": "{ @seq@ 3; @seq@ 4; } | @rev@",
    "captured": 'x=$(@upper@ < $D/byte); echo "<$x>"',
    "loop": "for i in 1 2 3; do echo $i | @cat@; done",
    "background": "@cat@ < $D/text > $T/f & wait $!; echo $?; sha256sum < $T/f",
    "ten": "for i in 0 1 2 3 4 5 6 7 8 9; do @sha256sum@ < $D/random > $T/$i & done; wait; cat $T/?",
    "ten-in-pipes": "for i in 0 1 2 3 4 5 6 7 8 9; do cat $D/text | @upper@ | cat > $T/$i & done; wait"
    "; cat $T/? | sha256sum",
    "xargs": "echo 1 2 3 | xargs -n 1 @seq@",
    "directory": "cd /; @wc@ < /dev/null",
    # statuses and arguments
    "grep-none": "@grep@ no-such-word < $D/text",
    "grep-none-empty": "@grep@ x < /dev/null",
    "grep-and": "@grep@ fox < $D/text > /dev/null && echo found || echo none",
    "grep-or": "@grep@ owl < $D/text > /dev/null && echo found || echo none",
    "grep-not": "! @grep@ owl < $D/text",
    "grep-open-line": "@grep@ newline < $D/open-line",
    "grep-meta": "printf 'a.c\\nabc\\n[a]\\n' | @grep@ a.c",
    "head-0": "@head@ -n 0 < $D/text",
    "head-1-line": "@head@ -n 1 < $D/text",
    "head-many": "@head@ -n 100000 < $D/text | sha256sum",
    "seq-10": "@seq@ 10",
    "seq-1": "@seq@ 1",
    "seq-0": "@seq@ 0",
    "seq-many": "@seq@ 200000 | sha256sum",
    "seq-ignores-input": "yes | @seq@ 3",
    "negated": "! @cat@ < /dev/null",
}


def native(script: str) -> str:
    return re.sub(r"@(\w+)@", lambda m: NATIVE.get(m[1], m[1]), script)


def ours(script: str) -> str:
    return re.sub(r"@(\w+)@", r"ukfilter $E/\1.hvt", script)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return directory


def same(script: str, data: Path, tmp_path: Path, timeout: float = 30) -> None:
    """Run the script both ways and compare all that its user sees."""
    results = []
    for name, text in (("native", native(script)), ("ours", ours(script))):
        (tmp_path / name).mkdir()
        env = {**harness.ENV, "D": str(data), "T": str(tmp_path / name)}
        ask = 'status=$? all="${PIPESTATUS[*]}"; echo "status $all"; exit $status'
        results.append(sh(f"{text}\n{ask}", env=env, timeout=timeout))
    expected, got = results
    assert got.out == expected.out
    assert got.status == expected.status
    assert got.err == expected.err == b""


@pytest.mark.parametrize("name", OF_INPUT)
def test_input(name: str, data: Path, tmp_path: Path) -> None:
    same(OF_INPUT[name], data, tmp_path)


@pytest.mark.parametrize("name", LINES)
def test_line(name: str, data: Path, tmp_path: Path) -> None:
    same(LINES[name], data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["@cat@ | sha256sum", "@sha256sum@", "@wc@", "@upper@ | sha256sum"])
def test_gigabyte(tool: str, data: Path, tmp_path: Path) -> None:
    text = "yes 'The quick brown fox jumps over the lazy dog' 2>&- | head -c 1000000000"
    same(f"({text}; true) | {tool}", data, tmp_path, timeout=600)


@pytest.mark.parametrize("tool", ["cat", "wc", "sha256sum", "upper"])
def test_closed_stdin_reads_as_empty(tool: str) -> None:
    expected = sh(f"{NATIVE.get(tool, tool)} < /dev/null")
    got = sh(f"ukfilter $E/{tool}.hvt <&-")
    assert (got.status, got.out, got.err) == (0, expected.out, b"")


@pytest.mark.parametrize("kind", ["STREAM", "SEQPACKET"])
def test_socket_as_stdin(kind: str, data: Path) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, getattr(socket, f"SOCK_{kind}"))
    content = FILES["text"][:100_000]

    def feed() -> None:
        with here:
            for at in range(0, len(content), 1000):
                here.sendall(content[at : at + 1000])

    thread = threading.Thread(target=feed)
    thread.start()
    with there:
        got = sh("ukfilter $E/cat.hvt", stdin=there.fileno())
    thread.join()
    assert (got.status, got.out, got.err) == (0, content, b"")


def test_returns_when_the_guest_does_not_when_input_ends() -> None:
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w"):
        got = harness.run(harness.UKFILTER, harness.EXAMPLES / "hello.hvt", stdin=read)
    assert (got.status, got.err) == (0, b"")
    assert got.out
    assert got.seconds < 5


def test_sleep_1000_before_a_filter_that_reads_nothing() -> None:
    script = "(sleep 1000 &) | ukfilter $E/hello.hvt; echo ${PIPESTATUS[*]}"
    got = sh(script)
    assert got.out.endswith(b"0 0\n")
    assert got.err == b""
    assert got.seconds < 5


def test_output_arrives_before_input_ends() -> None:
    with harness.running(
        harness.UKFILTER,
        harness.EXAMPLES / "cat.hvt",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as p:
        assert p.stdin is not None
        assert p.stdout is not None
        for word in (b"one\n", b"two\n", b"three"):
            p.stdin.write(word)
            p.stdin.flush()
            assert select.select([p.stdout], [], [], 10)[0], "no output"
            assert os.read(p.stdout.fileno(), 100) == word
        p.stdin.close()
        assert p.wait(10) == 0


# A terminal: each test types, with the native tool and with ours.
COMMANDS = [
    pytest.param(("cat",), id="native"),
    pytest.param((harness.UKFILTER, harness.EXAMPLES / "cat.hvt"), id="ours"),
]


class Terminal:
    """The user's side of a pty."""

    def __init__(self, fd: int) -> None:
        self.fd, self.seen = fd, b""

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def expect(self, text: bytes, seconds: float = 10) -> None:
        """Wait until text was shown; what is before it is dropped."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"{text!r} was not shown, but {self.seen!r}")
            self.seen += os.read(self.fd, 4096)
        self.seen = self.seen.partition(text)[2]


@contextlib.contextmanager
def on_terminal(*argv: object) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    master, slave = pty.openpty()
    env = {**harness.ENV, "TERM": "dumb", "PS1": "ready> "}
    # setsid takes the terminal as the new session's own.
    command = ("setsid", "--ctty", *argv)
    try:
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        with harness.running(*command, **ends, env=env, start_new_session=False) as p:
            os.close(slave)
            yield Terminal(master), p
    finally:
        os.close(master)


@pytest.fixture
def shell() -> Iterator[Terminal]:
    """An interactive shell on a terminal."""
    with on_terminal("bash", "--norc", "--noprofile", "--noediting", "-i") as (terminal, _):
        terminal.expect(b"ready> ")
        yield terminal


def words(command: tuple[object, ...]) -> bytes:
    return " ".join(str(word) for word in command).encode()


@pytest.mark.parametrize("command", COMMANDS)
def test_terminal_end_of_file(shell: Terminal, command: tuple[object, ...]) -> None:
    shell.type(words(command) + b"\n")
    for line in (b"first", b"second"):
        shell.type(line + b"\n")
        shell.expect(line + b"\r\n" + line + b"\r\n")
    shell.type(b"\x04")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?.\n")
    shell.expect(b"status=0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_terminal_end_of_file_in_a_line(shell: Terminal, command: tuple[object, ...]) -> None:
    shell.type(words(command) + b"\n")
    time.sleep(0.5)
    shell.type(b"half\x04")
    shell.expect(b"halfhalf")
    shell.type(b"\x04")
    shell.expect(b"ready> ")


@pytest.mark.parametrize("command", COMMANDS)
def test_terminal_interrupt(shell: Terminal, command: tuple[object, ...]) -> None:
    shell.type(words(command) + b"\n")
    shell.type(b"line\n")
    shell.expect(b"line\r\nline\r\n")
    shell.type(b"\x03")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?.\n")
    shell.expect(b"status=130.")


@pytest.mark.parametrize("command", COMMANDS)
def test_terminal_stop_and_go_on(shell: Terminal, command: tuple[object, ...]) -> None:
    shell.type(words(command) + b"\n")
    shell.type(b"before\n")
    shell.expect(b"before\r\nbefore\r\n")
    shell.type(b"\x1a")
    shell.expect(b"Stopped")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?.\n")
    shell.expect(b"status=148.")
    shell.type(b"fg\n")
    shell.expect(words(command))
    shell.type(b"after\n")
    shell.expect(b"after\r\nafter\r\n")
    shell.type(b"\x04")
    shell.expect(b"ready> ")
    shell.type(b"echo status=$?.\n")
    shell.expect(b"status=0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_stop_and_continue_by_signal(command: tuple[object, ...]) -> None:
    with harness.running(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdin is not None
        assert p.stdout is not None
        os.write(p.stdin.fileno(), b"one")
        assert os.read(p.stdout.fileno(), 10) == b"one"
        p.send_signal(signal.SIGTSTP)
        p.send_signal(signal.SIGSTOP)
        harness.eventually(lambda: harness.proc_status(p.pid)["State"].startswith("T"), "it is stopped")
        os.write(p.stdin.fileno(), b"two")
        assert not select.select([p.stdout], [], [], 0.3)[0]
        p.send_signal(signal.SIGCONT)
        assert os.read(p.stdout.fileno(), 10) == b"two"
        p.stdin.close()
        assert p.wait(10) == 0
