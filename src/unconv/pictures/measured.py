"""Read pictures as measurements: at full depth, in the source's own units, and returned in the kind they came in.

`decode.open_picture` returns 8-bit pictures for display. Undoing a blur needs all samples: 16 bits, floats, stacks.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError
from unconv.kinds import checks_kinds_but, shown
from unconv.pictures.axes import ORDER, guessed, is_alpha, kinds, named
from unconv.pictures.colours import remarks
from unconv.pictures.decode import Source, bands, reading
from unconv.pictures.fits import is_fits, read_fits
from unconv.pictures.foreign import LONGEST, refuse_foreign
from unconv.pictures.formats import opened, refuse_cut
from unconv.pictures.jpeg import Jpeg, described
from unconv.pictures.metadata import NOTHING, Metadata, metadata_of, metadata_of_tiff
from unconv.pictures.npy import MAGIC, read_npy
from unconv.pictures.pnm import read_pnm
from unconv.pictures.tiff import read_tiff
from unconv.pictures.tiff_pages import is_tiff

_SINGLE = ("uint8", "int8", "uint16", "int16", "float16", "bfloat16", "float32")  # exact in float32
_DOUBLE = ("uint32", "int32", "uint64", "int64", "float64")  # exact in float64; integers up to 2**53


@dataclass(frozen=True, eq=False)
class Measured:
    """A picture's samples, and what is needed to return a result in the same kind.

    Attributes:
        samples: floating, in the source's own units (uint8 0..255, uint16 0..65535, floats as they are), float32
            if that is exact and float64 otherwise. Separate pictures and channels come first, the axes that a
            blur runs over last: (H, W), (C, H, W), (N, H, W), (N, C, H, W), (D, H, W), (C, D, H, W).
        axes: the letters of the axes of `samples`, such as "CHW": N pictures, C channels, D depth, H height, W width.
        given: the letters of the source's axes; alpha is one of its channels.
        dtype: the source's type: NumPy's, or torch's for a tensor.
        alpha: the transparency, as `samples` with one channel; None if there is none.
        mode: the mode of a PIL picture; None for other sources.
        jpeg: the compression of a JPEG, as its file states it; None for other sources.
        names: the letters of the source's axes as its file or the user names them, such as "TZCYX"; "" if neither does.
        metadata: the file's metadata, such as ICC profile, EXIF and resolution.
        notes: what was changed in reading that the user should know, such as a palette that was converted.
    """

    samples: Tensor
    axes: str
    given: str
    dtype: np.dtype[Any] | torch.dtype
    alpha: Tensor | None = None
    mode: str | None = None
    jpeg: Jpeg | None = None
    names: str = ""
    metadata: Metadata = NOTHING
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's shape, with its axes in the order of `given`."""
        shape = list(self.samples.shape)
        if self.alpha is not None:
            shape[self.axes.index("C")] += 1
        return tuple(shape[axis] for axis in _inverse(_order(self.given)))

    @property
    def spatial(self) -> tuple[int, ...]:
        """The lengths of the axes that a blur runs over: (H, W), or (D, H, W) for a volume."""
        return tuple(self.samples.shape[-3 if "D" in self.axes else -2 :])

    @property
    def colour(self) -> bool:
        """Whether the picture is red, green and blue."""
        return "C" in self.axes and self.samples.shape[self.axes.index("C")] == 3

    @property
    def peak(self) -> float | None:
        """The largest value that a sample may have, such as 255, 4095 or 65535; None for floats, which have no such limit."""
        return None if self.bounds is None else self.bounds[1]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the largest value that a sample may have, by its type and the file's white; None for floats."""
        bounds = _bounds(self.dtype)
        return (bounds[0], float(self.metadata.white)) if bounds and self.metadata.white else bounds

    def as_volume(self) -> Measured:
        """Return the same picture with its depth as an axis that a blur runs over: Z, or the only unnamed axis.

        A picture that has no such axis, or has depth already, is returned unchanged.
        """
        unnamed = [axis for axis, letter in enumerate(self.names or self.given) if letter == "N"]
        depth = [self.names.index("Z")] if "Z" in self.names else unnamed
        if "D" in self.given or len(depth) != 1:
            return self
        letters = "".join("D" if axis == depth[0] else letter for axis, letter in enumerate(self.given))
        # An unnamed axis that comes last was taken for wavelengths. As a volume, the three axes keep their order.
        letters = "DHW" if letters == "HWD" and not self.names else letters
        permutation = [_order(self.given).index(axis) for axis in _order(letters)]
        axes = "".join(sorted(letters if "C" in self.axes else letters.replace("C", "N"), key=ORDER.index))
        alpha = None if self.alpha is None else self.alpha.permute(permutation)
        return replace(self, samples=self.samples.permute(permutation), axes=axes, given=letters, alpha=alpha)

    def like(self, samples: Tensor) -> Any:
        """Return `samples` in the kind, type and layout of the source: a tensor, an array (also for a file) or a PIL picture.

        For an integer type they are rounded and clipped to its range; floats are not changed. The source's alpha is
        added unchanged.

        Args:
            samples: in the layout of `self.samples`; height, width and depth may differ if there is no alpha.

        Raises:
            ShapeError: the axes are not those of `self.samples`.
            NonFinite: there is NaN, and the source's type is an integer type.
        """
        leading = len(self.axes) - len(self.spatial)
        came, needed = tuple(samples.shape), tuple(self.samples.shape)
        fits = len(came) == len(needed) and came[:leading] == needed[:leading]
        if not fits or (self.alpha is not None and came != needed):
            raise ShapeError(
                f"like: samples are {came}, but the picture is {needed} ({self.axes}). Pass as many axes and channels"
                + (" and the same size, since it has an alpha channel." if fits else ".")
            )
        if self.alpha is not None:
            samples = torch.cat([samples, self.alpha.to(samples.device)], self.axes.index("C"))
        samples = _typed(samples, self.dtype, self.bounds).permute(_inverse(_order(self.given)))
        if isinstance(self.dtype, torch.dtype):
            return samples.to(self.samples.device)
        array = samples.detach().cpu().numpy().astype(self.dtype, order="C")
        if self.mode is None:
            return array
        image = Image.fromarray(array)
        image.info.update(self.metadata.info(*image.size))
        return image


