"""Constellations: points of PSK, QAM and PAM with Gray labels, modulation, decisions and log-likelihood ratios of bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import pi, sqrt, tau
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, counted, nearest
from unconv.inverse.fields.channel.indices import integers_of, tensor_of
from unconv.inverse.fields.channel.likelihoods import bit_ratios, ratios_of_posteriors
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.kinds import checks_kinds

_FAMILIES = ("bpsk", "qpsk", "8psk", "16psk", "4pam", "8pam", "8qam", "16qam", "32qam", "64qam", "128qam", "256qam", "1024qam")
_SYNONYMS = {"2psk": "bpsk", "2pam": "bpsk", "2ask": "bpsk", "2qam": "bpsk", "4qam": "qpsk", "4psk": "qpsk"}
_MOST = 2**12  # points of a constellation that has a name
_EXACT = 1e-4  # of the smallest distance between points: a symbol that close is a point


@dataclass(frozen=True, eq=False)
class Constellation:
    """The points of a modulation and their bits.

    Bits: `labels[i]` are the binary digits of index i, the most significant first. In QAM the first half of the bits chooses
    the real part and the second half the imaginary part. All-zero bits are the point furthest to the right (and up); BPSK sends
    0 as +1 and 1 as -1.

    Log-likelihood ratios are log P(bit = 0) / P(bit = 1): a positive one favours 0, and (ratio < 0) is the decided bit.

    Attributes:
        name: "16qam" and so on; "points" for points that were passed.
        points: (M,), float64 for BPSK and PAM, complex128 otherwise; of mean power 1 if made by name, else as passed.
        labels: (M, m), int64; None where M is not a power of two.
    """

    name: str
    points: Tensor
    labels: Tensor | None

    def __repr__(self) -> str:
        return f"Constellation({self.name!r}, {len(self.points)} points)"

    @property
    def bits_per_symbol(self) -> int:
        """The number m of bits per symbol.

        Raises:
            ShapeError: the number of points is not a power of two.
        """
        return self._labels().shape[1]

    @cached_property
    def power(self) -> float:
        """Mean of |point|^2 over equally likely points."""
        return float(self.points.abs().square().mean())

    @property
    def is_centred(self) -> bool:
        """Whether the points have mean zero, as filters need it; those of on-off keying do not."""
        return bool(self.points.mean().abs() <= 1e-6 * sqrt(self.power))

    @cached_property
    def spacing(self) -> float:
        """The smallest distance between two points."""
        return self._distances[0]

    @cached_property
    def neighbours(self) -> float:
        """The mean number of nearest neighbours of a point: points at the smallest distance."""
        return len(self._distances[1][0]) / len(self.points)

    @cached_property
    def neighbour_bits(self) -> float:
        """The mean number of bits in which nearest neighbours differ: 1 for Gray labels, 15/13 for the cross of 32-QAM."""
        labels = self._labels()
        first, second = self._distances[1]
        return float((labels[first] != labels[second]).sum(1).double().mean())

    @cached_property
    def rotations(self) -> tuple[float, ...]:
        """The phase ambiguity: angles from 0 to 2 pi that rotate the points onto themselves, 0 first."""
        points = self.points.to(torch.complex128)
        # A rotation takes an outermost point to another one, so that only those angles need be tried.
        outer = points[points.abs() > points.abs().max() - _EXACT * self.spacing]
        angles = (outer / outer[0]).angle().remainder(tau)
        angles = torch.where(angles > tau - 1e-9, 0, angles).abs()  # -0 becomes 0
        if not self.points.is_complex():
            angles = angles[(angles.remainder(pi) < 1e-9)]
        lookup = Lookup(points)
        rotated = [(float(a), points * torch.polar(torch.ones_like(a), a)) for a in angles.sort().values]
        fits = [a for a, each in rotated if float((each - points[lookup.nearest(each)]).abs().max()) < _EXACT * self.spacing]
        return tuple(fits)

    @checks_kinds
    def modulate(self, bits: Any) -> Any:
        """Return the symbols (..., n) of bits (..., n * m): a tensor for a tensor, else an array.

        Raises:
            ShapeError: values other than 0 and 1; a number of bits that is not a multiple of m. DtypeError: not integers.
        """
        m = self.bits_per_symbol
        values = integers_of("modulate", "bits", bits, 1, "bits, 0 or 1, were needed. Decide soft values first: (llr < 0)")
        if values.shape[-1] % m:
            raise ShapeError(
                f"modulate: bits has {counted(values.shape[-1], 'bit')}, but {self.name} takes {m} per symbol. Append "
                f"{counted(-values.shape[-1] % m, 'bit')}."
            )
        weights = 2 ** torch.arange(m - 1, -1, -1, device=values.device)
        indices = (values.unflatten(-1, (-1, m)) * weights).sum(-1)
        return like(bits, self.points.to(values.device)[indices])

    @checks_kinds
    def symbols(self, indices: Any) -> Any:
        """Return the points (..., n) with the indices (..., n), from 0 to M - 1."""
        values = self._indices("symbols", indices)
        return like(indices, self.points.to(values.device)[values])

    @checks_kinds
    def bits(self, indices: Any) -> Any:
        """Return the bits (..., n * m), int64, of the points with the indices (..., n)."""
        values = self._indices("bits", indices)
        return like(indices, self._labels().to(values.device)[values].flatten(-2))

    @checks_kinds
    def nearest(self, soft: Any) -> Any:
        """Decide soft symbols (..., n): return the indices (..., n), int64, of the nearest points.

        Raises:
            DtypeError: real values for a complex constellation. NonFinite: NaN or infinity.
        """
        values = self._soft("nearest", soft)
        return like(soft, self._lookup.nearest(values))

    @checks_kinds
    def indices_of(self, symbols: Any) -> Any:
        """Return the indices (..., n) of noiseless symbols (..., n), such as training symbols.

        Raises:
            ShapeError: a symbol that is not a point of the constellation.
        """
        values = self._soft("indices_of", symbols)
        indices = self._lookup.nearest(values)
        off = (values - self.points.to(values.device)[indices]).abs() > _EXACT * self.spacing
        if bool(off.any()):
            first = tuple(torch.nonzero(off)[0].tolist())
            raise ShapeError(
                f"indices_of: the symbol at {first[0] if len(first) == 1 else first} is {_number(values[first])}, but points "
                f"of {self.name} (mean power {self.power:.3g}) were needed. Nearest: "
                f"{_number(self.points[int(indices[first])])}. Pass such points; decide noisy ones with nearest()."
            )
        return like(symbols, indices)

    @checks_kinds
    def llr(self, soft: Any, variance: Any) -> Any:
        """Return the exact log-likelihood ratios (..., n * m), log P(bit = 0) / P(bit = 1), of soft symbols (..., n).

        The points are equally likely a priori. Each ratio is one of sums over all points, not the max-log approximation.

        Args:
            soft: point + noise. Divide biased estimates, such as an MMSE equaliser's, by their gain first.
            variance: E|noise|^2, above zero: a number, or one for each value, (..., n) or of fewer axes. For complex values it
                is shared equally by both parts.

        Raises:
            ShapeError: a variance that is not above zero or does not fit; a constellation without bits.
            DtypeError, NonFinite: as `nearest`.
        """
        labels, values = self._labels(), self._soft("llr", soft)
        return like(soft, bit_ratios(self.points, labels, values, _variance(variance, values)))

    @checks_kinds
    def llr_from_posteriors(self, log_posteriors: Any) -> Any:
        """Return log-likelihood ratios (..., n * m) from log-posteriors (..., n, M) of the points, such as those of `bcjr`.

        The probabilities need no common scale, and some may be zero: a ratio is infinite where a bit is certain.

        Raises:
            ShapeError: another number of points; a symbol whose probabilities are all zero. NonFinite: NaN or +inf.
        """
        labels, m = self._labels(), len(self.points)
        logs = tensor_of("llr_from_posteriors", "log_posteriors", log_posteriors, "logarithms (..., n, M) were needed")
        if not logs.is_floating_point() or logs.ndim < 2 or logs.shape[-1] != m:
            raise ShapeError(
                f"llr_from_posteriors: log_posteriors is {tuple(logs.shape)}, {logs.dtype}, but real (..., n, {m}) was needed, "
                "one row of all points for each symbol."
            )
        if bool((logs.isnan() | (logs == torch.inf)).any()):
            raise NonFinite("llr_from_posteriors: log_posteriors has NaN or +inf, but logarithms of probabilities were needed.")
        if not bool((logs > -torch.inf).any(-1).all()):
            raise ShapeError(
                "llr_from_posteriors: all points of a symbol have probability zero, but at least one above zero was needed."
            )
        return like(log_posteriors, ratios_of_posteriors(logs, labels.to(logs.device)))

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.points)

    @cached_property
    def _distances(self) -> tuple[float, tuple[Tensor, Tensor]]:
        """The smallest distance, and all pairs of points at that distance."""
        distances = (self.points[:, None] - self.points).abs().fill_diagonal_(torch.inf)
        least = float(distances.min())
        first, second = torch.nonzero(distances < least * (1 + 1e-6), as_tuple=True)
        return least, (first, second)

    def _labels(self) -> Tensor:
        if self.labels is None:
            raise ShapeError(
                f"{self.name}: the constellation has {len(self.points)} points, but a power of two was needed for bits. Use "
                "symbols(), nearest() and indices, or a constellation of 2, 4, 8, ... points."
            )
        return self.labels

    def _indices(self, where: str, indices: Any) -> Tensor:
        most = len(self.points) - 1
        what = f"integers from 0 to {most}, the points of {self.name}, were needed"
        return integers_of(where, "indices", indices, most, what)

    def _soft(self, where: str, values: Any) -> Tensor:
        name = "soft" if where != "indices_of" else "symbols"
        samples = as_samples(where, name, values, "(..., n)")
        if self.points.is_complex() and not samples.is_complex():
            raise DtypeError(
                f"{where}: {name} is real, but {self.name} is complex, so complex values were needed. Pass I + jQ, or use bpsk "
                "or pam."
            )
        return samples


def _number(value: Tensor) -> str:
    return f"{value.item():.4g}"


def _variance(variance: Any, soft: Tensor) -> Tensor:
    """Return the noise variance of each soft symbol, (..., n)."""
    level = as_samples("llr", "variance", variance, "one number or (..., n)", 0).to(soft.device)
    if level.is_complex() or not bool((level > 0).all()):
        value = "complex" if level.is_complex() else _number(level.min())
        raise ShapeError(f"llr: variance is {value}, but E|noise|^2 above zero was needed. Pass noise ** 2.")
    try:
        return level.to(soft.real.dtype).expand(soft.shape)
    except RuntimeError:
        raise ShapeError(
            f"llr: variance is {tuple(level.shape)}, but one number, or one for each of the {tuple(soft.shape)} values, was "
            "needed. Pass variance[:, None] for one number per signal."
        ) from None


@checks_kinds
def constellation(name_or_points: Any) -> Constellation:
    """Return a constellation by its name, or one of the points that are passed.

    PSK, PAM, square QAM and 8-QAM (four by two points) have Gray labels: nearest neighbours differ in one bit. The crosses of
    32-QAM, 128-QAM and so on cannot have them; their neighbours differ in little more than one bit on average, see
    `neighbour_bits`.

    Args:
        name_or_points: "bpsk", "qpsk", "8psk" or "psk8", "4pam", "16qam" or "QAM-16", and so on, for any power of two up to
            4,096; or at least two distinct points (M,), which are not scaled to mean power 1, and whose bits are the binary
            digits of their index. A Constellation is returned unchanged.

    Raises:
        ShapeError: an unknown name; points that are equal, fewer than two, or not of one axis.
        DtypeError, NonFinite: points that are not finite numbers.

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
        raise ShapeError("constellation: two of the points are equal, but distinct ones were needed. Pass each once.")
    return Constellation("points", points, _digits(len(points)))


