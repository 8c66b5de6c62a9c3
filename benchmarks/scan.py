"""What a scan costs beside the bare forward pass of the same batches.

    python benchmarks/scan.py --networks squeezenet1_1 resnet18 vgg16 --pictures 1536 --threads 1

Batch by batch the network runs bare and then under the scan, which reduces every rectified map, lists the strongest
pictures and settles its lists; the order alternates. Weights are random; pictures are crops of photographs, in memory. The
share is the bare time over the scan's, the median over batches: of the first 1,000 pictures, in which lists fill, and of the
rest. With --folder the whole way is timed, too, beginning and end of the scan with it: reading, decoding and preparing in
threads beside the network; and the process's peak memory is told. --pictures 0 leaves the batches out.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

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


def shares(name: str, count: int, batch: int, keep: int) -> dict[str, list[float]]:
    network = unconv.load(f"torchvision:{name}")
    maps = Maps(network, None, batch)
    entries = [Entry(str(number), "", number, -1, None) for number in range(count)]
    job = Job(network, maps, Path(), "", entries, lambda _: None, 1, keep, 4096, False, True)
    block = Block(job.gathers(), 0)
    pictures, found = crops(network, count), {"first 1,000": [], "then": []}
    with maps.running() as run:
        for first in range(0, count - batch + 1, batch):
            part = pictures[first : first + batch]
            images = torch.stack([read.image for read in part])

            def bare(images: torch.Tensor = images) -> None:
                with torch.no_grad():
                    network.module(images)

            def scan(part: list[Read] = part) -> None:
                block.take(part, job, run)

            seconds = {}
            for work in (bare, scan) if first // batch % 2 else (scan, bare):
                began = time.perf_counter()
                work()
                seconds[work] = time.perf_counter() - began
            found["first 1,000" if first < 1000 else "then"].append(seconds[bare] / seconds[scan])
    return found


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
    print("| network | pictures | share of the bare pass, first 1,000 | then |\n|---|---|---|---|")
    for name in arguments.networks if arguments.pictures else ():
        found = shares(name, arguments.pictures, arguments.batch, arguments.keep)
        cells = [f"{statistics.median(values):.3f}" if values else "" for values in found.values()]
        print(f"| {name} | {arguments.pictures} | {' | '.join(cells)} |", flush=True)
    for name in arguments.networks if arguments.folder else ():
        scanned, bare = whole(name, arguments.folder, arguments.pictures or 10**9)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name}: {scanned:.1f} pictures/s from files, {bare:.1f} bare: {scanned / bare:.2f}; peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
