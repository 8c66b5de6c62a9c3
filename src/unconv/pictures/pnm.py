"""Read and write PGM and PPM files whose white is not 255, as 12-bit cameras write them, with their samples as stored.

Pillow would scale the samples.

Source:
    netpbm, "PGM Format Specification" and "PPM Format Specification" (2013 and 2016).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unconv.errors import PictureError
from unconv.pictures.formats import refuse_bomb

_KINDS = {b"P2": (False, 1), b"P3": (False, 3), b"P5": (True, 1), b"P6": (True, 3)}  # binary or text; samples per pixel
_LONGEST = 1 << 16  # bytes of a header with its comments
_USUAL, _LARGEST = 255, 65535
_NUMBER = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})")  # after white space and comments


class Pnm(NamedTuple):
    """The samples of a PGM or PPM file, (H, W) or (H, W, 3), uint8 or uint16, and the value of white."""

    samples: np.ndarray[Any, Any]
    white: int


def read_pnm(path: Path) -> Pnm | None:
    """Return the samples of a PGM or PPM file as stored; None for other files, and if white is 255.

    Raises:
        PictureError: the file is a decompression bomb.
        ValueError: it is damaged or cut off.
    """
    with path.open("rb") as file:
        start = file.read(_LONGEST)
        if start[:2] not in _KINDS:
            return None
        binary, channels = _KINDS[start[:2]]
        (width, height, white), offset = _header(start)
        if white == _USUAL:
            return None
        if not (width and height and 0 < white <= _LARGEST):
            raise ValueError(
                f"it is {width} x {height} pixels with white at {white}; at least one and 1 to {_LARGEST} were needed"
            )
        size = path.stat().st_size
        count = width * height * channels
        stored = np.dtype(">u2" if white > _USUAL else "u1")
        # Before any sample is read: the header alone decides how much memory that takes.
        refuse_bomb("measured", str(path), width * height, 1, count * stored.itemsize, size)
        file.seek(offset)
        if binary:
            raw = file.read(count * stored.itemsize)
            if len(raw) < count * stored.itemsize:
                raise ValueError(f"it holds {len(raw)} of {count * stored.itemsize} bytes of samples")
            values = np.frombuffer(raw, stored)
        else:
            values = _from_text(file.read(), count)
    if int(values.min()) < 0 or int(values.max()) > white:
        raise ValueError(
            f"it holds samples from {int(values.min())} to {int(values.max())}, but its header allows 0 to {white}"
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Pnm(values.reshape(shape).astype(stored.newbyteorder("=")), white)


def encoded_pnm(array: np.ndarray[Any, Any], white: int, name: str) -> bytes:
    """Return the bytes of a PGM or PPM file with samples (H, W) or (H, W, 3).

    Raises:
        PictureError: a sample is above `white`.
    """
    if array.size and int(array.max()) > white:
        raise PictureError(
            f"save: {name} holds samples up to {white}, but the largest is {int(array.max())}. Save it as .png or .tif."
        )
    height, width = array.shape[:2]
    stored = array.astype(">u2" if white > _USUAL else "u1")
    return f"P{5 if array.ndim == 2 else 6}\n{width} {height}\n{white}\n".encode() + stored.tobytes()


def refuse_channels(channels: int, name: str) -> None:
    """Refuse channels that are neither grey nor RGB.

    Raises:
        PictureError: there is another number of them.
    """
    if channels not in (1, 3):
        raise PictureError(
            f"save: {name} holds 1 channel (grey) or 3 (RGB), but the picture has {channels}. Save it as .png or .tif."
        )


def _header(start: bytes) -> tuple[tuple[int, int, int], int]:
    """Return width, height and white, and the offset of the samples, which begin after one white-space character."""
    numbers: list[int] = []
    offset = 2
    while len(numbers) < 3:
        match = _NUMBER.match(start, offset)
        if match is None:
            raise ValueError("its header does not state width, height and white")
        numbers.append(int(match[1]))
        offset = match.end()
    if not start[offset : offset + 1].isspace():
        raise ValueError("no white space follows its header")
    return (numbers[0], numbers[1], numbers[2]), offset + 1


def _from_text(content: bytes, count: int) -> np.ndarray[Any, Any]:
    """Return the first `count` numbers in the text of a P2 or P3 file."""
    lines = [line.split(b"#")[0] for line in content.splitlines()] if b"#" in content else [content]
    words = b" ".join(lines).split()
    if len(words) < count or not content[-1:].isspace():  # the last number may have lost digits
        raise ValueError(f"it holds {len(words)} of {count} numbers, or its last one does not end in white space")
    return np.array(words[:count], dtype=np.int64)
