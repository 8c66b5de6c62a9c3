"""Image restoration from outside: read the picture, check what is asked for, run it."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, nearest
from unconv.inverse.fields.image.defects import defects
from unconv.inverse.fields.image.exposure import PLAIN, Exposure, check_exposure, shows_points
from unconv.inverse.fields.image.linear_light import check_linear
from unconv.inverse.fields.image.problem import Method
from unconv.inverse.fields.image.restored import Restored
from unconv.inverse.fields.image.run import Settings, restored
from unconv.inverse.fields.image.table import (
    METHODS,
    OWN_DENOISER,
    ImageMethod,
    chosen_for,
    methods_for_docstring,
    refuse_unfit,
    row,
    with_strength,
)
from unconv.inverse.fields.image.tiles import forecast, limit
from unconv.inverse.operators.boundaries import BOUNDARIES
from unconv.inverse.psf.files import open_psf
from unconv.inverse.solvers.hqs import Denoiser
from unconv.kinds import checks_kinds, checks_kinds_but
from unconv.pictures.decode import Source
from unconv.pictures.measured import Measured, measured
from unconv.progress import Progress

_CHANNELS = 4  # the most of a picture whose last axis they are
F = TypeVar("F", bound=Callable[..., Any])
Psf = str | Path | np.ndarray[Any, Any] | Tensor


def _with_methods(function: F) -> F:
    """Write the table of methods into a docstring, so that it cannot say anything else."""
    if function.__doc__:  # None under python -OO
        function.__doc__ = function.__doc__.replace("{methods}", methods_for_docstring(12)).replace(
            "{strength}", with_strength()
        )
    return function


@_with_methods
@checks_kinds
def deblur(
    picture: Source | Measured,
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
    gain: float | None = None,
    offset: float | None = None,
    read_noise: float | None = None,
    background: float | str = 0.0,
    linear: bool | str = "auto",
    progress: Progress | None = None,
) -> Restored:
    """Take the blur of `psf` out of a picture.

    NaN samples count as missing, with the other colours of the pixel, and are filled in; so do hot, dead and saturated ones,
    where they can be told, and `notes` says how many. Colours share the PSF and are restored together. The pictures of a
    stack are restored one by one; with a PSF of three axes the picture is one volume.

    Args:
        picture: a file, a PIL picture, an array or a tensor: (H, W), (H, W, 3), a stack or a volume, of any depth; or
            what `measured` made of one.
        axes: what the axes are, where they cannot be told, such as "DHW": see `measured`.
        psf: (h, w) or (d, h, w), odd or even, or a file (.npy, .png, .tif, .mat, .csv); divided by its sum. Makers are
            in `unconv.inverse.psf`.
        noise: the standard deviation in the picture's own units; "estimate"; or "poisson" for counts, whose noise grows
            with the light.
        boundary: what lies around the picture. "unknown": nothing is assumed, as for all real pictures. "circular": it
            goes round, as in most published benchmarks. "zero": black. "reflect": mirrored.
        method: one of these names, or a denoiser of yours, `denoiser(x, deviation)`, x (H, W) or (3, H, W), longer than
            the picture where its boundary is unknown.
            {methods}
        centre: the PSF's index that stands on the sample itself; by default the middle, size // 2.
        steps: the most that the method may make.
        strength: of the regularisation, for {strength}, instead of the one that the noise asks for.
        memory: bytes that may be used; by default half of the machine's, or half of what is free on the GPU. If more is
            forecast, the picture is restored in overlapping tiles with unknown boundaries, which are blended.
        gain, offset, read_noise: of the camera that counted: counts for each electron (not electrons per count, which is one
            over it), counts without light, and the standard deviation of reading in electrons. What is left out is
            estimated from the picture, by how its noise grows with its level; 1, 0, 0 are photons. The offset stays in the
            result. With any of them noise="estimate" means "poisson".
        background: light that was not blurred and is not of the object, in the picture's units, or "estimate", for the level
            of its dark part. The result is without it.
        linear: whether the picture was blurred as light, as by a lens, so that its samples are taken to light and back: by the
            ICC profile, or else as sRGB. "auto" tries whether light explains the picture better, of photographs: 8-bit
            ones in colour or from a JPEG, and those whose file has a profile or comes from a camera. Floats must be from
            0 to 1.
        progress: called with what is being done, and how much is done of how much there is at most, over all pictures and
            tiles, in steps; within long steps, too, with fractions.

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
    if isinstance(psf, np.ndarray | Tensor) and psf.ndim > 1:
        picture = _given(picture, psf.ndim, axes)
        _refuse_wider(tuple(psf.shape), picture.spatial, boundary)  # before it is copied
    kernel, notes = open_psf(psf)
    given = _given(picture, kernel.ndim, axes)
    _check(given, tuple(kernel.shape), boundary)
    _positive(steps, strength)
    exposure = Exposure(gain, offset, read_noise, background)
    check_exposure(exposure, noise)
    if noise == "estimate" and exposure.counted:
        noise = "poisson"
    saturated = not (isinstance(method, str) and row(method).linear)
    missing, spoiled = defects(given, kernel, saturated, counts=noise == "poisson" or exposure != PLAIN)
    notes = [*notes, *spoiled]
    if noise == "estimate" and method == "auto" and strength is None and _shows_points(given, kernel, missing):
        noise = "poisson"
        notes = [*notes, "deblur: points of light on darkness, with noise that grows with the light: restored as counts."]
    counts = noise == "poisson" or exposure != PLAIN
    check_linear(linear, given, counts)
    name, can, run = _method(method, noise, boundary, kernel.ndim, strength)
    middle = None if centre is None else _whole("centre", centre, kernel.ndim)
    settings = Settings(
        kernel,
        middle,
        boundary,
        noise,
        strength,
        steps or can.most_steps,
        run,
        exposure=exposure,
        missing=missing,
        linear=linear if not counts else False,
    )
    return restored(given, settings, name, notes, limit(memory, given.samples.device), progress)


