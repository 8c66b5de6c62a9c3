"""Weighted prediction error: take out of a short-time spectrum what its own past predicts, which is late reverberation."""

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

_GROUP = 2**20  # numbers of the spectra and covariances of the frequencies that are worked on together
_CACHE = 2**17  # numbers of lagged spectra at one time: 1 MB in float64. 8 MB, beyond the cache, took five times as long.
_FLOOR = 1e-10  # of a frequency's largest power: nara_wpe's
_STEEP = 1e-5  # the least floor at which float32 carries the covariance: weights that spread more make it too ill-conditioned
_RIDGES = {torch.float64: 1e-15, torch.float32: 1e-6}  # of the covariance's mean diagonal: about what its rounding errors are
_MORE = 1e3  # by which the ridge grows where a Cholesky factor does not exist
_THIN = {torch.float64: 1e-14, torch.float32: 1e-12}  # of the loudest principal channel's power: less is rounding


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
    """Take late reverberation out of short-time spectra by weighted prediction error (WPE), offline.

    In each frequency, a frame is predicted from the `taps` frames of all channels that lie `delay` or more before it; what is
    left is the early sound. The prediction weighs each frame by one over the power of the early sound, which is estimated
    by turns with it. All channels come out, with their differences in time and level kept.

    Args:
        spectra: (..., F, D, T), complex: frequencies, channels, frames.
        taps: frames of each channel that predict. F problems of taps * D unknowns are solved from T frames each; as their
            number comes near T, the speech itself is predicted and vanishes.
        delay: frames from the last that predicts to the one predicted, 1 or more: so long that speech itself, which the
            windows of neighbouring frames share, is not predicted.
        iterations: of estimating power and prediction by turns; 0 changes nothing.
        context: frames on each side over which the power is averaged, besides over channels.
        floor: the least power that a frame counts with, as a share of the largest in its frequency. The default is that of
            nara_wpe, with which a few silent frames may weigh more than all speech; 1e-4 does better on clean recordings.
        power: (..., F, T), of the early sound, for the first iteration; None: that of `spectra`.

    Returns:
        (..., F, D, T), dtype and device of `spectra`. It is computed in complex128 inside, except complex64 spectra with a
        floor of 1e-5 or more, for which complex64 is enough. Scaled spectra give scaled ones.

    Raises:
        ShapeError: not (..., F, D, T) with at least one of each; numbers of taps, delay, iterations or context that are
            too small; a floor that is not between 0 and 1; a power of another shape, or below zero.
        DtypeError, NonFinite: real spectra; NaN or infinite ones.

    Source:
        Nakatani, Yoshioka, Kinoshita, Miyoshi & Juang, "Speech dereverberation based on variance-normalized delayed linear
        prediction" (2010); Yoshioka & Nakatani, "Generalization of multi-channel linear prediction methods for blind MIMO
        impulse response shortening" (2012). As `nara_wpe.wpe.wpe_v8` 0.0.11 with statistics_mode="full", where its systems
        are regular.
    """
    admit_spectra("wpe", spectra)
    _refuse_settings(taps, delay, iterations, context, floor)
    y = spectra.detach().reshape(-1, *spectra.shape[-2:])
    given = None if power is None else _admitted_power(power, spectra).reshape(len(y), -1)
    result = torch.empty_like(y)
    single = spectra.dtype is torch.complex64 and floor >= _STEEP
    for some in groups(len(y), y.shape[-1], taps * y.shape[1]):
        frames = Frames.of(y[some], torch.complex64 if single else torch.complex128, floor)
        early = frames.sound
        known = mean_power(early, context) if given is None else (given[some] / frames.size[:, 0].square()).to(early.real)
        for number in range(iterations):
            early = frames.without_late(inverse_power(known, floor), taps, delay)
            known = mean_power(early, context) if number + 1 < iterations else known
        result[some] = (early * frames.size).to(y.dtype)
        tell(some.stop / len(y))
    return result.reshape(spectra.shape)


