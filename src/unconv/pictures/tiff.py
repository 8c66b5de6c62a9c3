"""Read TIFF files with every sample and page: by Pillow where it keeps them all, else strip by strip.

Pillow cuts down deep colour, floats in colour, and the stacks of a microscope.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from unconv.errors import PictureError
from unconv.pictures.decode import bands
from unconv.pictures.formats import refuse_bomb
from unconv.pictures.tiff_pages import Page, read_pages
from unconv.pictures.tiff_samples import page_type, read_page
from unconv.pictures.tiff_stacks import arranged

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
_GREY, _COLOUR = (0, 1), 2  # photometrics of samples that mean something as they are


def read_tiff(path: Path) -> tuple[np.ndarray[Any, Any], str]:
    """Return all samples of a TIFF file in their own type, upright, and what its axes are ("HW", "HWC", "NHW", ...).

    Samples deeper than 8 bits are given as stored, also where the file says that zero is white.

    Raises:
        PictureError: a decompression bomb, colours that are neither grey nor RGB, or pages of several sizes.
        ValueError: the file is damaged or cut off, or fewer pages came than it announces.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        stack, lead = arranged(read_pages(file, size), size, path.name)
        shapes = sorted({(page.height, page.width) for page in stack})
        if len(shapes) > 1 or len({(page.bits, page.kinds) for page in stack}) > 1:
            raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save one kind in a file of its own.")
        _refuse_bombs(path, stack, size)
        file.seek(0)
        array, named = _by_pillow(file, path, stack) or _by_strips(file, path, stack)
    return array.reshape(lead + array.shape[1:]), "N" * len(lead) + named


def _refuse_bombs(path: Path, pages: list[Page], size: int) -> None:
    # Counted before the first page is unpacked: Pillow itself looks at one page at a time.
    pixels = max(page.height * page.width for page in pages)
    refuse_bomb("measured", str(path), pixels, len(pages), sum(page.nbytes for page in pages), size)


def _by_pillow(file: BinaryIO, path: Path, pages: list[Page]) -> tuple[np.ndarray[Any, Any], str] | None:
    """Read all pages, upright; None where Pillow would not keep every sample."""
    # Pages without tags of their own have the number of the one they stand behind.
    if not all(_keeps(page) for page in pages) or len({page.index for page in pages}) < len(pages):
        return None
    try:
        image = Image.open(file, formats=["TIFF"])
    except UnidentifiedImageError:
        return None
    arrays: list[np.ndarray[Any, Any]] = []
    for page in pages:
        image.seek(page.index)
        if sorted(image.size) != sorted((page.width, page.height)):  # Pillow 13 gives the size it will have once upright
            raise ValueError(f"its page {page.index} is {page.width} x {page.height} or {image.size}, as one reads it")
        arrays.append(np.asarray(bands("measured", image)))
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save one kind in a file of its own.")
    return (np.stack(arrays) if len(arrays) > 1 else arrays[0][None]), "HWC"[: arrays[0].ndim]


def _keeps(page: Page) -> bool:
    """Whether Pillow keeps these bits and this kind of sample."""
    kinds = set(page.kinds)
    return (max(page.bits) <= 8 and kinds == {1}) or (page.bits, kinds) in [((16,), {1}), ((32,), {2}), ((32,), {3})]


def _by_strips(file: BinaryIO, path: Path, pages: list[Page]) -> tuple[np.ndarray[Any, Any], str]:
    """Read all pages as they are stored, and turn them upright."""
    first = pages[0]
    if first.photometric not in (*_GREY, _COLOUR):
        raise PictureError(
            f"measured: {path} is in colours of the kind {first.photometric}, deeper than 8 bits; grey or RGB was needed. "
            "Convert it."
        )
    shape: tuple[int, ...] = (first.height, first.width)
    named = "HW"
    if first.samples > 1:
        shape, named = ((first.samples, *shape), "CHW") if first.planar else ((*shape, first.samples), "HWC")
    if len({(page.samples, page.planar, page_type(page)) for page in pages}) > 1:
        raise PictureError(f"measured: the pages of {path} differ. Save one kind in a file of its own.")
    out = np.empty((len(pages), *shape), page_type(first))
    for page, array in zip(pages, out, strict=True):
        read_page(file, page, array)
    return _upright(out, f"N{named}", first.orientation), named


def import_tifffile(why: str) -> Any:
    """Import tifffile.

    Raises:
        PictureError: it is not installed; the message begins with `why` it is needed.
    """
    try:
        return importlib.import_module("tifffile")
    except ImportError as error:
        raise PictureError(f'{why}; tifffile can. Install it with pip install "unconv[image]", or use .npy.') from error


def _upright(array: np.ndarray[Any, Any], axes: str, turn: int) -> np.ndarray[Any, Any]:
    """Turn the samples as the file's orientation tag says; an unknown one is ignored."""
    swapped, backwards = _TURNS.get(turn, (False, ()))
    y, x = axes.index("H"), axes.index("W")
    array = array.swapaxes(y, x) if swapped else array
    return np.flip(array, tuple((y, x)[axis] for axis in backwards)) if backwards else array
