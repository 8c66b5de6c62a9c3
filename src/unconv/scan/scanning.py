"""Scan a data set shard by shard; each shard is a pure function of the run and its part of the list."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from unconv.errors import ScanError, ShapeError
from unconv.files.file import said_in_words
from unconv.files.lock import lock
from unconv.progress import Progress
from unconv.reverse.maps import Maps
from unconv.reverse.network import Network
from unconv.scan.gather import BLOCK, Gathers
from unconv.scan.listed import Entry, entries_hash
from unconv.scan.reading import Read, read_ahead
from unconv.scan.shards import FOLDER, Shard, heading, save, shard_path
from unconv.scan.top import Top, draws

Tell = Callable[[int, float], None]
"""Called with the number of pictures done, and the seconds that the network took for them."""
SHARD = 4096  # pictures per shard, unless the user chooses another number
WAIT = 0.2  # seconds between two checks of shards that other processes are scanning
_REPORT_INTERVAL = 1.0  # seconds


@dataclass(frozen=True)
class Job:
    """What a process needs to scan shards of a run.

    Args:
        run: the hash of the run.
        entries: the list of pictures.
        read: reads the picture of an entry.
        threads: the number of threads that read.
        keep: the length of the lists.
        shard: pictures per shard.
        lowest: whether to list the smallest values, too.
        maxima: whether to keep the maxima of every picture.
    """

    network: Network
    maps: Maps
    folder: Path
    run: str
    entries: Sequence[Entry]
    read: Callable[[Entry], Any]
    threads: int
    keep: int
    shard: int
    lowest: bool
    maxima: bool

    def shards(self) -> range:
        """Return the numbers of all shards."""
        return range(-(-len(self.entries) // self.shard))

    def gathers(self) -> Gathers:
        """Return an empty `Gathers` for a shard."""
        return Gathers([(seen.shape, seen.rectified) for seen in self.maps.seen], self.keep, self.lowest, self.maxima)

    def part(self, number: int) -> Sequence[Entry]:
        """Return the pictures of a shard."""
        return self.entries[number * self.shard : (number + 1) * self.shard]

    def missing(self, numbers: Sequence[int] | range) -> list[int]:
        """Return which shards are missing, or were made from a shorter list.

        Raises:
            ScanError: a shard belongs to another run.
        """
        return [number for number in numbers if not self._is_complete(number)]

    def _is_complete(self, number: int) -> bool:
        path = shard_path(self.folder, number)
        known = heading(path) if path.exists() else None
        if known is not None and known.run != self.run:
            raise ScanError(
                f"scan: {path} is of another run (other network, weights, places or settings). Delete it, or choose another "
                "folder."
            )
        return known is not None and known.pictures == entries_hash(self.part(number))


def work(job: Job, numbers: Sequence[int] | range, progress: Progress | None = None) -> None:
    """Scan the missing shards in this process, and wait for those that another process is scanning.

    Args:
        numbers: the numbers of this process's shards.
        progress: called with what is being done, the number of pictures done, and their total number.
    """
    clock = Clock(job, numbers, progress)
    while missing := job.missing(numbers):
        done = 0
        for number in missing:
            with Claim(job.folder, number) as mine:
                if mine and job.missing([number]):
                    save(job.folder, scan_shard(job, number, job.part(number), clock.tell))
                    done += 1
        clock.settle(job.missing(numbers))
        if not done:
            time.sleep(WAIT)
    clear_claims(job.folder)


def scan_shard(job: Job, number: int, entries: Sequence[Entry], tell: Tell | None = None) -> Shard:
    """Return the results of a shard's pictures."""
    first = number * job.shard
    gathers = job.gathers()
    block = Block(gathers, first)
    with job.maps.running() as run:
        for batch in read_ahead(entries, job.read, job.network, job.maps.batch, job.threads):
            before = block.forward
            block.take(batch, job, run)
            if tell:
                tell(len(batch), block.forward - before)
    block.settle()
    content, look = (torch.tensor(column, dtype=torch.int64) for column in (block.content, block.look))
    top = Top({first: block.count}, [place.result(first) for place in gathers.places])
    return Shard(number, first, job.run, entries_hash(entries), top, content, look, block.damaged, gathers.every())


@contextmanager
def computing_with(cores: int | None) -> Iterator[None]:
    """Make torch compute with the number of threads with which a run began; None changes nothing.

    On a CPU the last bits may depend on this number. Measured with torch 2.14.1 and random weights: with 2 threads instead
    of 1 they change for SqueezeNet 1.1, but not for ResNet-18 and VGG16.
    """
    before = torch.get_num_threads()
    if cores is not None and cores != before:
        torch.set_num_threads(cores)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


