"""Split a blur with missing samples, or an unknown boundary, into a circular convolution and a selection."""

from __future__ import annotations

from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Composition, Operator
from unconv.inverse.operators.selection import Crop, Selection, Window


def split(operator: Operator) -> tuple[Convolution, Selection]:
    """Split an operator into a circular convolution and a selection of its samples: A = selection @ convolution.

    Solvers then keep the speed of the FFT with an unknown boundary, a mask or a coarser grid: the FFT diagonalises the
    convolution, and the selection is a diagonal of ones and zeros.

    Raises:
        ShapeError: the operator is not such a product.

    Source:
        Almeida & Figueiredo, "Deconvolving images with unknown boundaries using the alternating direction method
        of multipliers" (2013), sec. III; Matakos, Ramani & Fessler, "Accelerated edge-preserving image restoration
        without boundary artifacts" (2013).
    """
    if isinstance(operator, Convolution) and operator.boundary in ("circular", "unknown"):
        circular = operator
        if not operator.diagonalised:
            circular = Convolution(operator.kernel, operator.shape_in, centre=operator.centre, axes=operator.axes)
        return circular, _window(operator, operator.shape_in)
    if isinstance(operator, Composition) and isinstance(operator.outer, Selection):
        circular, chosen = split(operator.inner)
        return circular, Chain(operator.outer, chosen)
    raise ShapeError(
        f"split: {operator!r} is not a selection of a circular convolution, but one was needed. Use boundary='unknown' or "
        "'circular', alone or inside a Mask, Crop or Downsample; or a solver that takes any operator: cgls, fista, "
        "richardson_lucy."
    )


def embed(operator: Operator, like: Tensor) -> tuple[Convolution, Selection, Crop] | None:
    """Embed an operator in a circular convolution on the FFT's own grid: A = selection @ convolution @ adjoint of a crop.

    A solver may then stay on that grid, and need not pad its iterate with zeros at each step; `split` stays on the grid of the
    operator. Returns None if nothing is gained: with a boundary other than "zero" and "unknown", without the FFT, or with a
    complex kernel.

    Args:
        like: a tensor like those that the operator will take.
    """
    if isinstance(operator, Convolution):
        if operator.boundary not in ("zero", "unknown") or operator.kernel.is_complex() or operator.is_direct(like):
            return None
        n = operator.shape_in[-operator.axes :]
        shape = (*operator.shape_in[: -operator.axes], *operator.grid()[0])
        circular = Convolution(operator.kernel, shape, centre=operator.centre, axes=operator.axes, method="fft")
        return circular, _window(operator, shape), Crop(shape, [0] * operator.axes, n)
    if isinstance(operator, Composition) and isinstance(operator.outer, Selection) and (inner := embed(operator.inner, like)):
        circular, chosen, crop = inner
        return circular, Chain(operator.outer, chosen), crop
    return None


def _window(operator: Convolution, shape: tuple[int, ...]) -> Window:
    """Return the window that selects the operator's output from a circular convolution on a grid of this shape."""
    kernel, valid = operator.kernel.shape[-operator.axes :], operator.boundary == "unknown"
    start = [k - 1 - c if valid else 0 for k, c in zip(kernel, operator.centre, strict=True)]
    return Window(shape, start, operator.shape_out[-operator.axes :], operator.stride)


class Chain(Selection, Composition):
    """Select from a selection."""
