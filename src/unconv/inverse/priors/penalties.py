"""Prior knowledge of the truth as convex penalties, each with its cost and its proximal map.

Your own penalty needs only the two methods of `Penalty`.

Source:
    Parikh & Boyd, "Proximal Algorithms" (2014), sec. 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, UnconvError, nearest
from unconv.kinds import check_fields, checks_kinds


class Penalty(Protocol):
    """A convex cost with a proximal map."""

    def value(self, x: Tensor) -> Tensor:
        """Return the cost of x, one number; infinite if x is not allowed."""

    def prox(self, x: Tensor, step: float) -> Tensor:
        """Return the z that minimises |z - x|^2 / 2 + step * value(z)."""


@dataclass(frozen=True)
class L1:
    """The l1 norm, weight * sum of |x|, which makes most samples zero. Complex samples keep their phase.

    Args:
        weight: one number, or one for each sample.
        positive: samples may not be negative, either. The proximal map of both together is still exact.
    """

    weight: float | Tensor
    positive: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @checks_kinds
    def value(self, x: Tensor) -> Tensor:
        cost = (x.abs() * self.weight).sum()
        return cost + Positive().value(x) if self.positive else cost

    @checks_kinds
    def prox(self, x: Tensor, step: float) -> Tensor:
        if self.positive:
            _refuse_complex("L1(positive=True)", x)
            return soft(x, self.weight * step).clamp(min=0)
        return soft(x, self.weight * step)


@dataclass(frozen=True)
class Box:
    """Every sample lies between `low` and `high`, ends included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        check_fields(self)

    @checks_kinds
    def value(self, x: Tensor) -> Tensor:
        inside = ((x >= self.low) & (x <= self.high)).all()
        return torch.where(inside, 0.0, torch.inf)

    @checks_kinds
    def prox(self, x: Tensor, step: float) -> Tensor:
        _refuse_complex("Box", x)
        return x.clamp(self.low, self.high)


@dataclass(frozen=True)
class Positive(Box):
    """No sample is below zero."""

    low: float = 0.0
    high: float = torch.inf


