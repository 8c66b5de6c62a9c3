"""What a tape consists of: values, the steps between them, and what rules keep of the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from unconv.reverse.tape.schema import kind
from unconv.reverse.tape.whole import WHOLE

Keeper = Callable[[tuple[Any, ...], tuple[Any, ...]], Any]
"""From an operation's arguments and its results, with real tensors, to what its rule will need."""


@dataclass(frozen=True)
class Before:
    """A keeper that is asked before the operation runs, and may overwrite its arguments in place."""

    keep: Callable[[Step, tuple[Any, ...]], Any]


Keepers = Mapping[OpOverload, Keeper | Before]


@dataclass(frozen=True)
class Value:
    """One tensor of the forward pass in one version: an in-place write makes a new value."""

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def flows(self) -> bool:
        """Whether a signal can reach it: not positions, and not truth values."""
        return self.dtype.is_floating_point or self.dtype.is_complex


@dataclass(frozen=True)
class Step:
    """One operation that the image flowed through.

    Args:
        operation: the aten operation; of an in-place one, the form that returns a new tensor.
        args: all its arguments in the order of its schema, defaults filled in, each tensor that
            the image reached replaced by its `Value`.
        inputs: the values among `args`, in that order.
        outputs: one for each result; None for what is not a tensor.
        place: the module that ran it, or that module and the operation.
        kept: what the rules need of the forward pass: switches, masks.
        own: what a rule of the user's own asked to keep.
        written: of an activation that was written out, the last step of the formula.
        within: of such a formula's other steps, the place of that activation.
        call: the operation as the model called it, and how many of its name had run before; None where that is not known.
    """

    operation: OpOverload
    args: tuple[Any, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value | None, ...]
    place: str
    kept: Any = None
    own: Any = None
    written: Step | None = None
    within: str = ""
    call: tuple[str, int] | None = None

    @property
    def kind(self) -> str:
        """The operation's everyday name: `conv`, `relu`, `max_pool2d`."""
        return kind(self.operation)

    def again(self, inputs: Sequence[Tensor]) -> Any:
        """The operation's result with `inputs` where its values were; its weights follow their type."""
        queue = list(inputs)
        dtype = next((given.dtype for given in queue if given.is_floating_point() or given.is_complex()), None)

        def fill(argument: Any) -> Any:
            if isinstance(argument, Value):
                return queue.pop(0)
            if isinstance(argument, Tensor) and dtype is not None:
                return argument.to(like(argument.dtype, dtype))
            return argument

        filled = tree_map(fill, self.args)
        named = {a.name: value for a, value in zip(self.operation._schema.arguments, filled, strict=True) if a.kwarg_only}
        run: Callable[..., Any] = WHOLE.get(self.operation, self.operation)
        return run(*filled[: len(filled) - len(named)], **named)


def like(kind: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """Return the type of the same kind, real or complex, with the precision of `dtype`; positions and truth values stay."""
    if kind.is_complex:
        return dtype if dtype.is_complex else (dtype if dtype.itemsize >= 4 else torch.float32).to_complex()
    return dtype.to_real() if kind.is_floating_point else kind


@dataclass(frozen=True)
class Arranged:
    """A value with its samples arranged as maps, (1, channels, samples..).

    Args:
        order: of the axes of what it was.
        between: the same in that order, not yet in that shape.
    """

    value: Value
    order: tuple[int, ...]
    between: Value

    def of(self, tensor: Tensor) -> Tensor:
        """Return a tensor of what it was, arranged."""
        return tensor.permute(self.order).reshape(self.value.shape)


@dataclass(frozen=True)
class Tape:
    """One recorded forward pass.

    Args:
        image: the tensor that went in, (1, C, samples..).
        steps: in the order they ran.
        value: what `image` was called on the tape.
        modules: of each module's name, the value it returned last.
        kept: by index of their values, the outputs that were asked for, (1, ...).
        own: the user's own keepers that were asked.
        turned: names of modules that returned their value with its channels last.
        lost: names of modules that returned what had been written through a view, and where.
        weights: the model's tensors that steps refer to, and which version of each was used.
        unnamed: places of functions that look like rectifiers and are none with a name.
        unkept: of those that have one, the place whose values would show it, had the tape kept them.
        arranged: of values that are no (1, channels, samples..), by their index, what shows them so.
        vectors: what the model returned that is a vector, such as scores of classes, by its place.
    """

    image: Tensor
    steps: tuple[Step, ...]
    value: Value
    modules: Mapping[str, Value]
    kept: Mapping[int, Tensor]
    own: Keepers = field(default_factory=dict)
    turned: frozenset[str] = frozenset()
    lost: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[tuple[Tensor, int], ...] = ()
    unnamed: tuple[str, ...] = ()
    unkept: Mapping[str, str] = field(default_factory=dict)
    arranged: Mapping[int, Arranged] = field(default_factory=dict)
    vectors: Mapping[str, Tensor] = field(default_factory=dict)

    def told(self, name: str, returned: Tensor) -> Tensor:
        """Return what a module returned, (1, channels, samples..), as the places show it."""
        first = returned.movedim(-1, 1) if name in self.turned else returned
        arranged = self.arranged.get(self.modules[name].index)
        return first if arranged is None else arranged.of(first)

    def seen(self, value: Value) -> Value:
        """Return what stands for a value where it is looked at."""
        return self.arranged[value.index].value if value.index in self.arranged else value

    @property
    def outdated(self) -> bool:
        """Whether a weight was written since, so that switches and weights would be those of two networks."""
        return any(tensor._version != version for tensor, version in self.weights)
