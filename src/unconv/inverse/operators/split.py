"""Split a blur whose samples were observed in part into a circular convolution and a selection."""

from __future__ import annotations

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.operator import Composition, Operator
from unconv.inverse.operators.selection import Selection, Window


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
        kernel = operator.kernel.shape[-operator.axes :]
        valid = operator.boundary == "unknown"
        start = [k - 1 - c if valid else 0 for k, c in zip(kernel, operator.centre, strict=True)]
        size = operator.shape_out[-operator.axes :]
        return circular, Window(operator.shape_in, start, size, operator.stride)
    if isinstance(operator, Composition) and isinstance(operator.outer, Selection):
        circular, chosen = split(operator.inner)
        return circular, Chain(operator.outer, chosen)
    raise ShapeError(
        f"split: {operator!r} is no circular convolution of which samples were chosen. Use boundary='unknown' or 'circular', "
        "alone or below a Mask, Crop or Downsample; or a solver that asks for less: cgls, fista, richardson_lucy."
    )


class Chain(Selection, Composition):
    """A selection of a selection."""
