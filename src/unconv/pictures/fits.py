"""Read and write FITS with astropy: samples in their own type and units, with header, extensions and coordinates kept.

Rows are in the order of the file, the lowest first, as in astropy: so they match a PSF that astropy reads, and the
coordinates stay correct.
"""

from __future__ import annotations

import importlib
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unconv.errors import PictureError
from unconv.pictures.formats import refuse_bomb
from unconv.version import __version__

_BLOCK, _MOST_AXES = 2880, 999
_INTEGER = re.compile(rb"(BITPIX  |NAXIS[\d ]{3}|PCOUNT  |GCOUNT  )= +([+-]?\d{1,18})\b")
_MAGIC = re.compile(rb"SIMPLE  = {20}T")
# Beginnings of the CTYPE of axes that are not directions in the sky (FITS 4.0, tables 22 and 25).
_APART = ("FREQ", "ENER", "WAVN", "VRAD", "WAVE", "VOPT", "ZOPT", "AWAV", "VELO", "BETA", "STOKES", "TIME", "UTC", "LAMBDA")
_KINDS = (
    "uint8 int16 int32 int64 float32 float64 int8 uint16 uint32 uint64".split()
)  # the last four as FITS stores them, with an offset
_STALE = (
    "BLANK",
    "BZERO",
    "BSCALE",
    "DATAMIN",
    "DATAMAX",
    "CHECKSUM",
    "DATASUM",
    "ZBLANK",
)  # cards that are true only of the source's samples


@dataclass(frozen=True, eq=False)
class Fits:
    """The content of a FITS file besides one image.

    Attributes:
        header: the image's header.
        before, after: the bytes of the file before and after the image.
        size: (height, width) of the image.
        given: the letters of its axes: see `unconv.pictures.measured.measured`.
        history: the words for the HISTORY card of a result.
    """

    header: Any
    before: bytes
    after: bytes
    size: tuple[int, int]
    given: str
    history: str = "restored"


def is_fits(start: bytes) -> bool:
    """Return whether a file that begins with `start` is FITS."""
    return _MAGIC.match(start) is not None


