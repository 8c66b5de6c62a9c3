"""Weighted prediction error (WPE): remove from short-time spectra what their own past predicts, the late reverberation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.headway import tell
from unconv.inverse.solvers.problems import is_finite
from unconv.kinds import checks_kinds

_GROUP = 2**20  # numbers in the spectra and covariances of the frequencies that are processed together
_CACHE = 2**17  # numbers in the lagged spectra at one time: 1 MB in float64. 8 MB, beyond the cache, took five times as long.
_FLOOR = 1e-10  # of a frequency's largest power, as in nara_wpe
_STEEP = 1e-5  # the least floor for a covariance in float32: a wider range of weights makes it too ill-conditioned
_RIDGES = {torch.float64: 1e-15, torch.float32: 1e-6}  # of the covariance's mean diagonal: the size of its rounding errors
_MORE = 1e3  # factor by which the ridge grows while a Cholesky factorisation fails
_NEGLIGIBLE = {torch.float64: 1e-14, torch.float32: 1e-12}  # of the loudest principal channel's power: less is rounding


@checks_kinds
def wpe(
    spectra: Tensor,
    taps: int = 10,
    delay: int = 3,
    iterations: int = 3,
    *,
    context: int = 0,
    floor: float = _FLOOR,
    power: Tensor | None = None,
) -> Tensor:
    """Remove late reverberation from short-time spectra by weighted prediction error (WPE), offline.

    In each frequency, a frame is predicted from `taps` earlier frames of all channels, at least `delay` before it. The
    prediction error is the early sound. Each frame is weighted by one over the power of the early sound, which is estimated in
    turns with the prediction. All channels are returned, with their differences in time and level.

    Args:
        spectra: (..., F, D, T), complex: frequencies, channels, frames.
        taps: the number of frames of each channel that predict. Each of F systems has taps * D unknowns and T frames; as the
            unknowns come near T, the speech itself is predicted and vanishes.
        delay: frames from the last predicting frame to the predicted one, 1 or more; long enough that the speech itself, which
            the windows of neighbouring frames share, is not predicted.
        iterations: of estimating power and prediction in turns; 0 changes nothing.
        context: frames on each side over which the power is averaged, in addition to channels.
        floor: the least power of a frame for its weight, as a share of the largest in its frequency. With the default, that of
            nara_wpe, a few silent frames may weigh more than all speech; 1e-4 does better on clean recordings.
        power: (..., F, T), of the early sound, for the first iteration; None: that of `spectra`.

    Returns:
        (..., F, D, T), dtype and device of `spectra`. The computation is in complex128, except for complex64 spectra with a
        floor of 1e-5 or more, for which complex64 is enough. The result scales with the spectra.

    Raises:
        ShapeError: the shape is not (..., F, D, T) with at least one of each; taps, delay, iterations or context is too small;
            the floor is not between 0 and 1; the power has another shape, or is below zero.
        DtypeError, NonFinite: the spectra are real; or are NaN or infinite.

    Source:
        Nakatani, Yoshioka, Kinoshita, Miyoshi & Juang, "Speech dereverberation based on variance-normalized delayed linear
        prediction" (2010); Yoshioka & Nakatani, "Generalization of multi-channel linear prediction methods for blind MIMO
        impulse response shortening" (2012). As `nara_wpe.wpe.wpe_v8` 0.0.11 with statistics_mode="full", where its systems
        are regular.
    """
    admit_spectra("wpe", spectra)
    _refuse_settings(taps, delay, iterations, context, floor)
    y = spectra.detach().reshape(-1, *spectra.shape[-2:])
    first_power = None if power is None else _checked_power(power, spectra).reshape(len(y), -1)
    result = torch.empty_like(y)
    single = spectra.dtype is torch.complex64 and floor >= _STEEP
    for group in groups(len(y), y.shape[-1], taps * y.shape[1]):
        frames = Frames.of(y[group], torch.complex64 if single else torch.complex128, floor)
        early = frames.sound
        early_power = (
            mean_power(early, context)
            if first_power is None
            else (first_power[group] / frames.size[:, 0].square()).to(early.real)
        )
        # Nakatani et al. (2010): alternate between the filters, for known powers, and the powers, for known filters.
        for number in range(iterations):
            early = frames.without_late(inverse_power(early_power, floor), taps, delay)
            early_power = mean_power(early, context) if number + 1 < iterations else early_power
        result[group] = (early * frames.size).to(y.dtype)
        tell(group.stop / len(y))
    return result.reshape(spectra.shape)


@dataclass(frozen=True)
class Frames:
    """The frames of a group of frequencies, scaled and whitened for the prediction.

    Attributes:
        sound: (G, D, T), each frequency scaled to a size of 1, so that no power overflows or underflows.
        white: (G, D, T), mixed so that the channels are uncorrelated and of equal power. The predicting channels may be mixed
            by any invertible matrix. Whitened, close microphones, which pick up nearly the same low frequencies, stay
            distinct even in float32.
        back: (G, D, D), the matrix from `white` to `sound`. size: (G, 1, 1), the size of the caller's spectra.
    """

    sound: Tensor
    white: Tensor
    back: Tensor
    size: Tensor

    @staticmethod
    def of(spectra: Tensor, dtype: torch.dtype, floor: float) -> Frames:
        """Return the frames of spectra (G, D, T)."""
        size = spectra.abs().amax((1, 2), keepdim=True).double()
        size = torch.where(size > 0, size, 1)
        sound = spectra / size  # complex128
        if sound.shape[1] == 1:
            return Frames(sound.to(dtype), sound.to(dtype), torch.ones_like(sound[..., :1]).to(dtype), size)
        weighted = sound * inverse_power(mean_power(sound), floor)[:, None]
        power, axes = torch.linalg.eigh(weighted @ sound.mH)
        levels = power.clamp(min=_NEGLIGIBLE[dtype.to_real()] * power[:, -1:]).sqrt()
        levels = torch.where(levels > 0, levels, 1)
        white = (axes.mH / levels[..., None]) @ sound
        return Frames(sound.to(dtype), white.to(dtype), (axes * levels[:, None]).to(dtype), size)

    def without_late(self, weights: Tensor, taps: int, delay: int) -> Tensor:
        """Return the prediction errors (G, D, T) of the frames, for weights (G, T)."""
        # The weighted normal equations; the covariance holds both sides of them.
        matrix = weighted_covariance(self.white, weights, taps, delay)
        unknowns = taps * self.white.shape[1]
        ridge = _RIDGES[self.back.real.dtype]
        filters = solve(matrix[:, :unknowns, :unknowns], matrix[:, :unknowns, unknowns:], ridge)
        return self.sound - predict(self.white, self.back @ filters.to(self.back.dtype).mH, taps, delay)


def mean_power(frames: Tensor, context: int = 0) -> Tensor:
    """Return the power of frames (G, D, T), averaged over channels and `context` frames on each side: (G, T)."""
    power = (frames.real.square() + frames.imag.square()).mean(1)
    if not context:
        return power
    # At the ends, the mean is over the frames that exist.
    mean: Tensor = F.avg_pool1d(power[:, None], 2 * context + 1, 1, context, count_include_pad=False)[:, 0]
    return mean


def inverse_power(power: Tensor, floor: float = _FLOOR) -> Tensor:
    """Return 1 / max(power, floor * the largest of its frequency), (G, T); 0 in a silent frequency."""
    most = power.amax(-1, keepdim=True)
    least = (floor * most).clamp(min=torch.finfo(power.dtype).tiny)
    return torch.where(most > 0, 1 / torch.maximum(power, least), 0)


def weighted_covariance(frames: Tensor, weights: Tensor, taps: int, delay: int) -> Tensor:
    """Return the sum over t of w[t] z[t] z[t]^H, z = (predicting frames, predicted frame): (G, N + D, N + D), complex128.

    z holds first the frame delay + taps - 1 before frame t, last the one `delay` before it, then frame t: N = taps * D.
    """
    # With z = B + iC, the real part is B B' + C C', and the imaginary part M - M' with M = C B': three quarters of the
    # multiplications of the complex product, and faster by as much. Blocks of frames fit the cache (see `_CACHE`).
    count, channels, total = frames.shape
    context, size = taps + delay - 1, (taps + 1) * channels
    padded = F.pad(torch.stack([frames.real, frames.imag], 1), (context, 0))
    root = weights.to(padded.dtype).sqrt()[:, None, None, None]
    real = padded.new_zeros(count, size, size)
    cross = torch.zeros_like(real)
    length = min(total, max(1, _CACHE // (2 * size)))
    rows_at_once = max(torch.get_num_threads(), _CACHE // (2 * size * length))
    lagged = padded.new_empty(min(rows_at_once, count) * 2 * size * length)
    for rows, times in _parts(count, total, rows_at_once, length):
        shape = (rows.stop - rows.start, 2, taps + 1, channels, times.stop - times.start)
        block = lagged[: prod(shape)].view(shape)
        current = padded[rows, :, None, :, context + times.start : context + times.stop]
        torch.mul(_lagged(padded[rows], taps, times), root[rows, ..., times], out=block[:, :, :-1])
        torch.mul(current, root[rows, ..., times], out=block[:, :, -1:])
        parts = block.flatten(2, 3)
        for part in (0, 1):
            real[rows].baddbmm_(parts[:, part], parts[:, part].mT)
        cross[rows].baddbmm_(parts[:, 1], parts[:, 0].mT)
    return torch.complex(real.double(), (cross - cross.mT).double())


def _parts(count: int, total: int, most: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices that split (count, total) into parts of at most (most, length)."""
    for low in range(0, count, most):
        for start in range(0, total, length):
            yield slice(low, min(low + most, count)), slice(start, min(start + length, total))


