"""The settings with which torch, Keras and ONNX compute the same transposed convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from unconv.axis import Axis
from unconv.errors import Inexpressible, ShapeError
from unconv.ops.arguments import FORMATS, axes_of, integers, layout_of, shape_argument, shape_of, transposed_size
from unconv.ops.keras import keras_length

_MODULES: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@dataclass(frozen=True)
class TorchArguments:
    """The arguments of `torch.nn.ConvTranspose1d`, `2d` or `3d`, and the crop of its result. Printed, they are code to paste.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation: the module's own.
        crop: the samples to keep, along each spatial axis.
        needs_crop: whether the crop removes any samples. torch pads both sides equally, TensorFlow does not.
        permutation: the order of the filters' axes in torch's weight (in, out, kernel..). No kernel is flipped.
        channels_last: whether the call's tensors have channels last; torch has them first.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    crop: tuple[slice, ...]
    needs_crop: bool
    permutation: tuple[int, ...]
    channels_last: bool

    def module(self, filters: Tensor) -> nn.Module:
        """Return the module with a copy of `filters` and without bias. It takes channels first; crop its result."""
        settings = (self.kernel_size, self.stride, self.padding, self.output_padding)
        module = _MODULES[len(self.stride)](
            self.in_channels, self.out_channels, *settings, bias=False, dilation=self.dilation
        ).to(filters)
        module.load_state_dict({"weight": filters.detach().permute(self.permutation)})
        return module

    def __str__(self) -> str:
        sizes = [f"{name}={getattr(self, name)}" for name in ("stride", "padding", "output_padding", "dilation")]
        channels = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        crop = f"[..., {', '.join(f'{part.start}:{part.stop}' for part in self.crop)}]" if self.needs_crop else ""
        first, last = (".movedim(-1, 1)", ".movedim(1, -1)") if self.channels_last else ("", "")
        return (
            f"layer = torch.nn.ConvTranspose{len(self.stride)}d({channels}, {', '.join(sizes)}, bias=False)\n"
            f"layer.weight.data = filters.permute{self.permutation}\n"
            f"output = layer(input{first}){crop}{last}"
        )


@dataclass(frozen=True)
class KerasArguments:
    """The arguments of `keras.layers.Conv1DTranspose`, `2D` or `3D`. Printed, they are a line to paste.

    The layer's kernel is the filters, unchanged.
    """

    filters: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    output_padding: tuple[int, ...] | None
    data_format: str
    dilation_rate: tuple[int, ...]

    def __str__(self) -> str:
        names = ("strides", "padding", "output_padding", "data_format", "dilation_rate")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"keras.layers.Conv{len(self.strides)}DTranspose({self.filters}, {self.kernel_size}, {settings}, use_bias=False)"


