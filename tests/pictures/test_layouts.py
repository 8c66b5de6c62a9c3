"""A TIFF file of a microscope comes back as it came: another library sees the same axes, spacing, units, colours and tiles."""

from __future__ import annotations

import io
import re
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from unconv.errors import PictureError
from unconv.inverse.fields.image import deblur, super_resolve
from unconv.inverse.psf import makers as psf
from unconv.pictures.encode import encoded, refuse_unfit
from unconv.pictures.measured import measured

tifffile = pytest.importorskip("tifffile", reason="writes the files")

LUTS = [np.stack([np.arange(256) * (band == colour) for band in range(3)]).astype("u1") for colour in (1, 0)]
IMAGEJ = {
    "axes": "TZCYX",
    "spacing": 0.3,
    "unit": "um",
    "finterval": 1.5,
    "mode": "composite",
    "LUTs": LUTS,
    "Ranges": (0.0, 150.0, 0.0, 90.0),
    "Labels": [f"plane {k}" for k in range(12)],
    "Info": "exposure 20 ms",
}
SIZES = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (0.1, 0.2, 0.5), strict=True)}
OME = {
    "axes": "TCZYX",
    **SIZES,
    **{f"{name}Unit": "µm" for name in SIZES},
    "TimeIncrement": 2.0,
    "TimeIncrementUnit": "s",
    "Channel": {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]},
}


def samples(*shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 150, shape).astype(dtype)


FILES = {
    "imagej": (samples(2, 3, 2, 20, 30), {"imagej": True, "resolution": (4.3, 5.1), "metadata": IMAGEJ}),
    "imagej volume": (samples(3, 20, 30), {"imagej": True, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 200}}),
    "imagej time": (samples(4, 20, 30, dtype="float32"), {"imagej": True, "metadata": {"axes": "TYX", "fps": 7.0}}),
    "imagej colour": (samples(2, 20, 30, 3, dtype="uint8"), {"imagej": True, "metadata": {"axes": "TYXS"}}),
    "imagej plane": (samples(20, 30), {"imagej": True, "resolution": (9, 9), "metadata": {"unit": "\\u00B5m"}}),
    "ome": (samples(2, 2, 3, 20, 30), {"ome": True, "metadata": OME}),
    "ome bigtiff": (samples(2, 2, 3, 20, 30), {"ome": True, "bigtiff": True, "byteorder": ">", "metadata": OME}),
    "ome tiles": (samples(40, 60, 3, dtype="uint8"), {"ome": True, "tile": (16, 16), "compression": "zlib", "predictor": 2}),
    "tifffile": (samples(2, 5, 20, 30), {"metadata": {"axes": "TZYX"}, "photometric": "minisblack"}),
    "tiles": (samples(40, 60, dtype="float64"), {"tile": (16, 32), "metadata": None}),
    "channels": (samples(20, 30, 4), {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}),
    "wavelengths": (samples(9, 20, 30), {"photometric": "minisblack", "planarconfig": "separate", "metadata": None}),
    "alpha": (samples(20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (16, 16), "metadata": None}),
}


def stored(tmp_path, name):
    array, options = FILES[name]
    rgb = array.shape[-1] == 3
    tags = [] if "imagej" in options else [(65000, "s", 0, "of our own", True)]
    options = {"photometric": "rgb" if rgb else "minisblack", "extratags": tags, **options}
    tifffile.imwrite(tmp_path / "came.tif", array, software="camera 2", **options)
    return tmp_path / "came.tif"


def said(page):
    """What a page's tags say, except where its samples lie and what changes with each file."""
    own = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "ImageDescription", "SubIFDs", "NewSubfileType"}
    # An old tifffile writes 5.1 as 4294967295/842150450, a new one as 51/10.
    plain = {tag.name: Fraction(*tag.value) for tag in page.tags.values() if tag.name in ("XResolution", "YResolution")}
    plain = {name: value.limit_denominator(10**6) for name, value in plain.items()}
    return {tag.name: str(plain.get(tag.name, tag.value)) for tag in page.tags.values() if tag.name not in own}


