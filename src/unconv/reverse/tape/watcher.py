"""A light look at some operations of a forward pass: results are shown as they are made, and nothing is recorded.

Operations are known by their name and how many of that name ran before, which a tape tells (`Step.call`). So this sees what
a recording sees, functional and in-place layers alike, at little more than the cost of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from unconv.errors import ModelError
from unconv.reverse.tape.memory import storage_of, tensors_in
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.schema import arguments, is_composite, taken_apart, written_by
from unconv.reverse.tape.untouched import Guard
from unconv.reverse.tape.whole import Whole

Look = Callable[[OpOverload, tuple[Any, ...], Callable[[], Any]], Any]
"""Gets an operation, all its arguments, and what runs it; returns its result."""

_READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select"}


class _Enough(BaseException):
    """Ends a forward pass behind the last operation that is looked at; no `except Exception` of a model catches it."""


class _Kind(NamedTuple):
    """Facts that every operation that runs is asked for, and that cost more to find out than to keep.

    Args:
        name: of its form.
    """

    name: str
    composite: bool
    writes: bool
    reads: bool


@cache
def _kind(func: OpOverload) -> _Kind:
    schema = func._schema
    return _Kind(func.name(), is_composite(func), schema.is_mutable, schema.name in _READS)


class _Watcher(TorchDispatchMode):
    def __init__(self, looks: Mapping[tuple[str, int], Look], guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.looks, self.guard = looks, guard
        self.left = set(looks)
        self.calls = dict[str, int]()

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind.composite:
            with self:
                return taken_apart(func, args, kwargs)
        call = (kind.name, self.calls.get(kind.name, 0))
        self.calls[kind.name] = call[1] + 1
        if kind.writes:
            self.guard.before_writing(written_by(func, arguments(func, args, kwargs)))
        if kind.reads:
            self._refuse_reading(kind.name, args)
        look = self.looks.get(call)
        if look is None:
            return func(*args, **kwargs)
        result = look(func, arguments(func, args, kwargs), lambda: func(*args, **kwargs))
        self.left.discard(call)
        if not self.left:
            raise _Enough
        return result

    def _refuse_reading(self, name: str, args: Any) -> None:
        """Refuse that a model takes numbers out of its maps, as it would decide for a batch what it decides for a picture."""
        if any(storage_of(tensor) not in self.guard.storages for tensor in tensors_in(args)):
            raise ModelError(
                f"watch: the model reads values of its maps ({name}), so that what it runs may depend on the picture. "
                "Run it on one picture at a time."
            )


def watch(
    call: Callable[[Tensor], Any],
    batch: Tensor,
    looks: Mapping[tuple[str, int], Look],
    guard: Guard,
    as_recorded: bool = True,
) -> dict[str, int]:
    """Run a model on a batch up to the last operation that is looked at.

    Args:
        call: runs the model.
        batch: (N, C, samples..).
        looks: what looks at operations, by their `Step.call`.
        guard: told of all that the model writes.
        as_recorded: run it as a recording does, so that what passes the dispatcher is the same; else as torch does by itself,
            at less cost, which most models allow.

    Returns:
        How often each operation ran.

    Raises:
        ModelError: the model reads values of its maps, or did not run an operation that is looked at.
    """
    watcher = _Watcher(looks, guard)
    with full_precision(batch.device), ExitStack() as stack:
        if as_recorded:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        stack.enter_context(watcher)
        if as_recorded:
            stack.enter_context(Whole())
        try:
            call(batch)
        except _Enough:
            return watcher.calls
    name, number = min(watcher.left)
    raise ModelError(
        f"watch: the model ran {name} {watcher.calls[name]} times, but its call {number + 1} was to be looked at: what it runs "
        "depends on the picture. Run it on one picture at a time."
    )
