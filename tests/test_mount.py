"""The mount by real tools: what a user types, and what must not go wrong. Every client is bounded in time."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from harness import EXAMPLES, UKFILTER, one_line, run
from mounted import Mount, mounted

MB = 1 << 20
DATA = random.Random(5).randbytes(3 * MB + 777)


@pytest.fixture(scope="module")
def uk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for the tests that do not look at its life. They use private jobs, or clean up."""
    directory = tmp_path_factory.mktemp("mount")
    (directory / "data").write_bytes(DATA)
    with mounted(directory) as mount:
        yield mount


@pytest.fixture
def job(uk: Mount) -> Iterator[Path]:
    """A private job of cat."""
    result = uk.sh("mktemp -d $PWD/cat/XXXXXX")
    path = Path(result.out.decode().strip())
    yield path
    uk.sh(f"rmdir {path}")


def in_job(uk: Mount, job: Path, script: str, **kwargs: float) -> harness.Result:
    return uk.sh(f"cd {job}; D={uk.path.parent}/data; {script}", **kwargs)


TOOLS = {
    "cat": "cat $D > in; cat out | cmp - $D",
    "cp": "cp $D in; cp out $D.cp; cmp $D $D.cp; rm $D.cp",
    "cp -p": "cp -p $D in; cmp out $D",
    "dd bs=512": "head -c 99999 $D > $D.s; dd if=$D.s of=in status=none; dd if=out status=none | cmp - $D.s",
    "dd bs=64k": "dd if=$D of=in bs=64k status=none; dd if=out bs=64k status=none | cmp - $D",
    "dd bs=1M": "dd if=$D of=in bs=1M status=none; dd if=out bs=1M status=none | cmp - $D",
    "dd notrunc": "dd if=$D of=in bs=1M conv=notrunc status=none; cmp out $D",
    "tee": "tee in < $D > /dev/null; cmp out $D",
    "tail -f": "cat $D > in; timeout 2 tail -n +1 -f out > $D.t || cmp $D.t $D; rm $D.t",
    "head -c": "cat $D > in; head -c 1000 out | cmp - <(head -c 1000 $D)",
    "ed": "printf 'one\\ntwo\\n' > in; printf '2p\\nq\\n' | ed -s out | grep -x two",
    "sed": "printf 'one\\ntwo\\n' > in; sed -n 2p out | grep -x two",
    "awk": "printf 'a b\\n' > in; awk '{print $2}' out | grep -x b",
    "gzip": "gzip < $D > in; gzip -dc out | cmp - $D",
    "sort": "printf 'b\\na\\n' > in; sort out | tr -d '\\n' | grep -x ab",
    "diff": "cat $D > in; diff out $D",
    "status": "printf abc > in; cat out; cat wait | grep '^over in=3 out=3 status=0 '; grep ^over status",
    "append joins": "exec 5> in; printf a >&5; echo -n b >> in; printf c >&5; exec 5>&-; grep abc out",
    "empty input": ": > in; test -z \"$(cat out)\"; grep 'status=0' wait",
    "twice": "printf a > in; test $(cat out) = a; printf b > in; test $(cat out) = b",
    "two readers": "cat $D > in; cmp out $D & a=$!; cmp out $D; wait $a",
    "reader first": "exec 5> in; cmp out $D 5>&- & a=$!; cat $D >&5; exec 5>&-; wait $a",
    "eof verb": "exec 5> in; printf a >&5; echo eof > ctl; test $(cat out) = a; exec 5>&-",
    "forget verb": "printf a > in; cat wait > /dev/null; echo forget > ctl; ! cat out 2> /dev/null",
    "settings": "grep -q '^image = \".*cat.hvt\"' ctl",
    "sizes": "cat $D > in; cat wait > /dev/null; test $(stat -c %s out) = $(stat -c %s $D)",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool(tool: str, uk: Mount, job: Path) -> None:
    if tool == "ed" and run("bash", "-c", "command -v ed").status:
        pytest.skip("ed is not installed")
    result = in_job(uk, job, f"set -e -o pipefail; {TOOLS[tool]}")
    assert (result.status, result.err) == (0, b""), result


REFUSED = {
    "read in": ("cat in", "Permission denied"),
    "write out": ("echo > out", "Permission denied"),
    "both": ("exec 5<> in", "Permission denied"),
    "no job yet": ("cat out", "No data available"),
    "wait for none": ("cat wait", "No data available"),
    "create": ("touch new", "not permitted"),
    "remove": ("rm -f in", "not permitted"),
    "rename": ("mv in other", "not permitted"),
    "link": ("ln in other", "not permitted"),
    "deeper": ("mkdir d", "not permitted"),
    "verb": ("echo bogus > ctl", "Invalid argument"),
    "second writer": ("exec 5> in; (echo > in)", "busy"),
    "forget a running one": ("exec 5> in; echo forget > ctl", "busy"),
    "rmdir in": ("rmdir in", "Not a directory"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str, uk: Mount, job: Path) -> None:
    script, reason = REFUSED[what]
    result = in_job(uk, job, script)
    assert result.status != 0
    assert reason.encode() in result.err


def test_a_name_twice(uk: Mount, job: Path) -> None:
    assert b"File exists" in uk.sh(f"mkdir {job}").err


def test_a_filters_own_directory_stays(uk: Mount) -> None:
    assert b"not permitted" in uk.sh("rmdir cat").err


def test_a_guest_that_fails_gives_its_data_then_an_error(uk: Mount) -> None:
    result = uk.sh(
        "d=$(mktemp -d fault/XXXX); : > $d/in; cat $d/out; echo $?; cat $d/status $d/err; rmdir $d"
    )
    assert b"Input/output error" in result.err
    assert b"status=255" in result.out and b"guest fault" in result.out


def test_ten_private_jobs_at_once(uk: Mount) -> None:
    script = """
    one() { d=$(mktemp -d cat/XXXXXX); cat ../data > $d/in; cmp $d/out ../data; s=$?; rmdir $d; return $s; }
    for i in 1 2 3 4 5 6 7 8 9 10; do one & pids="$pids $!"; done
    for p in $pids; do wait $p || exit 1; done; ls cat
    """
    result = uk.sh(script, timeout=60)
    assert (result.status, result.err) == (0, b"")
    assert result.out.split() == [b"ctl", b"err", b"in", b"out", b"status", b"wait"]


def test_a_hundred_blocked_readers_do_not_stop_ls(uk: Mount, job: Path) -> None:
    script = """
    exec 5> in
    for i in $(seq 100); do cat out > /dev/null 5>&- & done
    sleep 1; ls -l | wc -l; echo data >&5; exec 5>&-; wait
    """
    result = in_job(uk, job, script, timeout=60)
    assert (result.status, result.out.strip()) == (0, b"7")


@pytest.mark.parametrize("client", ["cat out", "cat < out", "cat wait", "head -c 9M /dev/zero >&5"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_blocked_client_is_ended_at_once(client: str, number: int, uk: Mount) -> None:
    """The guest reads nothing and writes nothing. 0.1 s is what is meant; this machine may be busy."""
    directory = Path(uk.sh("mktemp -d $PWD/deaf/XXXXXX").out.decode().strip())
    writer = os.open(directory / "in", os.O_WRONLY | os.O_TRUNC)
    try:
        script = f"cd {directory}; exec {client}".replace("&5", f"&{writer}")
        with subprocess.Popen(["bash", "-c", script], start_new_session=True, pass_fds=[writer]) as p:
            time.sleep(0.5)
            assert p.poll() is None
            began = time.monotonic()
            p.send_signal(number)
            assert p.wait(5) == -number
            assert time.monotonic() - began < 1.5
    finally:
        os.close(writer)
        uk.sh(f"echo kill > {directory}/ctl; rmdir {directory}")


def test_a_write_after_the_end_is_a_broken_pipe(uk: Mount) -> None:
    script = (
        "d=$(mktemp -d fault/XXXX); exec 5> $d/in; cat $d/wait; trap '' PIPE; echo x >&5; exec 5>&-; rmdir $d"
    )
    result = uk.sh(script)
    assert b"Broken pipe" in result.err


def test_not_to_wait(uk: Mount, job: Path) -> None:
    writer = os.open(job / "in", os.O_WRONLY | os.O_TRUNC)
    reader = os.open(job / "out", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            os.read(reader, 10)
        os.write(writer, b"data")
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        assert poll.poll(5000)
        assert os.read(reader, 10) == b"data"
    finally:
        os.close(writer)
        os.close(reader)


def test_a_write_after_the_end_need_not_be_waited_for(uk: Mount) -> None:
    directory = Path(uk.sh("mktemp -d $PWD/deaf/XXXXXX").out.decode().strip())
    writer = os.open(directory / "in", os.O_WRONLY | os.O_TRUNC)
    try:
        uk.sh(f"echo eof > {directory}/ctl")
        assert select.select([], [writer], [], 5)[1]
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"more")
    finally:
        os.close(writer)
        uk.sh(f"echo kill > {directory}/ctl")


@pytest.mark.parametrize("way", ["select", "poll", "epoll"])
def test_readiness_comes_with_the_data(way: str, uk: Mount, job: Path) -> None:
    writer = os.open(job / "in", os.O_WRONLY | os.O_TRUNC)
    reader = os.open(job / "out", os.O_RDONLY)

    def ready(seconds: float) -> bool:
        if way == "select":
            return bool(select.select([reader], [], [], seconds)[0])
        if way == "poll":
            p = select.poll()
            p.register(reader, select.POLLIN)
            return bool(p.poll(seconds * 1000))
        with select.epoll() as e:
            e.register(reader, select.EPOLLIN)
            return bool(e.poll(seconds))

    try:
        assert not ready(0.1)
        assert select.select([], [writer], [], 5)[1]
        os.write(writer, b"abc")
        assert ready(5)
        assert os.read(reader, 10) == b"abc"
        assert not ready(0.1)
        os.close(writer)
        writer = -1
        assert ready(5)
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_chunks_at_random_against_a_model(uk: Mount, job: Path) -> None:
    chance = random.Random(77)
    model = b""
    writer = os.open(job / "in", os.O_WRONLY | os.O_TRUNC)
    reader = os.open(job / "out", os.O_RDONLY)
    got = b""
    try:
        for _ in range(120):
            data = chance.randbytes(chance.choice((1, 100, 4096, 70000)))
            assert os.write(writer, data) == len(data)
            model += data
            while len(got) < len(model) - chance.choice((0, 0, 50000)):
                piece = os.read(reader, chance.choice((1000, 65536, 1 << 20)))
                assert piece
                got += piece
            assert model.startswith(got)
        os.close(writer)
        writer = -1
        while piece := os.read(reader, 100000):
            got += piece
        assert got == model
        for _ in range(20):
            at, size = chance.randrange(len(model)), chance.randrange(100000)
            piece = os.pread(reader, size, at)
            assert piece == model[at : at + len(piece)]
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_each_tender(tmp_path: Path) -> None:
    for n, tender in enumerate(("kvm", "process")):
        (tmp_path / str(n)).mkdir()
        with mounted(tmp_path / str(n), "--tender", tender) as mount:
            result = mount.sh("echo hello > upper/in; cat upper/out")
            assert (result.status, result.out) == (0, b"HELLO\n")


def test_a_file_of_settings(tmp_path: Path) -> None:
    config = tmp_path / "uk.toml"
    config.write_text(
        f'[find]\nimage = "{EXAMPLES}/grep.hvt"\nargs = ["ell"]\nmem = 64\n'
        f'[slow]\nimage = "{harness.GUESTS}/spin.hvt"\ntimeout = "300ms"\n'
    )
    with mounted(tmp_path, filters=[str(config)]) as mount:
        assert mount.sh("printf 'hello\\nother\\n' > find/in; cat find/out").out == b"hello\n"
        slow = mount.sh(": > slow/in; cat slow/wait")
        assert b"status=124" in slow.out


def test_output_at_its_limit_without_a_reader(tmp_path: Path) -> None:
    with mounted(tmp_path, "--spool", "1M") as mount:
        result = mount.sh("head -c 8M /dev/zero > cat/in; cat cat/status", timeout=20)
        assert b"No space left on device" in result.err
        assert b"read it" in result.out
        reading = mount.sh("cat cat/out | wc -c")
        assert int(reading.out) >= MB


def test_output_past_its_limit_with_a_reader(tmp_path: Path) -> None:
    with mounted(tmp_path, "--spool", "100M") as mount:
        reader = "exec 5> cat/in; sha256sum < cat/out > ../sum 5>&- &"
        result = mount.sh(f"{reader} head -c 300M /dev/zero >&5; exec 5>&-; wait; cat ../sum", timeout=60)
        assert result.status == 0, result
        assert result.out == mount.sh("head -c 300M /dev/zero | sha256sum").out


def test_a_small_limit_with_a_reader(tmp_path: Path) -> None:
    with mounted(tmp_path, "--spool", "4K") as mount:
        (tmp_path / "data").write_bytes(DATA)
        reader = "exec 5> cat/in 6< cat/out; cmp - ../data <&6 5>&- & a=$!; exec 6<&-"
        script = f"{reader}; cat ../data >&5; exec 5>&-; wait $a"
        result = mount.sh(script, timeout=30)
        assert (result.status, result.err) == (0, b"")


def test_jobs_that_are_over_leave_no_descriptor(tmp_path: Path) -> None:
    with mounted(tmp_path) as mount:
        open_files = Path(f"/proc/{mount.process.pid}/fd")
        script = "head -c 20M /dev/zero > cat/in; cat cat/wait > /dev/null"
        mount.sh(script)
        before = len(list(open_files.iterdir()))
        for _ in range(4):
            assert mount.sh(script).status == 0
        assert len(list(open_files.iterdir())) <= before + 1


def test_kill_of_a_job_that_never_ends(tmp_path: Path) -> None:
    with mounted(tmp_path, "--spool", "4M") as mount:
        result = mount.sh(
            ": > write_forever/in; sleep .3; echo kill > write_forever/ctl; cat write_forever/wait"
        )
        assert b"status=137" in result.out


# --- the mount's life


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_guests(number: int, tmp_path: Path) -> None:
    with mounted(tmp_path) as mount:
        with subprocess.Popen(["bash", "-c", "exec 5> spin/in; cat spin/out"], cwd=mount.path) as reader:
            time.sleep(0.7)
            mount.process.send_signal(number)
            assert mount.process.wait(10) == 0
            assert reader.wait(5) != 0
        assert not os.path.ismount(mount.path)


def test_umount_ends_it(tmp_path: Path) -> None:
    with mounted(tmp_path) as mount:
        assert run(UKFILTER, "umount", mount.path).status == 0
        assert mount.process.wait(5) == 0
    assert run(UKFILTER, "umount", tmp_path / "uk").status == 125


def test_nothing_is_left_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "uk"
    path.mkdir()
    argv = [UKFILTER, "mount", path, f"cat={EXAMPLES}/cat.hvt"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=harness.ENV) as p:
        assert p.stderr and b"ready" in p.stderr.readline()
        p.kill()
    until = time.monotonic() + 5
    while run("ls", path).status and time.monotonic() < until:
        time.sleep(0.05)
    assert os.listdir(path) == [] and not os.path.ismount(path)


def test_the_background(tmp_path: Path) -> None:
    path = tmp_path / "uk"
    path.mkdir()
    result = run(UKFILTER, "mount", "--daemon", path, f"cat={EXAMPLES}/cat.hvt")
    assert (result.status, result.out, result.err) == (0, b"", b"")
    try:
        assert run("bash", "-c", f"echo hi > {path}/cat/in; cat {path}/cat/out").out == b"hi\n"
    finally:
        assert run(UKFILTER, "umount", path).status == 0


WRONG = {
    "missing": ("{T}/none cat={E}/cat.hvt", 125, "no such directory; make it: mkdir"),
    "a file": ("{E}/cat.hvt cat={E}/cat.hvt", 125, "is not a directory"),
    "not empty": ("{T} cat={E}/cat.hvt", 125, "is not empty"),
    "no filter": ("{T}/empty", 125, "which NAME=IMAGE|FILE.toml..."),
    "no image": ("{T}/empty cat={E}/none.hvt", 127, "none.hvt"),
    "not an image": ("{T}/empty cat=README.md", 126, "README.md"),
    "a device unattached": ("{T}/empty two={G}/two_net.hvt", 125, "is not attached"),
    "twice": ("{T}/empty a={E}/cat.hvt a={E}/wc.hvt", 125, "given twice"),
    "option": ("-o bogus_option {T}/empty a={E}/cat.hvt", 125, "cannot mount there"),
    "descriptor": ("--ready-fd 77 {T}/empty a={E}/cat.hvt", 125, "descriptor 77 is not open"),
    "spool": ("--spool lots {T}/empty a={E}/cat.hvt", 125, "--spool: lots"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_mounted(what: str, tmp_path: Path) -> None:
    words, status, reason = WRONG[what]
    (tmp_path / "empty").mkdir()
    words = words.format(T=tmp_path, E=EXAMPLES, G=harness.GUESTS)
    result = run(UKFILTER, "mount", *words.split(), cwd=harness.ROOT)
    assert result.status == status, result
    lines = result.err.decode().splitlines()
    assert reason in lines[-1] and lines[-1].startswith("ukfilter: ")
    if what != "option":  # libfuse has a line of its own
        one_line(result.err)
    assert not os.path.ismount(tmp_path / "empty")


@pytest.mark.slow
def test_a_gigabyte_with_flat_memory(tmp_path: Path) -> None:
    with mounted(tmp_path, "--spool", "2G") as mount:
        script = (
            "head -c 1G /dev/zero | dd of=cat/in bs=1M iflag=fullblock status=none; cat cat/out | sha256sum"
        )
        result = mount.sh(script, timeout=120)
        assert result.out == mount.sh("head -c 1G /dev/zero | sha256sum", timeout=60).out
        peak = harness.proc_status(mount.process.pid)["VmHWM"]
        assert int(peak.split()[0]) < 150_000, peak


def test_one_that_is_busy_stays(tmp_path: Path) -> None:
    with mounted(tmp_path) as mount:
        with open(mount.path / "cat" / "ctl", "rb"):
            result = run(UKFILTER, "umount", mount.path)
            assert result.status == 125
            assert "cannot unmount it" in one_line(result.err) and "busy" in one_line(result.err)
        assert mount.sh("echo a > cat/in; cat cat/out").out == b"a\n"


def test_an_error_of_ours_is_an_error_of_one_client(tmp_path: Path) -> None:
    """The real mount, with a handler that fails: it tells, and goes on."""
    path, code = tmp_path / "uk", tmp_path / "broken.py"
    path.mkdir()
    code.write_text(
        "import sys\nfrom ukfilter.cli import main\nfrom ukfilter.fs.tree import Tree\n"
        "def fail(self, inode): raise ZeroDivisionError('on purpose')\n"
        "Tree.entries = fail\nsys.exit(main(sys.argv[1:]))\n"
    )
    argv = [harness.BIN / "python", code, "mount", path, f"cat={EXAMPLES}/cat.hvt"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=harness.ENV) as p:
        try:
            assert p.stderr and b"ready" in p.stderr.readline()
            assert b"Input/output error" in run("ls", path).err
            told = p.stderr.readline().decode()
            assert told.startswith("ukfilter: mount: readdir: ZeroDivisionError: on purpose")
            assert run("bash", "-c", f"echo a > {path}/cat/in; cat {path}/cat/out").out == b"a\n"
        finally:
            p.terminate()
            assert p.wait(5) == 0


def test_the_helper_of_mount(tmp_path: Path) -> None:
    """As mount(8) calls it for a line of fstab(5)."""
    path, helper = tmp_path / "uk", tmp_path / "mount.fuse.ukfilter"
    path.mkdir()
    helper.symlink_to(UKFILTER)
    result = run(helper, f"cat={EXAMPLES}/cat.hvt", path, "-o", "rw,noauto,x-systemd.automount,allow_other")
    assert (result.status, result.out, result.err) == (0, b"", b"")
    try:
        assert "allow_other" in next(
            line for line in Path("/proc/mounts").read_text().splitlines() if str(path) in line
        )
        assert run("bash", "-c", f"echo a > {path}/cat/in; cat {path}/cat/out").out == b"a\n"
    finally:
        assert run(UKFILTER, "umount", path).status == 0
    assert run(helper).status == 125


@pytest.mark.parametrize("viewer", ["less", "vim"])
def test_a_viewer(viewer: str, uk: Mount, job: Path) -> None:
    if run("bash", "-c", f"command -v {viewer}").status:
        pytest.skip(f"{viewer} is not installed")
    words = {"less": "less -E out | grep two", "vim": "vim -R -es -c '%print' -c 'qa!' out | grep two"}[
        viewer
    ]
    result = in_job(uk, job, f"printf 'one\\ntwo\\n' > in; {words}")
    assert (result.status, result.out) == (0, b"two\n")


def test_a_leftover_mount_is_cleared(tmp_path: Path) -> None:
    """The daemon and all that would have unmounted for it were killed."""
    path = tmp_path / "uk"
    path.mkdir()
    argv = [UKFILTER, "mount", path, f"cat={EXAMPLES}/cat.hvt"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=harness.ENV) as p:
        assert p.stderr and b"ready" in p.stderr.readline()
        run("pkill", "-KILL", "-f", f"fusermount3 .*{path}")
        run("pkill", "-KILL", "-P", p.pid)
        p.kill()
    try:
        assert b"not connected" in run("ls", path).err
        assert run(UKFILTER, "mount", "--daemon", path, f"cat={EXAMPLES}/cat.hvt").status == 0
        assert run("bash", "-c", f"echo hi > {path}/cat/in; cat {path}/cat/out").out == b"hi\n"
    finally:
        run("fusermount3", "-u", path)
