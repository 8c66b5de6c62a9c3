"""Image restoration: a picture without its blur, its unknown boundary and its noise taken into account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import floor, log2, prod
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, nearest
from unconv.inverse.fields.image.methods import METHODS, MOST, STEPS, Method, Problem, plug_and_play
from unconv.inverse.fields.image.tiles import Parts, forecast, limit, parts
from unconv.inverse.noise import estimate_noise
from unconv.inverse.operators.convolution import BOUNDARIES
from unconv.inverse.psf.files import open_psf
from unconv.inverse.solvers.hqs import Denoiser
from unconv.inverse.solvers.iterate import Iterate, finite
from unconv.pictures.decode import Source
from unconv.pictures.draw import picture_of, png
from unconv.pictures.measured import Measured, measured
from unconv.pictures.measured import save as save_picture

Progress = Callable[[str, int, int], None]
Psf = str | Path | np.ndarray[Any, Any] | Tensor

_QUANTISED = 12**-0.5  # standard deviation of rounding to whole numbers
_ROUNDED, _NOTHING = 1e-6, 1e-15  # least noise, as a share of the brightest sample; and of a picture that is black
_CLEAN = 1e-4  # least noise, in standard deviations of the picture: less cannot be told from none in float32


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored picture, and how it came about.

    Attributes:
        picture: the same kind, shape and type as given: a tensor, an array (also for a file) or a PIL picture.
        noise: the standard deviation that was taken away, in the picture's own units; of a stack the mean of its
            pictures'.
        method: which was used.
        steps: how many were made, at most over the pictures of a stack and over tiles.
        converged: every part met its solver's rule for stopping; of plug-and-play, that its schedule came to its end.
        notes: what was odd about the input, and what was done about it.
        observed: what came, in the same kind.
        axes: what the axes of both are: see `unconv.measured.measured`.
    """

    picture: Any
    noise: float
    method: str
    steps: int
    converged: bool
    notes: tuple[str, ...] = ()
    observed: Any = field(default=None, repr=False)
    axes: str = "HW"

    def save(self, path: str | Path) -> None:
        """Write the picture, whole or not at all, at its own depth: PNG for 8 and 16 bits, TIFF or .npy for all."""
        save_picture(self.picture, path, axes=self.axes)

    def comparison(self) -> Image.Image:
        """Before and after, side by side, at 8 bits: of a stack the first picture, of a volume the middle slice."""
        before, after = (_shown(picture, self.axes) for picture in (self.observed, self.picture))
        height = before.shape[-2]
        low, high = np.quantile(before.numpy(), [0.001, 0.999])
        both = torch.cat([before, torch.full((*before.shape[:-2], height, 4), float(high)), after], -1)
        return picture_of((both - low) / max(float(high - low), 1e-12))

    def _repr_png_(self) -> bytes:
        return png(self.comparison())


