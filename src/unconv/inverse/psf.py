"""Point spread functions: made from a formula, or opened and checked.

Each maker gives a float64 tensor that sums to 1, whose centre is the sample at size // 2 on every axis. Sizes are
odd unless said otherwise, so that this is the middle.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError, UnconvError, nearest
from unconv.images import DAMAGE
from unconv.measured import measured

Size = int | Sequence[int]

_FIRST_ZERO = 3.8317059702075125  # of the Bessel function J1


def gaussian(sigma: float | Sequence[float], size: Size | None = None, ndim: int = 2) -> Tensor:
    """A Gaussian sampled at the centres of the samples.

    Args:
        sigma: standard deviation in samples, one or one per axis; zero along an axis: no blur along it.
        size: samples, one or one per axis; by default enough for 4 sigma to each side.
        ndim: axes, where neither `sigma` nor `size` says so.

    Source:
        As MATLAB's fspecial("gaussian"), for odd sizes; an even size has its centre at size // 2, not between samples.
    """
    ndim = next((len(given) for given in (sigma, size) if isinstance(given, Sequence)), ndim)
    sigmas = _per_axis("gaussian", "sigma", sigma, ndim, 0.0)
    lengths = [2 * math.ceil(4 * s) + 1 for s in sigmas] if size is None else _per_axis("gaussian", "size", size, ndim, 1)
    kernel = torch.ones((), dtype=torch.float64)
    for s, n in zip(sigmas, lengths, strict=True):
        x = torch.arange(n, dtype=torch.float64) - n // 2
        line = torch.exp(-0.5 * (x / s) ** 2) if s > 0 else (x == 0).double()
        kernel = kernel[..., None] * line
    return kernel / kernel.sum()


def uniform(size: Size, ndim: int = 2) -> Tensor:
    """A box of equal weights, `size` samples wide, one or one per axis."""
    ndim = len(size) if isinstance(size, Sequence) else ndim
    lengths = _per_axis("uniform", "size", size, ndim, 1)
    return torch.full(lengths, 1 / math.prod(lengths), dtype=torch.float64)


def disk(radius: float) -> Tensor:
    """A disk of `radius` samples, as out-of-focus lenses give: each sample weighs the area that the disk covers of it.

    Areas are exact along x and summed over 200 lines a sample along y.
    """
    _positive("disk", radius=radius)
    half, lines = max(0, math.ceil(radius - 0.5)), 200
    y = (torch.arange((2 * half + 1) * lines, dtype=torch.float64) + 0.5) / lines - half - 0.5
    chord = (radius**2 - y**2).clamp(min=0).sqrt()[:, None]
    x = torch.arange(-half, half + 1, dtype=torch.float64)
    covered = (torch.minimum(x + 0.5, chord) - torch.maximum(x - 0.5, -chord)).clamp(min=0)
    area = covered.view(2 * half + 1, lines, -1).sum(1)
    return area / area.sum()


def motion(length: float, angle: float = 0.0) -> Tensor:
    """A straight even motion over `length` samples; 1 is no motion.

    A sample weighs 1 less its distance to the path of its centre, which is `length` - 1 long, and nothing beyond a
    distance of 1. So `length` samples weigh the same at 0 and 90 degrees, and slanted paths have soft edges.

    Args:
        angle: degrees, counter-clockwise from the x axis as the picture is seen (y points down).

    Source:
        As the documentation of MATLAB's fspecial("motion") describes it.
    """
    if not (math.isfinite(length) and math.isfinite(angle) and length >= 1):
        raise ShapeError(
            f"motion: length is {length} and angle {angle}; a length of at least 1 and a finite angle were needed."
        )
    half = (length - 1) / 2
    dy, dx = -math.sin(math.radians(angle)), math.cos(math.radians(angle))
    height, width = (math.ceil(round(half * abs(d), 9) + 1) - 1 for d in (dy, dx))
    y = torch.arange(-height, height + 1, dtype=torch.float64)[:, None]
    x = torch.arange(-width, width + 1, dtype=torch.float64)
    along = (y * dy + x * dx).clamp(-half, half)
    distance = ((y - along * dy) ** 2 + (x - along * dx) ** 2).sqrt()
    weight = (1 - distance).clamp(min=0)
    return weight / weight.sum()


def airy(first_zero: float, size: Size | None = None) -> Tensor:
    """The diffraction pattern of a round aperture, (2 J1(v) / v)**2, sampled at the centres of the samples.

    Args:
        first_zero: radius of the first dark ring in samples, as `airy_radius` gives it.
        size: samples, one or (height, width); by default 5 radii to each side, which hold 97 % of the light.

    Source:
        Born & Wolf, "Principles of Optics" (7th edition), sec. 8.5.2, eq. 14.
    """
    _positive("airy", first_zero=first_zero)
    height, width = _per_axis("airy", "size", 2 * math.ceil(5 * first_zero) + 1 if size is None else size, 2, 1)
    v = _FIRST_ZERO / first_zero * _squared_radius(height, width).double().sqrt()
    kernel = torch.where(v > 0, 2 * torch.special.bessel_j1(v) / v.clamp(min=1e-300), 1.0) ** 2
    return kernel / kernel.sum()


def airy_radius(wavelength: float, numerical_aperture: float, pixel: float) -> float:
    """Radius of the Airy pattern's first dark ring in pixels: 1.22 wavelength / (2 numerical aperture).

    Args:
        wavelength, pixel: in one unit, such as µm; `pixel` is its side in the plane of the object.

    Source:
        Born & Wolf, "Principles of Optics" (7th edition), sec. 8.6.3.
    """
    _positive("airy_radius", wavelength=wavelength, numerical_aperture=numerical_aperture, pixel=pixel)
    return _FIRST_ZERO / (2 * math.pi) * wavelength / numerical_aperture / pixel


def gibson_lanni(
    size: tuple[int, int, int],
    *,
    wavelength: float,
    pixel: float,
    spacing: float,
    numerical_aperture: float = 1.4,
    immersion_index: float = 1.515,
    immersion_index_design: float = 1.515,
    coverslip_index: float = 1.515,
    coverslip_index_design: float = 1.515,
    coverslip_thickness: float = 170.0,
    coverslip_thickness_design: float = 170.0,
    sample_index: float = 1.33,
    depth: float = 0.0,
    working_distance: float = 150.0,
) -> Tensor:
    """The 3-D PSF of a widefield microscope, with the spherical aberration of what differs from its design.

    Lengths are in µm in the object. Slice D // 2 is the paraxial focus, which with aberration is not the brightest;
    later slices focus deeper into the sample.
    Light beyond the critical angle of the least index is left out, so the aperture is at most that index. The
    integral is scalar, without apodisation; samples are taken at their centres.

    Args:
        size: (D, H, W) in samples.
        wavelength: of the emitted light, in vacuum.
        pixel, spacing: from sample to sample along y and x, and along z.
        immersion_index, coverslip_index, coverslip_thickness: as they are, and as the objective was designed for.
        sample_index: of what the particle lies in.
        depth: of the particle below the coverslip.
        working_distance: thickness of the immersion layer that the objective was designed for.

    Source:
        Gibson & Lanni, "Experimental test of an analytical model of aberration in an oil-immersion objective lens
        used in three-dimensional light microscopy", J. Opt. Soc. Am. A 9 (1992).
    """
    _positive("gibson_lanni", wavelength=wavelength, pixel=pixel, spacing=spacing, numerical_aperture=numerical_aperture)
    planes, height, width = _per_axis("gibson_lanni", "size", size, 3, 1)
    # Layers of (thickness, index): those the light passes, less those of the design.
    passed = [(depth, sample_index), (coverslip_thickness, coverslip_index)]
    design = [(coverslip_thickness_design, coverslip_index_design), (working_distance, immersion_index_design)]
    indices = [n for _, n in passed + design] + [immersion_index]
    if min(indices) < 1 or min(t for t, _ in passed + design) < 0:
        raise ShapeError(
            f"gibson_lanni: layers {passed + design}; indices of at least 1, thicknesses of at least 0 were needed."
        )
    # The immersion that is left when the particle is in paraxial focus.
    immersion = immersion_index * (sum(t / n for t, n in design) - sum(t / n for t, n in passed))
    z = (torch.arange(planes, dtype=torch.float64) - planes // 2) * spacing
    if immersion <= float(z.max()):
        raise ShapeError(
            f"gibson_lanni: only {immersion:.4g} µm of immersion are left at depth {depth}. Take a smaller depth or size."
        )
    k, aperture = 2 * math.pi / wavelength, min(numerical_aperture, *indices)
    squares, places = torch.unique(_squared_radius(height, width), return_inverse=True)
    radius = pixel * squares.double().sqrt()

    def path(sine: Tensor) -> Tensor:
        through = sum(_path(t, n, sine) for t, n in passed) - sum(_path(t, n, sine) for t, n in design)
        return through + _path(immersion - z[:, None], immersion_index, sine)

    turns = float(path(_nodes(aperture, 500)[0]).diff().abs().sum(1).max()) + float(radius.max()) * aperture
    sine, weight = _nodes(aperture, 4 + int(k * turns / 8))
    pupil = torch.polar((weight * sine).expand(planes, -1).contiguous(), k * path(sine))
    rings = [torch.special.bessel_j0(k * part[:, None] * sine).to(pupil.dtype) @ pupil.T for part in radius.split(4096)]
    kernel = torch.cat(rings).abs().square().T[:, places]
    return kernel / kernel.sum()


def _path(thickness: float | Tensor, index: float, sine: Tensor) -> Tensor:
    """Optical path through a layer; `sine` is index times sine of the angle, the same in every layer (Snell)."""
    return thickness * (index**2 - sine**2).clamp(min=0).sqrt()


def _nodes(end: float, panels: int) -> tuple[Tensor, Tensor]:
    """Places and weights that integrate from 0 to `end`: 16 Gauss-Legendre points a panel.

    Even in the angle and not in its sine, since the root in `_path` is steep where `end` is the layer's index.
    """
    places, weights = np.polynomial.legendre.leggauss(16)
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    angle = ((starts + torch.from_numpy(places + 1) / 2) * (math.pi / 2 / panels)).flatten()
    return end * angle.sin(), torch.from_numpy(weights).repeat(panels) * (math.pi / 4 / panels) * end * angle.cos()


def open_psf(
    source: str | Path | np.ndarray[Any, Any] | Tensor, ndim: int | None = None, *, name: str | None = None
) -> tuple[Tensor, list[str]]:
    """A PSF from a file, an array or a tensor, as `checked` gives it.

    Files: `.npy`; a picture, grey, or of three equal channels, whose integers are divided by their sum; several pages
    are a volume; `.mat` (needs scipy); numbers in text, `.txt` or `.csv`, one row a line.

    Args:
        ndim: axes it must have; None for any.
        name: which array of a `.mat` file; needed where it holds several.

    Raises:
        PictureError: the file is absent or damaged.
        ShapeError, NonFinite, DtypeError: as `checked`; also a coloured picture.
    """
    where = "psf" if not isinstance(source, str | Path) else f"psf {Path(source).name}"
    if isinstance(source, str | Path):
        return checked(_read(Path(source), name), ndim, where=where)
    if not isinstance(source, Tensor | np.ndarray):
        raise DtypeError(f"psf: it is a {type(source).__name__}; a path, an array or a tensor was needed.")
    return checked(source, ndim, where=where)


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
    kind = str(psf.dtype).removeprefix("torch.")
    if not kind.lstrip("<>=").startswith(("int", "uint", "float", "bfloat", "i", "u", "f")):
        raise DtypeError(f"{where}: its samples are {kind}; integers or floats were needed. Convert them.")
    return psf.detach().double() if isinstance(psf, Tensor) else torch.from_numpy(np.array(psf, dtype=np.float64, order="C"))


def _read(path: Path, name: str | None) -> np.ndarray[Any, Any] | Tensor:
    if not path.is_file():
        raise PictureError(f"psf: there is no file {path}.")
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _read_mat(path, name)
    try:
        if suffix == ".npy":
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        if suffix in (".txt", ".csv"):
            text = path.read_text(encoding="utf-8-sig").replace(",", " ").replace(";", " ")
            return np.loadtxt(text.splitlines(), ndmin=2)
    except DAMAGE as error:
        raise PictureError(f"psf: {path} cannot be read as numbers: {error}.") from error
    picture = measured(path)
    samples = picture.samples
    if "C" in picture.axes:
        channel = picture.axes.index("C")
        samples, others = samples.narrow(channel, 0, 1), samples
        if not torch.equal(samples.expand_as(others), others):
            raise ShapeError(f"psf: {path} is coloured; a grey picture was needed. Save one channel of it.")
        samples = samples.squeeze(channel)
    total = samples.double().sum()
    return samples / total if picture.peak is not None and total > 0 else samples


def _read_mat(path: Path, name: str | None) -> np.ndarray[Any, Any]:
    try:
        from scipy.io.matlab import MatReadError, loadmat
    except ImportError as error:
        raise UnconvError(f"psf: {path} needs scipy. Install it with pip install scipy, or save the array as .npy.") from error
    try:
        held = loadmat(path)
    except NotImplementedError as error:
        raise PictureError(f'psf: {path} is of MATLAB 7.3 (HDF5). Save it with "-v7" instead.') from error
    except (MatReadError, *DAMAGE) as error:
        raise PictureError(f"psf: {path} is not a .mat file, or is damaged or cut off: {error}.") from error
    arrays = {key: value for key, value in held.items() if not key.startswith("__") and np.asarray(value).dtype.kind in "iuf"}
    if name is None and len(arrays) == 1:
        return np.asarray(*arrays.values())
    if name not in arrays:
        asked = f"holds no {name!r}" if name else "does not say which array is the PSF"
        there = nearest(name, arrays) if name else ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
        raise PictureError(f"psf: {path} {asked}; it holds {there or 'no arrays'}. Pass name=.")
    return np.asarray(arrays[name])


def _squared_radius(height: int, width: int) -> Tensor:
    y, x = torch.arange(height)[:, None] - height // 2, torch.arange(width) - width // 2
    return y**2 + x**2


def _per_axis(where: str, what: str, given: Any, ndim: int, least: float) -> list[Any]:
    values = list(given) if isinstance(given, Sequence) else [given] * ndim
    whole = all(isinstance(value, Integral) for value in values) or least == 0
    if len(values) != ndim or ndim < 1 or not whole or not all(least <= value < math.inf for value in values):
        kind = "a whole number of samples" if least else "a finite number"
        raise ShapeError(f"{where}: {what} is {given!r}; {kind} of at least {least:g} was needed, one or {ndim}.")
    return values


def _positive(where: str, **lengths: float) -> None:
    for name, value in lengths.items():
        if not 0 < value < math.inf:
            raise ShapeError(f"{where}: {name} is {value}; a positive number was needed.")
