"""Constellations: the points that symbols are sent as, their bits, decisions, and log-likelihood ratios of the bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import pi, sqrt, tau
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, nearest
from unconv.inverse.fields.channel.indices import tensor_of, whole
from unconv.inverse.fields.channel.likelihoods import bit_ratios, ratios_of_posteriors
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds

_FAMILIES = ("bpsk", "qpsk", "8psk", "16psk", "4pam", "8pam", "8qam", "16qam", "32qam", "64qam", "128qam", "256qam", "1024qam")
_ALIKE = {"2psk": "bpsk", "2pam": "bpsk", "2ask": "bpsk", "2qam": "bpsk", "4qam": "qpsk", "4psk": "qpsk"}
_MOST = 2**12  # points of a set that is made by its name
_EXACT = 1e-4  # of the smallest distance of two points: nearer than that, a symbol is a point


@dataclass(frozen=True, eq=False)
class Constellation:
    """The points of a modulation and their bits.

    Bits: the first bit of a symbol is the most significant one of its index, `labels[i]` are the binary digits of i. Of QAM the
    first half of the bits chooses the real part and the rest the imaginary part. All-zero bits are the point furthest to the
    right (and up); BPSK sends 0 as +1 and 1 as -1.

    Ratios: log P(bit = 0) / P(bit = 1), so that a positive one speaks for 0, and (ratio < 0) is the bit.

    Attributes:
        name: "16qam" and so on; "points" of a set of one's own.
        points: (M,), float64 of BPSK and PAM, complex128 otherwise. Made by name, they have mean power 1; others stay as given.
        labels: (M, m), int64, or None where M is no power of two.
    """

    name: str
    points: Tensor
    labels: Tensor | None

    def __repr__(self) -> str:
        return f"Constellation({self.name!r}, {len(self.points)} points)"

    @property
    def bits_per_symbol(self) -> int:
        """The number m of bits that a symbol carries.

        Raises:
            ShapeError: the number of points is no power of two.
        """
        return self._labels().shape[1]

    @cached_property
    def power(self) -> float:
        """Mean of |point|^2, all points being equally likely."""
        return float(self.points.abs().square().mean())

    @property
    def is_centred(self) -> bool:
        """Whether the mean of all points is zero, as linear filters need it; that of on-off keying is not."""
        return bool(self.points.mean().abs() <= 1e-6 * sqrt(self.power))

    @cached_property
    def spacing(self) -> float:
        """The smallest distance of two points."""
        return self._distances[0]

    @cached_property
    def neighbours(self) -> float:
        """The mean number of points at the smallest distance from one."""
        return len(self._distances[1][0]) / len(self.points)

    @cached_property
    def neighbour_bits(self) -> float:
        """The mean number of bits in which nearest neighbours differ: 1 of a Gray labelling, 15/13 of 32-QAM's cross."""
        labels = self._labels()
        first, second = self._distances[1]
        return float((labels[first] != labels[second]).sum(1).double().mean())

    @cached_property
    def rotations(self) -> tuple[float, ...]:
        """Angles from 0 to 2 pi that turn the set into itself: what a blind equaliser cannot tell apart. 0 is the first."""
        points = self.points.to(torch.complex128)
        far = points[points.abs() > points.abs().max() - _EXACT * self.spacing]
        angles = (far / far[0]).angle().remainder(tau)
        angles = torch.where(angles > tau - 1e-9, 0, angles).abs()  # -0 becomes 0
        if not self.points.is_complex():
            angles = angles[(angles.remainder(pi) < 1e-9)]
        look = Lookup(points)
        turned = [(float(a), points * torch.polar(torch.ones_like(a), a)) for a in angles.sort().values]
        fits = [a for a, each in turned if float((each - points[look.nearest(each)]).abs().max()) < _EXACT * self.spacing]
        return tuple(fits)

    @checks_kinds
    def modulate(self, bits: Any) -> Any:
        """Return the symbols (..., n) of bits (..., n * m), in the kind that came: arrays of lists.

        Raises:
            ShapeError: values other than 0 and 1; a number of bits that is no multiple of m. DtypeError: no whole numbers.
        """
        m = self.bits_per_symbol
        came = whole("modulate", "bits", bits, 1, "bits, 0 or 1, were needed. Decide soft values first: (llr < 0)")
        if came.shape[-1] % m:
            raise ShapeError(
                f"modulate: {came.shape[-1]} bits came, but {self.name} takes {m} a symbol. Append {-came.shape[-1] % m} bits."
            )
        weights = 2 ** torch.arange(m - 1, -1, -1, device=came.device)
        indices = (came.unflatten(-1, (-1, m)) * weights).sum(-1)
        return like(bits, self.points.to(came.device)[indices])

    @checks_kinds
    def symbols(self, indices: Any) -> Any:
        """Return the points (..., n) of indices (..., n) from 0 to M - 1."""
        came = self._whole("symbols", indices)
        return like(indices, self.points.to(came.device)[came])

    @checks_kinds
    def bits(self, indices: Any) -> Any:
        """Return the bits (..., n * m), int64, of indices (..., n)."""
        came = self._whole("bits", indices)
        return like(indices, self._labels().to(came.device)[came].flatten(-2))

    @checks_kinds
    def nearest(self, soft: Any) -> Any:
        """Return the indices (..., n), int64, of the points nearest to soft values (..., n): the decisions.

        Raises:
            DtypeError: real values of a complex set. NonFinite: NaN or infinity.
        """
        came = self._soft("nearest", soft)
        return like(soft, self._lookup.nearest(came))

    @checks_kinds
    def indices_of(self, symbols: Any) -> Any:
        """Return the indices (..., n) of symbols (..., n) that are points of the set, as training symbols are.

        Raises:
            ShapeError: a symbol that is no point.
        """
        came = self._soft("indices_of", symbols)
        found = self._lookup.nearest(came)
        off = (came - self.points.to(came.device)[found]).abs() > _EXACT * self.spacing
        if bool(off.any()):
            at = tuple(torch.nonzero(off)[0].tolist())
            raise ShapeError(
                f"indices_of: unknown constellation point {_words(came[at])} at {at[0] if len(at) == 1 else at}; the nearest "
                f"of {self.name} is {_words(self.points[int(found[at])])}. Pass symbols of {self.name} (mean power "
                f"{self.power:.3g}), or decide noisy ones with nearest()."
            )
        return like(symbols, found)

    @checks_kinds
    def llr(self, soft: Any, variance: Any) -> Any:
        """Return the exact log-likelihood ratios (..., n * m), log P(bit = 0) / P(bit = 1), of soft values (..., n).

        All points are equally likely beforehand. The ratio is that of sums over all points, not of the two nearest ones.

        Args:
            soft: point + noise. Estimates that are biased towards zero, as MMSE equalisers', are to be divided by their gain.
            variance: E|noise|^2, above zero: a number, or one for each value, (..., n) or of fewer axes. Complex values have
                half of it in each of their parts; real ones all of it.

        Raises:
            ShapeError: a variance that is not above zero or does not fit; a set without bits.
            DtypeError, NonFinite: as `nearest`.
        """
        labels, came = self._labels(), self._soft("llr", soft)
        return like(soft, bit_ratios(self.points, labels, came, _variance(variance, came)))

    @checks_kinds
    def llr_from_posteriors(self, log_posteriors: Any) -> Any:
        """Return ratios (..., n * m) of the logarithms (..., n, M) of the points' probabilities, as `bcjr` gives them.

        The probabilities need no common scale, and some may be zero: a ratio is infinite where a bit is certain.

        Raises:
            ShapeError: another number of points; a symbol all of whose probabilities are zero. NonFinite: NaN.
        """
        labels, m = self._labels(), len(self.points)
        came = tensor_of("llr_from_posteriors", "log_posteriors", log_posteriors, "logarithms (..., n, M) were needed")
        if not came.is_floating_point() or came.ndim < 2 or came.shape[-1] != m:
            raise ShapeError(
                f"llr_from_posteriors: log_posteriors is {tuple(came.shape)}, {came.dtype}, but real (..., n, {m}) was needed, "
                "a row of all points for each symbol."
            )
        if bool((came.isnan() | (came == torch.inf)).any()):
            raise NonFinite("llr_from_posteriors: NaN or +inf came, but logarithms of probabilities were needed.")
        if not bool((came > -torch.inf).any(-1).all()):
            raise ShapeError(
                "llr_from_posteriors: all points of a symbol have probability zero, but one that can be was needed."
            )
        return like(log_posteriors, ratios_of_posteriors(came, labels.to(came.device)))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.points)

    @cached_property
    def _distances(self) -> tuple[float, tuple[Tensor, Tensor]]:
        """The smallest distance, and the pairs of points that are as near."""
        apart = (self.points[:, None] - self.points).abs().fill_diagonal_(torch.inf)
        least = float(apart.min())
        first, second = torch.nonzero(apart < least * (1 + 1e-6), as_tuple=True)
        return least, (first, second)

    def _labels(self) -> Tensor:
        if self.labels is None:
            raise ShapeError(
                f"{self.name}: {len(self.points)} points came, which is no power of two: its symbols stand for no bits. "
                "Use symbols(), nearest() and indices, or take a set of 2, 4, 8, ... points."
            )
        return self.labels

    def _whole(self, where: str, indices: Any) -> Tensor:
        most = len(self.points) - 1
        return whole(where, "indices", indices, most, f"whole numbers from 0 to {most}, the points of {self.name}, were needed")

    def _soft(self, where: str, values: Any) -> Tensor:
        came = as_samples(where, "soft" if where != "indices_of" else "symbols", values, "(..., n)")
        if self.points.is_complex() and not came.is_complex():
            raise DtypeError(
                f"{where}: real values came, but {self.name} is complex: the imaginary part is missing. Pass complex values, "
                "or take bpsk or pam."
            )
        return came


