"""FITS: what astropy reads of a file is what comes in, and what astropy reads of the result is what went out."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from unconv.errors import PictureError
from unconv.inverse.fields.image import deblur, super_resolve
from unconv.inverse.psf import makers as psf
from unconv.pictures.encode import encoded, refuse_unfit, save
from unconv.pictures.measured import measured

fits = pytest.importorskip("astropy.io.fits", reason="the extra astro")

TYPES = ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
HOW = {"method": "tikhonov", "strength": 1.0, "noise": 3}


def header(**more):
    cards = {"OBJECT": "M 31", "BUNIT": "adu", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.5, "CRVAL2": -5.25}
    cards |= {"CRPIX1": 20.0, "CRPIX2": 12.0, "CD1_1": -1e-4, "CD1_2": 1e-5, "CD2_1": 2e-5, "CD2_2": 1e-4, **more}
    found = fits.Header(list(cards.items()))
    found["HISTORY"] = "flat-fielded"
    return found


def samples(*shape, dtype="float64"):
    return np.random.default_rng(0).normal(50, 9, shape).astype(dtype)


def opened(content):
    with fits.open(io.BytesIO(content), checksum=True) as units:
        units.verify("exception")
        return [(unit.header.copy(), None if unit.data is None else np.array(unit.data)) for unit in units]


def back(path):
    picture = measured(path)
    return opened(encoded(picture.like(picture.samples), "a.fits", axes=picture.given, metadata=picture.metadata))


@pytest.mark.parametrize("dtype", TYPES)
def test_samples_and_header_come_back(tmp_path, dtype):
    array = samples(24, 40, dtype=dtype)
    fits.PrimaryHDU(array, header()).writeto(tmp_path / "a.fits")
    picture = measured(tmp_path / "a.fits")
    assert picture.dtype == dtype and np.array_equal(picture.samples, array)  # the lowest row first, as in astropy
    ((found, again),) = back(tmp_path / "a.fits")
    assert np.array_equal(again, array) and again.dtype.newbyteorder("=") == dtype
    assert {name: found[name] for name in header() if name != "HISTORY"} == {n: header()[n] for n in header() if n != "HISTORY"}
    first, second = found["HISTORY"]
    assert first == "flat-fielded" and "unconv" in second


def test_scaled_integers_come_in_their_units_and_blank_ones_as_missing(tmp_path):
    stored = np.random.default_rng(0).integers(1, 999, (24, 40)).astype(">i2")
    stored[3, 4] = -1
    cards = [("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", 40), ("NAXIS2", 24)]
    cards += [("BSCALE", 0.5), ("BZERO", 10.0), ("BLANK", -1)]
    content = fits.Header(cards).tostring(endcard=True, padding=True).encode() + stored.tobytes().ljust(2880, b"\0")
    (tmp_path / "a.fits").write_bytes(content)
    picture = measured(tmp_path / "a.fits")
    assert picture.samples.isnan().sum() == 1 and picture.samples[3, 4].isnan()
    assert np.array_equal(picture.samples[0], stored[0] * 0.5 + 10)
    restored = deblur(tmp_path / "a.fits", psf.gaussian(1), **HOW)
    restored.save(tmp_path / "b.fits")
    with fits.open(tmp_path / "b.fits") as units:
        assert np.array_equal(units[0].data, restored.picture) and not {"BLANK", "BZERO", "BSCALE"} & set(units[0].header)


def test_nan_is_missing_and_filled_in_as_of_an_array(tmp_path):
    array = samples(24, 40)
    array[5, 6:9] = np.nan
    fits.PrimaryHDU(array).writeto(tmp_path / "a.fits")
    found = deblur(tmp_path / "a.fits", psf.gaussian(1), **HOW)
    assert found.picture.dtype == np.float64 and np.array_equal(found.picture, deblur(array, psf.gaussian(1), **HOW).picture)


def test_what_was_done_stands_in_the_history(tmp_path):
    fits.PrimaryHDU(samples(24, 40), header()).writeto(tmp_path / "a.fits")
    deblur(tmp_path / "a.fits", psf.gaussian(1), **HOW).save(tmp_path / "b.fits")
    assert "tikhonov" in str(fits.getheader(tmp_path / "b.fits")["HISTORY"])


CUBES = {
    "wavelengths last": ((5, 24, 40), {"CTYPE3": "WAVE"}, "NHW"),
    "wavelengths first": ((24, 40, 5), {"CTYPE1": "VRAD", "CTYPE2": "RA---TAN", "CTYPE3": "DEC--TAN"}, "HWN"),
    "radio": ((1, 3, 24, 40), {"CTYPE3": "FREQ", "CTYPE4": "STOKES"}, "NNHW"),
    "said by nobody": ((30, 24, 16), {"CTYPE1": "", "CTYPE2": ""}, "NHW"),
}


@pytest.mark.parametrize("name", CUBES)
def test_a_cube_is_restored_plane_by_plane(tmp_path, name):
    shape, more, given = CUBES[name]
    array = samples(*shape)
    fits.PrimaryHDU(array, header(**more)).writeto(tmp_path / "a.fits")
    restored = deblur(tmp_path / "a.fits", psf.gaussian(1), **HOW)
    assert restored.axes == given and restored.picture.shape == shape
    assert np.array_equal(restored.picture, deblur(array, psf.gaussian(1), axes=given, **HOW).picture)


def test_the_other_parts_of_a_file_stay_byte_for_byte(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1.0, 2.0])])
    parts = [fits.PrimaryHDU(header=header()), fits.ImageHDU(samples(24, 40), header(), name="SCI")]
    parts += [fits.ImageHDU(samples(24, 40, dtype="int16"), name="DQ"), table]
    fits.HDUList(parts).writeto(tmp_path / "a.fits", checksum=True)
    assert "the first, 'SCI', was read" in measured(tmp_path / "a.fits").notes[0]
    deblur(tmp_path / "a.fits", psf.gaussian(1), **HOW).save(tmp_path / "b.fits")
    (before, after), (first, *_, last) = ([(tmp_path / name).read_bytes() for name in ("a.fits", "b.fits")]), range(4)
    with fits.open(tmp_path / "a.fits") as one, fits.open(tmp_path / "b.fits", checksum=True) as other:
        for index in (first, 2, last):
            spans = [(unit.fileinfo()["hdrLoc"], unit.fileinfo()["datLoc"] + unit.fileinfo()["datSpan"])
                     for unit in (one[index], other[index])]  # fmt: skip
            assert before[slice(*spans[0])] == after[slice(*spans[1])]
        assert other[1].name == "SCI" and "CHECKSUM" in other[1].header and not np.array_equal(other[1].data, one[1].data)


def test_a_compressed_image_is_read_and_written_as_a_plain_one(tmp_path):
    array = samples(24, 40, dtype="int16")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, header(), name="SCI")]).writeto(tmp_path / "a.fits.fz")
    found = back(tmp_path / "a.fits.fz")
    assert np.array_equal(found[1][1], array) and found[1][0]["BUNIT"] == "adu"


def test_a_finer_grid_points_to_the_same_sky(tmp_path):
    wcs = pytest.importorskip("astropy.wcs")
    head = header(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-4, A_0_2=3e-4, B_1_1=2e-4)
    fits.PrimaryHDU(samples(24, 40), head).writeto(tmp_path / "a.fits")
    super_resolve(tmp_path / "a.fits", 3, noise=9, method="dct", steps=2).save(tmp_path / "b.fits")
    coarse, fine = wcs.WCS(head), wcs.WCS(fits.getheader(tmp_path / "b.fits"))
    places = np.array([[7.0, 9.0], [31.0, 2.0]])
    assert np.allclose(coarse.all_pix2world(places, 0), fine.all_pix2world(3 * places + 1, 0), rtol=0, atol=1e-9)


def test_arrays_go_into_fits_where_it_holds_them(tmp_path):
    save(samples(24, 40, 3), tmp_path / "a.fits")
    assert np.array_equal(fits.getdata(tmp_path / "a.fits"), samples(24, 40, 3).transpose(2, 0, 1))
    with pytest.raises(PictureError, match="cannot hold samples of float16"):
        refuse_unfit(measured(samples(24, 40, dtype="float16")), "a.fits")


def test_a_table_is_no_image(tmp_path):
    fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1.0, 2.0])]).writeto(tmp_path / "a.fits")
    with pytest.raises(PictureError, match="holds no image of two or more axes"):
        measured(tmp_path / "a.fits")


@pytest.mark.parametrize("kept", [40, 100, 2880, 2881, 5000])
def test_a_truncated_file_is_refused(tmp_path, kept):
    fits.PrimaryHDU(samples(24, 40), header()).writeto(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes((tmp_path / "a.fits").read_bytes()[:kept])
    with pytest.raises(PictureError, match=r"a\.fits"):
        measured(tmp_path / "a.fits")


def test_without_astropy_the_extra_is_named(tmp_path, monkeypatch):
    fits.PrimaryHDU(samples(24, 40)).writeto(tmp_path / "a.fits")
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    with pytest.raises(PictureError, match=r'pip install "unconv\[astro\]"'):
        measured(tmp_path / "a.fits")
    with pytest.raises(PictureError, match=r'pip install "unconv\[astro\]"'):
        refuse_unfit(measured(samples(24, 40)), "a.fits")


LIES = {
    "axes": ((b"NAXIS   =                    2", b"NAXIS   =             99999999"), "99999999 axes"),
    "bytes": ((b"NAXIS1  =                   40", b"NAXIS1  =           9999999999"), "but ends at"),
    "less than nothing": ((b"NAXIS1  =                   40", b"NAXIS1  =                  -40"), "but ends at"),
    "no end": ((b"END" + b" " * 77, b"ENO" + b" " * 77), "no END card"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused_at_once(tmp_path, name):
    (said, lie), words = LIES[name]
    fits.PrimaryHDU(samples(24, 40)).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    assert said in content
    (tmp_path / "a.fits").write_bytes(content.replace(said, lie))
    with pytest.raises(PictureError, match=words):
        measured(tmp_path / "a.fits")


def test_damaged_lines_of_a_header_are_left_out_and_told_of(tmp_path):
    fits.PrimaryHDU(samples(24, 40), header()).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content.replace(b"BUNIT   = 'adu ", b"BUNIT   = 'ad\0 "))
    assert "1 damaged line in the header" in measured(tmp_path / "a.fits").notes[0]
    ((found, _),) = back(tmp_path / "a.fits")
    assert "BUNIT" not in found and found["OBJECT"] == "M 31"
