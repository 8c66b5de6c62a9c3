"""The user's model, as it was: whatever a forward pass writes is put back.

Modules count their calls, move averages, fill caches, normalise their weights. What a run of ours does to them is undone
when it ends, however it ends: attributes, the contents of lists and dictionaries, and bit for bit the tensors that were
written. Out of reach are memory written without torch (through NumPy), objects without a `__dict__`, variables of
functions and of other modules of Python, files, and what other threads do.
"""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from unconv.reverse.tape.memory import storage_of
from unconv.reverse.tape.schema import arguments, written_by

_MOST = 200_000  # objects that are looked at; a model holds some thousands
_LONG = 10_000  # items of a collection beyond which they are numbers and words, not parts of a model

_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_SEQUENCES = (list, deque)
_OPAQUE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, complex, type(None))
_OF_OTHERS = {*sys.stdlib_module_names, "torch", "numpy", "PIL", "unconv"}
"""Packages whose objects belong to the whole program: loggers, locks, process groups."""

_LOCKS = WeakIdKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@dataclass
class _Held:
    """A tensor of the user's, and what it was."""

    tensor: Tensor
    alias: Tensor
    version: int
    requires_grad: bool
    grad: Tensor | None


class Guard:
    """What a model was before it ran; asked before each write, it keeps what is about to be lost.

    `storages` are the memory of its tensors.
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        self._objects: list[tuple[Any, Any]] = []
        self._tensors: list[_Held] = []
        self.storages: dict[int, torch.UntypedStorage] = {}
        self._copies: dict[int, torch.UntypedStorage] = {}
        self._look(roots)

    @property
    def written(self) -> set[int]:
        """The storages of the user's that were written."""
        return set(self._copies)

    def before_writing(self, tensors: Sequence[Tensor]) -> None:
        """Keep a copy of the user's memory that is about to be written."""
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage in self.storages and storage not in self._copies:
                self._copies[storage] = self.storages[storage].clone()

    def restore(self) -> None:
        """Put everything back."""
        for storage, copy in self._copies.items():
            if self.storages[storage].nbytes() != copy.nbytes():
                self.storages[storage].resize_(copy.nbytes())
            self.storages[storage].copy_(copy)
        for held in self._tensors:
            _restore_tensor(held)
        for found, before in self._objects:
            _restore_object(found, before)

    def _look(self, roots: Sequence[Any]) -> None:
        waiting, seen = list(roots), set[int]()
        while waiting and len(seen) < _MOST:
            found = waiting.pop()
            if isinstance(found, _OPAQUE) or id(found) in seen:
                continue
            seen.add(id(found))
            if isinstance(found, Tensor):
                self._look_at_tensor(found)
                continue
            if isinstance(found, tuple | frozenset):  # cannot change itself, but what it holds can
                inside: Any = found
            else:
                found = _attributes(found)
                if type(found) not in (*_MAPPINGS, *_SEQUENCES, set):
                    continue
                seen.add(id(found))
                before = dict(found) if isinstance(found, dict) else list(found)
                self._objects.append((found, before))
                inside = before.values() if isinstance(before, dict) else before
            if len(inside) < _LONG:  # long ones, such as vocabularies, are restored but not searched
                waiting += inside

    def _look_at_tensor(self, tensor: Tensor) -> None:
        storage = storage_of(tensor)
        if storage is None or nn.parameter.is_lazy(tensor):
            return
        self.storages[storage] = tensor.untyped_storage()  # alive, so that its number stays its own
        version = -1 if tensor.is_inference() else tensor._version
        grad = tensor.grad if tensor.is_leaf else None
        self._tensors.append(_Held(tensor, tensor.detach(), version, tensor.requires_grad, grad))


def _attributes(found: Any) -> Any:
    """Return an object's attributes, as a dictionary that can be written, if it is the model's own; a collection as it is."""
    if type(found) in (*_MAPPINGS, *_SEQUENCES, set):
        return found
    own = isinstance(found, nn.Module) or type(found).__module__.partition(".")[0] not in _OF_OTHERS
    return getattr(found, "__dict__", None) if own else None


