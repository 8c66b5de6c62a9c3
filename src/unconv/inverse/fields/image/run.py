"""Run a restoration: every picture of a stack, tile by tile, with notes on the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import floor, log2, prod

import torch
from torch import Tensor

from unconv.errors import NonFinite
from unconv.inverse.fields.image.deviation import deviation_of, doubts
from unconv.inverse.fields.image.exposure import PLAIN, Exposure, Light, cut, light_of, negative
from unconv.inverse.fields.image.fit import psf_hints
from unconv.inverse.fields.image.linear_light import taken_to_light
from unconv.inverse.fields.image.pace import Pace
from unconv.inverse.fields.image.problem import Method, Problem
from unconv.inverse.fields.image.restored import Restored
from unconv.inverse.fields.image.settling import Estimated, Growth, another, settled
from unconv.inverse.fields.image.table import row
from unconv.inverse.fields.image.tiles import Parts, forecast, middle, parts
from unconv.inverse.fields.image.transparency import put_back, without_hidden
from unconv.pictures.measured import Measured
from unconv.progress import Progress


@dataclass(frozen=True)
class Settings:
    """The settings that all pictures of a stack and all tiles share."""

    kernel: Tensor
    centre: tuple[int, ...] | None
    boundary: str
    noise: str | float
    strength: float | None
    steps: int
    method: Method
    factor: int = 1
    exposure: Exposure = PLAIN
    missing: Tensor | None = None
    linear: bool | str = False

    @property
    def counts(self) -> bool:
        return self.noise == "poisson"

    def problem(
        self, samples: Tensor, boundary: str, noise: float, light: float = 0.0, entire: Problem | None = None
    ) -> Problem:
        rest = (self.centre, boundary, noise, self.steps, self.strength, self.counts, self.factor, light, entire)
        return Problem(samples, self.kernel.to(samples), *rest)


def restored(
    original: Measured, settings: Settings, name: str, notes: Sequence[str], room: float, progress: Progress | None
) -> Restored:
    """Restore every picture of `original` within `room` bytes; the result has `notes` before the notes of the run."""
    stack = _without_missing(without_hidden(original), settings.missing)
    stacked = stack.axes.count("N")
    lead, one = stack.samples.shape[:stacked], stack.samples.shape[stacked:]
    pictures = list(stack.samples.reshape(-1, *one))
    exposures = [light_of(p, len(stack.spatial), settings.exposure, settings.counts) for p in pictures]
    lights = [light for light, _ in exposures]
    kernel = settings.kernel if settings.factor == 1 else None
    noises = [deviation_of(p, stack, settings.noise, light.camera, kernel) for p, light in zip(pictures, lights, strict=True)]
    messages = [*stack.notes, *notes, *dict.fromkeys(note for _, some in (*exposures, *noises) for note in some)]
    # Light follows the noise: whether the blur was linear is decided by fits, which need it.
    linear, words = taken_to_light(stack, pictures[0], settings.linear, settings.kernel, settings.centre, noises[0][0])
    lights, messages = [replace(light, linear=linear) for light in lights], [*messages, *words]
    size = settings.kernel.shape
    tiled = [parts(light.of(p), size, name, room, settings.boundary) for p, light in zip(pictures, lights, strict=True)]
    if name == "richardson-lucy":
        messages += negative([(p.picture, light.beside) for p, light in zip(tiled, lights, strict=True)])
    total = sum(len(tiles) for tiles in tiled)
    pace = Pace(progress, total, settings.steps, row(name).later)
    results, deviations, estimated = [], [], settings.noise == "estimate" and settings.factor == 1
    for tiles, light, (noise, doubt), samples in zip(tiled, lights, noises, pictures, strict=True):
        as_light = light.noise(1.0, samples)
        white = not doubt if estimated else None
        result, used = _settled(tiles, settings, light.beside, pace, noise * as_light, row(name).smooth_from, white)
        results.append(light.back(result))
        deviations.append(used / as_light)
        messages += another(noise, deviations[-1]) if used != noise * as_light else []
    if name != "richardson-lucy" and settings.factor == 1:  # its points of light are as rough as can be
        for result, observed, noise in zip(results, pictures, deviations, strict=True):
            messages += [note for note in doubts(result, observed, noise, len(stack.spatial)) if note not in messages]
    messages += _hints(pictures[len(pictures) // 2], lights[len(pictures) // 2], settings, noises[len(pictures) // 2][0])
    samples = (torch.stack(results) if len(results) > 1 else results[0]).reshape(*lead, *results[0].shape)
    if total > len(tiled):
        needed = forecast(stack.spatial, size, name, one.numel() // prod(stack.spatial))
        messages.append(f"deblur: restored in {total} tiles, because the forecast for one piece is {needed:.3g} bytes.")
    shown, filled = _shown(original, settings.factor)
    samples = put_back(samples, filled, shown.alpha)
    deviation = sum(deviations) / len(deviations)
    messages += cut(samples, stack)
    rest = (tuple(messages), shown.like(filled), stack.given, shown.metadata)
    return Restored(shown.like(samples), deviation, name, pace.steps, pace.converged, *rest)


def _hints(samples: Tensor, light: Light, settings: Settings, noise: float) -> list[str]:
    """Return hints on the PSF from one picture of a stack, because all pictures share it."""
    flat = settings.factor == 1 and settings.kernel.ndim == 2 and not settings.counts
    return psf_hints(light.of(samples), settings.kernel, light.noise(noise, samples)) if flat else []


def _without_missing(stack: Measured, missing: Tensor | None) -> Measured:
    return stack if missing is None else replace(stack, samples=stack.samples.masked_fill(missing, torch.nan))


def _settled(
    picture: Parts, settings: Settings, light: float, pace: Pace, noise: float, first: int | None, white: bool | None
) -> tuple[Tensor, float]:
    """Restore one picture, with its noise corrected by trial results; a large picture is tried on its middle only.

    Args:
        white: the estimate found only white noise; None if the noise was not estimated.
    """
    restore = partial(_picture, picture, settings, light, pace)
    if white is None or first is None:
        return settled(restore, noise, first)
    part = middle(picture)
    if part is None:
        return settled(restore, noise, first, Estimated(picture.picture, white))
    trial = partial(_picture, part, settings, light, Pace(None, 1, settings.steps))
    return settled(restore, noise, first, Estimated(part.picture, white), trial)


def _picture(picture: Parts, settings: Settings, light: float, pace: Pace, noise: float, growth: Growth) -> Tensor:
    """Restore one picture tile by tile; only the results of the tiles stay in memory."""
    pace.begin(len(picture))
    scale = _scale(picture.picture, settings)
    picture = replace(picture, picture=picture.picture / scale)
    one = partial(settings.problem, noise=noise / scale, light=light / scale)
    entire = one(picture.picture, settings.boundary) if len(picture) > 1 else None

    def restored() -> Iterator[Tensor]:
        for samples, boundary in picture:
            problem = one(samples, boundary, entire=entire)
            if not bool(problem.missing.all()):
                yield problem.cut(pace.run(growth.watched(settings.method(problem), problem)))
            elif entire is None or bool(entire.missing.all()):
                raise NonFinite("deblur: all samples of a picture of the stack are missing, but some are needed. Leave it out.")
            else:  # a tile without any observed sample, such as a transparent one
                pace.skip()
                yield torch.full_like(samples, float(entire.samples.nanmean()))

    return picture.joined(restored()) * scale


def _scale(picture: Tensor, settings: Settings) -> float:
    """Return a power of two that brings the picture near 1, so that squares neither overflow nor underflow.

    For counts, and with the caller's strength, it is 1, because those have a meaning only at their own scale.
    """
    largest = float(picture.nan_to_num(0.0).abs().max())
    if settings.counts or settings.strength is not None or largest == 0:
        return 1.0
    return 2.0 ** floor(log2(largest))


def _shown(original: Measured, factor: int) -> tuple[Measured, Tensor]:
    """Return the original and its samples on the grid of the result, with missing samples filled by the mean."""
    filled = torch.where(original.samples.isnan(), original.samples.nanmean(), original.samples)
    if factor == 1:
        return original, filled
    filled = _enlarged(filled, factor)
    alpha = None if original.alpha is None else _enlarged(original.alpha, factor)
    return replace(original, samples=filled, alpha=alpha, metadata=original.metadata.finer(factor)), filled


def _enlarged(samples: Tensor, factor: int) -> Tensor:
    return samples.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
