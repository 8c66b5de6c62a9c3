"""Convert the samples of an exposure to the light of the object, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.camera import FEWEST, Camera, dark_level, estimate_camera
from unconv.inverse.fields.image.linear_light import Linear
from unconv.inverse.noise import estimate_noise
from unconv.pictures.measured import Measured

PHOTONS = Camera()
_PHOTONS = 0.25  # samples are photons if variance and level differ by at most this, in logarithms
# Points on darkness: least share of dark samples, and largest share of the squared mean in the mean square.
_MOSTLY, _SPARSE = 0.5, 0.15
# The assumed noise exceeds the root of its mean variance by up to this share, if the bright parts have twice the noise:
# with the mean alone a denoiser leaves their noise. Of the factors 1, 1.3, 1.6 and 2, the best were 1.3 and 1.6.
_MORE, _TWICE = 0.45, 4.0
_LIKELY = 2.5  # standard errors by which the noise of points must grow; for faint points most of it is read noise
_LIT = 0.2  # the light of points must add at least this share of the noise's variance
_FEW = 0.1  # a difference of so many counts does not matter
_BRIGHT = 0.999  # quantile of the brightest light
_LEVELS = (0.05, 0.5, 0.95, 0.999)  # quantiles at which variance and level are compared


@dataclass(frozen=True)
class Exposure:
    """The caller's numbers for an exposure.

    Attributes:
        gain, offset, read_noise: see `Camera`; None to estimate them.
        background: light that was not blurred, in the picture's units; or "estimate".
    """

    gain: float | None = None
    offset: float | None = None
    read_noise: float | None = None
    background: float | str = 0.0

    @property
    def counted(self) -> bool:
        """True if the caller passed a number of the camera, so that the samples are counts."""
        return any(number is not None for number in (self.gain, self.offset, self.read_noise))


PLAIN = Exposure()


@dataclass(frozen=True)
class Light:
    """The units in which a picture is restored: electrons above offset and background, or the linear light of a photograph.

    Attributes:
        camera: with a gain of 1 and zeros, if the samples are not counts.
        background: in the picture's units.
        floor: light that the object has everywhere, in the picture's units. The estimate is then at least as bright, which is
            a stronger constraint than to be positive.
        linear: the conversion of a photograph's samples to linear light; None if the samples are light already.
    """

    camera: Camera = PHOTONS
    background: float = 0.0
    floor: float = 0.0
    linear: Linear | None = None

    @property
    def beside(self) -> float:
        """Electrons that are subtracted but whose noise stays: background, floor and read noise (shifted Poisson)."""
        return (self.background + self.floor) / self.camera.gain + self.camera.read_noise**2

    def of(self, samples: Tensor) -> Tensor:
        """Convert samples to the light of the object."""
        if self == _NONE:
            return samples
        if self.linear is not None:
            return self.linear.light(samples)
        return self.camera.electrons(samples - self.background - self.floor)

    def back(self, light: Tensor) -> Tensor:
        """Convert light to samples, with the offset but without the background."""
        if self.linear is not None:
            return self.linear.samples(light)
        return light if self == _NONE else self.camera.counts(light) + self.floor

    def noise(self, noise: float, samples: Tensor) -> float:
        """Convert a standard deviation of the samples' noise to these units; for counts it has them already."""
        return noise if self.linear is None else self.linear.noise(noise, samples)


_NONE = Light()


def check_exposure(exposure: Exposure, noise: str | float) -> None:
    """Refuse impossible numbers for a camera, and a camera together with a constant noise.

    Raises:
        DtypeError, ShapeError: the message names the argument.
    """
    least = {"gain": 0.0, "offset": -inf, "read_noise": 0.0, "background": -inf}
    for name, low in least.items():
        value = getattr(exposure, name)
        if value is None or (name == "background" and value == "estimate"):
            continue
        if isinstance(value, bool | str) or not isinstance(value, int | float | np.number):
            words = " or 'estimate'" if name == "background" else ""
            raise DtypeError(f"deblur: {name} is {value!r}, but a number{words} was needed.")
        if not low <= value < inf or (name == "gain" and not value > 0) or value == -inf:
            wanted = "finite number" if low else f"number {'above' if name == 'gain' else 'of at least'} 0"
            raise ShapeError(f"deblur: {name} is {value}, but a {wanted} was needed.")
    if exposure.counted and not isinstance(noise, str):
        raise ShapeError(
            f"deblur: noise is {noise}, equal everywhere, but with a camera's gain, offset or read noise it must grow with the "
            "light. Leave the noise out, or pass noise='poisson'; or leave the camera out."
        )


def light_of(samples: Tensor, axes: int, exposure: Exposure, counts: bool) -> tuple[Light, list[str]]:
    """Return the units in which one picture is restored, and notes on them.

    Args:
        samples: of the one picture.
        counts: its noise is that of counts.
    """
    camera, notes = _camera(samples, axes, exposure) if counts else (PHOTONS, [])
    dark = None
    if counts or exposure.background == "estimate":
        dark = dark_level(samples, axes, camera.variance if counts else estimate_noise(samples, axes) ** 2)
    if not isinstance(exposure.background, str):
        background = float(exposure.background)
        above = 0.0 if dark is None or not counts else max(dark - camera.offset - background, 0.0)
        return Light(camera, background, above), notes
    if dark is None:
        return Light(camera), [*notes, "deblur: the picture has no dark part; a background of 0 was assumed."]
    background = dark - camera.offset
    return Light(camera, background), [*notes, f"deblur: a background of {background:.4g} was estimated and subtracted."]


