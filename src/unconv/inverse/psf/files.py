"""Point spread functions opened and checked."""

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
_MOST_TEXT = 4 * MOST_SAMPLES  # bytes of a file of numbers in text


@checks_kinds_but("source")
def open_psf(
    source: str | Path | np.ndarray[Any, Any] | Tensor, ndim: int | None = None, *, name: str | None = None
) -> tuple[Tensor, list[str]]:
    """A PSF from a file, an array or a tensor, as `checked` gives it.

    Files: `.npy`; a picture, grey, or of three equal channels, whose integers are divided by their sum; several pages
    are a volume; `.mat` of MATLAB, "FILE.mat:NAME", "FILE.mat:3" or "FILE.mat:NAME:3" where it holds several or cells
    (numbers from 1); numbers in text, `.txt`, `.csv` or `.tsv`, one row a line, decimals behind points or commas.

    A level on which a measured PSF stands, such as a camera's offset, is told from its border and subtracted, and a note says
    so.

    Args:
        ndim: axes it must have; None for any.
        name: which array of a `.mat` file; needed where it holds several.

    Raises:
        PictureError: the file is absent or damaged.
        ShapeError, NonFinite, DtypeError: as `checked`; also a coloured picture.
    """
    if not isinstance(source, str | Path | Tensor | np.ndarray):
        raise DtypeError(f"psf: it is a {type(source).__name__}; a path, an array or a tensor was needed.")
    where, normed = "psf", False
    values: Any = source
    if isinstance(source, str | Path):
        path, inside = psf_file(source)
        where = f"psf {path.name}"
        values, normed = _read(path, inside if name is None else name)
    numbers = _numbers(values, where)
    notes: list[str] = []
    if bool(numbers.isfinite().all()):
        numbers, notes = without_background(numbers, where)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    total = numbers.sum()
    kernel, others = checked(numbers / total if (normed or notes) and total > 0 else numbers, ndim, where=where)
    return kernel, notes + others


def psf_file(source: str | Path) -> tuple[Path, str | None]:
    """Return the file that a text names, and what in it: "FILE.mat:NAME" is the array NAME of FILE.mat."""
    found = re.fullmatch(r"(.+\.mat):(.+)", str(source), re.IGNORECASE | re.DOTALL)
    if found is None or Path(source).exists():
        return Path(source), None
    return Path(found[1]), found[2]


@checks_kinds_but("psf")
def checked(psf: np.ndarray[Any, Any] | Tensor, ndim: int | None = None, *, where: str = "psf") -> tuple[Tensor, list[str]]:
    """The PSF in float64, divided by its sum; and notes on what is odd about it, each also a `UserWarning`.

    Negative values are kept. A sum that is zero or negative is not divided out. The centre is taken at size // 2; a
    note says where the mass lies more than half a sample away from it.

    Args:
        ndim: axes it must have; None for any.
        where: what messages call it.

    Raises:
        ShapeError: of another number of axes, empty, or all zero.
        NonFinite: NaN or infinite.
        DtypeError: bool, complex or no numbers.
    """
    kernel = _numbers(psf, where)
    shape = tuple(kernel.shape)
    if not shape or 0 in shape or (ndim is not None and len(shape) != ndim):
        wanted = "one with samples" if ndim is None else f"one of {ndim} axes with samples"
        raise ShapeError(
            f"{where}: it is {shape}, but {wanted} was needed. Drop axes of length 1, or pass one kernel at a time."
        )
    odd = int((~kernel.isfinite()).sum())
    if odd:
        raise NonFinite(f"{where}: {odd} of {kernel.numel()} samples are NaN or infinite. Set them to zero, or measure again.")
    mass, total = float(kernel.abs().sum()), float(kernel.sum())
    if mass == 0:
        raise ShapeError(f"{where}: all of {shape} is zero; such a blur leaves nothing. Pass a PSF that sums to 1.")
    notes = []
    if bool((kernel < 0).any()):
        share = (mass - total) / 2 / mass
        notes.append(f"{where}: {share:.2%} of its mass is negative; kept as given. A blur of light has none.")
    if total <= 1e-12 * mass:
        if abs(total) <= 1e-12 * mass:
            kernel = kernel - total / kernel.numel()  # rounding, that a filter would divide by
        notes.append(
            f"{where}: it sums to {total:.4g}; kept as given, not divided by its sum. Its brightness cannot be restored."
        )
    else:
        if abs(total - 1) > 1e-3:
            notes.append(f"{where}: it sums to {total:.6g}; divided by its sum, so that brightness is kept.")
        kernel = kernel / total
        notes += _off_centre(kernel, where)
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return kernel, notes


