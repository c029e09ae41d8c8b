"""ukfilter: run a Solo5 unikernel as a Unix filter.

    completed = await ukfilter.run("wc.hvt", input=b"one two\n")       # or run_sync, without trio
    async with ukfilter.open_guest("cat.hvt") as guest: ...            # streams to and from a running guest
    async with ukfilter.open_pipeline(["cat.hvt", ["grep.hvt", "foo"], ["!", "sort"]]) as pipeline: ...

Names resolve when they are first used: to import this costs nothing, and the command never loads trio by it.
"""

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AnyStage",
    "Command",
    "CommandError",
    "Completed",
    "Data",
    "DeviceError",
    "End",
    "Figures",
    "Guest",
    "GuestError",
    "GuestOptions",
    "GuestTimeoutError",
    "HasFileno",
    "Image",
    "ImageError",
    "ImageNotFoundError",
    "Input",
    "NoTenderError",
    "Outcome",
    "Output",
    "Pipeline",
    "Stage",
    "TenderError",
    "UkfilterError",
    "UsageError",
    "open_guest",
    "open_pipeline",
    "run",
    "run_sync",
]

_HOMES = {
    "AnyStage": "pipes.pipeline",
    "Command": "pipes.pipeline",
    "CommandError": "pipes.errors",
    "Completed": "pipes.record",
    "DEVNULL": "pipes.streams",
    "Data": "pipes.streams",
    "DeviceError": "errors",
    "End": "pipes.streams",
    "Figures": "pipes.record",
    "Guest": "pipes.guest",
    "GuestError": "pipes.errors",
    "GuestOptions": "pipes.settings",
    "GuestTimeoutError": "pipes.errors",
    "HasFileno": "pipes.streams",
    "Image": "pipes.settings",
    "ImageError": "errors",
    "ImageNotFoundError": "errors",
    "Input": "pipes.streams",
    "NoTenderError": "errors",
    "Outcome": "pipes.record",
    "Output": "pipes.streams",
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
    from ukfilter.errors import (
        DeviceError,
        ImageError,
        ImageNotFoundError,
        NoTenderError,
        TenderError,
        UkfilterError,
        UsageError,
    )
    from ukfilter.pipes.errors import CommandError, GuestError, GuestTimeoutError
    from ukfilter.pipes.guest import Guest, open_guest
    from ukfilter.pipes.pipeline import AnyStage, Command, Pipeline, Stage, open_pipeline
    from ukfilter.pipes.record import Completed, Figures, Outcome
    from ukfilter.pipes.run import run, run_sync
    from ukfilter.pipes.settings import GuestOptions, Image
    from ukfilter.pipes.streams import DEVNULL, PIPE, STDOUT, Data, End, HasFileno, Input, Output

if not TYPE_CHECKING:  # or a name that is misspelt would be an object like any other

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
