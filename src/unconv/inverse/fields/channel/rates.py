"""Measure recovered symbols: error rates with confidence intervals, mean squared errors, and the delay of two sequences."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.channel.indices import integers_of, tensor_of
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds

_DEVIATIONS = 1.959963984540054  # standard deviations to either side that hold 95 % of a normal distribution
_SAME = 1e-4  # of the sent symbols' mean magnitude: symbols that close are equal
_SAMPLED = 20_000  # sent symbols, at most, from which the points are read
_FEW = 8  # wrong symbols: too few to tell soft values from wrong decisions
_SIGNIFICANT = 5.0  # standard deviations of unrelated sequences' correlation: beyond, two sequences are related
_LEAST = 26  # symbols that two sequences must share: with fewer, even a perfect correlation hardly counts


@dataclass(frozen=True)
class ErrorRate:
    """An error rate that was counted, with its 95 % confidence interval.

    Attributes:
        errors: how many symbols, or bits, were wrong. count: how many were compared.
        rate: errors / count.
        low, high: Wilson's 95 % interval for independent errors; bursts of errors, as decision feedback makes them, would widen
            it. If no errors were counted, low is 0 and high about 3 / count, the rate at which one run in 20 shows none; if all
            were wrong, likewise.
    """

    errors: int
    count: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        if not self.errors:
            return f"below {self.high:.2g} (none of {self.count:,})"
        return f"{self.rate:.3g} ({self.low:.2g} to {self.high:.2g}; {self.errors:,} of {self.count:,})"


@dataclass(frozen=True)
class SquaredError:
    """The mean of |soft - sent|^2.

    Attributes:
        value: the mean. decibels: 10 log10 of the mean over that of |sent|^2; -inf where the error is 0.
        count: how many symbols were compared.
    """

    value: float
    decibels: float
    count: int


@dataclass(frozen=True, eq=False)
class Aligned:
    """Two aligned sequences: sent[t] belongs to decided[t + delay].

    Attributes:
        sent, decided: (k,), the parts that overlap, each an array or a tensor as it was passed.
        delay: symbols by which `decided` lags; negative where it begins after the first symbol sent.
        likeness: magnitude of their normalised correlation, from 0 to 1.
        factor: least-squares factor from `sent` to `decided`: -1 for inverted signs, 1j for a quarter turn.
    """

    sent: Any
    decided: Any
    delay: int
    likeness: float
    factor: complex


@checks_kinds
def symbol_error_rate(sent: Any, decided: Any) -> ErrorRate:
    """Return the symbol error rate of decisions, with its 95 % interval.

    Args:
        sent, decided: (..., n) each, both indices or both points of the constellation.

    Raises:
        ShapeError: shapes that differ; soft values in place of decisions. DtypeError: indices compared with points.
    """
    where = "symbol_error_rate"
    what = "numbers were needed. Pass indices, or points of the constellation"
    first, second = tensor_of(where, "sent", sent, what), tensor_of(where, "decided", decided, what)
    _same_shape(where, first, second)
    soft = [each.is_floating_point() or each.is_complex() for each in (first, second)]
    if soft[0] != soft[1]:
        raise DtypeError(
            f"{where}: sent is {first.dtype} and decided is {second.dtype}, but both indices, or both points, were needed. "
            "constellation(...).nearest() turns points into indices."
        )
    second = second.to(first.device)
    if not soft[0]:
        return _rate(first.long() != second.long())
    first, second = as_samples(where, "sent", first, "(..., n)"), as_samples(where, "decided", second, "(..., n)")
    width = _SAME * float(first.abs().mean())
    # To this width, decisions in single precision equal the symbols sent; soft values do not.
    wrong = (first - second).abs() > width
    _refuse_soft_values(where, first, second[wrong], width)
    return _rate(wrong)


def _refuse_soft_values(where: str, sent: Tensor, wrong: Tensor, width: float) -> None:
    """Refuse soft values in place of decisions: most of those that are wrong equal no symbol that was sent."""
    examined = wrong[:1000]
    if len(examined) < _FEW:
        return
    # The constellation is not known here: the distinct symbols that were sent stand for it.
    flat = sent.reshape(-1)[:_SAMPLED].to(torch.complex128)
    known = torch.view_as_real(flat).div(max(width, 1e-300)).round().unique(dim=0)
    if len(known) > 4096:
        return
    points = torch.view_as_complex(known) * width
    distances = (examined[:, None] - points).abs().amin(1)
    if float((distances > 2 * width).double().mean()) > 0.5:
        raise ShapeError(
            f"{where}: decided holds values such as {examined[0].item():.4g}, but symbols equal to those sent were needed. "
            "They look like soft symbols, or have another scale. Pass constellation(...).nearest(soft), and indices as sent."
        )


@checks_kinds
def bit_error_rate(sent_bits: Any, decided_bits: Any) -> ErrorRate:
    """Return the bit error rate of decided bits, with its 95 % interval.

    Args:
        sent_bits, decided_bits: (..., n) each, 0 or 1.

    Raises:
        ShapeError: shapes that differ; values other than 0 and 1. DtypeError: soft values.
    """
    what = "bits, 0 or 1, were needed. Decide log-likelihood ratios first: (llr < 0)"
    first = integers_of("bit_error_rate", "sent_bits", sent_bits, 1, what)
    second = integers_of("bit_error_rate", "decided_bits", decided_bits, 1, what)
    _same_shape("bit_error_rate", first, second)
    return _rate(first != second.to(first.device))


@checks_kinds
def mean_squared_error(sent: Any, soft: Any) -> SquaredError:
    """Return the mean squared error of soft symbols, also in decibels relative to the power sent.

    Args:
        sent, soft: (..., n) each, real or complex.

    Raises:
        ShapeError: shapes that differ; sent symbols that are all zero. DtypeError, NonFinite: not finite numbers.
    """
    where = "mean_squared_error"
    first, second = as_samples(where, "sent", sent, "(..., n)"), as_samples(where, "soft", soft, "(..., n)")
    _same_shape(where, first, second)
    power = float(first.abs().double().square().mean())
    if not power:
        raise ShapeError(
            "mean_squared_error: sent is all zeros, but symbols with power were needed. Pass those that were sent."
        )
    value = float((second.to(first.device) - first).abs().double().square().mean())
    return SquaredError(value, 10 * log10(value / power) if value else -inf, first.numel())


def _same_shape(where: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ShapeError(
            f"{where}: {tuple(first.shape)} were sent but {tuple(second.shape)} were decided, and equal shapes were needed. "
            "Cut both to the part they share, or find it with align()."
        )


def _rate(wrong: Tensor) -> ErrorRate:
    """Return the rate with Wilson's score interval, "Probable inference, the law of succession" (1927)."""
    errors, n = int(wrong.sum()), wrong.numel()
    p, z = errors / n, _DEVIATIONS
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # No errors: (1 - high)^n = 0.05 is exact, while Wilson's bound would rest on a normal approximation of no events.
    edge: float = 1 - 0.05 ** (1 / n)
    low = 1 - edge if errors == n else (middle - half if errors else 0.0)
    high = edge if not errors else (middle + half if errors < n else 1.0)
    return ErrorRate(errors, n, p, low, high)


