"""Write a TIFF file as another one was laid out: its axes, spacing, units, colours, tiles, pyramid and compression.

What the tags of a file say beyond how its samples are stored is copied as it stands, so that each program finds there what it
had written. The library tifffile writes the samples.
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
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3  # photometrics
_NO_UNIT, _INCH, _UNITS = 1, 2, range(1, 6)  # of the resolution
_LETTERS = str.maketrans("NHWC", "QYXS")  # of axes, as tifffile names them
_LARGEST = 4_000_000_000  # bytes that plain TIFF can point to, less what its tags take
# How tifffile calls what it writes by itself, and what it needs imagecodecs for. All other ways lose something, or are rare:
# Deflate takes their place.
_WRITTEN = {1: None, 34925: "lzma"}
_WITH_CODECS = {5: "lzw", 32773: "packbits", 50000: "zstd"}


def written(array: np.ndarray[Any, Any], given: str, layout: TiffLayout) -> bytes:
    """Return a TIFF file with the samples of `array`, laid out as another one was.

    Args:
        array: in any layout.
        given: its axes: see `unconv.pictures.measured.measured`.
        layout: of the file; `layout.fits` it.

    Raises:
        PictureError: tifffile is missing.
    """
    tifffile = import_tifffile("save")
    first = layout.pages[0]
    lead = [axis for axis, letter in enumerate(given) if letter in "ND"]
    one = ("CHW" if first.planar else "HWC") if "C" in given else "HW"
    array = array.transpose(lead + [given.index(letter) for letter in one])
    planes = array.reshape(len(layout.pages), *array.shape[len(lead) :])
    size = (planes.shape[1:][one.index("H")], planes.shape[1:][one.index("W")])
    scale = (size[0] / _upright(first)[0], size[1] / _upright(first)[1])
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=first.big or array.nbytes > _LARGEST, byteorder=first.order) as file:
        for page, plane in zip(layout.pages, planes, strict=True):
            # Pages that had no tags of their own are told of by the first one.
            own = page if page is first or page.index != first.index else None
            how = _storage(first, plane.dtype)
            copies = [_smaller(plane, one, height, width, scale) for height, width in layout.reduced]
            file.write(
                plane, **how, **_told(own, layout, scale), subifds=len(copies) if layout.inside else None, software=False,
                metadata=None,
            )  # fmt: skip
            for copy in copies if layout.inside else ():
                file.write(copy, **how, subfiletype=1, software=False, metadata=None)
        for copy in copies if not layout.inside else ():
            file.write(copy, **how, subfiletype=1, software=False, metadata=None)
    return buffer.getvalue()


def tiff_by_library(array: np.ndarray[Any, Any], axes: str, alpha: bool) -> bytes:
    """Return a TIFF file of tifffile's, for what Pillow does not write; every type is kept.

    Args:
        axes: any number of N, then "HW", or "HWC" for 2 channels or more.
        alpha: the last of 2 or 4 channels is.
    """
    channels = array.shape[-1] if axes.endswith("C") else 1
    beyond = channels - (3 if channels in (3, 4) else 1)
    if channels == 4 and not alpha:
        beyond = 3
    buffer = io.BytesIO()
    import_tifffile("save").imwrite(
        buffer,
        array,
        photometric="rgb" if channels == 3 or (channels == 4 and alpha) else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=(["unassalpha"] if alpha else [0] * beyond) or None,
        # Of a stack of stacks only a description tells the lengths.
        metadata={"axes": axes.translate(_LETTERS)} if axes.count("N") > 1 else None,
    )
    return buffer.getvalue()


def has_library() -> bool:
    """Whether tifffile is installed."""
    return importlib.util.find_spec("tifffile") is not None


def refuse_without_library(why: str) -> None:
    """Refuse, before the work, what needs tifffile; the message begins with `why`.

    Raises:
        PictureError: it is missing.
    """
    import_tifffile(why)


def refuse_without_writer() -> None:
    """Refuse, before the work, to write what only tifffile can lay out as it was.

    Raises:
        PictureError: it is missing.
    """
    import_tifffile("save: Pillow does not write the axes, units, tiles or pyramid of the TIFF file that came")


def _upright(page: Page) -> tuple[int, int]:
    return (page.width, page.height) if page.orientation in (5, 6, 7, 8) else (page.height, page.width)


def _storage(page: Page, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Say how the samples of a page are stored, in the words of tifffile."""
    found: dict[str, Any] = {"photometric": "minisblack"}
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE):  # all other colours are read as these
        found["photometric"] = "rgb"
    elif page.photometric == _WHITE_IS_ZERO and max(page.bits) > 8:  # below, white was made the largest
        found["photometric"] = "miniswhite"
    colours = next((value for tag, _, _, value in page.tags if tag == _COLOUR_MAP), b"")
    if page.photometric == _PALETTE and len(colours) == 6 << page.bits[0]:
        found |= {"photometric": "palette", "colormap": np.frombuffer(colours, f"{page.order}u2").reshape(3, -1)}
    if page.samples > 1:
        found["planarconfig"] = "separate" if page.planar else "contig"
        beyond = page.samples - (3 if found["photometric"] == "rgb" else 1)
        if beyond:
            found["extrasamples"] = page.extra if len(page.extra) == beyond else (0,) * beyond
    if page.tiled and not any(side % 16 for side in page.segment):
        found["tile"] = page.segment
    elif not page.tiled and page.segment[0] < page.height:
        found["rowsperstrip"] = page.segment[0]
    codecs = importlib.util.find_spec("imagecodecs") is not None
    compression = ({**_WRITTEN, **_WITH_CODECS} if codecs else _WRITTEN).get(page.compression, "zlib")
    predicted = page.predictor > 1 and compression and dtype.kind in "ui"
    return {**found, "compression": compression, "predictor": 2 if predicted else None}


