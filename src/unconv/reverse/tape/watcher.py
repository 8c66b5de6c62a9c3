"""Watch some operations of a forward pass, without recording it.

An operation is identified by its name and how many of that name ran before, which a tape has in `Step.call`. So the watcher
sees all that a recording sees, functional and in-place layers alike, at little more than the cost of the forward pass.
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
from unconv.reverse.tape.custom_operations import ReplacedFunctions
from unconv.reverse.tape.memory import storage_of, tensors_in
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.schema import arguments, is_composite, taken_apart, written_by
from unconv.reverse.tape.untouched import Guard

Look = Callable[[OpOverload, tuple[Any, ...], Callable[[], Any]], Any]
"""From an operation, all its arguments, and a function that runs it, to its result."""

_READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select"}


class _Enough(BaseException):
    """Ends a forward pass after the last watched operation; no `except Exception` of a model catches it."""


class _Kind(NamedTuple):
    """Facts about an operation; they are cached, as looking them up at each call costs more.

    Args:
        name: with the overload's name.
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
        # As in the recorder, a composite operation is not counted itself, but its parts are: else the calls would have other
        # numbers than on the tape.
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
        """Refuse a model that reads numbers from its maps: it would decide for the batch what it should for each picture."""
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
    """Run a model on a batch up to the last watched operation, and count its operations.

    Args:
        call: runs the model.
        batch: (N, C, samples..).
        looks: functions that watch operations, by `Step.call`.
        guard: keeps a copy of what the model is about to overwrite.
        as_recorded: run the model as a recording does, so that the same operations pass the dispatcher. Else run it as torch
            does by itself, which costs less and gives the same operations in most models.

    Returns:
        How often each operation ran.

    Raises:
        ModelError: the model reads values of its maps, or did not run a watched operation.
    """
    watcher = _Watcher(looks, guard)
    # The same modes in the same order as in `record`: below autograd torch dispatches other operations than above it.
    with full_precision(batch.device), ExitStack() as stack:
        if as_recorded:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        stack.enter_context(watcher)
        if as_recorded:
            stack.enter_context(ReplacedFunctions())
        try:
            call(batch)
        except _Enough:
            return watcher.calls
    name, number = min(watcher.left)
    raise ModelError(
        f"watch: the model ran {name} {watcher.calls[name]} times, but its call {number + 1} was to be watched: the operations "
        "that it runs depend on the picture. Run it on one picture at a time."
    )
