"""Read and write FITS by astropy: every sample in its own type and units, and the header, extensions and coordinates kept.

Rows come as they are stored, the lowest one first, as in astropy: a PSF stands in the same way, and coordinates stay true.
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
_WHOLE = re.compile(rb"(BITPIX  |NAXIS[\d ]{3}|PCOUNT  |GCOUNT  )= +([+-]?\d{1,18})\b")
_MAGIC = re.compile(rb"SIMPLE  = {20}T")
# What an axis holds that is no direction in the sky, by the first letters of its CTYPE (FITS 4.0, tables 22 and 25).
_APART = ("FREQ", "ENER", "WAVN", "VRAD", "WAVE", "VOPT", "ZOPT", "AWAV", "VELO", "BETA", "STOKES", "TIME", "UTC", "LAMBDA")
_KINDS = "uint8 int16 int32 int64 float32 float64 int8 uint16 uint32 uint64".split()  # the last four as FITS offsets them
_STALE = ("BLANK", "BZERO", "BSCALE", "DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM", "ZBLANK")  # of the samples that came


@dataclass(frozen=True, eq=False)
class Fits:
    """What a FITS file holds beside one image.

    Attributes:
        header: of the image.
        before, after: the parts of the file that stand around it, as bytes.
        size: (height, width) of the image that came.
        given: its axes: see `unconv.pictures.measured.measured`.
        history: what is written into the header of what was made of it.
    """

    header: Any
    before: bytes
    after: bytes
    size: tuple[int, int]
    given: str
    history: str = "restored"


def is_fits(start: bytes) -> bool:
    """Whether a file that begins with `start` is FITS."""
    return _MAGIC.match(start) is not None


def read_fits(path: Path) -> tuple[np.ndarray[Any, Any], str, Fits, tuple[str, ...]]:
    """Return the samples of the first image in a FITS file, their axes, what else the file holds, and notes.

    Samples are in physical units: BSCALE and BZERO applied, BLANK as NaN.

    Raises:
        PictureError: astropy is missing, there is no image, or it is a decompression bomb.
        ValueError: the file is damaged or cut off.
    """
    fits, size = _astropy(f"measured: {path} is FITS, which astropy reads"), path.stat().st_size
    with path.open("rb") as file:
        _walk(file, size)
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=False) as units:
            images = [index for index, unit in enumerate(units) if unit.is_image and len(unit.shape) > 1]
            if not images:
                raise PictureError(f"measured: {path} is FITS, but holds no image of two axes. Save one in it.")
            unit = units[images[0]]
            place = unit.fileinfo()
            begin, end = place["hdrLoc"], place["datLoc"] + place["datSpan"]
            pixels = int(np.prod(unit.shape, dtype=object))
            refuse_bomb("measured", str(path), int(np.prod(unit.shape[-2:])), 1, 8 * pixels, size)
            packed = isinstance(unit, fits.CompImageHDU)
            if end > size or (not packed and pixels * abs(unit.header["BITPIX"]) // 8 > place["datSpan"]):
                raise ValueError(f"it announces {unit.shape}, but ends at {size}")
            samples = np.asarray(unit.data)
            cards, named = list(unit.header.cards), unit.name
            header = fits.Header([card for card in cards if _sound(card)])
    except PictureError:
        raise
    except Exception as error:  # astropy and the decompressors raise what they like on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from error
    given = _axes(header, samples.ndim)
    height, width = (samples.shape[given.index(letter)] for letter in "HW")
    with path.open("rb") as file:
        before = file.read(begin)
        file.seek(end)
        rest = Fits(header, before, file.read(), (height, width), given)
    notes = [f"measured: of {len(images)} images in {path.name} the first, {named!r}, was read."] if len(images) > 1 else []
    if len(header) < len(cards):
        notes.append(f"measured: {len(cards) - len(header)} lines of the header of {path.name} are damaged, and left out.")
    return samples.astype(samples.dtype.newbyteorder("="), copy=False), given, rest, tuple(notes)


def _walk(file: BinaryIO, size: int) -> None:
    """Go from header to header, and refuse what astropy would take for ever to read, or read though its end is missing."""
    at = 0
    while at + _BLOCK <= size:
        file.seek(at)
        numbers: dict[bytes, int] = {}
        block = b""
        while not re.search(rb"END {77}", b"".join(_ends(block))):
            at += _BLOCK
            if at > size:
                raise ValueError("a header of it has no end")
            block = file.read(_BLOCK)
            for card in range(0, _BLOCK, 80):
                found = _WHOLE.match(block, card, card + 80)
                if found:
                    numbers.setdefault(found[1].strip(), int(found[2]))
        axes = numbers.get(b"NAXIS", 0)
        if not 0 <= axes <= _MOST_AXES:
            raise ValueError(f"it announces {axes} axes, but {_MOST_AXES} at most were needed")
        lengths = [numbers.get(b"NAXIS%d" % (axis + 1), 1) for axis in range(axes)]
        count = math.prod(lengths[1:] if lengths[:1] == [0] else lengths) if lengths else 0  # of random groups the first is 0
        count = (count + numbers.get(b"PCOUNT", 0)) * numbers.get(b"GCOUNT", 1)
        span = count * abs(numbers.get(b"BITPIX", 8)) // 8
        if min([span, *lengths]) < 0 or at + span > size:
            raise ValueError(f"it announces {span} bytes of samples at {at}, but ends at {size}")
        at += -(-span // _BLOCK) * _BLOCK


def _ends(block: bytes) -> list[bytes]:
    return [block[card : card + 80] for card in range(0, len(block), 80) if block[card : card + 8] == b"END     "]


def _sound(card: Any) -> bool:
    """Whether a line of a header can be written again."""
    try:
        card.verify("exception")
        return len(str(card)) % 80 == 0
    except Exception:
        return False


def _astropy(why: str) -> Any:
    """Import astropy's FITS.

    Raises:
        PictureError: it is not installed; the message begins with `why` it is needed.
    """
    try:
        return importlib.import_module("astropy.io.fits")
    except ImportError as error:
        raise PictureError(f'{why}. Install it with pip install "unconv[astro]", or use .npy.') from error


def _axes(header: Any, count: int) -> str:
    """Tell the axes by the header: a blur runs over the two that are directions, by default those that FITS counts first."""
    kinds = [str(header.get(f"CTYPE{count - axis}", "")).upper() for axis in range(count)]
    sky = [axis for axis, kind in enumerate(kinds) if not kind.startswith(_APART)]
    y, x = sky if len(sky) == 2 else (count - 2, count - 1)
    return "".join("H" if axis == y else "W" if axis == x else "N" for axis in range(count))


def encoded_fits(array: np.ndarray[Any, Any], given: str, rest: Fits | None) -> bytes:
    """Return a FITS file with the samples of `array`.

    Args:
        given: its axes: see `unconv.pictures.measured.measured`.
        rest: what the file held that it was made of; None to write a file of its own.
    """
    fits = _astropy("save: FITS is written by astropy")
    if rest is None or rest.given != given.replace("D", "N"):
        planes = sorted(range(array.ndim), key=lambda axis: "NCDHW".index(given[axis]))
        array = array.transpose(planes)
        rest = None
    array = np.ascontiguousarray(array)
    if rest is None:
        made, before, after = fits.PrimaryHDU(array), b"", b""
    else:
        header = _header(rest, array, given)
        made = fits.ImageHDU(array, header) if rest.before else fits.PrimaryHDU(array, header)
        before, after = rest.before, rest.after
    made.header["HISTORY"] = f"unconv {__version__}: {rest.history if rest else 'written'}"
    if rest is not None and "CHECKSUM" in rest.header:
        made.add_checksum()  # over all that it holds
    buffer = io.BytesIO()
    if isinstance(made, fits.PrimaryHDU):
        made.writeto(buffer, output_verify="silentfix")
        return buffer.getvalue() + after
    fits.HDUList([fits.PrimaryHDU(), made]).writeto(buffer, output_verify="silentfix")
    return before + buffer.getvalue()[2880:] + after


def refuse_unfit_fits(kind: str, name: str) -> None:
    """Refuse, before the work, samples that FITS does not hold.

    Raises:
        PictureError: it does not, or astropy is missing.
    """
    _astropy("save: FITS is written by astropy")
    if kind not in _KINDS:
        raise PictureError(f"save: {name} cannot hold samples of {kind}. Save as .npy, which keeps them, or convert them.")


def _header(rest: Fits, array: np.ndarray[Any, Any], given: str) -> Any:
    """Return the header for the samples of `array`, its coordinates on their grid."""
    header = rest.header.copy(strip=False)
    there = {name: header[name] for name in ("DATAMIN", "DATAMAX") if name in header}
    for name in _STALE:
        header.remove(name, ignore_missing=True, remove_all=True)
    low, high = (float(fold(array)) for fold in (np.nanmin, np.nanmax))
    for name, value in zip(("DATAMIN", "DATAMAX"), (low, high), strict=True):
        if name in there:
            header[name] = value
    for letter, before in zip("HW", rest.size, strict=True):
        axis = given.index(letter)
        if array.shape[axis] != before:
            _rescale(header, array.ndim - axis, array.shape[axis] / before)
    return header


def _rescale(header: Any, axis: int, factor: float) -> None:
    """Have the coordinates along one axis hold on a grid `factor` times as fine.

    Source:
        Greisen & Calabretta, "Representations of world coordinates in FITS" (2002), sec. 2; Shupe et al., "The SIP convention"
        (2005).
    """
    for name in _alternatives(header, f"CRPIX{axis}"):
        header[name] = (header[name] - 0.5) * factor + 0.5
    for name in [*_alternatives(header, f"CDELT{axis}"), *_alternatives(header, rf"CD\d_{axis}")]:
        header[name] /= factor
    for name in _alternatives(header, r"[AB]P?_(\d)_(\d)"):
        powers = [int(number) for number in re.findall(r"\d", name)]
        out = 1 if (name[0] == "A") == (axis == 1) else 0
        header[name] *= factor ** (out - powers[axis - 1])


def _alternatives(header: Any, pattern: str) -> Iterable[str]:
    """Return the names in a header of one coordinate, in every system of coordinates that it has."""
    return [name for name in dict.fromkeys(header) if re.fullmatch(f"{pattern}[A-Z]?", name)]
