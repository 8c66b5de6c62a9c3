"""Read mutated files in a process of its own, whose memory and time are bounded; run with `python hostile.py COUNT SEED KIND`.

It prints how many were read and refused, what was raised that is not ours, the slowest call, and the memory taken.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from unconv.errors import UnconvError
from unconv.pictures.decode import open_picture
from unconv.pictures.measured import measured

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases.pictures import flat_files, npy_files, tiff_files  # once the folder is known

ROOM = 1 << 30  # bytes beyond those that torch takes when it is imported
VALUES = [0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def mutated(content: bytes, random_: random.Random) -> bytes:
    """Flip bits, set bytes, and set fields to the numbers at which programs go wrong; in the header half of the time."""
    out = bytearray(content)
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        at = random_.randrange(len(out) if random_.random() < 0.5 else min(len(out), 400))
        kind = random_.random()
        if kind < 0.5:
            out[at] ^= 1 << random_.randrange(8)
        elif kind < 0.75:
            out[at] = random_.randrange(256)
        else:
            width, order = random_.choice([2, 4]), random_.choice(["little", "big"])
            out[at : at + width] = (random_.choice(VALUES) % 256**width).to_bytes(width, order)
    return bytes(out)


def main(count: int, seed: int, kind: str) -> None:
    files = list(tiff_files()) if kind == "tiff" else [*flat_files(), *npy_files()]
    random_, foreign, read, refused, slowest = random.Random(seed), [], 0, 0, 0.0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        for _ in range(count):
            name, content = random_.choice(files)
            path.write_bytes(mutated(content, random_))
            for reads in (measured, open_picture):
                began = time.monotonic()
                try:
                    reads(path)
                    read += 1
                except UnconvError:
                    refused += 1
                except BaseException:
                    foreign.append(f"{name}: {traceback.format_exc(limit=-3)}")
                slowest = max(slowest, time.monotonic() - began)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"read": read, "refused": refused, "foreign": foreign, "slowest": slowest, "megabytes": taken // 1024}))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