def _words(value: Tensor) -> str:
    return f"{value.item():.4g}"


def _variance(variance: Any, soft: Tensor) -> Tensor:
    """Return E|noise|^2 of each soft value, (..., n)."""
    level = as_samples("llr", "variance", variance, "one number or (..., n)", 0).to(soft.device)
    if level.is_complex() or not bool((level > 0).all()):
        came = "complex" if level.is_complex() else _words(level.min())
        raise ShapeError(f"llr: variance is {came}, but E|noise|^2 above zero was needed. Pass noise ** 2.")
    try:
        return level.to(soft.real.dtype).expand(soft.shape)
    except RuntimeError:
        raise ShapeError(
            f"llr: variance is {tuple(level.shape)}, but one number, or one for each of the {tuple(soft.shape)} values, was "
            "needed. Pass variance[:, None] for one a signal."
        ) from None


@checks_kinds
def constellation(name_or_points: Any) -> Constellation:
    """Make a constellation of its name, or of points of one's own.

    Args:
        name_or_points: "bpsk", "qpsk", "8psk" or "psk8", "4pam", "16qam" or "QAM-16", and so on, for any power of two up to
            4,096; or distinct points (M,), at least two, which stay as they are (not brought to mean power 1) and whose bits
            are the binary digits of their index. A Constellation is returned as it is.

    PSK, PAM, square QAM and 8-QAM (four by two points) are labelled so that nearest neighbours differ in one bit (Gray). The
    crosses of 32-QAM, 128-QAM and so on cannot be: theirs differ in little more than one on average, see `neighbour_bits`.

    Raises:
        ShapeError: an unknown name, with the three nearest; points that are alike, too few or not in a row.
        DtypeError, NonFinite: points that are no numbers.

    Source:
        Gray, US patent 2632058 (1953); Smith, "Odd-bit quadrature amplitude-shift keying" (1975), for the crosses.

    Example:
        >>> constellation("16-QAM").modulate([0, 0, 0, 0]).round(3)
        array([0.949+0.949j])
    """
    if isinstance(name_or_points, Constellation):
        return name_or_points
    if isinstance(name_or_points, str):
        return _named(name_or_points)
    points = as_samples("constellation", "points", name_or_points, "(M,)")
    points = points.to(torch.complex128 if points.is_complex() else torch.float64)
    if points.ndim != 1 or len(points) < 2:
        raise ShapeError(
            f"constellation: points is {tuple(points.shape)}, but (M,) with two or more was needed. Or pass a name: 'qpsk'."
        )
    if len(points.unique() if not points.is_complex() else torch.view_as_real(points).unique(dim=0)) < len(points):
        raise ShapeError("constellation: two of the points are alike, but distinct ones were needed. Pass each once.")
    return Constellation("points", points, _digits(len(points)))