@dataclass(frozen=True)
class Wavelet:
    """The l1 norm of the details of an orthogonal, periodic wavelet transform; the coarsest scale costs nothing.

    PyWavelets computes it, on the CPU, whatever the tensor's device.

    Args:
        name: as PyWavelets names its orthogonal wavelets: "haar", "db4", "sym8", "coif2".
        levels: how often the coarse part is split again; by default as often as the lengths and the filter allow.
        axes: how many of the last axes are transformed; each must be divisible by 2^levels.

    Raises:
        UnconvError: PyWavelets is not installed.
        ShapeError: there is no such wavelet, it is not orthogonal, or a length cannot be halved so often.
    """

    weight: float
    name: str = "db4"
    levels: int | None = None
    axes: int = 2

    def __post_init__(self) -> None:
        check_fields(self)

    @checks_kinds
    def value(self, x: Tensor) -> Tensor:
        coefficients, details, _ = self.analyse(x)
        return self.weight * coefficients[details].abs().sum()

    @checks_kinds
    def prox(self, x: Tensor, step: float) -> Tensor:
        coefficients, details, back = self.analyse(x)
        return self.synthesise(torch.where(details, soft(coefficients, self.weight * step), coefficients), back).to(x.device)

    def analyse(self, x: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return the coefficients on the CPU, shaped like x; a mask of the details; and the layout that `synthesise` needs."""
        if not 1 <= self.axes <= x.ndim:
            raise ShapeError(f"Wavelet: axes is {self.axes}, but at most the {x.ndim} of {tuple(x.shape)} was needed.")
        if x.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
            raise DtypeError(f"Wavelet: the estimate is {x.dtype}, but float32, float64 or complex was needed. Pass x.float().")
        wavelets, last = _pywt(), tuple(range(-self.axes, 0))
        levels = self.levels if self.levels is not None else depth(self, x.shape)
        _check_wavelet(replace(self, levels=levels), x)
        parts = wavelets.wavedecn(x.detach().cpu().numpy(), self.name, "periodization", levels, axes=last)
        array, back = wavelets.coeffs_to_array(parts, axes=last)
        coefficients = torch.from_numpy(array)
        details = torch.ones(coefficients.shape, dtype=torch.bool)
        details[back[0]] = False
        return coefficients, details, back

    def synthesise(self, coefficients: Tensor, back: Any) -> Tensor:
        """Apply the inverse of `analyse`, which is also its adjoint."""
        wavelets, last = _pywt(), tuple(range(-self.axes, 0))
        parts = wavelets.array_to_coeffs(coefficients.numpy(), back, output_format="wavedecn")
        return torch.from_numpy(wavelets.waverecn(parts, self.name, "periodization", axes=last))


def soft(x: Tensor, threshold: float | Tensor) -> Tensor:
    """Return x soft-thresholded: every sample moves towards zero by `threshold`, at most to zero."""
    if not (x.is_floating_point() or x.is_complex()):
        raise DtypeError(f"L1: the estimate is {x.dtype}, but a floating-point or complex tensor was needed. Pass x.float().")
    if isinstance(threshold, Tensor) and not spreads(threshold.shape, x.shape):
        raise ShapeError(
            f"L1: the weight is {tuple(threshold.shape)}, but one number, or one for each sample of {tuple(x.shape)}, was "
            "needed. Reshape it."
        )
    if x.is_complex():
        size = x.abs()
        return x * ((size - threshold).clamp(min=0) / torch.where(size > 0, size, 1))
    return x - torch.minimum(torch.maximum(x, -torch.as_tensor(threshold).to(x)), torch.as_tensor(threshold).to(x))


def spreads(shape: Sequence[int], over: Sequence[int]) -> bool:
    """Return whether a tensor of this shape broadcasts to `over` without enlarging it."""
    return len(shape) <= len(over) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(over), strict=False))


def _refuse_complex(where: str, x: Tensor) -> None:
    if x.is_complex():
        raise DtypeError(
            f"{where}: the estimate is {x.dtype}, but real samples were needed. Use L1, or a real kernel and data."
        )


def _pywt() -> Any:
    try:
        import pywt
    except ModuleNotFoundError as error:
        raise UnconvError('Wavelet: PyWavelets is not installed. Run: pip install "unconv[image]".') from error
    return pywt


def depth(penalty: Wavelet, shape: Sequence[int]) -> int:
    """Return how often every length can be halved before one is odd, or too short for the filter."""
    filter_length = _pywt().Wavelet(penalty.name).dec_len if penalty.name in _pywt().wavelist(kind="discrete") else 2
    halvings, lengths = 0, list(shape[-penalty.axes :])
    while all(n % 2 == 0 and n >= 2 * (filter_length - 1) for n in lengths):
        halvings, lengths = halvings + 1, [n // 2 for n in lengths]
    return halvings


def _check_wavelet(penalty: Wavelet, x: Tensor) -> None:
    names = _pywt().wavelist(kind="discrete")
    if penalty.name not in names or not _pywt().Wavelet(penalty.name).orthogonal:
        raise ShapeError(
            f"Wavelet: name is {penalty.name!r}, but an orthogonal wavelet of PyWavelets was needed. "
            f"Nearest: {nearest(penalty.name, [n for n in names if _pywt().Wavelet(n).orthogonal])}."
        )
    deepest = depth(penalty, x.shape)
    if not 1 <= (penalty.levels or 0) <= deepest:
        raise ShapeError(
            f"Wavelet: levels is {penalty.levels} for {penalty.name} along the last {penalty.axes} axes of {tuple(x.shape)}, "
            f"but {f'1 to {deepest}' if deepest else 'lengths that can be halved'} were needed. Choose fewer levels or a "
            "shorter wavelet, or crop the lengths to multiples of a power of two."
        )
