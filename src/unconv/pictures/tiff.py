"""Read TIFF files with every sample and page: with Pillow where it keeps them all, else strip by strip.

Pillow reduces deep colour, floating-point colour and the stacks of microscopes.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from unconv.errors import PictureError
from unconv.pictures.decode import bands
from unconv.pictures.foreign import refuse_raw
from unconv.pictures.formats import refuse_bomb
from unconv.pictures.tiff_layout import TiffLayout, is_imagej
from unconv.pictures.tiff_library import read_by_library
from unconv.pictures.tiff_pages import Page, read_pages, read_reduced
from unconv.pictures.tiff_samples import page_type, read_page
from unconv.pictures.tiff_stacks import arranged

# TIFF 6.0, tag 274, Orientation: whether rows and columns are swapped, then which axes are reversed.
_TURNS = {
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}
_GREY, _COLOUR, _PALETTE = (0, 1), 2, 3  # photometric interpretations of samples that need no conversion


class Tiff(NamedTuple):
    """The content of a TIFF file.

    Attributes:
        samples: in their own type, upright.
        names: the letters of their axes, such as "TZCYX" or "YXS"; N is an axis that the file does not name.
        alpha: whether the last sample of a pixel is alpha; None if the file does not say.
        layout: how the file is laid out.
    """

    samples: np.ndarray[Any, Any]
    names: str
    alpha: bool | None
    layout: TiffLayout


def read_tiff(path: Path) -> Tiff:
    """Return all samples of a TIFF file in their own type, upright, and how the file holds them.

    Samples deeper than 8 bits are returned as stored, even if the file says that zero is white. So are those of an ImageJ
    picture with a colour table, since they are measurements and the table is only for display.

    Raises:
        PictureError: the file is a decompression bomb, its colours are neither grey nor RGB, or its pages differ in size.
        ValueError: it is damaged or cut off, or has fewer pages than it announces.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        pages = read_pages(file, size)
        if pages[0].raw:
            refuse_raw("measured", path)
        stack, lengths, letters = arranged(pages, size, path.name)
        shapes = sorted({(page.height, page.width) for page in stack})
        if len(shapes) > 1 or len({(page.bits, page.kinds) for page in stack}) > 1:
            raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save each kind in a file of its own.")
        _refuse_bombs(path, stack, size)
        file.seek(0)
        array, page_letters = _by_pillow(file, path, stack) or _by_strips(file, path, stack)
        copies = read_reduced(file, size, stack[0])
    others = [page for page in pages if page.index and page.reduced] if len(stack) == 1 and not copies else []
    reduced = tuple((page.height, page.width) for page in copies or others)
    # Without the offsets of strips, which are true only of this file.
    layout = TiffLayout(tuple(replace(page, starts=(), lengths=()) for page in stack), letters, reduced, bool(copies))
    array = array.reshape(lengths + array.shape[1:])
    return Tiff(
        array,
        letters + page_letters,
        _alpha(stack[0], array.shape[page_letters.index("S") - len(page_letters)] if "S" in page_letters else 1),
        layout,
    )


def _alpha(page: Page, channels: int) -> bool | None:
    """Return whether the last of a page's samples is alpha; None if the file does not say."""
    if page.extra and page.samples == channels:
        return page.extra[-1] in (1, 2)
    # Pillow converts a palette to colours and may add alpha: then there are more channels than samples. In RGB the file should
    # have explained any sample beyond the three, and has not.
    return None if page.photometric == _COLOUR and page.samples == channels else page.samples != channels


def _refuse_bombs(path: Path, pages: list[Page], size: int) -> None:
    # Counted before the first page is decoded: Pillow checks one page at a time, and many small ones can be a bomb together.
    pixels = max(page.height * page.width for page in pages)
    refuse_bomb("measured", str(path), pixels, len(pages), sum(page.nbytes for page in pages), size)


