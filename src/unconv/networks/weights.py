"""Weights: reading files as data, downloading them, and checking that they fit the network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.hub import download_url_to_file, get_dir

from unconv.errors import ModelError, WeightsError, counted
from unconv.networks.checkpoints import Fit, first_three, fits, notes, origin_words, state_dicts, widen
from unconv.networks.model_files import Unfit, open_regular, shown, size_of
from unconv.networks.opened import Opened
from unconv.networks.safetensors_files import describe_safetensors
from unconv.networks.stored import DTYPES, Stored, read_stored
from unconv.networks.torch_files import describe_archive, describe_legacy

# A training checkpoint keeps optimizer states and averages beside the weights, perhaps in double precision.
_MOST_TIMES, _MOST_MORE = 8, 1 << 26

_SAVE = "Save model.state_dict() alone, best as .safetensors."

_HEADS = {
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras writes",
    b"\x93NUMPY": "is a NumPy array",
    b"\x1f\x8b": "is compressed by gzip",
    b"<": "is a web page, perhaps the answer to a failed download",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself",
}
"""First bytes of files that are mistaken for weights."""


def with_weights(opened: Opened, weights: str | Path, origin: str | None = None, own: bool = True) -> Opened:
    """Return the model with the weights of a file loaded; they must fit it.

    In a checkpoint, the state dict that fits is searched for, also behind a prefix. A classifier gets as many outputs as
    the file has for it. The result's `weights` and `notes` say what was done.

    Args:
        origin: where the weights came from, in words; None: the file's name.
        own: whether a layer of the model may be replaced; a user's live module is never changed.

    Raises:
        WeightsError: the file cannot be read as weights, or fits another network.
        ModelError: the model has no memory for weights yet.
    """
    path = Path(weights)
    target = _own_tensors(opened)
    with _open(path) as file:
        # First everything that can be checked without reading samples: a file that does not fit takes no memory.
        _refuse_size(path, size_of(file), opened.name, target)
        candidates = fits(_describe(path, file), target, opened.module)
        if not candidates:
            raise _no_state_dict(path)
        fit = candidates[0]
        _refuse_misfit(opened.name, target, fit, path)
        _refuse_several(path, candidates)
        if fit.widths and not own:
            raise _other_width(path, opened, fit)
        state = {key: fit.state[name] for key, name in fit.names.items()}
        _refuse_kinds(path, state, target)
        _refuse_ties(path, state, target)
        tensors = _read(path, file, state)
    _refuse_values(path, tensors, target)
    widen(opened.module, fit.widths)
    opened.module.load_state_dict(tensors, strict=False)  # every key was compared above, except optional batch counters
    classes = () if fit.widths else opened.classes
    return replace(opened, weights=origin or origin_words(path, fit), classes=classes, notes=notes(path, candidates, target))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the first state dict in a .safetensors, .pth or .pt file; no code in it runs."""
    with _open(path) as file:
        state = next((state for _, state in state_dicts(_describe(path, file))), None)
        if state is None:
            raise _no_state_dict(path)
        _refuse_kinds(path, state, {})
        return _read(path, file, state)


def _open(path: Path) -> BinaryIO:
    return open_regular(path, "weights file", "Pass a file .safetensors, .pth or .pt.")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn a reader's complaint into a message with the file's name and a remedy."""
    try:
        yield
    except (Unfit, OSError) as error:
        raise WeightsError(
            f"load: {shown(path)} cannot be read as weights; it is damaged, cut off, or holds more than tensors: {error}. "
            f"{_SAVE}"
        ) from error


def _describe(path: Path, file: BinaryIO) -> Any:
    """Return the file's dictionaries with a description in place of each tensor; checksums are verified."""
    with _damage(path):
        # By content, whatever the name is: the message can then say what a misnamed or wrong file really is.
        head = file.read(32)
        file.seek(0)
        if not head:
            raise Unfit("it is empty")
        for start, fault in _HEADS.items():
            if head.startswith(start) and head[8:9] != b"{":
                raise Unfit(f"it {fault}")
        archive, pickled = head.startswith(b"PK"), head.startswith(b"\x80\x02")
        if path.suffix == ".safetensors":
            if archive or pickled:
                raise Unfit("its content is what torch.save writes; its name should end in .pth")
            state = describe_safetensors(file)
        elif head[8:9] == b"{":
            raise Unfit("its content is that of a safetensors file; its name should end in .safetensors")
        else:
            state = describe_archive(file) if archive else describe_legacy(file)
    return state


