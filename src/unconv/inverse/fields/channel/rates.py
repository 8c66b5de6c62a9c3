"""How well symbols were recovered: error rates with intervals, mean squared errors, and the delay between two sequences."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.channel.indices import tensor_of, whole
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds

_DEVIATIONS = 1.959963984540054  # of a normal variable, between which 95 % lie
_SAME = 1e-4  # of the sent symbols' mean magnitude: nearer than that, two symbols are one
_SEEN = 20_000  # symbols sent, among which the points are looked for
_FEW = 8  # wrong symbols, of which nothing can be told
_SURE = 5.0  # standard deviations of unrelated sequences' correlation, above which two are related
_LEAST = 26  # symbols that two sequences must share: of fewer, none are sure


@dataclass(frozen=True)
class ErrorRate:
    """Errors that were counted, and between which rates the true one lies.

    Attributes:
        errors: how many of the symbols, or bits, were wrong. count: of how many.
        rate: errors / count.
        low, high: the interval of 95 % (Wilson's), errors being independent: bursts, as decision feedback makes them, widen it.
            Without errors, low is 0 and high the rate at which none would be seen in one of 20 such runs, about 3 / count;
            where all are wrong, likewise.
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
        value: the mean. decibels: 10 log10 of it over the mean of |sent|^2; -inf where nothing is wrong.
        count: over how many symbols.
    """

    value: float
    decibels: float
    count: int


@dataclass(frozen=True, eq=False)
class Aligned:
    """Two sequences brought together: sent[t] belongs to decided[t + delay].

    Attributes:
        sent, decided: (k,), the parts that overlap, in the kinds that came.
        delay: symbols by which `decided` is late; below zero, where it begins after the first symbol sent.
        likeness: from 0 to 1, the magnitude of their correlation. factor: by which `sent` was multiplied, in least squares:
            -1 of inverted signs, 1j of a quarter turn.
    """

    sent: Any
    decided: Any
    delay: int
    likeness: float
    factor: complex


@checks_kinds
def symbol_error_rate(sent: Any, decided: Any) -> ErrorRate:
    """Count the symbols that were decided wrongly.

    Args:
        sent, decided: (..., n) each, both indices or both points of the constellation.

    Raises:
        ShapeError: shapes that differ; soft values in place of decisions. DtypeError: indices beside points.
    """
    where = "symbol_error_rate"
    what = "numbers were needed. Pass indices, or points of the constellation"
    first, second = tensor_of(where, "sent", sent, what), tensor_of(where, "decided", decided, what)
    _same_shape(where, first, second)
    soft = [each.is_floating_point() or each.is_complex() for each in (first, second)]
    if soft[0] != soft[1]:
        raise DtypeError(
            f"{where}: sent is {first.dtype} and decided {second.dtype}, but both indices, or both points, were needed. "
            "constellation(...).nearest() makes indices of points."
        )
    second = second.to(first.device)
    if not soft[0]:
        return _rate(first.long() != second.long())
    first, second = as_samples(where, "sent", first, "(..., n)"), as_samples(where, "decided", second, "(..., n)")
    width = _SAME * float(first.abs().mean())
    wrong = (first - second).abs() > width
    _refuse_soft(where, first, second[wrong], width)
    return _rate(wrong)


def _refuse_soft(where: str, sent: Tensor, wrong: Tensor, width: float) -> None:
    """Refuse values that are no decisions: half of those that are wrong are symbols that were never sent."""
    some = wrong[:1000]
    if len(some) < _FEW:
        return
    flat = sent.reshape(-1)[:_SEEN].to(torch.complex128)
    known = torch.view_as_real(flat).div(max(width, 1e-300)).round().unique(dim=0)
    if len(known) > 4096:
        return
    points = torch.view_as_complex(known) * width
    apart = (some[:, None] - points).abs().amin(1)
    if float((apart > 2 * width).double().mean()) > 0.5:
        raise ShapeError(
            f"{where}: decided holds values such as {some[0].item():.4g} that are none of the symbols sent: they look soft, or "
            "of another scale. Pass constellation(...).nearest(soft), and indices as sent."
        )


@checks_kinds
def bit_error_rate(sent_bits: Any, decided_bits: Any) -> ErrorRate:
    """Count the bits that were decided wrongly.

    Args:
        sent_bits, decided_bits: (..., n) each, 0 or 1.

    Raises:
        ShapeError: shapes that differ; values other than 0 and 1. DtypeError: soft values.
    """
    what = "bits, 0 or 1, were needed. Decide log-likelihood ratios first: (llr < 0)"
    first = whole("bit_error_rate", "sent_bits", sent_bits, 1, what)
    second = whole("bit_error_rate", "decided_bits", decided_bits, 1, what)
    _same_shape("bit_error_rate", first, second)
    return _rate(first != second.to(first.device))


@checks_kinds
def mean_squared_error(sent: Any, soft: Any) -> SquaredError:
    """Return the mean of |soft - sent|^2, and in decibels against the power sent.

    Args:
        sent, soft: (..., n) each, real or complex.

    Raises:
        ShapeError: shapes that differ, or silence sent. DtypeError, NonFinite: no numbers.
    """
    where = "mean_squared_error"
    first, second = as_samples(where, "sent", sent, "(..., n)"), as_samples(where, "soft", soft, "(..., n)")
    _same_shape(where, first, second)
    power = float(first.abs().double().square().mean())
    if not power:
        raise ShapeError("mean_squared_error: all symbols sent are zero, but others were needed. Pass those that were sent.")
    value = float((second.to(first.device) - first).abs().double().square().mean())
    return SquaredError(value, 10 * log10(value / power) if value else -inf, first.numel())


def _same_shape(where: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ShapeError(
            f"{where}: {tuple(first.shape)} were sent but {tuple(second.shape)} came back, and as many were needed. Cut both "
            "to the part they share, or find it with align()."
        )


def _rate(wrong: Tensor) -> ErrorRate:
    """Return the rate with Wilson's interval, "Probable inference, the law of succession" (1927)."""
    errors, n = int(wrong.sum()), wrong.numel()
    p, z = errors / n, _DEVIATIONS
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # (1 - high)^n = 0.05: exact, where Wilson's end would rest on a normal approximation to nothing.
    edge: float = 1 - 0.05 ** (1 / n)
    low = 1 - edge if errors == n else (middle - half if errors else 0.0)
    high = edge if not errors else (middle + half if errors < n else 1.0)
    return ErrorRate(errors, n, p, low, high)


@checks_kinds
def align(sent: Any, decided: Any, most: int | None = None) -> Aligned:
    """Find the delay between two sequences of symbols by their correlation, and cut them to the part they share.

    Args:
        sent, decided: (n,) and (k,), symbols or soft ones, real or complex: not indices, whose order says nothing.
        most: symbols by which either may be late; any number, by default, that leaves 26 or more to compare.

    Raises:
        ShapeError: more than one axis, less than 26 symbols, or no delay at which they are related.
    """
    first, second = as_samples("align", "sent", sent, "(..., n)"), as_samples("align", "decided", decided, "(..., n)")
    if first.ndim != 1 or second.ndim != 1 or min(len(first), len(second)) < _LEAST:
        raise ShapeError(
            f"align: sent is {tuple(first.shape)} and decided {tuple(second.shape)}, but (n,) and (k,) of {_LEAST} or more "
            "were needed. Align one signal at a time."
        )
    kind = torch.complex128 if first.is_complex() or second.is_complex() else torch.float64
    x, y = first.to(kind), second.to(first.device, kind)
    delays = torch.arange(-(len(x) - _LEAST), len(y) - _LEAST + 1, device=x.device)
    delays = delays[delays.abs() <= (most if most is not None else len(delays) + len(x))]
    product, sizes, shared = _correlations(x, y, delays)
    # Few shared symbols correlate by chance: a delay counts by its deviations from that, not by the correlation alone.
    likeness = torch.where(sizes > 0, product.abs() / sizes.clamp(min=1e-300).sqrt(), 0).clamp(max=1)
    best = int((likeness.square() * shared).argmax())
    delay, alike, many = int(delays[best]), float(likeness[best]), int(shared[best])
    if alike * sqrt(many) < _SURE:
        raise ShapeError(
            f"align: the best correlation is {alike:.2g} over {many} symbols, at delay {delay}, which unrelated symbols reach "
            "too. Pass longer parts, or symbols of the same signal."
        )
    start, end = max(-delay, 0), min(len(x), len(y) - delay)
    mine, theirs = x[start:end], y[start + delay : end + delay]
    factor = complex(torch.vdot(mine, theirs).item() / float(mine.abs().square().sum()))
    parts = like(sent, first[start:end]), like(decided, second[start + delay : end + delay])
    return Aligned(*parts, delay, alike, factor)


def _correlations(x: Tensor, y: Tensor, delays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of conj(x[t]) y[t + d], the product of both energies there, and how many terms, for delays d."""
    n = fast_length(len(x) + len(y))
    product: Tensor = torch.fft.ifft(torch.fft.fft(x, n).conj() * torch.fft.fft(y, n))[delays]
    # What of either overlaps the other changes with the delay.
    first, last = (-delays).clamp(min=0), (len(y) - delays).clamp(max=len(x))
    mine, theirs = (F.pad(each.abs().square().cumsum(0), (1, 0)) for each in (x, y))
    energies = (mine[last] - mine[first]) * (theirs[last + delays] - theirs[first + delays])
    return product, energies, last - first
