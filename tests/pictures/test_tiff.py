"""TIFF: what a file announces is counted against what came, and bounded before memory is taken."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from PIL import Image

from cases.pictures import samples, tiff_files
from unconv.errors import PictureError, UnconvError
from unconv.pictures.decode import open_picture
from unconv.pictures.measured import measured

STRIP = {256: 4, 257: 5, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 5, 279: 20}


def tiff(*pages, size=400, circle=False, more=b""):
    """A file of pages of these tags, whose one strip lies behind the header."""
    content = b"II*\0" + struct.pack("<I", 40 if pages else 0) + bytes(32)
    for index, tags in enumerate(pages):
        at = len(content)
        entries = b"".join(
            struct.pack("<HHII", tag, *(value if isinstance(value, tuple) else (4, 1, value)))
            for tag, value in sorted(tags.items())
        )
        last = index == len(pages) - 1
        behind = (40 if circle else 0) if last else at + 2 + len(entries) + 4
        content += struct.pack("<H", len(tags)) + entries + struct.pack("<I", behind)
    return content.ljust(size, b"\0") + more


def refused(tmp_path, content, words, read=measured):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(PictureError, match=words):
        read(tmp_path / "a.tif")


def test_a_plain_page_is_read(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(STRIP, STRIP))
    assert measured(tmp_path / "a.tif").samples.shape == (2, 5, 4)


LIES = {
    "no page": (tiff(), "no page"),
    "a circle": (tiff(STRIP, STRIP, circle=True), "circle"),
    "no height": (tiff(STRIP | {257: 0}), "0 x 4 pixels"),
    "no width": (tiff(STRIP | {256: 0}), "5 x 0 pixels"),
    "no rows a strip": (tiff(STRIP | {278: 0}), "strips or tiles of 0 x 4"),
    "a strip beyond the end": (tiff(STRIP | {273: 390}), "lies beyond its end"),
    "a strip too short": (tiff(STRIP | {279: 19}), "holds 19 of 20 bytes"),
    "a strip left out": (tiff(STRIP | {279: 0}), "holds no samples"),
    "a strip too few": (tiff(STRIP | {278: 3}), "lists 1 of its strips or tiles, but 2 were needed"),
    "more values than bytes": (tiff(STRIP | {270: (2, 10**9, 0)}), "lie beyond its end"),
    "more samples than any": (tiff(STRIP | {277: 60_000}), "60000 samples"),
    "bits of too few samples": (tiff(STRIP | {277: 3, 258: (3, 2, 0x80008)}), "2 depths"),
    "more pixels than the limit": (tiff(STRIP | {256: 2**31, 257: 2**31, 259: 8, 278: 2**31}), "decompression bomb"),
    "bytes beyond the limit": (tiff(STRIP | {256: 20_000, 257: 4000, 258: 64, 277: 4, 278: 4000, 259: 8}), "bits of|bomb"),
    "a compression that nobody knows": (tiff(STRIP | {258: 64, 259: 34892, 339: 3}), "compression, 34892, is not read"),
    "bits that no type has": (tiff(STRIP | {258: 12, 279: 30}), "samples have .12,. bits"),
    "a page of several": (tiff(STRIP | {32997: 3}), "holds 3 pages in one, which are not read"),
    "a stack of MetaMorph": (tiff(STRIP | {33629: (5, 7, 100)}), "MetaMorph stack of 7 planes"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)  # which would be asked first
    content, words = LIES[name]
    refused(tmp_path, content, words)


def test_many_pages_that_share_a_large_strip_are_refused(tmp_path):
    page = STRIP | {256: 50_000, 257: 10, 278: 10, 259: 8, 273: 8, 279: 500_000}
    refused(tmp_path, tiff(*[page] * 60, size=500_008), "its pages claim .* bytes, but it holds")


@pytest.mark.parametrize("read", [measured, open_picture])
def test_a_strip_that_unpacks_to_more_than_it_should_costs_nothing(tmp_path, read):
    import zlib

    bomb = zlib.compress(bytes(50_000_000), 9)
    content = tiff(STRIP | {258: 64, 339: 3, 259: 8, 273: 400, 279: len(bomb)}, more=bomb)
    refused(tmp_path, content, "does not unpack to 160 bytes|not a picture", read)


TOLD = {
    "imagej": "ImageJ=1.54\nimages=1000000\nslices=1000000\n",
    "imagej of no number": "ImageJ=1.54\nimages=0\n",
    "tifffile": '{"shape": [100000, 5, 4]}',
    "tifffile of another size": '{"shape": [3, 7, 7]}',
    "ome": '<OME><Pixels DimensionOrder="XYZCT" SizeX="4" SizeY="5" SizeZ="999999999" SizeC="9" SizeT="9"/></OME>',
    "ome of other files": '<OME UUID="urn:uuid:1"><Pixels DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1"><TiffData>'
    '<UUID FileName="b.tif">urn:uuid:2</UUID></TiffData></Pixels></OME>',
    "ome of two": '<OME><Pixels DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1"/><Pixels/></OME>',
    "ome of digits": f'<OME><Pixels DimensionOrder="XYZCT" SizeZ="{"9" * 5000}" SizeC="1" SizeT="1"/></OME>',
    "ome of no order": '<OME><Pixels DimensionOrder="XYZ" SizeZ="1" SizeC="1" SizeT="1"/></OME>',
    "ome of one page twice": '<OME><Pixels DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1"><TiffData/><TiffData/></Pixels',
    "ome of none": "<OME></OME>",
    "ome elsewhere": '<OME><BinaryOnly MetadataFile="a.ome" UUID="urn:uuid:1"/></OME>',
    "ome of too many planes": '<OME><Pixels DimensionOrder="XYZCT" SizeZ="1" SizeC="1" SizeT="1">'
    '<TiffData PlaneCount="999999999"/></Pixels></OME>',
    "ome of no sense": "<OME " + "a" * 200_000 + "<!--" * 50_000,
}


@pytest.mark.parametrize("name", TOLD)
def test_a_description_of_pages_that_did_not_come_is_refused(tmp_path, name):
    told = TOLD[name].encode()
    refused(tmp_path, tiff(STRIP | {270: (2, len(told), 400)}, more=told), "description|another file")


def test_ome_planes_are_put_in_the_order_that_the_description_says(tmp_path):
    told = (
        b'<OME><Image><Pixels DimensionOrder="XYZCT" SizeX="4" SizeY="5" SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="1" '
        b'FirstZ="0"/><TiffData IFD="0" FirstZ="1"/></Pixels></Image></OME>'
    )
    content = bytearray(tiff(STRIP | {270: (2, len(told), 400)}, STRIP | {273: 20}, more=told))
    content[8:40] = range(32)
    (tmp_path / "a.tif").write_bytes(content)
    assert measured(tmp_path / "a.tif").samples[:, 0, 0].tolist() == [12, 0]


@pytest.mark.parametrize("told", [
    '<OME UUID="urn:uuid:1"><Pixels DimensionOrder="XYCZT" SizeX="4" SizeY="5" SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0" '
    'PlaneCount="1"><UUID FileName="as it was called.tif">urn:uuid:1</UUID></TiffData></Pixels></OME>',
    '<OME><Pixels DimensionOrder="XYCZT" SizeZ="1" SizeC="1" SizeT="1"><TiffData><UUID FileName="a.tif">urn:uuid:1</UUID>'
    "</TiffData></Pixels></OME>",
    '<ome:OME><!-- <Pixels/> --><ome:Pixels DimensionOrder="XYCZT" SizeZ="1" SizeC="1" SizeT="1"/></ome:OME>',
], ids=["renamed", "named", "with a prefix"])  # fmt: skip
def test_ome_planes_of_the_file_itself_are_read(tmp_path, told):
    (tmp_path / "a.tif").write_bytes(tiff(STRIP | {270: (2, len(told), 400)}, more=told.encode()))
    assert measured(tmp_path / "a.tif").spatial == (5, 4)


def test_every_kind_of_file_agrees_with_tifffile(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="writes the files")
    for name, content in tiff_files():
        if len(name.split()) > 2:  # Pillow's own are told apart by their second word alone
            (tmp_path / "a.tif").write_bytes(content)
            picture, theirs = measured(tmp_path / "a.tif"), tifffile.imread(tmp_path / "a.tif")
            found = picture.like(picture.samples)
            assert found.dtype == theirs.dtype and np.array_equal(found, theirs), name


@pytest.mark.parametrize("predictor, dtype", [(2, "uint16"), (2, "int32"), (3, "float32")])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "zstd"])
def test_differences_between_neighbours_are_those_of_libtiff(tmp_path, predictor, dtype, compression):
    array = samples((90, 70), dtype)
    try:
        Image.fromarray(array).save(tmp_path / "a.tif", compression=compression, tiffinfo={317: predictor})
    except OSError:
        pytest.skip(f"this libtiff has no {compression}")
    assert np.array_equal(by_strips(tmp_path / "a.tif", predictor), array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_differences_between_pixels_of_several_samples_are_summed_up(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile", reason="writes the files")
    array = samples((2, 9, 7, 3), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", compression="zlib", predictor=2, rowsperstrip=4)
    assert np.array_equal(measured(tmp_path / "a.tif").like(measured(array).samples), array)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"])
def test_strips_agree_with_pillow(tmp_path, compression):
    array = samples((90, 70), "uint16")
    try:
        Image.fromarray(array).save(tmp_path / "a.tif", compression=None if compression == "raw" else compression)
    except OSError:
        pytest.skip(f"this libtiff has no {compression}")
    assert np.array_equal(by_strips(tmp_path / "a.tif"), array)


def by_strips(path, predictor=1):
    """What our own decoder makes of a page that is usually left to Pillow."""
    from unconv.pictures.tiff_pages import read_pages
    from unconv.pictures.tiff_samples import page_type, read_page

    with path.open("rb") as file:
        (page,) = read_pages(file, path.stat().st_size)
        assert page.predictor == predictor
        out = np.empty((page.height, page.width), page_type(page))
        read_page(file, page, out)
    return out


def test_pages_of_several_types_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="writes the pages")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(samples((6, 8), "float64"), metadata=None, photometric="minisblack")
        file.write(samples((6, 8), "int32"), metadata=None, photometric="minisblack")
    with pytest.raises(UnconvError, match=r"pages of .* differ"):
        measured(tmp_path / "a.tif")