def _by_pillow(file: BinaryIO, path: Path, pages: list[Page]) -> tuple[np.ndarray[Any, Any], str] | None:
    """Read all pages with Pillow, upright; return None if it would not keep every sample."""
    # Pages without tags of their own, which Pillow cannot find, have the index of the page that they follow.
    if not all(_keeps(page) for page in pages) or len({page.index for page in pages}) < len(pages):
        return None
    try:
        image = Image.open(file, formats=["TIFF"])
    except UnidentifiedImageError:
        return None
    arrays: list[np.ndarray[Any, Any]] = []
    for page in pages:
        image.seek(page.index)
        if sorted(image.size) != sorted((page.width, page.height)):  # Pillow 13 gives the upright size
            raise ValueError(f"its page {page.index} is {page.width} x {page.height} by its tags, but {image.size} by Pillow")
        arrays.append(np.asarray(bands("measured", image)))
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save each kind in a file of its own.")
    return (np.stack(arrays) if len(arrays) > 1 else arrays[0][None]), "YXS"[: arrays[0].ndim]


def _keeps(page: Page) -> bool:
    """Return whether Pillow keeps samples of these bits and kinds."""
    kinds = set(page.kinds)
    unknown_compression = page.compression not in TiffImagePlugin.COMPRESSION_INFO
    if unknown_compression or _is_colour_coded(page) or (page.samples > 1 and 0 in _extra_samples(page)):
        return False
    return (max(page.bits) <= 8 and kinds == {1}) or (page.bits, kinds) in [((16,), {1}), ((32,), {2}), ((32,), {3})]


def _is_colour_coded(page: Page) -> bool:
    """Return whether the samples are measurements that ImageJ shows in the colours of a table."""
    return page.photometric == _PALETTE and page.samples == 1 and is_imagej(page.description)


def _extra_samples(page: Page) -> tuple[int, ...]:
    """Return the kinds of the samples beyond grey or RGB, as tag 338 lists them; 0 where the file does not say."""
    count = page.samples - {_COLOUR: 3, _PALETTE: 1, 0: 1, 1: 1}.get(page.photometric, page.samples)
    return page.extra if len(page.extra) == count else (0,) * count


def _by_strips(file: BinaryIO, path: Path, pages: list[Page]) -> tuple[np.ndarray[Any, Any], str]:
    """Read all pages as they are stored, strip by strip, and turn them upright."""
    first = pages[0]
    if first.photometric not in (*_GREY, _COLOUR) and not _is_colour_coded(first):
        raise PictureError(
            f"measured: {path} has colours of photometric interpretation {first.photometric}, deeper than 8 bits, but grey or "
            "RGB was needed. Convert it."
        )
    shape: tuple[int, ...] = (first.height, first.width)
    letters = "YX"
    if first.samples > 1:
        shape, letters = ((first.samples, *shape), "SYX") if first.planar else ((*shape, first.samples), "YXS")
    try:
        uniform = len({(page.samples, page.planar, page_type(page)) for page in pages}) == 1
    except ValueError as error:  # a type or compression that is not decoded here: the libraries may know it
        out, letters = read_by_library(path, pages, str(error))
        return _upright(out, f"N{letters}", first.orientation), letters
    if not uniform:
        raise PictureError(f"measured: the pages of {path} differ in shape or type. Save each kind in a file of its own.")
    out = np.empty((len(pages), *shape), page_type(first))
    for page, array in zip(pages, out, strict=True):
        read_page(file, page, array)
    return _upright(out, f"N{letters}", first.orientation), letters


def import_tifffile(why: str) -> Any:
    """Return the module tifffile.

    Raises:
        PictureError: it is not installed. The message begins with `why`, the reason why it is needed.
    """
    try:
        return importlib.import_module("tifffile")
    except ImportError as error:
        raise PictureError(f'{why}; tifffile can. Install it with pip install "unconv[image]", or use .npy.') from error


def _upright(array: np.ndarray[Any, Any], axes: str, orientation: int) -> np.ndarray[Any, Any]:
    """Rotate and flip the samples by the file's orientation tag; an unknown one is ignored."""
    swapped, backwards = _TURNS.get(orientation, (False, ()))
    y, x = axes.index("Y"), axes.index("X")
    array = array.swapaxes(y, x) if swapped else array
    return np.flip(array, tuple((y, x)[axis] for axis in backwards)) if backwards else array