def _restore_tensor(held: _Held) -> None:
    tensor, alias = held.tensor, held.alias
    if _layout(tensor) != _layout(alias):
        tensor.data = alias
    if tensor.requires_grad != held.requires_grad and tensor.is_leaf:
        tensor.requires_grad_(held.requires_grad)
    if tensor.is_leaf and tensor.grad is not held.grad:
        tensor.grad = held.grad
    if held.version >= 0 and tensor._version != held.version:
        # What was put back bit for bit was never written, to whoever still means to go backwards through it.
        _set_version(tensor, held.version)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return storage_of(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _set_version(tensor: Tensor, version: int) -> None:
    reset: Callable[..., None] = torch._C._autograd._unsafe_set_version_counter
    try:
        reset((tensor,), (version,))
    except TypeError:  # before torch 2.7: one tensor
        reset(tensor, version)


def _restore_object(found: Any, before: Any) -> None:
    if isinstance(found, dict):
        if len(found) != len(before) or any(
            a is not c or b is not d for (a, b), (c, d) in zip(found.items(), before.items(), strict=True)
        ):
            found.clear()
            found.update(before)
    elif len(found) != len(before) or any(a is not b for a, b in zip(found, before, strict=True)):
        found.clear()
        (found.update if isinstance(found, set) else found.extend)(before)


class _Watching(TorchDispatchMode):
    """Tells the guard what a run writes that no recorder watches."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.guard = guard

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.guard.before_writing(written_by(func, arguments(func, args, kwargs or {})))
        return func(*args, **(kwargs or {}))


@contextmanager
def untouched(module: nn.Module, others: Any = ()) -> Iterator[Guard]:
    """Put back, at the end, what `module`, and the other arguments it is called with, were at the beginning.

    Two threads that run one model take turns, as neither could tell its own writes from the other's. The numbers that
    Python's, NumPy's and torch's global generators give next are put back too.
    """
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(module, threading.RLock())
    compiled = any("_orig_mod" in part._modules for part in module.modules())
    with lock, _settings(compiled):
        with torch.inference_mode(False):
            guard = Guard([module, others])
        try:
            yield guard
        finally:
            with torch.inference_mode(False), torch.no_grad():
                guard.restore()


@contextmanager
def watched(module: nn.Module, others: Any = ()) -> Iterator[None]:
    """As `untouched`, for a run that nothing else watches."""
    with untouched(module, others) as guard, _Watching(guard):
        yield


def _setting_table() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Yield how a setting is read and written."""
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.is_grad_enabled, torch._C._set_grad_enabled
    for device in ("cpu", "cuda"):
        yield partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)
    yield random.getstate, random.setstate
    yield torch.get_rng_state, torch.set_rng_state
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        yield numpy.get_state, numpy.set_state


def _comparable(state: Any) -> Any:
    if isinstance(state, tuple):
        return tuple(map(_comparable, state))
    return state.tolist() if hasattr(state, "tolist") else state


@contextmanager
def _settings(compiled: bool) -> Iterator[None]:
    """Put back what a forward pass may change for the whole program.

    Args:
        compiled: whether a part of the model is.
    """
    table = [(read, write, read()) for read, write in _setting_table()]
    filters, rows = warnings.filters, list(warnings.filters)
    if compiled:  # our hooks expect to be called twice for a compiled part, of which torch warns
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks", UserWarning)
    try:
        yield
    finally:
        for read, write, before in table:
            if _comparable(read()) != _comparable(before):
                write(before)
        # Another list means that another thread stands in `catch_warnings`, or has left it: that is not ours to end.
        if warnings.filters is filters and list(filters) != rows:
            filters[:] = rows  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]


def shares(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules have a module, or memory of a weight or buffer, in common."""
    if {id(module) for module in a.modules()} & {id(module) for module in b.modules()}:
        return True
    first, second = ({storage_of(t) for t in (*m.parameters(), *m.buffers())} - {None} for m in (a, b))
    return not first.isdisjoint(second)