def _no_state_dict(path: Path) -> WeightsError:
    return WeightsError(
        f"load: {shown(path)} holds no state dict (names to tensors), but one was needed. Save model.state_dict() alone."
    )


def _read(path: Path, file: BinaryIO, state: Mapping[str, Stored]) -> dict[str, Tensor]:
    with _damage(path):
        return read_stored(file, state)


def _own_tensors(opened: Opened) -> dict[str, Tensor]:
    """Return the model's own tensors, which must be dense and have memory to write to."""
    tensors = {key: value for key, value in opened.module.state_dict().items() if isinstance(value, Tensor)}
    for key, value in tensors.items():
        fault = (
            "has no shape yet, as its layer is lazy"
            if nn.parameter.is_lazy(value)
            else "is on the meta device and has no memory"
            if value.device.type == "meta"
            else "is sparse"
            if value.layout is not torch.strided
            else None
        )
        if fault:
            raise ModelError(
                f"load: {shown(key)} of {opened.name} {fault}, but dense weights to write to were needed. "
                "Run the model once, or move it with to_empty(device='cpu'), before loading weights into it."
            )
    return tensors


def _refuse_size(path: Path, size: int, name: str, target: Mapping[str, Tensor]) -> None:
    """Refuse a file far larger than the network's weights before reading it."""
    needed = sum(value.numel() * value.element_size() for value in target.values())
    if size > _MOST_TIMES * needed + _MOST_MORE:
        raise WeightsError(
            f"load: {shown(path)} has {size:,} bytes, but {name} has weights of {needed:,} bytes. "
            "Name the network it was saved from, or save model.state_dict() alone."
        )


def _refuse_misfit(name: str, target: Mapping[str, Tensor], fit: Fit, path: Path) -> None:
    """Refuse weights that do not fit: name the first keys that are missing, unexpected or of another shape."""
    if fit.complete:
        return
    lists = {
        "missing": [shown(key) for key in fit.missing],
        "unexpected": [shown(key) for key in (*fit.unexpected, *fit.others)],
        "wrong shape": [
            f"{shown(key)} is {fit.state[fit.names[key]].shape}, not {tuple(target[key].shape)}" for key in fit.misshapen
        ],
    }
    parts = [f"{what}: {first_three(keys)}" for what, keys in lists.items() if keys]
    where = f"{shown(path)} ({fit.label})" if fit.label else shown(path)
    roots = {key.partition(".")[0] for key in target}
    # If one outermost module alone differs, the user replaced the head: another network's name would not help.
    remedy = (
        f"Everything except {shown(fit.differing[0])} fits: build the network with that {shown(fit.differing[0])} in a "
        "Python file, and pass FILE.py:factory."
        if len(fit.differing) == 1 < len(roots) and fit.names
        else "Name the network it was saved from."
    )
    raise WeightsError(f"load: {where} does not fit {name}; {'; '.join(parts)}. {remedy}")


def _refuse_several(path: Path, candidates: Sequence[Fit]) -> None:
    """Refuse a file with several different sets of weights that rank equally."""
    equals = [fit for fit in candidates if fit.rank == candidates[0].rank]
    states = [{key: fit.state[name] for key, name in fit.names.items()} for fit in equals]
    if any(state != states[0] for state in states):
        labels = first_three([fit.label for fit in equals])
        raise WeightsError(
            f"load: {shown(path)} holds several sets of weights that fit: {labels}. Save only the one that you mean."
        )