@dataclass(frozen=True)
class Frames:
    """The frames of a group of frequencies, made fit to be predicted.

    Attributes:
        sound: (G, D, T), each frequency of size 1, so that no power leaves the range of numbers.
        white: (G, D, T), mixed so that the channels are uncorrelated and alike in power. What predicts may be mixed in any
            way that can be undone; near microphones, of which low frequencies have one common sound, are then told apart
            by float32 too.
        back: (G, D, D), from `white` to `sound`. size: (G, 1, 1), of what came.
    """

    sound: Tensor
    white: Tensor
    back: Tensor
    size: Tensor

    @staticmethod
    def of(spectra: Tensor, dtype: torch.dtype, floor: float) -> Frames:
        """Take spectra (G, D, T)."""
        size = spectra.abs().amax((1, 2), keepdim=True).double()
        size = torch.where(size > 0, size, 1)
        sound = spectra / size  # complex128
        if sound.shape[1] == 1:
            return Frames(sound.to(dtype), sound.to(dtype), torch.ones_like(sound[..., :1]).to(dtype), size)
        weighted = sound * inverse_power(mean_power(sound), floor)[:, None]
        power, axes = torch.linalg.eigh(weighted @ sound.mH)
        level = power.clamp(min=_THIN[dtype.to_real()] * power[:, -1:]).sqrt()
        level = torch.where(level > 0, level, 1)
        white = (axes.mH / level[..., None]) @ sound
        return Frames(sound.to(dtype), white.to(dtype), (axes * level[:, None]).to(dtype), size)

    def without_late(self, weights: Tensor, taps: int, delay: int) -> Tensor:
        """Return (G, D, T), the frames without what those before predict of them with weights (G, T)."""
        matrix = weighted_covariance(self.white, weights, taps, delay)
        unknowns = taps * self.white.shape[1]
        ridge = _RIDGES[self.back.real.dtype]
        filters = solved(matrix[:, :unknowns, :unknowns], matrix[:, :unknowns, unknowns:], ridge)
        return self.sound - predicted(self.white, self.back @ filters.to(self.back.dtype).mH, taps, delay)


def mean_power(frames: Tensor, context: int = 0) -> Tensor:
    """Return the power of frames (G, D, T), averaged over channels and `context` frames on each side: (G, T)."""
    power = (frames.real.square() + frames.imag.square()).mean(1)
    if not context:
        return power
    # At the ends over those that are there.
    mean: Tensor = F.avg_pool1d(power[:, None], 2 * context + 1, 1, context, count_include_pad=False)[:, 0]
    return mean


def inverse_power(power: Tensor, floor: float = _FLOOR) -> Tensor:
    """Return 1 / max(power, floor * the largest of its frequency), (G, T); 0 in a frequency of silence."""
    most = power.amax(-1, keepdim=True)
    least = (floor * most).clamp(min=torch.finfo(power.dtype).tiny)
    return torch.where(most > 0, 1 / torch.maximum(power, least), 0)


