"""Interrupts of blocked requests: ^C and SIGKILL end a client at once. See shim/shim.c for how.

Import this before pyfuse3, or rather: import pyfuse3 through load().
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import trio

_scopes: dict[int, trio.CancelScope] = {}
_numbers = itertools.count(1)
_shim: Any = None


def load() -> ModuleType:
    """pyfuse3, with our shim before libfuse. Raises ImportError where pyfuse3 is not installed."""
    global _shim
    flags = sys.getdlopenflags()
    try:
        # The shim's symbols must be found before libfuse's, by pyfuse3 that is loaded after it.
        sys.setdlopenflags(os.RTLD_GLOBAL | os.RTLD_NOW)
        with contextlib.suppress(ImportError):
            found = _shim = import_module("ukfilter.fs._shim")
            found.ffi.def_extern(name="on_interrupt")(_cancel)
            found.lib.uk_shim_interrupted = found.lib.on_interrupt
    finally:
        sys.setdlopenflags(flags)
    import pyfuse3

    module: ModuleType = pyfuse3
    return module


def works() -> bool:
    """Whether pyfuse3's session, which has been made, goes through the shim."""
    return _shim is not None and bool(_shim.lib.uk_shim_installed())


def _cancel(number: int) -> None:
    scope = _scopes.get(number)
    if scope is not None:
        scope.cancel()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What stands in this block ends with OSError, EINTR, if the client is interrupted.

    To be entered as the first thing of the handlers of read and write, each and always: what the shim
    remembers is the request of the handler that begins.
    """
    request = _shim.lib.uk_shim_take() if _shim is not None else None
    with trio.CancelScope() as scope:
        if not request:
            yield
            return
        number = next(_numbers)
        _scopes[number] = scope
        try:
            _shim.lib.uk_shim_watch(request, number)
            yield
        finally:
            _shim.lib.uk_shim_watch(request, 0)
            del _scopes[number]
    if scope.cancelled_caught:
        raise OSError(errno.EINTR, "interrupted")
