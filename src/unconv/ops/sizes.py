"""The output sizes that a transposed convolution can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unconv.axis import Axis
from unconv.errors import ShapeError, counted
from unconv.ops.arguments import FORMATS, Layout, axes_of, axis_words, integers, layout_of, per_axis
from unconv.ops.bridges import keras_ways

_MOST = 10_000  # the most sizes that are listed


def legal_output_sizes(
    input_size: Any, kernel_size: Any, strides: Any = 1, padding: Any = "SAME", dilations: Any = None
) -> tuple[range, ...]:
    """Return every size that `output_shape` may have, as a range for each spatial axis.

    Args:
        input_size: spatial lengths of the transposed convolution's input, without batch and channels; a single number is
            one axis.
        kernel_size, strides, dilations: one number, or one for each of these axes.
        padding: "SAME", "VALID" or a pair (before, after) for each of these axes.

    Returns:
        A range for each axis, of as many sizes as its stride, or fewer where padding would remove all samples of the
        smallest ones. With stride 1 there is only one.

    Raises:
        ShapeError: lengths or settings that do not fit.

    Example:
        >>> legal_output_sizes((28, 28), 3, strides=2, padding="SAME")
        (range(55, 57), range(55, 57))
        >>> [list(sizes) for sizes in legal_output_sizes(4, 2, strides=3, padding="VALID")]
        [[11, 12, 13]]
    """
    size, _, axes = sized_axes("legal_output_sizes", input_size, kernel_size, strides, padding, dilations)
    return tuple(axis.legal(n) for axis, n in zip(axes, size, strict=True))


@dataclass(frozen=True)
class OutputSize:
    """One possible output size along one axis, and what other libraries call it.

    Args:
        axis, input, output: "height", and its samples before and after.
        padding: (before, after) of the convolution that is transposed.
        residual: r, the number of zeros that come after all other padding.
        torch: (padding, output_padding) of `torch.nn.ConvTranspose2d`.
        torch_crop: (first, end) of the samples to keep of torch's result.
        keras: (padding, output_padding) of `keras.layers.Conv2DTranspose`; None where it cannot be expressed.
        onnx: (pad before, pad after, output_padding) of ONNX' ConvTranspose.
    """

    axis: str
    input: int
    output: int
    padding: tuple[int, int]
    residual: int
    torch: tuple[int, int]
    torch_crop: tuple[int, int]
    keras: tuple[str, int | None] | None
    onnx: tuple[int, int, int]


def output_sizes(
    input_size: Any, kernel_size: Any, strides: Any = 1, padding: Any = "SAME", dilations: Any = None
) -> list[OutputSize]:
    """Return every size that `output_shape` may have, axis by axis, with the settings that give it in other libraries.

    Args:
        As for `legal_output_sizes`.

    Raises:
        ShapeError: lengths or settings that do not fit.

    Example:
        >>> [(size.output, size.keras) for size in output_sizes(4, 3, strides=2, padding="SAME")]
        [(7, ('same', 0)), (8, ('same', None))]
    """
    size, layout, axes = sized_axes("output_sizes", input_size, kernel_size, strides, padding, dilations)
    names = [layout.axis_name(index) for index in layout.spatial]
    for name, axis, n in zip(names, axes, size, strict=True):
        if not any(axis.legal(n)):
            raise ShapeError(
                f"output_sizes: along the {name}, {counted(n, 'sample')} with {axis_words(axis)} give no size: the "
                "padding removes more samples than there are. Pass less padding."
            )
    count = sum(len(axis.legal(n)) for axis, n in zip(axes, size, strict=True))
    if count > _MOST:
        raise ShapeError(
            f"output_sizes: {count} sizes are possible, but at most {_MOST} are listed. Call legal_output_sizes for ranges."
        )
    return [
        _output_size(name, axis, n, large)
        for name, axis, n in zip(names, axes, size, strict=True)
        for large in axis.legal(n)
        if large
    ]


def _output_size(name: str, axis: Axis, n: int, large: int) -> OutputSize:
    pads, residual = axis.pads(large), axis.rest(large)
    padding, output_padding, first = axis.torch_settings(large)
    settings = [] if axis.stride > 1 and axis.dilation > 1 else keras_ways(axis, n, large).items()
    keras = next(((keras_padding, options[0]) for keras_padding, options in settings if options), None)
    return OutputSize(
        name, n, large, pads, residual, (padding, output_padding), (first, first + large), keras, (*pads, residual)
    )


def sized_axes(
    where: str, input_size: Any, kernel_size: Any, strides: Any, padding: Any, dilations: Any
) -> tuple[tuple[int, ...], Layout, tuple[Axis, ...]]:
    """Return spatial lengths, layout and axes, read from settings without tensors; the layout has the channels last."""
    size = integers(where, "input_size", input_size, least=1)
    if len(size) not in (1, 2, 3):
        raise ShapeError(
            f"{where}: input_size is {input_size!r}, of length {len(size)}, but 1, 2 or 3 spatial lengths were needed. "
            "Leave out batch and channels."
        )
    layout = layout_of(where, FORMATS[len(size) - 1])
    kernel = per_axis(where, "kernel_size", kernel_size, layout)
    return size, layout, axes_of(where, layout, kernel, strides, padding, dilations)
