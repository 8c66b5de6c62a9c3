"""The dispatch mode that writes the tape while a model runs under it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.autograd import Function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from unconv.errors import ModelError, NonFinite
from unconv.reverse.tape.barriers import FUNCTION, NO_GRAD, OVERLAID, STALE, WRITTEN
from unconv.reverse.tape.functions import applied, goes_back_as_it_came, name_of_function, recomputes
from unconv.reverse.tape.memory import Memory, Write, overlaps_itself, storage_of, tensors_in
from unconv.reverse.tape.naming import named_modules
from unconv.reverse.tape.schema import (
    arguments,
    draws_nothing,
    fills_with_infinity,
    functional,
    is_composite,
    is_factory,
    kind,
    plain,
    taken_apart,
    written_by,
)
from unconv.reverse.tape.step import Before, Keepers, Step, Tape, Value
from unconv.reverse.tape.untouched import Guard

Keep = Collection[str] | Callable[[OpOverload], bool]
"""Whose outputs a tape keeps: those of places, by name, or those of the operations that a function chooses."""


@dataclass
class _Frame:
    """A module being run."""

    name: str
    leaf: bool
    first: int  # the number of steps before it


class Recorder(TorchDispatchMode):
    """Writes the tape while the model runs under it."""

    def __init__(
        self,
        model: nn.Module,
        keepers: Keepers,
        keep: Keep,
        own: Keepers,
        guard: Guard,
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self.keepers = keepers
        self.own = own
        self.guard = guard
        self.keep: Collection[str] = () if callable(keep) else keep
        self.keeps_operation: Callable[[OpOverload], bool] = keep if callable(keep) else _none_of_them
        self.steps: list[Step] = []
        self.modules: dict[str, Value] = {}
        self.frames: list[_Frame] = []
        self.leaves: set[int] = set()  # indices of the steps that have a module's own name
        self.thread = threading.get_ident()
        self.names = {id(module): name for name, module in named_modules(model)}
        # Which operation is `relu_1` is known only when the model has run: until then keep the output of every `relu`.
        self.names_to_keep = {*self.keep, *(re.sub(r"_\d+$", "", name) for name in self.keep)}
        self.count = 0
        self.calls = Counter[str]()  # operations that have passed the dispatcher, by name
        self.image_value = _NOWHERE
        self.values = WeakIdKeyDictionary()  # tensor -> Value, of the tensors that the image reached
        self.memory = Memory()
        self.stale: dict[str, str] = {}  # modules that returned a tensor written through a view -> the place that wrote
        self.without_gradients: set[int] = set()  # indices of values computed without gradients
        self.past_barrier: dict[int, Value] = {}  # index of such a value -> the value behind its barrier
        self.returned: list[Tensor] = []  # by the custom function that ran last
        self.forced = 0  # custom functions running now that are recorded as if gradients were on
        self.candidates: dict[int, Tensor] = {}  # outputs that the tape may have to keep, by the index of their value
        self.weights: dict[int, Tensor] = {}  # the model's own tensors, by their id
        self.sums: list[tuple[int, Tensor]] = []  # index of a step, and the sum of its output

    def begin(self, image: Tensor) -> Value:
        value = self.image_value = self.values[image] = self._value(image)
        self.memory.live(image)
        return value

    def finish(self, image: Tensor, value: Value) -> Tape:
        self._copy_constants(self.guard.written)
        if not self.steps:
            raise ModelError("record: the model ran no operation on the image. Does its forward use its argument?")
        steps = tuple(_numbered(self.steps, self.leaves))
        self._refuse_nonfinite(steps)
        indices = self._indices_to_keep(steps)
        outputs = {index: self._own(tensor) for index, tensor in self.candidates.items() if index in indices}
        return Tape(image, steps, value, self.modules, outputs, self.own, stale=self.stale, weights=self._versions())

    def _versions(self) -> tuple[tuple[Tensor, int], ...]:
        """Return the model's tensors that steps refer to, and their versions; steps copy those that the model wrote."""
        tensors = [t for t in self.weights.values() if storage_of(t) not in self.guard.written and not t.is_inference()]
        return tuple((tensor, tensor._version) for tensor in tensors)

    def _own(self, tensor: Tensor) -> Tensor:
        """Return a tensor for the tape to keep: outside any graph, without memory of the model, free for the user to change."""
        independent = not tensor.is_inference() and storage_of(tensor) not in self.guard.storages
        return tensor.detach() if independent else tensor.detach().clone()

    def _indices_to_keep(self, steps: Sequence[Step]) -> set[int]:
        """Return the indices of the values whose tensors the tape is to keep."""
        places = {step.place: step.outputs[0] for step in steps}
        values = [places.get(name) or self.modules.get(name) for name in self.keep]
        values += [step.outputs[0] for step in steps if self.keeps_operation(step.operation)]
        return {value.index for value in values if value is not None}

    # -- which module is running ------------------------------------------------------------------

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs, through torch's global hooks, so that the hooks of the model stay as they are."""
        handles = [
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        if self._ours(module):
            leaf = next(module.children(), None) is None
            self.frames.append(_Frame(self.names[id(module)], leaf, len(self.steps)))

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        if not self._ours(module):
            return
        frame = self.frames.pop()
        # A module's value is its first output that the image reached. A module that runs twice keeps its last one.
        for tensor in tree_leaves(output):
            value = self.values.get(tensor) if isinstance(tensor, Tensor) else None
            if value is not None:
                self.modules.pop(frame.name, None)
                self.stale.pop(frame.name, None)
                writes = self._written_since(tensor)
                if writes and not self._overlay(tensor, writes):
                    self.stale[frame.name] = writes[-1].where
                    return
                value = self.values[tensor]
                self.modules[frame.name] = value
                if frame.name in self.names_to_keep:
                    self.candidates[value.index] = tensor
                if frame.leaf and frame.name:
                    self._name(value, frame)
                return

    def _name(self, value: Value, frame: _Frame) -> None:
        """Give a leaf module's name to the step that computed its output."""
        for index in range(len(self.steps) - 1, frame.first - 1, -1):
            if value == self.steps[index].outputs[0]:
                self.steps[index] = replace(self.steps[index], place=frame.name)
                self.leaves.add(index)
                return

    def _ours(self, module: nn.Module) -> bool:
        return id(module) in self.names and threading.get_ident() == self.thread

    def _where(self, operation: OpOverload) -> str:
        name = self.frames[-1].name if self.frames else ""
        return f"{name}.{kind(operation)}" if name else kind(operation)

    def name_outputs(self, tensors: Mapping[str, Tensor]) -> None:
        """Name the tensor that the model returned `output`, or several of them `output.0`, `output.aux` and so on."""
        for name, tensor in tensors.items():
            if tensor in self.values:
                self.modules.setdefault(name, self.values[tensor])
                if name in self.names_to_keep:
                    self.candidates[self.values[tensor].index] = tensor

    # -- which operation is running ---------------------------------------------------------------

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_composite(func):
            with self:
                return taken_apart(func, args, kwargs)
        # Doubts come before the operation: reading memory written through a view is a step of its own, ahead of this one.
        self.calls[func.name()] += 1
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        self.doubt_stale(tensors, func)
        self._refuse_random(func, args)
        written = written_by(func, arguments(func, args, kwargs))
        if any(t in self.values for t in tensors) and not is_factory(func):
            return self._write(func, args, kwargs, written)
        if written:
            self._overwrite(written, func, over_live=False)
        result = func(*args, **kwargs)
        for tensor in written if self.memory.written else ():
            self.memory.note_written(tensor, tensor.detach().clone())
        return result

    def _write(self, func: OpOverload, args: Any, kwargs: Any, written: Sequence[Tensor]) -> Any:
        """Run an operation that the image flows through, and add its step to the tape."""
        self._refuse_own_statistics(func, args)
        full, on = arguments(func, args, kwargs), self._gradients_on(func, args)
        call = (func.name(), self.calls[func.name()] - 1)
        step, entered, constants = self._step(func, full, written, on)
        keepers = (self.keepers.get(step.operation), self.own.get(step.operation))
        # These keepers go first: an operation in place overwrites the input that they copy.
        before = [keeper.keep(step, entered) if isinstance(keeper, Before) else None for keeper in keepers]
        replaced = not on and any(t in self.values and self.values[t].index not in self.without_gradients for t in written)
        if written:
            self._overwrite(written, func, over_live=True)
        result = func(*args, **kwargs)
        # An operation on the image may return no tensor (a comparison, `item`): nothing flows on from it.
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        if not any(isinstance(r, Tensor) for r in results):
            return result
        outputs = tuple(self._value(r) if isinstance(r, Tensor) else None for r in results)
        after = [keeper(full, results) if keeper and not isinstance(keeper, Before) else None for keeper in keepers]
        kept, own = (early if late is None else late for early, late in zip(before, after, strict=True))
        self.memory.use((*constants, *tensors_in([kept, own])), len(self.steps))
        self.steps.append(replace(step, outputs=outputs, kept=kept, own=own, call=call))
        self._keep_if_named(results[0], outputs[0], step.operation, step.place)
        for tensor, value in zip(results, outputs, strict=True):
            if value is not None:
                self._watch(tensor, step.operation, step.operation is not func)
                if replaced:  # autograd goes on as if nothing had been written
                    value = self._add_barrier(WRITTEN, value, tensor)
                elif not on:
                    self.without_gradients.add(value.index)
                self.values[tensor] = value
                self.memory.live(tensor)
                if on and not replaced and any(tensor is t for t in written):
                    self.memory.note_written(tensor, value)
        return result

    def _step(
        self, func: OpOverload, full: tuple[Any, ...], written: Sequence[Tensor], on: bool
    ) -> tuple[Step, tuple[Any, ...], list[Tensor]]:
        """Return an operation's step before it runs, its arguments in the step's order, and the constants that it refers to."""
        live = {id(t): self._read(t, on) for t in tensors_in(full) if t in self.values}
        inputs = tuple(live[id(t)] for t in tensors_in(full) if id(t) in live)
        about_to_change = {storage_of(t) for t in written}
        constants: list[Tensor] = []

        def recorded_form(tensor: Tensor) -> Value | Tensor:
            if id(tensor) in live:
                return live[id(tensor)]
            storage = storage_of(tensor)
            if storage in self.guard.storages:
                self.weights[id(tensor)] = tensor
            # The tape must have a constant as it was when the operation read it: copy one that is about to be overwritten.
            constant = tensor.clone() if storage in about_to_change else tensor
            constants.append(constant.detach() if constant.requires_grad else constant)
            return constants[-1]

        named = tuple(_mapped(argument, recorded_form) for argument in full)
        operation, args = plain(functional(func), named)
        position = next((k for k, argument in enumerate(named) if argument is args[0]), 0)
        entered = full if args is named else (full[position], *args[1:])
        return Step(operation, args, inputs, (), self._where(func)), entered, constants

    def _gradients_on(self, func: OpOverload, args: Any) -> bool:
        """Whether autograd would follow an operation."""
        # Before torch returns some results of a custom function, it takes a view of them while gradients are still off.
        handed_out = func in _VIEWS and any(args[0] is result for result in self.returned)
        if not handed_out:
            self.returned = []
        return torch.is_grad_enabled() or self.forced > 0 or handed_out

    def _read(self, tensor: Tensor, on: bool) -> Value:
        """Return a tensor's value; the one behind a barrier, if it was computed without gradients and is used with them."""
        value: Value = self.values[tensor]
        if not on or value.index not in self.without_gradients or not value.dtype.is_floating_point:
            return value
        if value.index not in self.past_barrier:
            self.past_barrier[value.index] = self._add_barrier(NO_GRAD, value, tensor)
        return self.past_barrier[value.index]

    def _add_barrier(self, barrier: OpOverload, value: Value, tensor: Tensor) -> Value:
        """Add a barrier after a value, and return the value behind it."""
        output = self._value(tensor)
        self.steps.append(Step(barrier, (value,), (value,), (output,), self._where(barrier)))
        return output

    def _value(self, tensor: Tensor) -> Value:
        self.count += 1
        return Value(self.count - 1, tuple(tensor.shape), tensor.dtype)

    def _overwrite(self, written: Sequence[Tensor], func: OpOverload, over_live: bool) -> None:
        """Prepare for a write in place: copy what we refer to, and note the write for all tensors that share the memory."""
        self.guard.before_writing(written)
        if over_live and any(map(overlaps_itself, written)):
            raise ModelError(
                f"record: {self._where(func)} writes in place into a tensor whose samples share memory with each other "
                "(as_strided, expand), so that its values afterwards are not known. Write into a copy of it: clone()."
            )
        storages = {storage for t in written if (storage := storage_of(t)) is not None}
        self._copy_constants(storages)
        for index, tensor in self.candidates.items():
            if storage_of(tensor) in storages:
                self.candidates[index] = tensor.clone()
        # Writing a constant, such as a mask, matters only if the image reached a tensor in the same memory.
        if over_live or self.memory.any_live(storages):
            for tensor in written:
                self.memory.write(tensor, self.count, self._where(func))

    def _copy_constants(self, storages: set[int]) -> None:
        """Copy, in the steps recorded so far, the tensors that are about to be overwritten."""

        def copied(argument: Any) -> Any:
            overwritten = isinstance(argument, Tensor) and storage_of(argument) in storages
            return argument.clone() if overwritten else argument

        for index in self.memory.release(storages):
            step = self.steps[index]
            args, kept, own = (tree_map(copied, item) for item in (step.args, step.kept, step.own))
            self.steps[index] = replace(step, args=args, kept=kept, own=own)

    # -- custom functions -------------------------------------------------------------------------

    def run_function(self, function: type[Function], forward: Callable[..., Any], args: Any, kwargs: Any, on: bool) -> Any:
        """Run a custom autograd function's forward pass; put its results behind a barrier if its backward pass differs.

        Args:
            on: whether gradients were on where the function was applied.
        """
        # The results of a function that goes back as its operations do need no step: those operations are on the tape.
        self.doubt_stale(tensors_in(args), name_of_function(function))
        live = [t for t in tensors_in(args) if t in self.values and t.is_floating_point()]
        if not live:
            return forward(*args, **kwargs)
        on = on or self.forced > 0
        inputs = tuple(self._read(t, on) for t in live)
        entered = {id(t): self.values[t].index for t in live}
        if recomputes(function) or goes_back_as_it_came(function, args, live):
            self.forced += on  # torch turns gradients off for the forward pass
            try:
                result = forward(*args, **kwargs)
            finally:
                self.forced -= on
            self.returned = [t for t in tensors_in(result) if on]
            return result

        first_application, number = applied(function, args, live), count()

        def record_output(output: Any) -> Any:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return output
            application = replace(first_application, number=next(number))
            if entered.get(id(output)) == self.values.get(output, _NOWHERE).index:  # an argument, which is read elsewhere too
                output = output.view_as(output)
            value = self.values[output] = self._value(output)
            self.without_gradients |= set() if on else {value.index}
            named = (list(inputs), name_of_function(function))
            step = Step(FUNCTION, named, inputs, (value,), self._where(FUNCTION), application)
            self.steps.append(step)
            self.memory.live(output)
            self._keep_if_named(output, value, FUNCTION, step.place)
            return output

        return tree_map(record_output, forward(*args, **kwargs))

    def _watch(self, tensor: Tensor, operation: OpOverload, written: bool) -> None:
        """Keep the sum of a result: after the run it shows whether every sample was finite.

        Reading it at once would make a GPU wait for each operation.
        """
        pads = kind(operation) == "constant_pad_nd"  # -inf around a max pool is intended
        if tensor.is_floating_point() and (written or not tensor._is_view()) and not pads:
            narrow = tensor.dtype in (torch.float16, torch.bfloat16)
            total = tensor.sum(dtype=torch.float32 if narrow else None)
            self.sums.append((len(self.steps) - 1, total))

    def _keep_if_named(self, tensor: Any, value: Value | None, operation: OpOverload, place: str) -> None:
        frame = self.frames[-1] if self.frames else None
        names = {place} | ({frame.name} if frame and frame.leaf else set())
        if value is not None and (names & self.names_to_keep or self.keeps_operation(operation)):
            self.candidates[value.index] = tensor

    # -- what cannot be recorded ------------------------------------------------------------------

    def doubt_stale(self, tensors: Iterable[Any], reader: str | OpOverload) -> None:
        """Put tensors whose memory was written through another tensor behind a barrier, before `reader` reads them."""
        if not self.memory.written:
            return
        for tensor in tensors:
            writes = self._written_since(tensor) if isinstance(tensor, Tensor) else []
            if writes and not self._overlay(tensor, writes):
                where = writes[-1].where
                value = self.values.get(tensor, self.image_value)
                output = self.values[tensor] = self._value(tensor)
                words = reader if isinstance(reader, str) else self._where(reader)
                self.steps.append(Step(STALE, (value, where, words), (value,), (output,), f"{where}.written_through_a_view"))
                self.memory.live(tensor)

    def _overlay(self, tensor: Tensor, writes: Sequence[Write]) -> bool:
        """Work out what a tensor holds from what was written through others; return False where that is not known."""
        indices = [write.source_index(tensor) for write in writes]
        if (not torch.is_grad_enabled() and not self.forced) or any(index is None for index in indices):
            return False
        current = self.values.get(tensor)
        content: Value | Tensor = tensor.detach().clone() if current is None else self._read(tensor, True)
        for write, index in zip(writes, indices, strict=True):
            if index is None or not bool((index >= 0).any()):
                continue
            args = (content, write.value, index)
            inputs = tuple(argument for argument in args if isinstance(argument, Value))
            if inputs:
                content = self._value(tensor)
                self.steps.append(Step(OVERLAID, args, inputs, (content,), f"{write.where}.overlaid"))
        if isinstance(content, Value):
            self.values[tensor] = content
            self.memory.live(tensor)
        return True

    def _written_since(self, tensor: Tensor) -> list[Write]:
        """Return the writes into a tensor's memory since its value was recorded."""
        value = self.values.get(tensor)
        return self.memory.written_after(tensor, -1 if value is None else value.index)

    def _refuse_random(self, func: OpOverload, args: Any) -> None:
        name = func._schema.name
        if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name and not draws_nothing(func, args):
            raise ModelError(
                f"record: the model drew random numbers ({func} at {self._where(func)}), so that it answers "
                "differently each time. Call model.eval() first, or remove the randomness."
            )

    def _refuse_own_statistics(self, func: OpOverload, args: Any) -> None:
        if "batch_norm" not in func._schema.name:
            return
        names = [argument.name for argument in func._schema.arguments]
        if "training" in names and args[names.index("training")]:
            raise ModelError(
                f"record: the batch norm at {self._where(func)} takes its statistics from the picture itself "
                "(training mode, or no running statistics). Call model.eval() first."
            )

    def _refuse_nonfinite(self, steps: Sequence[Step]) -> None:
        suspects = [(steps[index], total) for index, total in self.sums if not torch.isfinite(total)]
        intended = set[int]()  # values with an infinity that the model put there: a mask before a softmax
        for step in steps if suspects else ():
            if fills_with_infinity(step.args) or any(value.index in intended for value in step.inputs):
                intended |= {value.index for value in step.outputs if value}
        for step, total in suspects:
            if torch.isnan(total) or not any(value.index in intended for value in step.outputs if value):
                raise NonFinite(
                    f"record: {step.place} ({step.kind}) gave NaN or infinite values. "
                    "Check the weights, the precision and the scale of the picture."
                )


def _numbered(steps: Sequence[Step], leaves: Collection[int]) -> Iterator[Step]:
    """Yield the steps with unique places: the second `relu` of a module becomes `relu_1`; a module's own name stays."""
    first = {steps[index].place: index for index in sorted(leaves, reverse=True)}
    used_names, last = {step.place for step in steps}, Counter[str]()
    named: set[str] = set()
    for index, step in enumerate(steps):
        name = step.place
        if name in named or first.get(name, index) != index:
            while (name := f"{step.place}_{last[step.place] + 1}") in used_names:
                last[step.place] += 1
            used_names.add(name)
        named.add(name)
        yield replace(step, place=name)


def _none_of_them(_operation: OpOverload) -> bool:
    return False


def _mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return arguments with each tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(part, change) for part in tree)
    return tree


_NOWHERE = Value(-1, (), torch.bool)
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten.alias.default)
