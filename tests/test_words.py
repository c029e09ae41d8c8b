"""Every message as a newcomer meets it: one line, the object's name, what to do, the right status.

Situations are a shell's; $T is an empty directory. More of each kind stand in the tests of their module.
"""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
from harness import one_line, sh

# situation: script, status, the object, what is wrong or to be done
MESSAGES = {
    "wrong path": ("ukfilter cat.hvt", 127, "cat.hvt", "no such"),
    "a directory": ("ukfilter $T", 126, "$T", "directory"),
    "not an image": ("ukfilter README.md", 126, "README.md", "not an ELF file"),
    "a program": ("ukfilter /bin/ls", 126, "/bin/ls", "not a Solo5 image"),
    "an image that is cut": (
        "head -c 300 $E/cat.hvt > $T/c.hvt; ukfilter $T/c.hvt",
        126,
        "c.hvt",
        "is truncated",
    ),
    "not readable": ("ukfilter /proc/self/mem", 126, "/proc/self/mem", ""),
    "nothing said": ("ukfilter", 125, "IMAGE", "Usage: ukfilter"),
    "a wrong option": ("ukfilter --nets a=@3 $E/cat.hvt", 125, "--nets", "see ukfilter -h"),
    "an option's value left out": ("ukfilter --mem", 125, "--mem", "requires an argument"),
    "a forgotten device": ("ukfilter $G/two_net.hvt", 125, "device a", "--net a=@FD"),
    "a forgotten disk": ("ukfilter $G/disk.hvt", 125, "not attached", "--block"),
    "no such device": ("ukfilter --net x=@1 $E/cat.hvt", 125, "no network device x", "it has: stdin, stdout"),
    "a closed descriptor": ("ukfilter --net stdin=@77 $E/cat.hvt", 125, "@77", "is not open"),
    "no such tap": ("ukfilter --net stdin=tap77 $E/cat.hvt", 125, "tap77", "create it first"),
    "no tap": ("ukfilter --net stdin=lo $E/cat.hvt", 125, "=lo", "ip tuntap add NAME mode tap"),
    "a fifo": ("mkfifo $T/f; ukfilter --net stdin=$T/f $E/cat.hvt", 125, "is a fifo", "=@3 3<"),
    "a disk that is no file": ("ukfilter --block storage=/dev/stdin $G/disk.hvt < <(:)", 125, "storage", ""),
    "a bad size": ("ukfilter --mem huge $E/cat.hvt", 125, "--mem: huge", "write it as 512M or 1G"),
    "too little memory": ("ukfilter --mem 2M $E/cat.hvt", 126, "cat.hvt", "give it more with --mem"),
    "a bad time": ("ukfilter -t soon $E/cat.hvt", 125, "--timeout: soon", "write it as 2s or 200ms"),
    "a bad choice": ("ukfilter --eof never $E/cat.hvt", 125, "never", "auto, zero, halt, error, again"),
    "a tender that cannot": ("ukfilter --tender kvm $E/cat.spt", 126, "cat.spt", "use --tender process"),
    "a bad environment": ("UKFILTER_MEM=x ukfilter $E/cat.hvt", 125, "UKFILTER_MEM: x", "write it as"),
    "a full disk": ("ukfilter $E/seq.hvt 99999 > /dev/full", 125, "standard output", "No space left"),
    "input that is a directory": ("ukfilter $E/cat.hvt < $T", 125, "standard input", "directory"),
    "a guest's fault": ("ukfilter $G/fault.hvt null", 255, "fault.hvt: guest fault", "address 0x"),
    "a core's directory": ("ukfilter --dumpcore $T/no $E/cat.hvt", 125, "--dumpcore", "No such file"),
    "a trace's file": ("ukfilter --trace=$T/no/f $E/cat.hvt", 125, "--trace", "No such file"),
    "pipe: an empty stage": (
        "ukfilter pipe $E/cat.hvt '|'",
        125,
        "stage 2 of 2 is empty",
        "see ukfilter pipe -h",
    ),
    "pipe: no command": ("ukfilter pipe ! nosuch", 127, "nosuch", "no such command"),
    "map: a bad block": ("ukfilter map --block 0 $E/cat.hvt", 125, "--block: 0", "write it as"),
    "mount: no directory": ("ukfilter mount $T/no a=$E/cat.hvt", 125, "$T/no", "mkdir"),
    "mount: no filter": ("ukfilter mount $T", 125, "NAME=IMAGE", "Usage"),
    "umount: nothing": ("ukfilter umount $T", 125, "cannot unmount it", ""),
    "binfmt: which": ("ukfilter binfmt", 125, "--register", "which one"),
    "inspect: nothing": ("ukfilter inspect none.hvt", 127, "none.hvt", "no such"),
}


@pytest.mark.parametrize("situation", MESSAGES)
def test_a_message(situation: str, tmp_path: Path) -> None:
    script, status, names, says = MESSAGES[situation]
    result = sh(script, env={**harness.ENV, "T": str(tmp_path)}, stdin=b"data", cwd=harness.ROOT)
    assert result.status == status, result
    line = one_line(result.err)
    assert line.startswith("ukfilter: ")
    assert names.replace("$T", str(tmp_path)) in line
    assert says in line
    assert "Traceback" not in line and "Errno" not in line


def test_a_closed_pipe_needs_no_message() -> None:
    result = sh("ukfilter $E/seq.hvt 1000000 | head -1; echo ${PIPESTATUS[0]}")
    assert (result.out, result.err) == (b"1\n141\n", b"")


def test_no_permission_for_kvm_says_what_to_do() -> None:
    """As a user who may not open it, here one without capabilities in front of a node that is nobody's."""
    script = (
        "mount -t tmpfs t /dev/shm && mknod -m 0 /dev/shm/kvm c 10 232 && mount --bind /dev/shm/kvm /dev/kvm"
    )
    drop = "setpriv --bounding-set=-all --inh-caps=-all"
    result = sh(f"unshare -m bash -c '{script} && {drop} ukfilter --tender kvm $E/hello.hvt'")
    assert result.status == 126, result
    line = one_line(result.err)
    assert "/dev/kvm: Permission denied" in line and "usermod -aG kvm" in line