def weighted_covariance(frames: Tensor, weights: Tensor, taps: int, delay: int) -> Tensor:
    """Return the sum over t of w[t] z[t] z[t]^H, z = (frames that predict, frame predicted): (G, N + D, N + D), complex128.

    z holds first the frame delay + taps - 1 before frame t, last that `delay` before it, then frame t: N = taps * D.
    The real part is one product of real matrices, B B' + C C', and the imaginary one another, M - M' with M = C B': three
    quarters of the multiplications of the complex product, and faster by as much.
    """
    count, channels, total = frames.shape
    before, size = taps + delay - 1, (taps + 1) * channels
    padded = F.pad(torch.stack([frames.real, frames.imag], 1), (before, 0))
    root = weights.to(padded.dtype).sqrt()[:, None, None, None]
    real = padded.new_zeros(count, size, size)
    crossed = torch.zeros_like(real)
    length = min(total, max(1, _CACHE // (2 * size)))
    each = max(torch.get_num_threads(), _CACHE // (2 * size * length))
    lagged = padded.new_empty(min(each, count) * 2 * size * length)
    for some, times in _parts(count, total, each, length):
        shape = (some.stop - some.start, 2, taps + 1, channels, times.stop - times.start)
        here = lagged[: prod(shape)].view(shape)
        now = padded[some, :, None, :, before + times.start : before + times.stop]
        torch.mul(_lagged(padded[some], taps, times), root[some, ..., times], out=here[:, :, :-1])
        torch.mul(now, root[some, ..., times], out=here[:, :, -1:])
        parts = here.flatten(2, 3)
        for part in (0, 1):
            real[some].baddbmm_(parts[:, part], parts[:, part].mT)
        crossed[some].baddbmm_(parts[:, 1], parts[:, 0].mT)
    return torch.complex(real.double(), (crossed - crossed.mT).double())


def _parts(count: int, total: int, each: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of (count, total), of no more than (each, length)."""
    for low in range(0, count, each):
        for start in range(0, total, length):
            yield slice(low, min(low + each, count)), slice(start, min(start + length, total))


def _lagged(padded: Tensor, taps: int, frames: slice) -> Tensor:
    """Return for each frame the `taps` frames from it on, (..., taps, D, T), of (..., D, T'), without a copy."""
    shape = (*padded.shape[:-2], taps, padded.shape[-2], frames.stop - frames.start)
    *batch, row, step = padded.stride()
    return padded.as_strided(shape, (*batch, step, row, step), padded.storage_offset() + frames.start * step)


def predicted(frames: Tensor, filters: Tensor, taps: int, delay: int) -> Tensor:
    """Return filters @ z, (G, D', T), of the frames (G, D, T) that predict, and filters (G, D', taps * D)."""
    count, channels, total = frames.shape
    padded = F.pad(frames, (taps + delay - 1, 0))
    result = frames.new_empty(count, filters.shape[1], total)
    length = min(total, max(1, _CACHE // (2 * taps * channels)))
    for some, times in _parts(count, total, max(torch.get_num_threads(), _CACHE // (2 * taps * channels * length)), length):
        result[some, :, times] = filters[some] @ _lagged(padded[some], taps, times).flatten(1, 2)
    return result


def solved(matrix: Tensor, right: Tensor, ridge: float) -> Tensor:
    """Solve Hermitian systems (G, N, N) x = (G, N, D) by Cholesky, with as little of a ridge as each can do with.

    A system of zeros has the solution zero.
    """
    mean = matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    mean = torch.where(mean > 0, mean, 1)
    scaled = matrix / mean
    diagonal = scaled.diagonal(dim1=-2, dim2=-1)
    share = torch.full_like(mean[..., 0], ridge)
    diagonal += share
    factor, failed = torch.linalg.cholesky_ex(scaled)
    # Channels that are alike make the matrix singular, and rounding may make it worse.
    while bool(failed.any()):
        again = failed > 0
        before = share.clone()
        share[again] = (share[again] * _MORE).clamp(max=1.0)
        diagonal += share - before
        factor[again], failed[again] = torch.linalg.cholesky_ex(scaled[again])
    solution: Tensor = torch.cholesky_solve(right / mean, factor)
    return solution


def groups(frequencies: int, frames: int, unknowns: int) -> Iterator[slice]:
    """Yield groups of frequencies whose spectra and covariances are not too large."""
    each = max(1, _GROUP // (2 * unknowns**2 + 16 * frames))
    for start in range(0, frequencies, each):
        yield slice(start, min(start + each, frequencies))


def admit_spectra(where: str, spectra: Tensor) -> None:
    """Refuse what is no (..., F, D, T) of finite complex numbers."""
    if not spectra.is_complex():
        raise DtypeError(f"{where}: the spectra are {spectra.dtype}, but complex ones were needed. Pass torch.stft's.")
    if spectra.ndim < 3 or not prod(spectra.shape[-3:]):
        raise ShapeError(
            f"{where}: the spectra are {tuple(spectra.shape)}, but (..., F, D, T) was needed: frequencies, channels, frames. "
            "Move the axes, and give one channel an axis of its own."
        )
    if not is_finite(spectra):
        raise NonFinite(f"{where}: spectra are NaN or infinite, but numbers were needed. Replace those samples.")


def _refuse_settings(taps: int, delay: int, iterations: int, context: int, floor: float) -> None:
    for name, value, least in (("taps", taps, 1), ("delay", delay, 1), ("iterations", iterations, 0), ("context", context, 0)):
        if value < least:
            raise ShapeError(f"wpe: {name} is {value}, but {least} or more was needed.")
    if not 0 < floor < 1:
        raise ShapeError(f"wpe: floor is {floor}, but a share between 0 and 1 was needed. Pass 1e-10, for example.")


def _admitted_power(power: Tensor, spectra: Tensor) -> Tensor:
    wanted = (*spectra.shape[:-2], spectra.shape[-1])
    if tuple(power.shape) != wanted or power.is_complex():
        raise ShapeError(f"wpe: power is {tuple(power.shape)}, {power.dtype}, but a real {wanted} was needed, as the spectra.")
    if not is_finite(power) or bool((power < 0).any()):
        raise ShapeError("wpe: power has values that are NaN, infinite or below zero, but 0 or more was needed.")
    return power.detach().double()