def assert_same_layout(path, content):
    with tifffile.TiffFile(path) as came, tifffile.TiffFile(io.BytesIO(content)) as back:
        one, other = came.series[0], back.series[0]
        assert (one.axes, one.shape, one.kind, one.dtype) == (other.axes, other.shape, other.kind, other.dtype)
        assert str(came.imagej_metadata) == str(back.imagej_metadata)
        assert (came.is_bigtiff, came.byteorder) == (back.is_bigtiff, back.byteorder)
        assert said(came.pages[0]) == said(back.pages[0])
        assert [level.shape for level in one.levels] == [level.shape for level in other.levels]
        return other.asarray(), came.ome_metadata, back.ome_metadata


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_nothing_is_done_to_comes_back(tmp_path, name):
    path = stored(tmp_path, name)
    picture = measured(path)
    result = picture.like(picture.samples)
    back, *_ = assert_same_layout(path, encoded(result, "a.tif", axes=picture.given, metadata=picture.metadata))
    assert np.array_equal(back, tifffile.imread(path))


def test_a_hyperstack_is_restored_volume_by_volume_and_plane_by_plane(tmp_path):
    path = stored(tmp_path, "imagej")
    array, deep, flat = tifffile.imread(path), torch.ones(3, 3, 3) / 27, psf.gaussian(1)
    how = {"method": "tikhonov", "strength": 1.0, "noise": 9}
    whole, planes = (deblur(path, blur, **how) for blur in (deep, flat))
    alone = deblur(array[1, :, 0], deep, **how).picture
    assert np.abs(whole.picture[1, :, 0].astype(int) - alone).max() <= 1
    alone = deblur(array[1, 2, 0], flat, **how).picture
    assert np.abs(planes.picture[1, 2, 0].astype(int) - alone).max() <= 1
    for restored in (whole, planes):
        restored.save(tmp_path / "back.tif")
        found, *_ = assert_same_layout(path, (tmp_path / "back.tif").read_bytes())
        assert np.array_equal(found, restored.picture)


def test_channels_of_colours_of_a_microscope_are_restored_apart(tmp_path):
    array = samples(3, 24, 24)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "CYX", "mode": "composite"})
    restored = deblur(tmp_path / "a.tif", psf.gaussian(1), noise=9, method="dct", steps=3).picture
    assert np.array_equal(restored[1], deblur(array[1], psf.gaussian(1), noise=9, method="dct", steps=3).picture)


