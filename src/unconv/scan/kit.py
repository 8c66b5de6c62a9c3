"""Pack what another process needs to scan shards of a run, and unpack it there."""

from __future__ import annotations

import io
import os
import pickle
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unconv.errors import ScanError
from unconv.reverse.maps import Maps
from unconv.reverse.network import Network
from unconv.scan.again import in_memory, reader_of
from unconv.scan.listed import Entry, Pictures
from unconv.scan.run import describe, open_again, refuse_other, run_hash
from unconv.scan.scanning import Job, Tell, computing_with, scan_shard
from unconv.scan.shards import packed


@dataclass(frozen=True)
class Kit:
    """What a process needs to scan shards of a run.

    Args:
        run: the description of the run, as `describe` returns it.
        network: the pickled network; None if it cannot be pickled.
        why: the reason why it cannot.
        kind, where: as in `Pictures`.
        threads: the number of threads that read pictures.
        path: the folders in which modules are looked for.
        first: the file of the first picture, which every process must find; "" if it is not in a file.
    """

    run: dict[str, Any]
    network: bytes | None
    why: str
    kind: str
    where: str
    threads: int
    path: tuple[str, ...]
    first: str


def pack(network: Network, run: dict[str, Any], pictures: Pictures, threads: int) -> Kit:
    """Return what other processes need to scan shards.

    Raises:
        ScanError: the pictures are in memory, or the network can neither be sent nor opened by a name.
    """
    if reader_of(pictures.kind, pictures.where) is None:
        raise ScanError(
            f"scan: {in_memory(pictures.kind)} came, which other processes cannot read. Save it (numpy.save, a folder, .tar "
            "or Parquet) and pass the file; or scan in this process, without devices and ray."
        )
    buffer, why = io.BytesIO(), ""
    try:
        torch.save(network, buffer)
    except Exception as error:  # the parts of a user's network may raise anything
        why = f"{type(error).__name__}: {error}"
        if run["opened"] is None:
            raise ScanError(_cannot_be_sent(network.name, why)) from error
    where = os.path.abspath(pictures.where) if pictures.where else ""
    path = tuple(os.path.abspath(folder) for folder in sys.path)
    first = os.path.abspath(pictures.entries[0].source)
    first_file = first if os.path.isfile(first) else ""
    return Kit(run, None if why else buffer.getvalue(), why, pictures.kind, where, threads, path, first_file)


def _cannot_be_sent(name: str, why: str) -> str:
    return (
        f"scan: the network {name} cannot be sent to other processes ({why}). Define its parts in a file that can be imported, "
        "not in the main script, a notebook or a lambda; or open it by a name, FILE.py:factory."
    )


class Scanner:
    """Scan shards in a process of its own.

    Args:
        kit: what `pack` returned.
        device: the device to compute on.

    Raises:
        ScanError: the network here differs from the sender's, and the message says how; or the pictures are missing here.
    """

    def __init__(self, kit: Kit, device: str) -> None:
        run = kit.run
        if kit.first and not os.path.isfile(kit.first):
            raise ScanError(
                f"scan: {platform.node()} does not find {kit.first}, which the machine that started the scan does. Put the "
                "pictures where all machines read them by the same paths."
            )
        network = _opened(kit, device)
        names = [place["name"] for place in run["places"]]
        with computing_with(run["cores"]):
            maps = Maps(network, names, run["batch"], rectified_too=run["lowest"])
            own_run = describe(
                network, maps, run["keep"], run["shard"], run["lowest"], run["maxima"], torch.device(device).type, run["cores"]
            )
        refuse_other(f"what {device} is to do", run, own_run)
        read = reader_of(kit.kind, kit.where)
        assert read is not None
        self.cores: int | None = run["cores"]
        settings = (run["keep"], run["shard"], run["lowest"], run["maxima"])
        self.job = Job(network, maps, Path(), run_hash(run), (), read, kit.threads, *settings)

    def scan(self, number: int, entries: Sequence[Entry], tell: Tell | None = None) -> bytes:
        """Return the content of a shard's file."""
        with computing_with(self.cores):
            return packed(scan_shard(self.job, number, entries, tell))


def _opened(kit: Kit, device: str) -> Network:
    why = kit.why
    if kit.network is not None:
        sys.path += [
            path for path in kit.path if path not in sys.path
        ]  # appended, so that no module of this process is replaced
        try:
            network = torch.load(io.BytesIO(kit.network), map_location=device, weights_only=False)
            assert isinstance(network, Network)
            return network
        except (AttributeError, ImportError, pickle.UnpicklingError) as error:
            why = f"{type(error).__name__}: {error}"
    if kit.run["opened"] is None:
        raise ScanError(_cannot_be_sent(kit.run["network"], why))
    network = open_again(kit.run)
    network.module.to(device)
    return network
