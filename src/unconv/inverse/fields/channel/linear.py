"""Design linear equalisers for a known channel: least mean squared error or zero forcing, at the best decision delay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError, counted
from unconv.inverse.fields.channel.limits import admitted_noise, admitted_taps, infinite_length
from unconv.inverse.fields.channel.overlap_save import filtered, sub_channels_of
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, fits_kind

Criterion = Literal["mmse", "zero-forcing"]
_NEAR = 0.01  # relative excess over the error of infinite length that a chosen length may leave
_LONGEST = 512  # taps of all sub-channels together that may be chosen automatically
_FLOOR = 1e-6  # of the channel's norm: lower noise is raised to it, so that the matrix can be factored in float64
_SINGULAR = 1e-10  # of the largest singular value: smaller ones count as zero in the pseudoinverse
_MAX_INTERFERENCE = 0.1  # of a symbol's power that zero forcing may leave


@dataclass(frozen=True, eq=False)
class LinearEqualizer:
    """A linear equaliser, as `linear_equalizer` designs it.

    Attributes:
        taps: (P, F): z[t] = sum_p sum_f taps[p, f] y[p, t - f] is near gain * s[t - delay].
        delay: the decision delay, in symbols.
        error: mean squared error E|z[t] - s[t - delay]|^2 for symbols of power 1.
        gain: factor of the symbol itself in z. For "mmse" it is 1 - error: the estimate is biased towards zero.
        interference: the part of the error that is not noise: residual intersymbol interference and a gain other than 1.
        criterion: "mmse" or "zero-forcing".
    """

    taps: Any
    delay: int
    error: float
    gain: complex
    interference: float = field(default=0.0)
    criterion: Criterion = "mmse"

    @checks_kinds_but("observed")
    def equalized(self, observed: Any, count: int | None = None, unbiased: bool = True) -> Any:
        """Filter observations: return soft symbols (..., count), the i-th for the symbol that meets tap 0 in sample i.

        Args:
            observed: (..., P, N); samples outside count as zero, so that symbols near the ends are less reliable.
            count: number of symbols, 1 to N; None: N.
            unbiased: divide by the gain. Biased MMSE estimates are too small, which causes wrong decisions for constellations
                of several amplitudes.

        Raises:
            ShapeError: another number of sub-channels, or a count out of range. DtypeError, NonFinite: not finite numbers.
        """
        taps = as_samples("equalized", "taps", self.taps, "(P, F)", 2)
        y = as_samples("equalized", "observed", observed, "(..., P, N)", 2)
        wanted = y.shape[-1] if count is None else count
        y = sub_channels_of("equalized", y, len(taps), wanted)
        weights = taps / self.gain if unbiased else taps
        return like(observed, filtered(y, in_precision(weights, y).to(y.device), self.delay, wanted))


def in_precision(taps: Tensor, y: Tensor) -> Tensor:
    """Return taps in the precision of y; complex taps stay complex."""
    single = y.dtype in (torch.float32, torch.complex64)
    return taps.to((torch.complex64 if single else torch.complex128) if taps.is_complex() else y.real.dtype)


@checks_kinds_but("taps", "noise", "length", "delay", "criterion")
def linear_equalizer(
    taps: Any, noise: Any, length: int | None = None, delay: int | str = "best", criterion: Criterion = "mmse"
) -> LinearEqualizer:
    """Design a linear equaliser for a known channel and white symbols of power 1: MMSE or zero forcing.

    Args:
        taps: (P, L), real or complex, of sub-channels at one sample per symbol. Two or more can be inverted exactly.
        noise: standard deviation of a sample's noise, E|noise|^2 = noise^2; one number, or (P,). For symbols of another power,
            divide it by the root of that power.
        length: taps F of each sub-channel. None: twice the channel's length, doubled until the error is within 1 % of that of
            infinite length, with at most 512 taps in all sub-channels together.
        delay: decision delay in symbols, 0 to F + L - 2; "best": the one of least error.
        criterion: "mmse", the least mean squared error; or "zero-forcing": among the filters of least intersymbol interference
            the one of least noise, however strong that is.

    Raises:
        ShapeError: taps that are all zero; a length or a delay out of range; no noise for "mmse"; zero forcing that leaves more
            than a tenth of a symbol's power as interference; an unknown criterion. DtypeError, NonFinite: not finite numbers.

    Source:
        Proakis, "Digital Communications" (4th ed.), sec. 10.2; Voois, Lee & Cioffi, "The effect of decision delay in
        finite-length decision feedback equalization" (1996), for delays.

    Example:
        >>> equalizer = linear_equalizer([[0.407, 0.815, 0.407]], 0.28, 31)
        >>> equalizer.delay, round(equalizer.error, 4)
        (16, 0.3142)
    """
    if not isinstance(criterion, str) or criterion not in ("mmse", "zero-forcing"):
        raise ShapeError(f"linear_equalizer: criterion is {criterion!r}, but 'mmse' or 'zero-forcing' was needed.")
    h = admitted_taps("linear_equalizer", taps)
    level = admitted_noise("linear_equalizer", noise, len(h))
    if criterion == "mmse" and not bool((level > 0).all()):
        raise ShapeError(f"linear_equalizer: noise is {noise!r}, but more than 0 was needed. Or pass criterion='zero-forcing'.")
    admitted_length("linear_equalizer", "length", length, 1)
    # The range of delays, length + L - 1 of them, depends on the length: each length has a best delay of its own.
    design = _least_error if criterion == "mmse" else _zero_forcing
    if length is None:
        designed = _long_enough(h, level, delay, criterion)
    else:
        designed = design(h, level, length, admitted_delay("linear_equalizer", delay, length + h.shape[1] - 1))
    if designed.criterion == "zero-forcing" and designed.interference > _MAX_INTERFERENCE:
        raise ShapeError(
            f"linear_equalizer: zero forcing leaves interference of {designed.interference:.2g} with "
            f"{counted(designed.taps.shape[1], 'tap')} at delay {designed.delay}, but at most {_MAX_INTERFERENCE} was needed: "
            "the channel has spectral nulls, or the length is too small. Pass a larger length or another delay, or "
            "criterion='mmse'."
        )
    return LinearEqualizer(
        like(taps, designed.taps), designed.delay, designed.error, designed.gain, designed.interference, criterion
    )


def admitted_length(where: str, name: str, length: Any, least: int) -> None:
    """Refuse a length that is not a number of taps; None passes."""
    if length is not None and (not fits_kind(length, int) or length < least):
        raise ShapeError(f"{where}: {name} is {length!r}, but {least} or more taps were needed. Pass None to have it chosen.")


def admitted_delay(where: str, delay: Any, count: int) -> int | None:
    """Return a delay from 0 to count - 1, or None for "best"."""
    if isinstance(delay, str):
        if delay != "best":
            raise ShapeError(f"{where}: delay is {delay!r}, but 'best' or a number of symbols was needed. Pass 'best'.")
        return None
    if not fits_kind(delay, int) or not 0 <= delay < count:
        raise ShapeError(f"{where}: delay is {delay!r}, but 0 to {count - 1} symbols, or 'best', was needed.")
    return int(delay)


def convolution_matrix(taps: Tensor, length: int) -> Tensor:
    """Return H (P * length, length + L - 1): H[p * length + f, j] is the factor of symbol s[t - j] in sample y[p, t - f]."""
    parts, reach = taps.shape
    # Toeplitz: each row is the one above it moved by one, so that all rows are windows of one padded row.
    padded = F.pad(taps, (length - 1, length - 1))
    return padded.unfold(1, length + reach - 1, 1).flip(1).reshape(parts * length, -1)


def _long_enough(h: Tensor, level: Tensor, delay: Any, criterion: Criterion) -> LinearEqualizer:
    """Double the length until the error is near that of infinite length."""
    design = _least_error if criterion == "mmse" else _zero_forcing
    # Without noise, a filter of infinite length has no error; several sub-channels reach that with a finite one.
    silent = bool((level == 0).all())
    limits = None if silent else infinite_length(h, level.clamp(min=_FLOOR * float(h.norm())))
    wanted = 0.0 if limits is None else limits.linear if criterion == "mmse" else limits.zero_forcing
    length = max(2 * h.shape[1], 4)
    while True:
        designed = design(h, level, length, admitted_delay("linear_equalizer", delay, length + h.shape[1] - 1))
        near = designed.error <= (1 + _NEAR) * wanted + _FLOOR**2
        # Zero forcing with too few taps leaves interference but raises less noise: its error may be smaller than wanted.
        forced = criterion == "mmse" or designed.interference <= _NEAR * designed.error + _FLOOR**2
        if (near and forced) or 2 * length * len(h) > _LONGEST:
            return designed
        length *= 2


def _least_error(h: Tensor, level: Tensor, length: int, delay: int | None) -> LinearEqualizer:
    matrix = convolution_matrix(h, length)
    power = level.clamp(min=_FLOOR * float(h.norm())).square().repeat_interleave(length).to(matrix.dtype)
    factor = torch.linalg.cholesky(matrix @ matrix.mH + power.diag())
    # With R = C C*, the error at delay D is 1 - h_D* R^-1 h_D = 1 - |C^-1 h_D|^2: one Cholesky factor serves all delays.
    whitened = torch.linalg.solve_triangular(factor, matrix, upper=False)
    errors = 1 - whitened.abs().square().sum(0)
    best = int(errors.argmin()) if delay is None else delay
    weights = torch.linalg.solve_triangular(factor.mH, whitened[:, best : best + 1], upper=True)[:, 0].conj().resolve_conj()
    return _evaluated(weights, matrix, level, length, best, "mmse")


def _zero_forcing(h: Tensor, level: Tensor, length: int, delay: int | None) -> LinearEqualizer:
    matrix = convolution_matrix(h, length)
    # The pseudoinverse gives the filter of least norm. In units of each sub-channel's noise, that is the one of least noise.
    scale = torch.where(level > 0, level, float(level.max()) * _FLOOR or 1.0).repeat_interleave(length)[:, None]
    inverse = torch.linalg.pinv(matrix / scale, rtol=_SINGULAR) / scale.T
    left = (inverse @ matrix - torch.eye(matrix.shape[1], dtype=matrix.dtype)).abs().square().sum(1)
    noise = (inverse.abs().square() * level.square().repeat_interleave(length)).sum(1)
    # Several sub-channels can be inverted exactly at many delays: choose the delay of least noise among these.
    raised = noise if bool((level > 0).any()) else inverse.abs().square().sum(1)
    best = int(torch.where(left <= 1.01 * left.min() + _FLOOR**2, raised, torch.inf).argmin()) if delay is None else delay
    return _evaluated(inverse[best], matrix, level, length, best, "zero-forcing")


def _evaluated(
    weights: Tensor, matrix: Tensor, level: Tensor, length: int, delay: int, criterion: Criterion
) -> LinearEqualizer:
    """Return an equaliser with its error for these taps and the true noise, which the design's closed form may not match."""
    response = weights @ matrix
    gain = complex(response[delay])
    response[delay] -= 1
    taps = weights.reshape(-1, length)
    interference = float(response.abs().square().sum())
    error = interference + float((taps.abs().square() * level.square()[:, None]).sum())
    return LinearEqualizer(taps, delay, error, gain if taps.is_complex() else gain.real, interference, criterion)
