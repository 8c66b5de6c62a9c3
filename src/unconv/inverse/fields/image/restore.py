"""Deblur and super-resolve pictures: read the picture, check the arguments, run the method."""

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

_CHANNELS = 4  # a last axis of at most so many samples is taken for channels
F = TypeVar("F", bound=Callable[..., Any])
Psf = str | Path | np.ndarray[Any, Any] | Tensor


def _with_methods(function: F) -> F:
    """Insert the table of methods into a docstring, so that the two always agree."""
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
    """Restore a picture that was blurred by a known PSF.

    NaN samples count as missing, together with the other colours of the pixel, and are filled in. So are hot, dead and
    saturated samples that can be recognised; `notes` says how many. Colours share the PSF and are restored together. The
    pictures of a stack are restored one by one. With a PSF of three axes the picture is a volume.

    Args:
        picture: a file, a PIL picture, an array or a tensor: (H, W), (H, W, 3), a stack or a volume, of any depth; or the
            result of `measured`.
        psf: (h, w) or (d, h, w), odd or even, or a file (.npy, .png, .tif, .mat, .csv). It is divided by its sum. The
            functions of `unconv.inverse.psf` compute PSFs.
        noise: the standard deviation in the picture's own units; "estimate"; or "poisson" for counts, whose noise grows
            with the light.
        boundary: the samples around the picture. "unknown" assumes nothing, and suits all real pictures. "circular" means
            periodic, as in most published benchmarks; "zero" black; "reflect" mirrored.
        method: one of these names, or your own denoiser, `denoiser(x, deviation)`, where x is (H, W) or (3, H, W), larger than
            the picture if its boundary is unknown.
            {methods}
        axes: the meaning of the axes, such as "DHW", if their lengths do not show it; see `measured`.
        centre: the index of the PSF at which a point source appears; by default the middle, size // 2.
        steps: the most steps of the method.
        strength: the strength of the regularisation, for {strength}; by default it follows from the noise.
        memory: bytes that may be used; by default half of the machine's memory, or half of what is free on the GPU. If the
            forecast is larger, the picture is restored in overlapping tiles with unknown boundaries, which are blended.
        gain, offset, read_noise: of the camera: counts per electron (not electrons per count, which is the reciprocal), the
            count without light, and the standard deviation of reading in electrons. Missing numbers are estimated from the
            growth of the noise with the light; 1, 0, 0 are photons. The offset stays in the result. With any of them,
            noise="estimate" means "poisson".
        background: light that was not blurred and does not belong to the object, in the picture's units, or "estimate" for
            the level of the darkest part. It is subtracted from the result.
        linear: whether the picture was blurred in linear light, as by a lens. Its samples are then converted to light and
            back, by the ICC profile, or otherwise as sRGB. "auto" tests whether light explains the picture better, but only
            for photographs: 8-bit pictures in colour or from a JPEG, and files with a profile or from a camera. Floats must
            be from 0 to 1.
        progress: called with the name of the part, the steps done and the most steps there can be, over all pictures and
            tiles; also within long steps, with fractions.

    Raises:
        ShapeError: the axes do not fit, the PSF is larger than the picture, or the method or boundary is unknown.
        NonFinite: all samples are missing, or the result is not finite.
        PictureError: the file is missing, damaged or of an unknown kind, or has infinite samples.
        DtypeError: an argument is of the wrong kind.

    Example:
        >>> from unconv.inverse.psf import makers as psf
        >>> blurred = np.tile(np.repeat([20.0, 200.0], 32), (64, 1))
        >>> restored = deblur(blurred, psf.gaussian(1.5), noise=2)
        >>> restored.picture.shape, restored.method
        ((64, 64), 'similar')
    """
    if isinstance(psf, np.ndarray | Tensor) and psf.ndim > 1:
        picture = _open(picture, psf.ndim, axes)
        _refuse_wider(tuple(psf.shape), picture.spatial, boundary)  # before the PSF is copied
    kernel, notes = open_psf(psf, centred=centre is None)
    observed = _open(picture, kernel.ndim, axes)
    _check(observed, tuple(kernel.shape), boundary)
    _positive(steps, strength)
    exposure = Exposure(gain, offset, read_noise, background)
    check_exposure(exposure, noise)
    if noise == "estimate" and exposure.counted:
        noise = "poisson"
    saturated = not (isinstance(method, str) and row(method).linear)
    # Defects come first, because hot samples would look like points of light below.
    missing, spoiled = defects(observed, kernel, saturated, counts=noise == "poisson" or exposure != PLAIN)
    notes = [*notes, *spoiled]
    if noise == "estimate" and method == "auto" and strength is None and _shows_points(observed, kernel, missing):
        noise = "poisson"
        notes = [
            *notes,
            "deblur: the picture was restored as counts, because it shows points of light with noise that grows with it.",
        ]
    counts = noise == "poisson" or exposure != PLAIN
    check_linear(linear, observed, counts)
    name, can, run = _method(method, noise, boundary, kernel.ndim, strength)
    middle = None if centre is None else _integers("centre", centre, kernel.ndim)
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
    return restored(observed, settings, name, notes, limit(memory, observed.samples.device), progress)


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
    """Restore a picture on a grid that is `factor` times finer: deblur it, and estimate the samples in between.

    Each observed sample is modelled as the mean of the fine samples around it, weighted by `psf`; by default as the mean of
    the factor × factor fine samples that it covers.

    Args:
        picture, noise, method, steps, progress: as for `deblur`.
        factor: a whole number of at least 2.
        psf: on the fine grid.

    Returns:
        As `deblur`. The picture is `factor` times as high and wide; `observed` is enlarged to that by repeating samples.

    Raises:
        ShapeError: as for `deblur`, or the factor is below 2.
    """
    try:
        times = index(factor)
    except TypeError:
        raise DtypeError(f"super_resolve: factor is {factor!r}, but a whole number of at least 2 was needed.") from None
    if times < 2:
        raise ShapeError(f"super_resolve: factor is {factor}, but a whole number of at least 2 was needed. Use deblur instead.")
    observed = measured(picture)
    if psf is None:
        _check(observed, (times, times), "unknown")  # before such a kernel is allocated
        psf = torch.full((times, times), times**-2.0)
    kernel, notes = open_psf(psf, 2)
    _check(observed, tuple(kernel.shape), "unknown")
    _positive(steps)
    name, can, run = _method(method, noise, "unknown", 2, None)
    _refuse_large(observed, times, tuple(kernel.shape), name)
    settings = Settings(kernel, None, "unknown", noise, None, steps or can.most_steps, run, times)
    return restored(observed, settings, name, notes, float("inf"), progress)


