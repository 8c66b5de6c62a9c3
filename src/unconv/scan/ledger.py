"""Who has which shard: handed out, lost, handed out again, done."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

_SLOW = 2.0  # times the usual duration, after which an idle worker is given the same shard
_LATE = 20.0  # times the usual duration, after which a worker is taken for lost
_LEAST = 600.0  # seconds that a shard is waited for at least before that
_FIRST = 6 * 3600.0  # seconds that a shard is waited for while nothing tells how long one takes


@dataclass(frozen=True)
class Lent:
    """A shard that a worker has, and since when."""

    number: int
    since: float


class Ledger:
    """Keeps which shards wait, which worker has which, and how often each was lost.

    A shard is a function of the run and its pictures alone: who does it, and how often, makes no difference, so whatever is
    in doubt is handed out again and the first answer counts.

    Args:
        numbers: of the shards that are to be done.
        twice: whether an idle worker is given a shard that another one is slow with.
        limit: seconds after which a worker that has not answered is taken for lost; None: by what others took.
        now: the time, in seconds.
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
    def whole(self) -> bool:
        """Whether all shards are done; a second answer may still be on its way."""
        return not self.missing()

    def missing(self) -> list[int]:
        """Return the shards that are not done."""
        return sorted({*self.waiting, *(lent.number for lent in self.lent.values())} - self._done)

    def next(self) -> int | None:
        """Return the shard that a free worker is to be given; None if there is none for it."""
        if self.waiting:
            return self.waiting[0]
        if not self._twice or not self._durations:
            return None
        having = Counter(lent.number for lent in self.lent.values())
        alone = [lent for lent in self.lent.values() if having[lent.number] == 1 and lent.number not in self._done]
        oldest = min(alone, key=lambda lent: lent.since, default=None)
        slow = oldest is not None and self._now() - oldest.since > _SLOW * statistics.median(self._durations)
        return oldest.number if oldest is not None and slow else None

    def lend(self, worker: Hashable, number: int) -> None:
        """Note that a worker has a shard."""
        if number in self.waiting:
            self.waiting.remove(number)
        self.lent[worker] = Lent(number, self._now())

    def later(self, number: int) -> None:
        """Put a shard behind the others: another process is at it."""
        self.waiting.remove(number)
        self.waiting.append(number)

    def strike(self, number: int) -> None:
        """Note that a shard is done, by whomever."""
        if number in self.waiting:
            self.waiting.remove(number)

    def finish(self, worker: Hashable, number: int) -> bool:
        """Note that a worker has done a shard; return whether it is the first answer."""
        lent = self.lent.pop(worker, None)
        if lent is not None:
            self._durations.append(self._now() - lent.since)
        first = number not in self._done
        self._done.add(number)
        self.strike(number)
        return first

    def lose(self, worker: Hashable) -> int | None:
        """Put what a lost worker had in front of what waits; return it, None if it had nothing that is still wanted."""
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
        """Return for how many seconds a worker has had its shard."""
        return self._now() - self.lent[worker].since
