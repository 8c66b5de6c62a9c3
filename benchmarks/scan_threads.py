"""Whether the number of threads that compute changes what a scan finds, on a CPU.

    python benchmarks/scan_threads.py --networks squeezenet1_1 resnet18 vgg16 --pictures 24

The maxima of every rectified map of the same batches of noise, random weights: by one thread, by several, and each of them
again. A row says how many values differ in any bit.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import unconv
from unconv.reverse.maps import Maps


def maxima(maps: Maps, images: Tensor, threads: int) -> list[Tensor]:
    """The maxima of each place and batch, computed by some threads."""
    found: list[Tensor] = []

    def look(_place: int, of_batch: Tensor, _before: Tensor | None) -> None:
        found.append(of_batch.flatten(2).amax(2) if of_batch.ndim > 2 else of_batch.clone())

    torch.set_num_threads(threads)
    with maps.running() as run:
        for batch in images.split(maps.batch):
            run(batch, look)
    return found


def differing(one: list[Tensor], other: list[Tensor]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_1", "resnet18", "vgg16"])
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    several = arguments.threads
    print(f"| network | values | 1 against {several} threads | 1 again | {several} again |\n|---|---|---|---|---|")
    for name in arguments.networks:
        torch.manual_seed(0)
        network = unconv.load(f"torchvision:{name}")
        maps = Maps(network, None, arguments.batch)
        images = torch.randn(arguments.pictures, *network.input_size)
        one, more, one_again, more_again = (maxima(maps, images, threads) for threads in (1, several, 1, several))
        counts = (differing(one, more), differing(one, one_again), differing(more, more_again))
        total = sum(values.numel() for values in one)
        print(f"| {name} | {total:,} | {' | '.join(f'{count:,}' for count in counts)} |", flush=True)


if __name__ == "__main__":
    main()
