"""Describe a run by everything on which its numbers depend, and compare the descriptions before a run continues."""

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
    """Return everything on which a run's numbers depend, and what is needed to open its network again, ready for JSON.

    Args:
        device: the kind of device that computes, "cpu" or "cuda".
        cores: the threads with which a process computes on a CPU; None on other devices.
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
        # The last two change no number, and are left out of the hash.
        "opened": opened(network),
        "classes": list(network.classes),
    }


def run_hash(run: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything on which a run's numbers depend."""
    return hashlib.sha256(json.dumps(_without_opening(run), sort_keys=True).encode()).hexdigest()


def _without_opening(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("opened", "classes")}


def settle(folder: Path, run: Mapping[str, Any]) -> None:
    """Write the description of a run into its folder, or compare it with the one that the folder holds.

    Raises:
        ScanError: the folder holds another run; the message says what differs.
    """
    path = folder / FILE
    if path.exists():
        refuse_other(path, known_run(folder), run)
    else:
        write(path, json.dumps(run, indent=1).encode())


def known_run(folder: Path) -> dict[str, Any]:
    """Return the description of the run in a folder.

    Raises:
        ScanError: there is none, or its format is that of another version of this program.
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
    """Refuse to continue a run whose description differs.

    Raises:
        ScanError: it does; the message says in what.
    """
    differing = [key for key in _without_opening(run) if known.get(key) != run[key]]
    if not differing:
        return
    words = "; ".join(f"{key}: {_brief(known.get(key))} there, {_brief(run[key])} now" for key in differing)
    raise ScanError(
        f"scan: {path} is of another run, which cannot be continued ({words}). Choose another folder, or use the same settings."
    )


def _brief(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        names = [str(item.get("name")) for item in value]
        return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def settle_list(folder: Path, pictures: Pictures) -> list[Entry]:
    """Return the run's list of pictures, and write it: known pictures keep their numbers, new ones follow.

    Raises:
        ScanError: the folder's list is damaged.
    """
    known, _ = known_list(folder) if (folder / LIST).exists() else ([], {})
    current = {entry.key: entry for entry in pictures.entries}
    numbers = {entry.key for entry in known}
    entries = [current.get(entry.key, entry) for entry in known] + [e for e in pictures.entries if e.key not in numbers]
    description = {"kind": pictures.kind, "where": pictures.where, "faults": list(pictures.faults)}
    content = json.dumps({**description, "entries": entries}, separators=(",", ":")).encode()
    if not (folder / LIST).exists() or (folder / LIST).read_bytes() != content:
        write(folder / LIST, content)
    return entries


def known_list(folder: Path) -> tuple[list[Entry], dict[str, Any]]:
    """Return a run's list of pictures in the order of their numbers, and where the list came from.

    Raises:
        ScanError: there is no such list, or it is damaged.
    """
    try:
        description = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return [Entry(*row) for row in description.pop("entries")], description
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ScanError(f"scan: {folder / LIST} cannot be read: {error}. Delete it to list the pictures anew.") from error


def weights_hash(network: Network) -> str:
    """Return the SHA-256 of all parameters and buffers, with their names, and of tensors in modules' attributes."""
    digest = hashlib.sha256()
    for name, tensor in network.module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            _update(digest, name, tensor)
    # state_dict leaves out buffers that are not persistent, and tensors in plain attributes, which change results as well.
    for name, module in network.module.named_modules():
        buffers = {
            key: module.get_buffer(key) for key in module._non_persistent_buffers_set if module._buffers.get(key) is not None
        }
        attributes = {key: value for key, value in vars(module).items() if key not in ("_parameters", "_buffers", "_modules")}
        for path, value in tree_flatten_with_path(dict(sorted({**buffers, **attributes}.items())))[0]:
            if isinstance(value, torch.Tensor):
                _update(digest, f"{name}{keystr(path)}", value)
    return digest.hexdigest()


def _update(digest: Any, name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    samples: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest.update(memoryview(samples))


def opened(network: Network) -> dict[str, Any] | None:
    """Return how a network was opened, so that it can be opened again; None if it was passed as a live module."""
    if network.opened_with is None:
        return None
    spec, weights = (None if path is None else _absolute(path) for path in network.opened_with)
    own = network.preprocess
    settings = asdict(own) if isinstance(own, Preprocess) else None
    return {"model": spec, "weights": weights, "preprocess": settings}


def open_again(run: Mapping[str, Any]) -> Network:
    """Return the network of a run, opened in the same way; its weights may have changed since.

    Raises:
        ModelError: the network was a live module.
    """
    opened = run["opened"]
    if opened is None:
        raise ModelError(f"scan: {run['network']} was scanned as a live module, which no file tells how to open. Pass it.")
    own = opened["preprocess"]
    network = load(opened["model"], opened["weights"], preprocess=None if own is None else _preprocess(own))
    network.input_size = tuple(run["input"])
    return network


def _preprocess(fields: Mapping[str, Any]) -> Preprocess:
    settings: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Preprocess(**settings)


def _absolute(path: str) -> str:
    """Return the absolute path of a file, so that it is found from any folder; return a model's name unchanged."""
    file, colon, rest = path.partition(".py:")
    file = file + ".py" if colon else file
    return f"{Path(file).absolute()}{':' + rest if colon else ''}" if Path(file).is_file() else path


def _preparation(network: Network) -> str:
    try:
        return network.preparation.done
    except ModelError:  # it draws random numbers
        raise ScanError(
            f"scan: the preprocessing of {network.name} draws random numbers (a random crop or flip), but the strongest "
            "pictures are shown again. Pass the preprocessing for evaluation."
        ) from None


def place_facts(seen: Seen) -> dict[str, Any]:
    """Return the facts about a place, with the ends of its units' receptive fields along each axis."""
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
    """Return for each axis of the image the first samples and the ends of the receptive fields, by the units' positions.

    An axis has a single entry if all units see the same of it, or if the map has no axis of its own for it.
    """
    receptive_field, size = seen.receptive_field, seen.shape[1:]
    axes = len(receptive_field.stride)
    extra_axes = len(size) - axes  # frames that the network puts into its batch
    extents = []
    for axis in range(axes):
        along = extra_axes + axis
        count = size[along] if along >= 0 and any(receptive_field.stride) else 1
        pairs = [_extent(seen, axis, position) for position in range(count)]
        extents.append([[start for start, _ in pairs], [end for _, end in pairs]])
    return extents


def _extent(seen: Seen, axis: int, at: int) -> tuple[int, int]:
    axes = len(seen.receptive_field.stride)
    position = [at if other == axis else 0 for other in range(axes)]
    box = seen.receptive_field.box(position, position)
    return box[axis], box[axes + axis]
