"""How a picture was exposed: what takes its samples to the light of the object, and back."""

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
_PHOTONS = 0.25  # logarithm of the factor between variance and level below which samples are taken for photons
_MOSTLY, _SPARSE = 0.5, 0.15  # share that is dark, and of the squared mean in the mean square, of points on darkness
# What the noise is taken for, over the root of its mean variance and one, where it is twice as strong or more in bright parts:
# told that mean, a denoiser leaves their noise. Of 1, 1.3, 1.6 and 2, the best were 1.3 and 1.6.
_MORE, _TWICE = 0.45, 4.0
_LIKELY = 2.5  # standard errors by which the noise of points must grow: reading adds most to that of faint ones
_LIT = 0.2  # of the noise's variance, that the light of points adds at least
_FEW = 0.1  # counts that do not matter
_BRIGHT = 0.999  # quantile that is the brightest light
_LEVELS = (0.05, 0.5, 0.95, 0.999)  # quantiles at which the two are compared


@dataclass(frozen=True)
class Exposure:
    """What a caller says of an exposure.

    Attributes:
        gain, offset, read_noise: see `Camera`; None to have them estimated.
        background: light that was not blurred, in the picture's units; or "estimate".
    """

    gain: float | None = None
    offset: float | None = None
    read_noise: float | None = None
    background: float | str = 0.0

    @property
    def said(self) -> bool:
        """The camera was spoken of, so that the samples are counts."""
        return any(number is not None for number in (self.gain, self.offset, self.read_noise))


PLAIN = Exposure()


@dataclass(frozen=True)
class Light:
    """The units that a picture is restored in: electrons above its offset and its background, or a photograph's light.

    Attributes:
        camera: all zero but a gain of one where the samples are no counts.
        background: in the picture's units.
        floor: light of the object that is everywhere, in the picture's units. The object is at least as bright: more is
            asked of it than to be positive, and more light kept around what is bright.
        linear: takes a photograph's samples to light; None where they are taken for light.
    """

    camera: Camera = PHOTONS
    background: float = 0.0
    floor: float = 0.0
    linear: Linear | None = None

    @property
    def beside(self) -> float:
        """Electrons that are left out and whose noise is there: background, floor, and reading's (shifted Poisson)."""
        return (self.background + self.floor) / self.camera.gain + self.camera.read_noise**2

    def of(self, samples: Tensor) -> Tensor:
        """Return samples as light of the object."""
        if self == _NONE:
            return samples
        if self.linear is not None:
            return self.linear.light(samples)
        return self.camera.electrons(samples - self.background - self.floor)

    def back(self, light: Tensor) -> Tensor:
        """Return light as samples; the offset is in them again, the background is not."""
        if self.linear is not None:
            return self.linear.samples(light)
        return light if self == _NONE else self.camera.counts(light) + self.floor

    def noise(self, noise: float, samples: Tensor) -> float:
        """Return the standard deviation of samples' noise in these units; of counts it is in them already."""
        return noise if self.linear is None else self.linear.noise(noise, samples)


_NONE = Light()


def check_exposure(exposure: Exposure, noise: str | float) -> None:
    """Refuse numbers that no camera has, and a camera for noise of one strength.

    Raises:
        DtypeError, ShapeError: the argument is named.
    """
    least = {"gain": 0.0, "offset": -inf, "read_noise": 0.0, "background": -inf}
    for name, low in least.items():
        given = getattr(exposure, name)
        if given is None or (name == "background" and given == "estimate"):
            continue
        if isinstance(given, bool | str) or not isinstance(given, int | float | np.number):
            words = ", or 'estimate'," if name == "background" else ""
            raise DtypeError(f"deblur: {name} is {given!r}, but a number{words} was needed.")
        if not low <= given < inf or (name == "gain" and not given > 0) or given == -inf:
            raise ShapeError(
                f"deblur: {name} is {given}, but a number {'above' if name == 'gain' else 'of at least'} 0 was needed."
            )
    if exposure.said and not isinstance(noise, str):
        raise ShapeError(
            f"deblur: noise is {noise}, one strength everywhere, and came with a camera's gain, offset or read noise. Leave "
            "the noise out, or pass noise='poisson', for counts; or leave the camera out."
        )


