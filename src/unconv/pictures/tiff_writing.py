"""Write a TIFF file in the layout of another one: its axes, spacing, units, colours, tiles, pyramid and compression.

Tags that do not describe how samples are stored are copied unchanged, so that each program finds there what it had
written. The library tifffile writes the samples.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import uuid
from typing import Any

import numpy as np
import torch

from unconv.pictures.tiff import import_tifffile
from unconv.pictures.tiff_layout import TiffLayout, is_ome
from unconv.pictures.tiff_pages import Page, Tag

_DESCRIPTION, _ACROSS, _DOWN, _UNIT, _COLOUR_MAP = 270, 282, 283, 296, 320
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3  # photometric interpretations
_NO_UNIT, _INCH, _UNITS = 1, 2, range(1, 6)  # of the resolution
_LETTERS = str.maketrans("NHWC", "QYXS")  # our letters of axes -> tifffile's
_LARGEST = 4_000_000_000  # bytes of samples in plain TIFF, whose offsets have 32 bits, with room for tags
# Compressions that tifffile writes by itself, and those for which it needs imagecodecs, by its names. All others are lossy or
# rare, and Deflate is written instead.
_WRITTEN = {1: None, 34925: "lzma"}
_WITH_CODECS = {5: "lzw", 32773: "packbits", 50000: "zstd"}


def written(array: np.ndarray[Any, Any], given: str, layout: TiffLayout) -> bytes:
    """Return the bytes of a TIFF file with the samples of `array`, in the layout of another file.

    Args:
        array: with its axes in any order.
        given: the letters of its axes: see `unconv.pictures.measured.measured`.
        layout: the other file's; `layout.fits(array.shape, given)` must hold.

    Raises:
        PictureError: tifffile is missing.
    """
    tifffile = import_tifffile("save")
    first = layout.pages[0]
    lead = [axis for axis, letter in enumerate(given) if letter in "ND"]
    page_axes = ("CHW" if first.planar else "HWC") if "C" in given else "HW"
    array = array.transpose(lead + [given.index(letter) for letter in page_axes])
    planes = array.reshape(len(layout.pages), *array.shape[len(lead) :])
    size = (planes.shape[1:][page_axes.index("H")], planes.shape[1:][page_axes.index("W")])
    scale = (size[0] / _upright(first)[0], size[1] / _upright(first)[1])
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=first.big or array.nbytes > _LARGEST, byteorder=first.order) as file:
        for page, plane in zip(layout.pages, planes, strict=True):
            # Pages that had no tags of their own have the first one's index, and are written without tags again.
            tagged_page = page if page is first or page.index != first.index else None
            storage = _storage(first, plane.dtype)
            copies = [_smaller(plane, page_axes, height, width, scale) for height, width in layout.reduced]
            file.write(
                plane, **storage, **_metadata(tagged_page, layout, scale), subifds=len(copies) if layout.inside else None,
                software=False, metadata=None,
            )  # fmt: skip
            for copy in copies if layout.inside else ():
                file.write(copy, **storage, subfiletype=1, software=False, metadata=None)
        for copy in copies if not layout.inside else ():
            file.write(copy, **storage, subfiletype=1, software=False, metadata=None)
    return buffer.getvalue()


def tiff_by_library(array: np.ndarray[Any, Any], axes: str, alpha: bool) -> bytes:
    """Return the bytes of a TIFF file written by tifffile, for samples that Pillow does not write; every type is kept.

    Args:
        axes: any number of N, then "HW", or "HWC" for 2 channels or more.
        alpha: whether the last of 2 or 4 channels is alpha.
    """
    channels = array.shape[-1] if axes.endswith("C") else 1
    extra_samples = channels - (3 if channels in (3, 4) else 1)
    if channels == 4 and not alpha:  # four separate channels, grey and three more, not RGB and alpha
        extra_samples = 3
    buffer = io.BytesIO()
    import_tifffile("save").imwrite(
        buffer,
        array,
        photometric="rgb" if channels == 3 or (channels == 4 and alpha) else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=(["unassalpha"] if alpha else [0] * extra_samples) or None,
        # The lengths of two or more leading axes can only be stated in a description.
        metadata={"axes": axes.translate(_LETTERS)} if axes.count("N") > 1 else None,
    )
    return buffer.getvalue()


def has_library() -> bool:
    """Return whether tifffile is installed."""
    return importlib.util.find_spec("tifffile") is not None


def refuse_without_library(why: str) -> None:
    """Refuse, before any work is done, to write a file that needs tifffile; the message begins with `why`.

    Raises:
        PictureError: tifffile is missing.
    """
    import_tifffile(why)


def refuse_without_writer() -> None:
    """Refuse, before any work is done, to write a TIFF file whose layout only tifffile can keep.

    Raises:
        PictureError: tifffile is missing.
    """
    import_tifffile("save: Pillow cannot write the axes, units, tiles or pyramid of the source TIFF file")


def _upright(page: Page) -> tuple[int, int]:
    return (page.width, page.height) if page.orientation in (5, 6, 7, 8) else (page.height, page.width)


def _storage(page: Page, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how the samples of a page are stored, as arguments of tifffile's `write`."""
    arguments: dict[str, Any] = {"photometric": "minisblack"}
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE):  # all other colours were converted to RGB when read
        arguments["photometric"] = "rgb"
    elif page.photometric == _WHITE_IS_ZERO and max(page.bits) > 8:  # at 8 bits and less Pillow has inverted the samples
        arguments["photometric"] = "miniswhite"
    colours = next((value for tag, _, _, value in page.tags if tag == _COLOUR_MAP), b"")
    if page.photometric == _PALETTE and len(colours) == 6 << page.bits[0]:
        arguments |= {"photometric": "palette", "colormap": np.frombuffer(colours, f"{page.order}u2").reshape(3, -1)}
    if page.samples > 1:
        arguments["planarconfig"] = "separate" if page.planar else "contig"
        extra_samples = page.samples - (3 if arguments["photometric"] == "rgb" else 1)
        if extra_samples:
            arguments["extrasamples"] = page.extra if len(page.extra) == extra_samples else (0,) * extra_samples
    if page.tiled and not any(side % 16 for side in page.segment):
        arguments["tile"] = page.segment
    elif not page.tiled and page.segment[0] < page.height:
        arguments["rowsperstrip"] = page.segment[0]
    has_codecs = importlib.util.find_spec("imagecodecs") is not None
    compression = ({**_WRITTEN, **_WITH_CODECS} if has_codecs else _WRITTEN).get(page.compression, "zlib")
    with_predictor = page.predictor > 1 and compression and dtype.kind in "ui"
    return {**arguments, "compression": compression, "predictor": 2 if with_predictor else None}


