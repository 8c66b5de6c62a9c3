"""What the projections of the winners of a scan cost, beside one `project` a winner.

    python benchmarks/winners.py INDEX --pictures 160 --sample 40 --threads 1

INDEX is the folder of a scan. Of the pictures that are in some unit's nine strongest, `--pictures` are drawn at random, and
all their winners at all places are projected, in turns with `--sample` winners that each read their picture, record it and
project one unit, as `Network.project` does. The times of all winners are estimated from both.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch

import unconv
from unconv.scan.winners import Winner


def winners(index: unconv.Index) -> list[list[Winner]]:
    units = []
    for unit in index.units():
        found = index.top(unit.place, unit.channel)
        units.append([Winner(unit.place, unit.channel, e.picture, e.key, e.position, e.value) for e in found])
    return [unit for unit in units if unit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    index, draw = unconv.Index(arguments.index), random.Random(0)
    units, network, listed = winners(index), index.network, index.pictures()
    every = [winner for unit in units for winner in unit]
    numbers = sorted({winner.picture for winner in every})
    chosen = set(draw.sample(numbers, min(arguments.pictures, len(numbers))))
    some = [own for unit in units if (own := [winner for winner in unit if winner.picture in chosen])]
    count = sum(map(len, some))

    began = time.perf_counter()
    for winner in draw.sample(every, min(arguments.sample, len(every))):
        recording = network.record(index.source(listed[winner.picture]), [winner.place])
        recording.project(winner.place, winner.channel, unit=winner.position or "strongest")
    alone = (time.perf_counter() - began) / min(arguments.sample, len(every))
    began = time.perf_counter()
    for _ in index.projected(some):
        pass
    together = (time.perf_counter() - began) / count

    print(f"{index.run['network']}: {len(every):,} winners on {len(numbers):,} pictures; {count} of them on {len(chosen)}")
    print(f"one project a winner: {1e3 * alone:.1f} ms, {alone * len(every) / 60:.1f} min in all")
    print(
        f"together: {1e3 * together:.1f} ms, {together * len(every) / 60:.1f} min in all, {alone / together:.1f} times faster"
    )


if __name__ == "__main__":
    main()
