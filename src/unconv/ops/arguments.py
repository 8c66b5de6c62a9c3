"""Read and check arguments: each of TensorFlow's ways to write one is brought to a single form here."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor

from unconv.axis import Axis
from unconv.errors import DtypeError, ShapeError, counted
from unconv.ops.spatial import exporting

FORMATS = ("NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64)
AXIS_NAMES = {"N": "batch", "C": "channels", "D": "depth", "H": "height", "W": "width"}
_ROOM = 2**28  # the most samples that windows may be laid out over
_LARGEST = 2**31 - 1  # TensorFlow's sizes are 32-bit too; torch's kernels overflow silently beyond it


@dataclass(frozen=True)
class Layout:
    """The order of a tensor's axes: "NHWC" is batch, height, width, channels.

    Args:
        name: a letter for each axis.
        spatial: the positions of the spatial axes.
        channel: the position of the channels.
    """

    name: str
    spatial: tuple[int, ...]
    channel: int

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.spatial)

    def axis_name(self, index: int) -> str:
        """Return the name of the axis at a position."""
        return AXIS_NAMES[self.name[index]]

    def words(self) -> str:
        """Return the names of all axes, for a message."""
        return ", ".join(self.axis_name(index) for index in range(len(self.name)))

    def size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial lengths of a shape."""
        return tuple(shape[index] for index in self.spatial)

    def shape(self, batch: int, size: Sequence[int], channels: int) -> tuple[int, ...]:
        """Return the shape of a tensor in this layout."""
        return (batch, channels, *size) if self.channel == 1 else (batch, *size, channels)

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Return a view with the channels right after the batch, as torch has them."""
        return tensor if self.channel == 1 else tensor.movedim(-1, 1)

    def channels_last(self, tensor: Tensor) -> Tensor:
        """Return a view with the channels at the end, the order in which TensorFlow counts."""
        return tensor.movedim(1, -1) if self.channel == 1 else tensor

    def back(self, planes: Tensor) -> Tensor:
        """Return (N, C, samples..) as a view in this layout."""
        return planes if self.channel == 1 else planes.movedim(1, -1)


LAYOUTS = {
    name: Layout(name, tuple(i for i, letter in enumerate(name) if letter not in "NC"), name.index("C")) for name in FORMATS
}


def layout_of(where: str, data_format: Any, axes: int | None = None) -> Layout:
    """Return the layout that `data_format` names; it must have `axes` spatial axes, unless that is None."""
    layout = LAYOUTS.get(data_format) if isinstance(data_format, str) else None
    if layout is not None and axes in (None, layout.axes):
        return layout
    legal = [name for name in FORMATS if axes is None or len(name) == axes + 2]
    raise ShapeError(f"{where}: data_format is {data_format!r}; it must be {_either(map(repr, legal))}. Pass one of these.")


def shape_of(tensor_or_shape: Any) -> Any:
    """Return the shape of a tensor, or the shape itself."""
    return getattr(tensor_or_shape, "shape", tensor_or_shape)


def floats(where: str, layout: Layout, **tensors: Any) -> None:
    """Refuse anything except floating tensors of the layout's rank, all of one type and on one device."""
    dense_tensors(where, layout, FLOATS, **tensors)