@checks_kinds_but("source")
def measured(source: Source | Measured, *, axes: str | None = None) -> Measured:
    """Return a picture, a stack or a volume with all its samples, in its own units.

    Files are recognised by their content: those of `unconv.pictures.formats.FORMATS`, FITS and `.npy`. 8-bit files are read
    as Pillow reads them: upright, palettes and CMYK as RGB, only the first frame of an animation. PNG may have 16 bits, in
    grey or colour. TIFF may have any depth and several pages, also ImageJ's and OME's; PGM and PPM may have any depth.
    Colour in JPEG 2000 and AVIF has the 8 bits at which Pillow reads it. A file that was cut off, or that announces pages
    which it does not hold, is refused.

    The axes are those that the file names. If it names none, three axes are read like this. An array whose last axis has
    length 1 to 4 has channels last. A tensor whose first axis has length 1 or 3 has channels first; otherwise one whose
    last axis has length 3 has them last. Anything else is a stack of separate pictures, such as wavelengths: the first axis
    counts them if it is the shortest or the last two are equal, the last axis if it is at most half of the others. If
    neither holds, an error asks for `axes`. Four axes are a stack of pictures with channels.

    One channel is grey, three are red, green and blue. The last of 2 or 4 channels is alpha, and is kept apart, if the file
    says so. If the file does not say, and for arrays of uint8, uint16 and floats, it is alpha if at least half of its samples
    are clear or opaque and a tenth are opaque. All other channels are separate pictures.

    Args:
        source: a file, a PIL picture, an array or a tensor; integers, or floats in which NaN marks missing samples.
            Integers of 64 bits must lie within 2**53, where float64 is exact. A `Measured` is returned unchanged.
        axes: one letter for each axis of `source`: H and W, D for the depth of one volume, C for channels, A for channels
            whose last is alpha, N for separate pictures ("NHW", "DHW", "NCHW", "HWC", "NNHW", "HWA"); or the letters
            of microscopes' files: Y and X, Z for planes (the depth if the PSF has one), S for red, green and blue, T
            and C for separate pictures ("TZCYX").

    Raises:
        PictureError: the file is missing, not a picture, damaged or a decompression bomb; samples are infinite, or integers
            beyond 2**53.
        ShapeError: the lengths leave the axes open, or `axes` does not fit them.
        DtypeError: the samples are bool, complex or not numbers.

    Example:
        >>> deep = measured(np.array([[0, 65535]], dtype=np.uint16))
        >>> deep.samples, deep.peak
        (tensor([[    0., 65535.]]), 65535.0)
        >>> deep.like(deep.samples / 2)
        array([[    0, 32768]], dtype=uint16)
    """
    if isinstance(source, Measured):
        if axes not in (None, source.given, source.names):
            raise ShapeError(
                f"measured: axes is {axes!r}, but the picture was read as {source.given!r}. Name the axes where it is read."
            )
        return source
    read = _read_of(source)
    values, letters = read.values, _axes_of(read, axes)
    samples = _floating(values).permute(_order(letters))
    # NaN marks a missing sample; an infinite one would spread over the picture in the first FFT.
    infinite = int(torch.isinf(samples).sum())
    if infinite:
        raise PictureError(
            f"measured: {infinite} of {samples.numel()} samples {'is' if infinite == 1 else 'are'} infinite, but finite ones "
            "were needed. Set them to NaN, which marks missing samples."
        )
    order, alpha = "".join(sorted(letters, key=ORDER.index)), None
    has_alpha, notes = _has_alpha(read, letters, axes)
    if has_alpha:
        at = order.index("C")
        samples, alpha = samples.split([samples.shape[at] - 1, 1], at)
    elif "C" in letters and values.shape[letters.index("C")] not in (1, 3):
        order = order.replace("C", "N")
    names = (read.names if axes is None else axes) if axes is None or "Y" in axes else ""
    four = "C" in letters and values.shape[letters.index("C")] in (2, 4)
    metadata = replace(read.metadata, alpha=has_alpha) if four else read.metadata
    description = (read.mode, read.jpeg, names, metadata, (*read.notes, *notes))
    return Measured(samples, order, letters, values.dtype, alpha, *description)


