"""One queue of work: the network runs for one request at a time, and not for readers who have left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")
_LOOK = 0.05  # seconds between two looks whether the reader is still there
_GLANCE, _SILENT = 0.25, 5.0  # between two looks whether it all ends; for which nothing is said where nothing changes


class Busy(Exception):
    """More is waiting than the queue takes."""


class Left(Exception):
    """The reader has gone."""


class Queue:
    """Runs functions one after the other in a thread of its own.

    Args:
        most: how many may wait.

    Attributes:
        waiting: how many do, the one that runs among them.
        ending: set when the program ends: then `lengths` ends, too.
    """

    def __init__(self, most: int = 32) -> None:
        self.most, self.waiting, self.ending = most, 0, False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unconv")
        self._changed = asyncio.Condition()

    async def run(self, work: Callable[[], _Result], gone: Callable[[], Awaitable[bool]]) -> _Result:
        """Return what `work` returns; it is not begun if the reader has left by then.

        Raises:
            Busy: too many are waiting. Left: the reader has gone.
        """
        if self.waiting >= self.most:
            raise Busy
        await self._count(1)
        future = self._thread.submit(work)
        try:
            waited = asyncio.wrap_future(future)
            while not (await asyncio.wait([waited], timeout=_LOOK))[0]:
                if await gone():
                    future.cancel()
                    raise Left
            return await waited
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.waiting += change
            self._changed.notify_all()

    async def lengths(self) -> AsyncIterator[int]:
        """Yield how many are waiting, whenever that changes, and every few seconds, until it all ends."""
        silent = _SILENT
        while not self.ending:
            if silent >= _SILENT:
                silent = 0.0
                yield self.waiting
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), _GLANCE)
                    silent = _SILENT
                except asyncio.TimeoutError:
                    silent += _GLANCE

    def close(self) -> None:
        """End when what runs has ended; what waits is not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)