def dense_tensors(where: str, layout: Layout, dtypes: Sequence[torch.dtype], **tensors: Any) -> None:
    """Refuse anything except dense tensors of the layout's rank, all of the same one of `dtypes` and on one device."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DtypeError(
                f"{where}: {name} is a {type(tensor).__name__}, but a torch.Tensor was needed. Pass torch.as_tensor({name})."
            )
        if tensor.dtype not in dtypes or tensor.layout != torch.strided:
            kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
            raise DtypeError(
                f"{where}: {name} is {kind}, but a dense {_either(str(dtype)[6:] for dtype in dtypes)} was needed. "
                f"Pass {name}.to(torch.float32), or .to_dense() first."
            )
        if tensor.ndim != len(layout.name):
            raise ShapeError(
                f"{where}: {name} has {tensor.ndim} ax{'is' if tensor.ndim == 1 else 'es'}, {tuple(tensor.shape)}, but "
                f"{len(layout.name)} were needed: "
                f"{layout.words() if name != 'filters' else _kernel_words(layout)}. Reshape it, or use the function for "
                f"{_either(['1-D', '2-D', '3-D'])} data, whichever yours is."
            )
    # Every tensor is compared with the first one, so that the message names two that differ.
    (first_name, first), *others = tensors.items()
    for name, tensor in others:
        for what in ("dtype", "device"):
            if getattr(tensor, what) != getattr(first, what):
                raise DtypeError(
                    f"{where}: {first_name} is {getattr(first, what)} but {name} is {getattr(tensor, what)}; "
                    f"they must have one {what}. Pass {name}.to({first_name}.{what})."
                )


def integers(where: str, name: str, value: Any, least: int = -_LARGEST) -> tuple[int, ...]:
    """Return the integers in `value`: one integer, a sequence or a tensor of them."""
    items = _items(where, name, value)
    items = items if hasattr(items, "__iter__") else [items]
    if isinstance(items, (str, bytes, dict, set)):  # torch 2.6 compiles no other way to write it
        raise DtypeError(f"{where}: {name} is {value!r}, but whole numbers were needed. Pass a list of them.")
    return tuple(_integer(where, name, item, value, least) for item in items)


def _items(where: str, name: str, value: Any) -> Any:
    """Return a tensor or an array as nested lists, and anything else as it is."""
    if not hasattr(value, "tolist"):
        return value
    if isinstance(value, Tensor) and (value.is_meta or value.layout != torch.strided):
        raise DtypeError(f"{where}: {name} is a tensor without values, but whole numbers were needed. Pass a list of them.")
    return value.tolist()


def _integer(where: str, name: str, item: Any, value: Any, least: int) -> int:
    if type(item) is int and least <= item and (exporting() or item <= _LARGEST):  # an exported limit would bind later batches
        return item
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise DtypeError(
            f"{where}: {name} is {_shown(value)}; {_shown(item)} is a {type(item).__name__}, but whole numbers were needed. "
            "Pass integers."
        )
    if isinstance(item, torch.SymInt) and exporting():
        return cast("int", item)
    number = cast("int", item) if isinstance(item, (int, torch.SymInt)) else _index(where, name, item)
    if not least <= number <= _LARGEST:
        raise ShapeError(
            f"{where}: {name} is {_shown(value)}; {number} is out of range. Pass whole numbers from {least} to {_LARGEST}."
        )
    return number


def _index(where: str, name: str, item: Any) -> int:
    try:
        return operator.index(item)
    except TypeError as error:
        raise DtypeError(f"{where}: {name} holds {_shown(item)}, but whole numbers were needed. Pass integers.") from error


def per_axis(where: str, name: str, value: Any, layout: Layout, least: int = 1) -> tuple[int, ...]:
    """Return a stride, dilation or window for each spatial axis, from any of TensorFlow's three notations.

    They are one number for all axes, one for each spatial axis, or one for each axis with 1 for batch and channels.
    """
    numbers = integers(where, name, value, least)
    if len(numbers) == 1:
        return numbers * layout.axes
    if len(numbers) == layout.axes:
        return numbers
    if len(numbers) != layout.axes + 2:
        raise ShapeError(
            f"{where}: {name} is {_shown(value)}, of length {len(numbers)}, but "
            f"{_either(sorted({1, layout.axes, layout.axes + 2}))} numbers were needed. Pass one for all axes, one for each "
            f"spatial axis, or one for each of {layout.words()}."
        )
    for index in (0, layout.channel):
        if numbers[index] != 1:
            raise ShapeError(
                f"{where}: {name} is {_shown(value)}; {numbers[index]} for the {layout.axis_name(index)} (axis {index} of "
                f"{layout.name}) must be 1, because only spatial axes have {name}. Write 1 there."
            )
    return layout.size(numbers)


def paddings(where: str, padding: Any, layout: Layout) -> tuple[tuple[int, int] | None, ...]:
    """Return the padding before and after each spatial axis; None where SAME computes it."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ShapeError(
                f"{where}: padding is {padding!r}; it must be 'SAME', 'VALID' or a pair of numbers for each axis, "
                "[[0, 0], [1, 1], .., [0, 0]]. Pass one of these."
            )
        return ((None if padding.upper() == "SAME" else (0, 0)),) * layout.axes
    pairs = [integers(where, "padding", pair, least=0) for pair in _pairs(where, padding)]
    if len(pairs) not in (layout.axes, layout.axes + 2) or any(len(pair) != 2 for pair in pairs):
        raise ShapeError(
            f"{where}: padding is {_shown(padding)}, but {layout.axes + 2} pairs (before, after) were needed, for "
            f"{layout.words()}, or one for each spatial axis. Pass [0, 0] where nothing is padded."
        )
    # TensorFlow writes a pair for every axis. Without the two pairs that must be [0, 0], the others are unambiguous too.
    if len(pairs) == layout.axes + 2:
        for index in (0, layout.channel):
            if any(pairs[index]):
                raise ShapeError(
                    f"{where}: padding is {_shown(padding)}; {list(pairs[index])} for the {layout.axis_name(index)} (axis "
                    f"{index} of {layout.name}) must be [0, 0], because only spatial axes are padded. Write [0, 0] there."
                )
        pairs = [pairs[index] for index in layout.spatial]
    return tuple((before, after) for before, after in pairs)


