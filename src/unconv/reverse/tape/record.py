"""The tape: what happened to one image on its way through a network.

`record` runs the untouched model once under a dispatch mode and writes a line for each aten
operation that the image flows through. Functional, in-place and reused layers all pass here; module
hooks would miss the first and mistake the others. This is the only file that touches the inside of
torch.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from unconv.errors import ModelError, NonFinite
from unconv.reverse.tape.precision import full_precision
from unconv.reverse.tape.schema import arguments, functional, is_factory, kind, plain, written_by
from unconv.reverse.tape.step import Before, Keepers, Step, Tape, Value
from unconv.reverse.tape.whole import Whole

Keep = Collection[str] | Callable[[OpOverload], bool]
"""Whose outputs a tape keeps: those of places by name, or of operations."""


def record(
    model: nn.Module,
    image: Tensor,
    keepers: Keepers,
    keep: Keep = (),
    call: Callable[[Tensor], Any] | None = None,
    own: Keepers | None = None,
) -> Tape:
    """Run `model` once on `image` and write down what happened.

    The model runs as it is: no hook, flag, weight or mode of it changes, also when it fails.

    Args:
        image: (1, C, samples..), floating; the model gets a copy of it.
        keepers: of an operation, how to keep what its rules need.
        keep: places, or names of modules, whose outputs the tape keeps; or which operations' outputs, where their
            places are not known before the model has run.
        own: keepers of the user's own rules.
        call: how the model is run on the image, if it has other arguments too; None: `model(image)`.

    Raises:
        ModelError: the model is in training mode with batch norm or dropout active, draws random
            numbers, is compiled to TorchScript, or writes in place through a view.
        NonFinite: the image, or an output on the way, holds NaN or infinity; the first is named.
    """
    _refuse_training(model)
    if not torch.isfinite(image).all():
        raise NonFinite("record: the image holds NaN or infinite values. Check how it was read and normalised.")
    recorder = _Recorder(model, keepers, keep, own or {})
    with torch.inference_mode(False), torch.no_grad():
        fed = image.detach().clone()
        value = recorder.begin(fed)
        with recorder.following(), full_precision(fed.device), recorder, Whole():
            returned = (call or model)(fed)
    recorder.name_outputs(returned)
    recorder.refuse_stale(tree_leaves(returned), "the model's result")
    return recorder.finish(image.detach().clone(), value)


def outputs(returned: Any) -> dict[str, Tensor]:
    """The tensors that a model returned, by the names of their places."""
    found = {}
    for path, tensor in tree_flatten_with_path(returned)[0]:
        if isinstance(tensor, Tensor):
            found[".".join(["output", *(str(_key(key)) for key in path)])] = tensor
    return found


def _key(key: Any) -> Any:
    return next((getattr(key, kind) for kind in ("key", "idx", "name") if hasattr(key, kind)), key)


def _refuse_training(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"record: {name or 'the model'} is compiled to TorchScript, which hides its operations. "
                "Pass the nn.Module that it was made from."
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            why = "in training mode" if module.training else "without running statistics"
            raise ModelError(
                f"record: the batch norm {name} is {why}, so that one picture changes how another is seen. "
                + ("Call model.eval() first." if module.training else "Train it with track_running_stats=True.")
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ModelError(f"record: the dropout {name} is in training mode. Call model.eval() first.")


@dataclass
class _Frame:
    """A module being run."""

    name: str
    leaf: bool
    first: int  # the number of steps before it


class _Recorder(TorchDispatchMode):
    """Writes the tape while the model runs under it."""

    def __init__(
        self,
        model: nn.Module,
        keepers: Keepers,
        keep: Keep,
        own: Keepers,
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self.keepers = keepers
        self.own = own
        self.keep: Collection[str] = () if callable(keep) else keep
        self.keeps_operation: Callable[[OpOverload], bool] = keep if callable(keep) else _none_of_them
        self.steps: list[Step] = []
        self.modules: dict[str, Value] = {}
        self.frames: list[_Frame] = []
        self.leaves: set[int] = set()  # steps that have a module's own name
        self.thread = threading.get_ident()
        self.names = {id(module): name for name, module in model.named_modules()}
        # A place's number is not known before all its namesakes have run: keep them all until then.
        self.wanted = {*self.keep, *(re.sub(r"_\d+$", "", name) for name in self.keep)}
        self.count = 0
        self.values = WeakIdKeyDictionary()  # tensor -> Value, of what the image reached
        self.others = WeakIdKeyDictionary()  # tensors that the image has not reached
        self.stale = WeakIdKeyDictionary()  # tensors that changed under our eyes -> where
        self.held: dict[int, Tensor] = {}  # outputs that may have been asked for, by index of their value
        self.sums: list[tuple[int, Tensor]] = []

    def begin(self, image: Tensor) -> Value:
        value = self._value(image)
        self.values[image] = value
        return value

    def finish(self, image: Tensor, value: Value) -> Tape:
        if not self.steps:
            raise ModelError("record: the model ran no operation on the image. Does its forward use its argument?")
        steps = tuple(_numbered(self.steps, self.leaves))
        self._refuse_nonfinite(steps)
        asked = self._asked(steps)
        kept = {index: tensor for index, tensor in self.held.items() if index in asked}
        return Tape(image, steps, value, self.modules, kept, self.own)

    def _asked(self, steps: Sequence[Step]) -> set[int]:
        """Return the indices of the values whose tensors the tape is to keep."""
        places = {step.place: step.outputs[0] for step in steps}
        found = [places.get(name) or self.modules.get(name) for name in self.keep]
        found += [step.outputs[0] for step in steps if self.keeps_operation(step.operation)]
        return {value.index for value in found if value is not None}

    # -- which module is running ------------------------------------------------------------------

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs, through torch's global hooks: the model's own stay as they are."""
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
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor in self.values:
                value = self.values[tensor]
                self.modules[frame.name] = value
                if frame.name in self.wanted:
                    self.held[value.index] = tensor
                if frame.leaf and frame.name:
                    self._name(value, frame)
                return

    def _name(self, value: Value, frame: _Frame) -> None:
        """Give a leaf's name to the step that made what it returned."""
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

    def name_outputs(self, returned: Any) -> None:
        """Call what the model returned `output`, or, of several, `output.0`, `output.aux`."""
        for name, tensor in outputs(returned).items():
            if tensor in self.values:
                self.modules.setdefault(name, self.values[tensor])
                if name in self.wanted:
                    self.held[self.values[tensor].index] = tensor

    # -- which operation is running ---------------------------------------------------------------

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # under inference mode, composite operations arrive whole: take them apart
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        self.refuse_stale(tensors, self._where(func))
        self._refuse_random(func)
        self._keep_constants([t for t in written_by(func, arguments(func, args, kwargs)) if t not in self.values])
        live = any(t in self.values for t in tensors)
        if not live or is_factory(func):
            result = func(*args, **kwargs)
            for tensor in (*tensors, *_tensors(result)):
                if tensor not in self.values:
                    self.others[tensor] = True
            return result
        return self._write(func, args, kwargs)

    def _write(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operation that the image flows through, and write its line."""
        self._refuse_own_statistics(func, args)
        full = arguments(func, args, kwargs)
        inputs = tuple(self.values[t] for t in tree_leaves(full) if isinstance(t, Tensor) and t in self.values)
        written = written_by(func, full)
        # What the image has not reached, and is overwritten, stands on the tape as it was: copy it first.
        saved = {id(t): t.clone() for t in written if t not in self.values}
        named = tree_map(lambda t: self.values.get(t, saved.get(id(t), t)) if isinstance(t, Tensor) else t, full)
        operation, args_of_step = plain(functional(func), named)
        step = Step(operation, args_of_step, inputs, (), self._where(func))
        keeper, own = self.keepers.get(operation), self.own.get(operation)
        at = next((k for k, argument in enumerate(named) if argument is args_of_step[0]), 0)
        given = full if args_of_step is named else (full[at], *args_of_step[1:])
        kept, ours = (asked.keep(step, given) if isinstance(asked, Before) else None for asked in (keeper, own))
        for tensor in written:
            self._overwrite(tensor, func)
        result = func(*args, **kwargs)
        # An operation on the image may return no tensor (a comparison, `item`): nothing flows on from it.
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        if not any(isinstance(r, Tensor) for r in results):
            return result
        made = tuple(self._value(r) if isinstance(r, Tensor) else None for r in results)
        if keeper and not isinstance(keeper, Before):
            kept = keeper(full, results)
        if own and not isinstance(own, Before):
            ours = own(full, results)
        self.steps.append(replace(step, outputs=made, kept=kept, own=ours))
        for tensor, value in zip(results, made, strict=True):
            if value is not None:
                self.values[tensor] = value
                self._watch(tensor, operation, operation is not func)
        self._hold(results[0], made[0], operation)
        return result

    def _value(self, tensor: Tensor) -> Value:
        self.count += 1
        return Value(self.count - 1, tuple(tensor.shape), tensor.dtype)

    def _overwrite(self, tensor: Tensor, func: OpOverload) -> None:
        """`tensor` is about to be written in place: save what we hold of it, and doubt all that share its memory."""
        storage = tensor.untyped_storage().data_ptr()
        family = [t for known in (self.values, self.others) for t in known if t.untyped_storage().data_ptr() == storage]
        for relative in family:
            value = self.values.get(relative)
            if value is not None and value.index in self.held:
                self.held[value.index] = self.held[value.index].clone()
        if tensor._base is not None:
            family.append(tensor._base)
        for relative in family:
            if relative is not tensor:
                self.stale[relative] = self._where(func)

    def _keep_constants(self, written: Sequence[Tensor]) -> None:
        """Have the steps written so far keep a copy of constants that are about to be overwritten."""
        doomed = {t.untyped_storage().data_ptr() for t in written}

        def copied(argument: Any) -> Any:
            hit = isinstance(argument, Tensor) and argument.untyped_storage().data_ptr() in doomed
            return argument.clone() if hit else argument

        if doomed:
            self.steps = [replace(step, args=tree_map(copied, step.args)) for step in self.steps]

    def _watch(self, tensor: Tensor, operation: OpOverload, written: bool) -> None:
        """Remember a sum that shows, once the model is through, whether every sample was finite."""
        pads = kind(operation) == "constant_pad_nd"  # -inf around a max pool is no accident
        if tensor.is_floating_point() and (written or not tensor._is_view()) and not pads:
            narrow = tensor.dtype in (torch.float16, torch.bfloat16)
            total = tensor.sum(dtype=torch.float32 if narrow else None)
            self.sums.append((len(self.steps) - 1, total))

    def _hold(self, tensor: Any, value: Value | None, operation: OpOverload) -> None:
        frame = self.frames[-1] if self.frames else None
        names = {self._where(operation)} | ({frame.name} if frame and frame.leaf else set())
        if value is not None and (names & self.wanted or self.keeps_operation(operation)):
            self.held[value.index] = tensor

    # -- what cannot be recorded ------------------------------------------------------------------

    def refuse_stale(self, tensors: Iterable[Any], where: str) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor in self.stale:
                raise ModelError(
                    f"record: {self.stale[tensor]} wrote in place through a view, and {where} reads the memory under "
                    "it; which values the image reached can no longer be told. Write the result to a new tensor "
                    "(torch.cat, torch.where, clone()) instead."
                )

    def _refuse_random(self, func: OpOverload) -> None:
        name = func._schema.name
        if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name:
            raise ModelError(
                f"record: the model drew random numbers ({func} at {self._where(func)}), so that it answers "
                "differently each time. Call model.eval() first, or take the randomness out."
            )

    def _refuse_own_statistics(self, func: OpOverload, args: Any) -> None:
        names = [argument.name for argument in func._schema.arguments]
        if "batch_norm" in func._schema.name and "training" in names and args[names.index("training")]:
            raise ModelError(
                f"record: the batch norm at {self._where(func)} takes its statistics from the picture itself "
                "(training mode, or no running statistics). Call model.eval() first."
            )

    def _refuse_nonfinite(self, steps: Sequence[Step]) -> None:
        for index, total in self.sums:
            if not torch.isfinite(total):
                step = steps[index]
                raise NonFinite(
                    f"record: {step.place} ({step.kind}) gave NaN or infinite values. "
                    "Check the weights, the precision and the scale of the picture."
                )


def _numbered(steps: Sequence[Step], leaves: Collection[int]) -> Iterator[Step]:
    """Return the steps with unique places: the second `relu` of a module becomes `relu_1`; a module's own name is its own."""
    first = {steps[index].place: index for index in sorted(leaves, reverse=True)}
    taken, last = {step.place for step in steps}, Counter[str]()
    named: set[str] = set()
    for index, step in enumerate(steps):
        name = step.place
        if name in named or first.get(name, index) != index:
            while (name := f"{step.place}_{last[step.place] + 1}") in taken:
                last[step.place] += 1
            taken.add(name)
        named.add(name)
        yield replace(step, place=name)


def _none_of_them(_operation: OpOverload) -> bool:
    return False


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]
