"""Open point spread functions from files, and check them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.psf.background import without_background
from unconv.inverse.psf.makers import MOST_SAMPLES
from unconv.inverse.psf.mat import read_mat
from unconv.inverse.psf.text import read_text
from unconv.kinds import checks_kinds_but, fits_kind, shown
from unconv.pictures.decode import reading, refuse_missing
from unconv.pictures.measured import measured
from unconv.pictures.npy import read_npy

_TEXT = (".txt", ".csv", ".tsv")
_MOST_TEXT = 4 * MOST_SAMPLES  # bytes in a text file


@checks_kinds_but("source")
def open_psf(
    source: str | Path | np.ndarray[Any, Any] | Tensor,
    ndim: int | None = None,
    *,
    name: str | None = None,
    centred: bool = True,
) -> tuple[Tensor, list[str]]:
    """Open a PSF from a file, an array or a tensor; return it as `checked` does, with notes.

    These files are read:

    - `.npy`;
    - a picture, grey or with three equal channels; integers are divided by their sum; several pages are a volume;
    - `.mat` of MATLAB; write "FILE.mat:NAME", "FILE.mat:3" or "FILE.mat:NAME:3" for one of several arrays, cells or pages
      (counted from 1);
    - text, `.txt`, `.csv` or `.tsv`, one row a line, with decimal points or decimal commas.

    If the border of a measured PSF shows a constant background, such as a camera's offset, it is subtracted, and a note says
    so.

    Args:
        source: a path, an array or a tensor.
        ndim: the number of axes that it must have; None for any.
        name: the array of a `.mat` file that holds several.
        centred: as for `checked`.

    Raises:
        PictureError: the file is missing or damaged.
        ShapeError, NonFinite, DtypeError: as for `checked`; also if the picture is coloured.
    """
    if not isinstance(source, str | Path | Tensor | np.ndarray):
        raise DtypeError(f"psf: it is a {type(source).__name__}, but a path, an array or a tensor was needed.")
    where, integers = "psf", False
    values: Any = source
    if isinstance(source, str | Path):
        path, inside = psf_file(source)
        where = f"psf {path.name}"
        values, integers = _read(path, inside if name is None else name)
    numbers = _numbers(values, where)
    notes: list[str] = []
    if bool(numbers.isfinite().all()):
        numbers, notes = without_background(numbers, where)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    total = numbers.sum()
    kernel, others = checked(
        numbers / total if (integers or notes) and total > 0 else numbers, ndim, where=where, centred=centred
    )
    return kernel, notes + others


def psf_file(source: str | Path) -> tuple[Path, str | None]:
    """Split "FILE.mat:NAME" into the file and the name of an array; the name is None for other files."""
    match = re.fullmatch(r"(.+\.mat):(.+)", str(source), re.IGNORECASE | re.DOTALL)
    if match is None or Path(source).exists():
        return Path(source), None
    return Path(match[1]), match[2]


@checks_kinds_but("psf")
def checked(
    psf: np.ndarray[Any, Any] | Tensor,
    ndim: int | None = None,
    *,
    where: str = "psf",
    centred: bool = True,
) -> tuple[Tensor, list[str]]:
    """Return the PSF in float64, divided by its sum, and notes on anything unusual, each of them also a `UserWarning`.

    Negative values are kept. The PSF is not divided by a sum that is zero or negative. Its centre is the sample at size // 2;
    a note says so if the centroid is more than half a sample away.

    Args:
        ndim: the number of axes that it must have; None for any.
        where: the name of the PSF in messages.
        centred: whether a point source appears at size // 2. If it is known to appear elsewhere, there is no note on the
            centroid.

    Raises:
        ShapeError: it has another number of axes, is empty, or is zero everywhere.
        NonFinite: it has NaN or infinite samples.
        DtypeError: its samples are boolean, complex or no numbers.
    """
    kernel = _numbers(psf, where)
    shape = tuple(kernel.shape)
    if not shape or 0 in shape or (ndim is not None and len(shape) != ndim):
        axes = "" if ndim is None else f" of {ndim} {'axis' if ndim == 1 else 'axes'}"
        raise ShapeError(
            f"{where}: it is {shape}, but an array{axes} without a length of 0 was needed. Drop axes of length 1, or pass one "
            "kernel at a time."
        )
    bad = int((~kernel.isfinite()).sum())
    if bad:
        raise NonFinite(
            f"{where}: {bad} of {kernel.numel()} samples are NaN or infinite, but finite ones were needed. Set them to zero, "
            "or measure again."
        )
    mass, total = float(kernel.abs().sum()), float(kernel.sum())
    if mass == 0:
        raise ShapeError(f"{where}: all samples of {shape} are zero, but a positive sum was needed. Pass a PSF that sums to 1.")
    notes = []
    if bool((kernel < 0).any()):
        share = (mass - total) / 2 / mass
        notes.append(f"{where}: {share:.2%} of its mass is negative, and was kept. A blur of light has no negative samples.")
    if total <= 1e-12 * mass:
        if abs(total) <= 1e-12 * mass:
            kernel = kernel - total / kernel.numel()  # remove the rounding error, or a filter would divide by it
        notes.append(f"{where}: it sums to {total:.4g}, so it was not divided by its sum. The brightness cannot be restored.")
    else:
        if abs(total - 1) > 1e-3:
            notes.append(f"{where}: it sums to {total:.6g}, and was divided by its sum, so that the brightness stays.")
        kernel = kernel / total
        notes += _off_centre(kernel, where) if centred else []
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return kernel, notes


def _off_centre(kernel: Tensor, where: str) -> list[str]:
    """Return a note if the centroid of a kernel that sums to 1 is more than half a sample from size // 2."""
    centroid = []
    for axis, n in enumerate(kernel.shape):
        others = [other for other in range(kernel.ndim) if other != axis]
        line = kernel.sum(others) if others else kernel
        centroid.append(float(line @ torch.arange(n, dtype=kernel.dtype, device=kernel.device)))
    middle = tuple(n // 2 for n in kernel.shape)
    shift = [m - c for m, c in zip(middle, centroid, strict=True)]
    if max(abs(s) for s in shift) <= 0.5 + 1e-6:
        return []
    at, by = (", ".join(f"{value:.2f}" for value in values) for values in (centroid, shift))
    return [
        f"{where}: its centroid is at ({at}), but its centre is taken as {middle}, so the result will be shifted by ({by}) "
        "samples. Pass as centre= the index at which a point source appears, or crop it."
    ]


def _numbers(psf: np.ndarray[Any, Any] | Tensor, where: str) -> Tensor:
    if not isinstance(psf, np.ndarray) and not fits_kind(psf, Tensor):
        raise DtypeError(f"{where}: it is {shown(psf)}, but a file, a dense tensor or an array was needed. Pass np.array(it).")
    if psf.numel() > MOST_SAMPLES if isinstance(psf, Tensor) else psf.size > MOST_SAMPLES:
        raise ShapeError(
            f"{where}: it is {tuple(psf.shape)}, but at most {MOST_SAMPLES} samples are allowed. Crop zeros off its border."
        )
    kind = str(psf.dtype).removeprefix("torch.")
    if not kind.lstrip("<>=").startswith(("int", "uint", "float", "bfloat", "i", "u", "f")):
        raise DtypeError(f"{where}: its samples are {kind}, but integers or floats were needed. Convert them.")
    return psf.detach().double() if isinstance(psf, Tensor) else torch.from_numpy(np.array(psf, dtype=np.float64, order="C"))


def _read(path: Path, name: str | None) -> tuple[np.ndarray[Any, Any] | Tensor, bool]:
    """Return the samples in a file, and whether they are a picture's integers, whose sum has no meaning."""
    refuse_missing("psf", path)
    # Numbers are recognised by the ending of their file. Everything else is a picture, which is recognised by its content.
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return read_mat(path, name), False
    with reading("psf", path, "cannot be read as numbers"):
        if suffix == ".npy":
            return read_npy(path, MOST_SAMPLES), False
        if suffix in _TEXT:
            if path.stat().st_size > _MOST_TEXT:
                raise ValueError(f"it is {path.stat().st_size} bytes long, but at most {_MOST_TEXT} are allowed. Crop it")
            return read_text(path), False
    picture = measured(path)
    samples = picture.samples
    if "C" in picture.axes:
        channel = picture.axes.index("C")
        samples, others = samples.narrow(channel, 0, 1), samples
        if not torch.equal(samples.expand_as(others), others):
            raise ShapeError(f"psf: {path} is coloured, but a grey picture was needed. Save one channel of it.")
        samples = samples.squeeze(channel)
    return samples, picture.peak is not None
