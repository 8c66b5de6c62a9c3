"""Read TIFF files with every sample and page: by Pillow where it keeps them all, else strip by strip.

Pillow cuts down deep colour, floats in colour, and the stacks of a microscope.
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
_GREY, _COLOUR, _PALETTE = (0, 1), 2, 3  # photometrics of samples that mean something as they are


class Tiff(NamedTuple):
    """What a TIFF file holds.

    Attributes:
        samples: in their own type, upright.
        names: of their axes, such as "TZCYX" or "YXS"; N is one of which the file says nothing.
        alpha: whether the last sample of a pixel is alpha; None if the file does not say what it is.
        layout: how the file is laid out.
    """

    samples: np.ndarray[Any, Any]
    names: str
    alpha: bool | None
    layout: TiffLayout


def read_tiff(path: Path) -> Tiff:
    """Return all samples of a TIFF file in their own type, upright, and how it holds them.

    Samples deeper than 8 bits are given as stored, also where the file says that zero is white; those of a picture of
    ImageJ that looks them up in a table of colours, too.

    Raises:
        PictureError: a decompression bomb, colours that are neither grey nor RGB, or pages of several sizes.
        ValueError: the file is damaged or cut off, or fewer pages came than it announces.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        pages = read_pages(file, size)
        if pages[0].raw:
            refuse_raw("measured", path)
        stack, lead, letters = arranged(pages, size, path.name)
        shapes = sorted({(page.height, page.width) for page in stack})
        if len(shapes) > 1 or len({(page.bits, page.kinds) for page in stack}) > 1:
            raise PictureError(f"measured: the pages of {path} differ: {shapes}. Save one kind in a file of its own.")
        _refuse_bombs(path, stack, size)
        file.seek(0)
        array, named = _by_pillow(file, path, stack) or _by_strips(file, path, stack)
        copies = read_reduced(file, size, stack[0])
    others = [page for page in pages if page.index and page.reduced] if len(stack) == 1 and not copies else []
    reduced = tuple((page.height, page.width) for page in copies or others)
    layout = TiffLayout(tuple(replace(page, starts=(), lengths=()) for page in stack), letters, reduced, bool(copies))
    array = array.reshape(lead + array.shape[1:])
    return Tiff(
        array, letters + named, _alpha(stack[0], array.shape[named.index("S") - len(named)] if "S" in named else 1), layout
    )


def _alpha(page: Page, channels: int) -> bool | None:
    """Whether the last of a page's samples is alpha, as far as the file says it."""
    if page.extra and page.samples == channels:
        return page.extra[-1] in (1, 2)
    # Of a palette Pillow makes colours, and may add alpha. Else samples beyond grey or RGB were to be explained.
    return None if page.photometric == _COLOUR and page.samples == channels else page.samples != channels


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
    return (np.stack(arrays) if len(arrays) > 1 else arrays[0][None]), "YXS"[: arrays[0].ndim]


def _keeps(page: Page) -> bool:
    """Whether Pillow keeps these bits and this kind of sample."""
    kinds = set(page.kinds)
    unknown = page.compression not in TiffImagePlugin.COMPRESSION_INFO
    if unknown or _is_index(page) or (page.samples > 1 and 0 in _beyond(page)):
        return False
    return (max(page.bits) <= 8 and kinds == {1}) or (page.bits, kinds) in [((16,), {1}), ((32,), {2}), ((32,), {3})]


def _is_index(page: Page) -> bool:
    """Whether its samples are measured ones, shown in colours out of a table."""
    return page.photometric == _PALETTE and page.samples == 1 and is_imagej(page.description)


def _beyond(page: Page) -> tuple[int, ...]:
    """Return what the samples beyond grey or RGB are; 0 where the file does not say it."""
    count = page.samples - {_COLOUR: 3, _PALETTE: 1, 0: 1, 1: 1}.get(page.photometric, page.samples)
    return page.extra if len(page.extra) == count else (0,) * count


def _by_strips(file: BinaryIO, path: Path, pages: list[Page]) -> tuple[np.ndarray[Any, Any], str]:
    """Read all pages as they are stored, and turn them upright."""
    first = pages[0]
    if first.photometric not in (*_GREY, _COLOUR) and not _is_index(first):
        raise PictureError(
            f"measured: {path} is in colours of the kind {first.photometric}, deeper than 8 bits; grey or RGB was needed. "
            "Convert it."
        )
    shape: tuple[int, ...] = (first.height, first.width)
    named = "YX"
    if first.samples > 1:
        shape, named = ((first.samples, *shape), "SYX") if first.planar else ((*shape, first.samples), "YXS")
    try:
        alike = len({(page.samples, page.planar, page_type(page)) for page in pages}) == 1
    except ValueError as error:
        out, named = read_by_library(path, pages, str(error))
        return _upright(out, f"N{named}", first.orientation), named
    if not alike:
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
    y, x = axes.index("Y"), axes.index("X")
    array = array.swapaxes(y, x) if swapped else array
    return np.flip(array, tuple((y, x)[axis] for axis in backwards)) if backwards else array
