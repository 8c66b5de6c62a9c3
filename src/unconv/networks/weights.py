"""Weights: files read without running code in them, downloads, and whether they fit."""

from __future__ import annotations

import pickle
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors
import torch
from torch import Tensor
from torch.hub import download_url_to_file, get_dir

from unconv.errors import WeightsError
from unconv.networks.opened import Opened

# What readers of weights raise on damaged files.
_DAMAGE = (
    safetensors.SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    struct.error,
)


def loaded(opened: Opened, weights: str | Path, origin: str | None = None) -> Opened:
    """Load the weights of a file into a model; they must fit it.

    Args:
        origin: where they came from, in words; None: the file's name.
    """
    path = Path(weights)
    state, wanted = read_weights(path), opened.module.state_dict()
    if all(key.startswith("module.") for key in state) and not any(key in wanted for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}  # from data-parallel training
    _refuse_misfit(opened.name, wanted, state, path)
    opened.module.load_state_dict(state, strict=False)  # all that matters was compared above
    return replace(opened, weights=origin or path.name)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pth or .pt file; no code in it runs.

    A checkpoint that holds its weights under "state_dict" or "model" is opened.
    """
    if not path.is_file():
        raise WeightsError(f"load: there is no weights file {path}.")
    try:
        state = _read(path)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        # torch's own words advise to run the file's code after all; they are not passed on.
        refused = isinstance(error, pickle.UnpicklingError)
        what = "only tensors are unpickled" if refused else " ".join(str(error).split())[:300]
        raise WeightsError(
            f"load: {path} cannot be read as weights; it is damaged, cut off, or holds more than tensors: {what}. "
            "Save model.state_dict() alone, best as .safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"load: {path} holds no state dict (names to tensors). Save model.state_dict() alone.")
    return {str(key): value for key, value in state.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_misfit(name: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Say which keys are missing, unexpected and of another shape, the first of each."""
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    lists = {
        "missing": [key for key in wanted if key not in state and key not in optional],
        "unexpected": [key for key in state if key not in wanted],
        "wrong shape": shapes,
    }
    if any(lists.values()):
        parts = [
            f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
            for what, keys in lists.items()
            if keys
        ]
        raise WeightsError(f"load: {path} does not fit {name}; {'; '.join(parts)}. Name the network it was saved from.")
    bad = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if bad:
        raise WeightsError(f"load: {path}: {bad} holds NaN or infinite values. Save the weights again.")


def download(url: str) -> Path:
    """Fetch a weights file into torch's cache, with a progress bar, unless it is there; what comes must have its hash.

    Raises:
        WeightsError: it cannot be fetched, or what came is not what was announced.
    """
    name = url.rsplit("/", 1)[1]
    path = Path(get_dir()) / "checkpoints" / name
    if path.exists():
        return path
    digest = re.search(r"[-_]([0-9a-f]{8,})$", path.stem)
    print(f"downloading {name}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=digest[1] if digest else None)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"load: cannot download {url}: {error}. Fetch it where there is a network and pass the file as weights."
        ) from error
    return path
