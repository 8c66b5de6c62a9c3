"""The one image that an ONNX graph takes: its shape, its layout, and the lengths that the file leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from unconv.errors import DtypeError, ModelError, ShapeError
from unconv.networks.onnx.operators import LARGEST
from unconv.networks.onnx.reading import OnnxFile, shown
from unconv.networks.onnx.tensors import torch_type

# Lengths to try for an axis that the graph leaves open: the most usual first, then others that networks are built for.
_SIDES = (224, 32, 48, 64, 96, 112, 128, 160, 192, 256, 299, 320, 384, 416, 448, 480, 512, 640, 800, 1024)


@dataclass(frozen=True)
class ImageInput:
    """The graph's input.

    Args:
        lengths: (1, C, samples..), or (1, samples.., C) if the channels are last; None for an open length.
        channels_last: whether the channels are last.
        fixed: whether the file fixes every length, including the batch.
        dtype: its number type.
    """

    name: str
    lengths: tuple[int | None, ...]
    channels_last: bool
    fixed: bool
    dtype: torch.dtype

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """Yield the shapes to try, the most likely first."""
        channel_axis = len(self.lengths) - 1 if self.channels_last else 1
        open_axes = [axis for axis, length in enumerate(self.lengths) if length is None and axis != channel_axis]
        for channels in [self.lengths[channel_axis] or 3] if self.lengths[channel_axis] else [3, 1]:
            for sides in _choices(len(open_axes)):
                choices = dict(zip(open_axes, sides, strict=True)) | {channel_axis: channels}
                yield tuple(choices.get(axis) or length or 1 for axis, length in enumerate(self.lengths))


def _choices(count: int) -> Iterator[tuple[int, ...]]:
    """Yield lengths for `count` open axes: first all equal, then one that differs from the others."""
    usual = _SIDES[0]
    if count == 0:
        yield ()
        return
    for side in _SIDES:
        yield (side,) * count
    for axis in range(count if count > 1 else 0):
        for side in _SIDES[1:]:
            yield tuple(side if k == axis else usual for k in range(count))


def image_input(file: OnnxFile) -> ImageInput:
    """Return the graph's only input.

    Raises:
        ModelError: it takes no input, or several.
        ShapeError: its input is not a single image, or is too large.
    """
    if len(file.inputs) != 1:
        names = ", ".join(shown(value.name) for value in file.inputs)
        raise ModelError(
            f"load: {file.path} takes {len(file.inputs)} inputs ({names}), but one image was needed. "
            "Export the model with one input."
        )
    (value,) = file.inputs
    tensor = value.type.tensor_type
    dtype = torch_type(tensor.elem_type, f"load: {file.path}: the input {shown(value.name)}")
    if not dtype.is_floating_point:
        raise DtypeError(
            f"load: {file.path} takes {shown(value.name)} of {dtype}, but an image of floating-point numbers was needed. "
            "Export the model without its conversion from integers."
        )
    # An open length is a name, nothing, or a number below 1.
    lengths = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    if len(lengths) not in (3, 4, 5) or (lengths[0] or 1) != 1:
        raise ShapeError(
            f"load: {file.path} takes {shown(value.name)} of {lengths}, but one image was needed: (1, channels, samples..). "
            "Export the model with a batch of 1, or with an open batch."
        )
    if prod(length or 1 for length in lengths) > LARGEST:
        raise ShapeError(
            f"load: {file.path} takes {shown(value.name)} of {lengths}, but at most {LARGEST:,} samples were expected. "
            "Export the model for a smaller image."
        )
    # NHWC is not marked in the file: only a last axis of 1 or 3, and no such second axis, shows it.
    channels_last = lengths[-1] in (1, 3) and lengths[1] not in (1, 3)
    return ImageInput(value.name, (1, *lengths[1:]), channels_last, None not in lengths, dtype)
