"""Linear operators: a map, its exact adjoint, and how they compose. A solver knows nothing else about them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.kinds import checks_kinds, fits_kind, shown


class Operator:
    """A linear map with its adjoint: inner(forward(x), y) = inner(x, adjoint(y)).

    An operator of your own needs the four names below and nothing else; a subclass also composes (`a @ b`), adds
    (`a + b`) and scales (`2 * a`). Both maps take any number of batch axes before the shapes named, and leave their
    input as it is; the result may share its memory.

    Attributes:
        shape_in: the shape that `forward` takes and `adjoint` returns.
        shape_out: the shape that `forward` returns and `adjoint` takes.
    """

    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """A x: (..., *shape_out) of (..., *shape_in)."""
        raise NotImplementedError

    def adjoint(self, y: Tensor) -> Tensor:
        """A* y: (..., *shape_in) of (..., *shape_out)."""
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
    """First `inner`, then `outer`: `outer @ inner`.

    Raises:
        ShapeError: `inner` does not make the shape that `outer` takes.
    """

    @checks_kinds
    def __init__(self, outer: Operator, inner: Operator) -> None:
        if outer.shape_in != inner.shape_out:
            raise ShapeError(
                f"Composition: the outer operator takes {outer.shape_in} but the inner one makes {inner.shape_out}; "
                "they must match. Make the outer one for the inner one's shape_out."
            )
        self.outer, self.inner = outer, inner
        self.shape_in, self.shape_out = inner.shape_in, outer.shape_out

    def forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


class Sum(Operator):
    """Sum the outputs of several operators of the same shapes for one input.

    Raises:
        ShapeError: none given, or shapes differ.
    """

    @checks_kinds
    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = _alike("Sum", operators)
        self.shape_in, self.shape_out = operators[0].shape_in, operators[0].shape_out

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (operator.forward(x) for operator in self.operators)
        return sum(others, first)

    def adjoint(self, y: Tensor) -> Tensor:
        first, *others = (operator.adjoint(y) for operator in self.operators)
        return sum(others, first)


class Stack(Operator):
    """Several sensors of one source: their outputs side by side, on a new axis before each one's own.

    Raises:
        ShapeError: none given, or shapes differ (crop the larger ones first).
    """

    @checks_kinds
    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = _alike("Stack", operators)
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
    """Every sample times one number, real or complex."""

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
    """Refuse anything but a floating or complex tensor (..., *shape)."""
    if not fits_kind(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        came = (str(x.dtype) if fits_kind(x, Tensor) else shown(x)) if isinstance(x, Tensor) else type(x).__name__
        raise DtypeError(f"{where}: got {came}, but a floating or complex tensor was needed. Pass x.float() or x.double().")
    if x.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        raise DtypeError(f"{where}: got {x.dtype}, in which the FFT is not computed. Pass x.float().")
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"{where}: the tensor is {tuple(x.shape)}, but (..., {', '.join(map(str, shape))}) was needed. "
            "Make the operator for this shape, or cut the tensor."
        )


@checks_kinds
def inner(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of two tensors of one shape, conjugate in the first: a number."""
    if x.shape != y.shape:
        raise ShapeError(f"inner: x is {tuple(x.shape)} and y {tuple(y.shape)}, but one shape was needed. Cut one.")
    return torch.vdot(x.flatten(), y.flatten()) if x.dtype == y.dtype else (x.conj() * y).sum()


@checks_kinds
def norm(operator: Operator, steps: int = 30, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> float:
    """Estimate the largest singular value from below, by power iteration on `device` from a fixed start."""
    x = torch.randn(operator.shape_in, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
    size = 1.0
    for _ in range(steps):
        x = operator.adjoint(operator.forward(x / x.norm().clamp(min=torch.finfo(dtype).tiny)))
        size = float(x.norm())
    return float(size**0.5)


def _alike(where: str, operators: Sequence[Operator]) -> list[Operator]:
    shapes = [(operator.shape_in, operator.shape_out) for operator in operators]
    if len(set(shapes)) != 1:
        raise ShapeError(f"{where}: the operators' shapes are {shapes}; all must be the same. Crop or pad the odd ones.")
    return list(operators)
