"""Read TIFF files with every sample and page: by Pillow where it keeps them all, else by tifffile, an extra of ours.

Pillow cuts down deep colour, floats in colour, and the stacks of a microscope.
"""

from __future__ import annotations

import importlib
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from unconv.errors import PictureError, ShapeError
from unconv.pictures.decode import bands, refuse_bomb

# TIFF 6.0, tag 274, Orientation: are rows and columns swapped, then which axes run backwards.
_TURNS = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}
_AXES = {"Y": "H", "X": "W", "S": "C"}  # everything else that tifffile tells apart is a stack of pictures


def read_tiff(path: Path) -> tuple[np.ndarray[Any, Any], str]:
    """Return all samples of a TIFF file in their own type, upright, and what its axes are ("HW", "HWC", "NHW", ...).

    Samples deeper than 8 bits are given as stored, also where the file says that zero is white.

    Raises:
        PictureError: tifffile is needed and not installed; the file is cut off, a decompression bomb, of colours that
            are neither grey nor RGB, or holds pictures of several sizes.
    """
    # tifffile is slower, so that it reads only what Pillow would cut down.
    return _by_pillow(path) or _by_tifffile(path)


def _by_pillow(path: Path) -> tuple[np.ndarray[Any, Any], str] | None:
    """Read all pages, upright; None where Pillow would not keep every sample."""
    arrays: list[np.ndarray[Any, Any]] = []
    with path.open("rb") as file:
        try:
            image: Any = Image.open(file)
        except UnidentifiedImageError:
            return None
        # Counted before the first page is unpacked: Pillow itself looks at one page at a time.
        pixels, pages = math.prod(image.size), image.n_frames
        refuse_bomb("measured", str(path), pixels, pages, pixels * pages, path.stat().st_size)
        for page in range(pages):
            image.seek(page)
            if not _keeps(image.tag_v2):
                return None
            if not image.tag_v2.get(254, 0) & 1 or not page:  # a small copy of another page
                arrays.append(np.asarray(bands("measured", image)))
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save one kind in a file of its own.")
    layout = "HWC"[: arrays[0].ndim]
    return (arrays[0], layout) if len(arrays) == 1 else (np.stack(arrays), "N" + layout)


def _keeps(tags: Any) -> bool:
    """Pillow keeps these bits and this kind of sample, and no page hides behind the first (ImageJ, tifffile)."""
    bits, kinds = tags.get(258, (1,)), set(tags.get(339, (1,)))
    hidden = re.search(r"^images=|\"truncated\": true|<OME ", str(tags.get(270, "")), re.M)
    return not hidden and ((max(bits) <= 8 and kinds == {1}) or (bits, kinds) in [((16,), {1}), ((32,), {2}), ((32,), {3})])


def _by_tifffile(path: Path) -> tuple[np.ndarray[Any, Any], str]:
    """Read the one series of pictures in the file; copies of reduced size are passed over."""
    tifffile = import_tifffile(f"measured: {path} is a TIFF file that Pillow cannot read whole")
    with _complaints(tifffile) as complaints, tifffile.TiffFile(path) as file:
        series = [found for found in file.series if not found.keyframe.is_reduced]
        if len(series) != 1:
            raise PictureError(
                f"measured: {path} holds {len(series)} pictures of different sizes. Save one in a file of its own."
            )
        _check(path, series[0])
        try:
            array = series[0].asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise PictureError(f"measured: {path}: {error}. Install it with pip install imagecodecs.") from error
            raise
        # Unsqueezed: a picture of one row keeps its axis of length 1, those of a stack of one are dropped below.
        shape, axes = series[0].get_shape(False), series[0].get_axes(False)
        turn = series[0].keyframe.tags.valueof(274, 1)
    if complaints:
        raise PictureError(f"measured: {path} is damaged or cut off: {complaints[0]}.")
    kept = [n for n, axis in enumerate(axes) if axis in "YX" or shape[n] > 1]
    array = array.reshape([shape[n] for n in kept])
    named = "".join(_AXES.get(axes[n], "N") for n in kept)
    return _upright(array, named, turn), named


def import_tifffile(why: str) -> Any:
    """Import tifffile.

    Raises:
        PictureError: it is not installed; the message begins with `why` it is needed.
    """
    try:
        return importlib.import_module("tifffile")
    except ImportError as error:
        raise PictureError(f'{why}; tifffile can. Install it with pip install "unconv[image]", or use .npy.') from error


def _check(path: Path, series: Any) -> None:
    """Refuse, before it is unpacked, what is too large or has no samples that we can name."""
    page, packed = series.keyframe, path.stat().st_size
    pixels, pages = page.imagelength * page.imagewidth, -(-series.size // page.size)
    refuse_bomb("measured", str(path), pixels, pages, series.nbytes, packed)
    if int(page.photometric) not in (0, 1, 2):
        colours = getattr(page.photometric, "name", page.photometric)
        raise PictureError(f"measured: {path} is in {colours} colours, deeper than 8 bits; grey or RGB was needed. Convert it.")
    if series.dtype is None or 0 in series.shape:
        raise ShapeError(f"measured: {path} has samples of no single type, or none: shape {series.shape}.")


@contextmanager
def _complaints(tifffile: Any) -> Iterator[list[str]]:
    """Collect what tifffile only logs while it goes on with fewer pages, and keep it from the screen.

    Its own error becomes a ValueError, which it is since 2025, and which our reader takes for damage.
    """
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or "invalid page offset" in record.getMessage():
                heard.append(record.getMessage())

    logger, listener = logging.getLogger("tifffile"), Listener()
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        yield heard
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagates


def _upright(array: np.ndarray[Any, Any], axes: str, turn: int) -> np.ndarray[Any, Any]:
    """Turn the samples as the file's orientation tag says; an unknown one is ignored."""
    swapped, backwards = _TURNS.get(turn, (False, ()))
    y, x = axes.index("H"), axes.index("W")
    array = array.swapaxes(y, x) if swapped else array
    return np.flip(array, tuple((y, x)[axis] for axis in backwards)) if backwards else array