def _pairs(where: str, padding: Any) -> list[Any]:
    items = _items(where, "padding", padding)
    if not hasattr(items, "__iter__"):
        raise DtypeError(
            f"{where}: padding is {_shown(padding)}; it must be 'SAME', 'VALID' or a pair of numbers for each axis. "
            "Pass one of these."
        )
    return list(items)


def axes_of(
    where: str, layout: Layout, kernel: Sequence[int], strides: Any, padding: Any, dilations: Any = None
) -> tuple[Axis, ...]:
    """Return how the windows lie along each spatial axis, read from the settings of a call."""
    stride = per_axis(where, "strides", strides, layout)
    dilation = per_axis(where, "dilations", 1 if dilations is None else dilations, layout)
    return tuple(map(Axis, kernel, stride, paddings(where, padding, layout), dilation))


def counts(where: str, layout: Layout, axes: Sequence[Axis], size: Sequence[int]) -> tuple[int, ...]:
    """Return the number of windows along each axis of `size` samples, and refuse what TensorFlow refuses.

    TensorFlow returns an empty result where the kernel is too long by less than two strides, and raises an error
    beyond that.
    """
    for index, axis, n in zip(layout.spatial, axes, size, strict=True):
        if axis.padding is not None and n + sum(axis.padding) + 2 * axis.stride <= axis.extent:
            raise ShapeError(
                f"{where}: a window spans {axis.extent} samples of the {layout.axis_name(index)}, but the input has {n} and "
                f"padding {sum(axis.padding)}. Pass a larger input, a smaller kernel, or padding 'SAME'."
            )
    return tuple(axis.small(n) for axis, n in zip(axes, size, strict=True))


def shape_argument(where: str, name: str, value: Any, layout: Layout) -> tuple[int, ...]:
    """Return a complete shape: batch, channels and spatial lengths."""
    if value is None:
        raise DtypeError(
            f"{where}: {name} is None, but a shape was needed: {layout.words()}. legal_output_sizes lists the possible ones."
        )
    numbers = integers(where, name, value)
    if len(numbers) != len(layout.name):
        raise ShapeError(
            f"{where}: {name} is {_shown(value)}, of length {len(numbers)}, but {len(layout.name)} numbers were needed: "
            f"{layout.words()} ({layout.name}). Pass all of them."
        )
    if any(number < 0 for number in numbers):  # `min` would compare a symbolic batch with the other lengths, and limit it
        raise ShapeError(
            f"{where}: {name} is {_shown(value)}; {min(numbers)} is below 0, and no length is inferred. Pass all lengths."
        )
    return numbers


