"""Sums, means and maxima along axes; positions of the largest; softmax; running sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unconv.errors import ShapeError, counted
from unconv.networks.onnx.operators.table import Setting, axis_of, integers, known, operator


def _extreme(x: Tensor, axes: list[int], keep: bool, function: Callable[..., Tensor], empty: float) -> Tensor:
    if all(x.shape[axis] for axis in axes):
        return function(x, axes, keep)
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    empty = empty if x.is_floating_point() else (empty > 0) if x.dtype == torch.bool else _limit(x.dtype, empty > 0)
    # An empty maximum is the smallest number of its type, an empty minimum the largest; torch refuses both.
    result = torch.full(shape, empty, dtype=x.dtype, device=x.device)
    return result if keep else result.squeeze(axes)


def _limit(dtype: torch.dtype, upper: bool) -> int:
    return torch.iinfo(dtype).max if upper else torch.iinfo(dtype).min


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keep)
    return x


def _reduction(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    def run(x: Tensor, axes: Setting | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        along = [] if axes is None else [axis_of(axis, x.ndim) for axis in integers(axes)]
        if not along and noop_with_empty_axes:
            return alone(x)
        result = function(x, along or list(range(x.ndim)), bool(keepdims)) if x.ndim else alone(x)
        return result.to(x.dtype)

    def alone(x: Tensor) -> Tensor:
        """Return the reduction of each sample by itself."""
        return function(x[..., None], [-1], False)

    operator(name, settings=("axes",))(run)


for _name, _function in {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x.double() if not x.is_floating_point() else x, 2, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
    "ReduceMax": lambda x, axes, keep: _extreme(x, axes, keep, torch.amax, float("-inf")),
    "ReduceMean": lambda x, axes, keep: (x if x.is_floating_point() else x.double()).mean(axes, keep),
    "ReduceMin": lambda x, axes, keep: _extreme(x, axes, keep, torch.amin, float("inf")),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}.items():
    _reduction(_name, _function)


def _index_of(name: str, function: Callable[..., Tensor]) -> None:
    def run(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        axis = axis_of(axis, x.ndim)
        if not select_last_index:
            return function(x, axis, bool(keepdims))
        return x.shape[axis] - 1 - function(x.flip(axis), axis, bool(keepdims))

    operator(name)(run)


_index_of("ArgMax", torch.argmax)
_index_of("ArgMin", torch.argmin)


@operator("TopK", settings=("k",))
def top_k(x: Tensor, k: Setting, *, axis: int = -1, largest: int = 1, sorted: int = 1, outputs: int = 2) -> tuple[Tensor, ...]:
    """Return the k largest along an axis, and their positions; equal samples keep their order."""
    # By a stable sort: `torch.topk` does not say which of equal samples it returns.
    axis, (count,) = axis_of(axis, x.ndim), integers(k)
    values, indices = torch.sort(x, stable=True, dim=axis, descending=bool(largest))
    if not 0 <= count <= x.shape[axis]:
        raise ShapeError(f"its k is {count}, but its axis has {counted(x.shape[axis], 'sample')}")
    return (values.narrow(axis, 0, count), indices.narrow(axis, 0, count))[:outputs]


def _along_axis(name: str, function: Callable[[Tensor, int], Tensor]) -> None:
    def run(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
        if opset >= 13:
            return function(x, axis_of(-1 if axis is None else axis, x.ndim))
        first = axis_of(1 if axis is None else axis, x.ndim) if axis != x.ndim else x.ndim
        if first == x.ndim - 1:
            return function(x, first)
        # Up to opset 12, all axes from `axis` on were flattened into one.
        return function(x.reshape([*x.shape[:first], -1]), first).reshape(x.shape)

    operator(name)(run)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, True), 1)


_along_axis("Softmax", torch.softmax)
_along_axis("LogSoftmax", F.log_softmax)
_along_axis("Hardmax", _hardmax)


@operator("CumSum", settings=("axis",))
def running_sum(x: Tensor, axis: Setting, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Return running sums along an axis, each including its own sample unless `exclusive`."""
    (along,) = (axis_of(number, x.ndim) for number in integers(axis))
    if reverse:
        x = x.flip(along)
    if exclusive:
        n = x.shape[along]
        x = torch.cat([torch.zeros_like(x.narrow(along, 0, min(n, 1))), x.narrow(along, 0, max(n - 1, 0))], along)
    x = x.cumsum(along, dtype=x.dtype)
    return x.flip(along) if reverse else x


@operator("NonZero")
def nonzero(x: Tensor) -> Tensor:
    """Return the positions of the samples that are not zero: a row for each axis."""
    return known(x).nonzero().mT
