"""Weights: files read as data, downloads, and whether they fit."""

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

from unconv.errors import ModelError, WeightsError
from unconv.networks.checkpoints import Fit, fits, listed, notes, state_dicts, told, widen
from unconv.networks.model_files import Unfit, open_regular, shown, size_of
from unconv.networks.opened import Opened
from unconv.networks.safetensors_files import describe_safetensors
from unconv.networks.stored import DTYPES, Stored, read_stored
from unconv.networks.torch_files import describe_archive, describe_legacy

# A checkpoint of training keeps optimizer states and averages beside the weights, perhaps in double precision.
_MOST_TIMES, _MOST_MORE = 8, 1 << 26

_SAVE = "Save model.state_dict() alone, best as .safetensors."

_HEADS = {
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras writes",
    b"\x93NUMPY": "is an array of NumPy",
    b"\x1f\x8b": "is compressed by gzip",
    b"<": "is a page of the web, perhaps the answer to a download that failed",
    b"version https://git-lfs": "is a note of Git LFS, not the file it stands for",
}
"""How files begin that are taken for weights by mistake."""


def loaded(opened: Opened, weights: str | Path, origin: str | None = None, own: bool = True) -> Opened:
    """Load the weights of a file into a model; they must fit it.

    Of a checkpoint the state dict is found that fits, behind a prefix or not. A classifier gets as many outputs as the file
    has for it. What was done is told in `weights` and `notes`.

    Args:
        origin: where they came from, in words; None: the file's name.
        own: whether the model is ours to change a layer of; a user's is not.

    Raises:
        WeightsError: the file cannot be read as weights, or fits another network.
        ModelError: the model has no memory for weights yet.
    """
    path = Path(weights)
    wanted = _wanted(opened)
    with _opened(path) as file:
        # All that can be known before memory is taken is compared first.
        _refuse_size(path, size_of(file), opened.name, wanted)
        found = fits(_described(path, file), wanted, opened.module)
        if not found:
            raise _no_state_dict(path)
        fit = found[0]
        _refuse_misfit(opened.name, wanted, fit, path)
        _refuse_several(path, found)
        if fit.widths and not own:
            raise _other_width(path, opened, fit)
        state = {key: fit.state[name] for key, name in fit.names.items()}
        _refuse_kinds(path, state, wanted)
        _refuse_ties(path, state, wanted)
        tensors = _read(path, file, state)
    _refuse_values(path, tensors, wanted)
    widen(opened.module, fit.widths)
    opened.module.load_state_dict(tensors, strict=False)  # all that matters was compared above
    classes = () if fit.widths else opened.classes
    return replace(opened, weights=origin or told(path, fit), classes=classes, notes=notes(path, found, wanted))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the first state dict of a .safetensors, .pth or .pt file; no code in it runs."""
    with _opened(path) as file:
        state = next((state for _, state in state_dicts(_described(path, file))), None)
        if state is None:
            raise _no_state_dict(path)
        _refuse_kinds(path, state, {})
        return _read(path, file, state)


def _opened(path: Path) -> BinaryIO:
    return open_regular(path, "weights file", "Pass a file .safetensors, .pth or .pt.")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Tell what a reader found wrong."""
    try:
        yield
    except (Unfit, OSError) as error:
        raise WeightsError(
            f"load: {shown(path)} cannot be read as weights; it is damaged, cut off, or holds more than tensors: {error}. "
            f"{_SAVE}"
        ) from error


def _described(path: Path, file: BinaryIO) -> Any:
    """Read which tensors a file holds, and where, in dictionaries as they are there; checksums are compared."""
    with _damage(path):
        head = file.read(32)
        file.seek(0)
        if not head:
            raise Unfit("it is empty")
        for start, words in _HEADS.items():
            if head.startswith(start) and head[8:9] != b"{":
                raise Unfit(f"it {words}")
        archive, pickled = head.startswith(b"PK"), head.startswith(b"\x80\x02")
        if path.suffix == ".safetensors":
            if archive or pickled:
                raise Unfit("it is what torch.save writes, by its content; its name should end in .pth")
            state = describe_safetensors(file)
        elif head[8:9] == b"{":
            raise Unfit("it is a safetensors file, by its content; its name should end in .safetensors")
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


def _wanted(opened: Opened) -> dict[str, Tensor]:
    """Return the tensors that a model wants, which must have memory to write to."""
    wanted = {key: value for key, value in opened.module.state_dict().items() if isinstance(value, Tensor)}
    for key, value in wanted.items():
        odd = (
            "has no shape yet, as its layer is lazy"
            if nn.parameter.is_lazy(value)
            else "is on the meta device and has no memory"
            if value.device.type == "meta"
            else "is sparse"
            if value.layout is not torch.strided
            else None
        )
        if odd:
            raise ModelError(
                f"load: {shown(key)} of {opened.name} {odd}, but dense weights to write to were needed. "
                "Run the model once, or move it with to_empty(device='cpu'), before you load weights into it."
            )
    return wanted


