"""A queue of work: the network runs for one request at a time, and not for clients that have disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")
_CLIENT_CHECK = 0.05  # seconds between two checks whether the client is still connected
_END_CHECK, _HEARTBEAT = 0.25, 5.0  # seconds between checks whether the program ends; between messages if nothing changes


class Busy(Exception):
    """Raised if the queue is full."""


class Left(Exception):
    """Raised if the client has disconnected."""


class Queue:
    """Run functions one after another in a thread of its own.

    Args:
        most: the largest number of functions that may wait.

    Attributes:
        waiting: the number of functions in the queue, including the one that runs.
        ending: set when the program ends; then `lengths` ends, too.
    """

    def __init__(self, most: int = 32) -> None:
        self.most, self.waiting, self.ending = most, 0, False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unconv")
        self._changed = asyncio.Condition()

    async def run(self, work: Callable[[], _Result], gone: Callable[[], Awaitable[bool]]) -> _Result:
        """Return the result of `work`, which is not begun if the client has disconnected before its turn.

        Args:
            gone: returns whether the client has disconnected.

        Raises:
            Busy: the queue is full.
            Left: the client has disconnected.
        """
        if self.waiting >= self.most:
            raise Busy
        await self._count(1)
        future = self._thread.submit(work)
        try:
            result = asyncio.wrap_future(future)
            while not (await asyncio.wait([result], timeout=_CLIENT_CHECK))[0]:
                if await gone():
                    future.cancel()
                    raise Left
            return await result
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.waiting += change
            self._changed.notify_all()

    async def lengths(self) -> AsyncIterator[int]:
        """Yield the number of waiting functions whenever it changes, and every few seconds, until the program ends."""
        # Woken often although little changes: nothing else tells this loop that the program is ending.
        silent = _HEARTBEAT
        while not self.ending:
            if silent >= _HEARTBEAT:
                silent = 0.0
                yield self.waiting
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), _END_CHECK)
                    silent = _HEARTBEAT
                except asyncio.TimeoutError:
                    silent += _END_CHECK

    def close(self) -> None:
        """Let the running function finish, and begin none of those that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)
