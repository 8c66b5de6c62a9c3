"""Measure pictures: every depth kept, in the source's own units, and given back in the kind they came in.

`decode.open_picture` makes pictures to look at, at 8 bits. Undoing a blur needs all samples: 16 bits, floats, stacks.
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
_DOUBLE = ("uint32", "int32", "uint64", "int64", "float64")  # in float64, integers up to 2**53


@dataclass(frozen=True, eq=False)
class Measured:
    """A picture's samples, and how to give a result back in the same kind.

    Attributes:
        samples: floating, in the source's own units (uint8 0..255, uint16 0..65535, floats as they are), float32
            where that is exact and float64 otherwise. Separate pictures and channels come first, the axes that a
            blur runs over last: (H, W), (C, H, W), (N, H, W), (N, C, H, W), (D, H, W), (C, D, H, W).
        axes: what the axes of `samples` are, such as "CHW": N pictures, C channels, D depth, H height, W width.
        given: the same of the source, alpha among its channels.
        dtype: of the source: numpy's, or torch's where it was a tensor.
        alpha: the transparency, as `samples` with one channel; None without.
        mode: of the PIL picture it was; None where it was none.
        jpeg: of a JPEG, what its file says of how it was compressed.
        names: of the axes of the source, as its file or its owner names them, such as "TZCYX"; "" where neither does.
        metadata: what else its file says: a profile of its colours, EXIF, resolution.
        notes: what was done to read it that its owner should know, such as a palette that is gone.
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
        """The source's shape, its axes in the order of `given`."""
        shape = list(self.samples.shape)
        if self.alpha is not None:
            shape[self.axes.index("C")] += 1
        return tuple(shape[axis] for axis in _inverse(_order(self.given)))

    @property
    def spatial(self) -> tuple[int, ...]:
        """Lengths of the axes a blur runs over: (H, W), or (D, H, W) for a volume."""
        return tuple(self.samples.shape[-3 if "D" in self.axes else -2 :])

    @property
    def colour(self) -> bool:
        """It is red, green and blue."""
        return "C" in self.axes and self.samples.shape[self.axes.index("C")] == 3

    @property
    def peak(self) -> float | None:
        """The largest value that it may hold, such as 255, 4095 or 65535; None for floats, which do not say."""
        return None if self.bounds is None else self.bounds[1]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the largest value that its type holds, or a file's that says what white is; None for floats."""
        bounds = _bounds(self.dtype)
        return (bounds[0], float(self.metadata.white)) if bounds and self.metadata.white else bounds

    def as_volume(self) -> Measured:
        """Return the same picture with its depth as an axis that a blur runs over: Z, or the one axis that nobody named.

        It is returned as it is where there is no such axis, and where it has depth already.
        """
        unnamed = [axis for axis, letter in enumerate(self.names or self.given) if letter == "N"]
        depth = [self.names.index("Z")] if "Z" in self.names else unnamed
        if "D" in self.given or len(depth) != 1:
            return self
        given = "".join("D" if axis == depth[0] else letter for axis, letter in enumerate(self.given))
        # Wavelengths that stand last are a depth as good as any: three axes of one volume come as they stand.
        given = "DHW" if given == "HWD" and not self.names else given
        turn = [_order(self.given).index(axis) for axis in _order(given)]
        axes = "".join(sorted(given if "C" in self.axes else given.replace("C", "N"), key=ORDER.index))
        alpha = None if self.alpha is None else self.alpha.permute(turn)
        return replace(self, samples=self.samples.permute(turn), axes=axes, given=given, alpha=alpha)

    def like(self, samples: Tensor) -> Any:
        """Return `samples` in the kind, type and layout of the source: a tensor, an array (also for a file) or a PIL picture.

        For an integer type they are rounded and clipped to its range; floats are not touched. Alpha is put back
        unchanged.

        Args:
            samples: laid as `self.samples`; height, width and depth may differ where there is no alpha.

        Raises:
            ShapeError: other axes than `self.samples`.
            NonFinite: NaN where the source's type is an integer type.
        """
        leading = len(self.axes) - len(self.spatial)
        came, needed = tuple(samples.shape), tuple(self.samples.shape)
        fits = len(came) == len(needed) and came[:leading] == needed[:leading]
        if not fits or (self.alpha is not None and came != needed):
            raise ShapeError(
                f"like: samples are {came}, but the picture is {needed} ({self.axes}). Give back as many axes and channels"
                + (" and the same size, since it has an alpha channel." if fits else " as came.")
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

    Files, known by their content: those of `unconv.pictures.formats.FORMATS` and `.npy`. 8-bit ones come as Pillow reads
    them, upright, palettes and CMYK as RGB, of an animation the first frame; PNG with 16 bits, grey or colour; TIFF of
    any depth and of several pages, also ImageJ's and OME's; PGM and PPM of any depth. Colour of JPEG 2000 and AVIF comes at
    the 8 bits that Pillow reads it at. A file that was cut off, or that announces pages which are not in it, is refused.

    The axes are those that the file names. Where none does, three axes are read like this. An array whose last axis is 1 to
    4 long has channels last; a tensor whose first axis is 1 or 3 long has channels first, else one whose last axis is 3 long
    has them last. Any other is a stack of separate pictures, such as wavelengths: the first axis counts them where it is the
    shortest or the last two are equal, the last where it is at most half of the others. If neither, `axes` is asked for.
    Four axes are a stack of pictures with channels.

    One channel is grey, three are red, green and blue. Of 2 or 4 the last is alpha, kept apart, if the file says so; where it
    says nothing, and for arrays of uint8, uint16 and floats, if half of it is clear or opaque and a tenth opaque. All other
    channels are separate pictures.

    Args:
        source: a file, a PIL picture, an array or a tensor; integers, or floats in which NaN marks missing samples.
            Integers of 64 bits must lie within 2**53, where float64 is exact. A `Measured` is returned as it is.
        axes: one letter for each axis of `source`: H and W, D for the depth of one volume, C for channels, A for those of
            which the last is alpha, N for separate pictures ("NHW", "DHW", "NCHW", "HWC", "NNHW", "HWA"); or the letters
            of microscopes' files: Y and X, Z for planes (the depth where a PSF has one), S for red, green and blue, T
            and C for separate pictures ("TZCYX").

    Raises:
        PictureError: missing, no picture, damaged, a decompression bomb, infinite samples, integers beyond 2**53.
        ShapeError: axes that cannot be told, or not those that `axes` says.
        DtypeError: bool, complex or no numbers.

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
                f"measured: axes is {axes!r}, but the picture was measured as {source.given!r}. Say the axes when it is read."
            )
        return source
    read = _read_of(source)
    values, given = read.values, _axes_of(read, axes)
    samples = _floating(values).permute(_order(given))
    infinite = int(torch.isinf(samples).sum())
    if infinite:
        raise PictureError(f"measured: {infinite} of {samples.numel()} samples are infinite. Set them to NaN: not observed.")
    order, alpha = "".join(sorted(given, key=ORDER.index)), None
    has_alpha, notes = _has_alpha(read, given, axes)
    if has_alpha:
        at = order.index("C")
        samples, alpha = samples.split([samples.shape[at] - 1, 1], at)
    elif "C" in given and values.shape[given.index("C")] not in (1, 3):
        order = order.replace("C", "N")
    names = (read.names if axes is None else axes) if axes is None or "Y" in axes else ""
    four = "C" in given and values.shape[given.index("C")] in (2, 4)
    metadata = replace(read.metadata, alpha=has_alpha) if four else read.metadata
    said = (read.mode, read.jpeg, names, metadata, (*read.notes, *notes))
    return Measured(samples, order, given, values.dtype, alpha, *said)