def _off_centre(kernel: Tensor, where: str) -> list[str]:
    """A note where the centroid of a kernel that sums to 1 is more than half a sample from size // 2."""
    centroid = []
    for axis, n in enumerate(kernel.shape):
        others = [other for other in range(kernel.ndim) if other != axis]
        line = kernel.sum(others) if others else kernel
        centroid.append(float(line @ torch.arange(n, dtype=kernel.dtype, device=kernel.device)))
    middle = tuple(n // 2 for n in kernel.shape)
    shift = [m - c for m, c in zip(middle, centroid, strict=True)]
    if max(abs(s) for s in shift) <= 0.5 + 1e-6:
        return []
    said, moved = (", ".join(f"{value:.2f}" for value in values) for values in (centroid, shift))
    return [
        f"{where}: its mass is centred at ({said}), but its centre is taken at {middle}; what is restored will be shifted by "
        f"({moved}) samples. Pass centre= where a point lands in it, or trim it."
    ]


def _numbers(psf: np.ndarray[Any, Any] | Tensor, where: str) -> Tensor:
    if not isinstance(psf, np.ndarray) and not fits_kind(psf, Tensor):
        raise DtypeError(f"{where}: it is {shown(psf)}, but a file, a dense tensor or an array was needed. Pass np.array(it).")
    if psf.numel() > MOST_SAMPLES if isinstance(psf, Tensor) else psf.size > MOST_SAMPLES:
        raise ShapeError(
            f"{where}: it is {tuple(psf.shape)}, but at most {MOST_SAMPLES} samples were allowed for. Crop it to where it is "
            "not zero."
        )
    kind = str(psf.dtype).removeprefix("torch.")
    if not kind.lstrip("<>=").startswith(("int", "uint", "float", "bfloat", "i", "u", "f")):
        raise DtypeError(f"{where}: its samples are {kind}; integers or floats were needed. Convert them.")
    return psf.detach().double() if isinstance(psf, Tensor) else torch.from_numpy(np.array(psf, dtype=np.float64, order="C"))


def _read(path: Path, name: str | None) -> tuple[np.ndarray[Any, Any] | Tensor, bool]:
    """Return the samples in a file, and whether they are a picture's integers, which sum to nothing in particular."""
    refuse_missing("psf", path)
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return read_mat(path, name), False
    with reading("psf", path, "cannot be read as numbers"):
        if suffix == ".npy":
            return read_npy(path, MOST_SAMPLES), False
        if suffix in _TEXT:
            if path.stat().st_size > _MOST_TEXT:
                raise ValueError(f"it is {path.stat().st_size} bytes long, but at most {_MOST_TEXT} were allowed for. Crop it")
            return read_text(path), False
    picture = measured(path)
    samples = picture.samples
    if "C" in picture.axes:
        channel = picture.axes.index("C")
        samples, others = samples.narrow(channel, 0, 1), samples
        if not torch.equal(samples.expand_as(others), others):
            raise ShapeError(f"psf: {path} is coloured; a grey picture was needed. Save one channel of it.")
        samples = samples.squeeze(channel)
    return samples, picture.peak is not None