def _told(page: Page | None, layout: TiffLayout, scale: tuple[float, float]) -> dict[str, Any]:
    """Return the description, the resolution and the other tags of a page, in the words of tifffile."""
    if page is None:
        return {}
    tags = {tag[0]: tag for tag in page.tags}
    found: dict[str, Any] = {}
    across, down = (_rational(tags.get(tag), page.order) for tag in (_ACROSS, _DOWN))
    if across and down:
        across, down = (down, across) if page.orientation in (5, 6, 7, 8) else (across, down)
        unit = tags.get(_UNIT)
        found["resolution"] = (_times(across, scale[1]), _times(down, scale[0]))
        known = struct.unpack(f"{page.order}H", unit[3][:2])[0] if unit and unit[1] == 3 else _INCH
        found["resolutionunit"] = known if known in _UNITS else _NO_UNIT
    if _DESCRIPTION in tags:
        found["description"] = _description(page, layout, scale)
    done = (_DESCRIPTION, _ACROSS, _DOWN, _UNIT, _COLOUR_MAP)
    found["extratags"] = [(*tag, False) for number, tag in tags.items() if number not in done]
    return {name: value for name, value in found.items() if value is not None}


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
    # tifffile's tells the size of the picture, which is another one here.
    return None if page.description.startswith('{"shape') and scale != (1, 1) else raw


def _ome(xml: str, count: int, scale: tuple[float, float]) -> str:
    """Return OME's description of the new file, in which the planes lie in their order, and of pixels of their new size.

    Source:
        OME, "OME-TIFF specification", version 6: TiffData.
    """
    parts = re.split(r"(<!--.*?-->)", xml, flags=re.DOTALL)
    found = False
    for index in range(0, len(parts), 2):
        text = re.sub(r'(<(?:\w+:)?OME\b[^<>]*\bUUID=")[^"]*"', lambda m: f'{m[1]}urn:uuid:{uuid.uuid4()}"', parts[index])
        blank = re.sub(r"<((?:\w+:)?)TiffData\b[^<>]*?(?:/>|>.*?</\1TiffData\s*>)", "\0\\1\0", text, flags=re.DOTALL)
        pieces = blank.split("\0")
        for place in range(1, len(pieces), 2):
            pieces[place] = "" if found else f'<{pieces[place]}TiffData IFD="0" PlaneCount="{count}"/>'
            found = True
        parts[index] = re.sub(r"<(?:\w+:)?Pixels\b[^<>]*", lambda m: _scaled(m[0], scale), "".join(pieces))
    return "".join(parts)


def _scaled(pixels: str, scale: tuple[float, float]) -> str:
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
    """Return a plane at a lower resolution: each sample the mean of those that it covers."""
    order = [axes.index(letter) for letter in "CHW" if letter in axes]
    samples = torch.from_numpy(plane.transpose(order).astype(np.float64))
    size = (max(1, round(height * scale[0])), max(1, round(width * scale[1])))
    pooled = torch.nn.functional.adaptive_avg_pool2d(samples if samples.ndim == 3 else samples[None], size).numpy()
    pooled = pooled if plane.ndim == 3 else pooled[0]
    pooled = np.rint(pooled) if plane.dtype.kind in "ui" else pooled
    return np.ascontiguousarray(pooled.transpose(np.argsort(order)).astype(plane.dtype))
