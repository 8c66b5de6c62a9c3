"""Indices of maxima as TensorFlow and as torch count them, and a check that tells the two apart."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, counted
from unconv.ops.arguments import FORMATS, Layout, layout_of, refuse_no_truth, shape_argument
from unconv.ops.spatial import traced
from unconv.ops.values import Values, as_tensors

_SAMPLE = 2**10  # indices that are checked; torch's would pass only if all of them fitted by chance


def from_torch_indices(
    indices: Values, output_shape: Any = None, include_batch_in_index: bool = False, data_format: str | None = None
) -> Tensor:
    """Return the indices of torch's max pools as `max_pool_with_argmax` counts them.

    torch counts within one channel, y W + x; TensorFlow counts through all channels of an image, (y W + x) C + c.

    Args:
        indices: (N, C, h, w) as `F.max_pool2d(.., return_indices=True)` gives them, or one or three spatial axes.
        output_shape: the shape of the picture that was pooled, in the order of `data_format`; needed only to count through
            the batch.
        include_batch_in_index: count through the entire batch.
        data_format: the order of the result; None is the one with channels last.

    Returns:
        (N, h, w, C), or with the channels first; int64.

    Raises:
        ShapeError: another number of axes, or an `output_shape` that does not fit.
        DtypeError: indices that are not integers, or no `output_shape` with `include_batch_in_index`.

    Example:
        >>> _, indices = torch.nn.functional.max_pool2d(torch.arange(32.).reshape(1, 2, 4, 4), 2, return_indices=True)
        >>> from_torch_indices(indices)[0, :, :, 1]
        tensor([[11, 15],
                [27, 31]])
    """
    where = "from_torch_indices"
    indices, layout = _read(where, "indices", indices, data_format)
    per_image = _samples_per_image(where, layout, output_shape, include_batch_in_index, indices.shape[1])
    ones = [1] * layout.axes
    channels = indices.shape[1]
    argmax = indices.long() * channels + torch.arange(channels, device=indices.device).view(-1, *ones)
    if per_image is not None:
        argmax = argmax + torch.arange(indices.shape[0], device=indices.device).view(-1, 1, *ones) * per_image
    return layout.back(argmax)


def to_torch_indices(
    argmax: Values, output_shape: Any = None, include_batch_in_index: bool = False, data_format: str | None = None
) -> Tensor:
    """Return the indices of `max_pool_with_argmax` as `torch.nn.MaxUnpool2d` takes them.

    Args:
        argmax: (N, h, w, C), or with the channels first, as `max_pool_with_argmax` gives it; one or three spatial axes too.
        output_shape, include_batch_in_index, data_format: as for `from_torch_indices`, and as the pool had them.

    Returns:
        (N, C, h, w), int64, an index y W + x within one channel.

    Raises:
        ShapeError, DtypeError: as `from_torch_indices`, and for indices that cannot come from such a pool.

    Example:
        >>> _, argmax = max_pool_with_argmax(torch.arange(32.).reshape(1, 4, 4, 2), 2, 2, "VALID")
        >>> to_torch_indices(argmax)[0, 1]
        tensor([[ 5,  7],
                [13, 15]])
    """
    where = "to_torch_indices"
    argmax, layout = _read(where, "argmax", argmax, data_format)
    planes = layout.channels_first(argmax)
    per_image = _samples_per_image(where, layout, output_shape, include_batch_in_index, planes.shape[1])
    refuse_foreign(where, layout, argmax, per_image)
    planes = planes.long()
    return (planes if per_image is None else planes % per_image) // planes.shape[1]


def refuse_foreign(where: str, layout: Layout, argmax: Tensor, per_image: int | None) -> None:
    """Refuse indices that point into another channel or image than their own, as torch's or another pool's do.

    About a thousand are checked, spread over all of them; none where values cannot be read.

    Args:
        argmax: in the order of `layout`.
        per_image: the number of samples of an image where indices count through the batch, otherwise None.
    """
    channels = argmax.shape[layout.channel]
    if not argmax.numel() or traced(argmax) or (channels == 1 and per_image is None):
        return
    positions = argmax.numel() // channels
    step = max(1, argmax.numel() // _SAMPLE)
    sample = slice((positions - 1) % step, None, step)  # ends at the last position, in the last image
    checked = _rows(layout.channels_last(argmax), sample)
    own = torch.arange(channels, device=argmax.device).expand_as(checked)
    if not torch.equal(checked % channels, own):
        raise ShapeError(f"{where}: {_other_channel(layout, checked, checked % channels != own)}")
    if per_image is None:
        return
    image_numbers = torch.arange(positions, device=argmax.device)[sample] // (positions // argmax.shape[0])
    misplaced = checked // per_image != image_numbers[:, None]
    if bool(misplaced.any()):
        raise ShapeError(f"{where}: {_other_image(checked, image_numbers, misplaced, per_image)}")


def _rows(values: Tensor, sample: slice) -> Tensor:
    """Return all channels of some positions of (N, samples.., C), without copying the others."""
    if values.is_contiguous():
        return values.view(-1, values.shape[-1])[sample].long()
    index: list[Tensor] = []
    rest = torch.arange(values.numel() // values.shape[-1], device=values.device)[sample]
    for length in reversed(values.shape[:-1]):
        index.insert(0, rest % length)
        rest = rest // length
    return values[tuple(index)].long()


def _other_channel(layout: Layout, checked: Tensor, misplaced: Tensor) -> str:
    argument = f'argmax, data_format="{layout.name}"' if layout.channel == 1 else "argmax.movedim(-1, 1)"
    row, channel = misplaced.nonzero()[0].tolist()
    index, channels = int(checked[row, channel]), checked.shape[1]
    return (
        f"argmax holds {index} in channel {channel}, but an index there is (y W + x) {channels} + {channel}, and {index} "
        f"points to channel {index % channels}. Pass the argmax of max_pool_with_argmax. If it is torch's, which counts within "
        f"one channel, pass from_torch_indices({argument})."
    )


def _other_image(checked: Tensor, image_numbers: Tensor, misplaced: Tensor, per_image: int) -> str:
    row, channel = misplaced.nonzero()[0].tolist()
    image = int(image_numbers[row])
    remedy = "include_batch_in_index=False, as for the pool"
    return (
        f"argmax holds {int(checked[row, channel])} for image {image}, but with include_batch_in_index=True its indices run "
        f"from {image * per_image} to {(image + 1) * per_image - 1}. "
        f"Pass {remedy if int(checked.max()) < per_image else 'the shape of the picture that was pooled'}."
    )


def _read(where: str, name: str, indices: Any, data_format: Any) -> tuple[Tensor, Layout]:
    indices = as_tensors(where, **{name: indices})[name]
    if indices.dtype not in (torch.int32, torch.int64) or indices.layout != torch.strided:
        raise DtypeError(f"{where}: {name} is {indices.dtype}, but int64 or int32 was needed. Pass the indices of a max pool.")
    layout = layout_of(where, FORMATS[min(max(indices.ndim - 3, 0), 2)] if data_format is None else data_format)
    if indices.ndim != len(layout.name):
        raise ShapeError(
            f"{where}: {name} has {indices.ndim} ax{'is' if indices.ndim == 1 else 'es'}, {tuple(indices.shape)}, but "
            f"{len(layout.name)} were needed, for "
            f"{layout.name}. Pass them with their batch and channels."
        )
    return indices, layout


def _samples_per_image(where: str, layout: Layout, output_shape: Any, include_batch_in_index: Any, channels: int) -> int | None:
    """Return the number of samples of an image where indices count through the batch, otherwise None."""
    refuse_no_truth(where, "include_batch_in_index", include_batch_in_index)
    if not include_batch_in_index:
        return None
    shape = shape_argument(where, "output_shape", output_shape, layout)
    if shape[layout.channel] != channels or 0 in shape:
        raise ShapeError(
            f"{where}: output_shape is {tuple(shape)}, but the indices have {counted(channels, 'channel')} (axis "
            f"{layout.channel} of {layout.name}), and no length may be 0. Pass the shape of the picture that was pooled."
        )
    return prod(shape[1:])