def transposed_size(
    where: str, layout: Layout, axes: Sequence[Axis], input: Sequence[int], filters: Sequence[int], shape: Sequence[int]
) -> tuple[int, ...]:
    """Return the spatial lengths in `shape`, and refuse those that no transposed convolution of these tensors can have."""
    channels, (out, depth) = input[layout.channel], filters[-2:]
    wanted = shape[layout.channel]
    if (depth, out) != (channels, wanted):
        # The two shapes show which mistake is the likeliest: torch's weight, a grouped convolution, swapped channels, or
        # another data format.
        hint = "pass filters [kernel.., out, in]."
        if tuple(filters[:2]) == (channels, wanted) and _as_in_torch(filters):
            hint = f"they look like torch's, [in, out, kernel..]: {_as_tensorflow(layout, 'out, in')}"
        elif depth == channels:
            hint = f"pass an output_shape with {counted(out, 'channel')} (axis {layout.channel} in {layout.name})."
            if out and wanted % out == 0:
                hint = f"{hint[:-1]}; {_groups(layout, wanted // out)}"
        elif (out, depth) == (channels, wanted):
            hint = "they look like a convolution's, [kernel.., in, out]: pass filters.transpose(-1, -2)."
        elif (depth, out) == (input[_other_channel(layout)], shape[_other_channel(layout)]):
            hint = _other_format(layout)
        raise ShapeError(
            f"{where}: filters {tuple(filters)} lead from {counted(depth, 'channel')} (axis -1) to {out} (axis -2), but the "
            f"input has {channels}, {tuple(input)} in {layout.name}, and the output {wanted}, {tuple(shape)}: {hint}"
        )
    refuse_other_batch(where, "output_shape", shape, "input", input)
    return legal_size(where, "output_shape", layout, axes, layout.size(input), shape)


def other_channels(layout: Layout, input: Sequence[int], filters: Sequence[int]) -> str:
    """Return advice on a convolution's filters that do not fit the input's channels, by the likeliest mistake."""
    channels = input[layout.channel]
    if filters[1] == channels and _as_in_torch(filters):
        return f"They look like torch's, [out, in, kernel..]: {_as_tensorflow(layout, 'in, out')}"
    if filters[-2] == input[_other_channel(layout)]:
        return f"T{_other_format(layout)[1:]}"
    return f"Both must divide into equal groups: pass filters [kernel.., in, out] with in = {channels}, or a divisor of it."


def _groups(layout: Layout, groups: int) -> str:
    """Return advice on filters that produce a fraction of the output's channels, as a grouped convolution's do."""
    return (
        f"if {groups} groups are meant, they are refused, because TensorFlow's CPU kernels have none to compare with. "
        f"Concatenate conv{layout.axes}d_transpose of input.chunk({groups}, {layout.channel}) and filters.chunk({groups}, -1) "
        f"along axis {layout.channel}."
    )


def _as_in_torch(filters: Sequence[int]) -> bool:
    """Return whether the lengths after the first two may be a kernel's: shorter than the number of channels."""
    return max(filters[2:]) < max(filters[:2])


def _as_tensorflow(layout: Layout, channels: str) -> str:
    order = (*range(2, 2 + layout.axes), 1, 0)
    return f"pass filters.permute{order}, [kernel.., {channels}]."


def _other_channel(layout: Layout) -> int:
    """Return the position of the channels in the other layout."""
    return layout.axes + 1 if layout.channel == 1 else 1


def _other_format(layout: Layout) -> str:
    other = FORMATS[(FORMATS.index(layout.name) + 3) % 6]
    return f"the channels seem to be axis {_other_channel(layout)}: pass data_format={other!r}."