def _named(name: str) -> Constellation:
    """Return a constellation by its name: a family and a number of points, in either order."""
    plain = re.sub(r"[\s_-]", "", name.lower())
    parts = re.fullmatch(r"([0-9]+)(psk|qam|pam|ask)|(psk|qam|pam|ask)([0-9]+)", plain)
    if parts:
        plain = f"{parts[1] or parts[4]}{(parts[2] or parts[3]).replace('ask', 'pam')}"
    plain = _SYNONYMS.get(plain, plain)
    form = {"bpsk": "2pam", "qpsk": "4qam"}.get(plain, plain)
    count, family = (int(form[:-3]), form[-3:]) if re.fullmatch(r"[0-9]{1,6}(psk|qam|pam)", form) else (0, "")
    if not 2 <= count <= _MOST or count & (count - 1):
        why = f" with a power of two up to {_MOST:,} points" if parts else ""
        raise ShapeError(
            f"constellation: the name is {name!r}, but that of a constellation{why} was needed. Nearest: "
            f"{nearest(plain, _FAMILIES)}. Or pass the points."
        )
    points = {"pam": _pam, "psk": _psk, "qam": _qam}[family](count)
    return Constellation(plain, points / points.abs().square().mean().sqrt(), _digits(count))


def _digits(count: int) -> Tensor | None:
    """Return the binary digits (count, m) of 0 to count - 1, the most significant first; None if count is no power of two."""
    m = count.bit_length() - 1
    if count != 2**m:
        return None
    return torch.arange(count)[:, None] >> torch.arange(m - 1, -1, -1) & 1


