"""A tender of Solo5's own as what runs the guest: `--tender /path/to/solo5-spt`.

It makes its descriptors non-blocking, loses what it cannot write at once, and solo5-hvt tells the guest of no
end of file (solo5-spt does). So its ends are sockets of ours, with pumps between them and ours; it is stopped
while our reader is slow; and once all input is taken and the guest has been quiet for --drain, it is ended.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import socket
import sys

import trio

from ukfilter import devices, image
from ukfilter.devices import STANDARD, STDIO
from ukfilter.errors import NoTenderError, UkfilterError, UsageError, printable
from ukfilter.pipes.command import RunningCommand, start_command
from ukfilter.pipes.errors import ungrouped
from ukfilter.pipes.process import die_of
from ukfilter.pipes.streams import write_all
from ukfilter.tender.ends import CONSOLES
from ukfilter.tender.options import Options

PIECE = 1 << 16
BUFFER = 8 << 20  # bytes that the tender may write while our pump is away; the kernel may grant less
SIOCOUTQ = 0x5411  # linux/sockios.h: bytes that were sent and not read yet
REFUSAL = b"Could not attach interface: @"
# What only our own tenders can do: the option, by the name of its setting.
OURS = {
    "eof": "--eof",
    "mtus": "--net-mtu",
    "stats": "--stats",
    "status_fd": "--status-fd",
    "trace": "--trace",
    "dumpcore": "--dumpcore",
}
QUIET_LOOK = 0.02  # seconds between two looks at whether the guest is quiet


class External:
    """A guest under a foreign tender, between our standard input and output."""

    def __init__(self, path: str, args: list[str], options: Options) -> None:
        self.tender, self.drain = options.tender, options.drain
        self.timeout = options.timeout or float("inf")
        unikernel = image.look_at(path, options.mem)
        plan = devices.plan(unikernel, options)
        check_settings(options, plan)
        self.inputs: list[socket.socket] = []
        self.outputs: list[tuple[socket.socket, int]] = []
        self.theirs: list[socket.socket] = []
        self.others: list[int] = []
        if plan.console not in CONSOLES:
            raise UsageError("--console: with a foreign tender it is stdout, stderr or null")
        self.console = CONSOLES[plan.console]
        nets = [f"--net:{n.name}={self._end(n.end)}" for n in plan.nets]
        nets += [f"--net-mac:{name}={mac.hex(':')}" for name, mac in options.macs.items()]
        disks = [f"--block:{b.name}={b.path}" for b in plan.blocks]
        disks += [f"--block-sector-size:{name}={size}" for name, size in options.sector_sizes.items()]
        quiet = ["--solo5:quiet"] if options.quiet else []
        self.tells_end = unikernel.target == "spt"
        self.argv = [f"--mem={options.mem >> 20}", *nets, *disks, "--", path, *quiet, *args]
        self.active = 0.0
        self.refused = self.ended = False

    def _end(self, end: str) -> str:
        """The tender's word for an end: ours are sockets, a descriptor or a tap of the user's is as it is."""
        if end[:1] == "@":
            self.others.append(int(end[1:]))
            return end
        if end not in (STDIO, *STANDARD):
            return end
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.theirs.append(theirs)
        self.others.append(theirs.fileno())
        if end in (STDIO, "stdin"):
            self.inputs.append(ours)
        if end != "stdin":
            self.outputs.append((ours, 2 if end == "stderr" else 1))
        return f"@{theirs.fileno()}"

    async def run(self) -> int:
        """Run it to its end; its status. Raises UkfilterError."""
        errors, theirs = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            console = self.console if self.console >= 0 else null
            process = start_command(self.tender, tuple(self.argv), True, null, console, theirs, self.others)
        finally:
            os.close(theirs)
            os.close(null)
            for end in self.theirs:
                end.close()
        self.active = trio.current_time()
        status = 0
        with trio.move_on_after(self.timeout) as limit:
            async with trio.open_nursery() as work:
                work.start_soon(self._errors, errors)
                async with trio.open_nursery() as feeding:
                    feeding.start_soon(self._input, process)
                    async with trio.open_nursery() as copying:
                        for ours, fd in self.outputs:
                            copying.start_soon(self._output, _stream(ours), fd, process)
                        outcome = await process.wait()
                    status = outcome.status
                    feeding.cancel_scope.cancel()
        if limit.cancelled_caught:
            await process.end()
            return 124
        if self.refused:
            raise NoTenderError(
                f"{printable(self.tender)}: does not take descriptors (--net NAME=@FD), as Solo5 from v0.10.0"
                " on; use v0.9, or ukfilter's own tender"
            )
        return 0 if self.ended else status

    async def _input(self, process: RunningCommand) -> None:
        for stream in [_stream(ours.dup()) for ours in self.inputs]:
            while data := await trio.to_thread.run_sync(os.read, 0, PIECE, abandon_on_cancel=True):
                self.active = trio.current_time()
                try:
                    await stream.send_all(data)
                except trio.BrokenResourceError:
                    return
            if self.tells_end:  # at end of file solo5-hvt would spin
                stream.socket.shutdown(socket.SHUT_WR)
            await self._quiet(stream.socket.fileno(), process)

    async def _quiet(self, fd: int, process: RunningCommand) -> None:
        """All input is with the tender: end it once it has taken that and done nothing for --drain."""
        left = array.array("i", [1])
        while left[0] or trio.current_time() - self.active < self.drain:
            await trio.sleep(min(QUIET_LOOK, self.drain or QUIET_LOOK))
            before = left[0]
            fcntl.ioctl(fd, SIOCOUTQ, left)
            if left[0] != before:
                self.active = trio.current_time()
        self.ended = True
        process.kill()

    async def _output(self, stream: trio.SocketStream, fd: int, process: RunningCommand) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(PIECE):
                self.active = trio.current_time()
                await self._write(fd, data, process)
                self.active = trio.current_time()

    async def _write(self, fd: int, data: bytes | bytearray, process: RunningCommand) -> None:
        """Write it all; the tender is stopped while that has to wait, or it would lose what it writes."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        slow = not poll.poll(0)
        if slow:
            process.send_signal(signal.SIGSTOP)
        try:
            await trio.to_thread.run_sync(write_all, fd, data)
        except BrokenPipeError:  # the reader is gone: our end, as a filter's is
            die_of(signal.SIGPIPE)
        if slow:
            process.send_signal(signal.SIGCONT)

    async def _errors(self, fd: int) -> None:
        async with trio.lowlevel.FdStream(fd) as stream:
            while data := await stream.receive_some(PIECE):
                if REFUSAL in data:
                    self.refused = True
                if not self.refused:
                    sys.stderr.buffer.write(data)
                    sys.stderr.buffer.flush()


def check_settings(options: Options, plan: devices.Plan) -> None:
    """Raises UsageError for what a tender of Solo5's would not do."""
    default = Options()
    for name, option in OURS.items():
        if getattr(options, name) != getattr(default, name):
            raise UsageError(f"{option}: is of ukfilter's own tenders only")
    for block in plan.blocks:
        if block.read_only:
            raise UsageError(f"--block {block.name}=PATH,ro: is of ukfilter's own tenders only")


def _stream(end: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))


def run_external(path: str, args: list[str], options: Options) -> int:
    """Run the image at path under the tender that options name; a status. Raises UkfilterError."""
    external = External(path, args, options)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a guest that takes no more input is within its rights
    with ungrouped(UkfilterError):
        return trio.run(external.run)
