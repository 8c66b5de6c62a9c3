"""Linear equalisers of a known channel: least mean squared error, or zero forcing, at the best delay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.fields.channel.limits import admitted_noise, admitted_taps, infinite_length
from unconv.inverse.fields.channel.overlap_save import filtered, sub_channels_of
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds_but, fits_kind

Criterion = Literal["mmse", "zero-forcing"]
_NEAR = 0.01  # of an endless equaliser's error: by so much a chosen length may miss it
_LONGEST = 512  # taps of all sub-channels together that are chosen without being asked for
_FLOOR = 1e-6  # of the channel's norm: noise below it counts as so much, so that a matrix can be factored in float64
_SINGULAR = 1e-10  # of the largest singular value: smaller ones count as zero where nothing holds the noise down
_LEFT = 0.1  # interference that zero forcing may leave


@dataclass(frozen=True, eq=False)
class LinearEqualizer:
    """Taps that give back the symbols sent through a channel.

    Attributes:
        taps: (P, F): z[t] = sum_p sum_f taps[p, f] y[p, t - f] is near gain * s[t - delay].
        delay: symbols.
        error: the mean squared error E|z[t] - s[t - delay]|^2, of symbols of power 1.
        gain: what is left of the symbol itself; least mean squared error leaves 1 - error, which is its bias.
        interference: the part of the error that comes of other symbols and, of zero forcing, of a gain that is not 1.
        criterion: as it was asked for.
    """

    taps: Any
    delay: int
    error: float
    gain: complex
    interference: float = field(default=0.0)
    criterion: Criterion = "mmse"

    @checks_kinds_but("observed")
    def equalized(self, observed: Any, count: int | None = None, unbiased: bool = True) -> Any:
        """Return soft symbols (..., count): number i is the estimate of symbol i, the one that first comes in sample i.

        Args:
            observed: (..., P, N); samples outside are taken for zero, so that symbols near the ends are worse.
            count: symbols wanted, 1 to N; None: N.
            unbiased: divide by the gain: without it estimates of least mean squared error are drawn towards zero, and
                decisions of more than two levels are wrong more often.

        Raises:
            ShapeError: other sub-channels, or a count outside. DtypeError, NonFinite: no numbers, or NaN.
        """
        taps = as_samples("equalized", "taps", self.taps, "(P, F)", 2)
        y = as_samples("equalized", "observed", observed, "(..., P, N)", 2)
        wanted = y.shape[-1] if count is None else count
        y = sub_channels_of("equalized", y, len(taps), wanted)
        weights = taps / self.gain if unbiased else taps
        return like(observed, filtered(y, in_precision(weights, y).to(y.device), self.delay, wanted))


def in_precision(taps: Tensor, y: Tensor) -> Tensor:
    """Return taps in the precision of y, complex if they are."""
    single = y.dtype in (torch.float32, torch.complex64)
    return taps.to((torch.complex64 if single else torch.complex128) if taps.is_complex() else y.real.dtype)


@checks_kinds_but("taps", "noise", "length", "delay", "criterion")
def linear_equalizer(
    taps: Any, noise: Any, length: int | None = None, delay: int | str = "best", criterion: Criterion = "mmse"
) -> LinearEqualizer:
    """Design a linear equaliser of a known channel, for white symbols of power 1.

    Args:
        taps: (P, L), real or complex, of sub-channels at one sample a symbol. Several of them can be inverted exactly.
        noise: standard deviation of a sample, E|noise|^2 = noise^2; one, or (P,). For symbols of another power, divide by
            its root.
        length: taps F of each sub-channel. None: twice the channel's, and doubled until the error is within 1 % of an endless
            equaliser's, or all sub-channels together have 512.
        delay: "best", of all 0 ... F + L - 2, or one of them.
        criterion: "mmse", least mean squared error; or "zero-forcing": of the filters with the least interference from other
            symbols the one of least noise, whatever noise that is.

    Raises:
        ShapeError: taps that are all zero; a length or a delay outside; no noise for "mmse"; zero forcing that leaves more than
            a tenth of a symbol's power as interference; a word that is none. DtypeError, NonFinite: no numbers, or NaN.

    Source:
        Proakis, "Digital Communications" (4th ed.), sec. 10.2; Voois, Lee & Cioffi, "The effect of decision delay in
        finite-length decision feedback equalization" (1996), for delays.

    Example:
        >>> found = linear_equalizer([[0.407, 0.815, 0.407]], 0.28, 31)
        >>> found.delay, round(found.error, 4)
        (16, 0.3142)
    """
    if not isinstance(criterion, str) or criterion not in ("mmse", "zero-forcing"):
        raise ShapeError(f"linear_equalizer: criterion is {criterion!r}, but 'mmse' or 'zero-forcing' was needed.")
    h = admitted_taps("linear_equalizer", taps)
    level = admitted_noise("linear_equalizer", noise, len(h))
    if criterion == "mmse" and not bool((level > 0).all()):
        raise ShapeError(f"linear_equalizer: noise is {noise!r}, but more than 0 was needed. Or pass criterion='zero-forcing'.")
    admitted_length("linear_equalizer", "length", length, 1)
    # A delay can only be judged once the length stands: there are length + L - 1 of them.
    design = _least_error if criterion == "mmse" else _zero_forcing
    if length is None:
        found = _long_enough(h, level, delay, criterion)
    else:
        found = design(h, level, length, admitted_delay("linear_equalizer", delay, length + h.shape[1] - 1))
    if found.criterion == "zero-forcing" and found.interference > _LEFT:
        raise ShapeError(
            f"linear_equalizer: zero forcing leaves interference of {found.interference:.2g} with {found.taps.shape[1]} taps "
            f"at delay {found.delay}, but at most {_LEFT} was needed: there are nulls, or too few taps. Pass more taps or "
            "another delay, or criterion='mmse'."
        )
    return LinearEqualizer(like(taps, found.taps), found.delay, found.error, found.gain, found.interference, criterion)


def admitted_length(where: str, name: str, length: Any, least: int) -> None:
    """Refuse a number of taps that is none, except None."""
    if length is not None and (not fits_kind(length, int) or length < least):
        raise ShapeError(f"{where}: {name} is {length!r}, but {least} or more taps were needed. Or None, to have it chosen.")


def admitted_delay(where: str, delay: Any, count: int) -> int | None:
    """Take a delay, 0 to count - 1; None stands for the best."""
    if isinstance(delay, str):
        if delay != "best":
            raise ShapeError(f"{where}: delay is {delay!r}, but 'best' or a number of symbols was needed. Nearest: 'best'.")
        return None
    if not fits_kind(delay, int) or not 0 <= delay < count:
        raise ShapeError(f"{where}: delay is {delay!r}, but 0 to {count - 1} symbols, or 'best', was needed.")
    return int(delay)


def convolution_matrix(taps: Tensor, length: int) -> Tensor:
    """Return H (P * length, length + L - 1): sample y[p, t - f], row p * length + f, holds H[., j] of symbol s[t - j]."""
    parts, reach = taps.shape
    # Each row is the one above it, moved by one: windows of a padded row, the last first.
    padded = F.pad(taps, (length - 1, length - 1))
    return padded.unfold(1, length + reach - 1, 1).flip(1).reshape(parts * length, -1)


def _long_enough(h: Tensor, level: Tensor, delay: Any, criterion: Criterion) -> LinearEqualizer:
    """Double the length until the error is near an endless equaliser's."""
    design = _least_error if criterion == "mmse" else _zero_forcing
    # Without noise an endless filter has no error, and zero forcing by several sub-channels comes to none.
    silent = bool((level == 0).all())
    endless = None if silent else infinite_length(h, level.clamp(min=_FLOOR * float(h.norm())))
    wanted = 0.0 if endless is None else endless.linear if criterion == "mmse" else endless.zero_forcing
    length = max(2 * h.shape[1], 4)
    while True:
        found = design(h, level, length, admitted_delay("linear_equalizer", delay, length + h.shape[1] - 1))
        near = found.error <= (1 + _NEAR) * wanted + _FLOOR**2
        # Too few taps force little to zero, and raise less noise for it: their error may be the smaller one.
        forced = criterion == "mmse" or found.interference <= _NEAR * found.error + _FLOOR**2
        if (near and forced) or 2 * length * len(h) > _LONGEST:
            return found
        length *= 2


