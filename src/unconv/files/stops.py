"""Signals that stop the program: the end of a run is not stopped halfway, and `kill` is answered like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which whoever handles Ctrl-C handles as well."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM while something is done that must not stop halfway; the first one comes at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    held: list[int] = []
    # Handlers that Python did not set come back as None and cannot be set again; the system's own stands for them.
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _STOPS}
    for number in before:
        signal.signal(number, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM raise `Terminated`, so that what is open is ended in order."""
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
    """Ignore Ctrl-C and SIGTERM from here on: the program is ending, or the end of `terminable` sets them back."""
    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