def light_of(samples: Tensor, axes: int, exposure: Exposure, counts: bool) -> tuple[Light, list[str]]:
    """Return the units of one picture, and what is to be said of them.

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
        return Light(camera), [*notes, "deblur: no part of the picture is dark; a background of 0 was taken."]
    background = dark - camera.offset
    return Light(camera, background), [*notes, f"deblur: a background of {background:.4g} was estimated and taken away."]


def _camera(samples: Tensor, axes: int, exposure: Exposure) -> tuple[Camera, list[str]]:
    """Return the camera that was said, with what is missing estimated; photons where nothing can be."""
    said = {"gain": exposure.gain, "offset": exposure.offset, "read_noise": exposure.read_noise}
    if exposure.background == "estimate" and exposure.offset is None:
        said["offset"] = 0.0  # all that is everywhere is background then
    known = {name: float(number) for name, number in said.items() if number is not None}
    if len(known) == 3:
        return Camera(**known), []
    if min(samples.shape[-axes:]) < FEWEST:
        return Camera(**known), []
    found = estimate_camera(samples, axes, **known)
    if found is None:
        return _without_growth(samples, axes, known)
    if not known and _are_photons(samples, found):
        return PHOTONS, []
    return found, [f"deblur: estimated of the camera: {found}."]


def _without_growth(samples: Tensor, axes: int, known: dict[str, float]) -> tuple[Camera, list[str]]:
    """Return a camera whose reading makes the noise there is; photons where their noise is as strong as that."""
    why = "deblur: the noise does not grow with the light as that of counts does; "
    seen = samples[~samples.isnan()].double()
    few = seen[:: max(len(seen) // 2**20, 1)]
    level, bright = torch.quantile(few, few.new_tensor([0.5, _BRIGHT])).tolist()
    variance = max(estimate_noise(samples, axes) ** 2, 1e-6 * float(few.square().mean()))
    offset = known.get("offset")
    if "gain" in known or (offset is None and level > 0 and abs(log(variance / level)) < _PHOTONS):
        return Camera(**known), [why + "they were taken for photons."]
    if offset is None:
        dark = dark_level(samples, axes, variance)
        offset = float(few.min()) if dark is None else dark
    read_noise = known.get("read_noise")
    # Light that doubles the noise's variance where it is brightest: more would have been seen.
    gain = sqrt(variance) / read_noise if read_noise else variance / max(bright - offset, sqrt(variance))
    camera = Camera(gain, offset, sqrt(variance) / gain)
    return camera, [f"{why}a standard deviation of {sqrt(variance):.3g} was estimated, most of it of reading."]


def _are_photons(samples: Tensor, camera: Camera) -> bool:
    """Tell whether the variance of samples is their level."""
    seen = samples[~samples.isnan()].double()
    few = seen[:: max(len(seen) // 2**20, 1)]
    levels = torch.quantile(few, few.new_tensor(_LEVELS)).tolist()
    above = [max(level, camera.offset) for level in levels]  # of single samples, below which is only noise
    pairs = [(float(camera.variance(level)) + _FEW, level + _FEW) for level in above]
    return all(level > 0 and abs(log(variance / level)) < _PHOTONS for variance, level in pairs)


def shows_points(samples: Tensor, axes: int) -> bool:
    """Tell whether a picture shows points of light on darkness, stars or spots, with the noise of counts."""
    camera = estimate_camera(samples, axes, sure=_LIKELY) if min(samples.shape[-axes:]) >= FEWEST else None
    dark = None if camera is None else dark_level(samples, axes, camera.variance)
    if camera is None or dark is None:
        return False
    light = samples[~samples.isnan()].double() - dark
    variance = float(camera.variance(dark))
    is_dark = float((light < 4 * sqrt(variance)).double().mean()) > _MOSTLY
    power = float(light.square().mean()) - variance  # of the light alone
    return is_dark and power > _LIT * variance and float(light.mean()) ** 2 < _SPARSE * power


def shot_noise(samples: Tensor, axes: int) -> tuple[float, list[str]] | None:
    """Return the one deviation that stands for noise that grows with the light, and what is to be said of it; else None."""
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
        f"deblur: the noise grows with the light ({camera}); a standard deviation of {deviation:.3g} stands for it."
    ]


def negative(pictures: Sequence[tuple[Tensor, float]]) -> list[str]:
    """Note negative samples, which no count can be; `pictures`: samples, and the light that was beside them.

    Raises:
        ShapeError: there is nothing else.
    """
    count = sum(int((samples + beside < 0).sum()) for samples, beside in pictures)
    if count and not any(bool((samples + beside > 0).any()) for samples, beside in pictures):
        raise ShapeError("deblur: no sample is above zero, and 'richardson-lucy' is for counts. Use another method.")
    return [f"deblur: {count} samples below zero were taken for zero, as counts are."] if count else []


def cut(samples: Tensor, given: Measured) -> list[str]:
    """Note how many samples of a result lie outside its type's range, by more than rounding, and are cut off."""
    bounds = given.bounds
    if bounds is None:
        return []
    low, high = (int(beyond.sum()) for beyond in (samples < bounds[0] - 0.5, samples > bounds[1] + 0.5))
    if not low + high:
        return []
    return [
        f"deblur: {low + high} of {samples.numel()} samples were cut to the range of {given.dtype}, {low} below it and {high} "
        "above; for sums, such as fluxes, pass floats."
    ]
