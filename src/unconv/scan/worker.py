"""A process that scans shards on one device for the process that started it, and ends with it.

It reads pickles from its standard input, which its parent alone writes: the device, the kit, then shards. On its standard
output it answers in pickles. It writes no file. When its input ends, its parent has ended, however that was.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

from unconv.errors import UnconvError
from unconv.scan.kit import Kit, Scanner

_OFTEN = 0.5  # seconds between two reports


def main() -> None:
    """Scan what standard input asks for, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = queue.SimpleQueue[Any]()
    threading.Thread(target=_listen, args=[sys.stdin.buffer, asked], daemon=True).start()
    try:
        device, kit = str(asked.get()), asked.get()
        assert isinstance(kit, Kit)
        scanner = Scanner(kit, device)
    except Exception as error:
        _answer(answers, "failed", _sendable(error))
        return
    _answer(answers, "ready")
    while True:
        number, entries = asked.get()
        teller = _Teller(answers)
        try:
            content = scanner.scan(number, entries, teller.tell)
        except Exception as error:
            _answer(answers, "failed", _sendable(error))
        else:
            teller.flush()
            _answer(answers, "done", number, content)


def _listen(source: BinaryIO, asked: queue.SimpleQueue[Any]) -> None:
    """Hand on what the parent asks for; end this process at once when the parent has ended."""
    while True:
        try:
            asked.put(pickle.load(source))
        except BaseException:  # the input has ended, perhaps within a pickle
            os._exit(1)


def _answer(answers: BinaryIO, *parts: object) -> None:
    pickle.dump(parts, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()


def _sendable(error: Exception) -> Exception:
    """Return an error of ours as it is; of another its words, with the traceback as a note."""
    if isinstance(error, UnconvError):
        return error
    told = RuntimeError(f"{type(error).__name__}: {error}")
    if sys.version_info >= (3, 11):
        told.add_note(traceback.format_exc())
    return told


class _Teller:
    """Tells the parent of pictures that are done, not of every batch."""

    def __init__(self, answers: BinaryIO) -> None:
        self.answers, self.told = answers, time.monotonic()
        self.pictures, self.forward = 0, 0.0

    def tell(self, pictures: int, forward: float) -> None:
        self.pictures += pictures
        self.forward += forward
        if time.monotonic() - self.told > _OFTEN:
            self.flush()

    def flush(self) -> None:
        _answer(self.answers, "told", self.pictures, self.forward)
        self.pictures, self.forward, self.told = 0, 0.0, time.monotonic()