def _open(picture: Source | Measured, kernel_axes: int, axes: str | None) -> Measured:
    """Open the picture; if the PSF has three axes, its planes become volumes."""
    if axes is None and kernel_axes == 3 and isinstance(picture, np.ndarray | Tensor) and picture.ndim == 3:
        axes = "DHW" if picture.shape[-1] > _CHANNELS else None  # even if the lengths alone would not show it
    observed = measured(picture, axes=axes)
    return observed.as_volume() if kernel_axes == 3 and (axes is None or "Z" in observed.names) else observed


def _check(observed: Measured, size: tuple[int, ...], boundary: str) -> None:
    """Refuse a PSF of `size` that does not fit the picture, and a picture whose samples are all missing."""
    spatial = observed.spatial
    if len(size) != len(spatial):
        raise ShapeError(
            f"deblur: the PSF is {size} and the picture {tuple(observed.samples.shape)} ({observed.axes}), but a PSF of "
            f"{len(spatial)} axes was needed. Pass axes='DHW' for a volume, or a plane of the PSF for a picture."
        )
    _refuse_wider(size, spatial, boundary)
    if boundary not in BOUNDARIES:
        raise ShapeError(f"deblur: there is no boundary {boundary!r}. Nearest: {nearest(str(boundary), BOUNDARIES)}.")
    if bool(observed.samples.isnan().all()):
        raise NonFinite("deblur: every sample of the picture is NaN, but some are needed. Check how the picture was read.")


