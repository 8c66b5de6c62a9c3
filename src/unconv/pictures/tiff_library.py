"""Decode with tifffile the TIFF pages that our own decoder does not read: deep JPEG, JPEG 2000, JPEG XR, LERC, 12-bit samples.

The sizes that the file announces have been checked before. Whatever the libraries then raise means damaged samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import PictureError
from unconv.pictures.tiff_pages import Page


def read_by_library(path: Path, pages: list[Page], why: str) -> tuple[np.ndarray[Any, Any], str]:
    """Return the samples of `pages` as they are stored, and the axes of one page.

    Args:
        why: the reason why our own decoder does not read them, for the message.

    Raises:
        PictureError: tifffile or imagecodecs is missing, or the file is damaged.
    """
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError as error:
        raise PictureError(
            f'measured: {path}: {why}; or install the libraries that read it, pip install "unconv[microscopy]".'
        ) from error
    try:
        with tifffile.TiffFile(path) as file:
            library_pages = [file.pages[page.index] for page in pages]
            axes = {page.axes for page in library_pages}
            arrays = [page.asarray() for page in library_pages]
    except Exception as error:  # tifffile and some forty decoders raise errors of any kind
        raise PictureError(f"measured: {path} is damaged, or compressed in a way that no library reads: {error}.") from error
    if len({(array.shape, array.dtype) for array in arrays}) > 1 or not axes <= {"YX", "YXS", "SYX"} or len(axes) > 1:
        raise PictureError(f"measured: the pages of {path} differ in shape or type. Save each kind in a file of its own.")
    return np.stack(arrays), axes.pop()
