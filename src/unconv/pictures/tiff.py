"""TIFF files that Pillow would cut down: deep colour, floats in colour, stacks of a microscope. Needs tifffile."""

from __future__ import annotations

import importlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unconv.errors import PictureError, ShapeError

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
    """All samples of a TIFF file in their own type, upright, and what its axes are ("HW", "HWC", "NHW", ...).

    Samples deeper than 8 bits are given as stored, also where the file says that zero is white.

    Raises:
        PictureError: tifffile is not installed; the file is cut off, a decompression bomb, of colours that are
            neither grey nor RGB, or holds pictures of several sizes.
    """
    tifffile = _tifffile(f"measured: {path} is a TIFF file that Pillow cannot read whole")
    with _complaints() as complaints, tifffile.TiffFile(path) as file:
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
        shape, axes = series[0].get_shape(False), series[0].get_axes(False)
        turn = series[0].keyframe.tags.valueof(274, 1)
    if complaints:
        raise PictureError(f"measured: {path} is damaged or cut off: {complaints[0]}.")
    kept = [n for n, axis in enumerate(axes) if axis in "YX" or shape[n] > 1]
    array = array.reshape([shape[n] for n in kept])
    named = "".join(_AXES.get(axes[n], "N") for n in kept)
    return _upright(array, named, turn), named


def encode_tiff(array: np.ndarray[Any, Any], channels: bool) -> bytes:
    """A TIFF file's bytes: (H, W), or pages (N, H, W), with `channels` a last axis of 2, 3 or 4; each type kept."""
    tifffile = _tifffile(f"save: {array.dtype} of shape {array.shape} is beyond what Pillow writes into TIFF")
    colours = array.shape[-1] if channels else 1
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        array,
        photometric="rgb" if colours > 2 else "minisblack",
        planarconfig="contig" if channels else None,
        extrasamples=["unassalpha"] if colours in (2, 4) else None,
        metadata=None,
    )
    return buffer.getvalue()


def check_size(what: str, pixels: int, pages: int, unpacked: int, packed: int) -> None:
    """Refuse a decompression bomb: `pixels` a page beyond Pillow's limit, or a stack beyond it packed 100 times smaller.

    Args:
        what: named in the message.
        unpacked, packed: bytes in memory and in the file.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and (pixels > limit or (pixels * pages > limit and unpacked > 100 * packed)):
        raise PictureError(
            f"measured: {what} unpacks to {pages} x {pixels} pixels, more than {limit}; refused as a decompression "
            "bomb. Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        )


def _tifffile(why: str) -> Any:
    try:
        return importlib.import_module("tifffile")
    except ImportError as error:
        raise PictureError(f'{why}; tifffile can. Install it with pip install "unconv[image]", or use .npy.') from error


def _check(path: Path, series: Any) -> None:
    page, packed = series.keyframe, path.stat().st_size
    check_size(str(path), page.imagelength * page.imagewidth, -(-series.size // page.size), series.nbytes, packed)
    if int(page.photometric) not in (0, 1, 2):
        colours = getattr(page.photometric, "name", page.photometric)
        raise PictureError(f"measured: {path} is in {colours} colours, deeper than 8 bits; grey or RGB was needed. Convert it.")
    if series.dtype is None or 0 in series.shape:
        raise ShapeError(f"measured: {path} has samples of no single type, or none: shape {series.shape}.")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile only logs while it goes on with fewer pages; kept from the screen."""
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
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagates


def _upright(array: np.ndarray[Any, Any], axes: str, turn: int) -> np.ndarray[Any, Any]:
    """Turned as the file's orientation tag says; an unknown one is ignored."""
    swapped, backwards = _TURNS.get(turn, (False, ()))
    y, x = axes.index("H"), axes.index("W")
    array = array.swapaxes(y, x) if swapped else array
    return np.flip(array, tuple((y, x)[axis] for axis in backwards)) if backwards else array