def _least_error(h: Tensor, level: Tensor, length: int, delay: int | None) -> LinearEqualizer:
    matrix = convolution_matrix(h, length)
    power = level.clamp(min=_FLOOR * float(h.norm())).square().repeat_interleave(length).to(matrix.dtype)
    factor = torch.linalg.cholesky(matrix @ matrix.mH + power.diag())
    # With R = C C*, the error at delay D is 1 - h_D* R^-1 h_D = 1 - |C^-1 h_D|^2: one factor for all delays.
    whitened = torch.linalg.solve_triangular(factor, matrix, upper=False)
    errors = 1 - whitened.abs().square().sum(0)
    best = int(errors.argmin()) if delay is None else delay
    weights = torch.linalg.solve_triangular(factor.mH, whitened[:, best : best + 1], upper=True)[:, 0].conj().resolve_conj()
    return _measured(weights, matrix, level, length, best, "mmse")


def _zero_forcing(h: Tensor, level: Tensor, length: int, delay: int | None) -> LinearEqualizer:
    matrix = convolution_matrix(h, length)
    # In units of each sub-channel's noise the pseudoinverse's filter is the one of least noise; without noise, of least norm.
    scale = torch.where(level > 0, level, float(level.max()) * _FLOOR or 1.0).repeat_interleave(length)[:, None]
    inverse = torch.linalg.pinv(matrix / scale, rtol=_SINGULAR) / scale.T
    left = (inverse @ matrix - torch.eye(matrix.shape[1], dtype=matrix.dtype)).abs().square().sum(1)
    noise = (inverse.abs().square() * level.square().repeat_interleave(length)).sum(1)
    # Several sub-channels are inverted at many delays: of the perfect ones the one of least noise is taken.
    raised = noise if bool((level > 0).any()) else inverse.abs().square().sum(1)
    best = int(torch.where(left <= 1.01 * left.min() + _FLOOR**2, raised, torch.inf).argmin()) if delay is None else delay
    return _measured(inverse[best], matrix, level, length, best, "zero-forcing")


def _measured(weights: Tensor, matrix: Tensor, level: Tensor, length: int, delay: int, criterion: Criterion) -> LinearEqualizer:
    """Return an equaliser with its error by its own taps, not by the formula that led to them."""
    response = weights @ matrix
    gain = complex(response[delay])
    response[delay] -= 1
    taps = weights.reshape(-1, length)
    interference = float(response.abs().square().sum())
    error = interference + float((taps.abs().square() * level.square()[:, None]).sum())
    return LinearEqualizer(taps, delay, error, gain if taps.is_complex() else gain.real, interference, criterion)
