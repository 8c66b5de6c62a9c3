"""Standard output and standard error whose failures are reported in one line, even at the last flush."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from unconv.errors import WriteError


class Output(io.TextIOWrapper):
    """Standard output that reports a full disk or a closed pipe in our own words."""

    _failure: WriteError | None = None

    def write(self, text: str) -> int:
        with self._reported():
            return super().write(text)

    def flush(self) -> None:
        with self._reported():
            super().flush()

    def settle(self) -> None:
        """Flush the output, and raise any earlier failure: a library may have swallowed the error."""
        self.flush()
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _discard(self.fileno())
            self._failure = WriteError(
                f"output: standard output could not be written completely: {error.strerror}. "
                "Send it to a disk with space, or to a program that reads all of it."
            )
            raise self._failure from error


class _Remarks(io.TextIOWrapper):
    """Standard error whose failures are ignored: a run must not fail because its remarks cannot be written."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        _discard(self.fileno())
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def use_own_streams() -> None:
    """Replace standard output and error by streams that report failures, and simplify letters that the encoding lacks."""
    codecs.register_error("unconv", _plainer)
    # If one of them is closed, the next file opened would get its number, and everything printed would go into that file.
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number; number 1 is read-only, so that printing fails
    for name, number, kind in (("stdout", 1, Output), ("stderr", 2, _Remarks)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, kind(open(number, "wb", closefd=False), encoding="utf-8", errors="unconv"))
        elif stream is getattr(sys, f"__{name}__") and type(stream) is io.TextIOWrapper:
            lines, through = stream.line_buffering, stream.write_through
            setattr(sys, name, kind(stream.buffer, stream.encoding, "unconv", line_buffering=lines, write_through=through))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="unconv")


def _discard(number: int) -> None:
    """Discard what a stream still buffers: Python would write it on exit, fail again, and print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return simpler letters for those that the terminal's encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    plain = {"□": "o", "■": "#", "·": ".", "×": "x", "−": "-", "≤": "<="}
    return "".join(plain.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