def _camera(samples: Tensor, axes: int, exposure: Exposure) -> tuple[Camera, list[str]]:
    """Return the caller's camera with the missing numbers estimated; photons if none can be."""
    numbers = {"gain": exposure.gain, "offset": exposure.offset, "read_noise": exposure.read_noise}
    if exposure.background == "estimate" and exposure.offset is None:
        numbers["offset"] = 0.0  # offset and background cannot be separated: count all of it as background
    known = {name: float(number) for name, number in numbers.items() if number is not None}
    if len(known) == 3:
        return Camera(**known), []
    if min(samples.shape[-axes:]) < FEWEST:
        return Camera(**known), []
    camera = estimate_camera(samples, axes, **known)
    if camera is None:
        return _without_growth(samples, axes, known)
    if not known and _are_photons(samples, camera):
        return PHOTONS, []
    return camera, [f"deblur: the camera was estimated: {camera}."]


def _without_growth(samples: Tensor, axes: int, known: dict[str, float]) -> tuple[Camera, list[str]]:
    """Return a camera whose read noise is all of the noise; photons if their noise would be as strong."""
    reason = "deblur: the noise does not grow with the light, as that of counts would; "
    observed = samples[~samples.isnan()].double()
    few = observed[:: max(len(observed) // 2**20, 1)]
    level, bright = torch.quantile(few, few.new_tensor([0.5, _BRIGHT])).tolist()
    variance = max(estimate_noise(samples, axes) ** 2, 1e-6 * float(few.square().mean()))
    offset = known.get("offset")
    if "gain" in known or (offset is None and level > 0 and abs(log(variance / level)) < _PHOTONS):
        return Camera(**known), [reason + "the samples were treated as photons."]
    if offset is None:
        dark = dark_level(samples, axes, variance)
        offset = float(few.min()) if dark is None else dark
    read_noise = known.get("read_noise")
    # The gain at which the brightest light would double the variance. With a larger gain the growth would show.
    gain = sqrt(variance) / read_noise if read_noise else variance / max(bright - offset, sqrt(variance))
    camera = Camera(gain, offset, sqrt(variance) / gain)
    return camera, [f"{reason}a standard deviation of {sqrt(variance):.3g} was estimated, mostly read noise."]


def _are_photons(samples: Tensor, camera: Camera) -> bool:
    """Return whether the variance of the samples equals their level, as it does for photons."""
    observed = samples[~samples.isnan()].double()
    few = observed[:: max(len(observed) // 2**20, 1)]
    levels = torch.quantile(few, few.new_tensor(_LEVELS)).tolist()
    above = [max(level, camera.offset) for level in levels]  # single samples may lie below the offset by noise
    pairs = [(float(camera.variance(level)) + _FEW, level + _FEW) for level in above]
    return all(level > 0 and abs(log(variance / level)) < _PHOTONS for variance, level in pairs)


def shows_points(samples: Tensor, axes: int) -> bool:
    """Return whether a picture shows points of light on darkness, such as stars, with the noise of counts."""
    camera = estimate_camera(samples, axes, sure=_LIKELY) if min(samples.shape[-axes:]) >= FEWEST else None
    dark = None if camera is None else dark_level(samples, axes, camera.variance)
    if camera is None or dark is None:
        return False
    light = samples[~samples.isnan()].double() - dark
    variance = float(camera.variance(dark))
    dark_enough = float((light < 4 * sqrt(variance)).double().mean()) > _MOSTLY
    power = float(light.square().mean()) - variance  # of the light alone
    return dark_enough and power > _LIT * variance and float(light.mean()) ** 2 < _SPARSE * power


def shot_noise(samples: Tensor, axes: int) -> tuple[float, list[str]] | None:
    """Return one standard deviation for noise that grows with the light, and a note; None if the noise does not grow."""
    camera = estimate_camera(samples, axes) if min(samples.shape[-axes:]) >= FEWEST else None
    if camera is None:
        return None
    variances = camera.variance(samples[~samples.isnan()].double())
    assert isinstance(variances, Tensor)
    few = variances[:: max(len(variances) // 2**20, 1)]
    low, high = torch.quantile(few, few.new_tensor([0.05, 0.95])).tolist()
    growth = min(log(high / max(low, 1e-3 * high)) / log(_TWICE), 1.0) if high > 0 else 0.0
    deviation = (1 + _MORE * growth) * sqrt(float(few.mean()))
    return deviation, [
        f"deblur: the noise grows with the light ({camera}); a standard deviation of {deviation:.3g} was assumed for it."
    ]


def negative(pictures: Sequence[tuple[Tensor, float]]) -> list[str]:
    """Return a note on negative samples, which counts cannot be.

    Args:
        pictures: pairs of samples and the light that was subtracted from them.

    Raises:
        ShapeError: no sample is positive.
    """
    count = sum(int((samples + beside < 0).sum()) for samples, beside in pictures)
    if count and not any(bool((samples + beside > 0).any()) for samples, beside in pictures):
        raise ShapeError("deblur: no sample is above zero, but method 'richardson-lucy' needs counts. Use another method.")
    words = "1 sample below zero was" if count == 1 else f"{count} samples below zero were"
    return [f"deblur: {words} set to zero, because counts are not negative."] if count else []


def cut(samples: Tensor, picture: Measured) -> list[str]:
    """Return a note on samples of a result that lie outside the range of its type, by more than rounding, and are clipped."""
    bounds = picture.bounds
    if bounds is None:
        return []
    low, high = (int(beyond.sum()) for beyond in (samples < bounds[0] - 0.5, samples > bounds[1] + 0.5))
    if not low + high:
        return []
    return [
        f"deblur: {low + high} of {samples.numel()} samples {'was' if low + high == 1 else 'were'} clipped to the range of "
        f"{picture.dtype}, {low} below it and {high} above. If you need sums, such as fluxes, pass floats."
    ]
