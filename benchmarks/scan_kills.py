"""Whether a scan that is killed again and again ends with the same bytes.

    python benchmarks/scan_kills.py --engines one devices ray --pictures 200

A scan of photographs is done once undisturbed. Then, into a new folder for each engine, it is killed (SIGKILL) five times at
random, each time within two seconds after it has done a shard, and three times in a write: between writing and renaming
of a shard, of the table of units, and of the index. Of several processes a worker alone is killed before every second of the
random kills, and the scan has to go on by itself. What is compared is the sha256 of the three tables.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(os.environ.get("UNCONV_DATA", "../shared/data"))
TABLES = ("pictures.parquet", "units.parquet", "index.parquet")
ENGINES = {"one": {}, "devices": {"devices": "cpu,cpu"}, "ray": {"ray": "local"}}
WORKERS = ("unconv.scan.worker", "ray::Actor")
SCAN = """
import os, signal, sys
import unconv
how, pictures, folder, model, weights, dying = {how!r}, {pictures!r}, {folder!r}, {model!r}, {weights!r}, {dying!r}

def die(event, arguments):
    if event == "os.rename" and dying and str(arguments[1]).endswith(dying):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
unconv.scan(unconv.load(model, weights), pictures, folder, batch=4, shard=8, cores=1, threads=1, **how)
"""


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


def shards(folder: Path) -> int:
    return len(list((folder / "shards").glob("*.safetensors")))


class Scan:
    """A scan in a process of its own."""

    def __init__(self, arguments: argparse.Namespace, pictures: list[str], folder: Path, engine: str, dying: str = "") -> None:
        how = {"how": ENGINES[engine], "pictures": pictures, "folder": str(folder), "dying": dying}
        code = SCAN.format(**how, model=arguments.model, weights=arguments.weights)
        self.folder, self.before = folder, shards(folder)
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stderr=subprocess.PIPE, text=True)

    def wait_for_shards(self, count: int) -> None:
        while shards(self.folder) < self.before + count and self.process.poll() is None:
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The processes that scan for it, by what they are called."""
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
        found = [line.split(None, 1) for line in listed if any(name in line for name in WORKERS)]
        return [int(pid) for pid, words in found if "-eo" not in words]

    def end(self) -> int:
        """Wait for its end; return its status, and show what it said if that is no kill."""
        _, said = self.process.communicate(timeout=900)
        if self.process.returncode not in (0, -signal.SIGKILL):
            print(said[-2000:], file=sys.stderr)
        return self.process.returncode


def killed(arguments: argparse.Namespace, pictures: list[str], folder: Path, engine: str, rng: random.Random) -> list[str]:
    """Kill a scan eight times and let it end; return what was killed."""
    done = []
    for number in range(arguments.kills):
        scan = Scan(arguments, pictures, folder, engine)
        scan.wait_for_shards(1)
        time.sleep(rng.uniform(0, 2))
        workers = scan.workers() if engine != "one" and number % 2 else []
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            scan.wait_for_shards(shards(folder) - scan.before + 2)
            done.append(f"worker, and the scan went on to {shards(folder)}" if scan.process.poll() is None else "worker")
        at = shards(folder)
        scan.process.kill()
        if scan.end() == -signal.SIGKILL:
            done.append(f"at {at}")
    for dying in (".safetensors", *TABLES[1:]):
        scan = Scan(arguments, pictures, folder, engine, dying)
        if scan.end() == -signal.SIGKILL:
            done.append(f"renaming {dying}")
    assert Scan(arguments, pictures, folder, engine).end() == 0
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["one", "devices"], choices=list(ENGINES))
    parser.add_argument("--model", default="unconv:caltech")
    parser.add_argument("--weights")
    parser.add_argument("--folder", type=Path, default=DATA / "imagenet_sample")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in suffixes)
    pictures, rng = [str(path.absolute()) for path in files[: arguments.pictures]], random.Random(arguments.seed)
    print(f"{len(pictures)} pictures, {-(-len(pictures) // 8)} shards, seed {arguments.seed}")
    print("| engine | killed, with how many shards done | left over | same sha256 |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        assert Scan(arguments, pictures, Path(root) / "whole", "one").end() == 0
        expected = hashes(Path(root) / "whole")
        for engine in arguments.engines:
            folder = Path(root) / engine
            done = killed(arguments, pictures, folder, engine, rng)
            rests = [path.name for path in folder.rglob("*") if path.suffix in (".partial", ".lock")]
            same = "yes" if hashes(folder) == expected else "NO"
            print(f"| {engine} | {'; '.join(done)} | {', '.join(rests) or 'nothing'} | {same} |", flush=True)


if __name__ == "__main__":
    main()