@pytest.mark.parametrize("inside", [True, False])
def test_a_pyramid_is_made_anew_from_the_picture(tmp_path, inside):
    array = samples(2, 64, 96)[: 2 if inside else 1]
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True, ome=inside) as file:
        how = {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"}
        file.write(array, subifds=2 if inside else None, metadata={"axes": "CYX"} if inside else None, **how)
        for step in (2, 4):
            file.write(array[:, ::step, ::step], subfiletype=1, metadata=None, **how)
    picture = measured(tmp_path / "a.tif")
    content = encoded(picture.like(picture.samples + 7), "a.tif", axes=picture.given, metadata=picture.metadata)
    assert_same_layout(tmp_path / "a.tif", content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        level = file.series[0].levels[1].asarray() if inside else file.pages[1].asarray()
    assert abs(level.mean() - array.mean() - 7) < 0.1
    assert level.flat[0] == np.rint(array[0, :2, :2].mean() + 7)


def test_ome_planes_lie_in_the_new_file_under_another_identity(tmp_path):
    path = stored(tmp_path, "ome")
    text = tifffile.tiffcomment(path)
    said = re.sub(' UUID="[^"]*"', "", text).replace("<OME ", '<OME UUID="urn:uuid:1" ', 1)
    plane = '<TiffData IFD="0"><UUID FileName="came.tif">urn:uuid:1</UUID></TiffData>'
    rest = "".join(f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{6 * t + 3 * c + z}"/>'
                   for t in range(2) for c in range(2) for z in range(3) if t + c + z)  # fmt: skip
    head, _, tail = said.partition("<TiffData")
    with tifffile.TiffFile(path) as file:
        pages = [page.asarray() for page in file.pages]
    with tifffile.TiffWriter(path) as file:
        for index, page in enumerate(pages):
            told = head + plane + rest + tail.partition("/>")[2] if index == 0 else None
            file.write(page, metadata=None, description=told and told.encode())
    picture = measured(path)
    content = encoded(picture.like(picture.samples), "a.tif", axes=picture.given, metadata=picture.metadata)
    (tmp_path / "moved.tif").write_bytes(content)
    found = tifffile.tiffcomment(tmp_path / "moved.tif")
    assert "urn:uuid:1<" not in found and "FileName" not in found and 'UUID="urn:uuid:1"' not in found
    assert np.array_equal(tifffile.imread(tmp_path / "moved.tif"), FILES["ome"][0])
    assert 'Name="GFP"' in found and 'PhysicalSizeZ="0.5"' in found


def test_ome_is_understood_by_another_reader(tmp_path):
    ome_types = pytest.importorskip("ome_types", reason="reads OME")
    path = stored(tmp_path, "ome")
    deblur(path, psf.gaussian(1), noise=9, method="tikhonov", strength=1.0).save(tmp_path / "back.ome.tif")
    came, back = (ome_types.from_tiff(name).images[0].pixels for name in (path, tmp_path / "back.ome.tif"))
    for field in (
        "size_x",
        "size_z",
        "size_c",
        "physical_size_x",
        "physical_size_z_unit",
        "time_increment",
        "type",
        "channels",
    ):
        assert getattr(came, field) == getattr(back, field)


def test_a_finer_grid_has_smaller_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", samples(16, 20), imagej=True, resolution=(4.0, 5.0), metadata={"unit": "um"})
    super_resolve(tmp_path / "a.tif", 2, noise=9, method="dct", steps=2).save(tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].get_resolution() == (8.0, 10.0) and file.imagej_metadata["unit"] == "um"
    tifffile.imwrite(tmp_path / "a.ome.tif", samples(16, 20), metadata={"PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "µm"})
    super_resolve(tmp_path / "a.ome.tif", 3, noise=9, method="dct", steps=2).save(tmp_path / "b.ome.tif")
    found = tifffile.tiffcomment(tmp_path / "b.ome.tif")
    assert (
        'SizeX="60"' in found
        and 'SizeY="48"' in found
        and float(found.split('PhysicalSizeX="')[1].split('"')[0]) == pytest.approx(0.1)
    )


def test_measured_samples_that_imagej_shows_in_colours_stay_measured_ones(tmp_path):
    colours = (np.stack([np.arange(256), np.zeros(256), np.arange(256)[::-1]]) * 257).astype("u2")
    array = samples(20, 30, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="palette", colormap=colours, description="ImageJ=1.54f\nunit=um\n",
                     metadata=None)  # fmt: skip
    picture = measured(tmp_path / "a.tif")
    assert picture.axes == "HW" and np.array_equal(picture.samples, array)
    content = encoded(picture.like(picture.samples), "a.tif", axes="HW", metadata=picture.metadata)
    back, *_ = assert_same_layout(tmp_path / "a.tif", content)
    assert np.array_equal(back, array)


def test_without_tifffile_a_layout_is_refused_before_the_work(tmp_path, monkeypatch):
    path = stored(tmp_path, "imagej")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    picture = measured(path)
    with pytest.raises(PictureError, match=r'cannot write the axes, units.*pip install "unconv\[image\]"'):
        refuse_unfit(picture, "a.tif")
    refuse_unfit(picture, "a.npy")


STACKS = [((2, 3, 9, 8), "NNHW"), ((2, 3, 9, 8, 3), "NNHWC"), ((9, 8, 31), "HWN"), ((5, 9, 8), "CHW"), ((9, 8, 4), "HWC")]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize("shape, axes", STACKS)
def test_any_stack_and_any_channels_of_an_array_go_into_tiff(tmp_path, shape, axes, dtype):
    array = samples(*shape, dtype=dtype)
    (tmp_path / "a.tif").write_bytes(encoded(array, "a.tif", axes=axes))
    back = measured(tmp_path / "a.tif")
    assert back.alpha is None and back.axes == measured(array, axes=axes).axes
    assert np.array_equal(back.samples, measured(array, axes=axes).samples)
