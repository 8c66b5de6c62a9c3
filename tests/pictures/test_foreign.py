"""Pictures that are not read are called what they are, with what does read them."""

from __future__ import annotations

import numpy as np
import pytest

from unconv.errors import PictureError
from unconv.pictures.decode import open_picture
from unconv.pictures.measured import measured

FOREIGN = {
    "CZI of Zeiss.*OME-TIFF.*bfconvert": b"ZISRAWFILE\0\0\0\0\0\0",
    "ND2 of Nikon.*library nd2": b"\xda\xce\xbe\x0a" + bytes(40),
    "LIF of Leica.*library liffile": b"\x70\0\0\0\x2c\0\0\0\x2a" + bytes(40),
    "HDF5.*h5py": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "DICOM.*pydicom": bytes(128) + b"DICM" + bytes(40),
    "gzip.*gunzip": b"\x1f\x8b\x08" + bytes(40),
    "HEIC.*PNG": b"\0\0\0\x18ftypheic" + bytes(40),
    "camera's raw file.*16-bit TIFF": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "a camera's raw file.*dcraw": b"II*\0\x10\0\0\0CR\2\0" + bytes(40),
}


@pytest.mark.parametrize("words", FOREIGN)
@pytest.mark.parametrize("read", [measured, open_picture])
def test_a_file_that_is_not_read_is_called_what_it_is(tmp_path, words, read):
    (tmp_path / "a.tif").write_bytes(FOREIGN[words])
    with pytest.raises(PictureError, match=rf"{read.__name__}: .*a\.tif is .*{words}"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("read", [measured, open_picture])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(tmp_path, read):
    tifffile = pytest.importorskip("tifffile", reason="writes the file")
    with tifffile.TiffWriter(tmp_path / "a.dng") as file:
        preview, mosaic = np.zeros((6, 8, 3), "u1"), np.zeros((60, 80), "u2")
        file.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(mosaic, photometric="cfa", metadata=None)
    with pytest.raises(PictureError, match=r"raw file, which .* after a small preview.*dcraw"):
        read(tmp_path / "a.dng")
