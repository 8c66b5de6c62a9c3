"""The run of a restoration: every picture of a stack, part by part, and what is said of the result."""

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
        self, samples: Tensor, boundary: str, noise: float, light: float = 0.0, whole: Problem | None = None
    ) -> Problem:
        rest = (self.centre, boundary, noise, self.steps, self.strength, self.counts, self.factor, light, whole)
        return Problem(samples, self.kernel.to(samples), *rest)


def restored(
    given: Measured, settings: Settings, name: str, notes: Sequence[str], room: float, progress: Progress | None
) -> Restored:
    """Restore every picture of `given` within `room` bytes, and say how it came about; `notes` come before the run's own."""
    came, given = given, _without_missing(without_hidden(given), settings.missing)
    stacked = given.axes.count("N")
    lead, one = given.samples.shape[:stacked], given.samples.shape[stacked:]
    seen = list(given.samples.reshape(-1, *one))
    lights = [light_of(p, len(given.spatial), settings.exposure, settings.counts) for p in seen]
    units = [light for light, _ in lights]
    kernel = settings.kernel if settings.factor == 1 else None
    noises = [deviation_of(p, given, settings.noise, light.camera, kernel) for p, light in zip(seen, units, strict=True)]
    told = [*given.notes, *notes, *dict.fromkeys(note for _, found in (*lights, *noises) for note in found)]
    linear, why = taken_to_light(given, seen[0], settings.linear, settings.kernel, settings.centre, noises[0][0])
    units, told = [replace(light, linear=linear) for light in units], [*told, *why]
    pictures = [
        parts(light.of(p), settings.kernel.shape, name, room, settings.boundary) for p, light in zip(seen, units, strict=True)
    ]
    if name == "richardson-lucy":
        told += negative([(p.picture, light.beside) for p, light in zip(pictures, units, strict=True)])
    total = sum(len(picture) for picture in pictures)
    pace = Pace(progress, total, settings.steps, row(name).later)
    made, deviations, estimated = [], [], settings.noise == "estimate" and settings.factor == 1
    for p, light, (noise, doubt), samples in zip(pictures, units, noises, seen, strict=True):
        as_light = light.noise(1.0, samples)
        white = not doubt if estimated else None
        found, used = _settled(p, settings, light.beside, pace, noise * as_light, row(name).smooth_from, white)
        made.append(light.back(found))
        deviations.append(used / as_light)
        told += another(noise, deviations[-1]) if used != noise * as_light else []
    if name != "richardson-lucy" and settings.factor == 1:  # points of light, which that is for, are as rough as can be
        for restored, observed, noise in zip(made, seen, deviations, strict=True):
            told += [note for note in doubts(restored, observed, noise, len(given.spatial)) if note not in told]
    told += _hints(seen[len(seen) // 2], units[len(seen) // 2], settings, noises[len(seen) // 2][0])
    samples = (torch.stack(made) if len(made) > 1 else made[0]).reshape(*lead, *made[0].shape)
    if total > len(pictures):
        needed = forecast(given.spatial, settings.kernel.shape, name, one.numel() // prod(given.spatial))
        told.append(f"deblur: restored in {total} tiles; {needed:.3g} bytes were forecast for the whole.")
    shown, known = _shown(came, settings.factor)
    samples = put_back(samples, known, shown.alpha)
    deviation = sum(deviations) / len(deviations)
    told += cut(samples, given)
    rest = (tuple(told), shown.like(known), given.given, shown.metadata)
    return Restored(shown.like(samples), deviation, name, pace.made, pace.converged, *rest)


def _hints(samples: Tensor, light: Light, settings: Settings, noise: float) -> list[str]:
    """Say what PSF would fit better: of one picture of a stack, since they share it."""
    flat = settings.factor == 1 and settings.kernel.ndim == 2 and not settings.counts
    return psf_hints(light.of(samples), settings.kernel, light.noise(noise, samples)) if flat else []


def _without_missing(given: Measured, missing: Tensor | None) -> Measured:
    return given if missing is None else replace(given, samples=given.samples.masked_fill(missing, torch.nan))


def _settled(
    picture: Parts, settings: Settings, light: float, pace: Pace, noise: float, first: int | None, white: bool | None
) -> tuple[Tensor, float]:
    """Restore one picture with the noise that results show; of a large one its middle is tried.

    Args:
        white: white noise was found, and nothing else; None where the noise was not estimated.
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
    """Restore one picture, tile by tile; of a tile nothing is kept but its result."""
    pace.begin(len(picture))
    scale = _scale(picture.picture, settings)
    picture = replace(picture, picture=picture.picture / scale)
    one = partial(settings.problem, noise=noise / scale, light=light / scale)
    whole = one(picture.picture, settings.boundary) if len(picture) > 1 else None

    def restored() -> Iterator[Tensor]:
        for samples, boundary in picture:
            problem = one(samples, boundary, whole=whole)
            if not bool(problem.unseen.all()):
                yield problem.cut(pace.run(growth.watched(settings.method(problem), problem)))
            elif whole is None or bool(whole.unseen.all()):
                raise NonFinite("deblur: a picture of the stack has no observed sample. Leave it out.")
            else:  # such as under transparency
                pace.skip()
                yield torch.full_like(samples, float(whole.samples.nanmean()))

    return picture.joined(restored()) * scale


def _scale(picture: Tensor, settings: Settings) -> float:
    """Choose a power of two that brings the picture near 1, so that squares neither overflow nor underflow.

    Counts and strengths have a meaning at their own scale only, which stays.
    """
    largest = float(picture.nan_to_num(0.0).abs().max())
    if settings.counts or settings.strength is not None or largest == 0:
        return 1.0
    return 2.0 ** floor(log2(largest))


def _shown(came: Measured, factor: int) -> tuple[Measured, Tensor]:
    """Return what the result is to be like, and its samples before: without holes, on the result's grid."""
    known = torch.where(came.samples.isnan(), came.samples.nanmean(), came.samples)
    if factor == 1:
        return came, known
    known = _enlarged(known, factor)
    alpha = None if came.alpha is None else _enlarged(came.alpha, factor)
    return replace(came, samples=known, alpha=alpha, metadata=came.metadata.finer(factor)), known


def _enlarged(samples: Tensor, factor: int) -> Tensor:
    return samples.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