def _lagged(padded: Tensor, taps: int, frames: slice) -> Tensor:
    """Return a view of the `taps` frames from each frame on: (..., taps, D, T), from (..., D, T')."""
    shape = (*padded.shape[:-2], taps, padded.shape[-2], frames.stop - frames.start)
    *batch, row, step = padded.stride()
    return padded.as_strided(shape, (*batch, step, row, step), padded.storage_offset() + frames.start * step)


def predict(frames: Tensor, filters: Tensor, taps: int, delay: int) -> Tensor:
    """Return the prediction filters @ z, (G, D', T), for predicting frames (G, D, T) and filters (G, D', taps * D)."""
    count, channels, total = frames.shape
    padded = F.pad(frames, (taps + delay - 1, 0))
    result = frames.new_empty(count, filters.shape[1], total)
    length = min(total, max(1, _CACHE // (2 * taps * channels)))
    for rows, times in _parts(count, total, max(torch.get_num_threads(), _CACHE // (2 * taps * channels * length)), length):
        result[rows, :, times] = filters[rows] @ _lagged(padded[rows], taps, times).flatten(1, 2)
    return result


def solve(matrix: Tensor, right: Tensor, ridge: float) -> Tensor:
    """Return the solutions of Hermitian systems (G, N, N) x = (G, N, D) by Cholesky, each with as small a ridge as works.

    A system of zeros has the solution zero.
    """
    mean = matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    mean = torch.where(mean > 0, mean, 1)
    scaled = matrix / mean
    diagonal = scaled.diagonal(dim1=-2, dim2=-1)
    share = torch.full_like(mean[..., 0], ridge)
    diagonal += share
    factor, failed = torch.linalg.cholesky_ex(scaled)
    # Equal channels make the matrix singular, and rounding may make it indefinite. Only the systems that failed get a larger
    # ridge, so that the others stay exact.
    while bool(failed.any()):
        singular = failed > 0
        last_share = share.clone()
        share[singular] = (share[singular] * _MORE).clamp(max=1.0)
        diagonal += share - last_share
        factor[singular], failed[singular] = torch.linalg.cholesky_ex(scaled[singular])
    solution: Tensor = torch.cholesky_solve(right / mean, factor)
    return solution


def groups(frequencies: int, frames: int, unknowns: int) -> Iterator[slice]:
    """Yield groups of frequencies whose spectra and covariances fit into `_GROUP` numbers."""
    each = max(1, _GROUP // (2 * unknowns**2 + 16 * frames))
    for start in range(0, frequencies, each):
        yield slice(start, min(start + each, frequencies))


def admit_spectra(where: str, spectra: Tensor) -> None:
    """Refuse spectra that are not (..., F, D, T) of finite complex numbers."""
    if not spectra.is_complex():
        raise DtypeError(f"{where}: the spectra are {spectra.dtype}, but complex ones were needed. Pass those of torch.stft.")
    if spectra.ndim < 3 or not prod(spectra.shape[-3:]):
        raise ShapeError(
            f"{where}: the spectra are {tuple(spectra.shape)}, but (..., F, D, T) was needed: frequencies, channels, frames. "
            "Move the axes, and give one channel an axis of its own."
        )
    if not is_finite(spectra):
        raise NonFinite(f"{where}: spectra are NaN or infinite, but finite ones were needed. Replace those samples.")


def _refuse_settings(taps: int, delay: int, iterations: int, context: int, floor: float) -> None:
    for name, value, least in (("taps", taps, 1), ("delay", delay, 1), ("iterations", iterations, 0), ("context", context, 0)):
        if value < least:
            raise ShapeError(f"wpe: {name} is {value}, but {least} or more was needed. Pass an integer of at least {least}.")
    if not 0 < floor < 1:
        raise ShapeError(f"wpe: floor is {floor}, but a share between 0 and 1 was needed. Pass 1e-10, for example.")


def _checked_power(power: Tensor, spectra: Tensor) -> Tensor:
    shape = (*spectra.shape[:-2], spectra.shape[-1])
    if tuple(power.shape) != shape or power.is_complex():
        raise ShapeError(
            f"wpe: power is {tuple(power.shape)}, {power.dtype}, but a real {shape} was needed, one for all channels."
        )
    if not is_finite(power) or bool((power < 0).any()):
        raise ShapeError("wpe: power has values that are NaN, infinite or below zero, but 0 or more was needed. Clamp it.")
    return power.detach().double()