def _in_gray_order(line: Tensor) -> Tensor:
    """Reorder neighbouring points so that their indices differ in one bit: point k gets the index k xor k / 2 (Gray)."""
    k = torch.arange(len(line))
    ordered = torch.empty_like(line)
    ordered[k ^ k >> 1] = line
    return ordered


def _pam(count: int) -> Tensor:
    return _in_gray_order(torch.arange(count - 1, -count, -2, dtype=torch.float64))


def _psk(count: int) -> Tensor:
    angles = torch.arange(count, dtype=torch.float64) * (tau / count)
    return _in_gray_order(torch.polar(torch.ones_like(angles), angles))


def _qam(count: int) -> Tensor:
    """Return a square, 4 by 2 points, or a cross: a rectangle whose outer columns are moved above and below."""
    m = count.bit_length() - 1
    across, up = _pam(2 ** ((m + 1) // 2)), _pam(2 ** (m // 2))
    real, imag = (each.flatten() for each in torch.meshgrid(across, up, indexing="ij"))
    if m % 2 and m > 3:
        s = 2 ** ((m - 3) // 2)
        outer, high = real.abs() > 3 * s, imag.abs() > s
        # Mirrored at the corner, so that most new neighbours there differ in one bit (Smith, fig. 3).
        x = torch.where(high, real.abs() - 2 * s, 4 * s - real.abs())
        y = torch.where(high, 4 * s - imag.abs(), imag.abs() + 2 * s)
        real, imag = torch.where(outer, real.sign() * x, real), torch.where(outer, imag.sign() * y, imag)
    return torch.complex(real, imag)
