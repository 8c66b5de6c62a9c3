"""Scan a data set for the pictures to which every unit of a network responds most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unconv.errors import PictureError, ScanError, ShapeError
from unconv.kinds import checks_kinds_but
from unconv.progress import Progress
from unconv.reverse.maps import Maps
from unconv.reverse.model import listed, name_of
from unconv.reverse.network import Network
from unconv.reverse.places import Place
from unconv.scan.arrow import pyarrow
from unconv.scan.clusters import Cluster
from unconv.scan.driving import drive
from unconv.scan.gather import BLOCK
from unconv.scan.index import Index
from unconv.scan.kit import pack
from unconv.scan.opening import open_pictures
from unconv.scan.processes import Processes, devices_named
from unconv.scan.run import FILE, describe, known_run, run_hash, settle, settle_list
from unconv.scan.scanning import SHARD, Job, computing_with, part_of, work
from unconv.scan.tables import write_index

_LARGE = 64 * 2**20  # bytes of the largest map of a batch
_MANY = 10**6  # workers that Ray may start, as far as this machine's cores matter: each gets one core
_READERS = 4  # threads that read pictures for each GPU on Ray


@checks_kinds_but("network", "pictures", "places", "progress")
def scan(
    network: Network,
    pictures: Any,
    folder: str | Path,
    places: str | Place | Sequence[str | Place] | None = None,
    keep: int = 32,
    progress: Progress | None = None,
    *,
    lowest: bool = False,
    maxima: bool = True,
    batch: int | None = None,
    shard: int | None = None,
    threads: int | None = None,
    cores: int | None = None,
    devices: str | Sequence[str] | None = None,
    ray: str | None = None,
) -> Index:
    """Find the strongest pictures of every unit over a data set, and write an index of them into a folder.

    A picture counts once for each unit, by its largest activation. An earlier scan in the folder continues: a run that was
    stopped, however it was stopped, and a data set that has grown. Any split, order or interruption gives the same bytes
    on one kind of device.

    Args:
        pictures: a folder (its subfolders are labels), a list of files, a text file that lists them, .tar (as WebDataset
            writes it), .parquet (as Hugging Face writes it), .npy, .npz, an array (N, H, W, 3) or (N, C, samples..), or a
            data set with a length.
        folder: created if it does not exist; it may hold an unfinished scan of the same.
        places: names of places; None: all rectified outputs, of fully connected layers too, and the scores.
        keep: pictures per unit, more than are shown, so that near-identical ones can be left out.
        progress: called with what is being done, the number of pictures done, and their total number.
        lowest: also keep the smallest values; for a rectifier's outputs, those of its input.
        maxima: keep the maxima of every picture, 2 bytes per unit and picture, for `similar` and the means of classes.
        batch: pictures per batch. None: 16 on a CPU, 8 for networks with large maps, 64 on a GPU, or as many as fill
            a shard. Another number may change the last bits.
        shard: pictures per file, which a stopped run loses at most. None: 4,096, or as near below as batches fill.
        threads: how many threads read pictures. None: as many as there are cores.
        cores: how many cores each process computes with on a CPU. None: those torch uses, or each device's share of them.
            Another number may change the last bits, so a continued scan keeps the number it began with.
        devices: "cuda:0,cuda:1", or several in a list: a process for each; "all": every GPU, or every core. None: this
            process, where the network is.
        ray: "local", or the address of a Ray cluster whose machines all read the pictures by the same names; `devices` is
            then "cuda" for a worker on each GPU, or "cpu".

    Raises:
        ScanError: the folder holds another run, or a process on a device or on Ray failed.
        PictureError: there are no pictures.
        ShapeError: pictures are not preprocessed to one size.
        NoSuchLayer, ModelError: as in `Network.record`.
    """
    index = scan_part(
        network,
        pictures,
        folder,
        "1/1",
        places,
        keep,
        progress,
        lowest=lowest,
        maxima=maxima,
        batch=batch,
        shard=shard,
        threads=threads,
        cores=cores,
        devices=devices,
        ray=ray,
    )
    assert index is not None
    return index


@checks_kinds_but("network", "pictures", "places", "progress")
def scan_part(
    network: Network,
    pictures: Any,
    folder: str | Path,
    part: str,
    places: str | Place | Sequence[str | Place] | None = None,
    keep: int = 32,
    progress: Progress | None = None,
    *,
    lowest: bool = False,
    maxima: bool = True,
    batch: int | None = None,
    shard: int | None = None,
    threads: int | None = None,
    cores: int | None = None,
    devices: str | Sequence[str] | None = None,
    ray: str | None = None,
) -> Index | None:
    """Scan one part of a data set, as `scan` does, while other processes or machines scan the others into the same folder.

    Args:
        part: such as "3/16" for every sixteenth shard, from the third on.

    Returns:
        The index, from the process that ends last; None while shards of other parts are missing.
    """
    pyarrow()  # if it is missing, this raises now and not after hours
    path, listing = Path(folder), open_pictures(pictures)
    if path.exists() and not path.is_dir():
        raise ScanError(f"scan: {folder} is a file, but a folder was needed. Choose another name.")
    if not listing.entries:
        raise PictureError(f"pictures: there are none in {listing.where or 'what came'}. Pass a folder or a file with some.")
    cores = _known_cores(path, cores)
    device_names = _device_names(devices, ray, cores)
    kind = torch.device(device_names[0]).type if device_names else _device(network)
    workers = len(device_names) if ray is None else _MANY
    cores = (cores or max(1, torch.get_num_threads() // max(1, workers))) if kind == "cpu" else None
    _refuse_sizes(keep, batch, shard)
    names = None if places is None else [name_of(place) for place in listed(places)]
    with computing_with(cores):
        maps = Maps(network, names, batch or partial(_fitting, kind, shard), rectified_too=lowest)
        shard = SHARD // maps.batch * maps.batch if shard is None else shard
        run = describe(network, maps, keep, shard, lowest, maxima, kind, cores)
        settle(path, run)
        entries = settle_list(path, listing)
        count = 1 if listing.one_at_a_time else threads or max(1, (os.cpu_count() or 1) // max(1, workers))
        job = Job(network, maps, path, run_hash(run), entries, listing.read, count, keep, shard, lowest, maxima)
        numbers = part_of(part, job.shards())
        if ray is None and not device_names:
            work(job, numbers, progress)
        elif missing := job.missing(numbers):
            kit = pack(network, run, listing, count if ray is None else threads or cores or _READERS)
            drive(job, numbers, Processes(kit, device_names) if ray is None else Cluster(kit, ray, len(missing)), progress)
    if job.missing(job.shards()):
        return None
    write_index(path, run, entries, job.shards())
    return Index(path, network, listing)


def _device_names(devices: str | Sequence[str] | None, ray: str | None, cores: int | None) -> list[str]:
    """Return the names of the devices; [] if none are named.

    Raises:
        ShapeError: there is no such device here, or more than a kind of device was named for Ray.
    """
    if ray is None:
        return [] if devices is None else devices_named(devices, cores or 1)
    if devices not in (None, "cpu", "cuda"):
        raise ShapeError(f'devices: {devices!r} came, but on Ray a kind was needed, "cpu" or "cuda": Ray chooses the devices.')
    return [] if devices is None else [str(devices)]


def _fitting(kind: str, shard: int | None, largest: int) -> int:
    """Return the batch size: large enough to be efficient, small enough for memory, and a divisor of the shard."""
    most = 64 if kind != "cpu" else 16 if 16 * largest <= _LARGE else 8
    return next(n for n in range(most, 0, -1) if shard is None or shard % n == 0)


def _refuse_sizes(keep: int, batch: int | None, shard: int | None) -> None:
    for name, value, most in (("keep", keep, BLOCK), ("batch", batch, BLOCK), ("shard", shard, 10**6)):
        if value is not None and not 1 <= value <= most:
            raise ShapeError(f"{name}: {value} came, but 1 to {most} was needed.")
    if batch and shard and shard % batch:
        raise ShapeError(f"shard: {shard} came, but a multiple of batch, {batch}, was needed: batches end with shards.")


def _known_cores(folder: Path, asked: int | None) -> int | None:
    """Return the threads with which a process computes on a CPU: those asked for, or those of the run to be continued.

    Raises:
        ShapeError: fewer than one was asked for.
    """
    if asked is not None and asked < 1:
        raise ShapeError(f"cores: {asked} came, but at least 1 was needed.")
    known = known_run(folder).get("cores") if (folder / FILE).exists() else None
    return asked or known


def _device(network: Network) -> str:
    return next((p.device.type for p in network.module.parameters()), "cpu")
