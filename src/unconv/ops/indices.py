"""Where maxima came from, in TensorFlow's count and in torch's; and the signs by which the two are told apart."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError
from unconv.ops.arguments import FORMATS, Layout, layout_of, refuse_no_truth, shape_argument
from unconv.ops.spatial import traced
from unconv.ops.values import Values, as_tensors

_SAMPLE = 2**10  # indices that are looked at; torch's would all have to fit by chance


def from_torch_indices(
    indices: Values, output_shape: Any = None, include_batch_in_index: bool = False, data_format: str | None = None
) -> Tensor:
    """Turn the indices of torch's max pools into those of `max_pool_with_argmax`.

    torch counts within one channel, y W + x; TensorFlow through all channels of an image, (y W + x) C + c.

    Args:
        indices: (N, C, h, w) as `F.max_pool2d(.., return_indices=True)` gives them, or one or three spatial axes.
        output_shape: of the picture that was pooled, in the order of `data_format`; needed only to count through the batch.
        include_batch_in_index: count through the whole batch.
        data_format: the order of the result; None is the one with channels last.

    Returns:
        (N, h, w, C), or with the channels first; int64.

    Raises:
        ShapeError: not so many axes; no `output_shape` where the batch counts.
        DtypeError: no integers.

    Example:
        >>> _, indices = torch.nn.functional.max_pool2d(torch.arange(32.).reshape(1, 2, 4, 4), 2, return_indices=True)
        >>> from_torch_indices(indices)[0, :, :, 1]
        tensor([[11, 15],
                [27, 31]])
    """
    where = "from_torch_indices"
    indices, layout = _read(where, "indices", indices, data_format)
    counted = _counted(where, layout, output_shape, include_batch_in_index, indices.shape[1])
    ahead = [1] * layout.axes
    channels = indices.shape[1]
    argmax = indices.long() * channels + torch.arange(channels, device=indices.device).view(-1, *ahead)
    if counted is not None:
        argmax = argmax + torch.arange(indices.shape[0], device=indices.device).view(-1, 1, *ahead) * counted
    return layout.back(argmax)


def to_torch_indices(
    argmax: Values, output_shape: Any = None, include_batch_in_index: bool = False, data_format: str | None = None
) -> Tensor:
    """Turn the indices of `max_pool_with_argmax` into those that `torch.nn.MaxUnpool2d` takes.

    Args:
        argmax: (N, h, w, C), or with the channels first, as `max_pool_with_argmax` gives it; one or three spatial axes too.
        output_shape, include_batch_in_index, data_format: as for `from_torch_indices`; what was told to the pool.

    Returns:
        (N, C, h, w), int64, an index y W + x within one channel.

    Raises:
        ShapeError, DtypeError: as `from_torch_indices`; also for indices that cannot be that pool's.

    Example:
        >>> _, argmax = max_pool_with_argmax(torch.arange(32.).reshape(1, 4, 4, 2), 2, 2, "VALID")
        >>> to_torch_indices(argmax)[0, 1]
        tensor([[ 5,  7],
                [13, 15]])
    """
    where = "to_torch_indices"
    argmax, layout = _read(where, "argmax", argmax, data_format)
    planes = layout.channels_first(argmax)
    counted = _counted(where, layout, output_shape, include_batch_in_index, planes.shape[1])
    refuse_foreign(where, layout, argmax, counted)
    planes = planes.long()
    return (planes if counted is None else planes % counted) // planes.shape[1]


def refuse_foreign(where: str, layout: Layout, argmax: Tensor, counted: int | None) -> None:
    """Refuse indices that point into other channels, or other images, than they stand in: another pool's, or torch's.

    About a thousand are looked at, from all over; none where there are no values.

    Args:
        argmax: in the order of `layout`.
        counted: the samples of an image, where indices count through the batch.
    """
    channels = argmax.shape[layout.channel]
    if not argmax.numel() or traced(argmax) or (channels == 1 and counted is None):
        return
    positions = argmax.numel() // channels
    step = max(1, argmax.numel() // _SAMPLE)
    chosen = slice((positions - 1) % step, None, step)  # with the last one, which is the last image's
    seen = _rows(layout.channels_last(argmax), chosen)
    own = torch.arange(channels, device=argmax.device).expand_as(seen)
    if not torch.equal(seen % channels, own):
        raise ShapeError(f"{where}: {_other_channel(layout, seen, seen % channels != own)}")
    if counted is None:
        return
    images = torch.arange(positions, device=argmax.device)[chosen] // (positions // argmax.shape[0])
    beside = seen // counted != images[:, None]
    if bool(beside.any()):
        raise ShapeError(f"{where}: {_other_image(seen, images, beside, counted)}")


def _rows(last: Tensor, chosen: slice) -> Tensor:
    """Return some positions of (N, samples.., C), all channels of each, without a copy of the others."""
    if last.is_contiguous():
        return last.view(-1, last.shape[-1])[chosen].long()
    places: list[Tensor] = []
    rest = torch.arange(last.numel() // last.shape[-1], device=last.device)[chosen]
    for length in reversed(last.shape[:-1]):
        places.insert(0, rest % length)
        rest = rest // length
    return last[tuple(places)].long()


def _other_channel(layout: Layout, seen: Tensor, other: Tensor) -> str:
    torch_s = f'argmax, data_format="{layout.name}"' if layout.channel == 1 else "argmax.movedim(-1, 1)"
    row, channel = other.nonzero()[0].tolist()
    index, channels = int(seen[row, channel]), seen.shape[1]
    return (
        f"argmax holds {index} in channel {channel}, but an index there is (y W + x) {channels} + {channel}, and {index} is "
        f"of channel {index % channels}. Pass the argmax of max_pool_with_argmax; where torch made it, which counts within one "
        f"channel, from_torch_indices({torch_s})."
    )


def _other_image(seen: Tensor, images: Tensor, beside: Tensor, counted: int) -> str:
    row, channel = beside.nonzero()[0].tolist()
    image = int(images[row])
    remedy = "include_batch_in_index=False, as it was for the pool"
    return (
        f"argmax holds {int(seen[row, channel])} for image {image}, but with include_batch_in_index=True its indices run from "
        f"{image * counted} to {(image + 1) * counted - 1}. "
        f"Pass {remedy if int(seen.max()) < counted else 'the shape of the picture that was pooled'}."
    )


def _read(where: str, name: str, indices: Any, data_format: Any) -> tuple[Tensor, Layout]:
    indices = as_tensors(where, **{name: indices})[name]
    if indices.dtype not in (torch.int32, torch.int64) or indices.layout != torch.strided:
        raise DtypeError(f"{where}: {name} is {indices.dtype}, but int64 or int32 was needed. Pass the indices of a max pool.")
    layout = layout_of(where, FORMATS[min(max(indices.ndim - 3, 0), 2)] if data_format is None else data_format)
    if indices.ndim != len(layout.name):
        raise ShapeError(
            f"{where}: {name} has {indices.ndim} axes, {tuple(indices.shape)}, but {len(layout.name)} were needed, for "
            f"{layout.name}. Pass them with their batch and channels."
        )
    return indices, layout


def _counted(where: str, layout: Layout, output_shape: Any, include_batch_in_index: Any, channels: int) -> int | None:
    """Return the samples of an image, where indices count through the batch."""
    refuse_no_truth(where, "include_batch_in_index", include_batch_in_index)
    if not include_batch_in_index:
        return None
    shape = shape_argument(where, "output_shape", output_shape, layout)
    if shape[layout.channel] != channels or 0 in shape:
        raise ShapeError(
            f"{where}: output_shape is {tuple(shape)}, but the indices have {channels} channels (axis {layout.channel} of "
            f"{layout.name}), and no length may be 0. Pass the shape of what was pooled."
        )
    return prod(shape[1:])
