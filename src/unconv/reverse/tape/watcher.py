"""A light look at some operations of a forward pass: results are shown as they are made, and nothing is recorded.

Operations are known by their name and how many of that name ran before, which a tape tells (`Step.call`). So this sees what
a recording sees, functional and in-place layers alike, at little more than the cost of the forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

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

Look = Callable[[Tensor, Tensor | None], None]
"""Gets an operation's first result; and its first argument as it was before, where that was asked for."""

_READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select"}


class _Enough(BaseException):
    """Ends a forward pass behind the last operation that is looked at; no `except Exception` of a model catches it."""


class _Watcher(TorchDispatchMode):
    def __init__(self, looks: Mapping[tuple[str, int], Look], before: Collection[str], guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.looks, self.before, self.guard = looks, before, guard
        self.left = set(looks)
        self.calls = Counter[str]()

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_composite(func):
            with self:
                return taken_apart(func, args, kwargs)
        name = func.name()
        call = (name, self.calls[name])
        self.calls[name] += 1
        if func._schema.is_mutable:
            self.guard.before_writing(written_by(func, arguments(func, args, kwargs)))
        if func._schema.name in _READS:
            self._refuse_reading(name, args)
        look = self.looks.get(call)
        if look is None:
            return func(*args, **kwargs)
        entered = None
        if func._schema.name in self.before:
            entered = args[0].clone() if func._schema.is_mutable else args[0]
        result = func(*args, **kwargs)
        look(result[0] if isinstance(result, tuple | list) else result, entered)
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
    before: Collection[str],
    guard: Guard,
) -> None:
    """Run a model on a batch up to the last operation that is looked at.

    Args:
        call: runs the model.
        batch: (N, C, samples..).
        looks: what looks at operations, by their `Step.call`.
        before: schema names of operations whose first argument is wanted, too.
        guard: told of all that the model writes.

    Raises:
        ModelError: the model reads values of its maps, or did not run an operation that is looked at.
    """
    watcher = _Watcher(looks, before, guard)
    # As a recording runs it, so that what passes the dispatcher is the same here.
    with full_precision(batch.device), torch.enable_grad(), torch._C._AutoDispatchBelowAutograd(), watcher, Whole():
        try:
            call(batch)
        except _Enough:
            return
    name, number = min(watcher.left)
    raise ModelError(
        f"watch: the model ran {name} {watcher.calls[name]} times, but its call {number + 1} was to be looked at: what it runs "
        "depends on the picture. Run it on one picture at a time."
    )