def _refuse_wider(size: tuple[int, ...], spatial: tuple[int, ...], boundary: str) -> None:
    # A volume may have fewer planes than the PSF: at an unknown boundary, those above and below are estimated, too.
    checked = slice(-2, None) if boundary == "unknown" else slice(None)
    if len(size) == len(spatial) and any(k > n for k, n in zip(size[checked], spatial[checked], strict=True)):
        raise ShapeError(
            f"deblur: the PSF is {size} but the picture only {spatial}, so that every sample would depend on samples outside. "
            "Crop zeros off the border of the PSF."
        )


def _refuse_large(observed: Measured, factor: int, kernel: tuple[int, ...], name: str) -> None:
    """Refuse an enlarged picture that would take too much memory; super-resolution does not use tiles."""
    spatial = observed.spatial
    channels = observed.samples.shape[observed.axes.index("C")] if "C" in observed.axes else 1
    needed = forecast([n * factor for n in spatial], kernel, name, channels, observed.samples.element_size())
    room = limit(None, observed.samples.device)
    if needed > room:
        raise ShapeError(
            f"super_resolve: {spatial} enlarged {factor} times needs {needed:.3g} bytes by forecast, but only {room:.3g}, half "
            "of the memory, are allowed. Choose a smaller factor, or crop the picture."
        )


def _positive(steps: int | None, strength: float | None = None) -> None:
    for name, value, kinds in (("steps", steps, int), ("strength", strength, int | float | np.number)):
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise DtypeError(f"deblur: {name} is {value!r}, but a {'whole ' if kinds is int else ''}number was needed.")
    if steps is not None and steps < 1:
        raise ShapeError(f"deblur: steps is {steps}, but at least 1 was needed.")
    if strength is not None and not strength > 0:
        raise ShapeError(
            f"deblur: strength is {strength}, but a positive number was needed. Leave it out to let the noise choose."
        )


def _integers(name: str, numbers: Any, count: int) -> tuple[int, ...]:
    """Return `count` integers of any type as a tuple."""
    try:
        integers = tuple(index(number) for number in numbers)
    except TypeError:
        integers = ()
    if len(integers) != count:
        raise DtypeError(f"deblur: {name} is {numbers!r}, but {count} whole numbers were needed, one for each axis of the PSF.")
    return integers


def _method(
    method: str | Denoiser, noise: str | float, boundary: str, axes: int, strength: float | None
) -> tuple[str, ImageMethod, Method]:
    """Return the name, the row of the table and the function of a method, or refuse one that does not fit the arguments."""
    if not isinstance(method, str) and not callable(method):
        raise DtypeError(f"deblur: method is {method!r}, but a name or a denoiser, f(x, deviation), was needed.")
    if not isinstance(method, str):
        name = getattr(method, "__name__", type(method).__name__)
        return name, OWN_DENOISER, OWN_DENOISER.function()(_constant(method), opponent=False)
    poisson = noise == "poisson"
    name = chosen_for(axes, poisson) if method == "auto" else method
    refuse_unfit(name, boundary=boundary, axes=axes, strength=strength is not None, poisson=poisson)
    return name, METHODS[name], METHODS[name].function()


def _shows_points(observed: Measured, kernel: Tensor, missing: Tensor | None) -> bool:
    """Return whether the picture and the PSF suit Richardson-Lucy: points of light, and no negative samples."""
    stacked = observed.axes.count("N")
    samples = observed.samples if missing is None else observed.samples.masked_fill(missing, torch.nan)
    pictures = samples.reshape(-1, *observed.samples.shape[stacked:])
    return observed.jpeg is None and bool((kernel >= 0).all()) and all(shows_points(p, kernel.ndim) for p in pictures)


def _constant(denoiser: Denoiser) -> Callable[[float, float], Denoiser]:
    return lambda *_: denoiser
