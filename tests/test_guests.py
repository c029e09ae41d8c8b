"""Guests that misbehave: each ends with its status, in time, with one line where that is due."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import harness
import pytest
from harness import one_line, proc_status, run, sh

pytestmark = [
    pytest.mark.usefixtures("tender"),
    pytest.mark.parametrize("tender", harness.MODES, indirect=True),
]

UKFILTER = harness.UKFILTER

# What the one line says of each kind of `fault KIND`, before where it happened.
FAULTS = {
    "null": "page fault reading address 0x0 ",
    "data": "page fault executing",
    "text": "page fault writing",
    "constant": "page fault writing",
    "boot": "page fault writing",
    "tables": "page fault writing address 0x20000 ",
    "doorbell": "address 0xf0000 ",
    "beyond": "page fault reading address 0x20000000 ",
    "page": "page fault writing address 0x7f0000000000 ",
    "stack": "page fault",
    "undefined": "undefined instruction",
    "divide": "division error",
    "hlt": "",
    "cr3": "privileged instruction",
    "msr": "privileged instruction",
    "in": "privileged instruction",
    "out": "privileged instruction",
    "int3": "",
    "int80": "",
    "syscall": "",
    "sysenter": "",
    "vsyscall": "",
    "compat": "",
}


# A process guest's own system call never reaches the kernel, and a tracer is not told how a page that is
# not there was to be used.
FAULTS_OF_A_PROCESS = {
    "int80": "system call of the host",
    "syscall": "system call of the host",
    "vsyscall": "system call of the host",
    "null": "page fault accessing address 0x0 ",
    "tables": "page fault accessing address 0x20000 ",
    "beyond": "page fault accessing address 0x20000000 ",
    "page": "page fault accessing address 0x7f0000000000 ",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_is_told_in_one_line(kind: str, guest, tender: str) -> None:
    got = run(UKFILTER, guest("fault"), kind)
    line = one_line(got.err)
    expected = (FAULTS_OF_A_PROCESS if tender == "process" else {}).get(kind, FAULTS[kind])
    assert (got.status, got.out) == (255, b"before\n")
    assert line.startswith("ukfilter: fault.hvt: ")
    assert expected in line
    if "system call" in expected:
        return
    assert re.search(r"\brip 0x[0-9a-f]+", line)
    if FAULTS[kind].startswith("page fault"):
        assert re.search(r"\baddress 0x[0-9a-f]+", line)


@pytest.mark.parametrize("kind", ["page", "undefined"])
def test_registers_are_shown_by_verbose(kind: str, guest) -> None:
    got = run(UKFILTER, "-v", guest("fault"), kind)
    text = got.err.decode()
    assert got.status == 255
    assert re.search(r"\brax [0-9a-f]+", text)
    assert all(line.startswith("ukfilter: ") for line in text.splitlines())


def test_abort_is_255(guest) -> None:
    got = run(UKFILTER, guest("abort"))
    assert (got.status, got.out, got.err) == (255, b"abort: as asked\n", b"")


def test_fault_goes_through_the_guests_own_handler(guest) -> None:
    """Its tables, its stack for traps (IST), FS base; the handler ends the guest, or goes on."""
    shown = b"fs 1234\ntrap error 4 cr2 5000 stack 1\n"
    got = run(UKFILTER, guest("traps"))
    assert (got.status, got.out, got.err) == (42, shown, b"")
    got = run(UKFILTER, guest("traps"), "return")
    assert (got.status, got.out, got.err) == (0, shown + b"went on\n", b"")


def kvm_has_avx() -> bool:
    """Whether KVM offers AVX to guests: a KVM that is software may not, where the processor has it.

    KVM_GET_SUPPORTED_CPUID fills a struct kvm_cpuid2 (linux/kvm.h): how many, then entries of ten words each.
    """
    entries = bytearray(struct.pack("=II", 256, 0).ljust(8 + 256 * 40, b"\0"))
    with open("/dev/kvm", "rb") as kvm:
        fcntl.ioctl(kvm, 0xC008AE05, entries)
    leaf_1 = next(e for e in struct.iter_unpack("=10I", entries[8:]) if e[0] == 1)
    return leaf_1[5] >> 26 & 5 == 5  # in ecx: XSAVE and AVX


def test_sse_and_avx(guest, tender: str) -> None:
    """A software KVM may let a guest see the processor's own CPUID, whatever it says that it offers: then AVX
    is there or not, but never wrong."""
    with open("/proc/cpuinfo") as file:
        here = " avx " in file.read()
    may_be = {"36"} if here else {"no"}
    if tender == "kvm" and here and not kvm_has_avx():
        may_be = {"36", "no"}
    got = run(UKFILTER, guest("vectors"))
    assert got.status == 0
    assert got.out.decode() in {f"sse 10 avx {avx}\n" for avx in may_be}


def test_what_the_guest_is_told(guest) -> None:
    options = ["--mem", "64M", "--net-mtu", "stdin=9000", "--net-mac:stdout=02:00:00:00:00:07"]
    got = run(UKFILTER, *options, guest("bootinfo"), "one", "two")
    lines = got.out.decode().splitlines()
    assert (got.status, got.err) == (0, b"")
    assert lines[0] == "mem 64 end 1 tsc 1 ring 0"
    assert lines[1] == "cmdline 21 --solo5:quiet one two"
    assert "arg one" in lines
    assert any(re.match(r"device 1 stdin mtu 9000 mac .* attached 1$", line) for line in lines)
    assert "device 2 stdout mtu 1500 mac 02:00:00:00:00:07 attached 1" in lines


def test_no_quiet(guest) -> None:
    got = run(UKFILTER, "--no-quiet", guest("bootinfo"), "one")
    assert b"cmdline 3 one\n" in got.out


def test_longest_command_line(guest) -> None:
    room = 8191 - len("--solo5:quiet ")
    got = run(UKFILTER, guest("bootinfo"), "x" * room)
    assert b"cmdline 8191 " in got.out
    got = run(UKFILTER, guest("bootinfo"), "x" * (room + 1))
    assert got.status == 125
    one_line(got.err)


# Hypercalls with wild numbers, addresses, lengths and handles. The contract has faults end a guest with
# 255 and one line; what has a return value is refused with R_EINVAL, 2, and the guest goes on.
FATAL = [
    *(f"number {n}" for n in (0, 9, 100, 255)),
    "struct-low",
    "struct-text",
    "struct-end",
    "struct-beyond",
    "puts-wild",
    "puts-long",
]
REFUSED = [
    *(f"{call} {n}" for call in ("handle", "write-handle") for n in (0, 3, 63, 64, 65, 2147483648)),
    *("read-long", "read-wrap", "read-text", "read-low", "read-end"),
    *("write-tables", "write-low", "write-end"),
    "handle 2",
    "write-handle 1",
]


@pytest.mark.parametrize("words", FATAL)
def test_wild_hypercall_ends_the_guest(words: str, guest) -> None:
    got = run(UKFILTER, guest("wild"), *words.split(), stdin=b"data")
    line = one_line(got.err)
    assert (got.status, got.out) == (255, b"")
    assert line.startswith("ukfilter: wild.hvt: ")


@pytest.mark.parametrize("words", REFUSED)
def test_wild_hypercall_is_refused(words: str, guest) -> None:
    got = run(UKFILTER, guest("wild"), *words.split(), stdin=b"data")
    if words == "handle 2":  # an output read as an input is at its end, or refused
        assert got.err in (b"ret=2\n", b"ret=0\n")
    else:
        assert got.err == b"ret=2\n"
    assert (got.status, got.out) == (5, b"")


def test_an_empty_line_may_be_anywhere(guest) -> None:
    got = run(UKFILTER, guest("wild"), "puts-empty")
    assert (got.status, got.err) == (5, b"")


@pytest.mark.parametrize("what", ["data", "null", "base"])
def test_segments_that_the_guest_loads_itself(what: str, tender: str) -> None:
    got = sh(f"ukfilter $G/segments.hvt {what}")
    assert (got.status, got.err) == (3, b"")


def test_a_segment_base_that_linux_does_not_take(tender: str) -> None:
    got = sh("ukfilter $G/segments.hvt high-base")
    assert got.status == 255
    assert "privileged instruction" in one_line(got.err)


@pytest.mark.parametrize("mem", ["16M", "512M", "4G"])
def test_memory_is_touched_only_as_the_guest_does(mem: str, image) -> None:
    with harness.running(UKFILTER, "--mem", mem, image("cat"), stdin=subprocess.PIPE) as p:
        harness.wait_sandboxed(p.pid)
        assert int(proc_status(p.pid)["VmRSS"].split()[0]) < 40 << 10


@pytest.mark.parametrize("mib", [0, 32, 200])
def test_resident_memory_is_what_the_guest_touched(mib: int, guest, tender: str) -> None:
    with harness.running(UKFILTER, guest("touch"), mib, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        assert os.read(p.stdout.fileno(), 100) == b"touched\n"
        pid = p.pid
        if tender == "process":  # what the guest touched is its own process's
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        kilobytes = int(proc_status(pid)["VmRSS"].split()[0])
        assert mib << 10 <= kilobytes < (mib + 20) << 10


def test_block_call_is_refused_and_the_guest_goes_on(guest) -> None:
    got = run(UKFILTER, guest("wild"), "block")
    assert (got.status, got.out) == (5, b"")
    assert b"ukfilter" not in got.err


# End of file: `eof WHAT [N]` copies its input, and then does WHAT.
def eof(guest, *words: object, stdin: bytes = b"data") -> harness.Result:
    """Run eof.hvt; words are options, then --, then its arguments."""
    at = words.index("--")
    return run(UKFILTER, *words[:at], guest("eof"), *words[at + 1 :], stdin=stdin)


def test_guest_that_waits_after_end_of_file_is_ended(guest) -> None:
    got = eof(guest, "--", "wait")
    assert (got.status, got.out, got.err) == (0, b"data", b"")
    assert 0.9 < got.seconds < 3


@pytest.mark.parametrize(("drain", "least", "most"), [("0", 0, 0.9), ("200ms", 0.2, 0.95), ("2s", 2, 4)])
def test_drain_is_how_long_it_may_wait(drain: str, least: float, most: float, guest) -> None:
    got = eof(guest, "--drain", drain, "--", "wait")
    assert (got.status, got.out, got.err) == (0, b"data", b"")
    assert least <= got.seconds < most


def test_guest_that_reads_end_of_file_for_ever_is_ended(guest) -> None:
    got = eof(guest, "--", "spin")
    assert (got.status, got.out, got.err) == (0, b"data", b"")
    assert got.seconds < 2


def test_a_guest_that_echoes_empty_frames_is_ended_at_once(tender: str) -> None:
    """An empty write is no output."""
    got = sh("ukfilter $G/listen.hvt echo", stdin=b"data")
    assert (got.status, got.out, got.err) == (0, b"data", b"")
    assert got.seconds < 0.9


@pytest.mark.parametrize("what", ["pause", "sleep"])
def test_what_a_guest_has_put_off_is_no_less_its_output(what: str, tender: str) -> None:
    """It reads on until there is no more, and only then does the rest of its work."""
    data = os.urandom(100_000)
    got = sh(f"ukfilter $G/listen.hvt {what}", stdin=data)
    assert (got.status, got.err, got.out == data) == (0, b"", True)
    assert sh(f"ukfilter $G/listen.hvt {what}", stdin=b"").out == b""


def test_a_guest_that_reads_all_there_is_comes_to_write_in_between(tender: str, tmp_path: Path) -> None:
    """Its own memory for what it has read is 8 MiB."""
    with (tmp_path / "in").open("wb") as file:
        file.truncate(100 << 20)
    got = sh(f"ukfilter $G/listen.hvt pause < {tmp_path}/in | cmp - {tmp_path}/in; echo ${{PIPESTATUS[*]}}")
    assert (got.out, got.err) == (b"0 0\n", b"")


@pytest.mark.parametrize("mode", ["auto", "zero"])
def test_end_of_file_may_be_read_again(mode: str, guest) -> None:
    got = eof(guest, "--eof", mode, "--", "again", 10)
    assert (got.status, got.out, got.err) == (7, b"data" + b"0:0\n" * 10, b"")


def test_output_between_reads_of_end_of_file_is_progress(guest) -> None:
    """Each read is followed by a line, so they are not "in a row", however many."""
    got = eof(guest, "--", "again", 50)
    assert (got.status, got.out, got.err) == (7, b"data" + b"0:0\n" * 50, b"")


def test_guest_that_works_on_after_end_of_file_keeps_its_status(guest) -> None:
    got = eof(guest, "--", "late", 2500)
    assert (got.status, got.err) == (8, b"")
    assert got.out.startswith(b"data...")


def test_poll_reports_end_of_file_as_ready(guest) -> None:
    got = eof(guest, "--", "look")
    assert (got.status, got.out) == (9, b"dataret 0 len 0 poll 1 ready 2\n")


def test_halt_ends_a_guest_that_waits_at_once(guest) -> None:
    got = eof(guest, "--eof", "halt", "--", "wait")
    assert (got.status, got.out, got.err) == (0, b"data", b"")
    assert got.seconds < 0.9


def test_halt_loses_no_output(image) -> None:
    content = os.urandom(300_000)
    got = run(UKFILTER, "--eof", "halt", image("cat"), stdin=content)
    assert (got.status, got.out, got.err) == (0, content, b"")


def test_error_is_delivered(guest) -> None:
    got = eof(guest, "--eof", "error", "--", "look")
    assert (got.status, got.err) == (9, b"")
    assert got.out.startswith(b"dataret 3 ")


@pytest.mark.parametrize("mode", ["zero", "again", "error"])
def test_guest_is_never_ended(mode: str, guest) -> None:
    words = (UKFILTER, "--eof", mode, "--drain", "0", guest("eof"), "wait")
    with harness.running(*words, stdout=subprocess.DEVNULL) as p:
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(2)
        p.terminate()
        assert p.wait(10) == -signal.SIGTERM


def test_again_does_not_spin(guest) -> None:
    """Reading for ever at end of file, as under solo5-hvt, costs next to no processor time."""
    words = (UKFILTER, "--eof", "again", guest("eof"), "spin")
    with harness.running(*words, stdout=subprocess.DEVNULL) as p:
        harness.wait_sandboxed(p.pid)
        time.sleep(0.5)
        before = harness.cpu_ticks(p.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(2)
        assert harness.cpu_ticks(p.pid) - before < os.sysconf("SC_CLK_TCK") // 2


def test_error_makes_reads_fail(image) -> None:
    got = run(UKFILTER, "--eof", "error", image("cat"), stdin=b"data")
    assert got.out == b"data"
    assert got.seconds < 5
    assert b"Traceback" not in got.err


@pytest.mark.parametrize("mode", ["auto", "zero"])
@pytest.mark.parametrize("content", [b"", b"x", b"line\n" * 1000])
def test_well_behaved_guest_ends_itself(mode: str, content: bytes, image) -> None:
    got = run(UKFILTER, "--eof", mode, image("cat"), stdin=content)
    assert (got.status, got.out, got.err) == (0, content, b"")
    assert got.seconds < 0.9
    got = run(UKFILTER, "--stats", "--eof", mode, image("cat"), stdin=content)
    assert "status 0 (halted)" in one_line(got.err)


def test_drain_does_not_cut_a_slow_writer(image) -> None:
    got = sh("(echo one; sleep 1; echo two) | ukfilter --drain 0 $E/cat.hvt")
    assert (got.status, got.out) == (0, b"one\ntwo\n")


def test_drain_does_not_cut_a_slow_reader() -> None:
    got = sh("head -c 1000000 /dev/zero | ukfilter --drain 0 $E/cat.hvt | (sleep 1; wc -c)")
    assert (got.status, got.out.strip()) == (0, b"1000000")


# Guests that do not stop.
def test_writing_for_ever_ends_with_its_reader() -> None:
    got = sh("ukfilter $G/write_forever.hvt | head -c 100000 | wc -c; echo ${PIPESTATUS[*]}")
    assert got.out.split() == [b"100000", b"141", b"0", b"0"]
    assert got.err == b""


def test_never_reading_does_not_hang(guest) -> None:
    got = sh("yes | ukfilter $G/eof.hvt never-read 300; echo ${PIPESTATUS[*]}")
    assert (got.out, got.err) == (b"141 6\n", b"")
    got = run(UKFILTER, guest("eof"), "never-read", 300, stdin=b"data")
    assert (got.status, got.out, got.err) == (6, b"", b"")


def test_sleep_is_as_long_as_asked(guest) -> None:
    got = run(UKFILTER, guest("sleep"), 300)
    assert (got.status, got.out, got.err) == (0, b"slept\n", b"")
    assert 0.3 <= got.seconds < 2


@pytest.mark.parametrize("words", ["spin.hvt", "sleep.hvt 100000"])
def test_timeout_ends_it(words: str) -> None:
    got = sh(f"timeout .7 ukfilter $G/{words} < /dev/null; echo $?")
    assert (got.out, got.err) == (b"124\n", b"")
    assert got.seconds < 5


# Devices.
def test_device_that_is_not_attached_is_named() -> None:
    got = sh("ukfilter $G/two_net.hvt")
    line = one_line(got.err)
    assert "device a" in line
    assert "--net a=" in line
    assert got.status == 125


@pytest.mark.parametrize("spelling", ["--net a=@3 --net b=@4", "--net:a=@3 --net:b=@4"])
def test_devices_on_descriptors(spelling: str, tmp_path: Path) -> None:
    env = {**harness.ENV, "T": str(tmp_path)}
    got = sh(f"ukfilter {spelling} $G/two_net.hvt 3< <(printf hello) 4> $T/out; cat $T/out", env=env)
    assert (got.out, got.err) == (b"5\nhello", b"")


def test_devices_on_paths(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"hello")
    (tmp_path / "out").write_bytes(b"")
    env = {**harness.ENV, "T": str(tmp_path)}
    got = sh("ukfilter --net a=$T/in --net b=$T/out $G/two_net.hvt; cat $T/out", env=env)
    assert (got.out, got.err) == (b"5\nhello", b"")
    assert (tmp_path / "in").read_bytes() == b"hello"


def test_devices_on_a_fifo_and_standard_output(tmp_path: Path) -> None:
    env = {**harness.ENV, "T": str(tmp_path)}
    script = "mkfifo $T/f; (sleep .3; printf hello > $T/f) & ukfilter --net a=@0 --net b=@1"
    got = sh(f"{script} --console stderr $G/two_net.hvt < $T/f", env=env)
    assert (got.out, got.err) == (b"hello", b"5\n")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_messages_keep_their_boundaries(kind: socket.SocketKind, guest) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, kind)
    with here, there:
        fd = there.fileno()
        with harness.running(
            UKFILTER, "--net", f"a=@{fd}", "--net", "b=@0", guest("two_net"),
            stdin=fd, stdout=subprocess.PIPE, pass_fds=(fd,),
        ) as p:  # fmt: skip
            here.settimeout(10)
            for size in (1, 100, 1500, 7):
                here.send(b"x" * size)
            assert [len(here.recv(4096)) for _ in range(4)] == [1, 100, 1500, 7]
            p.terminate()
            assert p.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("where", "out", "err"),
    [("stdout", b"exit\n", b""), ("stderr", b"", b"exit\n"), ("null", b"", b"")],
)
def test_console(where: str, out: bytes, err: bytes, guest) -> None:
    got = run(UKFILTER, "--console", where, guest("exit"), 4)
    assert (got.status, got.out, got.err) == (4, out, err)


def test_console_in_a_file(tmp_path: Path, guest) -> None:
    got = run(UKFILTER, "--console", tmp_path / "log", guest("exit"), 4)
    assert (got.status, got.out, got.err) == (4, b"", b"")
    assert (tmp_path / "log").read_bytes() == b"exit\n"


@pytest.mark.parametrize("kind", ["lidt", "lgdt", "cr0", "cr4", "rdmsr", "fs-wild", "invlpg", "iretq"])
def test_privileged_instruction_ends_the_guest(kind: str, guest) -> None:
    got = run(UKFILTER, guest("privileged"), kind)
    assert got.status == 255
    assert "ukfilter: privileged.hvt: guest fault" in one_line(got.err)


@pytest.mark.parametrize("name", ["cat", "hello", "seq"])
def test_images_are_as_solo5s_own_loader_wants_them(name: str, image) -> None:
    """It reads the first note of each PT_NOTE only, and passes over a segment without bytes in the file."""
    data = image(name).read_bytes()
    (start,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    headers = [struct.unpack_from("<IIQQQQQQ", data, start + 56 * i) for i in range(count)]
    notes = [data[h[2] : h[2] + h[5]] for h in headers if h[0] == 4]
    kinds = [struct.unpack_from("<III", note) for note in notes]
    assert sorted(kind for _, _, kind in kinds) == [0x31494241, 0x3154464D]
    for note, (name_size, size, _) in zip(notes, kinds, strict=True):
        assert len(note) == 12 + (name_size + 3 & -4) + size
    assert all(h[5] > 0 for h in headers if h[0] == 1)
