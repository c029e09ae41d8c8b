"""The entry: IMAGE first and no option goes straight to the tender; all else to the command line.

Nothing is imported before signals are as the shell set them: ^C must never show a line of Python.
"""

from __future__ import annotations

import _signal
import posix as os  # os itself takes 1.3 ms of each start, and has nothing more that is wanted here
import sys


def reset_signals() -> None:
    """Undo what Python did to signals at its start; one that was ignored by inheritance stays so."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))  # launcher.c blocked it


def complain(text: str) -> None:
    """One line on descriptor 2; sys.stderr is None where that was closed, and nobody is left to tell."""
    try:  # noqa: SIM105, contextlib would be one more import
        os.write(2, f"ukfilter: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


def main(name: str = "ukfilter") -> int:
    """Run the command that sys.argv names; returns an exit status, if at all.

    name is what it was called by: ukfilter, or a tender of Solo5's that it stands in for.
    """
    reset_signals()
    from ukfilter.errors import UkfilterError

    words = sys.argv[1:]
    try:
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
    except UkfilterError as e:
        complain(str(e))
        return e.status


if __name__ == "__main__":
    sys.exit(main())
