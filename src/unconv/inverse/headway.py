"""Report the progress of a long computation: the code inside calls `tell`, and the caller listens with `heard`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Callable[[float], None]) -> Iterator[None]:
    """Call `listener` with the share that is done, from 0 to 1, whenever code inside the block reports it."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def part(begin: float, end: float) -> Iterator[None]:
    """Map the shares reported inside the block to the range from `begin` to `end`, and report `end` after it."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    with heard(lambda share: listener(begin + (end - begin) * share)):
        yield
    listener(end)


def tell(share: float) -> None:
    """Report the share that is done to the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(share)
