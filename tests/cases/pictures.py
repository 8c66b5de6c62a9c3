"""Small files of every format that is read, to cut, to flip bits of, and to lie in."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

from unconv.pictures.encode import encoded

_TYPES = ("uint8", "uint16", "float32", "float64", "int16")
_PAGED = {
    "pages": {"metadata": None},
    "shaped": {},
    "big": {"bigtiff": True},
    "deflated": {"compression": "zlib"},
    "turned": {"byteorder": ">"},
    "ome": {"ome": True},
    "ome_deflated": {"ome": True, "compression": "zlib"},
    "tiles": {"tile": (16, 16), "compression": "zlib"},
    "strips": {"rowsperstrip": 2},
    "imagej": {"imagej": True},
}


def samples(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 200, shape)
    return (values / 256 if np.dtype(dtype).kind == "f" else values).astype(dtype)


def picture(mode: str = "RGB", height: int = 12, width: int = 10) -> Image.Image:
    return Image.fromarray(samples((height, width, 3))).convert(mode)


def pillow(form: str, mode: str = "RGB", pages: int = 1, **options: object) -> bytes:
    first, *others = (picture(mode).rotate(90 * page, expand=False) for page in range(pages))
    buffer = io.BytesIO()
    first.save(buffer, form, **options, **({"save_all": True, "append_images": others} if others else {}))
    return buffer.getvalue()


def flat_files() -> Iterator[tuple[str, bytes]]:
    """Formats of one picture, and the first of several."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("1", "P", "L", "RGB", "RGBA"):
        yield f"png {mode}", pillow("PNG", mode)
        yield f"bmp {mode}", pillow("BMP", mode)
    yield "png animated", pillow("PNG", pages=2)
    turned = pillow("PNG", exif=exif)
    at = turned.index(b"eXIf") - 4
    chunk = turned[at : at + 12 + int.from_bytes(turned[at : at + 4], "big")]
    yield "png turned by its last chunk", turned.replace(chunk, b"")[:-12] + chunk + turned[-12:]
    for channels in (1, 2, 3, 4):
        yield f"png 16 bits {channels}", encoded(samples((9, 7, channels), "uint16"), "a.png")
    for mode in ("L", "RGB", "CMYK"):
        yield f"jpeg {mode}", pillow("JPEG", mode)
        yield f"jpeg progressive {mode}", pillow("JPEG", mode, progressive=True, exif=exif)
    yield "jpeg of two", pillow("MPO", pages=2)
    yield "gif", pillow("GIF", "P")
    yield "gif animated", pillow("GIF", "P", pages=3)
    for mode in ("1", "L", "RGB"):
        yield f"pnm {mode}", pillow("PPM", mode)
    yield "pgm of numbers", b"P2\n3 2\n255\n1 2 3\n4 50 199\n"
    yield "ppm of numbers", b"P3\n1 2\n255\n1 2 3\n4 50 199\n"
    if "webp" in features.get_supported():
        yield "webp", pillow("WEBP", exif=exif)
        yield "webp lossless", pillow("WEBP", "RGBA", lossless=True)
        yield "webp animated", pillow("WEBP", pages=2)
    if "avif" in features.get_supported():
        yield "avif", pillow("AVIF", "RGBA")
    if "jpg_2000" in features.get_supported():
        yield "jp2", pillow("JPEG2000")
        yield "j2k tiles", pillow("JPEG2000", no_jp2=True, irreversible=False, tile_size=(8, 8))


def npy_files() -> Iterator[tuple[str, bytes]]:
    for name, array in {
        "npy": samples((5, 4), "float64"),
        "npy fortran": np.asfortranarray(samples((5, 4), "int16")),
        "npy big endian": samples((2, 5, 4), "uint16").astype(">u2"),
    }.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield name, buffer.getvalue()


def tiff_files() -> Iterator[tuple[str, bytes]]:
    """Pages as Pillow writes them, and all kinds that tifffile does."""
    for compression in (None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"):
        try:
            yield f"tiff {compression}", pillow("TIFF", "L", 3, compression=compression)
        except OSError:  # a libtiff without it
            continue
    yield "tiff jpeg", pillow("TIFF", "RGB", 2, compression="jpeg")
    yield "tiff group4", pillow("TIFF", "1", 2, compression="group4")
    yield "tiff palette", pillow("TIFF", "P", 2)
    import tifffile

    def written(array: np.ndarray, **options: object) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **{"photometric": "minisblack", **options})
        return buffer.getvalue()

    for dtype in _TYPES:
        for name, options in _PAGED.items():
            if name != "imagej" or dtype in ("uint8", "uint16", "float32"):
                yield f"tiff {dtype} {name}", written(samples((3, 6, 7), dtype), **options)
    yield "tiff imagej hyperstack", written(samples((2, 3, 2, 5, 4), "uint16"), imagej=True, metadata={"axes": "TZCYX"})
    yield "tiff ome of five axes", written(samples((2, 3, 2, 5, 4), "uint16"), ome=True, metadata={"axes": "TCZYX"})
    yield "tiff without tags of its pages", written(samples((6, 5, 4), "float32"), truncate=True)
    yield "tiff colour", written(samples((2, 5, 4, 3), "uint16"), photometric="rgb")
    yield "tiff planes", written(samples((3, 5, 4), "float32"), photometric="rgb", planarconfig="separate", rowsperstrip=2)
    yield "tiff predicted", written(samples((5, 4, 3), "uint16"), photometric="rgb", compression="zlib", predictor=True)