def _metadata(page: Page | None, layout: TiffLayout, scale: tuple[float, float]) -> dict[str, Any]:
    """Return the description, the resolution and the other tags of a page, as arguments of tifffile's `write`."""
    if page is None:
        return {}
    tags = {tag[0]: tag for tag in page.tags}
    arguments: dict[str, Any] = {}
    across, down = (_rational(tags.get(tag), page.order) for tag in (_ACROSS, _DOWN))
    if across and down:
        across, down = (down, across) if page.orientation in (5, 6, 7, 8) else (across, down)
        unit = tags.get(_UNIT)
        arguments["resolution"] = (_times(across, scale[1]), _times(down, scale[0]))
        unit_number = struct.unpack(f"{page.order}H", unit[3][:2])[0] if unit and unit[1] == 3 else _INCH
        arguments["resolutionunit"] = unit_number if unit_number in _UNITS else _NO_UNIT
    if _DESCRIPTION in tags:
        arguments["description"] = _description(page, layout, scale)
    own_arguments = (_DESCRIPTION, _ACROSS, _DOWN, _UNIT, _COLOUR_MAP)
    arguments["extratags"] = [(*tag, False) for number, tag in tags.items() if number not in own_arguments]
    return {name: value for name, value in arguments.items() if value is not None}


