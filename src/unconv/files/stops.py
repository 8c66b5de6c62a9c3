"""Handle the signals that stop the program: the end of a run is never interrupted halfway, and `kill` acts like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM; code that handles Ctrl-C handles it, too."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM while the block runs, which must not stop halfway; deliver the first of them at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    deferred: list[int] = []
    # `getsignal` returns None for handlers that Python did not set. They cannot be set again: the default takes their place.
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _STOPS}
    for number in before:
        signal.signal(number, lambda number, _frame: deferred.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if deferred:
            signal.raise_signal(deferred[0])


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` while the block runs, so that open files and processes are closed in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _STOPS}
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stops() -> None:
    """Ignore Ctrl-C and SIGTERM from now on, until the program ends or the end of `terminable` restores their handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
