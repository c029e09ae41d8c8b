"""ukfilter: run a Solo5 unikernel as a Unix filter.

    completed = await ukfilter.run("wc.hvt", input=b"one two\n")       # or run_sync, without trio
    async with ukfilter.open_guest("cat.hvt") as guest: ...            # streams to and from a running guest
    async with ukfilter.open_pipeline(["cat.hvt", ["grep.hvt", "foo"], ["!", "sort"]]) as pipeline: ...

Names resolve when they are first used: to import this costs nothing, and the command never loads trio by it.
"""

__version__ = "0.1.0"

_HOMES = {
    "Command": "pipes.pipeline",
    "CommandError": "pipes.errors",
    "Completed": "pipes.record",
    "DEVNULL": "pipes.streams",
    "DeviceError": "errors",
    "Figures": "pipes.record",
    "Guest": "pipes.guest",
    "GuestError": "pipes.errors",
    "GuestOptions": "pipes.settings",
    "GuestTimeoutError": "pipes.errors",
    "ImageError": "errors",
    "ImageNotFoundError": "errors",
    "Outcome": "pipes.record",
    "PIPE": "pipes.streams",
    "Pipeline": "pipes.pipeline",
    "STDOUT": "pipes.streams",
    "Stage": "pipes.pipeline",
    "TenderError": "errors",
    "UkfilterError": "errors",
    "UsageError": "errors",
    "open_guest": "pipes.guest",
    "open_pipeline": "pipes.pipeline",
    "run": "pipes.run",
    "run_sync": "pipes.run",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ukfilter.errors import DeviceError as DeviceError
    from ukfilter.errors import ImageError as ImageError
    from ukfilter.errors import ImageNotFoundError as ImageNotFoundError
    from ukfilter.errors import TenderError as TenderError
    from ukfilter.errors import UkfilterError as UkfilterError
    from ukfilter.errors import UsageError as UsageError
    from ukfilter.pipes.errors import CommandError as CommandError
    from ukfilter.pipes.errors import GuestError as GuestError
    from ukfilter.pipes.errors import GuestTimeoutError as GuestTimeoutError
    from ukfilter.pipes.guest import Guest as Guest
    from ukfilter.pipes.guest import open_guest as open_guest
    from ukfilter.pipes.pipeline import Command as Command
    from ukfilter.pipes.pipeline import Pipeline as Pipeline
    from ukfilter.pipes.pipeline import Stage as Stage
    from ukfilter.pipes.pipeline import open_pipeline as open_pipeline
    from ukfilter.pipes.record import Completed as Completed
    from ukfilter.pipes.record import Figures as Figures
    from ukfilter.pipes.record import Outcome as Outcome
    from ukfilter.pipes.run import run as run
    from ukfilter.pipes.run import run_sync as run_sync
    from ukfilter.pipes.settings import GuestOptions as GuestOptions
    from ukfilter.pipes.streams import DEVNULL as DEVNULL
    from ukfilter.pipes.streams import PIPE as PIPE
    from ukfilter.pipes.streams import STDOUT as STDOUT


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
