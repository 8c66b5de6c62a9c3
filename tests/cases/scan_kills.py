"""A scan that is killed at its n-th step on files, then done again: `python scan_kills.py FOLDER EVERY` prints what came of it.

Steps are every opening of a picture or of a file of ours, every rename and every removal: so it is killed while it reads,
between shards, between writing and renaming, and while it merges.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import unconv
from cases.scans import save_pictures, small

STEPS = {"open", "os.rename", "os.remove", "os.mkdir"}
TABLES = ("index.parquet", "units.parquet", "pictures.parquet")


def scan(pictures: Path, folder: Path) -> None:
    torch.set_num_threads(1)  # a process with threads of torch's cannot be forked
    unconv.scan(small(), pictures, folder, batch=4, shard=8, threads=1)


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(step: int, near: Path, work: Callable[[], None]) -> Callable[[], None]:
    """Return the work, which ends its process, as kill -9 does, at its n-th step on files below a folder."""

    def run() -> None:
        count = 0

        def die(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in STEPS and arguments and str(near) in str(arguments[0]):
                count += 1
                if count == step:
                    os._exit(9)

        sys.addaudithook(die)
        work()

    return run


def outcomes(root: Path, every: int) -> list[str]:
    save_pictures(root / "p", 21)

    def again() -> None:
        scan(root / "p", folder)

    folder = root / "whole"
    again()  # here, so that the children find everything imported
    expected, found, step = hashes(folder), list[str](), 1
    while True:
        folder = root / f"i{step}"
        status = forked(dying(step, root, again))
        if status not in (0, 9):
            found.append(f"step {step}: status {status}")
        elif forked(again) != 0:
            found.append(f"step {step}: does not go on")
        elif hashes(folder) != expected:
            found.append(f"step {step}: another index")
        elif rests := [path.name for path in folder.rglob("*") if path.suffix in (".partial", ".lock")]:
            found.append(f"step {step}: left {rests}")
        else:
            found.append("same")
        if status == 0:
            return found
        step += every


if __name__ == "__main__":
    print(json.dumps(outcomes(Path(sys.argv[1]), int(sys.argv[2]))))
