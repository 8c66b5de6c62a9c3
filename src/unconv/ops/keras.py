"""Keras' transposed convolution, which infers the output's size."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import ShapeError
from unconv.ops.arguments import FORMATS, Layout, axes_of, axis_words, layout_of, per_axis
from unconv.ops.conv import refuse_empty_filters
from unconv.ops.conv_transpose import transposed
from unconv.ops.values import Values, operands


def keras_conv_transpose(
    inputs: Values,
    kernel: Values,
    strides: Any,
    padding: str,
    output_padding: Any = None,
    data_format: str | None = "channels_last",
    dilation_rate: Any = 1,
) -> Tensor:
    """Return Keras' transposed convolution, which infers the output's size; its values are TensorFlow's for that size.

    Args:
        inputs: (N, samples.., in), or (N, in, samples..) with data_format "channels_first"; 1 to 3 spatial axes.
        kernel: [kernel.., out, in], of the same floating type.
        strides, dilation_rate: one number, or one for each spatial axis.
        padding: "same" or "valid".
        output_padding: samples beyond a base length, one number for all axes or one for each. Under "valid" the base is
            `(n - 1) stride + kernel`, and 0 to stride - 1 samples are possible. Under "same" it is
            `(n - 1) stride + kernel % 2`, and 0 to stride - 1 are possible for an odd kernel, 1 to stride for an even one.
            `kernel` is the dilated kernel's extent. None gives `n stride` samples under "same"; under "valid" it gives
            the base length and, where the stride is longer than the kernel, the difference of the two.

    Returns:
        (N, samples.., out), or channels first if the input is.

    Raises:
        ShapeError: as `conv2d_transpose`; also for any other output_padding, since TensorFlow refuses the size that Keras
            infers from it. The message lists the possible ones. (Keras' layers also refuse the stride itself, which is
            possible with an even kernel.)
        DtypeError: as `conv2d_transpose`.

    Source:
        `keras.ops.conv_transpose`, Keras 3.15, on its TensorFlow backend.

    Example:
        >>> x, w = torch.ones(1, 2, 1), torch.tensor([1., 2., 3.]).reshape(3, 1, 1)
        >>> keras_conv_transpose(x, w, 2, "same").flatten()
        tensor([1., 2., 4., 2.])
        >>> keras_conv_transpose(x, w, 2, "valid").flatten()
        tensor([1., 2., 4., 2., 3.])
    """
    where = "keras_conv_transpose"
    layout = _layout(where, inputs, data_format)
    inputs, kernel = operands(where, layout, inputs=inputs, kernel=kernel)
    refuse_empty_filters(where, kernel)
    axes = axes_of(where, layout, kernel.shape[:-2], strides, _padding(where, padding), dilation_rate)
    extras = [None] * len(axes) if output_padding is None else per_axis(where, "output_padding", output_padding, layout, 0)
    samples = layout.size(inputs.shape)
    # An output_padding is possible where TensorFlow's convolution takes the inferred length back to `n` samples.
    for index, axis, n, extra in zip(layout.spatial, axes, samples, extras, strict=True):
        legal = [e for e in range(axis.stride + 1) if axis.small(keras_length(axis, n, e)) == n]
        if n and extra is not None and extra not in legal:
            raise ShapeError(
                f"{where}: output_padding is {output_padding!r}; {extra} for the {layout.axis_name(index)} is not possible "
                f"with {axis_words(axis)}. Pass None, or one of {legal}."
            )
    size = [keras_length(axis, n, extra) for axis, n, extra in zip(axes, samples, extras, strict=True)]
    shape = layout.shape(inputs.shape[0], size, kernel.shape[-2])
    return transposed(where, inputs, kernel, axes, shape, layout)


def keras_length(axis: Axis, n: int, output_padding: int | None) -> int:
    """Return the output's length along one axis, as Keras infers it."""
    if output_padding is None:
        return n * axis.stride if axis.padding is None else axis.span(n) + max(axis.stride - axis.extent, 0)
    return (axis.span(n) if axis.padding is not None else (n - 1) * axis.stride + axis.extent % 2) + output_padding


def _layout(where: str, inputs: Any, data_format: Any) -> Layout:
    formats = {"channels_last": FORMATS[:3], "channels_first": FORMATS[3:], None: FORMATS[:3]}
    if not isinstance(data_format, (str, type(None))) or data_format not in formats:  # torch 2.6 compiles no union
        raise ShapeError(
            f"{where}: data_format is {data_format!r}; it must be 'channels_last' or 'channels_first'. Pass one of these."
        )
    axes = min(max(getattr(inputs, "ndim", 4) - 2, 1), 3)
    return layout_of(where, formats[data_format][axes - 1])


def _padding(where: str, padding: Any) -> str:
    if not isinstance(padding, str):
        raise ShapeError(
            f"{where}: padding is {padding!r}, but Keras has 'same' and 'valid' only. Pass one of these, or call "
            "conv2d_transpose."
        )
    return padding
