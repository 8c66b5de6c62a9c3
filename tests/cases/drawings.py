"""What tests of drawings look at: decoded pixels, which of them have a colour, and where the axes run."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from unconv.render.panels import QUIET


def opened(png):
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and picture.size == (1600, 1120) and round(picture.info["dpi"][0]) == 200
    assert len(png) < 8_000_000
    return picture


def decoded(png):
    """The picture as (height, width, 3) whole numbers."""
    picture = opened(png)
    return np.asarray(picture.convert("RGB")).astype(np.int16)


def near(pixels, colour, within=40):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.int16)
    return np.abs(pixels - wanted).max(-1) <= within


def spine(pixels, axis):
    """First and last pixel of the first panel's left side for axis 0, and of the last panel's lower side for axis 1."""
    drawn = near(pixels, QUIET, 30)
    counts = drawn.sum(axis)
    lines = np.flatnonzero(counts > 0.6 * counts.max())
    where = np.flatnonzero(drawn[:, lines[0]] if axis == 0 else drawn[lines[-1]])
    longest = max(np.split(where, np.flatnonzero(np.diff(where) > 6) + 1), key=len)
    return longest[0], longest[-1]
