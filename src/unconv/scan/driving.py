"""Let other processes scan shards: hand out shards, write the results, and hand out again what was lost.

Only this process writes into the folder. A worker that is lost takes nothing with it except its current shard.
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
class Advanced:
    """A worker has finished some pictures; its network took `forward` seconds for them."""

    worker: Hashable
    pictures: int
    forward: float


@dataclass(frozen=True)
class Done:
    """A worker has finished a shard; `content` is that of the shard's file."""

    worker: Hashable
    number: int
    content: bytes


@dataclass(frozen=True)
class Lost:
    """A worker is gone, with the shard it had; `why` says the reason in words."""

    worker: Hashable
    why: str


@dataclass(frozen=True)
class Failed:
    """A worker raised an error; one that is not our own comes as text with its traceback."""

    worker: Hashable
    error: Exception


Event = Advanced | Done | Lost | Failed


class Crew(Protocol):
    """Processes that scan shards.

    Attributes:
        size: the number of workers.
        said: what is used of the machines, in words.
        twice: whether a shard with which one worker is slow is given to another, too.
        limit: the seconds that a shard may take; None derives them from the durations of others.
        tries: the number of errors that a shard may raise before the scan ends.
        losses: the number of times that a shard may be lost before the scan ends.
    """

    size: int
    said: str
    twice: bool
    limit: float | None
    tries: int
    losses: int

    def free(self) -> list[Hashable]:
        """Return the workers that are waiting for a shard."""

    def hand(self, worker: Hashable, number: int, entries: Sequence[Entry]) -> None:
        """Give a worker a shard, with its pictures."""

    def events(self, seconds: float) -> list[Event]:
        """Return the events since the last call, waiting `seconds` for the first one."""

    def drop(self, worker: Hashable) -> None:
        """End a worker that does not answer; another takes its place."""

    def close(self) -> None:
        """End all workers."""


def drive(job: Job, numbers: Sequence[int] | range, crew: Crew, progress: Progress | None = None) -> None:
    """Let a crew scan the missing shards, and wait for those that another program is scanning.

    Raises:
        ScanError: a shard was lost or failed too often.
        UnconvError: a worker raised one.
    """
    with ExitStack() as stack:
        stack.callback(crew.close)
        driver = _Driver(job, numbers, crew, progress)
        stack.callback(driver.release)
        if progress:
            progress(crew.said, driver.clock.before, driver.clock.total)
        while not driver.ledger.complete:
            driver.hand_out()
            for event in crew.events(WAIT):
                driver.note(event)
            for worker in driver.ledger.overdue():
                driver.lose(worker, f"did not answer for {driver.ledger.age(worker):.0f} s")
                crew.drop(worker)
    clear_claims(job.folder)


class _Driver:
    """The state of a scan by a crew: the ledger, the claimed shards, and what failed or was lost."""

    def __init__(self, job: Job, numbers: Sequence[int] | range, crew: Crew, progress: Progress | None) -> None:
        self.job, self.crew = job, crew
        self.clock = Clock(job, numbers, progress, crew.size)
        self.ledger = Ledger(job.missing(numbers), crew.twice, crew.limit)
        self.claims: dict[int, Claim] = {}
        self.unfinished: Counter[Hashable] = Counter()
        self.failures: Counter[int] = Counter()
        self.idle_losses = 0  # since a shard was done

    def hand_out(self) -> None:
        """Give every free worker a shard, if there is one that no other program is scanning."""
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
        """Claim a shard, and return whether that succeeded: not if another program is scanning it, or has meanwhile done so."""
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
        """Act on an event of a worker."""
        if isinstance(event, Advanced):
            self.unfinished[event.worker] += event.pictures
            self.clock.tell(event.pictures, event.forward)
        elif isinstance(event, Done):
            self.unfinished.pop(event.worker, None)
            self.idle_losses = 0
            if self.ledger.finish(event.worker, event.number):
                write(shard_path(self.job.folder, event.number), event.content)
                self.claims.pop(event.number).__exit__()
            self.clock.settle(self.ledger.missing(), sum(self.unfinished.values()))
        elif isinstance(event, Lost):
            self.lose(event.worker, event.why)
        else:
            self._fail(event.worker, event.error)

    def lose(self, worker: Hashable, why: str) -> None:
        """Put back the shard of a lost worker.

        Raises:
            ScanError: shards were lost too often.
        """
        number = self.ledger.lose(worker)
        self.unfinished.pop(worker, None)
        self.idle_losses += 1
        too_often = number is not None and self.ledger.losses[number] >= self.crew.losses
        if too_often or self.idle_losses >= self.crew.losses * self.crew.size:
            when = "before it had a shard" if number is None else f"at shard {number}, {_span(self.job, number)}"
            raise ScanError(
                f"scan: {worker} {why} {when}, as often as is allowed. Find out what ends it (if it lacks memory, pass a "
                "smaller batch), then run the scan again; it continues."
            )

    def _fail(self, worker: Hashable, error: Exception) -> None:
        number = self.ledger.lose(worker)
        self.unfinished.pop(worker, None)
        if isinstance(error, UnconvError) or number is None:
            raise error  # one of our own, which another try would raise again
        self.failures[number] += 1
        if self.failures[number] >= self.crew.tries:
            raise ScanError(
                f"scan: shard {number}, {_span(self.job, number)}, failed on {worker}: {str(error).strip()}"
            ) from error

    def release(self) -> None:
        """Release the claims on all shards."""
        for claim in self.claims.values():
            claim.__exit__()


def _span(job: Job, number: int) -> str:
    first = number * job.shard
    return f"pictures {first} to {first + len(job.part(number)) - 1}"
