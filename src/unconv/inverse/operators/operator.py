"""Linear operators: a forward map and its exact adjoint, which is all that a solver knows, and how operators combine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.kinds import checks_kinds, fits_kind, shown


class Operator:
    """A linear map with its adjoint: inner(forward(x), y) = inner(x, adjoint(y)).

    Your own operator needs only the four names below. A subclass also composes (`a @ b`), adds (`a + b`) and scales
    (`2 * a`). Both maps take any number of batch axes before the shapes named, and do not change their input. The result
    may share memory with it.

    Attributes:
        shape_in: the shape that `forward` takes and `adjoint` returns.
        shape_out: the shape that `forward` returns and `adjoint` takes.
    """

    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Return A x, (..., *shape_out), for x (..., *shape_in)."""
        raise NotImplementedError

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A* y, (..., *shape_in), for y (..., *shape_out)."""
        raise NotImplementedError

    def __matmul__(self, inner: Operator) -> Composition:
        return Composition(self, inner)

    def __add__(self, other: Operator) -> Sum:
        return Sum([self, other])

    def __rmul__(self, factor: complex) -> Composition:
        return Composition(Scaling(factor, self.shape_out), self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape_in} to {self.shape_out})"


class Composition(Operator):
    """Compose two operators, first `inner`, then `outer`: `outer @ inner`.

    Raises:
        ShapeError: `inner` does not return the shape that `outer` takes.
    """

    @checks_kinds
    def __init__(self, outer: Operator, inner: Operator) -> None:
        if outer.shape_in != inner.shape_out:
            raise ShapeError(
                f"Composition: the outer operator takes {outer.shape_in} but the inner one returns {inner.shape_out}, and "
                "these must match. Make the outer operator for the shape_out of the inner one."
            )
        self.outer, self.inner = outer, inner
        self.shape_in, self.shape_out = inner.shape_in, outer.shape_out

    def forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


class Sum(Operator):
    """Add several operators of the same shapes: the sum of their outputs for one input.

    Raises:
        ShapeError: there is no operator, or their shapes differ.
    """

    @checks_kinds
    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = _same_shapes("Sum", operators)
        self.shape_in, self.shape_out = operators[0].shape_in, operators[0].shape_out

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (operator.forward(x) for operator in self.operators)
        return sum(others, first)

    def adjoint(self, y: Tensor) -> Tensor:
        first, *others = (operator.adjoint(y) for operator in self.operators)
        return sum(others, first)


class Stack(Operator):
    """Stack several operators on one input, as several sensors of one source: their outputs lie along a new first axis.

    Raises:
        ShapeError: there is no operator, or their shapes differ (crop the larger ones first).
    """

    @checks_kinds
    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = _same_shapes("Stack", operators)
        self.shape_in = operators[0].shape_in
        self.shape_out = (len(operators), *operators[0].shape_out)
        self._axis = -len(self.shape_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([operator.forward(x) for operator in self.operators], self._axis)

    def adjoint(self, y: Tensor) -> Tensor:
        fits("Stack.adjoint", y, self.shape_out)
        parts = zip(self.operators, y.unbind(self._axis), strict=True)
        first, *others = (operator.adjoint(part) for operator, part in parts)
        return sum(others, first)


class Scaling(Operator):
    """Multiply every sample by one number, real or complex."""

    @checks_kinds
    def __init__(self, factor: complex, shape: Sequence[int]) -> None:
        self.factor = factor
        self.shape_in = self.shape_out = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        fits("Scaling", x, self.shape_in)
        return x * self.factor

    def adjoint(self, y: Tensor) -> Tensor:
        fits("Scaling.adjoint", y, self.shape_out)
        return y * complex(self.factor).conjugate() if isinstance(self.factor, complex) else y * self.factor


def fits(where: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse everything except a floating-point or complex tensor (..., *shape)."""
    if not fits_kind(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        kind = (str(x.dtype) if fits_kind(x, Tensor) else shown(x)) if isinstance(x, Tensor) else type(x).__name__
        raise DtypeError(
            f"{where}: got {kind}, but a floating-point or complex tensor was needed. Pass x.float() or x.double()."
        )
    if x.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        raise DtypeError(
            f"{where}: got {x.dtype}, for which torch has no FFT, but float32 or float64 was needed. Pass x.float()."
        )
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"{where}: the tensor is {tuple(x.shape)}, but (..., {', '.join(map(str, shape))}) was needed. "
            "Make the operator for this shape, or crop the tensor."
        )


@checks_kinds
def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner product of two tensors of the same shape, sum(conj(x) * y)."""
    if x.shape != y.shape:
        raise ShapeError(f"inner: x is {tuple(x.shape)} and y {tuple(y.shape)}, but the same shape was needed. Crop one.")
    return torch.vdot(x.flatten(), y.flatten()) if x.dtype == y.dtype else (x.conj() * y).sum()


@checks_kinds
def norm(operator: Operator, steps: int = 30, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> float:
    """Return a lower estimate of the largest singular value, by power iteration on `device` from a fixed start."""
    x = torch.randn(operator.shape_in, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
    size = 1.0
    for _ in range(steps):
        x = operator.adjoint(operator.forward(x / x.norm().clamp(min=torch.finfo(dtype).tiny)))
        size = float(x.norm())
    return float(size**0.5)


def _same_shapes(where: str, operators: Sequence[Operator]) -> list[Operator]:
    shapes = [(operator.shape_in, operator.shape_out) for operator in operators]
    if len(set(shapes)) != 1:
        raise ShapeError(
            f"{where}: the operators' shapes are {shapes}, but one shape for all was needed. Crop or pad those that differ."
        )
    return list(operators)
