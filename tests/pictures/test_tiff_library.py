"""TIFF that is packed as only another library reads it: read through that, or refused with its name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cases.pictures import samples
from unconv.errors import PictureError
from unconv.pictures.measured import measured

tifffile = pytest.importorskip("tifffile", reason="writes the files")
WAYS = [("jpeg2000", "uint16"), ("jpeg2000", "uint8"), ("jpegxr", "uint16"), ("lerc", "float32"), ("jpegxl", "uint8")]


@pytest.mark.parametrize("compression, dtype", WAYS)
@pytest.mark.parametrize("shape", [(40, 48), (3, 40, 48), (40, 48, 3)])
def test_a_rare_compression_is_read(tmp_path, compression, dtype, shape):
    pytest.importorskip("imagecodecs", reason="the extra microscopy")
    array = samples(shape, dtype)
    how = {"photometric": "rgb" if shape[-1] == 3 else "minisblack", "tile": (16, 16), "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, **how)
    picture, expected = measured(tmp_path / "a.tif"), tifffile.imread(tmp_path / "a.tif")
    assert np.array_equal(picture.like(picture.samples), expected)
    assert picture.axes == {(40, 48): "HW", (3, 40, 48): "NHW", (40, 48, 3): "CHW"}[shape]


def test_damaged_tiles_are_damage(tmp_path):
    pytest.importorskip("imagecodecs", reason="the extra microscopy")
    tifffile.imwrite(tmp_path / "a.tif", samples((40, 48), "uint16"), compression="jpeg2000", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].dataoffsets[0]
    content[at : at + 60] = bytes(60)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(PictureError, match=r"a\.tif is damaged"):
        measured(tmp_path / "a.tif")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", samples((40, 48), "uint16"), metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content.replace(b"\3\1\3\0\1\0\0\0\1\0", b"\3\1\3\0\1\0\0\0\x98\x87"))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(PictureError, match=r'compression, 34712, is not read.*pip install "unconv\[microscopy\]"'):
        measured(tmp_path / "a.tif")