@checks_kinds
def align(sent: Any, decided: Any, most: int | None = None) -> Aligned:
    """Find the delay between two symbol sequences by cross-correlation, and cut both to the part they share.

    Args:
        sent, decided: (n,) and (k,), decided or soft symbols, real or complex; not indices, whose order means nothing.
        most: largest delay of either, in symbols; by default any that leaves at least 26 symbols to compare.

    Raises:
        ShapeError: more than one axis, fewer than 26 symbols, or no delay at which the sequences are related.
    """
    first, second = as_samples("align", "sent", sent, "(..., n)"), as_samples("align", "decided", decided, "(..., n)")
    if first.ndim != 1 or second.ndim != 1 or min(len(first), len(second)) < _LEAST:
        raise ShapeError(
            f"align: sent is {tuple(first.shape)} and decided {tuple(second.shape)}, but (n,) and (k,) of {_LEAST} or more "
            "symbols were needed. Align one signal at a time."
        )
    kind = torch.complex128 if first.is_complex() or second.is_complex() else torch.float64
    x, y = first.to(kind), second.to(first.device, kind)
    delays = torch.arange(-(len(x) - _LEAST), len(y) - _LEAST + 1, device=x.device)
    delays = delays[delays.abs() <= (most if most is not None else len(delays) + len(x))]
    product, sizes, shared = _correlations(x, y, delays)
    # Few shared symbols correlate by chance: rank delays by significance, not by the correlation alone.
    likeness = torch.where(sizes > 0, product.abs() / sizes.clamp(min=1e-300).sqrt(), 0).clamp(max=1)
    best = int((likeness.square() * shared).argmax())
    delay, alike, many = int(delays[best]), float(likeness[best]), int(shared[best])
    if alike * sqrt(many) < _SIGNIFICANT:
        raise ShapeError(
            f"align: the best correlation is {alike:.2g} over {many} symbols, at delay {delay}, but at least "
            f"{_SIGNIFICANT / sqrt(many):.2g} was needed, which unrelated symbols do not reach. Pass longer parts, or symbols "
            "of the same signal."
        )
    start, end = max(-delay, 0), min(len(x), len(y) - delay)
    shared_x, shared_y = x[start:end], y[start + delay : end + delay]
    factor = complex(torch.vdot(shared_x, shared_y).item() / float(shared_x.abs().square().sum()))
    parts = like(sent, first[start:end]), like(decided, second[start + delay : end + delay])
    return Aligned(*parts, delay, alike, factor)


def _correlations(x: Tensor, y: Tensor, delays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for delays d, the sums of conj(x[t]) y[t + d], the products of both energies there, and the numbers of terms."""
    n = fast_length(len(x) + len(y))
    product: Tensor = torch.fft.ifft(torch.fft.fft(x, n).conj() * torch.fft.fft(y, n))[delays]
    # The overlap changes with the delay, so that each has energies of its own: differences of cumulative sums.
    first, last = (-delays).clamp(min=0), (len(y) - delays).clamp(max=len(x))
    sums_x, sums_y = (F.pad(each.abs().square().cumsum(0), (1, 0)) for each in (x, y))
    energies = (sums_x[last] - sums_x[first]) * (sums_y[last + delays] - sums_y[first + delays])
    return product, energies, last - first