class Block:
    """The block of rows that is being filled: one row per picture, batch by batch."""

    def __init__(self, gathers: Gathers, first: int) -> None:
        self.gathers, self.first = gathers, first
        self.filled = self.count = self.pictures_read = 0
        self.good = torch.zeros(BLOCK, dtype=torch.bool)
        self.numbers = torch.zeros(BLOCK, dtype=torch.int64)
        self.content, self.look = list[int](), list[int]()
        self.damaged: dict[int, str] = {}
        self.forward = 0.0
        self.images: Tensor | None = None

    def take(self, batch: list[Read], job: Job, run: Callable[..., None]) -> None:
        """Run the network on a batch, padded to its full size, and gather its maps."""
        size = job.maps.batch
        if self.filled + size > BLOCK:
            self.settle()
        # The last batch is padded with zeros, since another batch size could change the last bits; `here` is false there.
        rows, numbers = slice(self.filled, self.filled + size), torch.arange(size) + self.first + self.pictures_read
        draw = draws(numbers)
        here = torch.tensor([read.image is not None for read in batch] + [False] * (size - len(batch)))
        images = self.stacked(batch, size, job.network)

        def look(place: int, maps: Tensor, before: Tensor | None) -> None:
            self.gathers.places[place].look(rows, draw, maps, before)

        start = time.perf_counter()
        run(images, look)
        self.forward += time.perf_counter() - start
        finite = self.gathers.commit(rows, draw, here)
        good = here & finite
        self.good[rows], self.numbers[rows] = good, numbers
        for row, read in enumerate(batch):
            why = read.why or ("" if finite[row] else "the network gives NaN or infinite values for it")
            if why:
                self.damaged[int(numbers[row])] = why
            self.content.append(read.content)
            self.look.append(read.look)
        self.count += int(good.sum())
        self.pictures_read += len(batch)
        self.filled += size

    def stacked(self, batch: list[Read], size: int, network: Network) -> Tensor:
        """Return (size, C, samples..) on the network's device, zero in rows without a picture; the memory is reused."""
        parameter = next((p for p in network.module.parameters() if p.is_floating_point()), torch.zeros(0))
        if self.images is None:
            self.images = torch.zeros(size, *network.input_size, dtype=parameter.dtype)
        for row in range(size):
            image = batch[row].image if row < len(batch) else None
            self.images[row] = 0 if image is None else image
        return self.images.to(parameter.device)

    def settle(self) -> None:
        """Add the rows of the block to the lists and statistics."""
        good = self.good[: self.filled].nonzero()[:, 0]
        if len(good):
            self.gathers.settle(good, self.numbers[good])
        self.filled = 0


class Clock:
    """Report the progress of a run: pictures done, pictures per second, and the network's share of the time.

    Args:
        workers: the number of processes that scan in parallel.
    """

    def __init__(self, job: Job, numbers: Sequence[int] | range, progress: Progress | None, workers: int = 1) -> None:
        self.progress, self.workers = progress, workers
        self.sizes = {number: len(job.part(number)) for number in numbers}
        self.total = sum(self.sizes.values())
        self.settle(job.missing(numbers))
        self.start, self.reported = 0.0, time.perf_counter()
        self.scanned, self.forward = 0, 0.0

    def settle(self, missing: Sequence[int], more: int = 0) -> None:
        """Count the pictures in complete shards, and `more` that are done in unfinished ones."""
        self.before, self.done = self.total - sum(self.sizes[number] for number in missing), more

    def tell(self, pictures: int, forward: float) -> None:
        """Count some more pictures, for which the network took `forward` seconds."""
        self.done += pictures
        self.scanned += pictures
        self.forward += forward
        now = time.perf_counter()
        self.start = self.start or now - forward  # the time in which processes start does not count
        if self.progress and now - self.reported > _REPORT_INTERVAL:
            self.reported, spent = now, max(now - self.start, 1e-9)
            rate, share = self.scanned / spent, self.forward / spent / self.workers
            done = min(self.before + self.done, self.total)
            self.progress(f"{rate:.0f} pictures/s, {share:.0%} in the network", done, self.total)


class Claim:
    """Lock a shard, unless another process has locked it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / FOLDER / f"{number:05d}.lock"
        self.file: BinaryIO | None = None

    def __enter__(self) -> bool:
        with said_in_words(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "wb")
        # The process that had the lock may have removed the file meanwhile: then another process can lock a new one.
        if lock(file.fileno()) and os.path.exists(self.path):
            self.file = file
            return True
        file.close()
        return False

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            with suppress(OSError):
                self.path.unlink()
            self.file.close()


def clear_claims(folder: Path) -> None:
    """Remove the lock files of processes that were killed."""
    for leftover in (folder / FOLDER).glob("*.lock"):
        with Claim(folder, int(leftover.stem)):
            pass


def part_of(part: str, shards: range) -> Sequence[int]:
    """Return the shards of a part such as "3/16": every sixteenth shard, from the third on.

    Raises:
        ShapeError: the text does not name a part.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ShapeError(f"part: {part!r} came, but one of several was needed, such as 3/16: the third of sixteen.")
    return shards[int(match[1]) - 1 :: int(match[2])]
