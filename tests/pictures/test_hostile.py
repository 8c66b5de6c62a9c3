"""Files made to harm: no program is started, no code runs, no other exception, bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from cases.pictures import flat_files, picture, samples
from unconv.errors import DtypeError, PictureError, ShapeError
from unconv.inverse.psf import open_psf
from unconv.pictures.decode import open_picture
from unconv.pictures.formats import FORMATS
from unconv.pictures.measured import measured

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 9 9 rectfill\nshowpage\n%%EOF\n"
HOSTILE = Path(__file__).parents[1] / "cases" / "hostile.py"


def fuzzed(count, seed, kind):
    command = [sys.executable, str(HOSTILE), str(count), str(seed), kind]
    done = subprocess.run(command, capture_output=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "tiff"])
def test_mutated_files_are_read_or_refused_in_bounded_time_and_memory(kind):
    pytest.importorskip("resource")
    if kind == "tiff":
        pytest.importorskip("tifffile", reason="writes the files")
    found = fuzzed(800, 1, kind)
    assert not found["foreign"], found["foreign"][0]
    assert found["read"] and found["refused"] and found["read"] + found["refused"] == 2 * 800
    assert found["slowest"] < 20 and found["megabytes"] < 1000


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg", "a.tif", "a.npy"])
@pytest.mark.parametrize("read", [open_picture, measured, open_psf])
def test_ghostscript_is_never_started(tmp_path, monkeypatch, name, read):
    for program in ("gs", "gswin32c"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(PictureError, match=rf"{name} .*"):
        read(tmp_path / name)
    with Image.open(tmp_path / name) as opened, pytest.raises(PictureError, match=r"the format EPS.*picture.copy\(\)"):
        open_picture(opened)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("form", ["ICO", "PCX", "TGA", "SGI", "PDF", "MSP", "DDS"])
def test_formats_that_are_not_listed_are_refused(tmp_path, form):
    picture("1" if form == "MSP" else "RGB").save(tmp_path / "a.png", form)
    for read in (open_picture, measured):
        with pytest.raises(PictureError, match=r"its content is not that of a complete PNG, JPEG, .* Save it as PNG"):
            read(tmp_path / "a.png")


def test_every_listed_format_is_read_whatever_the_file_is_called(tmp_path):
    missing = set(FORMATS) - {"TIFF"}
    for _, content in flat_files():
        (tmp_path / "a.eps").write_bytes(content)
        with Image.open(io.BytesIO(content)) as image:
            missing -= {image.format}
        assert open_picture(tmp_path / "a.eps").size
    assert missing <= {"AVIF", "WEBP", "JPEG2000"}


def npy(header, body=b"", version=1):
    raw = header.encode("latin-1")
    length = struct.pack("<H", len(raw)) if version == 1 else struct.pack("<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + body


def described(descr="'<f8'", shape="(2, 3)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADERS = {
    "nested deeply": npy(described(shape="(" * 30_000 + ")" * 30_000)),
    "nested deeply elsewhere": npy("[" * 60_000),
    "of code": npy(described(shape="(__import__('os').system('true'),)")),
    "of objects": npy(described("'|O'"), bytes(48)),
    "of fields": npy(described("[('a', '<f8'), ('b', '<f8')]"), bytes(96)),
    "of text": npy(described("'<U3'"), bytes(72)),
    "of void": npy(described("'|V2147483647'")),
    "of a huge shape": npy(described(shape="(1000000000, 1000000000)")),
    "of a huge number": npy(described(shape=f"({'9' * 400},)")),
    "of 33 axes": npy(described(shape=f"({'1, ' * 33})"), bytes(8)),
    "of a negative length": npy(described(shape="(-1, 3)"), bytes(24)),
    "of another type": npy(described("'<f3'"), bytes(18)),
    "too short": npy(described(), bytes(47)),
    "too long": npy(described(), bytes(49)),
    "with a key twice": npy("{'descr': '<f8', 'descr': '<f8', 'shape': (2, 3), }", bytes(48)),
    "without a key": npy("{'descr': '<f8', 'shape': (2, 3), }", bytes(48)),
    "without an end": npy(described())[:30],
    "of four billion bytes": b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(90),
    "of version 9": npy(described(), bytes(48), 9),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("read", [measured, open_psf])
def test_an_array_with_a_header_of_lies_is_refused(tmp_path, name, read):
    (tmp_path / "a.npy").write_bytes(HEADERS[name])
    with pytest.raises(PictureError, match=r"a\.npy .*"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", ["(0, 3)", "(3, 0)", "()"])
def test_an_array_without_samples_is_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(described(shape=shape), bytes(8) if shape == "()" else b""))
    with pytest.raises(ShapeError):
        measured(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_an_array_of_no_measurement_is_named_by_its_type(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), dtype))
    with pytest.raises(DtypeError, match=dtype):
        measured(tmp_path / "a.npy")


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("dtype, fortran", [("<u2", False), (">f4", False), ("<i4", True), ("|u1", True)])
def test_every_kind_of_array_is_read_as_numpy_does(tmp_path, version, dtype, fortran):
    array = samples((4, 5, 6), "uint8").astype(dtype)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.asfortranarray(array) if fortran else array, (version, 0))
    found = measured(tmp_path / "a.npy", axes="NHW")
    assert np.array_equal(found.like(found.samples), np.load(tmp_path / "a.npy"))


def test_an_array_as_python_2_wrote_it_is_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy("{'shape': (2L, 3L), 'fortran_order': False, 'descr': '<f8'}", bytes(48)))
    assert measured(tmp_path / "a.npy").spatial == (2, 3)


def bomb(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BOMBS = {
    "png": bomb(2**31 - 1, 2**31 - 1),
    "png just above": bomb(10_000, 9_000),
    "gif": b"GIF89a"
    + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b","
    + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    + b"\2\0;",
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "pgm": b"P5 100000 100000 255\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_unpack(tmp_path, name):
    (tmp_path / "a.png").write_bytes(BOMBS[name])
    for read in (open_picture, measured):
        with pytest.raises(PictureError, match="more than 89478485 pixels; refused as a decompression bomb"):
            read(tmp_path / "a.png")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no device to read")
def test_a_device_is_no_picture():
    with pytest.raises(PictureError, match="not a regular file"):
        measured("/dev/zero")


def test_threads_leave_pillow_and_the_filters_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "a.png").write_bytes(dict(flat_files())["png RGB"])
    filters = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [measured(tmp_path / "a.png") for _ in range(30)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True and warnings.filters == filters