def deblur(
    picture: Source,
    psf: Psf,
    noise: str | float = "estimate",
    boundary: str = "unknown",
    method: str | Denoiser = "auto",
    *,
    axes: str | None = None,
    centre: tuple[int, ...] | None = None,
    steps: int | None = None,
    strength: float | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Restored:
    """The picture without the blur of `psf`.

    NaN samples count as not observed, with the other colours of the pixel, and are filled in. Colours share the PSF and
    are restored together. A stack's
    pictures are restored one by one; with a PSF of three axes the picture is one volume.

    Args:
        picture: a file, a PIL picture, an array or a tensor: (H, W), (H, W, 3), a stack or a volume, of any depth; see
            `unconv.measured.measured`, and `axes` there.
        psf: (h, w) or (d, h, w), odd or even, or a file (.npy, .png, .tif, .mat, .csv); divided by its sum. Makers are
            in `unconv.inverse.psf`.
        noise: its standard deviation in the picture's own units; "estimate"; or "poisson" for counts.
        boundary: what lies around the picture. "unknown": nothing is assumed, as for all real pictures. "circular": it
            goes round, as in most published benchmarks. "zero": black. "reflect": mirrored.
        method: "similar" (plug-and-play with groups of similar blocks), "dct" (the same with a sliding DCT frame),
            "tv" (total variation), "wavelet" (sparse wavelets; needs PyWavelets, the extra `image`), "tikhonov", "wiener",
            "richardson-lucy" (counts); or a denoiser of yours, `denoiser(x, deviation)`, x (H, W) or (3, H, W), longer
            than the picture where its boundary is unknown. "tv" and "wiener" take no boundary "zero" or "reflect".
            "auto" is "similar", for a volume "tv", for counts "richardson-lucy".
        centre: the PSF's index that stands on the sample itself; without it the middle, size // 2.
        steps: of the method, at most.
        strength: of the regularisation of "tv", "wavelet" and "tikhonov", instead of the one that the noise asks for.
        memory: bytes that may be used; half of the machine's, or of what is free on
            the GPU, without it. A picture for which more is forecast is
            restored in overlapping tiles, each with its unknown boundary, and blended.
        progress: called with what is being done, how many steps are done and how many there are at most.

    Raises:
        ShapeError: axes that do not fit, a PSF larger than the picture, an unknown method or boundary.
        NonFinite: no observed sample, or a result that is not finite.
        PictureError: a file that is absent, damaged or of an unknown kind; infinite samples.
        DtypeError: settings of a wrong kind.

    Example:
        >>> from unconv.inverse.psf import makers as psf
        >>> blurred = np.tile(np.repeat([20.0, 200.0], 32), (64, 1))
        >>> restored = deblur(blurred, psf.gaussian(1.5), noise=2)
        >>> restored.picture.shape, restored.method
        ((64, 64), 'similar')
    """
    kernel, notes = open_psf(psf)
    given = _given(picture, kernel, axes)
    _check(given, kernel, boundary)
    _positive(steps, strength)
    name, chosen = _method(method, noise, kernel.ndim, strength)
    middle = None if centre is None else _whole("centre", centre, kernel.ndim)
    ready = _Ready(kernel, middle, boundary, noise, strength, steps, chosen)
    return _restored(given, ready, name, notes, limit(memory, given.samples.device), progress)


def super_resolve(
    picture: Source,
    factor: int,
    psf: Psf | None = None,
    noise: str | float = "estimate",
    method: str | Denoiser = "auto",
    *,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Restored:
    """The picture on a grid `factor` times as fine: deblurred, and the samples between estimated with the rest.

    Each coarse sample is taken for the `psf`-weighted mean of the fine ones around its middle. Without a PSF it is the
    mean of the factor × factor fine ones that it covers.

    Args:
        factor: a whole number, at least 2.
        psf: on the fine grid.

    Returns:
        As `deblur`; the picture is `factor` times as high and wide. `observed` is enlarged by repeating samples.

    Raises:
        ShapeError: as `deblur`, or a factor below 2.
    """
    try:
        times = index(factor)
    except TypeError:
        raise DtypeError(f"super_resolve: factor is {factor!r}, but a whole number of at least 2 was needed.") from None
    if times < 2:
        raise ShapeError(f"super_resolve: factor is {factor}, but a whole number of at least 2 was needed. Use deblur instead.")
    kernel, notes = open_psf(torch.full((times, times), times**-2.0) if psf is None else psf, 2)
    given = measured(picture)
    _check(given, kernel, "unknown")
    _positive(steps)
    name, chosen = _method(method, noise, 2, None)
    ready = _Ready(kernel, None, "unknown", noise, None, steps, chosen, times)
    return _restored(given, ready, name, notes, float("inf"), progress)


@dataclass(frozen=True)
class _Ready:
    """What is the same for all pictures of a stack and all tiles."""

    kernel: Tensor
    centre: tuple[int, ...] | None
    boundary: str
    noise: str | float
    strength: float | None
    steps: int | None
    method: Method
    factor: int = 1

    def problem(self, samples: Tensor, boundary: str, noise: float) -> Problem:
        counts = self.noise == "poisson"
        settings = (self.centre, boundary, noise, self.strength, self.steps, counts, self.factor)
        return Problem(samples, self.kernel.to(samples), *settings)


def _given(picture: Source, kernel: Tensor, axes: str | None) -> Measured:
    given = measured(picture, axes=axes)
    if axes is None and kernel.ndim == 3 and given.axes == "NHW":
        given = measured(picture, axes="DHW")
    return given


def _check(given: Measured, kernel: Tensor, boundary: str) -> None:
    size, spatial = tuple(kernel.shape), given.spatial
    if kernel.ndim != len(spatial):
        raise ShapeError(
            f"deblur: the PSF is {size} and the picture {tuple(given.samples.shape)} ({given.axes}); a PSF of "
            f"{len(spatial)} axes was needed. Pass axes='DHW' for a volume, or a plane of the PSF for a picture."
        )
    if any(k > n for k, n in zip(size, spatial, strict=True)):
        raise ShapeError(
            f"deblur: the PSF is {size}, larger than the picture, {spatial}; every sample would depend on what was not seen. "
            "Crop the PSF to where it is not zero."
        )
    if boundary not in BOUNDARIES:
        raise ShapeError(f"deblur: there is no boundary {boundary!r}. Nearest: {nearest(str(boundary), BOUNDARIES)}.")
    if bool(given.samples.isnan().all()):
        raise NonFinite("deblur: every sample of the picture is NaN; at least some must be observed.")


def _positive(steps: int | None, strength: float | None = None) -> None:
    for what, given, kinds in (("steps", steps, int), ("strength", strength, int | float | np.number)):
        if given is not None and (not isinstance(given, kinds) or isinstance(given, bool)):
            raise DtypeError(f"deblur: {what} is {given!r}, but a number was needed, of steps a whole one.")
    if steps is not None and steps < 1:
        raise ShapeError(f"deblur: steps is {steps}; it must be at least 1.")
    if strength is not None and not strength > 0:
        raise ShapeError(f"deblur: strength is {strength}; it must be positive. Leave it out to have it chosen by the noise.")


def _whole(what: str, numbers: Any, count: int) -> tuple[int, ...]:
    """Whole numbers, of whatever type."""
    try:
        found = tuple(index(number) for number in numbers)
    except TypeError:
        found = ()
    if len(found) != count:
        raise DtypeError(f"deblur: {what} is {numbers!r}, but {count} whole numbers were needed, one for each axis of the PSF.")
    return found


def _method(method: str | Denoiser, noise: str | float, axes: int, strength: float | None) -> tuple[str, Method]:
    if not isinstance(method, str) and not callable(method):
        raise DtypeError(f"deblur: method is {method!r}, but a name or a denoiser, f(x, deviation), was needed.")
    if not isinstance(method, str):
        return getattr(method, "__name__", type(method).__name__), plug_and_play(_same(method), opponent=False)
    if method == "auto":
        method = "richardson-lucy" if noise == "poisson" else "similar" if axes == 2 else "tv"
    if method not in METHODS:
        raise ShapeError(f"deblur: there is no method {method!r}. Nearest: {nearest(method, METHODS)}.")
    if noise == "poisson" and method != "richardson-lucy":
        raise ShapeError(
            f"deblur: method {method!r} is for noise of one strength; for counts use 'richardson-lucy', or give a number."
        )
    if strength is not None and method not in ("tv", "wavelet", "tikhonov", "wiener"):
        raise ShapeError(f"deblur: method {method!r} takes no strength; the noise sets it. Give the noise, or use 'tv'.")
    if axes != 2 and method in ("similar", "dct"):
        raise ShapeError(
            f"deblur: method {method!r} is for pictures of two axes. For a volume use 'tv', or a plane of the PSF."
        )
    return method, METHODS[method]


def _same(denoiser: Denoiser) -> Callable[[float], Denoiser]:
    return lambda _halfway: denoiser


def _noise(samples: Tensor, axes: int, peak: float | None, noise: str | float) -> tuple[float, list[str]]:
    """(standard deviation, notes) of one picture."""
    if noise == "poisson":
        return float(samples.nanmean().clamp(min=0).sqrt()), []
    known = samples[~samples.isnan()]
    if not len(known):
        raise NonFinite("deblur: a picture of the stack has no observed sample. Leave it out.")
    least = max(_CLEAN * float(known.std(correction=0)), _ROUNDED * float(known.abs().max())) or _NOTHING
    if noise == "estimate":
        least = max(least, _QUANTISED if peak is not None else 0.0)
        found = estimate_noise(samples, axes)
        if found >= least:
            return found, []
        return least, [f"deblur: next to no noise was found; a standard deviation of {least:.3g} was assumed."]
    if isinstance(noise, str | bool) or not isinstance(noise, int | float | np.number) or not 0 <= noise < float("inf"):
        raise ShapeError(f"deblur: noise is {noise!r}, but 'estimate', 'poisson' or a standard deviation was needed.")
    if noise < least:
        return least, [f"deblur: a noise of {noise:.3g} is too little to tell from rounding; {least:.3g} was assumed."]
    return float(noise), []


def _restored(
    given: Measured, ready: _Ready, name: str, notes: Sequence[str], room: float, progress: Progress | None
) -> Restored:
    stacked = given.axes.count("N")
    lead, one = given.samples.shape[:stacked], given.samples.shape[stacked:]
    pictures = [parts(p, ready.kernel.shape, name, room, ready.boundary) for p in given.samples.reshape(-1, *one)]
    noises = [_noise(picture.picture, len(given.spatial), given.peak, ready.noise) for picture in pictures]
    told = [*notes, *dict.fromkeys(note for _, found in noises for note in found), *_negative(given.samples, name)]
    total = sum(len(picture) for picture in pictures)
    ends: list[Iterate] = []
    most = ready.steps or MOST.get(name, STEPS)
    tell = None if progress is None else lambda end: progress(f"part {len(ends) + 1} of {total}", end.steps, most)
    made = [_picture(p, ready, noise, ends, tell) for p, (noise, _) in zip(pictures, noises, strict=True)]
    samples = torch.stack(made).reshape(*lead, *made[0].shape)
    if total > len(pictures):
        needed = forecast(given.spatial, ready.kernel.shape, name, one.numel() // prod(given.spatial))
        told.append(f"deblur: restored in {total} tiles; {needed:.3g} bytes were forecast for the whole.")
    known = torch.where(given.samples.isnan(), given.samples.nanmean(), given.samples)
    shown = given
    if ready.factor > 1:
        known = _enlarged(known, ready.factor)
        alpha = None if given.alpha is None else _enlarged(given.alpha, ready.factor)
        shown = replace(given, samples=known, alpha=alpha)
    steps, converged = max(end.steps for end in ends), all(end.converged for end in ends)
    deviation = sum(noise for noise, _ in noises) / len(noises)
    return Restored(shown.like(samples), deviation, name, steps, converged, tuple(told), shown.like(known), given.given)


def _negative(samples: Tensor, name: str) -> list[str]:
    """What Richardson-Lucy makes of samples that no count can be."""
    count = int((samples < 0).sum()) if name == "richardson-lucy" else 0
    if count and not bool((samples > 0).any()):
        raise ShapeError("deblur: no sample is above zero, and 'richardson-lucy' is for counts. Use another method.")
    return [f"deblur: {count} samples below zero were taken for zero, as counts are."] if count else []


def _picture(
    picture: Parts, ready: _Ready, noise: float, ends: list[Iterate], tell: Callable[[Iterate], None] | None
) -> Tensor:
    """One picture, its tiles restored one by one; their last iterates are added to `ends`."""
    restored = []
    scale = _scale(picture.picture, ready)
    for samples, boundary in picture:
        problem = ready.problem(samples / scale, boundary, noise / scale)
        if bool(problem.unseen.all()):
            raise NonFinite("deblur: a picture of the stack, or a tile, has no observed sample. Leave it out.")
        iterate = None
        for iterate in ready.method(problem):
            if tell is not None:
                tell(iterate)
        assert iterate is not None
        ends.append(finite(iterate))
        restored.append(problem.cut(iterate.estimate) * scale)
    return picture.joined(restored)


def _scale(picture: Tensor, ready: _Ready) -> float:
    """A power of two that brings the picture near 1, far from where squares leave the numbers that there are.

    Counts and strengths mean something at their own scale only.
    """
    largest = float(picture.nan_to_num(0.0).abs().max())
    if ready.noise == "poisson" or ready.strength is not None or largest == 0:
        return 1.0
    return 2.0 ** floor(log2(largest))


def _enlarged(samples: Tensor, factor: int) -> Tensor:
    return samples.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def _shown(picture: Any, axes: str) -> Tensor:
    """(1 or 3, H, W), floating: one picture of what may be a stack or a volume."""
    samples = measured(picture, axes=axes).samples.float().cpu()
    while samples.ndim > 3 or (samples.ndim == 3 and len(samples) != 3):
        samples = samples[len(samples) // 2]
    return samples if samples.ndim == 3 else samples[None]
