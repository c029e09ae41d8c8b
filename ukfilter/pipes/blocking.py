"""trio.run for a program without trio, which an exception of a signal's handler ends cleanly.

Python runs handlers in the main thread, and what one raises there would come out of the middle of trio. So
trio gets a thread of its own, and the main thread does nothing but wait for it.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import trio

from ukfilter.errors import TenderError

T = TypeVar("T")


def run_blocking(call: Callable[[], Awaitable[T]]) -> T:
    """What call returns or raises; or what a signal's handler raises, once the call is cancelled and over."""
    if threading.current_thread() is not threading.main_thread():
        return trio.run(call)
    worker = _Worker(call)
    try:
        worker.start()
        return worker.result.result()
    except BaseException:
        worker.end()
        raise


class _Worker(Generic[T]):
    """One call in a thread."""

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self.result: Future[T] = Future()
        self._call = call
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._begun = self._cancelled = False

    def start(self) -> None:
        """Start the thread, in this one's context. Raises TenderError if there can be none.

        Trap: what a handler raises within Thread.start() has the thread that starts say that it is unknown.
        """
        run = contextvars.copy_context().run
        try:
            _thread.start_new_thread(run, (self._run,))
        except RuntimeError:
            raise TenderError("run_sync: cannot start a thread") from None

    def end(self) -> None:
        """Cancel the call, if it is not over, and wait until it is."""
        self._cancelled = True
        while self._begun and not self.result.done():  # what has not begun by now never will
            with contextlib.suppress(BaseException):  # a second signal's; the first one's is raised
                self._cancel()
                self.result.exception()

    def _cancel(self) -> None:
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)

    def _run(self) -> None:
        self._begun = True
        if self._cancelled:
            return
        try:
            result = trio.run(self._main)
        except BaseException as e:
            self.result.set_exception(e)
        else:
            self.result.set_result(result)

    async def _main(self) -> T:
        self._token = trio.lowlevel.current_trio_token()
        if self._cancelled:
            self._scope.cancel()
        with self._scope:
            return await self._call()
        raise InterruptedError  # for nobody: who cancelled it raises something else
