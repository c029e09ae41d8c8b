"""A block in which processes run: all of them once it is entered, none any more once it is left.

^C comes in the block, or while something is waited for; never in between, where nobody would see to what has
been started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    async def __aexit__(self, *_: object) -> None:
        await self._held.leave()
