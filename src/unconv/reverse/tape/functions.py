"""Custom autograd functions: where a model runs one, and whether its backward pass is the derivative of its forward pass.

The tape sees only the operations of a `torch.autograd.Function`'s forward pass. Some functions only save memory: a walk
through those operations does what they would do themselves. Others change the gradient on purpose, as straight-through
estimators and gradient reversals do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionMeta
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import CheckpointFunction

Runner = Callable[[type[Function], Callable[..., Any], tuple[Any, ...], dict[str, Any], bool], Any]
"""Runs a function's forward pass in place of torch: from the function, its forward, the arguments, and whether
gradients were on, to its results."""

_here = threading.local()
_lock = threading.Lock()
_watchers = 0


@contextmanager
def watched_functions(run: Runner) -> Iterator[None]:
    """Have `run` called for the forward pass of each custom function that this thread applies.

    Other threads get what they always got.
    """
    outer = getattr(_here, "run", None)
    _count(1)
    _here.run = run
    try:
        yield
    finally:
        _here.run = outer
        _count(-1)


def _count(change: int) -> None:
    global _watchers
    # Models often store `Function.apply` before a recording starts, so replacing `apply` would miss those calls. But every
    # call of it looks up attributes of the class: we answer in the metaclass, which sees each of them.
    with _lock:
        _watchers += change
        if _watchers and "__getattribute__" not in vars(FunctionMeta):
            FunctionMeta.__getattribute__ = _looked_up  # type: ignore[method-assign]
        elif not _watchers and vars(FunctionMeta).get("__getattribute__") is _looked_up:
            del FunctionMeta.__getattribute__


def _looked_up(cls: Any, name: str) -> Any:
    attribute = type.__getattribute__(cls, name)
    run = getattr(_here, "run", None)
    if run is not None:
        if name == "_backward_cls":  # what `apply` asks for first
            _here.applied, _here.on = cls, torch.is_grad_enabled()
        elif name == "forward" and getattr(_here, "applied", None) is cls:
            _here.applied, on = None, _here.on
            return lambda *args, **kwargs: run(cls, attribute, args, kwargs, on)
    return attribute


def name_of_function(function: type[Function]) -> str:
    """Return the name that a function's author gave it."""
    return function.__qualname__.rpartition("<locals>.")[2]


def recomputes(function: type[Function]) -> bool:
    """Whether a function runs its forward pass again to go backwards through it, as checkpoints do."""
    return issubclass(function, CheckpointFunction)


@dataclass(frozen=True)
class Applied:
    """A custom function with copies of its arguments, to be applied again for one of its results.

    Args:
        args: copies of the arguments of `apply`.
        reached: those of the copies that the image reached.
        number: which of the floating-point results.
    """

    function: type[Function]
    args: tuple[Any, ...]
    reached: tuple[Tensor, ...]
    number: int = 0

    def again(self) -> tuple[Tensor, list[Tensor]]:
        """Return the result with autograd's graph, and the leaves of that graph: one for each tensor that the image reached."""
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [tensor.clone().requires_grad_(True) for tensor in self.reached]
            return self.on([leaf.clone() for leaf in leaves]), leaves  # which the function may overwrite

    def on(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the result with `tensors` instead of those that the image reached."""
        positions = {id(tensor): k for k, tensor in enumerate(self.reached)}
        arguments = tree_map(
            lambda argument: tensors[positions[id(argument)]] if id(argument) in positions else argument, self.args
        )
        return _floats(self.function.apply(*arguments))[self.number]


def applied(function: type[Function], args: tuple[Any, ...], live: list[Tensor]) -> Applied:
    """Return a function with copies of its arguments as they are now; `args` and `live` as in `goes_back_as_it_came`."""
    args, results = args if _sets_up(function) else args[1:], list[Applied]()

    def copy() -> None:
        ids, reached = {id(tensor) for tensor in live}, list[Tensor]()

        def copied(argument: Any) -> Any:
            if not isinstance(argument, Tensor):
                return argument
            copy = argument.detach().clone()
            reached.extend([copy] if id(argument) in ids else [])
            return copy

        results.append(Applied(function, tree_map(copied, args), tuple(reached)))

    _in_another_thread(copy)
    return results[0]


def _in_another_thread(work: Callable[[], None]) -> None:
    """Run `work` in another thread: dispatch modes are per thread, so ours is off there and nothing is recorded."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()


def goes_back_as_it_came(function: type[Function], args: tuple[Any, ...], live: list[Tensor]) -> bool:
    """Whether a function's backward pass is the derivative of its forward pass at these arguments.

    Compares, on random signals, the function's own backward pass with autograd through the operations of its forward pass.

    Args:
        args: the arguments of `forward`, with the context if it has one.
        live: the tensors among `args` that the image reached.
    """
    args = args if _sets_up(function) else args[1:]
    verdicts = [False]

    def compare() -> None:
        # float64 first: its rounding errors leave room for a narrow tolerance. A function may accept its own type alone.
        for dtype in (torch.float64, None):
            try:
                verdicts[0] = _agree(function, args, {id(tensor) for tensor in live}, dtype)
                return
            except Exception:  # the user's function may fail in any way when it runs alone, or in float64
                continue

    _in_another_thread(compare)
    return verdicts[0]


class _Context:
    """A context for a forward pass that autograd differentiates, so that nothing needs to be saved."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs

    def save_for_backward(self, *_tensors: Any) -> None:
        """Save nothing."""

    save_for_forward = mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_backward


def _agree(function: type[Function], args: tuple[Any, ...], live: set[int], dtype: torch.dtype | None) -> bool:
    custom, plain = (_copied(args, live, dtype) for _ in range(2))
    custom_results = function.apply(*custom[0])
    needs = tuple(isinstance(argument, Tensor) and id(argument) in live for argument in args)
    plain_results = function.forward(*(() if _sets_up(function) else (_Context(needs),)), *plain[0])
    limit = 1e-9 if dtype is torch.float64 else 1e-4
    generator = torch.Generator().manual_seed(0)
    pairs = list(zip(_floats(custom_results), _floats(plain_results), strict=True))
    for _ in range(2):
        for by_custom, by_plain in pairs:
            signal = torch.randn(by_plain.shape, generator=generator, dtype=torch.float64).to(by_plain)
            gradients = _gradients(by_custom, custom[1], signal), _gradients(by_plain, plain[1], signal)
            for a, b in zip(*gradients, strict=True):
                size = max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 0.0
                if size and not float((a - b).abs().max()) <= limit * size:
                    return False
    return bool(pairs)


def _sets_up(function: type[Function]) -> bool:
    """Whether a function is written in the newer form, whose forward pass is not given the context."""
    return function.setup_context is not Function.setup_context


def _copied(args: tuple[Any, ...], live: set[int], dtype: torch.dtype | None) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Return copies of the arguments, and the leaves that the gradients of those that the image reached arrive at."""
    leaves: list[Tensor] = []

    def copied(argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        copy = argument.detach().clone()
        if copy.is_floating_point() and dtype is not None:
            copy = copy.to(dtype)
        if id(argument) not in live:
            return copy
        leaves.append(copy.requires_grad_(True))
        return copy.clone()  # which the function may overwrite

    return tree_map(copied, args), leaves


def _floats(results: Any) -> list[Tensor]:
    return [result for result in tree_leaves(results) if isinstance(result, Tensor) and result.is_floating_point()]


def _gradients(result: Tensor, leaves: list[Tensor], signal: Tensor) -> list[Tensor]:
    if not result.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    gradients = torch.autograd.grad(result, leaves, signal, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, gradients, strict=True)]
