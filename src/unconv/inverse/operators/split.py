"""Split a blur whose samples were observed in part into a circular convolution and selections."""

from __future__ import annotations

from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Composition, Operator
from unconv.inverse.operators.selection import Crop, Selection, Window


def split(operator: Operator) -> tuple[Convolution, Selection]:
    """Split an operator into a circular convolution and a selection of its samples: A = selection @ convolution.

    It keeps an unknown boundary, a mask or a coarser grid at the FFT's speed: the FFT diagonalises the convolution, and
    the selection is a diagonal of ones and zeros.

    Raises:
        ShapeError: the operator is no such product.

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
        f"split: {operator!r} is no circular convolution of which samples were chosen. Use boundary='unknown' or 'circular', "
        "alone or below a Mask, Crop or Downsample; or a solver that asks for less: cgls, fista, richardson_lucy."
    )


def embed(operator: Operator, like: Tensor) -> tuple[Convolution, Selection, Crop] | None:
    """Embed an operator in a circular convolution on the FFT's own grid: A = selection @ convolution @ adjoint of a crop.

    A solver may then stay on that grid, where `split` keeps to the operator's, and lays no samples among zeros at each step.
    None where nothing is gained: at other boundaries than "zero" and "unknown", without an FFT, with a complex kernel.

    Args:
        like: a tensor of the kind that the operator is to be given.
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
    """Choose, from what goes round on a grid of this shape, what the operator shows."""
    kernel, valid = operator.kernel.shape[-operator.axes :], operator.boundary == "unknown"
    start = [k - 1 - c if valid else 0 for k, c in zip(kernel, operator.centre, strict=True)]
    return Window(shape, start, operator.shape_out[-operator.axes :], operator.stride)


class Chain(Selection, Composition):
    """A selection of a selection."""
