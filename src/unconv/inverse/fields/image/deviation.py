"""How strong the noise of a picture is: what was said, or what its samples, its type and its compression tell."""

from __future__ import annotations

from math import sqrt

import numpy as np
from torch import Tensor

from unconv.errors import NonFinite, ShapeError
from unconv.inverse.camera import Camera
from unconv.inverse.compression import compression
from unconv.inverse.fields.image.exposure import shot_noise
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operators.differences import gradient
from unconv.inverse.unexplained import unexplained
from unconv.pictures.measured import Measured

_QUANTISED = 12**-0.5  # standard deviation of rounding to whole numbers
_ROUNDED, _NOTHING = 1e-6, 1e-15  # least noise, as a share of the brightest sample; and of a picture that is black
_EIGHT_BITS = 255.0
# White noise that weighs as much as what JPEG leaves, over its size: of 1, 1.5 and 2 the one that was never far from the
# best on some 30 photographs.
_COARSE = 1.5
# From so many times the finest noise on, coarser errors count, by how sure they are; and by so much they are taken for more.
_CERTAIN, _LIKELY, _MORE = 1.4, 4.0, 1.25
_DOUBT = 2.5  # the most by which errors may be more than is certain
_ROUGHEST = 8.0  # of results that were right, on photographs, some 4 at most; of ruined ones 4 to 45
_LEFT = 0.05  # the least share of the observed differences that is taken for the picture's own
_CLEAN = 1e-4  # least noise, in standard deviations of the picture: less cannot be told from none in float32


def deviation_of(
    samples: Tensor, given: Measured, noise: str | float, camera: Camera, kernel: Tensor | None = None
) -> tuple[float, list[str]]:
    """Return the noise of one picture as a standard deviation, and what is to be said of it.

    Args:
        samples: of the one picture; `given`: what it is part of.
        noise: as for `deblur`.
        camera: of counts.
        kernel: the PSF on the picture's own grid; None where it is on another.
    """
    axes = len(given.spatial)
    if noise == "poisson":
        return sqrt(float(camera.variance(float(samples.nanmean())))), []
    known = samples[~samples.isnan()]
    if not len(known):
        raise NonFinite("deblur: a picture of the stack has no observed sample. Leave it out.")
    least = max(_CLEAN * float(known.std(correction=0)), _ROUNDED * float(known.abs().max())) or _NOTHING
    least = max(least, _QUANTISED if given.peak is not None else 0.0)
    if noise == "estimate":
        flat = axes == samples.ndim - given.colour == 2
        found, notes = _finest(samples, given, axes, flat, least)
        noise, more = _coarse(samples, kernel, found) if flat and kernel is not None else (found, [])
        return noise, [*notes, *more]
    if isinstance(noise, str | bool) or not isinstance(noise, int | float | np.number) or not 0 <= noise < float("inf"):
        raise ShapeError(f"deblur: noise is {noise!r}, but 'estimate', 'poisson' or a standard deviation was needed.")
    if noise < least:
        return least, [f"deblur: a noise of {noise:.3g} is too little to tell from rounding; {least:.3g} was assumed."]
    return float(noise), []


def _finest(samples: Tensor, given: Measured, axes: int, flat: bool, least: float) -> tuple[float, list[str]]:
    """Tell the noise by JPEG's traces, by how it grows with the light, or by the finest detail."""
    traces = compression(samples, given.jpeg) if flat and given.peak == _EIGHT_BITS else None
    if traces is not None:
        return _compressed(samples, traces.error, least)
    grown = shot_noise(samples, axes)
    if grown is not None and grown[0] >= least:
        return grown
    found = estimate_noise(samples, axes)
    if found >= least:
        return found, []
    return least, [f"deblur: next to no noise was found; a standard deviation of {least:.3g} was assumed."]


def _compressed(samples: Tensor, error: float, least: float) -> tuple[float, list[str]]:
    """Tell the noise of a picture that JPEG has taken up to `error` from.

    Compression takes the finest detail, and with it the noise there; what it leaves is coarse, where a blur is undone. So
    white noise as strong as this is what a method has to be told.
    """
    # Of the colours JPEG keeps less: their mean tells more of the noise.
    grey = samples if samples.ndim == 2 else samples.sum(0) / sqrt(len(samples))
    found = max(estimate_noise(samples), estimate_noise(grey))
    noise = max(_COARSE * sqrt(error**2 + found**2), least)
    return noise, [f"deblur: JPEG has compressed the picture; that and its noise count as a standard deviation of {noise:.3g}."]


def _coarse(samples: Tensor, kernel: Tensor, found: float) -> tuple[float, list[str]]:
    """Raise the noise that was found to that of coarser errors, where these show."""
    certain, likely, most = unexplained(samples, kernel) or (0.0, 0.0, 0.0)
    if certain < _CERTAIN * found and likely < _LIKELY * found:
        return found, []
    noise = max(_MORE * (most if likely >= _LIKELY * found else min(most, _DOUBT * certain)), found)
    return noise, [
        f"deblur: more noise than {found:.3g} is left where the blur lets nothing through, as after compression or smoothing; "
        f"a standard deviation of {noise:.3g} was assumed."
    ]


def doubts(restored: Tensor, observed: Tensor, noise: float, axes: int) -> list[str]:
    """Say it if a result is far rougher than what was observed, as it is where noise was taken for detail."""
    seen = observed.nan_to_num(float(observed.nanmean()))
    there = float(gradient(seen, axes).square().mean())
    explained = max(there - 2 * noise**2, _LEFT * there)  # each difference has the noise of two samples
    rough = sqrt(float(gradient(restored, axes).square().mean()) / explained) if explained else 0.0
    if rough <= _ROUGHEST:
        return []
    return [
        f"deblur: the result is {rough:.0f} times as rough as what was observed, less its noise. If it looks ruined, the noise "
        f"is more than {noise:.3g}, or the PSF is another: pass a larger noise."
    ]