def _rational(tag: Tag | None, order: str) -> tuple[int, int] | None:
    if tag is None or tag[1] != 5 or tag[2] != 1:
        return None
    above, below = struct.unpack(f"{order}II", tag[3])
    return (above, below) if below else None


def _times(ratio: tuple[int, int], factor: float) -> tuple[int, int] | float:
    return ratio if factor == 1 else ratio[0] / ratio[1] * factor


def _description(page: Page, layout: TiffLayout, scale: tuple[float, float]) -> bytes | None:
    raw = next(value for tag, _, _, value in page.tags if tag == _DESCRIPTION).split(b"\0")[0]
    if is_ome(page.description):
        return _ome(page.description, len(layout.pages), scale).encode()
    # tifffile's description states the shape of the source, which is wrong for a picture of another size.
    return None if page.description.startswith('{"shape') and scale != (1, 1) else raw


def _ome(xml: str, count: int, scale: tuple[float, float]) -> str:
    """Return OME's description for the new file: its planes in order, its pixels and their physical size scaled.

    The UUID is a new one, since it names one file. The first TiffData is replaced and the others are removed: they refer to
    the pages of the old file.

    Source:
        OME, "OME-TIFF specification", version 6: TiffData.
    """
    parts = re.split(r"(<!--.*?-->)", xml, flags=re.DOTALL)
    is_written = False
    for index in range(0, len(parts), 2):
        text = re.sub(r'(<(?:\w+:)?OME\b[^<>]*\bUUID=")[^"]*"', lambda m: f'{m[1]}urn:uuid:{uuid.uuid4()}"', parts[index])
        marked = re.sub(r"<((?:\w+:)?)TiffData\b[^<>]*?(?:/>|>.*?</\1TiffData\s*>)", "\0\\1\0", text, flags=re.DOTALL)
        pieces = marked.split("\0")
        for piece in range(1, len(pieces), 2):
            pieces[piece] = "" if is_written else f'<{pieces[piece]}TiffData IFD="0" PlaneCount="{count}"/>'
            is_written = True
        parts[index] = re.sub(r"<(?:\w+:)?Pixels\b[^<>]*", lambda m: _scaled(m[0], scale), "".join(pieces))
    return "".join(parts)


def _scaled(pixels: str, scale: tuple[float, float]) -> str:
    """Return the element Pixels for a picture `scale` times as large: SizeX and SizeY grow, PhysicalSizeX and Y shrink."""
    for axis, factor in zip("YX", scale, strict=True):
        if factor != 1:
            for name, times in ((f"Size{axis}", factor), (f"PhysicalSize{axis}", 1 / factor)):
                before, mark, number = pixels.partition(f' {name}="')
                if mark:
                    value, _, after = number.partition('"')
                    new = str(round(int(value) * times)) if name[0] == "S" else repr(float(value) * times)
                    pixels = f'{before}{mark}{new}"{after}'
    return pixels


def _smaller(
    plane: np.ndarray[Any, Any], axes: str, height: int, width: int, scale: tuple[float, float]
) -> np.ndarray[Any, Any]:
    """Return a plane at a lower resolution, in which each sample is the mean of those it covers."""
    order = [axes.index(letter) for letter in "CHW" if letter in axes]
    samples = torch.from_numpy(plane.transpose(order).astype(np.float64))
    size = (max(1, round(height * scale[0])), max(1, round(width * scale[1])))
    pooled = torch.nn.functional.adaptive_avg_pool2d(samples if samples.ndim == 3 else samples[None], size).numpy()
    pooled = pooled if plane.ndim == 3 else pooled[0]
    pooled = np.rint(pooled) if plane.dtype.kind in "ui" else pooled
    return np.ascontiguousarray(pooled.transpose(np.argsort(order)).astype(plane.dtype))