@checks_kinds_but("factor")
def super_resolve(
    picture: Source | Measured,
    factor: int,
    psf: Psf | None = None,
    noise: str | float = "estimate",
    method: str | Denoiser = "auto",
    *,
    steps: int | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a picture on a grid `factor` times as fine: deblur it, and estimate the samples between.

    Each coarse sample is taken for the mean of the fine ones around its middle, weighted by `psf`; by default for the
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
    given = measured(picture)
    if psf is None:
        _check(given, (times, times), "unknown")  # before there is such a kernel
        psf = torch.full((times, times), times**-2.0)
    kernel, notes = open_psf(psf, 2)
    _check(given, tuple(kernel.shape), "unknown")
    _positive(steps)
    name, can, run = _method(method, noise, "unknown", 2, None)
    _refuse_large(given, times, tuple(kernel.shape), name)
    settings = Settings(kernel, None, "unknown", noise, None, steps or can.most_steps, run, times)
    return restored(given, settings, name, notes, float("inf"), progress)


def _given(picture: Source | Measured, kernel_axes: int, axes: str | None) -> Measured:
    """Read the picture, once; where the PSF has three axes, its planes are volumes."""
    if axes is None and kernel_axes == 3 and isinstance(picture, np.ndarray | Tensor) and picture.ndim == 3:
        axes = "DHW" if picture.shape[-1] > _CHANNELS else None  # also where the axes could not be told
    given = measured(picture, axes=axes)
    return given.as_volume() if kernel_axes == 3 and (axes is None or "Z" in given.names) else given


def _check(given: Measured, size: tuple[int, ...], boundary: str) -> None:
    """Refuse a PSF of `size` that does not fit the picture, and a picture without samples."""
    spatial = given.spatial
    if len(size) != len(spatial):
        raise ShapeError(
            f"deblur: the PSF is {size} and the picture {tuple(given.samples.shape)} ({given.axes}); a PSF of "
            f"{len(spatial)} axes was needed. Pass axes='DHW' for a volume, or a plane of the PSF for a picture."
        )
    _refuse_wider(size, spatial, boundary)
    if boundary not in BOUNDARIES:
        raise ShapeError(f"deblur: there is no boundary {boundary!r}. Nearest: {nearest(str(boundary), BOUNDARIES)}.")
    if bool(given.samples.isnan().all()):
        raise NonFinite("deblur: every sample of the picture is NaN; at least some must be observed.")


def _refuse_wider(size: tuple[int, ...], spatial: tuple[int, ...], boundary: str) -> None:
    # Of a volume few planes may be seen, through a PSF of many: what lies above and below is estimated like all that is unseen.
    looked_at = slice(-2, None) if boundary == "unknown" else slice(None)
    if len(size) == len(spatial) and any(k > n for k, n in zip(size[looked_at], spatial[looked_at], strict=True)):
        raise ShapeError(
            f"deblur: the PSF is {size}, larger than the picture, {spatial}; every sample would depend on what was not seen. "
            "Crop the PSF to where it is not zero."
        )


def _refuse_large(given: Measured, factor: int, kernel: tuple[int, ...], name: str) -> None:
    """Refuse an enlarged picture that would take more memory than may be used: it cannot go in tiles."""
    spatial = given.spatial
    channels = given.samples.shape[given.axes.index("C")] if "C" in given.axes else 1
    needed = forecast([n * factor for n in spatial], kernel, name, channels, given.samples.element_size())
    room = limit(None, given.samples.device)
    if needed > room:
        raise ShapeError(
            f"super_resolve: {spatial} enlarged {factor} times takes {needed:.3g} bytes by forecast, but {room:.3g}, half of "
            "the memory, may be used. Choose a smaller factor, or crop the picture."
        )


def _positive(steps: int | None, strength: float | None = None) -> None:
    for what, given, kinds in (("steps", steps, int), ("strength", strength, int | float | np.number)):
        if given is not None and (not isinstance(given, kinds) or isinstance(given, bool)):
            raise DtypeError(f"deblur: {what} is {given!r}, but a {'whole ' if kinds is int else ''}number was needed.")
    if steps is not None and steps < 1:
        raise ShapeError(f"deblur: steps is {steps}; it must be at least 1.")
    if strength is not None and not strength > 0:
        raise ShapeError(f"deblur: strength is {strength}; it must be positive. Leave it out to have it chosen by the noise.")


def _whole(what: str, numbers: Any, count: int) -> tuple[int, ...]:
    """Read `count` whole numbers, of whatever type."""
    try:
        found = tuple(index(number) for number in numbers)
    except TypeError:
        found = ()
    if len(found) != count:
        raise DtypeError(f"deblur: {what} is {numbers!r}, but {count} whole numbers were needed, one for each axis of the PSF.")
    return found


def _method(
    method: str | Denoiser, noise: str | float, boundary: str, axes: int, strength: float | None
) -> tuple[str, ImageMethod, Method]:
    """(name, row of the table, function) of a method that can do what is asked for."""
    if not isinstance(method, str) and not callable(method):
        raise DtypeError(f"deblur: method is {method!r}, but a name or a denoiser, f(x, deviation), was needed.")
    if not isinstance(method, str):
        name = getattr(method, "__name__", type(method).__name__)
        return name, OWN_DENOISER, OWN_DENOISER.function()(_same(method), opponent=False)
    poisson = noise == "poisson"
    name = chosen_for(axes, poisson) if method == "auto" else method
    refuse_unfit(name, boundary=boundary, axes=axes, strength=strength is not None, poisson=poisson)
    return name, METHODS[name], METHODS[name].function()


def _shows_points(given: Measured, kernel: Tensor, missing: Tensor | None) -> bool:
    """Tell whether a picture, and a PSF, are of the kind that Richardson-Lucy is for."""
    stacked = given.axes.count("N")
    samples = given.samples if missing is None else given.samples.masked_fill(missing, torch.nan)
    pictures = samples.reshape(-1, *given.samples.shape[stacked:])
    return given.jpeg is None and bool((kernel >= 0).all()) and all(shows_points(p, kernel.ndim) for p in pictures)


def _same(denoiser: Denoiser) -> Callable[[float, float], Denoiser]:
    return lambda *_: denoiser