@dataclass(frozen=True)
class OnnxArguments:
    """The attributes of ONNX' ConvTranspose, and the permutation of the filters' axes to its weight (in, out, kernel..)."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilations: tuple[int, ...]
    permutation: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, list[int]]:
        """Attributes for `onnx.helper.make_node("ConvTranspose", ..)`: `pads` has all starts, then all ends."""
        names = ("kernel_shape", "strides", "pads", "output_padding", "dilations")
        return {name: list(getattr(self, name)) for name in names}

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f'onnx.helper.make_node("ConvTranspose", ["input", "weight"], ["output"], {settings})'


def torch_arguments(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
) -> TorchArguments:
    """Return the arguments with which torch computes the transposed convolution that TensorFlow computes from these.

    Args:
        input, filters: the tensors, or their shapes; 1 to 3 spatial axes. The batch may be left open, here and in
            `output_shape`: None, -1 or a name.
        output_shape, strides, padding, dilations: as for `conv2d_transpose`.
        data_format: None is the one with channels last.

    Raises:
        ShapeError: as `conv2d_transpose`.

    Example:
        >>> print(torch_arguments((1, 4, 3), (3, 5, 3), (1, 8, 5), strides=2))
        layer = torch.nn.ConvTranspose1d(3, 5, (3,), stride=(2,), padding=(0,), output_padding=(0,), dilation=(1,), bias=False)
        layer.weight.data = filters.permute(2, 1, 0)
        output = layer(input.movedim(-1, 1))[..., 0:8].movedim(1, -1)
    """
    call = _read("torch_arguments", input, filters, output_shape, strides, padding, data_format, dilations)
    padding, output_padding, first = zip(*(axis.torch_settings(large) for axis, large in call.sides), strict=True)
    # torch pads both ends alike. Where TensorFlow does not, torch computes a longer result, and the crop takes our part of it.
    sides = zip(call.axes, call.small, padding, output_padding, strict=True)
    lengths = [axis.span(n) - 2 * pad + extra for axis, n, pad, extra in sides]
    crop = tuple(slice(start, start + large) for start, large in zip(first, call.size, strict=True))
    return TorchArguments(
        in_channels=call.channels,
        out_channels=call.out,
        kernel_size=call.of("kernel"),
        stride=call.of("stride"),
        padding=padding,
        output_padding=output_padding,
        dilation=call.of("dilation"),
        crop=crop,
        needs_crop=crop != tuple(slice(0, length) for length in lengths),
        permutation=call.permutation,
        channels_last=call.channels_last,
    )


def keras_arguments(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
) -> KerasArguments:
    """Return the arguments with which Keras computes the transposed convolution that TensorFlow computes from these.

    Args:
        As for `torch_arguments`.

    Raises:
        ShapeError: as `conv2d_transpose`.
        Inexpressible: Keras has no arguments for the call: explicit padding that is neither "same" nor "valid", dilation
            together with a stride, or a size that needs output_padding=None along one axis and a number along another.

    Source:
        `keras.layers.Conv2DTranspose`, Keras 3.15.

    Example:
        >>> keras_arguments((1, 4, 4, 3), (3, 3, 5, 3), (1, 7, 8, 5), strides=2).output_padding
        (0, 1)
    """
    call = _read("keras_arguments", input, filters, output_shape, strides, padding, data_format, dilations)
    if max(call.of("stride")) > 1 and max(call.of("dilation")) > 1:
        raise Inexpressible(
            f"keras_arguments: stride {call.of('stride')} with dilation {call.of('dilation')} cannot be expressed by Keras' "
            "layers, which refuse both together. Use keras.ops.conv_transpose, or unconv.ops.keras_conv_transpose."
        )
    # All axes share one padding, and output_padding is None for all of them or a number for each.
    settings = [keras_ways(axis, n, large) for (axis, large), n in zip(call.sides, call.small, strict=True)]
    for name in ("valid", "same"):
        options = [setting.get(name, []) for setting in settings]
        numbers = [[option for option in choice if option is not None] for choice in options]
        inferred = all(None in choice for choice in options)
        if inferred or all(numbers):
            return KerasArguments(
                filters=call.out,
                kernel_size=call.of("kernel"),
                strides=call.of("stride"),
                padding=name,
                output_padding=None if inferred else tuple(choice[0] for choice in numbers),
                data_format="channels_last" if call.channels_last else "channels_first",
                dilation_rate=call.of("dilation"),
            )
    raise Inexpressible(
        f"keras_arguments: sizes {call.size} from {call.small}, padded by {[axis.pads(large) for axis, large in call.sides]}, "
        "cannot be expressed by Keras, which pads 'valid' or 'same' and takes one output_padding for all axes: None, or "
        "numbers below the stride. Choose another output_shape, or crop a larger result."
    )


def onnx_arguments(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
) -> OnnxArguments:
    """Return the attributes with which ONNX' ConvTranspose computes what TensorFlow computes from these arguments.

    Every call can be expressed by `pads` and `output_padding`. The attribute `output_shape` is not used: it splits an odd
    padding the other way and would shift the result. ONNX has the channels first.

    Args:
        As for `torch_arguments`.

    Raises:
        ShapeError: as `conv2d_transpose`.

    Source:
        ONNX operator set 22, ConvTranspose.

    Example:
        >>> onnx_arguments((1, 4, 4, 3), (3, 3, 5, 3), (1, 8, 8, 5), strides=2).pads
        (0, 0, 1, 1)
    """
    call = _read("onnx_arguments", input, filters, output_shape, strides, padding, data_format, dilations)
    pads = [axis.pads(large) for axis, large in call.sides]
    return OnnxArguments(
        kernel_shape=call.of("kernel"),
        strides=call.of("stride"),
        pads=(*(before for before, _ in pads), *(after for _, after in pads)),
        output_padding=tuple(axis.rest(large) for axis, large in call.sides),
        dilations=call.of("dilation"),
        permutation=call.permutation,
    )


def keras_ways(axis: Axis, n: int, large: int) -> dict[str, list[int | None]]:
    """Return Keras' paddings, each with the output_paddings that lead from `n` samples to `large` along one axis.

    Two settings agree where the padding before the first sample is the same, which fixes the start, and so is the length.
    """
    settings: dict[str, list[int | None]] = {}
    for name, padding in (("valid", (0, 0)), ("same", None)):
        candidate = Axis(axis.kernel, axis.stride, padding, axis.dilation)
        if candidate.small(large) == n and candidate.pads(large)[0] == axis.pads(large)[0]:
            options: list[int | None] = [None, *range(axis.stride)]
            settings[name] = [option for option in options if keras_length(candidate, n, option) == large]
    return settings


@dataclass(frozen=True)
class _Call:
    """The arguments of a transposed convolution, read and checked."""

    axes: tuple[Axis, ...]
    small: tuple[int, ...]
    size: tuple[int, ...]
    channels: int
    out: int
    channels_last: bool

    @property
    def sides(self) -> list[tuple[Axis, int]]:
        return list(zip(self.axes, self.size, strict=True))

    @property
    def permutation(self) -> tuple[int, ...]:
        count = len(self.axes)
        return (count + 1, count, *range(count))

    def of(self, setting: str) -> tuple[int, ...]:
        return tuple(getattr(axis, setting) for axis in self.axes)


def _read(
    where: str, input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any, data_format: str | None, dilations: Any
) -> _Call:
    input, output_shape = _fill_open_batch(shape_of(input), output_shape)
    samples, kernel = integers(where, "input", input), integers(where, "filters", shape_of(filters), least=1)
    if data_format is None and len(samples) in (3, 4, 5):
        data_format = FORMATS[len(samples) - 3]
    layout = layout_of(where, data_format)
    for name, shape in (("input", samples), ("filters", kernel)):
        if len(shape) != len(layout.name):
            raise ShapeError(
                f"{where}: {name} is {shape}, but {len(layout.name)} lengths were needed for {layout.name}. "
                "Pass the tensor or its shape."
            )
    axes = axes_of(where, layout, kernel[:-2], strides, padding, dilations)
    shape = shape_argument(where, "output_shape", output_shape, layout)
    size = transposed_size(where, layout, axes, samples, kernel, shape)
    return _Call(axes, layout.size(samples), size, samples[layout.channel], kernel[-2], layout.channel != 1)


def _fill_open_batch(input: Any, output_shape: Any) -> tuple[Any, Any]:
    """Replace a batch that is left open by the other shape's, or by 1; no result depends on it."""
    shapes = [
        list(shape) if isinstance(shape, (list, tuple)) or hasattr(shape, "rank") else shape for shape in (input, output_shape)
    ]
    batches = [shape[0] if isinstance(shape, list) and shape else 0 for shape in shapes]
    numbers = [batch for batch in batches if not _is_open(batch)]
    for shape, batch in zip(shapes, batches, strict=True):
        if _is_open(batch):
            shape[0] = numbers[0] if numbers else 1
    first, second = (tuple(shape) if isinstance(shape, list) else shape for shape in shapes)
    return first, second


def _is_open(batch: Any) -> bool:
    """Return whether the batch is None, -1 or a name, as Keras, TensorFlow and ONNX write a batch of any length."""
    return batch is None or isinstance(batch, str) or (type(batch) is int and batch == -1)
