"""What the axes of a picture are: as its source says, as the user says, or told by their lengths.

There are two ways to write them. H and W with D, C and N: what is to be done with each axis. Y and X with Z, C, T and S:
what each axis is, as the files of microscopes name them.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unconv.errors import ShapeError

ORDER = "NCDHW"
"""The order of the axes of samples: separate pictures, channels of one picture, and those that a blur runs over."""
_KINDS = {"Y": "H", "X": "W", "S": "C", "D": "D"}  # of the axes of a file; all others are separate pictures
_FEW = 4  # channels of a picture: grey or colour, and alpha
_OPAQUE = 0.1  # the least share of samples of alpha that are opaque
_EXTREME = 0.5  # and of those that are opaque or see-through
_PEAKS = {"uint8": (255.0,), "uint16": (65535.0,)}
_FLOAT_PEAKS = (1.0, 255.0)


def named(shape: tuple[int, ...], axes: str) -> str:
    """Return the axes that were said, in the letters H, W, D, C and N, once they fit the shape.

    Raises:
        ShapeError: they do not.
    """
    said = kinds(axes) if "Y" in axes or "X" in axes else axes.replace("A", "C")
    counts = {letter: said.count(letter) for letter in ORDER}
    if sum(counts.values()) != len(said) or (counts["H"], counts["W"]) != (1, 1) or counts["C"] > 1 or counts["D"] > 1:
        raise ShapeError(
            f"measured: axes is {axes!r}; H and W once, C and D at most once, N for the rest was needed, or the axes of a file "
            "such as TZCYX."
        )
    if len(said) != len(shape):
        raise ShapeError(f"measured: axes is {axes!r}, {len(said)} letters, but the picture is {shape}. Name each of its axes.")
    if 0 in shape:
        raise ShapeError(f"measured: the picture is {shape} and has no samples. Pass one that has some.")
    if "A" in axes and shape[axes.index("A")] not in (2, 4):
        raise ShapeError(
            f"measured: axes is {axes!r}, but of {shape} no channel can be alpha; grey or RGB and alpha were needed."
        )
    return said


def kinds(names: str) -> str:
    """Return the axes of a file, such as "TZCYX", in the letters H, W, C and N: a blur runs over Y and X, colours are S."""
    return "".join(_KINDS.get(letter, "N") for letter in names)


def guessed(shape: tuple[int, ...], tensor: bool) -> str:
    """Tell the axes by their lengths, by the rule that `measured` states.

    Raises:
        ShapeError: they cannot be told.
    """
    *_, first, middle, last = (0, 0, 0, *shape)
    if tensor and len(shape) in (3, 4) and first in (1, 3):
        return "CHW" if len(shape) == 3 else "NCHW"
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3 and 0 not in shape:
        found = "HWC" if last == 3 or (not tensor and last <= _FEW) else _stack(first, middle, last)
        if found:
            return found
    if len(shape) == 4 and 0 < last <= _FEW and (last == 3 or not tensor):
        return "NHWC"
    raise ShapeError(
        f"measured: what the {len(shape)} axes of {shape} are cannot be told; a picture is (H, W), (H, W, 3) or "
        '(N, H, W). Say it, such as axes="NHW" for pictures or wavelengths one by one, axes="HWN" where they come last, or '
        'axes="DHW" for a volume.'
    )


def _stack(first: int, middle: int, last: int) -> str:
    """Tell which of three lengths is not that of a picture's side; "" if that cannot be told."""
    if middle == last or first < min(middle, last):
        return "NHW"
    alike = max(first, middle) * min(middle, last) <= max(middle, last) * min(first, middle)
    if last < min(first, middle) and (first == middle or (2 * last <= min(first, middle) and alike)):
        return "HWN"
    return "NHW" if last >= max(first, middle) and first != middle else ""


def is_alpha(values: np.ndarray | Tensor, at: int) -> bool:
    """Whether the last of 2 or 4 channels looks like alpha: at least half of it clear or opaque, some of it opaque.

    A source that does not say which it is leaves only the samples to tell. Those of a channel that was measured are all
    between.

    Args:
        at: the axis of the channels.
    """
    name = str(values.dtype).removeprefix("torch.")
    last = values.select(at, -1).double() if isinstance(values, Tensor) else np.take(values, -1, at)
    if 0 in last.shape:
        return False
    low, high = float(last.min()), float(last.max())
    peaks = _PEAKS.get(name, _FLOAT_PEAKS if "float" in name else ())
    if low < 0 or high not in peaks:
        return False
    opaque = float(((last == high) * 1.0).mean())
    return opaque >= _OPAQUE and opaque + float(((last == 0) * 1.0).mean()) >= _EXTREME