def _refuse_size(path: Path, size: int, name: str, wanted: Mapping[str, Tensor]) -> None:
    """Refuse a file far larger than the network's state, before it is read."""
    needed = sum(value.numel() * value.element_size() for value in wanted.values())
    if size > _MOST_TIMES * needed + _MOST_MORE:
        raise WeightsError(
            f"load: {shown(path)} has {size:,} bytes, but {name} has weights of {needed:,}. "
            "Name the network it was saved from, or save model.state_dict() alone."
        )


def _refuse_misfit(name: str, wanted: Mapping[str, Tensor], fit: Fit, path: Path) -> None:
    """Say which keys are missing, unexpected and of another shape, the first of each."""
    if fit.whole:
        return
    lists = {
        "missing": [shown(key) for key in fit.missing],
        "unexpected": [shown(key) for key in (*fit.unexpected, *fit.others)],
        "wrong shape": [
            f"{shown(key)} is {fit.state[fit.names[key]].shape}, not {tuple(wanted[key].shape)}" for key in fit.misshapen
        ],
    }
    parts = [f"{what}: {listed(keys)}" for what, keys in lists.items() if keys]
    where = f"{shown(path)} ({fit.label})" if fit.label else shown(path)
    roots = {key.partition(".")[0] for key in wanted}
    way_out = (
        f"All but {shown(fit.differing[0])} fits: build the network with that {shown(fit.differing[0])} in a Python file, "
        "and pass FILE.py:factory."
        if len(fit.differing) == 1 < len(roots) and fit.names
        else "Name the network it was saved from."
    )
    raise WeightsError(f"load: {where} does not fit {name}; {'; '.join(parts)}. {way_out}")


def _refuse_several(path: Path, found: Sequence[Fit]) -> None:
    """Refuse a file that holds several sets of weights of which no rule says the better one."""
    alike = [fit for fit in found if fit.rank == found[0].rank]
    chosen = [{key: fit.state[name] for key, name in fit.names.items()} for fit in alike]
    if any(state != chosen[0] for state in chosen):
        labels = listed([fit.label for fit in alike])
        raise WeightsError(
            f"load: {shown(path)} holds several sets of weights that fit: {labels}. Save the one that you mean alone."
        )


def _other_width(path: Path, opened: Opened, fit: Fit) -> WeightsError:
    name, width = next(iter(fit.widths.items()))
    layer: Any = opened.module.get_submodule(name)
    made = (
        f"Linear({layer.in_features}, {width})"
        if isinstance(layer, nn.Linear)
        else f"{type(layer).__name__}({layer.in_channels}, {width}, {layer.kernel_size})"
    )
    return WeightsError(
        f"load: {shown(path)} has {width:,} outputs for the classifier {name}, but that of {opened.name} has "
        f"{len(layer.weight):,}, and a module of yours is not changed. Give it the layer first: model.{name} = torch.nn.{made}."
    )


def _refuse_kinds(path: Path, state: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that would have to be cast to another kind of number, or is no dense tensor of numbers."""
    for key, stored in state.items():
        dtype = DTYPES.get(stored.what) if stored.extent is not None else None
        need = wanted[key].dtype if key in wanted else dtype
        if dtype is not None and need is not None and _kind(dtype) == _kind(need):
            continue
        came = stored.what if " " in stored.what else f"of type {stored.what}"
        words = f"{_kind(need)} of type {str(need).removeprefix('torch.')}" if need is not None else "a dense tensor of numbers"
        raise WeightsError(
            f"load: {shown(path)}: {shown(key)} is {came}, but {words} {'was' if need is None else 'were'} needed. "
            "Convert it where the file was made (dequantize(), to_dense(), float()) and save it again."
        )


def _kind(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "truth values"
    return "complex numbers" if dtype.is_complex else "dense numbers" if dtype.is_floating_point else "whole numbers"


def _refuse_ties(path: Path, state: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> None:
    """Refuse one stored tensor for several of the network's, unless they are one there as well."""
    first: dict[Stored, str] = {}
    for key, stored in state.items():
        other = first.setdefault(stored, key)
        if other != key and 0 not in stored.shape and wanted[other].data_ptr() != wanted[key].data_ptr():
            raise WeightsError(
                f"load: {shown(path)}: {shown(key)} shares its bytes with {shown(other)}, but each has its own in the network. "
                "Save them apart: {key: value.clone() for key, value in model.state_dict().items()}."
            )


def _refuse_values(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse values that are no numbers, or none of the network's type."""
    for key, value in tensors.items():
        dtype = wanted[key].dtype
        if not (value.is_floating_point() or value.is_complex()):
            kept = value.dtype is dtype or torch.equal(value.to(dtype).to(torch.int64), value.to(torch.int64))
            words = None if kept else f"too large for {str(dtype).removeprefix('torch.')}"
        elif not torch.isfinite(value).all():
            words = "NaN or infinite values"
        else:
            kept = value.dtype is dtype or bool(torch.isfinite(value.to(dtype)).all())
            words = None if kept else f"values too large for {str(dtype).removeprefix('torch.')}"
        if words:
            raise WeightsError(f"load: {shown(path)}: {shown(key)} holds {words}. Save the weights again.")


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
