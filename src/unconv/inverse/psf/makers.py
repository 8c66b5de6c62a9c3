"""Compute point spread functions from formulas.

Each function returns a float64 tensor that sums to 1. Its centre is the sample at size // 2 on every axis, which is the middle
for odd sizes; sizes are odd unless you pass an even one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.kinds import checks_kinds, checks_kinds_but

Size = int | Sequence[int]

MOST_SAMPLES = 2**24  # in a kernel, 128 megabytes; computing or checking one takes some six times as much
_MOST_RADIUS = 288  # of a disk; larger ones would take several seconds
_PANELS = 20_000  # panels of an integral, at most
_FIRST_PANELS = 500  # panels for the first look at the path lengths, which tells how many are needed
_FIRST_ZERO = 3.8317059702075125  # first positive zero of the Bessel function J1


@checks_kinds_but("size")
def gaussian(sigma: float | Sequence[float], size: Size | None = None, ndim: int = 2) -> Tensor:
    """Return a Gaussian, evaluated at the sample centres.

    Args:
        sigma: standard deviation in samples, one number or one per axis; with zero there is no blur along that axis.
        size: samples, one number or one per axis; by default enough for 4 sigma to each side.
        ndim: the number of axes, if neither `sigma` nor `size` gives it.

    Source:
        As MATLAB's fspecial("gaussian"), for odd sizes; an even size has its centre at size // 2, not between samples.
    """
    ndim = next((len(option) for option in (sigma, size) if isinstance(option, Sequence)), ndim)
    sigmas = _per_axis("gaussian", "sigma", sigma, ndim, 0.0)
    _refuse_large("gaussian", [8 * s + 1 for s in sigmas] if size is None else [1])
    lengths = [_gaussian_length(s) for s in sigmas] if size is None else _per_axis("gaussian", "size", size, ndim, 1)
    kernel = torch.ones((), dtype=torch.float64)
    for s, n in zip(sigmas, lengths, strict=True):
        x = torch.arange(n, dtype=torch.float64) - n // 2
        line = torch.exp(-0.5 * (x / s) ** 2) if s > 0 else (x == 0).double()
        kernel = kernel[..., None] * line
    return kernel / kernel.sum()


@checks_kinds_but("size")
def uniform(size: Size, ndim: int = 2) -> Tensor:
    """Return a box of equal weights, `size` samples wide; one size, or one per axis."""
    ndim = len(size) if isinstance(size, Sequence) else ndim
    lengths = _per_axis("uniform", "size", size, ndim, 1)
    return torch.full(lengths, 1 / math.prod(lengths), dtype=torch.float64)


@checks_kinds
def disk(radius: float) -> Tensor:
    """Return a disk of `radius` samples, the PSF of a lens out of focus; each sample is the area that the disk covers of it.

    The areas are exact along x, and sums over 200 lines per sample along y.
    """
    _positive("disk", radius=radius)
    lines = 200
    if radius > _MOST_RADIUS:
        raise ShapeError(f"disk: radius is {radius}, but at most {_MOST_RADIUS} samples are allowed. Pass a smaller radius.")
    half = _disk_length(radius) // 2
    y = (torch.arange((2 * half + 1) * lines, dtype=torch.float64) + 0.5) / lines - half - 0.5
    chord = (radius**2 - y**2).clamp(min=0).sqrt()[:, None]
    x = torch.arange(-half, half + 1, dtype=torch.float64)
    area = torch.empty(len(x), len(x), dtype=torch.float64)
    # A few rows at a time, because the lines of all rows would take 200 times the memory of the kernel.
    few = max(1, 2**11 // len(x))
    for rows, part in zip(area.split(few), chord.split(few * lines), strict=True):
        covered = (torch.minimum(x + 0.5, part) - torch.maximum(x - 0.5, -part)).clamp(min=0)
        torch.sum(covered.view(len(rows), lines, -1), 1, out=rows)
    return area / area.sum()


@checks_kinds
def motion(length: float, angle: float = 0.0) -> Tensor:
    """Return the PSF of a straight, uniform motion over `length` samples; a length of 1 is no motion.

    The path is a line `length` - 1 long. A sample weighs 1 minus its distance to the path, or nothing if that is beyond 1. So
    `length` samples have equal weights at 0 and 90 degrees, and slanted paths have soft edges.

    Args:
        angle: in degrees, counter-clockwise from the x axis as you see the picture (y points down).

    Source:
        As the documentation of MATLAB's fspecial("motion") describes it.
    """
    if not (math.isfinite(length) and math.isfinite(angle) and length >= 1):
        raise ShapeError(
            f"motion: length is {length} and angle {angle}, but a length of at least 1 and a finite angle were needed."
        )
    _refuse_large("motion", [length + 3, length + 3])
    half = (length - 1) / 2
    # The nearest point of the path: the projection on its direction, clamped to its ends.
    dy, dx = -math.sin(math.radians(angle)), math.cos(math.radians(angle))
    height, width = (n // 2 for n in _motion_lengths(length, angle))
    y = torch.arange(-height, height + 1, dtype=torch.float64)[:, None]
    x = torch.arange(-width, width + 1, dtype=torch.float64)
    along = (y * dy + x * dx).clamp(-half, half)
    distance = ((y - along * dy) ** 2 + (x - along * dx) ** 2).sqrt()
    weight = (1 - distance).clamp(min=0)
    return weight / weight.sum()


@checks_kinds_but("size")
def airy(first_zero: float, size: Size | None = None) -> Tensor:
    """Return the Airy pattern (2 J1(v) / v)**2, the diffraction pattern of a round aperture, evaluated at the sample centres.

    Args:
        first_zero: radius of the first dark ring in samples, as `airy_radius` returns it.
        size: samples, one number or (height, width); by default 5 radii to each side, which hold 97 % of the light.

    Source:
        Born & Wolf, "Principles of Optics" (7th edition), sec. 8.5.2, eq. 14.
    """
    _positive("airy", first_zero=first_zero)
    height, width = _per_axis("airy", "size", _airy_length(first_zero) if size is None else size, 2, 1)
    v = _FIRST_ZERO / first_zero * _squared_radius(height, width).double().sqrt()
    kernel = torch.where(v > 0, 2 * torch.special.bessel_j1(v) / v.clamp(min=1e-300), 1.0) ** 2
    return kernel / kernel.sum()


@checks_kinds
def airy_radius(wavelength: float, numerical_aperture: float, pixel: float) -> float:
    """Return the radius of the Airy pattern's first dark ring in pixels: 1.22 wavelength / (2 numerical aperture).

    Args:
        wavelength, pixel: in the same unit, such as µm; `pixel` is the side of a pixel in the plane of the object.

    Source:
        Born & Wolf, "Principles of Optics" (7th edition), sec. 8.6.3.
    """
    _positive("airy_radius", wavelength=wavelength, numerical_aperture=numerical_aperture, pixel=pixel)
    return _FIRST_ZERO / (2 * math.pi) * wavelength / numerical_aperture / pixel


@checks_kinds_but("size")
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
    """Return the 3-D PSF of a widefield microscope by the Gibson-Lanni model, with spherical aberration.

    The aberration comes from layers that differ from the objective's design. Lengths are in µm, in the object. Slice D // 2 is
    the paraxial focus; with aberration it is not the brightest. Later slices focus deeper into the sample. Light beyond the
    critical angle of the smallest index is left out, so the aperture is at most that index. The integral is scalar, without
    apodisation, and evaluated at the sample centres.

    Args:
        size: (D, H, W) in samples.
        wavelength: of the emitted light, in vacuum.
        pixel, spacing: from sample to sample along y and x, and along z.
        numerical_aperture: of the objective.
        immersion_index, coverslip_index, coverslip_thickness: the actual values. The names that end in `_design` are those for
            which the objective was designed.
        sample_index: refractive index of the medium around the particle.
        depth: of the particle below the coverslip.
        working_distance: thickness of the immersion layer in the objective's design.

    Source:
        Gibson & Lanni, "Experimental test of an analytical model of aberration in an oil-immersion objective lens
        used in three-dimensional light microscopy", J. Opt. Soc. Am. A 9 (1992).
    """
    _positive("gibson_lanni", wavelength=wavelength, pixel=pixel, spacing=spacing, numerical_aperture=numerical_aperture)
    planes, height, width = _per_axis("gibson_lanni", "size", size, 3, 1)
    # Layers as (thickness, index). The aberration is the path through the actual layers minus that through the design's.
    actual = [(depth, sample_index), (coverslip_thickness, coverslip_index)]
    design = [(coverslip_thickness_design, coverslip_index_design), (working_distance, immersion_index_design)]
    indices = [n for _, n in actual + design] + [immersion_index]
    if min(indices) < 1 or min(t for t, _ in actual + design) < 0:
        raise ShapeError(
            f"gibson_lanni: the layers (thickness, index) are {actual + design}, but indices of at least 1 and "
            "thicknesses of at least 0 were needed."
        )
    _refuse_long(planes, 16 * _FIRST_PANELS)
    # Thickness of the immersion layer when the particle is in paraxial focus.
    immersion = immersion_index * (sum(t / n for t, n in design) - sum(t / n for t, n in actual))
    z = (torch.arange(planes, dtype=torch.float64) - planes // 2) * spacing
    if immersion <= float(z.max()):
        raise ShapeError(
            f"gibson_lanni: at depth {depth} the immersion layer is {immersion:.4g} µm thick, but more than "
            f"{float(z.max()):.4g} µm was needed. Pass a smaller depth or size."
        )
    k, aperture = 2 * math.pi / wavelength, min(numerical_aperture, *indices)
    # The PSF is radially symmetric, so each distinct radius is computed once.
    squares, indices_of_radius = torch.unique(_squared_radius(height, width), return_inverse=True)
    radius = pixel * squares.double().sqrt()

    def path(sine: Tensor) -> Tensor:
        aberration = sum(_path(t, n, sine) for t, n in actual) - sum(_path(t, n, sine) for t, n in design)
        return aberration + _path(immersion - z[:, None], immersion_index, sine)

    # The integrand oscillates as often as its phase turns over the aperture, in the path and in the Bessel function. The
    # number of panels follows from that bound.
    turns = float(path(_nodes(aperture, _FIRST_PANELS)[0]).diff().abs().sum(1).max()) + float(radius.max()) * aperture
    sine, weight = _nodes(aperture, _panels(k * turns, planes))
    pupil = torch.polar((weight * sine).expand(planes, -1).contiguous(), k * path(sine))
    part_of_rings = min(4096, max(1, MOST_SAMPLES // len(sine)))
    rings = [
        torch.special.bessel_j0(k * part[:, None] * sine).to(pupil.dtype) @ pupil.T for part in radius.split(part_of_rings)
    ]
    kernel = torch.cat(rings).abs().square().T[:, indices_of_radius]
    return kernel / kernel.sum()


def _path(thickness: float | Tensor, index: float, sine: Tensor) -> Tensor:
    """Return the optical path through a layer; `sine` is index times sine of the angle, equal in all layers (Snell's law)."""
    return thickness * (index**2 - sine**2).clamp(min=0).sqrt()


def _nodes(end: float, panels: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights to integrate from 0 to `end`, by 16 Gauss-Legendre nodes a panel.

    Panels are equal in the angle and not in its sine, because the root in `_path` is steep where `end` is the layer's index.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    angle = ((starts + torch.from_numpy(nodes + 1) / 2) * (math.pi / 2 / panels)).flatten()
    return end * angle.sin(), torch.from_numpy(weights).repeat(panels) * (math.pi / 4 / panels) * end * angle.cos()


def _squared_radius(height: int, width: int) -> Tensor:
    y, x = torch.arange(height)[:, None] - height // 2, torch.arange(width) - width // 2
    return y**2 + x**2


def refuse_wider(maker: str, numbers: Sequence[float], picture: Sequence[int]) -> None:
    """Refuse a PSF that is larger than the picture, before it is computed.

    Args:
        maker: the name of one of these functions.
        numbers: its arguments, except for the size.
        picture: the lengths of the blurred axes.

    Raises:
        ShapeError: the PSF is larger along an axis.
    """
    if not all(map(math.isfinite, numbers)):
        return  # the function itself refuses such arguments
    length = {
        "gaussian": _gaussian_length(numbers[0]),
        "disk": _disk_length(numbers[0]),
        "airy": _airy_length(numbers[0]),
        "uniform": numbers[0],
        "motion": 0,
    }[maker]
    lengths = _motion_lengths(*numbers) if maker == "motion" else (length,) * 2
    if any(length > n for length, n in zip(lengths, picture[-2:], strict=True)):
        raise ShapeError(
            f"{maker}: the PSF would be {' × '.join(f'{n:.4g}' for n in lengths)} samples, but the picture is only "
            f"{tuple(picture)}, and every sample of it would depend on samples outside. Pass a smaller PSF."
        )


def _gaussian_length(sigma: float) -> int:
    return 2 * math.ceil(4 * sigma) + 1


def _disk_length(radius: float) -> int:
    return 2 * max(0, math.ceil(radius - 0.5)) + 1


def _airy_length(first_zero: float) -> int:
    return 2 * math.ceil(5 * first_zero) + 1


def _motion_lengths(length: float, angle: float) -> tuple[int, int]:
    half, radians = (length - 1) / 2, math.radians(angle)
    height, width = (math.ceil(round(half * abs(d), 9) + 1) - 1 for d in (math.sin(radians), math.cos(radians)))
    return 2 * height + 1, 2 * width + 1


def _per_axis(where: str, name: str, value: Any, ndim: int, least: float) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * ndim
    integers = all(isinstance(n, Integral) and not isinstance(n, bool) for n in values) or least == 0
    if len(values) != ndim or ndim < 1 or not integers or not all(least <= n < math.inf for n in values):
        kind = "a whole number of samples" if least else "a finite number"
        many = f", or {ndim} of them," if ndim > 1 else ""
        raise ShapeError(f"{where}: {name} is {value!r}, but {kind} of at least {least:g}{many} was needed.")
    if least:
        _refuse_large(where, values)
    return values


def _panels(turns: float, planes: int) -> int:
    """Return the number of panels for a wave whose phase turns so often over the aperture."""
    panels = 4 + turns / 8
    if not panels <= _PANELS:
        raise ShapeError(
            f"gibson_lanni: the phase turns {turns:.3g} times over the aperture, but at most {8 * _PANELS} times is "
            "allowed. Pass all lengths in µm."
        )
    _refuse_long(planes, 16 * int(panels))
    return int(panels)


def _refuse_long(planes: int, nodes: int) -> None:
    if planes * nodes > MOST_SAMPLES:
        raise ShapeError(
            f"gibson_lanni: the integral would take {nodes} nodes in each of {planes} planes, but at most {MOST_SAMPLES} nodes "
            "in all are allowed. Pass fewer planes."
        )


def _refuse_large(where: str, lengths: Sequence[float]) -> None:
    if math.prod(lengths) > MOST_SAMPLES:
        raise ShapeError(
            f"{where}: the kernel would be {' × '.join(f'{n:.4g}' for n in lengths)} samples, but at most {MOST_SAMPLES} are "
            "allowed. Pass a smaller one; a blur as wide as the picture leaves nothing to restore."
        )


def _positive(where: str, **lengths: float) -> None:
    for name, value in lengths.items():
        if not 0 < value < math.inf:
            raise ShapeError(f"{where}: {name} is {value}, but a positive number was needed.")
