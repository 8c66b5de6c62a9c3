"""Shards that are handed out, lost and handed out again, by workers in this process."""

from __future__ import annotations

import pytest

import unconv
from cases.scans import small
from unconv.reverse.maps import Maps
from unconv.scan.driving import Done, Failed, Lost, drive
from unconv.scan.ledger import Ledger
from unconv.scan.opening import open_pictures
from unconv.scan.scanning import Claim, Job, scan_shard
from unconv.scan.shards import packed, shard_path


class Inside:
    """Workers that scan when they are asked what has happened, and may be told to fail first.

    Args:
        faults: what becomes of the first shards that are handed out: "lost", "failed", "silent"; "" is done.
    """

    said = "inside"
    limit = None

    def __init__(self, job, size=2, faults=(), twice=False, tries=3, losses=3, limit=None):
        self.job, self.size, self.faults, self.twice = job, size, list(faults), twice
        self.tries, self.losses, self.limit = tries, losses, limit
        self.handed, self.working, self.closed = [], {}, False
        self.idle = [f"worker {number}" for number in range(size)]

    def free(self):
        return list(self.idle)

    def hand(self, worker, number, entries):
        self.idle.remove(worker)
        self.handed.append(number)
        self.working[worker] = (number, entries, self.faults.pop(0) if self.faults else "")

    def events(self, seconds):
        found = []
        for worker, (number, entries, fault) in list(self.working.items()):
            if fault == "silent":
                continue
            del self.working[worker]
            self.idle.append(worker)
            if fault == "lost":
                found.append(Lost(worker, "was ended by signal 9"))
            elif fault:
                found.append(Failed(worker, RuntimeError("KeyError: 'x'")))
            else:
                found.append(Done(worker, number, packed(scan_shard(self.job, number, entries))))
        return found

    def drop(self, worker):
        del self.working[worker]
        self.idle.append(worker)

    def close(self):
        self.closed = True


@pytest.fixture
def job(pictures, tmp_path):
    network, listing = small(), open_pictures(pictures)
    return Job(network, Maps(network, None, 4), tmp_path, "run", listing.entries, listing.read, 1, 8, 16, False, True)


@pytest.mark.parametrize("faults", [[], ["lost"], ["failed", "failed"], ["lost", "", "lost", "failed"]])
def test_what_was_lost_is_done_by_another(job, faults):
    crew = Inside(job, faults=faults)
    drive(job, job.shards(), crew)
    assert not job.missing(job.shards()) and crew.closed
    assert len(crew.handed) == 3 + sum(fault != "" for fault in faults)
    assert not list(job.folder.rglob("*.lock"))


def test_a_shard_that_is_lost_too_often_is_named(job):
    crew = Inside(job, size=1, faults=["", "lost", "lost", "lost"])
    match = r"worker 0 was ended by signal 9 at shard 1, pictures 16 to 31, as often as is allowed"
    with pytest.raises(unconv.ScanError, match=match):
        drive(job, job.shards(), crew)
    assert crew.closed and job.missing(job.shards()) == [1, 2]
    assert not list(job.folder.rglob("*.lock"))


def test_a_shard_that_fails_three_times_is_named(job):
    crew = Inside(job, size=1, faults=["failed"] * 3)
    with pytest.raises(unconv.ScanError, match="shard 0, pictures 0 to 15, failed on worker 0: KeyError: 'x'"):
        drive(job, job.shards(), crew)


def test_an_error_in_our_own_words_is_raised_at_once(job):
    class Refusing(Inside):
        def events(self, seconds):
            return [Failed(worker, unconv.ShapeError("scan: as it is")) for worker in self.working]

    with pytest.raises(unconv.ShapeError, match="as it is"):
        drive(job, job.shards(), Refusing(job))


def test_a_worker_that_does_not_answer_is_replaced(job):
    crew = Inside(job, faults=["silent"], limit=0.05)
    drive(job, job.shards(), crew)
    assert sorted(crew.handed) == [0, 0, 1, 2]


def test_a_shard_that_is_slow_at_the_end_is_done_twice_and_the_first_answer_counts(job):
    crew = Inside(job, faults=["silent"], twice=True)
    drive(job, job.shards(), crew)
    assert sorted(crew.handed) == [0, 0, 1, 2] and not job.missing(job.shards())


def test_a_shard_that_another_program_is_at_is_left_to_it(job):
    content = packed(scan_shard(job, 0, job.part(0)))

    class Meanwhile(Inside):
        def events(self, seconds):
            if len(self.handed) == 2 and not self.working:
                shard_path(job.folder, 0).write_bytes(content)
                other.__exit__()
            return super().events(seconds)

    other, crew = Claim(job.folder, 0), Meanwhile(job)
    assert other.__enter__()
    drive(job, job.shards(), crew)
    assert sorted(crew.handed) == [1, 2] and not job.missing(job.shards())


def test_the_ledger_hands_a_slow_shard_to_one_more_and_to_no_third():
    now = [0.0]
    ledger = Ledger([0, 1], twice=True, now=lambda: now[0])
    for worker, number in (("a", 0), ("b", 1)):
        assert ledger.next() == number
        ledger.lend(worker, number)
    now[0] = 10.0
    assert ledger.finish("a", 0)
    assert ledger.next() is None  # 1 is not slow yet
    now[0] = 21.0
    assert ledger.next() == 1
    ledger.lend("a", 1)
    assert ledger.next() is None
    assert ledger.lose("b") == 1 and not ledger.waiting  # the other one has it still
    assert ledger.finish("a", 1) and ledger.complete
    assert not ledger.finish("b", 1)
    assert ledger.overdue() == []