def _named(name: str) -> Constellation:
    """Make a set by its name: letters and a number in either order."""
    plain = re.sub(r"[\s_-]", "", name.lower())
    parts = re.fullmatch(r"([0-9]+)(psk|qam|pam|ask)|(psk|qam|pam|ask)([0-9]+)", plain)
    if parts:
        plain = f"{parts[1] or parts[4]}{(parts[2] or parts[3]).replace('ask', 'pam')}"
    plain = _ALIKE.get(plain, plain)
    form = {"bpsk": "2pam", "qpsk": "4qam"}.get(plain, plain)
    count, family = (int(form[:-3]), form[-3:]) if re.fullmatch(r"[0-9]{1,6}(psk|qam|pam)", form) else (0, "")
    if not 2 <= count <= _MOST or count & (count - 1):
        why = f"; the number of points must be a power of two up to {_MOST:,}" if parts else ""
        raise ShapeError(
            f"constellation: {name!r} is no constellation{why}. Nearest: {nearest(plain, _FAMILIES)}. Or pass the points."
        )
    points = {"pam": _pam, "psk": _psk, "qam": _qam}[family](count)
    return Constellation(plain, points / points.abs().square().mean().sqrt(), _digits(count))


def _digits(count: int) -> Tensor | None:
    """Return the binary digits (count, m) of 0 to count - 1, the most significant first."""
    m = count.bit_length() - 1
    if count != 2**m:
        return None
    return torch.arange(count)[:, None] >> torch.arange(m - 1, -1, -1) & 1


