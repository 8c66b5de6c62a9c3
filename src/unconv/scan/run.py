"""What a run is: all that its numbers depend on, written down and compared before it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from unconv.errors import ModelError, ScanError
from unconv.files import write
from unconv.pictures.preprocess import Preprocess
from unconv.reverse.maps import Maps, Seen
from unconv.reverse.network import Network, load
from unconv.scan.listed import Entry, Pictures
from unconv.version import __version__

FILE, LIST = "run.json", "list.json"
_FORMAT = 1


def describe(
    network: Network, maps: Maps, keep: int, shard: int, lowest: bool, maxima: bool, device: str, cores: int | None
) -> dict[str, Any]:
    """Return what a run's numbers depend on, ready for JSON, and what is needed to open it again.

    Args:
        device: the kind of device that computes, "cpu" or "cuda".
        cores: threads that a process computes with on a CPU; None on others.
    """
    return {
        "format": _FORMAT,
        "network": network.name,
        "weights": weights_hash(network),
        "picture": _preparation(network),
        "input": list(network.input_size),
        "places": [place_facts(seen) for seen in maps.seen],
        "keep": keep,
        "batch": maps.batch,
        "one_by_one": bool(maps.one_by_one),
        "shard": shard,
        "lowest": lowest,
        "maxima": maxima,
        "dtype": str(next((p.dtype for p in network.module.parameters() if p.is_floating_point()), torch.float32)),
        "device": device,
        "cores": cores,
        "versions": {"unconv": __version__, "torch": torch.__version__, "pillow": PIL.__version__},
        "opened": opened(network),
        "classes": list(network.classes),
    }


def run_hash(run: Mapping[str, Any]) -> str:
    """Return the sha256 of what a run's numbers depend on."""
    return hashlib.sha256(json.dumps(_own(run), sort_keys=True).encode()).hexdigest()


def _own(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("opened", "classes")}


def settle(folder: Path, run: Mapping[str, Any]) -> None:
    """Write what a run is into its folder; of a folder that holds a run, compare the two.

    Raises:
        ScanError: it holds another run; what differs is named.
    """
    path = folder / FILE
    if path.exists():
        refuse_other(path, known_run(folder), run)
    else:
        write(path, json.dumps(run, indent=1).encode())


def known_run(folder: Path) -> dict[str, Any]:
    """Return what the run in a folder is.

    Raises:
        ScanError: there is none, or of another version of this program.
    """
    path = folder / FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        version = run["format"]
    except FileNotFoundError:
        raise ScanError(f"scan: there is no {FILE} in {folder}: it holds no scan. Make one with `unconv index`.") from None
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ScanError(f"scan: {path} cannot be read: {error}. Choose another folder.") from error
    if version != _FORMAT:
        raise ScanError(f"scan: {path} is of format {version}, but {_FORMAT} is read. Scan anew, into another folder.")
    return dict(run)


