"""What a file cannot hold is known before there is anything to write."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unconv.errors import DtypeError, PictureError
from unconv.pictures.encode import encoded, refuse_unfit
from unconv.pictures.measured import measured

DTYPES = ["uint8", "int8", "uint16", ">u2", "int16", "uint32", "int32", "int64", "float16", "float32", ">f4", "float64"]
TENSORS = [torch.uint8, torch.int16, torch.uint16, torch.int64, torch.half, torch.bfloat16, torch.float, torch.double]
AXES = ["HW", "HWC", "CHW", "WH", "NHW", "DHW", "NHWC", "CDHW", "NNHW", "HWN"]
Image.init()
SUFFIXES = sorted({*Image.registered_extensions(), ".npy", ".TIF", ".xyz", ""})


def words(function, *arguments, **options):
    """What the refusal says; None if there is none."""
    try:
        function(*arguments, **options)
    except PictureError as error:
        return str(error)
    return None


def assert_both_refuse_the_same(picture, suffix):
    result = picture.like(picture.samples)
    assert words(refuse_unfit, picture, f"a{suffix}") == words(encoded, result, f"a{suffix}", axes=picture.given)


def shape_of(axes, channels):
    sizes = {"C": channels, "N": 2, "D": 3, "H": 20, "W": 30}
    return tuple(sizes[letter] for letter in axes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:IM image format is deprecated")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axes", ["HW", "HWC", "CHW", "NHWC"])
def test_a_picture_of_8_bits_is_refused_exactly_where_encoding_it_is(axes, suffix):
    pytest.importorskip("tifffile")
    for channels in (1, 2, 3, 4) if "C" in axes else (1,):
        assert_both_refuse_the_same(measured(np.zeros(shape_of(axes, channels), np.uint8), axes=axes), suffix)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg", ".webp", ".xyz", ""])
@pytest.mark.parametrize("dtype", [*DTYPES, *TENSORS], ids=str)
def test_a_type_is_refused_exactly_where_encoding_it_is(dtype, suffix):
    pytest.importorskip("tifffile")
    for axes in AXES:
        for channels in (1, 2, 3, 4) if "C" in axes else (1,):
            shape = shape_of(axes, channels)
            source = torch.zeros(shape, dtype=dtype) if isinstance(dtype, torch.dtype) else np.zeros(shape, dtype)
            assert_both_refuse_the_same(measured(source, axes=axes), suffix)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg", ".gif"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "I", "F", "P", "1", "CMYK"])
def test_a_pil_picture_is_refused_exactly_where_encoding_it_is(mode, suffix):
    pytest.importorskip("tifffile")
    assert_both_refuse_the_same(measured(Image.new(mode, (30, 20))), suffix)


@pytest.mark.parametrize("size", [(1, 65501), (65501, 1), (1, 65500)])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_a_side_that_is_too_long_for_the_format_is_refused_beforehand(size, suffix):
    assert_both_refuse_the_same(measured(np.zeros(size, np.uint8), axes="HW"), suffix)


@pytest.mark.parametrize("dtype, refused", [("uint8", False), ("uint16", False), ("float64", True)])
def test_without_tifffile_only_what_needs_it_is_refused(monkeypatch, dtype, refused):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    picture = measured(np.zeros((5, 7), dtype))
    assert bool(words(refuse_unfit, picture, "a.tif")) is refused
    assert_both_refuse_the_same(picture, ".tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_what_surely_fits_is_not_encoded_to_find_out(monkeypatch, suffix):
    monkeypatch.setattr(Image.Image, "save", None)  # which would fail if it were called
    refuse_unfit(measured(np.zeros((5, 7, 3), np.uint8)), f"a{suffix}")


def test_a_path_is_no_picture_to_encode():
    with pytest.raises(DtypeError, match=r"picture is the path a\.png, but an array"):
        encoded("a.png", "b.png")
