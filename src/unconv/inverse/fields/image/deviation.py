"""Choose the noise of a picture: the caller's number, or an estimate from its samples, their type and its compression."""

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

_QUANTISED = 12**-0.5  # standard deviation of rounding to integers
_ROUNDED, _NOTHING = 1e-6, 1e-15  # least noise: as a share of the brightest sample; of a picture that is black
_EIGHT_BITS = 255.0
# How many times the error of JPEG the equivalent white noise is. Of 1, 1.5 and 2, this was never far from the best on some 30
# photographs.
_COARSE = 1.5
# Coarse errors count from so many times the fine noise on, if they are certain, or likely; and are then multiplied by 1.25.
_CERTAIN, _LIKELY, _MORE = 1.4, 4.0, 1.25
_DOUBT = 2.5  # coarse errors are assumed to be at most so many times their lower bound
_ROUGHEST = 8.0  # good results on photographs have some 4 at most, ruined ones 4 to 45
_LEFT = 0.05  # at least this share of the observed differences is assumed to be the picture's own
_CLEAN = 1e-4  # least noise, in standard deviations of the picture; float32 cannot distinguish less from none


def deviation_of(
    samples: Tensor, stack: Measured, noise: str | float, camera: Camera, kernel: Tensor | None = None
) -> tuple[float, list[str]]:
    """Return the standard deviation of one picture's noise, and notes on it.

    Args:
        samples: of the one picture.
        stack: the measurement that the picture is part of.
        noise: as for `deblur`.
        camera: for counts.
        kernel: the PSF; None if it is on a finer grid than the picture.
    """
    axes = len(stack.spatial)
    # For counts one number stands for all levels; the method itself takes the variance of each sample.
    if noise == "poisson":
        return sqrt(float(camera.variance(float(samples.nanmean())))), []
    known = samples[~samples.isnan()]
    if not len(known):
        raise NonFinite("deblur: all samples of a picture of the stack are missing, but some are needed. Leave it out.")
    least = max(_CLEAN * float(known.std(correction=0)), _ROUNDED * float(known.abs().max())) or _NOTHING
    least = max(least, _QUANTISED if stack.peak is not None else 0.0)
    if noise == "estimate":
        flat = axes == samples.ndim - stack.colour == 2
        fine, notes = _finest(samples, stack, axes, flat, least)
        noise, more = _coarse(samples, kernel, fine) if flat and kernel is not None else (fine, [])
        return noise, [*notes, *more]
    if isinstance(noise, str | bool) or not isinstance(noise, int | float | np.number) or not 0 <= noise < float("inf"):
        raise ShapeError(
            f"deblur: noise is {noise!r}, but 'estimate', 'poisson' or a standard deviation of at least 0 was needed."
        )
    if noise < least:
        return least, [f"deblur: a noise of {noise:.3g} is less than that of rounding; {least:.3g} was assumed."]
    return float(noise), []


def _finest(samples: Tensor, stack: Measured, axes: int, flat: bool, least: float) -> tuple[float, list[str]]:
    """Estimate the noise from JPEG's traces, from its growth with the light, or from the highest frequencies, in this order."""
    traces = compression(samples, stack.jpeg) if flat and stack.peak == _EIGHT_BITS else None
    if traces is not None:
        return _compressed(samples, traces.error, least)
    growing = shot_noise(samples, axes)
    if growing is not None and growing[0] >= least:
        return growing
    white = estimate_noise(samples, axes)
    if white >= least:
        return white, []
    return least, [f"deblur: the picture has next to no noise; a standard deviation of {least:.3g} was assumed."]


def _compressed(samples: Tensor, error: float, least: float) -> tuple[float, list[str]]:
    """Return the white noise that stands for the errors of JPEG, up to `error`, and the noise that it left.

    Compression removes the finest detail, and the noise there. The errors that remain are coarse, at the frequencies that
    deconvolution amplifies, so the equivalent white noise is stronger than they are.
    """
    # JPEG removes more of the colour differences. The mean of the colours keeps more of the noise.
    grey = samples if samples.ndim == 2 else samples.sum(0) / sqrt(len(samples))
    remaining = max(estimate_noise(samples), estimate_noise(grey))
    noise = max(_COARSE * sqrt(error**2 + remaining**2), least)
    return noise, [
        f"deblur: the picture was compressed by JPEG; its errors and noise count as a standard deviation of {noise:.3g}."
    ]


def _coarse(samples: Tensor, kernel: Tensor, fine: float) -> tuple[float, list[str]]:
    """Return the noise, raised from the fine noise to that of coarser errors if the picture shows any."""
    certain, likely, most = unexplained(samples, kernel) or (0.0, 0.0, 0.0)
    if certain < _CERTAIN * fine and likely < _LIKELY * fine:
        return fine, []
    noise = max(_MORE * (most if likely >= _LIKELY * fine else min(most, _DOUBT * certain)), fine)
    return noise, [
        f"deblur: the frequencies that the blur removes show more noise than {fine:.3g}, as after compression or smoothing; a "
        f"standard deviation of {noise:.3g} was assumed."
    ]


def doubts(restored: Tensor, observed: Tensor, noise: float, axes: int) -> list[str]:
    """Return a warning if a result is far rougher than the observed picture, as it is if noise was restored as detail."""
    filled = observed.nan_to_num(float(observed.nanmean()))
    power = float(gradient(filled, axes).square().mean())
    explained = max(power - 2 * noise**2, _LEFT * power)  # each difference has the noise of two samples
    rough = sqrt(float(gradient(restored, axes).square().mean()) / explained) if explained else 0.0
    if rough <= _ROUGHEST:
        return []
    return [
        f"deblur: the result is {rough:.0f} times as rough as the observed picture without its noise. If it looks ruined, the "
        f"noise is stronger than {noise:.3g}, or the PSF is wrong. Pass a larger noise, or another PSF."
    ]
