"""The parts of a tape: values, the steps between them, and what rules keep of the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from unconv.reverse.tape.custom_operations import IMPLEMENTATIONS
from unconv.reverse.tape.schema import kind

Keeper = Callable[[tuple[Any, ...], tuple[Any, ...]], Any]
"""Returns what an operation's rule will need, from the operation's arguments and results as tensors."""


@dataclass(frozen=True)
class Before:
    """A keeper that runs before the operation does, which may overwrite its arguments in place."""

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
        """Whether a signal can reach the value; none reaches indices and truth values."""
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
        own: what a rule of the user needs of the forward pass.
        written: the last step of the formula, if this step is an activation that the model wrote out as a formula.
        within: the place of that activation, if this step is another part of such a formula; else "".
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
        """The operation's common name: `conv`, `relu`, `max_pool2d`."""
        return kind(self.operation)

    def again(self, inputs: Sequence[Tensor]) -> Any:
        """Return the operation's result on other `inputs`; its weights follow their type."""
        queue = list(inputs)
        dtype = next((x.dtype for x in queue if x.is_floating_point() or x.is_complex()), None)

        def fill(argument: Any) -> Any:
            if isinstance(argument, Value):
                return queue.pop(0)
            if isinstance(argument, Tensor) and dtype is not None:
                return argument.to(like(argument.dtype, dtype))
            return argument

        filled = tree_map(fill, self.args)
        keywords = {a.name: value for a, value in zip(self.operation._schema.arguments, filled, strict=True) if a.kwarg_only}
        run: Callable[..., Any] = IMPLEMENTATIONS.get(self.operation, self.operation)
        return run(*filled[: len(filled) - len(keywords)], **keywords)


def like(kind: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """Return a type of the same kind, real or complex, with the precision of `dtype`; indices and truth values keep theirs."""
    if kind.is_complex:
        return dtype if dtype.is_complex else (dtype if dtype.itemsize >= 4 else torch.float32).to_complex()
    return dtype.to_real() if kind.is_floating_point else kind


@dataclass(frozen=True)
class Arranged:
    """A value with its samples arranged as maps, (1, channels, samples..).

    Args:
        order: the axes of the original value, in the order of the maps.
        between: the original value with its axes in that order, before it is reshaped.
    """

    value: Value
    order: tuple[int, ...]
    between: Value

    def of(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the original value's shape, arranged as maps."""
        return tensor.permute(self.order).reshape(self.value.shape)


@dataclass(frozen=True)
class Tape:
    """One recorded forward pass.

    Args:
        image: the tensor that went in, (1, C, samples..).
        steps: in the order they ran.
        value: the value of `image` on the tape.
        modules: for each module's name, the value it returned last.
        kept: the outputs that the caller asked for, (1, ...), by the index of their value.
        own: the user's own keepers that ran.
        channels_last: names of modules that returned their value with its channels last.
        stale: names of modules that returned a tensor written through a view, and the place that wrote it.
        weights: the model's tensors that steps refer to, and which version of each was used.
        unnamed: places of formulas that look like rectifiers but match no known one.
        unkept: the unnamed places that could be named if the tape had kept another value: the place of that value.
        arranged: values that are not (1, channels, samples..), by their index, arranged that way.
        vectors: vectors that the model returned, such as scores of classes, by their place.
    """

    image: Tensor
    steps: tuple[Step, ...]
    value: Value
    modules: Mapping[str, Value]
    kept: Mapping[int, Tensor]
    own: Keepers = field(default_factory=dict)
    channels_last: frozenset[str] = frozenset()
    stale: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[tuple[Tensor, int], ...] = ()
    unnamed: tuple[str, ...] = ()
    unkept: Mapping[str, str] = field(default_factory=dict)
    arranged: Mapping[int, Arranged] = field(default_factory=dict)
    vectors: Mapping[str, Tensor] = field(default_factory=dict)

    def arranged_output(self, name: str, returned: Tensor) -> Tensor:
        """Return the output of the module `name` as (1, channels, samples..), the way places show it."""
        first = returned.movedim(-1, 1) if name in self.channels_last else returned
        arranged = self.arranged.get(self.modules[name].index)
        return first if arranged is None else arranged.of(first)

    def as_map(self, value: Value) -> Value:
        """Return the value that shows `value` as (1, channels, samples..)."""
        return self.arranged[value.index].value if value.index in self.arranged else value

    @property
    def outdated(self) -> bool:
        """Whether a weight was written since the recording, so that its switches no longer belong to the weights."""
        return any(tensor._version != version for tensor, version in self.weights)