def refuse_other(path: Path | str, known: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that is another one.

    Raises:
        ScanError: what differs is named.
    """
    differing = [key for key in _own(run) if known.get(key) != run[key]]
    if not differing:
        return
    words = "; ".join(f"{key}: {_brief(known.get(key))} there, {_brief(run[key])} now" for key in differing)
    raise ScanError(
        f"scan: {path} is of another run, which cannot be gone on with ({words}). Choose another folder, or run what it was "
        "made with."
    )


def _brief(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        names = [str(item.get("name")) for item in value]
        return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def settle_list(folder: Path, pictures: Pictures) -> list[Entry]:
    """Return the run's list of pictures: what is known keeps its number, what is new comes behind; and write it down.

    Raises:
        ScanError: the folder's list is damaged.
    """
    known, _ = known_list(folder) if (folder / LIST).exists() else ([], {})
    now = {entry.key: entry for entry in pictures.entries}
    numbers = {entry.key for entry in known}
    entries = [now.get(entry.key, entry) for entry in known] + [e for e in pictures.entries if e.key not in numbers]
    told = {"kind": pictures.kind, "where": pictures.where, "faults": list(pictures.faults)}
    content = json.dumps({**told, "entries": entries}, separators=(",", ":")).encode()
    if not (folder / LIST).exists() or (folder / LIST).read_bytes() != content:
        write(folder / LIST, content)
    return entries


def known_list(folder: Path) -> tuple[list[Entry], dict[str, Any]]:
    """Return the pictures that a run knows of, in the order of their numbers, and what names them.

    Raises:
        ScanError: there is no such list, or it is damaged.
    """
    try:
        told = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return [Entry(*row) for row in told.pop("entries")], told
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ScanError(f"scan: {folder / LIST} cannot be read: {error}. Delete it to list the pictures anew.") from error


def weights_hash(network: Network) -> str:
    """Return the sha256 of all parameters and buffers, with their names, and of tensors that modules hold as attributes."""
    digest = hashlib.sha256()
    for name, tensor in network.module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            _take(digest, name, tensor)
    for name, held in network.module.named_modules():
        buffers = {own: held.get_buffer(own) for own in held._non_persistent_buffers_set if held._buffers.get(own) is not None}
        plain = {own: found for own, found in vars(held).items() if own not in ("_parameters", "_buffers", "_modules")}
        for path, found in tree_flatten_with_path(dict(sorted({**buffers, **plain}.items())))[0]:
            if isinstance(found, torch.Tensor):
                _take(digest, f"{name}{keystr(path)}", found)
    return digest.hexdigest()


def _take(digest: Any, name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    samples: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest.update(memoryview(samples))


def opened(network: Network) -> dict[str, Any] | None:
    """Return how a network was opened, so that it can be opened again; None if it was given as a live module."""
    if network.opened_with is None:
        return None
    spec, weights = (None if path is None else _absolute(path) for path in network.opened_with)
    own = network.preprocess
    how = asdict(own) if isinstance(own, Preprocess) else None
    return {"model": spec, "weights": weights, "preprocess": how}


def open_again(run: Mapping[str, Any]) -> Network:
    """Open the network of a run as it was opened; its weights may have changed since.

    Raises:
        ModelError: it was a live module.
    """
    how = run["opened"]
    if how is None:
        raise ModelError(f"scan: {run['network']} was scanned as a live module, which no file tells how to open. Pass it.")
    own = how["preprocess"]
    network = load(how["model"], how["weights"], preprocess=None if own is None else _preprocess(own))
    network.input_size = tuple(run["input"])
    return network


def _preprocess(fields: Mapping[str, Any]) -> Preprocess:
    settings: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Preprocess(**settings)


def _absolute(path: str) -> str:
    """Return the path of a file from the root on, so that it is found from any folder; a name as it is."""
    file, colon, rest = path.partition(".py:")
    file = file + ".py" if colon else file
    return f"{Path(file).absolute()}{':' + rest if colon else ''}" if Path(file).is_file() else path


def _preparation(network: Network) -> str:
    try:
        return network.preparation.done
    except ModelError:  # it draws random numbers
        raise ScanError(
            f"scan: pictures of {network.name} are prepared by chance (a random crop or flip), but the strongest are shown "
            "again. Give it the preprocessing for evaluation."
        ) from None


def place_facts(seen: Seen) -> dict[str, Any]:
    """Return a place, and of each axis of its map where its units' receptive fields begin and end."""
    place, size = seen.place, seen.shape[1:]
    return {
        "name": place.name,
        "operation": place.operation,
        "channels": place.channels,
        "size": list(size),
        "receptive_field": list(place.receptive_field),
        "stride": list(place.stride),
        "rectified": seen.rectified,
        "spans": spans(seen),
    }


def spans(seen: Seen) -> list[list[list[int]]]:
    """Return of each axis of the image the first sample and the end that units along it see, by their position.

    A map whose units all see the same, or that has no axis of its own for one of the image's, has one row.
    """
    receptive_field, size = seen.receptive_field, seen.shape[1:]
    axes = len(receptive_field.stride)
    more = len(size) - axes  # frames that the network puts into its batch
    found = []
    for axis in range(axes):
        along = more + axis
        count = size[along] if along >= 0 and any(receptive_field.stride) else 1
        pairs = [_along(seen, axis, at) for at in range(count)]
        found.append([[start for start, _ in pairs], [end for _, end in pairs]])
    return found


def _along(seen: Seen, axis: int, at: int) -> tuple[int, int]:
    axes = len(seen.receptive_field.stride)
    position = [at if other == axis else 0 for other in range(axes)]
    box = seen.receptive_field.box(position, position)
    return box[axis], box[axes + axis]
