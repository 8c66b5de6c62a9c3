"""The program of a worker: it scans shards on one device for the process that started it, and ends together with it.

It reads pickles from its standard input, which only its parent writes: the device, the kit, then shards. It answers with
pickles on its standard output, and writes no file. When its input ends, its parent has ended in one way or another.
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

_REPORT_INTERVAL = 0.5  # seconds


def main() -> None:
    """Scan the shards that arrive on standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what libraries print does not mix with the answers
    requests = queue.SimpleQueue[Any]()
    threading.Thread(target=_listen, args=[sys.stdin.buffer, requests], daemon=True).start()
    try:
        device, kit = str(requests.get()), requests.get()
        assert isinstance(kit, Kit)
        scanner = Scanner(kit, device)
    except Exception as error:
        _answer(answers, "failed", _sendable(error))
        return
    _answer(answers, "ready")
    while True:
        number, entries = requests.get()
        reporter = _Reporter(answers)
        try:
            content = scanner.scan(number, entries, reporter.tell)
        except Exception as error:
            _answer(answers, "failed", _sendable(error))
        else:
            reporter.flush()
            _answer(answers, "done", number, content)


def _listen(source: BinaryIO, requests: queue.SimpleQueue[Any]) -> None:
    """Queue the parent's requests; end this process at once when the parent has ended."""
    while True:
        try:
            requests.put(pickle.load(source))
        except BaseException:  # the input has ended, perhaps within a pickle
            os._exit(1)


def _answer(answers: BinaryIO, *parts: object) -> None:
    pickle.dump(parts, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()


def _sendable(error: Exception) -> Exception:
    """Return our own errors unchanged; replace others, which may not be picklable, by their text and traceback."""
    if isinstance(error, UnconvError):
        return error
    replacement = RuntimeError(f"{type(error).__name__}: {error}")
    if sys.version_info >= (3, 11):
        replacement.add_note(traceback.format_exc())
    return replacement


class _Reporter:
    """Report finished pictures to the parent now and then, not after every batch."""

    def __init__(self, answers: BinaryIO) -> None:
        self.answers, self.reported = answers, time.monotonic()
        self.pictures, self.forward = 0, 0.0

    def tell(self, pictures: int, forward: float) -> None:
        self.pictures += pictures
        self.forward += forward
        if time.monotonic() - self.reported > _REPORT_INTERVAL:
            self.flush()

    def flush(self) -> None:
        _answer(self.answers, "advanced", self.pictures, self.forward)
        self.pictures, self.forward, self.reported = 0, 0.0, time.monotonic()