def _has_alpha(read: _Read, given: str, axes: str | None) -> tuple[bool, list[str]]:
    """Whether the last channel is alpha, and what is to be said where only the samples tell it."""
    channels = read.values.shape[given.index("C")] if "C" in given else 1
    if channels not in (2, 4):
        return False, []
    if axes is not None and "A" in axes:
        return True, []
    if read.alpha is not None:
        return read.alpha, []
    found = is_alpha(read.values, given.index("C"))
    if found:
        said = f'looks like alpha, and is kept as it is; axes="{given.replace("C", "N")}" makes it a channel like the others'
    else:
        said = f'does not look like alpha, and is taken for a channel; axes="{given.replace("C", "A")}" makes it alpha'
    return found, [f"measured: the last of {channels} channels {said}."]


def samples_and_axes(source: Source, axes: str | None = None) -> tuple[np.ndarray[Any, Any] | Tensor, str]:
    """Read a picture's samples in their own type and layout, and one letter for each axis.

    The arguments and errors of `measured`.
    """
    read = _read_of(source)
    return read.values, _axes_of(read, axes)


def array_of(values: np.ndarray[Any, Any] | Tensor) -> np.ndarray[Any, Any]:
    """Return samples as an array of the same type; bfloat16, which numpy lacks, as float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype == torch.bfloat16 else values).numpy())
    return values


@dataclass(frozen=True, eq=False)
class _Read:
    """Samples in their own type and layout, and what else their source says.

    Attributes:
        axes: one letter for each; None where the source does not know them.
        mode: of a PIL picture.
        alpha: whether the last of 2 or 4 channels is alpha; None where the source does not know.
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
            raise DtypeError(f"measured: {shown(source)} came, but a dense tensor with values was needed. Pass one.")
        return _Read(source.detach())
    if isinstance(source, np.ma.MaskedArray):
        raise DtypeError("measured: a masked array would lose its mask. Pass source.astype(float).filled(numpy.nan).")
    if isinstance(source, np.ndarray):
        return _Read(source)
    if not isinstance(source, Image.Image | str | Path):
        raise DtypeError(f"measured: source is a {type(source).__name__}; a path, PIL picture, array or tensor was needed.")
    with reading("measured", source):
        if isinstance(source, Image.Image):
            return _decoded(source, pil=True)
        return _read(Path(source))


