"""What a scan costs beside the bare forward pass of the same batches.

    python benchmarks/scan.py --networks squeezenet1_1 resnet18 vgg16 --pictures 1536 --threads 1

Batch by batch the network runs bare, under the scan, which reduces every rectified map, lists the strongest pictures and
settles its lists, and with a forward hook on every rectifier that keeps a running top-k with positions, as is usually
written by hand, or that calls the maximisation of zennit-crp, where that is installed; the order is drawn. Weights are
random; pictures are crops of photographs, in memory. The shares are the bare time over the others', medians over batches: of
the first 1,000 pictures, in which lists fill, and of the rest. With --folder the whole way is timed, too, beginning and end
of the scan with it: reading, decoding and preparing in threads beside the network; and the process's peak memory is told.
--pictures 0 leaves the batches out.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import tempfile
import time
from importlib.util import find_spec
from math import nan
from pathlib import Path

import numpy as np
import torch

import unconv
from unconv.reverse.maps import Maps
from unconv.scan.listed import Entry
from unconv.scan.opening import open_pictures
from unconv.scan.reading import Read, prepared
from unconv.scan.scanning import Block, Job

DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data"))


def crops(network: unconv.Network, count: int) -> list[Read]:
    """Pictures of the network's size: of each photograph as many crops, at random, as make `count`."""
    listing = open_pictures(DATA / "imagenet_sample")
    whole = [prepared(entry, listing.read, network).image for entry in listing.entries]
    generator, found = torch.Generator().manual_seed(0), []
    for number in range(count):
        image = whole[number % len(whole)]
        shift = torch.randint(-40, 41, (2,), generator=generator).tolist()
        moved = image.roll(shift, (1, 2)).flip(2) if number // len(whole) % 2 else image.roll(shift, (1, 2))
        found.append(Read(moved * float(0.6 + 0.8 * torch.rand(1, generator=generator)), 0, 0, ""))
    return found


class Hooked:
    """A running top-k of every rectifier by forward hooks."""

    def __init__(self, network: unconv.Network, keep: int) -> None:
        self.network, self.keep, self.first = network, keep, 0
        self.found: dict[torch.nn.Module, tuple[torch.Tensor, ...]] = {}

    def run(self, images: torch.Tensor) -> None:
        rectifiers = [module for module in self.network.module.modules() if isinstance(module, torch.nn.ReLU)]
        handles = [module.register_forward_hook(self._take) for module in rectifiers]
        with torch.no_grad():
            self.network.module(images)
        for handle in handles:
            handle.remove()
        self.first += len(images)

    def _take(self, module: torch.nn.Module, _: object, maps: torch.Tensor) -> None:
        value, at = maps.flatten(2).max(2) if maps.ndim > 2 else (maps, torch.zeros(maps.shape, dtype=torch.int64))
        number = torch.arange(self.first, self.first + len(maps))[:, None].expand_as(value)
        rows = (value, number, at)
        if module in self.found:
            rows = tuple(torch.cat(pair) for pair in zip(self.found[module], rows, strict=True))
        order = rows[0].topk(min(self.keep, len(rows[0])), 0).indices
        self.found[module] = tuple(row.gather(0, order) for row in rows)


class Crp(Hooked):
    """zennit-crp's maximisation of the spatial maximum, in forward hooks: it keeps 40 pictures, and positions."""

    def __init__(self, network: unconv.Network, keep: int) -> None:
        from crp.concepts import ChannelConcept
        from crp.maximization import Maximization

        super().__init__(network, keep)
        self._concept, self._room = ChannelConcept(), tempfile.TemporaryDirectory()
        self._maximization = Maximization("activation", "max", False, self._room.name)
        self._names = {module: name for name, module in network.module.named_modules()}

    def _take(self, module: torch.nn.Module, _: object, maps: torch.Tensor) -> None:
        numbers = np.arange(self.first, self.first + len(maps))
        self._maximization.analyze_layer(maps, self._concept, self._names[module], numbers, [0] * len(maps))


def shares(name: str, count: int, batch: int, keep: int) -> list[float]:
    """The bare pass's share of the scan, of hooks and of zennit-crp's: of the first 1,000 pictures, and then."""
    network = unconv.load(f"torchvision:{name}")
    maps = Maps(network, None, batch)
    entries = [Entry(str(number), "", number, -1, None) for number in range(count)]
    job = Job(network, maps, Path(), "", entries, lambda _: None, 1, keep, 4096, False, True)
    block, hooked, draw = Block(job.gathers(), 0), Hooked(network, keep), random.Random(0)
    crp = Crp(network, keep) if find_spec("crp") else None
    pictures, found = crops(network, count), list[list[float]]()
    with maps.running() as run:
        for first in range(0, count - batch + 1, batch):
            part = pictures[first : first + batch]
            images = torch.stack([read.image for read in part])

            def bare(images: torch.Tensor = images) -> None:
                with torch.no_grad():
                    network.module(images)

            def scan(part: list[Read] = part) -> None:
                block.take(part, job, run)

            def hooks(images: torch.Tensor = images) -> None:
                hooked.run(images)

            def others(images: torch.Tensor = images) -> None:
                if crp:
                    crp.run(images)

            seconds, works = {}, [bare, scan, hooks, others]
            for work in draw.sample(works, 4):
                began = time.perf_counter()
                work()
                seconds[work] = time.perf_counter() - began
            found.append([seconds[bare] / seconds[work] if crp or work is not others else nan for work in works[1:]])
    cut = -(-1000 // batch)
    parts = [part for part in (found[:cut], found[cut:]) if part]
    return [statistics.median(column) for part in parts for column in zip(*part, strict=True)]


def whole(name: str, folder: Path, limit: int) -> tuple[float, float]:
    """Pictures a second of a scan from files, and of the bare forward pass."""
    network = unconv.load(f"torchvision:{name}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".png"))[:limit]
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        unconv.scan(network, files, out)
        scanned = len(files) / (time.perf_counter() - began)
    images = torch.stack([read.image for read in crops(network, 8)])
    began = time.perf_counter()
    with torch.no_grad():
        for _ in range(0, min(len(files), 160), 8):
            network.module(images)
    return scanned, min(len(files), 160) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_1", "resnet18"])
    parser.add_argument("--pictures", type=int, default=1536)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--keep", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="also scan the pictures below it, from files")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.pictures:
        heads = "scan, first 1,000 | hooks | zennit-crp | scan, then | hooks | zennit-crp"
        print(f"| network | pictures | batch | {heads} |\n|{'---|' * 9}")
    for name in arguments.networks if arguments.pictures else ():
        cells = [f"{share:.3f}" for share in shares(name, arguments.pictures, arguments.batch, arguments.keep)]
        cells += [""] * (6 - len(cells))
        print(f"| {name} | {arguments.pictures} | {arguments.batch} | {' | '.join(cells)} |", flush=True)
    for name in arguments.networks if arguments.folder else ():
        scanned, bare = whole(name, arguments.folder, arguments.pictures or 10**9)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name}: {scanned:.1f} pictures/s from files, {bare:.1f} bare: {scanned / bare:.2f}; peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
