"""What unconv raises: one family, each also the built-in error it is a case of.

UnconvError
├── ShapeError     (ValueError)           sizes, ranks or settings that do not fit
├── DtypeError     (TypeError)            a number type, or a kind of argument, that does not fit
├── Inexpressible  (ValueError)           a call that the other library's function cannot express
├── NoRule         (NotImplementedError)  an operation without a rule to run it backwards
├── NoSuchLayer    (LookupError)          a place that the network does not have
├── NoSuchUnit     (IndexError)           a channel, a position or an index outside the map
├── ModelError     (RuntimeError)         a network that cannot be recorded faithfully
├── NonFinite      (ArithmeticError)      NaN or infinite values where numbers are needed
├── ScanError      (RuntimeError)         a scan that cannot continue, or an index that cannot be read
├── PictureError   (OSError)              a picture that cannot be read
├── TraceError     (OSError)              measured traces that cannot be read
├── RecordingError (OSError)              sound or radio samples that cannot be read
├── WeightsError   (OSError)              weights that cannot be read or do not fit
└── WriteError     (OSError)              a file, a folder or standard output that cannot be written
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

# Unicode's categories: control, format (which can reverse the direction of text), surrogate, line and paragraph separators.
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")


class UnconvError(Exception):
    """The base of every error that unconv raises on purpose: what came, what was needed, what to do.

    A message may contain names from somebody's file, so `str` escapes the characters that would control a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class ShapeError(UnconvError, ValueError):
    """A size, rank or setting that does not fit."""


class DtypeError(UnconvError, TypeError):
    """A number type, a device or a kind of argument that does not fit."""


class Inexpressible(UnconvError, ValueError):
    """A call that the other library's function cannot express."""


class NoRule(UnconvError, NotImplementedError):
    """An operation without a reverse rule in the method's table."""


class NoSuchLayer(UnconvError, LookupError):
    """A place that the network does not have."""


class NoSuchUnit(UnconvError, IndexError):
    """A channel, position or index outside the map."""


class ModelError(UnconvError, RuntimeError):
    """A network that cannot be recorded faithfully."""


class NonFinite(UnconvError, ArithmeticError):
    """NaN or infinity where a number is needed."""


class ScanError(UnconvError, RuntimeError):
    """A scan of a different run, a folder without a scan, or an incomplete scan."""


class PictureError(UnconvError, OSError):
    """A picture that is missing, damaged, too large or of an unknown format."""


class TraceError(UnconvError, OSError):
    """A file of measured traces that is missing, damaged or of an unknown format, or whose sampling rate is unclear."""


class RecordingError(UnconvError, OSError):
    """A file of sound or radio samples that is missing, damaged or of an unknown format, or whose rate is unclear."""


class WeightsError(UnconvError, OSError):
    """Weights that are missing, damaged or made for another architecture."""


class WriteError(UnconvError, OSError):
    """A file, a folder or standard output that cannot be written; the system's own error is its `__cause__`."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the three names most similar to `name`, for the end of an error message."""
    return ", ".join(get_close_matches(name, list(names), n=3, cutoff=0.0))


def counted(number: int, noun: str) -> str:
    """Return a count with its noun, in the singular for 1: "1 place", "2 places"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, keep: str = "") -> str:
    """Return `text` safe to print on a terminal: characters that would control it are escaped, as \\x1b or \\u202e.

    Args:
        text: a name from a file, or a message that contains such names.
        keep: control characters to leave as they are, such as line ends.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter in keep or unicodedata.category(letter) not in STEERING else letter.encode("unicode_escape").decode()
        for letter in text
    )
