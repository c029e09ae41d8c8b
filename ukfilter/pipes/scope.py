"""A block in which processes run: all of them once it is entered, none any more once it is left.

^C comes in the block, or while something is waited for; never in between, where nobody would see to what has
been started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import trio


class Leaving(Protocol):
    """What runs in a block."""

    async def leave(self) -> None:
        """End and reap all of it, whatever was cancelled or interrupted."""
        ...


Held = TypeVar("Held", bound=Leaving)


class Scope(AbstractAsyncContextManager[Held]):
    """The block of what `start` starts, which leaves nothing where it raises.

    Trap: as a generator under contextlib it would have frames of contextlib's around it, which know nothing
    of trio and its protection from ^C.
    """

    def __init__(self, start: Callable[[], Awaitable[Held]]) -> None:
        self._start = start

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Held:
        self._held = await self._start()
        return self._held

    @trio.lowlevel.enable_ki_protection
    def __aexit__(self, *_: object) -> Awaitable[None]:  # type: ignore[override]
        return _Leave(self._held)


class _Leave(Awaitable[None]):
    """The end of a block, to be awaited.

    Trap: a ^C can come when Python has called `__aexit__`, and before it awaits what that returned.
    """

    def __init__(self, held: Leaving) -> None:
        self._held, self._awaited = held, False

    @trio.lowlevel.enable_ki_protection
    def __await__(self) -> Generator[object, object, None]:
        self._awaited = True
        return self._leave().__await__()

    @trio.lowlevel.enable_ki_protection
    async def _leave(self) -> None:
        await self._held.leave()

    def __del__(self) -> None:
        if not self._awaited:
            trio.lowlevel.spawn_system_task(self._held.leave)


def oversee(act: Callable[[], Awaitable[None]]) -> trio.CancelScope:
    """Have act() done while the block runs, whose leaving is to cancel the scope that this returns.

    In a system task, since a nursery would wrap what the block raises in a group.
    """
    scope = trio.CancelScope()

    async def task() -> None:
        with scope:
            await act()

    trio.lowlevel.spawn_system_task(task)
    return scope
