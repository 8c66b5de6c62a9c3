"""Keep account of shards: which are waiting, which worker has which, which are lost or done."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

_SLOW = 2.0  # times the median duration, after which an idle worker gets the same shard, too
_LATE = 20.0  # times the median duration, after which a worker counts as lost
_LEAST = 600.0  # seconds to wait for a shard at least, before its worker counts as lost
_FIRST = 6 * 3600.0  # seconds to wait for a shard while none is done, so that durations are unknown


@dataclass(frozen=True)
class Lent:
    """A shard that a worker has, and the time at which it got it."""

    number: int
    since: float


class Ledger:
    """Keep account of the shards that wait, the worker that has each, and how often each was lost.

    A shard depends only on the run and its pictures. It makes no difference who scans it, or how often: a shard in doubt is
    handed out again, and the first answer counts.

    Args:
        numbers: the numbers of the shards to scan.
        twice: whether an idle worker gets a shard with which another one is slow.
        limit: seconds after which a worker without an answer counts as lost; None derives it from the durations so far.
        now: returns the time in seconds.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        twice: bool = False,
        limit: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting = deque(numbers)
        self.lent: dict[Hashable, Lent] = {}
        self.losses: Counter[int] = Counter()
        self._twice, self._limit, self._now = twice, limit, now
        self._durations: list[float] = []
        self._done: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether all shards are done; a second answer may still arrive."""
        return not self.missing()

    def missing(self) -> list[int]:
        """Return the shards that are not done."""
        return sorted({*self.waiting, *(lent.number for lent in self.lent.values())} - self._done)

    def next(self) -> int | None:
        """Return the shard for a free worker; None if there is none for it."""
        if self.waiting:
            return self.waiting[0]
        if not self._twice or not self._durations:
            return None
        holders = Counter(lent.number for lent in self.lent.values())
        held_once = [lent for lent in self.lent.values() if holders[lent.number] == 1 and lent.number not in self._done]
        oldest = min(held_once, key=lambda lent: lent.since, default=None)
        slow = oldest is not None and self._now() - oldest.since > _SLOW * statistics.median(self._durations)
        return oldest.number if oldest is not None and slow else None

    def lend(self, worker: Hashable, number: int) -> None:
        """Record that a worker has a shard."""
        if number in self.waiting:
            self.waiting.remove(number)
        self.lent[worker] = Lent(number, self._now())

    def later(self, number: int) -> None:
        """Move a shard behind the others, since another program is scanning it."""
        self.waiting.remove(number)
        self.waiting.append(number)

    def strike(self, number: int) -> None:
        """Record that a shard is done, perhaps by another program."""
        if number in self.waiting:
            self.waiting.remove(number)

    def finish(self, worker: Hashable, number: int) -> bool:
        """Record that a worker has done a shard, and return whether this is the first answer."""
        lent = self.lent.pop(worker, None)
        if lent is not None:
            self._durations.append(self._now() - lent.since)
        first = number not in self._done
        self._done.add(number)
        self.strike(number)
        return first

    def lose(self, worker: Hashable) -> int | None:
        """Put the shard of a lost worker before those that wait, unless it is done; return its number, or None."""
        lent = self.lent.pop(worker, None)
        if lent is None:
            return None
        self.losses[lent.number] += 1
        if lent.number not in self._done and all(other.number != lent.number for other in self.lent.values()):
            self.waiting.appendleft(lent.number)
        return lent.number

    def overdue(self) -> list[Hashable]:
        """Return the workers that have not answered for too long."""
        limit = self._limit or (max(_LEAST, _LATE * statistics.median(self._durations)) if self._durations else _FIRST)
        return [worker for worker, lent in self.lent.items() if self._now() - lent.since > limit]

    def age(self, worker: Hashable) -> float:
        """Return the number of seconds for which a worker has had its shard."""
        return self._now() - self.lent[worker].since