def _other_width(path: Path, opened: Opened, fit: Fit) -> WeightsError:
    name, width = next(iter(fit.widths.items()))
    layer: Any = opened.module.get_submodule(name)
    replacement = (
        f"Linear({layer.in_features}, {width})"
        if isinstance(layer, nn.Linear)
        else f"{type(layer).__name__}({layer.in_channels}, {width}, {layer.kernel_size})"
    )
    return WeightsError(
        f"load: {shown(path)} has {counted(width, 'output')} for the classifier {name}, but that of {opened.name} has "
        f"{len(layer.weight):,}, and your own module is not changed. Replace the layer first: "
        f"model.{name} = torch.nn.{replacement}."
    )


def _refuse_kinds(path: Path, state: Mapping[str, Stored], target: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that would have to be cast to another kind of number, or that is not dense."""
    for key, stored in state.items():
        dtype = DTYPES.get(stored.what) if stored.extent is not None else None
        need = target[key].dtype if key in target else dtype
        if dtype is not None and need is not None and _kind(dtype) == _kind(need):
            continue
        kind = stored.what if " " in stored.what else f"of type {stored.what}"
        words = f"{_kind(need)} of type {str(need).removeprefix('torch.')}" if need is not None else "a dense tensor of numbers"
        raise WeightsError(
            f"load: {shown(path)}: {shown(key)} is {kind}, but {words} {'was' if need is None else 'were'} needed. "
            "Convert it with the program that wrote the file (dequantize(), to_dense(), float()) and save it again."
        )


def _kind(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "truth values"
    return (
        "complex numbers"
        if dtype.is_complex
        else "dense floating-point numbers"
        if dtype.is_floating_point
        else "whole numbers"
    )


def _refuse_ties(path: Path, state: Mapping[str, Stored], target: Mapping[str, Tensor]) -> None:
    """Refuse one stored tensor for several of the network's, unless the network ties them as well."""
    first_key: dict[Stored, str] = {}
    for key, stored in state.items():
        other = first_key.setdefault(stored, key)
        if other != key and 0 not in stored.shape and target[other].data_ptr() != target[key].data_ptr():
            raise WeightsError(
                f"load: {shown(path)}: {shown(key)} shares its bytes with {shown(other)}, but each has its own in the network. "
                "Save them separately: {key: value.clone() for key, value in model.state_dict().items()}."
            )


def _refuse_values(path: Path, tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Refuse NaN, infinity, and values that the network's number type cannot represent."""
    for key, value in tensors.items():
        dtype = target[key].dtype
        if not (value.is_floating_point() or value.is_complex()):
            exact = value.dtype is dtype or torch.equal(value.to(dtype).to(torch.int64), value.to(torch.int64))
            words = None if exact else f"values too large for {str(dtype).removeprefix('torch.')}"
        elif not torch.isfinite(value).all():
            words = "NaN or infinite values"
        else:
            exact = value.dtype is dtype or bool(torch.isfinite(value.to(dtype)).all())
            words = None if exact else f"values too large for {str(dtype).removeprefix('torch.')}"
        if words:
            raise WeightsError(f"load: {shown(path)}: {shown(key)} holds {words}. Save the weights again.")


def download(url: str) -> Path:
    """Download a weights file into torch's cache, with a progress bar, and return its path.

    A file already in the cache is not fetched again. If the URL contains a hash, the file must match it.

    Raises:
        WeightsError: the download failed, or its hash is wrong.
    """
    name = url.rsplit("/", 1)[1]
    path = Path(get_dir()) / "checkpoints" / name
    if path.exists():
        return path
    # torch's files are named after the first digits of their SHA-256.
    digest = re.search(r"[-_]([0-9a-f]{8,})$", path.stem)
    print(f"downloading {name}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=digest[1] if digest else None)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"load: cannot download {url}: {error}. Download it on a connected machine and pass the file as weights."
        ) from error
    return path