def refuse_other_batch(where: str, name: str, shape: Sequence[int], other_name: str, other: Sequence[int]) -> None:
    """Refuse a shape whose batch differs from that of the tensor `other_name`."""
    if shape[0] != other[0]:
        raise ShapeError(
            f"{where}: {name} is {tuple(shape)}, a batch of {shape[0]} (axis 0), but {other_name} {tuple(other)} is a "
            f"batch of {other[0]}. Pass {other[0]} there."
        )


def legal_size(
    where: str, name: str, layout: Layout, axes: Sequence[Axis], small: Sequence[int], shape: Sequence[int]
) -> tuple[int, ...]:
    """Return the spatial lengths in `shape`, and refuse those that do not have `small` windows."""
    size = layout.size(shape)
    for index, axis, n, large in zip(layout.spatial, axes, small, size, strict=True):
        if large < 0 or axis.small(large) != n:
            possible = (
                f"give {listed(axis.legal(n))}, because {_formula(axis)}. Pass one of these{_other_padding(axes, small, size)}."
            )
            raise ShapeError(
                f"{where}: {name} is {tuple(shape)}; {large} for the {layout.axis_name(index)} (axis {index}) is not possible. "
                f"{counted(n, 'sample')} with {axis_words(axis)} {possible if axis.legal(n) else _none()}"
            )
    return size


def _other_padding(axes: Sequence[Axis], small: Sequence[int], size: Sequence[int]) -> str:
    """Return, for a message, the other padding that leads to all of these sizes, or "" where none does."""
    for name, padding in (("VALID", (0, 0)), ("SAME", None)):
        sides = zip(axes, small, size, strict=True)
        if all(Axis(axis.kernel, axis.stride, padding, axis.dilation).small(large) == n for axis, n, large in sides):
            return f', or padding="{name}", which {" by ".join(map(str, size))} needs'
    return ""


def refuse_no_truth(where: str, name: str, value: Any) -> None:
    """Refuse anything except True and False."""
    if not isinstance(value, bool):
        raise DtypeError(f"{where}: {name} is {_shown(value)}, but True or False was needed. Pass one of them.")


def refuse_large(where: str, values: Tensor, shape: Sequence[int]) -> None:
    """Refuse to spread few values over very much memory, before the memory is allocated."""
    laid_out, samples = (prod(lengths[1:] if exporting() else lengths) for lengths in (shape, values.shape))  # one image's
    if laid_out > max(_ROOM, 64 * samples):
        raise ShapeError(
            f"{where}: windows over {tuple(values.shape)} would be laid out as a tensor of {tuple(shape)}, more than {_ROOM} "
            "samples. Pass a smaller window or stride: one that is longer than the input sees nothing more."
        )


def axis_words(axis: Axis) -> str:
    """Return an axis' settings in words."""
    padding = (
        "SAME" if axis.padding is None else "VALID" if axis.padding == (0, 0) else f"{axis.padding[0]} + {axis.padding[1]}"
    )
    dilation = f", dilation {axis.dilation}" if axis.dilation > 1 else ""
    return f"kernel {axis.kernel}, stride {axis.stride}{dilation}, padding {padding}"


def listed(legal: range) -> str:
    """Return all legal lengths in words."""
    if not legal:
        return "none"
    few = _either(legal) if len(legal) <= 16 else f"any from {legal[0]} to {legal[-1]}"
    return f"{'only ' if len(legal) == 1 else ''}{few}"


def _none() -> str:
    return "give no size: the padding removes more samples than there are. Pass less padding."


def _formula(axis: Axis) -> str:
    if axis.padding is None:
        return "(n - 1)·stride + 1 ≤ size ≤ n·stride"
    extent = "kernel" if axis.dilation == 1 else "((kernel - 1)·dilation + 1)"
    pads = " - padding" if sum(axis.padding) else ""
    return f"(n - 1)·stride + {extent}{pads} ≤ size ≤ n·stride + {extent}{pads} - 1"


def _kernel_words(layout: Layout) -> str:
    return ", ".join([*(f"kernel {layout.axis_name(index)}" for index in layout.spatial), "and two of channels"])


def _either(options: Any) -> str:
    words = [str(option) for option in options]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
