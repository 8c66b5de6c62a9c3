"""Standard output and standard error: what they do not take is said in one line, also when the last of it is written."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from unconv.errors import WriteError


class Output(io.TextIOWrapper):
    """Standard output with words for a full disk and a reader that has gone."""

    _lost: WriteError | None = None

    def write(self, text: str) -> int:
        with self._in_words():
            return super().write(text)

    def flush(self) -> None:
        with self._in_words():
            super().flush()

    def settle(self) -> None:
        """Write what is held back, and raise what went wrong at any time: a library may have kept it to itself."""
        self.flush()
        if self._lost is not None:
            raise self._lost

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _lead_nowhere(self.fileno())
            self._lost = WriteError(
                f"output: standard output did not take all of it: {error.strerror}. "
                "Send it to a file that has room, or to a program that reads it all."
            )
            raise self._lost from error


class _Remarks(io.TextIOWrapper):
    """Standard error: a run does not fail because nobody hears its remarks."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        _lead_nowhere(self.fileno())
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def use_own_streams() -> None:
    """Have standard output and standard error say what they do not take, and write plainer what an encoding lacks."""
    codecs.register_error("unconv", _stand_in)
    # Where one is closed, the next file that is opened would get its number, and what is printed.
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number; at 1, one that takes nothing
    for name, number, kind in (("stdout", 1, Output), ("stderr", 2, _Remarks)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, kind(open(number, "wb", closefd=False), encoding="utf-8", errors="unconv"))
        elif stream is getattr(sys, f"__{name}__") and type(stream) is io.TextIOWrapper:
            lines, through = stream.line_buffering, stream.write_through
            setattr(sys, name, kind(stream.buffer, stream.encoding, "unconv", line_buffering=lines, write_through=through))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="unconv")


def _lead_nowhere(number: int) -> None:
    """Let what is still held back for a stream go nowhere: Python writes it when it ends, and has no words of its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Return something plainer for what the terminal's encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    plain = {"□": "o", "■": "#", "·": ".", "×": "x", "−": "-", "≤": "<="}
    return "".join(plain.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