def _in_gray_order(line: Tensor) -> Tensor:
    """Put points that stand side by side at indices that differ in one bit: number k goes to k xor k / 2."""
    k = torch.arange(len(line))
    found = torch.empty_like(line)
    found[k ^ k >> 1] = line
    return found


def _pam(count: int) -> Tensor:
    return _in_gray_order(torch.arange(count - 1, -count, -2, dtype=torch.float64))


def _psk(count: int) -> Tensor:
    angles = torch.arange(count, dtype=torch.float64) * (tau / count)
    return _in_gray_order(torch.polar(torch.ones_like(angles), angles))


def _qam(count: int) -> Tensor:
    """Return a square, 4 by 2 points, or the cross that a rectangle becomes when its outer columns go on top and below."""
    m = count.bit_length() - 1
    across, up = _pam(2 ** ((m + 1) // 2)), _pam(2 ** (m // 2))
    real, imag = (each.flatten() for each in torch.meshgrid(across, up, indexing="ij"))
    if m % 2 and m > 3:
        s = 2 ** ((m - 3) // 2)
        outer, high = real.abs() > 3 * s, imag.abs() > s
        # Mirrored at the corner, so that most of the points that meet there differ in one bit (Smith, fig. 3).
        x = torch.where(high, real.abs() - 2 * s, 4 * s - real.abs())
        y = torch.where(high, 4 * s - imag.abs(), imag.abs() + 2 * s)
        real, imag = torch.where(outer, real.sign() * x, real), torch.where(outer, imag.sign() * y, imag)
    return torch.complex(real, imag)
