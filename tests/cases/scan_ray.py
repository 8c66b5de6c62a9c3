"""Scans on Ray with faults: `python scan_ray.py FOLDER WHICH` prints what came of one.

"workers": a worker is killed, one fails and one hangs. "node": of two machines one is removed while both are in the middle of
a shard. "open": the cluster asks for no token. Ray and pytest do not share a process: Ray's threads and warnings outlive it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import unconv
from cases.scans import faulty, save_pictures
from unconv.scan.clusters import OPEN

if TYPE_CHECKING or __name__ == "__main__":  # pytest reads this file, too, where Ray may not be
    import ray
    from ray.cluster_utils import Cluster

TABLES = ("index.parquet", "units.parquet", "pictures.parquet")
SETTINGS = {"batch": 4, "shard": 8, "cores": 1}


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


def scanned(root: Path, address: str, *faults: str) -> dict[str, object]:
    """Scan on Ray; say whether the index is that of one process."""
    save_pictures(root / "p", 45)
    unconv.scan(faulty(), root / "p", root / "whole", **SETTINGS)
    (root / "f").mkdir(exist_ok=True)
    network, told = faulty(*faults, folder=root / "f"), list[str]()
    began = time.monotonic()
    unconv.scan(network, root / "p", root / "i", None, 32, lambda *t: told.append(t[0]), ray=address, **SETTINGS)
    return {
        "same": hashes(root / "i") == hashes(root / "whole"),
        "faults": sorted(path.name for path in (root / "f").iterdir()),
        "rests": [path.name for path in (root / "i").rglob("*") if path.suffix in (".partial", ".lock")],
        "told": told[0],
        "seconds": round(time.monotonic() - began, 1),
        "running": ray.is_initialized(),
    }


def with_node_removed(root: Path) -> dict[str, object]:
    """Remove the second of two nodes as soon as both workers pause."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second, removed = cluster.add_node(num_cpus=1), list[float]()
    cluster.wait_for_nodes()

    def remove() -> None:
        until = time.monotonic() + 200
        while len(list((root / "f").glob("*.pause"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        removed.append(time.monotonic())

    (root / "f").mkdir()
    thread = threading.Thread(target=remove)
    thread.start()
    try:
        return scanned(root, cluster.address, "pause", "pause") | {"removed": len(removed)}
    finally:
        thread.join()
        cluster.shutdown()


def without_token(root: Path) -> dict[str, object]:
    """Scan on a cluster that asks for no token, which is refused; then allow it, but ask for more than there is."""
    cluster, found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}), list[str]()
    save_pictures(root / "p", 9)
    try:
        for cores in (1, 3):
            try:
                unconv.scan(faulty(), root / "p", root / f"i{cores}", ray=cluster.address, **SETTINGS | {"cores": cores})
            except unconv.ScanError as error:
                found.append(str(error))
            os.environ[OPEN] = "1"
        return {"refused": found, "running": ray.is_initialized()}
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    root, which = Path(sys.argv[1]), sys.argv[2]
    if which == "workers":
        print(json.dumps(scanned(root, "local", "kill", "raise", "wait")))
    else:
        print(json.dumps(with_node_removed(root) if which == "node" else without_token(root)))
