"""Have shards scanned by other processes: hand them out, write what comes back, hand out again what was lost.

Only this process writes into the folder. Workers hold nothing that is lost with them but the shard they are at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from unconv.errors import ScanError, UnconvError
from unconv.files import write
from unconv.progress import Progress
from unconv.scan.ledger import Ledger
from unconv.scan.listed import Entry
from unconv.scan.scanning import WAIT, Claim, Clock, Job, clear_claims
from unconv.scan.shards import shard_path


@dataclass(frozen=True)
class Told:
    """A worker has done some pictures; `forward`: the seconds that its network took for them."""

    worker: Hashable
    pictures: int
    forward: float


@dataclass(frozen=True)
class Done:
    """A worker has done a shard; `content`: of its file."""

    worker: Hashable
    number: int
    content: bytes


@dataclass(frozen=True)
class Lost:
    """A worker is gone, with whatever it had; `why`, in words."""

    worker: Hashable
    why: str


@dataclass(frozen=True)
class Failed:
    """A worker raised an error: one of ours as it is, another with its traceback in words."""

    worker: Hashable
    error: Exception


Event = Told | Done | Lost | Failed


class Crew(Protocol):
    """Processes that scan shards.

    Attributes:
        size: how many there are.
        said: what of the machines is used, in words.
        twice: whether a shard that one is slow with is given to another, too.
        limit: seconds that a shard may take; None: by what others took.
        tries: how often a shard may raise an error, and `losses`: be lost, before the scan ends.
    """

    size: int
    said: str
    twice: bool
    limit: float | None
    tries: int
    losses: int

    def free(self) -> list[Hashable]:
        """Return the workers that wait for a shard."""

    def hand(self, worker: Hashable, number: int, entries: Sequence[Entry]) -> None:
        """Give a worker a shard, with its pictures."""

    def events(self, seconds: float) -> list[Event]:
        """Return what has happened, after so long at most."""

    def drop(self, worker: Hashable) -> None:
        """End a worker that does not answer; another takes its place."""

    def close(self) -> None:
        """End all workers."""


def drive(job: Job, numbers: Sequence[int] | range, crew: Crew, progress: Progress | None = None) -> None:
    """Have the shards that are missing scanned; those that another program is at are left to it, and waited for.

    Raises:
        ScanError: a shard was lost or failed too often. Any UnconvError that a worker raised.
    """
    with ExitStack() as stack:
        stack.callback(crew.close)
        driver = _Driver(job, numbers, crew, progress)
        stack.callback(driver.release)
        if progress:
            progress(crew.said, driver.clock.before, driver.clock.total)
        while not driver.ledger.whole:
            driver.hand_out()
            for event in crew.events(WAIT):
                driver.note(event)
            for worker in driver.ledger.overdue():
                driver.lose(worker, f"did not answer for {driver.ledger.age(worker):.0f} s")
                crew.drop(worker)
    clear_claims(job.folder)


class _Driver:
    def __init__(self, job: Job, numbers: Sequence[int] | range, crew: Crew, progress: Progress | None) -> None:
        self.job, self.crew = job, crew
        self.clock = Clock(job, numbers, progress, crew.size)
        self.ledger = Ledger(job.missing(numbers), crew.twice, crew.limit)
        self.claims: dict[int, Claim] = {}
        self.flying: Counter[Hashable] = Counter()
        self.failures: Counter[int] = Counter()
        self.idle_losses = 0  # since a shard was done

    def hand_out(self) -> None:
        """Give every free worker a shard, if there is one that no other program is at."""
        for worker in self.crew.free():
            for _ in range(max(1, len(self.ledger.waiting))):
                number = self.ledger.next()
                if number is None:
                    return
                if self._claimed(number):
                    self.ledger.lend(worker, number)
                    self.crew.hand(worker, number, self.job.part(number))
                    break

    def _claimed(self, number: int) -> bool:
        """Claim a shard; False if another program is at it, or has done it meanwhile."""
        if number in self.claims:
            return True
        claim = Claim(self.job.folder, number)
        if not claim.__enter__():
            self.ledger.later(number)
            return False
        if not self.job.missing([number]):
            claim.__exit__()
            self.ledger.strike(number)
            return False
        self.claims[number] = claim
        return True

    def note(self, event: Event) -> None:
        """Take note of what a worker did."""
        if isinstance(event, Told):
            self.flying[event.worker] += event.pictures
            self.clock.tell(event.pictures, event.forward)
        elif isinstance(event, Done):
            self.flying.pop(event.worker, None)
            self.idle_losses = 0
            if self.ledger.finish(event.worker, event.number):
                write(shard_path(self.job.folder, event.number), event.content)
                self.claims.pop(event.number).__exit__()
            self.clock.settle(self.ledger.missing(), sum(self.flying.values()))
        elif isinstance(event, Lost):
            self.lose(event.worker, event.why)
        else:
            self._fail(event.worker, event.error)

    def lose(self, worker: Hashable, why: str) -> None:
        """Put back what a lost worker had.

        Raises:
            ScanError: that happened too often.
        """
        number = self.ledger.lose(worker)
        self.flying.pop(worker, None)
        self.idle_losses += 1
        often = number is not None and self.ledger.losses[number] >= self.crew.losses
        if often or self.idle_losses >= self.crew.losses * self.crew.size:
            at = "before it had a shard" if number is None else f"at shard {number}, {_span(self.job, number)}"
            raise ScanError(
                f"scan: {worker} {why} {at}, and that was once too often. Look for what ends it (too little memory: pass a "
                "smaller batch), then run the scan again; it goes on."
            )

    def _fail(self, worker: Hashable, error: Exception) -> None:
        number = self.ledger.lose(worker)
        self.flying.pop(worker, None)
        if isinstance(error, UnconvError) or number is None:
            raise error  # in our own words: it will be no other the next time
        self.failures[number] += 1
        if self.failures[number] >= self.crew.tries:
            raise ScanError(
                f"scan: shard {number}, {_span(self.job, number)}, failed on {worker}: {str(error).strip()}"
            ) from error

    def release(self) -> None:
        """Give back the shards that are claimed."""
        for claim in self.claims.values():
            claim.__exit__()


def _span(job: Job, number: int) -> str:
    first = number * job.shard
    return f"pictures {first} to {first + len(job.part(number)) - 1}"
