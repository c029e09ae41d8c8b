"""The entry: IMAGE first and no option goes straight to the tender; all else to the command line.

Nothing is imported before signals are as the shell set them: ^C must never show a line of Python.
"""

from __future__ import annotations

import _signal
import sys

FAILED = 125
SHORT = {  # by errno: what is short, and which limit it is
    11: "no more processes or threads can be had (ulimit -u, or pids.max of the cgroup)",
    12: "no memory is left (ulimit -d or -v, or the machine's)",
    24: "too many open files; raise their limit (ulimit -n)",
}


def reset_signals() -> None:
    """Undo what Python did to signals at its start; one that was ignored by inheritance stays so.

    But SIGCHLD: where that is ignored, nobody learns how a child ended.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))  # launcher.c blocked it


def told(error: BaseException) -> tuple[str, int] | None:
    """The line of an error and its exit status; None: it is a bug of ours, whose traceback is wanted.

    Nothing is short but what the line says: descriptors and memory run out in any line of Python.
    """
    if isinstance(error, BaseExceptionGroup):  # of a nursery: a user is told of one
        lines = [told(each) for each in error.exceptions]
        return None if None in lines else lines[0]
    if isinstance(error, (MemoryError, SystemError)):  # the latter is Python's own word where memory ran out
        return "no memory is left for Python (ulimit -d or -v, or the machine's)", FAILED
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return f"cannot start a thread: {SHORT[11]}", FAILED
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return f"cannot load a part of this program: {error}", FAILED

    from ukfilter.errors import UkfilterError, printable

    if isinstance(error, UkfilterError):
        return str(error), error.status
    if not isinstance(error, OSError):
        return None
    where = "" if error.filename is None else f"{printable(str(error.filename))}: "
    return where + SHORT.get(error.errno or 0, error.strerror or str(error)), FAILED


def main(name: str = "ukfilter") -> int:
    """Run the command that sys.argv names; returns an exit status, if at all.

    name is what it was called by: ukfilter, or a tender of Solo5's that it stands in for.
    """
    reset_signals()
    from ukfilter.errors import complain  # now: there may be no memory for it once it is needed

    try:
        return run(name, sys.argv[1:])
    except Exception as e:
        end = told(e)
        if end is None:
            raise
    complain(end[0])
    return end[1]


def run(name: str, words: list[str]) -> int:
    """The same with these words. Raises what told() tells."""
    if name == "mount.fuse.ukfilter":
        from ukfilter.cli import mount

        return mount.helper(words)
    if name != "ukfilter":
        from ukfilter.cli import solo5

        return solo5.main(name, words)
    if words and not words[0].startswith("-"):
        from ukfilter.cli import COMMANDS

        if words[0] not in COMMANDS:
            from ukfilter.tender import run_here
            from ukfilter.tender.options import options_from_env

            options = options_from_env()
            if "/" not in options.tender:
                run_here(words[0], words[1:], options)
    from ukfilter.cli import main as cli

    return cli(words)


if __name__ == "__main__":
    sys.exit(main())