def _decoded(image: Image.Image, pil: bool) -> _Read:
    made = bands("measured", image)
    array = np.asarray(made)
    jpeg = described(image) if array.dtype == np.uint8 else None
    metadata = replace(metadata_of(image), icc=made.info.get("icc_profile"))
    given, notes = "HWC"[: array.ndim], remarks(image, made)
    return _Read(array, given, made.mode if pil else None, jpeg, alpha=True, metadata=metadata, notes=notes)


def _read(path: Path) -> _Read:
    with path.open("rb") as file:
        start = file.read(30)
        file.seek(0)
        refuse_foreign("measured", path, file.read(LONGEST))
    # By content, as Pillow goes by it too: what a file is called says nothing of who wrote it.
    if start.startswith(MAGIC):
        return _Read(read_npy(path))
    if is_tiff(start):
        tiff = read_tiff(path)
        metadata = replace(metadata_of_tiff(path), layout=tiff.layout)
        return _Read(tiff.samples, kinds(tiff.names), alpha=tiff.alpha, names=tiff.names, metadata=metadata)
    if is_fits(start):
        samples, given, fits, notes = read_fits(path)
        return _Read(samples, given, metadata=Metadata(fits=fits), notes=notes)
    pnm = read_pnm(path)
    if pnm is not None:
        return _Read(pnm.samples, "HWC"[: pnm.samples.ndim], alpha=False, metadata=Metadata(white=pnm.white))
    refuse_cut("measured", path)
    with path.open("rb") as file, opened(file) as image:
        if image.format == "PNG" and start[24] == 16:
            return _deep_png(path, start)
        return _decoded(image, pil=False)


def _deep_png(path: Path, start: bytes) -> _Read:
    """Decode PNG with 16 bits a sample, of which Pillow's usual way drops 8 in colour; `start`: its first 26 bytes."""
    content, colour = path.read_bytes(), start[25]
    if colour == 0:
        grey, metadata = _png_bytes(content)
        return _Read(grey.astype(np.uint16), "HW", metadata=metadata)
    if colour == 4:  # grey and alpha: four bytes a pixel, filtered as those of 8-bit RGBA are
        header = b"IHDR" + start[16:24] + b"\x08\x06" + content[26:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        octets, metadata = _png_bytes(content)
        return _Read(np.ascontiguousarray(octets).view(">u2").astype(np.uint16), "HWC", alpha=True, metadata=metadata)
    # Pillow takes the first byte of each sample as big-endian's high one, the second as little-endian's.
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


def _order(given: str) -> list[int]:
    """Say which axes of the source make those of `samples`."""
    return sorted(range(len(given)), key=lambda axis: ORDER.index(given[axis]))


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _floating(values: np.ndarray[Any, Any] | Tensor) -> Tensor:
    """Convert the values to float32, or float64 where only that is exact; on the device of `values`."""
    name = _name(values.dtype)
    if name not in (*_SINGLE, *_DOUBLE):
        hint = {
            "bool": "Is it a mask? Else convert it to uint8",
            "complex64": "Pass its magnitude",
            "complex128": "Pass its magnitude",
        }
        raise DtypeError(f"measured: samples are {name}; integers or floats were needed. {hint.get(name, 'Convert them')}.")
    kind = torch.float32 if name in _SINGLE else torch.float64
    if isinstance(values, Tensor):
        samples = values.to(kind)
    else:
        samples = torch.from_numpy(np.array(values, dtype=_name(kind), order="C"))
    if name.endswith("int64") and int(samples.abs().max()) >= 2**53:
        raise PictureError(f"measured: samples of {name} reach beyond 2**53, where float64 is not exact. Scale them first.")
    return samples


def _typed(samples: Tensor, dtype: np.dtype[Any] | torch.dtype, bounds: tuple[float, float] | None) -> Tensor:
    """Round and clip to an integer type, only convert to a floating one; float64 where torch lacks the type."""
    if bounds is not None:
        holes = int(torch.isnan(samples).sum())
        if holes:
            raise NonFinite(
                f"like: {holes} of {samples.numel()} samples are NaN, which {dtype} cannot hold. Fill them in first."
            )
        samples = samples.double().round().clamp(*bounds)
    return samples.to(dtype) if isinstance(dtype, torch.dtype) else samples.double()


def _bounds(dtype: np.dtype[Any] | torch.dtype) -> tuple[float, float] | None:
    """Return the least and the largest value of an integer type, as floats that it holds; None for floats."""
    name = _name(dtype)
    if "int" not in name:
        return None
    info = np.iinfo(name)
    largest = float(info.max)
    return float(info.min), largest if int(largest) == info.max else math.nextafter(largest, 0)


def _name(dtype: np.dtype[Any] | torch.dtype) -> str:
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype.name
