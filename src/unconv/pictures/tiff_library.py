"""Decode by tifffile those TIFF pages that our own decoder does not: deep JPEG, JPEG 2000, JPEG XR, LERC, samples of 12 bits.

What the file announces has been checked before; whatever the libraries raise on damaged samples is damage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import PictureError
from unconv.pictures.tiff_pages import Page


def read_by_library(path: Path, pages: list[Page], why: str) -> tuple[np.ndarray[Any, Any], str]:
    """Return the samples of pages as they are stored, and the axes of one page.

    Args:
        why: our own decoder does not read them.

    Raises:
        PictureError: tifffile or imagecodecs is missing, or the file is damaged.
    """
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError as error:
        raise PictureError(f'measured: {path}: {why}; or install what reads it, pip install "unconv[microscopy]".') from error
    try:
        with tifffile.TiffFile(path) as file:
            found = [file.pages[page.index] for page in pages]
            axes = {page.axes for page in found}
            arrays = [page.asarray() for page in found]
    except Exception as error:  # tifffile and forty decoders raise what they like
        raise PictureError(f"measured: {path} is damaged, or packed as no library reads it: {error}.") from error
    if len({(array.shape, array.dtype) for array in arrays}) > 1 or not axes <= {"YX", "YXS", "SYX"} or len(axes) > 1:
        raise PictureError(f"measured: the pages of {path} differ. Save one kind in a file of its own.")
    return np.stack(arrays), axes.pop()
