"""A tender of Solo5's own as what runs the guest: `--tender /path/to/solo5-spt`.

It makes its descriptors non-blocking, loses what it cannot write at once, and solo5-hvt tells the guest of no
end of file (solo5-spt does). So its ends are sockets of ours whose flags it cannot change, with pumps between
them and the user's; and once all input is taken and the guest has been quiet for --drain, it is ended.
"""

from __future__ import annotations

import os
import signal
import socket
import stat

import trio

from ukfilter import devices, image
from ukfilter.devices import STANDARD, STDIO, Net, Plan
from ukfilter.errors import (
    DeviceError,
    ImageError,
    NoTenderError,
    TenderError,
    UkfilterError,
    UsageError,
    printable,
)
from ukfilter.image import Image
from ukfilter.pipes.command import RunningCommand, start_command
from ukfilter.pipes.errors import ungrouped
from ukfilter.pipes.external_ends import Inlet, Outlet, Words, make_pair, stream_of
from ukfilter.pipes.process import die_of
from ukfilter.pipes.quiet import LOOK, Quiet
from ukfilter.pipes.record import TIMED_OUT
from ukfilter.tender import fill_standard_descriptors, taps
from ukfilter.tender.ends import NO_MESSAGES, End, open_ends
from ukfilter.tender.guest import command_line
from ukfilter.tender.layout import COMMAND_LINE_MAX
from ukfilter.tender.options import Options

LAST_BYTES = 1.0  # seconds at most for what is on its way when the time limit passes
NUMBERED = {"@0": "stdin", "@1": "stdout", "@2": "stderr"}
# What only our own tenders can do: the option, by the name of its setting.
OURS = {
    "eof": "--eof",
    "mtus": "--net-mtu",
    "stats": "--stats",
    "status_fd": "--status-fd",
    "trace": "--trace",
    "dumpcore": "--dumpcore",
}


class External:
    """A guest under a foreign tender, between the user's ends. Raises UkfilterError."""

    def __init__(self, path: str, args: list[str], options: Options) -> None:
        self.tender, self.drain = options.tender, options.drain
        self.timeout = options.timeout or float("inf")
        unikernel = image.look_at(path, options.mem)
        plan = devices.plan(unikernel, options)
        check_settings(options, plan)
        check_target(unikernel, options)
        check_words(unikernel.path, args, options.quiet)
        self.tells_end = unikernel.target == "spt"
        self.inlets: list[Inlet] = []
        self.outlets: list[Outlet] = []
        self.theirs: list[socket.socket] = []  # the tender's, of the pairs whose other ends are ours
        self.handed_over: list[int] = []  # the user's own: what keeps messages, which no pump would
        self.name = printable(path.rpartition("/")[2])
        words = [*self._attach(plan), *settings_of(plan, options)]
        quiet = ["--solo5:quiet"] if options.quiet else []
        self.argv = (f"--mem={options.mem >> 20}", *words, "--", path, *quiet, *args)
        self.timed_out = self.ended = False

    def _attach(self, plan: Plan) -> list[str]:
        """Open all ends as our own tender would, with its checks; the words for the networks."""
        opened: list[int] = []
        for net in plan.nets:  # these have one direction there, however they are open
            net.end = NUMBERED.get(net.end, net.end)
        on_taps = [n for n in plan.nets if n.end not in (STDIO, *STANDARD) and taps.is_interface(n.end)]
        others = [n for n in plan.nets if n not in on_taps]
        ends = open_ends(Plan(others, plan.blocks, plan.console), (0, 1, 2), opened)
        for net in on_taps:
            os.close(taps.open_tap(net.end, f"--net {net.name}={net.end}"))
        for fd in ends.blocks:  # the tender opens these and taps itself
            os.close(fd)
        self.console, self.errors = os.pipe(), os.pipe()
        self.words = Words(self.name, 2, "", trio.lowlevel.FdStream(self.errors[0]))
        self.outlets.append(
            Outlet(self.name, ends.console_fd, "the console", trio.lowlevel.FdStream(self.console[0]))
        )
        words = [f"--net:{n.name}=@{self._end(n, end)}" for n, end in zip(others, ends.ends, strict=True)]
        self.has_messages = bool(on_taps or self.handed_over)
        return words + [f"--net:{n.name}={n.end}" for n in on_taps]

    def _end(self, net: Net, end: End) -> int:
        """The tender's descriptor for an end: a socket of ours, but one that keeps messages is as it is."""
        fd = max(end.rfd, end.wfd)
        if end.message != NO_MESSAGES and fd > 2:
            self.handed_over.append(fd)
            return fd
        if end.rfd == end.wfd and stat.S_ISREG(os.fstat(fd).st_mode):
            raise DeviceError(
                f"--net {net.name}={printable(net.end)}: a foreign tender cannot have a file for both"
                f" directions; give it one: --net {net.name}=@3 3< FILE"
            )
        ours, theirs = make_pair(written=end.wfd >= 0)
        self.theirs.append(theirs)
        stream, shown = stream_of(ours), f"the device {net.name}"
        if end.rfd >= 0:
            self.inlets.append(Inlet(self.name, end.rfd, shown, stream))
        if end.wfd >= 0:
            self.outlets.append(Outlet(self.name, end.wfd, shown, stream))
        return theirs.fileno()

    async def run(self) -> int:
        """Run it to its end; its status. Raises UkfilterError."""
        process = self._start()
        try:
            await self._carry(process)
        finally:
            await process.end()
        outcome = process.outcome
        if self.timed_out:
            return TIMED_OUT
        if outcome is None or outcome.left:
            raise TenderError(f"{printable(self.tender)}: does not end, though it was killed")
        if self.words.refused:
            raise NoTenderError(
                f"{printable(self.tender)}: does not take descriptors (--net NAME=@FD), as Solo5 from v0.10.0"
                " on; use v0.9, or ukfilter's own tender"
            )
        if self.ended and outcome.signal == signal.SIGKILL:
            return 0
        if outcome.signal is not None:
            die_of(outcome.signal)
        return outcome.status

    def _start(self) -> RunningCommand:
        null = os.open(os.devnull, os.O_RDWR)
        theirs = [end.fileno() for end in self.theirs]
        os.environ.pop("UKFILTER_TENDER", None)  # or, being ukfilter by another name, it would start itself
        try:
            return start_command(
                self.tender,
                self.argv,
                True,
                null,
                self.console[1],
                self.errors[1],
                (*theirs, *self.handed_over),
                fixed=theirs,
            )
        finally:  # or the end of file of these never comes
            for end in self.theirs:
                end.close()
            for fd in (null, self.console[1], self.errors[1]):
                os.close(fd)

    async def _carry(self, process: RunningCommand) -> None:
        """Until it is over and all its output is where it belongs, or the time is."""
        quiet = Quiet(process.pid, self.tells_end)
        async with trio.open_nursery() as all_:
            async with trio.open_nursery() as copying:
                for outlet in (*self.outlets, self.words):
                    copying.start_soon(outlet.pump, quiet.stir)
                all_.start_soon(self._limit, process, copying.cancel_scope)
                async with trio.open_nursery() as feeding:
                    feeding.start_soon(self._feed, process, quiet)
                    await process.wait()
                    feeding.cancel_scope.cancel()
            all_.cancel_scope.cancel()

    async def _feed(self, process: RunningCommand, quiet: Quiet) -> None:
        async with trio.open_nursery() as inputs:
            for inlet in self.inlets:
                inputs.start_soon(inlet.pump, quiet.stir, self.tells_end)
        if not self.inlets or self.has_messages:  # whoever sends messages may send another
            return
        waits = False
        while not waits:
            await trio.sleep(min(LOOK, self.drain or LOOK))
            quiet.look()
            waits = not self._is_under_way(quiet) and quiet.seconds >= self.drain
        if not process.is_over():
            self.ended = True
            process.kill()

    def _is_under_way(self, quiet: Quiet) -> bool:
        """Whether there is input that the guest has not taken, or output that its reader has not."""
        if any(outlet.writing for outlet in self.outlets):
            quiet.stir()
            return True
        return any(inlet.is_left(quiet.stir) for inlet in self.inlets)

    async def _limit(self, process: RunningCommand, copying: trio.CancelScope) -> None:
        """At the time limit end it all, but for what only has to be carried."""
        await trio.sleep(self.timeout)
        self.timed_out = True
        process.kill()
        with trio.move_on_after(LAST_BYTES):
            while any(outlet.moves() for outlet in (*self.outlets, self.words)):
                await trio.sleep(0.001)
        copying.cancel()