def _has_alpha(read: _Read, letters: str, axes: str | None) -> tuple[bool, list[str]]:
    """Return whether the last channel is alpha, and a note if only the samples decide it."""
    channels = read.values.shape[letters.index("C")] if "C" in letters else 1
    if channels not in (2, 4):
        return False, []
    if axes is not None and "A" in axes:
        return True, []
    if read.alpha is not None:
        return read.alpha, []
    looks_like_alpha = is_alpha(read.values, letters.index("C"))
    if looks_like_alpha:
        verdict = (
            f'looks like alpha and is kept unchanged; axes="{letters.replace("C", "N")}" treats it like the other channels'
        )
    else:
        verdict = f'does not look like alpha and is treated like the others; axes="{letters.replace("C", "A")}" makes it alpha'
    return looks_like_alpha, [f"measured: the last of {channels} channels {verdict}."]


def samples_and_axes(source: Source, axes: str | None = None) -> tuple[np.ndarray[Any, Any] | Tensor, str]:
    """Return a picture's samples in their own type and layout, and one letter for each axis.

    The arguments and errors are those of `measured`.
    """
    read = _read_of(source)
    return read.values, _axes_of(read, axes)


def array_of(values: np.ndarray[Any, Any] | Tensor) -> np.ndarray[Any, Any]:
    """Return samples as an array of the same type, except that bfloat16, which NumPy lacks, becomes float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    return values


@dataclass(frozen=True, eq=False)
class _Read:
    """Samples in their own type and layout, and what else is known of their source.

    Attributes:
        axes: one letter for each axis; None if the source does not name them.
        mode: the mode of a PIL picture.
        alpha: whether the last of 2 or 4 channels is alpha; None if the source does not say.
        jpeg, names, metadata, notes: as in `Measured`.
    """

    values: np.ndarray[Any, Any] | Tensor
    axes: str | None = None
    mode: str | None = None
    jpeg: Jpeg | None = None
    alpha: bool | None = None
    names: str = ""
    metadata: Metadata = NOTHING
    notes: tuple[str, ...] = ()


def _axes_of(read: _Read, axes: str | None) -> str:
    shape = tuple(read.values.shape)
    return named(shape, axes or read.axes or guessed(shape, isinstance(read.values, Tensor)))


def _read_of(source: Source) -> _Read:
    if isinstance(source, Tensor):
        if source.layout is not torch.strided or source.is_meta or (source.is_floating_point() and source.itemsize < 2):
            raise DtypeError(f"measured: {shown(source)} came, but a dense tensor of values was needed. Pass one.")
        return _Read(source.detach())
    if isinstance(source, np.ma.MaskedArray):
        raise DtypeError(
            "measured: source is a masked array, whose mask would be lost. Pass source.astype(float).filled(numpy.nan)."
        )
    if isinstance(source, np.ndarray):
        return _Read(source)
    if not isinstance(source, Image.Image | str | Path):
        raise DtypeError(
            f"measured: source is a {type(source).__name__}, but a path, PIL picture, array or tensor was needed. Pass one."
        )
    with reading("measured", source):
        if isinstance(source, Image.Image):
            return _decoded(source, pil=True)
        return _read(Path(source))


def _decoded(image: Image.Image, pil: bool) -> _Read:
    decoded = bands("measured", image)
    array = np.asarray(decoded)
    jpeg = described(image) if array.dtype == np.uint8 else None
    metadata = replace(metadata_of(image), icc=decoded.info.get("icc_profile"))
    axes, notes = "HWC"[: array.ndim], remarks(image, decoded)
    return _Read(array, axes, decoded.mode if pil else None, jpeg, alpha=True, metadata=metadata, notes=notes)


def _read(path: Path) -> _Read:
    with path.open("rb") as file:
        start = file.read(30)
        file.seek(0)
        refuse_foreign("measured", path, file.read(LONGEST))
    # By content, as Pillow does, and not by the file's name, which anybody may have chosen.
    if start.startswith(MAGIC):
        return _Read(read_npy(path))
    if is_tiff(start):
        tiff = read_tiff(path)
        metadata = replace(metadata_of_tiff(path), layout=tiff.layout)
        return _Read(tiff.samples, kinds(tiff.names), alpha=tiff.alpha, names=tiff.names, metadata=metadata)
    if is_fits(start):
        samples, letters, fits, notes = read_fits(path)
        return _Read(samples, letters, metadata=Metadata(fits=fits), notes=notes)
    pnm = read_pnm(path)
    if pnm is not None:
        return _Read(pnm.samples, "HWC"[: pnm.samples.ndim], alpha=False, metadata=Metadata(white=pnm.white))
    refuse_cut("measured", path)
    with path.open("rb") as file, opened(file) as image:
        if image.format == "PNG" and start[24] == 16:
            return _deep_png(path, start)
        return _decoded(image, pil=False)


def _deep_png(path: Path, start: bytes) -> _Read:
    """Decode PNG with 16 bits a sample, of which Pillow drops 8 in colour; `start` is its first 26 bytes or more."""
    content, colour = path.read_bytes(), start[25]
    if colour == 0:
        grey, metadata = _png_bytes(content)
        return _Read(grey.astype(np.uint16), "HW", metadata=metadata)
    if colour == 4:  # grey and alpha have four bytes a pixel, filtered as in 8-bit RGBA: Pillow is made to decode it as that
        header = b"IHDR" + start[16:24] + b"\x08\x06" + content[26:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        octets, metadata = _png_bytes(content)
        return _Read(np.ascontiguousarray(octets).view(">u2").astype(np.uint16), "HWC", alpha=True, metadata=metadata)
    # Pillow keeps the high byte of each sample: the first byte if it decodes as big-endian, the second as little-endian.
    mode = "RGB" if colour == 2 else "RGBA"
    (high, metadata), (low, _) = (_png_bytes(content, f"{mode};16{order}") for order in "BL")
    return _Read(high.astype(np.uint16) << 8 | low, "HWC", alpha=True, metadata=metadata)


def _png_bytes(content: bytes, raw: str | None = None) -> tuple[np.ndarray[Any, Any], Metadata]:
    with opened(io.BytesIO(content)) as picture:
        image: Any = picture
        if raw is not None:
            decoder, box, offset, _ = image.tile[0]
            image.tile = [(decoder, box, offset, raw)]
        image.load()
        return np.asarray(ImageOps.exif_transpose(image)), metadata_of(image)


def _order(letters: str) -> list[int]:
    """Return the permutation of the source's axes that gives those of `samples`."""
    return sorted(range(len(letters)), key=lambda axis: ORDER.index(letters[axis]))


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _floating(values: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """Convert the values to float32, or to float64 if only that is exact, on their own device."""
    name = _name(values.dtype)
    if name not in (*_SINGLE, *_DOUBLE):
        hint = {
            "bool": "Is it a mask? Else convert it to uint8",
            "complex64": "Pass its magnitude",
            "complex128": "Pass its magnitude",
        }
        raise DtypeError(f"measured: samples are {name}, but integers or floats were needed. {hint.get(name, 'Convert them')}.")
    kind = torch.float32 if name in _SINGLE else torch.float64
    if isinstance(values, Tensor):
        samples = values.to(kind)
    else:
        samples = torch.from_numpy(np.array(values, dtype=_name(kind), order="C"))
    if name.endswith("int64") and int(samples.abs().max()) >= 2**53:
        raise PictureError(f"measured: samples of {name} reach beyond 2**53, where float64 is not exact. Scale them first.")
    return samples


def _typed(samples: Tensor, dtype: np.dtype[Any] | torch.dtype, bounds: tuple[float, float] | None) -> Tensor:
    """Round and clip to an integer type, or convert to a floating one; float64 stands in for types that torch lacks."""
    if bounds is not None:
        missing = int(torch.isnan(samples).sum())
        if missing:
            raise NonFinite(
                f"like: {missing} of {samples.numel()} samples {'is' if missing == 1 else 'are'} NaN, which {dtype} cannot "
                "hold. Fill them in first."
            )
        samples = samples.double().round().clamp(*bounds)
    return samples.to(dtype) if isinstance(dtype, torch.dtype) else samples.double()


def _bounds(dtype: np.dtype[Any] | torch.dtype) -> tuple[float, float] | None:
    """Return the least and the largest value of an integer type, as floats within its range; None for a floating type."""
    name = _name(dtype)
    if "int" not in name:
        return None
    info = np.iinfo(name)
    # float(2**63 - 1) rounds up to 2**63, which the type cannot hold: then the next smaller float is the bound.
    largest = float(info.max)
    return float(info.min), largest if int(largest) == info.max else math.nextafter(largest, 0)


def _name(dtype: np.dtype[Any] | torch.dtype) -> str:
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype.name
