"""The one image that an ONNX graph takes: its shape, where its channels are, and what the file leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from unconv.errors import DtypeError, ModelError, ShapeError
from unconv.networks.onnx.operators import LARGEST
from unconv.networks.onnx.reading import OnnxFile, shown
from unconv.networks.onnx.tensors import torch_type

# Samples along an axis whose length the graph leaves open: the usual ones first, then those that networks are made for.
_SIDES = (224, 32, 48, 64, 96, 112, 128, 160, 192, 256, 299, 320, 384, 416, 448, 480, 512, 640, 800, 1024)


@dataclass(frozen=True)
class ImageInput:
    """What goes in.

    Args:
        lengths: of (1, C, samples..), or (1, samples.., C); None where any length will do.
        channels_last: which of both.
        fixed: whether the file fixes every length, that of the batch, too.
        dtype: its type.
    """

    name: str
    lengths: tuple[int | None, ...]
    channels_last: bool
    fixed: bool
    dtype: torch.dtype

    def shapes(self) -> Iterator[tuple[int, ...]]:
        """The shapes that it may have, the likeliest first."""
        at = len(self.lengths) - 1 if self.channels_last else 1
        spots = [axis for axis, length in enumerate(self.lengths) if length is None and axis != at]
        for channels in [self.lengths[at] or 3] if self.lengths[at] else [3, 1]:
            for sides in _choices(len(spots)):
                filled = dict(zip(spots, sides, strict=True)) | {at: channels}
                yield tuple(filled.get(axis) or length or 1 for axis, length in enumerate(self.lengths))


def _choices(count: int) -> Iterator[tuple[int, ...]]:
    """Lengths for so many open axes: all the same, then one unlike the others."""
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
    """The graph's one input.

    Raises:
        ModelError: it takes none, or several.
        ShapeError: it takes no single image, or one too large.
    """
    if len(file.inputs) != 1:
        names = ", ".join(shown(value.name) for value in file.inputs)
        raise ModelError(
            f"load: {file.path} takes {len(file.inputs)} inputs ({names}), but one image was needed. Export it with one."
        )
    (value,) = file.inputs
    tensor = value.type.tensor_type
    kind = torch_type(tensor.elem_type, f"load: {file.path}: the input {shown(value.name)}")
    if not kind.is_floating_point:
        raise DtypeError(
            f"load: {file.path} takes {shown(value.name)} of {kind}, but an image of floating numbers was needed. "
            "Export it without what turns whole numbers into them."
        )
    # A batch, or a side, left open is a name, nothing, or a number below 1.
    lengths = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    if len(lengths) not in (3, 4, 5) or (lengths[0] or 1) != 1:
        raise ShapeError(
            f"load: {file.path} takes {shown(value.name)} of {lengths}, but one image was needed: (1, channels, samples..). "
            "Export it with a batch of 1, or one left open."
        )
    if prod(length or 1 for length in lengths) > LARGEST:
        raise ShapeError(
            f"load: {file.path} takes {shown(value.name)} of {lengths}, but at most {LARGEST:,} samples were expected. "
            "Export it for a smaller image."
        )
    last = lengths[-1] in (1, 3) and lengths[1] not in (1, 3)
    return ImageInput(value.name, (1, *lengths[1:]), last, None not in lengths, kind)