def check_settings(options: Options, plan: Plan) -> None:
    """Raises UsageError for what a tender of Solo5's would not do."""
    default = Options()
    for name, option in OURS.items():
        if getattr(options, name) != getattr(default, name):
            raise UsageError(f"{option}: is of ukfilter's own tenders only")
    for block in plan.blocks:
        if block.read_only:
            raise UsageError(f"--block {block.name}=PATH,ro: is of ukfilter's own tenders only")


def check_words(name: str, args: list[str], quiet: bool) -> None:
    """Raises UsageError for a command line that Solo5 does not take."""
    size = len(command_line(args, quiet))
    if size > COMMAND_LINE_MAX:
        raise UsageError(
            f"{name}: the guest's command line has {size} bytes; Solo5 takes {COMMAND_LINE_MAX} at most"
        )


def check_target(unikernel: Image, options: Options) -> None:
    """Raises ImageError for an image that the tender would not run, if the tender's name tells."""
    image.check(unikernel, options.mem, options.targets)
    name = options.tender.rpartition("/")[2]
    for target in image.ABI_VERSIONS:
        if f"solo5-{target}" in name and target != unikernel.target:
            raise ImageError(
                f"{unikernel.path}: built for Solo5's {unikernel.target} target;"
                f" {printable(options.tender)} runs images of {target}: take solo5-{unikernel.target}"
            )


def settings_of(plan: Plan, options: Options) -> list[str]:
    """What the tender is told of devices beside their ends."""
    macs = [f"--net-mac:{name}={mac.hex(':')}" for name, mac in options.macs.items()]
    disks = [f"--block:{b.name}={b.path}" for b in plan.blocks]
    sizes = [f"--block-sector-size:{name}={size}" for name, size in options.sector_sizes.items()]
    return [*macs, *disks, *sizes]


def run_external(path: str, args: list[str], options: Options) -> int:
    """Run the image at path under the tender that options name; a status. Raises UkfilterError."""
    fill_standard_descriptors()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a guest that takes no more input is within its rights
    try:
        external = External(path, args, options)
        with ungrouped(UkfilterError, OSError):
            return trio.run(external.run)
    except OSError as e:
        raise UkfilterError(f"{printable(options.tender)}: cannot run it: {e.strerror}") from None
