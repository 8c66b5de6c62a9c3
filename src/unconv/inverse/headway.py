"""How far a long step has come: told by what works inside it, heard by who shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Callable[[float], None]) -> Iterator[None]:
    """Have `listener` told which share is done, from 0 to 1, whenever something inside says it."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def part(begin: float, end: float) -> Iterator[None]:
    """Count what is told inside as the part from `begin` to `end`, and tell at its end that it is done."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    with heard(lambda share: listener(begin + (end - begin) * share)):
        yield
    listener(end)


def tell(share: float) -> None:
    """Say which share is done, if anybody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(share)
