"""PGM and PPM of any depth: their samples come as they are stored, and go back so."""

from __future__ import annotations

import numpy as np
import pytest

from unconv.errors import PictureError
from unconv.inverse import psf
from unconv.inverse.fields.image import deblur
from unconv.pictures.encode import encoded, refuse_unfit, save
from unconv.pictures.measured import measured


def samples(white, shape):
    return np.random.default_rng(0).integers(0, white, shape, "uint16" if white > 255 else "uint8", endpoint=True)


def plain(array, white):
    """As text, with comments where the format allows them."""
    head = f"P{2 if array.ndim == 2 else 3} # a comment 7\n# 12 12\n{array.shape[1]}\t{array.shape[0]}\n{white}\n"
    return (head + "\n".join(str(value) for value in array.ravel()) + "\n").encode()


def packed(array, white):
    head = f"P{5 if array.ndim == 2 else 6}\n# of a camera\n{array.shape[1]} {array.shape[0]} {white}\n"
    return head.encode() + array.astype(">u2" if white > 255 else "u1").tobytes()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("white", [1, 15, 100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("form", [plain, packed])
def test_samples_come_as_they_are_stored_and_go_back_so(tmp_path, shape, white, form):
    array = samples(white, shape)
    (tmp_path / "a.pnm").write_bytes(form(array, white))
    given = measured(tmp_path / "a.pnm")
    assert given.peak == white and np.array_equal(given.like(given.samples), array)
    save(given.like(given.samples), tmp_path / "b.pnm", metadata=given.metadata)
    again = measured(tmp_path / "b.pnm")
    assert (again.dtype, again.peak) == (array.dtype, white) and again.samples.equal(given.samples)


def test_another_library_reads_what_is_written():
    skio = pytest.importorskip("imageio.v3", reason="reads PGM")
    array = samples(65535, (5, 7))
    assert np.array_equal(skio.imread(encoded(array, "a.pgm"), extension=".pgm"), array)


def test_a_result_stays_below_white(tmp_path):
    array = np.tile(np.repeat(np.array([0, 4095], np.uint16), 16), (32, 1))
    (tmp_path / "a.pgm").write_bytes(packed(array, 4095))
    result = deblur(tmp_path / "a.pgm", psf.gaussian(1.5), noise=20, method="wiener")
    assert result.picture.max() == 4095 and any("clipped to the range" in note for note in result.notes)
    result.save(tmp_path / "b.pgm")
    assert (tmp_path / "b.pgm").read_bytes().startswith(b"P5\n32 32\n4095\n")


GREY = samples(4095, (5, 7))
REFUSED = [
    (packed(GREY, 4095)[:-1], "holds 69 of 70 bytes"),
    (plain(GREY, 4095)[:-1], "its last one does not end in white space"),
    (plain(GREY, 4095)[:-30], "of 35 numbers"),
    (plain(GREY, 1000), "its header allows 0 to 1000"),
    (packed(GREY, 1000), "its header allows 0 to 1000"),
    (b"P5\n5 7\n", "does not state width, height and white"),
    (b"P5\n5 7 70000\n" + bytes(200), "white at 70000"),
    (b"P2\n2 1 300\n1 x\n", "damaged or cut off"),
    (b"P2\n2 1 300\n1 -1\n", "damaged or cut off"),
    (b"P6\n90000 90000 4095\n" + bytes(100), "decompression bomb"),
]


@pytest.mark.parametrize(("content", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_damaged_file_is_refused(tmp_path, content, words):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(PictureError, match=words):
        measured(tmp_path / "a.pgm")


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_does_not_go_into_ppm(channels):
    array = samples(65535, (5, 7, channels))
    with pytest.raises(PictureError, match=f"3 .RGB., but the picture has {channels}"):
        refuse_unfit(measured(array), "a.ppm")