def read_fits(path: Path) -> tuple[np.ndarray[Any, Any], str, Fits, tuple[str, ...]]:
    """Return the samples of the first image in a FITS file, their axes, the rest of the file, and notes.

    Samples are in physical units: BSCALE and BZERO are applied, and BLANK becomes NaN.

    Raises:
        PictureError: astropy is missing, the file holds no image, or it is a decompression bomb.
        ValueError: the file is damaged or cut off.
    """
    fits, size = _astropy(f"measured: {path} is FITS, which needs astropy"), path.stat().st_size
    with path.open("rb") as file:
        _check_units(file, size)
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=False) as units:
            images = [index for index, unit in enumerate(units) if unit.is_image and len(unit.shape) > 1]
            if not images:
                raise PictureError(f"measured: {path} is FITS, but holds no image of two or more axes. Pass a file with one.")
            unit = units[images[0]]
            location = unit.fileinfo()
            begin, end = location["hdrLoc"], location["datLoc"] + location["datSpan"]
            pixels = int(np.prod(unit.shape, dtype=object))
            refuse_bomb("measured", str(path), int(np.prod(unit.shape[-2:])), 1, 8 * pixels, size)
            is_compressed = isinstance(unit, fits.CompImageHDU)
            if end > size or (not is_compressed and pixels * abs(unit.header["BITPIX"]) // 8 > location["datSpan"]):
                raise ValueError(f"it announces an image of {unit.shape}, but ends at byte {size}")
            samples = np.asarray(unit.data)
            cards, name = list(unit.header.cards), unit.name
            header = fits.Header([card for card in cards if _sound(card)])
    except PictureError:
        raise
    except Exception as error:  # astropy and the decompressors raise errors of any kind on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from error
    letters = _axes(header, samples.ndim)
    height, width = (samples.shape[letters.index(letter)] for letter in "HW")
    with path.open("rb") as file:
        before = file.read(begin)
        file.seek(end)
        rest = Fits(header, before, file.read(), (height, width), letters)
    notes = (
        [f"measured: {path.name} holds {len(images)} images; only the first, {name!r}, was read."] if len(images) > 1 else []
    )
    if len(header) < len(cards):
        damaged = len(cards) - len(header)
        lines = "1 damaged line" if damaged == 1 else f"{damaged} damaged lines"
        notes.append(f"measured: {lines} in the header of {path.name} will not be written into a result.")
    return samples.astype(samples.dtype.newbyteorder("="), copy=False), letters, rest, tuple(notes)


def _check_units(file: BinaryIO, size: int) -> None:
    """Go from header to header; refuse a file that would keep astropy busy for ever, or that it would read without its end."""
    offset = 0
    while offset + _BLOCK <= size:
        file.seek(offset)
        numbers: dict[bytes, int] = {}
        block = b""
        while not re.search(rb"END {77}", b"".join(_ends(block))):
            offset += _BLOCK
            if offset > size:
                raise ValueError("one of its headers has no END card")
            block = file.read(_BLOCK)
            for card in range(0, _BLOCK, 80):
                match = _INTEGER.match(block, card, card + 80)
                if match:
                    numbers.setdefault(match[1].strip(), int(match[2]))
        axes = numbers.get(b"NAXIS", 0)
        if not 0 <= axes <= _MOST_AXES:
            raise ValueError(f"it announces {axes} axes, but at most {_MOST_AXES} are allowed")
        lengths = [numbers.get(b"NAXIS%d" % (axis + 1), 1) for axis in range(axes)]
        count = math.prod(lengths[1:] if lengths[:1] == [0] else lengths) if lengths else 0  # NAXIS1 = 0 marks random groups
        # FITS 4.0, sec. 4.4.1.2: the size of an extension's data.
        count = (count + numbers.get(b"PCOUNT", 0)) * numbers.get(b"GCOUNT", 1)
        span = count * abs(numbers.get(b"BITPIX", 8)) // 8
        if min([span, *lengths]) < 0 or offset + span > size:
            raise ValueError(f"it announces {span} bytes of samples at byte {offset}, but ends at byte {size}")
        offset += -(-span // _BLOCK) * _BLOCK


def _ends(block: bytes) -> list[bytes]:
    return [block[card : card + 80] for card in range(0, len(block), 80) if block[card : card + 8] == b"END     "]


def _sound(card: Any) -> bool:
    """Return whether a card of a header is valid, so that it can be written again."""
    try:
        card.verify("exception")
        return len(str(card)) % 80 == 0
    except Exception:
        return False


def _astropy(why: str) -> Any:
    """Return the module `astropy.io.fits`.

    Raises:
        PictureError: it is not installed. The message begins with `why`, the reason why it is needed.
    """
    try:
        return importlib.import_module("astropy.io.fits")
    except ImportError as error:
        raise PictureError(f'{why}. Install it with pip install "unconv[astro]", or use .npy.') from error


def _axes(header: Any, count: int) -> str:
    """Name the axes by the header: H and W are the two directions in the sky, or by default FITS axes 2 and 1; others are N."""
    kinds = [str(header.get(f"CTYPE{count - axis}", "")).upper() for axis in range(count)]
    sky = [axis for axis, kind in enumerate(kinds) if not kind.startswith(_APART)]
    y, x = sky if len(sky) == 2 else (count - 2, count - 1)
    return "".join("H" if axis == y else "W" if axis == x else "N" for axis in range(count))


def encoded_fits(array: np.ndarray[Any, Any], given: str, rest: Fits | None) -> bytes:
    """Return the bytes of a FITS file with the samples of `array`.

    Args:
        given: the letters of its axes: see `unconv.pictures.measured.measured`.
        rest: the rest of the source file; None to write a file of its own.
    """
    fits = _astropy("save: writing FITS needs astropy")
    # With other axes than the source's, the header and its coordinates do not fit: the image goes into a file of its own.
    if rest is None or rest.given != given.replace("D", "N"):
        order = sorted(range(array.ndim), key=lambda axis: "NCDHW".index(given[axis]))
        array = array.transpose(order)
        rest = None
    array = np.ascontiguousarray(array)
    if rest is None:
        unit, before, after = fits.PrimaryHDU(array), b"", b""
    else:
        header = _header(rest, array, given)
        unit = fits.ImageHDU(array, header) if rest.before else fits.PrimaryHDU(array, header)
        before, after = rest.before, rest.after
    unit.header["HISTORY"] = f"unconv {__version__}: {rest.history if rest else 'written'}"
    if rest is not None and "CHECKSUM" in rest.header:
        unit.add_checksum()
    buffer = io.BytesIO()
    if isinstance(unit, fits.PrimaryHDU):
        unit.writeto(buffer, output_verify="silentfix")
        return buffer.getvalue() + after
    # astropy writes an extension only after a primary header. Its one block is cut off again: `before` holds the file's own.
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(buffer, output_verify="silentfix")
    return before + buffer.getvalue()[_BLOCK:] + after


def refuse_unfit_fits(kind: str, name: str) -> None:
    """Refuse, before any work is done, samples of a type that FITS cannot hold.

    Raises:
        PictureError: it cannot hold them, or astropy is missing.
    """
    _astropy("save: writing FITS needs astropy")
    if kind not in _KINDS:
        raise PictureError(f"save: {name} cannot hold samples of {kind}. Save it as .npy, which keeps them, or convert them.")


def _header(rest: Fits, array: np.ndarray[Any, Any], letters: str) -> Any:
    """Return the header for the samples of `array`, with the coordinates on their grid."""
    header = rest.header.copy(strip=False)
    present = {name: header[name] for name in ("DATAMIN", "DATAMAX") if name in header}
    for name in _STALE:
        header.remove(name, ignore_missing=True, remove_all=True)
    least, largest = (float(fold(array)) for fold in (np.nanmin, np.nanmax))
    for name, value in zip(("DATAMIN", "DATAMAX"), (least, largest), strict=True):
        if name in present:
            header[name] = value
    for letter, before in zip("HW", rest.size, strict=True):
        axis = letters.index(letter)
        if array.shape[axis] != before:
            _rescale(header, array.ndim - axis, array.shape[axis] / before)
    return header


def _rescale(header: Any, axis: int, factor: float) -> None:
    """Change the coordinates along one axis, in place, to a grid `factor` times as fine.

    Source:
        Greisen & Calabretta, "Representations of world coordinates in FITS" (2002), sec. 2; Shupe et al., "The SIP convention"
        (2005).
    """
    for name in _alternatives(header, f"CRPIX{axis}"):
        header[name] = (header[name] - 0.5) * factor + 0.5  # FITS counts from 1, at the centre: the edge is at 0.5
    for name in [*_alternatives(header, f"CDELT{axis}"), *_alternatives(header, rf"CD\d_{axis}")]:
        header[name] /= factor
    for name in _alternatives(header, r"[AB]P?_(\d)_(\d)"):
        powers = [int(number) for number in re.findall(r"\d", name)]
        # SIP adds to x (A) or y (B) a sum of A_p_q u^p v^q, u and v in samples: along this axis both grow by `factor`.
        output_power = 1 if (name[0] == "A") == (axis == 1) else 0
        header[name] *= factor ** (output_power - powers[axis - 1])


def _alternatives(header: Any, pattern: str) -> Iterable[str]:
    """Return the header's names for one coordinate, in each of its coordinate systems (FITS marks them A to Z)."""
    return [name for name in dict.fromkeys(header) if re.fullmatch(f"{pattern}[A-Z]?", name)]
