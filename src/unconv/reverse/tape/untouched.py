"""Leave the user's model as it was: put back whatever a forward pass writes.

Modules count their calls, update running averages, fill caches, normalise their weights. When a run of ours ends, even by an
error, all of that is undone: attributes, the contents of lists and dictionaries, and, bit for bit, the tensors that were
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

_MOST = 200_000  # objects that are searched; a model holds some thousands
_LONG = 10_000  # a longer collection holds numbers or words, not parts of a model

_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_SEQUENCES = (list, deque)
_OPAQUE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, complex, type(None))
_OF_OTHERS = {*sys.stdlib_module_names, "torch", "numpy", "PIL", "unconv"}
"""Packages whose objects belong to the whole program: loggers, locks, process groups."""

_LOCKS = WeakIdKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@dataclass
class _TensorState:
    """A tensor of the user's, and what it was before the run."""

    tensor: Tensor
    alias: Tensor
    version: int
    requires_grad: bool
    grad: Tensor | None


class Guard:
    """The state of a model before it ran. Call `before_writing` before each write, so that the memory is copied first.

    `storages` are those of the model's tensors.
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        self._objects: list[tuple[Any, Any]] = []
        self._tensors: list[_TensorState] = []
        self.storages: dict[int, torch.UntypedStorage] = {}
        self._copies: dict[int, torch.UntypedStorage] = {}
        self._search(roots)

    @property
    def written(self) -> set[int]:
        """The user's storages that were written."""
        return set(self._copies)

    def before_writing(self, tensors: Sequence[Tensor]) -> None:
        """Copy those of the user's storages that are about to be written."""
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
        for state in self._tensors:
            _restore_tensor(state)
        for collection, before in self._objects:
            _restore_object(collection, before)

    def _search(self, roots: Sequence[Any]) -> None:
        """Note the state of everything that can be reached from `roots` and changed."""
        waiting, visited = list(roots), set[int]()
        while waiting and len(visited) < _MOST:
            item = waiting.pop()
            if isinstance(item, _OPAQUE) or id(item) in visited:
                continue
            visited.add(id(item))
            if isinstance(item, Tensor):
                self._note_tensor(item)
                continue
            if isinstance(item, tuple | frozenset):  # cannot change itself, but its items can
                inside: Any = item
            else:
                item = _attributes(item)
                if type(item) not in (*_MAPPINGS, *_SEQUENCES, set):
                    continue
                visited.add(id(item))
                before = dict(item) if isinstance(item, dict) else list(item)
                self._objects.append((item, before))
                inside = before.values() if isinstance(before, dict) else before
            if len(inside) < _LONG:  # long ones, such as vocabularies, are restored but not searched
                waiting += inside

    def _note_tensor(self, tensor: Tensor) -> None:
        storage = storage_of(tensor)
        if storage is None or nn.parameter.is_lazy(tensor):
            return
        self.storages[storage] = tensor.untyped_storage()  # kept alive, so that no other storage gets its number
        version = -1 if tensor.is_inference() else tensor._version
        grad = tensor.grad if tensor.is_leaf else None
        self._tensors.append(_TensorState(tensor, tensor.detach(), version, tensor.requires_grad, grad))


def _attributes(item: Any) -> Any:
    """Return a collection as it is, and an object of the model's own as its `__dict__`; else None."""
    if type(item) in (*_MAPPINGS, *_SEQUENCES, set):
        return item
    belongs_to_model = isinstance(item, nn.Module) or type(item).__module__.partition(".")[0] not in _OF_OTHERS
    return getattr(item, "__dict__", None) if belongs_to_model else None


def _restore_tensor(state: _TensorState) -> None:
    tensor, alias = state.tensor, state.alias
    if _layout(tensor) != _layout(alias):
        tensor.data = alias
    if tensor.requires_grad != state.requires_grad and tensor.is_leaf:
        tensor.requires_grad_(state.requires_grad)
    if tensor.is_leaf and tensor.grad is not state.grad:
        tensor.grad = state.grad
    if state.version >= 0 and tensor._version != state.version:
        # Autograd refuses a backward pass through a tensor whose version has changed. This one holds what it held before, so a
        # graph that the user built earlier must still work.
        _set_version(tensor, state.version)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return storage_of(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _set_version(tensor: Tensor, version: int) -> None:
    reset: Callable[..., None] = torch._C._autograd._unsafe_set_version_counter
    try:
        reset((tensor,), (version,))
    except TypeError:  # before torch 2.7: one tensor
        reset(tensor, version)


def _restore_object(item: Any, before: Any) -> None:
    if isinstance(item, dict):
        if len(item) != len(before) or any(
            a is not c or b is not d for (a, b), (c, d) in zip(item.items(), before.items(), strict=True)
        ):
            item.clear()
            item.update(before)
    elif len(item) != len(before) or any(a is not b for a, b in zip(item, before, strict=True)):
        item.clear()
        (item.update if isinstance(item, set) else item.extend)(before)


class _Watching(TorchDispatchMode):
    """Tells the guard what a run writes, where no recorder does."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.guard = guard

    def __torch_dispatch__(self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.guard.before_writing(written_by(func, arguments(func, args, kwargs or {})))
        return func(*args, **(kwargs or {}))


@contextmanager
def untouched(module: nn.Module, others: Any = ()) -> Iterator[Guard]:
    """Restore, at the end, `module` and the other arguments it is called with to their state at the beginning.

    Two threads that run one model take turns, as neither could tell its own writes from the other's. The states of Python's,
    NumPy's and torch's global random generators are restored too.
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
    """Do the same as `untouched`, for a run that no recorder watches."""
    with untouched(module, others) as guard, _Watching(guard):
        yield


def _setting_table() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Yield, for each setting, the functions that read and write it."""
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
    """Restore settings of the entire program that a forward pass may change.

    Args:
        compiled: whether a part of the model is compiled.
    """
    table = [(read, write, read()) for read, write in _setting_table()]
    filters, rows = warnings.filters, list(warnings.filters)
    if compiled:  # torch warns that global hooks run twice for a compiled part; ours allow for it
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks", UserWarning)
    try:
        yield
    finally:
        for read, write, before in table:
            if _comparable(read()) != _comparable(before):
                write(before)
        # Another list means that another thread has entered or left `catch_warnings`: we must not undo that.
        if warnings.filters is filters and list(filters) != rows:
            filters[:] = rows  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]


def shares(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules have a module, or memory of a weight or buffer, in common."""
    if {id(module) for module in a.modules()} & {id(module) for module in b.modules()}:
        return True
    first, second = ({storage_of(t) for t in (*m.parameters(), *m.buffers())} - {None} for m in (a, b))
    return not first.isdisjoint(second)
