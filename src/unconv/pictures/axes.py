"""Name the axes of a picture: as its source or the user names them, or guessed from their lengths.

There are two ways to write them. H and W with D, C and N say what is done with each axis. Y and X with Z, C, T and S
say what each axis is, as the files of microscopes do.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unconv.errors import ShapeError

ORDER = "NCDHW"
"""The order of the axes of samples: separate pictures, channels of one picture, and those that a blur runs over."""
_KINDS = {"Y": "H", "X": "W", "S": "C", "D": "D"}  # letters of a file's axes; all others count separate pictures
_FEW = 4  # the most channels a picture has: red, green, blue and alpha
_OPAQUE = 0.1  # the least share of alpha's samples that are opaque
_EXTREME = 0.5  # the least share that are either opaque or clear
_PEAKS = {"uint8": (255.0,), "uint16": (65535.0,)}
_FLOAT_PEAKS = (1.0, 255.0)


def named(shape: tuple[int, ...], axes: str) -> str:
    """Return the axes that the user named, in the letters H, W, D, C and N, checked against the shape.

    Raises:
        ShapeError: they do not fit it.
    """
    said = kinds(axes) if "Y" in axes or "X" in axes else axes.replace("A", "C")
    counts = {letter: said.count(letter) for letter in ORDER}
    if sum(counts.values()) != len(said) or (counts["H"], counts["W"]) != (1, 1) or counts["C"] > 1 or counts["D"] > 1:
        raise ShapeError(
            f"measured: axes is {axes!r}, but H and W once, C and D at most once, and N for the rest were needed, or a file's "
            "axes such as TZCYX. Name them so."
        )
    if len(said) != len(shape):
        raise ShapeError(f"measured: axes is {axes!r}, {len(said)} letters, but the picture is {shape}. Name each of its axes.")
    if 0 in shape:
        raise ShapeError(f"measured: the picture is {shape} and has no samples. Pass one with samples.")
    if "A" in axes and shape[axes.index("A")] not in (2, 4):
        raise ShapeError(
            f"measured: axes is {axes!r} and the picture {shape}, but alpha is the last of 2 or 4 channels. Use C, not A."
        )
    return said


def kinds(names: str) -> str:
    """Translate a file's axes, such as "TZCYX", to the letters H, W, C and N: Y and X are blurred, S holds colours."""
    return "".join(_KINDS.get(letter, "N") for letter in names)


def guessed(shape: tuple[int, ...], tensor: bool) -> str:
    """Guess the axes from their lengths, by the rule that `measured` states.

    Raises:
        ShapeError: the lengths leave it open.
    """
    *_, first, middle, last = (0, 0, 0, *shape)
    if tensor and len(shape) in (3, 4) and first in (1, 3):
        return "CHW" if len(shape) == 3 else "NCHW"
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3 and 0 not in shape:
        axes = "HWC" if last == 3 or (not tensor and last <= _FEW) else _stack(first, middle, last)
        if axes:
            return axes
    if len(shape) == 4 and 0 < last <= _FEW and (last == 3 or not tensor):
        return "NHWC"
    raise ShapeError(
        f"measured: the picture is {shape}, and these lengths do not tell what its axes are; (H, W), (H, W, 3) or "
        '(N, H, W) was needed. Name the axes: axes="NHW" for separate pictures or wavelengths, axes="HWN" if these come last, '
        'axes="DHW" for a volume.'
    )


def _stack(first: int, middle: int, last: int) -> str:
    """Guess which of three axes counts separate pictures, the first or the last; "" if the lengths leave it open."""
    if middle == last or first < min(middle, last):
        return "NHW"
    # The last axis counts pictures only if the first two look more like a picture's sides, being nearer to a square, than the
    # last two do.
    alike = max(first, middle) * min(middle, last) <= max(middle, last) * min(first, middle)
    if last < min(first, middle) and (first == middle or (2 * last <= min(first, middle) and alike)):
        return "HWN"
    return "NHW" if last >= max(first, middle) and first != middle else ""


def is_alpha(values: np.ndarray | Tensor, at: int) -> bool:
    """Return whether the last of 2 or 4 channels looks like alpha: half of it or more is clear or opaque, a tenth opaque.

    If a source does not say what its last channel is, only the samples can. Those of a measured channel mostly lie between
    the two ends.

    Args:
        at: the index of the channel axis.
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
