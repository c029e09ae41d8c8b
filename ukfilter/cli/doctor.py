"""`ukfilter doctor`: what this machine can run, and what would mend the rest."""

from __future__ import annotations

import errno
import json
import os

import click

KVM = "/dev/kvm"
FUSE = "/dev/fuse"
TUN = "/dev/net/tun"
CPUINFO = "/proc/cpuinfo"
MENDS = {
    KVM: {
        errno.ENOENT: "load the module: modprobe kvm_intel, or kvm_amd; in a virtual machine, nested KVM",
        errno.EACCES: "join the group that owns it: sudo usermod -aG kvm $USER, then log in anew",
    },
    FUSE: {errno.ENOENT: "modprobe fuse", errno.EACCES: "sudo chmod 666 /dev/fuse"},
    TUN: {errno.ENOENT: "modprobe tun", errno.EACCES: "sudo chmod 666 /dev/net/tun"},
}
TRACING_MENDS = {  # by the scope of Yama's
    2: "sudo sysctl kernel.yama.ptrace_scope=1",
    3: "reboot with kernel.yama.ptrace_scope below 3",
}
OTHER_TRACING_MEND = "allow ptrace(2) here: a container's seccomp profile or a security module forbids it"


class Finding:
    """One line of the report; needed: without it, and without another that is needed, nothing runs."""

    def __init__(self, name: str, good: bool, state: str, mend: str = "", runs_guests: bool = False) -> None:
        self.name, self.good, self.state, self.mend = name, good, state, mend
        self.runs_guests = runs_guests


def look_at_device(name: str, path: str, runs_guests: bool = False) -> Finding:
    """Whether path can be opened for reading and writing."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        mend = MENDS[path].get(e.errno or 0, "")
        return Finding(name, False, f"{path}: {e.strerror}", mend, runs_guests)
    return Finding(name, True, f"{path}: usable", "", runs_guests)


def look_at_kvm() -> Finding:
    """KVM, and whether it is the processor's own or one in software."""
    found = look_at_device("kvm", KVM, runs_guests=True)
    if found.good:
        try:
            with open(CPUINFO, encoding="ascii", errors="replace") as f:
                flags = next((line.split() for line in f if line.startswith("flags")), [])
        except OSError as e:
            found.state += f"; in software or not, {CPUINFO} would tell: {e.strerror}"
        else:
            if not {"vmx", "svm"} & set(flags):
                found.state += ", in software (an exit costs some 30 us)"
    return found


def yama_scope() -> int:
    """How far the machine restricts ptrace(2), 0 to 3: Documentation/admin-guide/LSM/Yama.rst."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as f:
            return int(f.read())
    except (OSError, ValueError):
        return 0


def look_at_tracing() -> Finding:
    """Whether this user may trace a child, which is all that the process tender asks: one is traced."""
    from ukfilter.tender._core import lib

    error = lib.uk_process_try()
    if not error:
        return Finding("process", True, "guests can run as traced processes", "", True)
    mend = TRACING_MENDS.get(yama_scope(), OTHER_TRACING_MEND) if error == errno.EPERM else ""
    return Finding("process", False, f"cannot trace a child: {os.strerror(error)}", mend, True)


def findings() -> list[Finding]:
    """All that is looked at, in the order of the report."""
    return [look_at_kvm(), look_at_tracing(), look_at_device("fuse", FUSE), look_at_device("taps", TUN)]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for a program.")
def command(as_json: bool) -> int:
    """Say what this machine has for running guests. Status 0 if a guest can be run."""
    found = findings()
    works = any(f.good and f.runs_guests for f in found)
    if as_json:
        report = {f.name: {"usable": f.good, "state": f.state, "mend": f.mend} for f in found}
        click.echo(json.dumps({"usable": works, **report}, indent=2))
    else:
        for f in found:
            click.echo(f"{'yes' if f.good else 'no ':3}  {f.name:8} {f.state}")
            if f.mend:
                click.echo(f"{'':14}to mend it: {f.mend}")
    return 0 if works else 125
