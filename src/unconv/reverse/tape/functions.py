"""Custom autograd functions: where a model runs one, and whether its backward pass is the derivative of its forward pass.

A `torch.autograd.Function` shows the tape the operations of its forward pass alone. Some only save memory: a walk through
those operations is what they would do themselves. Others change the gradient on purpose, as straight-through estimators
and gradient reversals do.
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
"""What runs a function's forward pass in torch's place: from the function, its forward, the arguments, and whether
gradients were on, to its results."""

_here = threading.local()
_lock = threading.Lock()
_watchers = 0


@contextmanager
def watched_functions(run: Runner) -> Iterator[None]:
    """Have `run` called for the forward pass of each custom function that this thread applies.

    `apply` itself is often taken from the class before we are there, but each call of it asks the class for its parts: we
    answer in the place of the classes' class. Other threads get what they always got.
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
    with _lock:
        _watchers += change
        if _watchers and "__getattribute__" not in vars(FunctionMeta):
            FunctionMeta.__getattribute__ = _looked_up  # type: ignore[method-assign]
        elif not _watchers and vars(FunctionMeta).get("__getattribute__") is _looked_up:
            del FunctionMeta.__getattribute__


def _looked_up(cls: Any, name: str) -> Any:
    found = type.__getattribute__(cls, name)
    run = getattr(_here, "run", None)
    if run is not None:
        if name == "_backward_cls":  # what `apply` asks for first
            _here.applied, _here.on = cls, torch.is_grad_enabled()
        elif name == "forward" and getattr(_here, "applied", None) is cls:
            _here.applied, on = None, _here.on
            return lambda *args, **kwargs: run(cls, found, args, kwargs, on)
    return found


def name_of_function(function: type[Function]) -> str:
    """Return what a function's author called it."""
    return function.__qualname__.rpartition("<locals>.")[2]


def recomputes(function: type[Function]) -> bool:
    """Whether a function runs its forward pass again to go backwards through it, as checkpoints do."""
    return issubclass(function, CheckpointFunction)


@dataclass(frozen=True)
class Applied:
    """A function and what it was applied to, to be applied again, for one of its results.

    Args:
        args: as `apply` got them, copied; of what the image reached, `reached` holds the copies.
        number: of the result, among those that are floating.
    """

    function: type[Function]
    args: tuple[Any, ...]
    reached: tuple[Tensor, ...]
    number: int = 0

    def again(self) -> tuple[Tensor, list[Tensor]]:
        """Return the result with autograd's graph, and the leaves that stand for what the image reached."""
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [tensor.clone().requires_grad_(True) for tensor in self.reached]
            return self.on([leaf.clone() for leaf in leaves]), leaves  # which the function may overwrite

    def on(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the result with `tensors` in the place of what the image reached."""
        positions = {id(tensor): k for k, tensor in enumerate(self.reached)}
        given = tree_map(
            lambda argument: tensors[positions[id(argument)]] if id(argument) in positions else argument, self.args
        )
        return _floats(self.function.apply(*given))[self.number]


def applied(function: type[Function], args: tuple[Any, ...], live: list[Tensor]) -> Applied:
    """Return a function with copies of its arguments as they are now; `args` and `live` as in `goes_back_as_it_came`."""
    args, found = args if _sets_up(function) else args[1:], list[Applied]()

    def copy() -> None:
        ids, reached = {id(tensor) for tensor in live}, list[Tensor]()

        def copied(argument: Any) -> Any:
            if not isinstance(argument, Tensor):
                return argument
            copy = argument.detach().clone()
            reached.extend([copy] if id(argument) in ids else [])
            return copy

        found.append(Applied(function, tree_map(copied, args), tuple(reached)))

    _aside(copy)
    return found[0]


def _aside(work: Callable[[], None]) -> None:
    """Do something in another thread, where no mode of ours is on and nothing is recorded."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()


def goes_back_as_it_came(function: type[Function], args: tuple[Any, ...], live: list[Tensor]) -> bool:
    """Whether a function's backward pass is the derivative of its forward pass at these arguments.

    Both are tried on random signals, in another thread, where no mode of ours is on and nothing is recorded.

    Args:
        args: as `forward` got them, the context among them.
        live: the tensors among `args` that the image reached.
    """
    args = args if _sets_up(function) else args[1:]
    verdicts = [False]

    def compare() -> None:
        for dtype in (torch.float64, None):
            try:
                verdicts[0] = _agree(function, args, {id(tensor) for tensor in live}, dtype)
                return
            except Exception:  # what a function of the user's has against being run alone, or in float64
                continue

    _aside(compare)
    return verdicts[0]


class _Context:
    """Stands for the context of a forward pass that is differentiated by autograd, where nothing is to be saved."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs

    def save_for_backward(self, *_tensors: Any) -> None:
        """Save nothing."""

    save_for_forward = mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_backward


def _agree(function: type[Function], args: tuple[Any, ...], live: set[int], dtype: torch.dtype | None) -> bool:
    own, mine = (_copied(args, live, dtype) for _ in range(2))
    returned = function.apply(*own[0])
    needs = tuple(isinstance(argument, Tensor) and id(argument) in live for argument in args)
    plain = function.forward(*(() if _sets_up(function) else (_Context(needs),)), *mine[0])
    limit = 1e-9 if dtype is torch.float64 else 1e-4
    generator = torch.Generator().manual_seed(0)
    pairs = list(zip(_floats(returned), _floats(plain), strict=True))
    for _ in range(2):
        for theirs, ours in pairs:
            signal = torch.randn(ours.shape, generator=generator, dtype=torch.float64).to(ours)
            for a, b in zip(_sent(theirs, own[1], signal), _sent(ours, mine[1], signal), strict=True):
                size = max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 0.0
                if size and not float((a - b).abs().max()) <= limit * size:
                    return False
    return bool(pairs)


def _sets_up(function: type[Function]) -> bool:
    """Whether a function is written in the newer form, whose forward pass is not given the context."""
    return function.setup_context is not Function.setup_context


def _copied(args: tuple[Any, ...], live: set[int], dtype: torch.dtype | None) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Return copies of the arguments, and of those that the image reached what their gradients are taken of."""
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
    return [found for found in tree_leaves(results) if isinstance(found, Tensor) and found.is_floating_point()]


def _sent(result: Tensor, leaves: list[Tensor], signal: Tensor) -> list[Tensor]:
    if not result.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(result, leaves, signal, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, found, strict=True)]
