"""Pictures as measured: what came in comes back bit for bit, or is refused in words."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError
from unconv.pictures.encode import save
from unconv.pictures.measured import measured

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]
FLOATS = ["float16", "float32", "float64"]


def noise(shape, dtype="uint8"):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.normal(0, 1000, shape).astype(dtype)
    info = np.iinfo(dtype)
    return generator.integers(info.min, info.max, shape, dtype, endpoint=True)


def transparent(array):
    """The same picture, its last channel opaque or clear if it is one of 2 or 4."""
    if array.shape[-1] in (2, 4):
        array[..., -1] = np.where(array[..., -1] < 99, 0, 255)
    return array


def same(found, expected):
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


def stored(tmp_path, array, name, **options):
    path = tmp_path / name
    save(array, path, **options)
    return path


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, ">u2", ">f4"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (6, 5, 7), (2, 5, 7, 3)])
def test_an_array_comes_back_bit_for_bit(dtype, shape):
    array = noise(shape, dtype.replace(">f4", "float32").replace(">u2", "uint16")).astype(dtype)
    picture = measured(array)
    assert same(picture.like(picture.samples), array)
    assert same(picture.like(picture.samples.double()), array)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.uint16, torch.int64, torch.half, torch.bfloat16, torch.double]
)
@pytest.mark.parametrize("shape, axes", [((5, 7), "HW"), ((3, 5, 7), "CHW"), ((5, 7, 3), "HWC"), ((2, 3, 5, 7), "NCHW")])
def test_a_tensor_comes_back_bit_for_bit(dtype, shape, axes):
    tensor = torch.randint(0, 120, shape).to(dtype)
    picture = measured(tensor)
    back = picture.like(picture.samples)
    assert picture.given == axes
    assert back.dtype == dtype and torch.equal(back, tensor)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "I", "F"])
def test_a_pil_picture_comes_back_in_its_mode(mode):
    kinds = {"I;16": "uint16", "I": "int32", "F": "float32"}
    shape = (5, 7, len(mode)) if mode in ("LA", "RGB", "RGBA") else (5, 7)
    source = Image.fromarray(noise(shape, kinds.get(mode, "uint8")))
    picture = measured(source)
    back = picture.like(picture.samples)
    assert source.mode == mode == back.mode
    assert same(np.asarray(back), np.asarray(source))


@pytest.mark.parametrize("mode, expected", [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("PA", "RGBA"), ("La", "LA")])
def test_other_modes_come_back_in_the_nearest(mode, expected):
    picture = measured(Image.new(mode, (7, 5)))
    assert picture.like(picture.samples).mode == expected


def filtered_png(array):
    """PNG whose rows take the filters 0 to 4 in turn: the standard's sec. 9.2, byte by byte."""
    height, width = array.shape[:2]
    step = 2 * (array.shape[2] if array.ndim == 3 else 1)
    rows = array.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    body, above = b"", np.zeros_like(rows[0])
    for y, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        p = left + above - corner
        a, b, c = abs(p - left), abs(p - above), abs(p - corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        guess = [0, left, above, (left + above) // 2, paeth][y % 5]
        body += bytes([y % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes()
        above = row
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 0, 4: 4, 6: 2, 8: 6}[step], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


DEPTHS = [
    ("grey.png", (5, 7), "uint8"),
    ("colour.png", (5, 7, 3), "uint8"),
    ("alpha.png", (5, 7, 4), "uint8"),
    ("grey.bmp", (5, 7), "uint8"),
    ("deep.png", (5, 7), "uint16"),
    ("deep_alpha.png", (5, 7, 2), "uint16"),
    ("deep_colour.png", (5, 7, 3), "uint16"),
    ("deep_colour_alpha.png", (5, 7, 4), "uint16"),
    ("grey.tif", (5, 7), "uint8"),
    ("colour.tif", (5, 7, 3), "uint8"),
    ("deep.tif", (5, 7), "uint16"),
    ("float.tif", (5, 7), "float32"),
    ("stack.tif", (6, 5, 7), "uint8"),
    ("colours.tif", (6, 5, 7, 3), "uint8"),
    ("deep_stack.tif", (6, 5, 7), "uint16"),
    ("float_stack.tiff", (6, 5, 7), "float32"),
    ("grey.npy", (5, 7), "float64"),
    ("more.npy", (2, 5, 7, 3), "int32"),
]
DEEP = [
    ("colour.tif", (5, 7, 3), "uint16"),
    ("alpha.tif", (5, 7, 4), "uint16"),
    ("grey_alpha.tif", (5, 7, 2), "uint16"),
    ("colour.tif", (5, 7, 3), "float32"),
    ("colours.tif", (6, 5, 7, 3), "float32"),
    ("grey.tif", (5, 7), "float64"),
    ("half.tif", (5, 7), "float16"),
    ("signed.tif", (5, 7), "int16"),
    ("wide.tif", (5, 7), "uint32"),
    ("small.tif", (5, 7), "int8"),
    ("one_row.tif", (6, 1, 7), "float64"),
]


@pytest.mark.parametrize("name, shape, dtype", DEPTHS)
def test_a_file_keeps_every_bit(tmp_path, name, shape, dtype):
    array = noise(shape, dtype)
    picture = measured(stored(tmp_path, array, name))
    assert same(picture.like(picture.samples), array)


@pytest.mark.parametrize("name, shape, dtype", DEEP)
def test_a_deep_tiff_file_keeps_every_bit(tmp_path, name, shape, dtype):
    pytest.importorskip("tifffile", reason="deep TIFF files need tifffile")
    test_a_file_keeps_every_bit(tmp_path, name, shape, dtype)


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"metadata": None}, {"compression": "zlib"}, {"bigtiff": True}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_of_a_microscope_is_read_whole(tmp_path, options, dtype):
    tifffile = pytest.importorskip("tifffile", reason="writes the stack")
    stack = noise((6, 5, 7), dtype)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", **options)
    assert same(measured(tmp_path / "stack.tif").like(measured(stack).samples), stack)


@pytest.mark.parametrize("name, dtype", [("colour.tif", "uint16"), ("grey.tif", "float64"), ("stack.tif", "uint16")])
def test_reading_needs_no_tifffile_and_writing_names_the_extra(tmp_path, monkeypatch, name, dtype):
    pytest.importorskip("tifffile", reason="writes the file")
    array = noise({"colour.tif": (5, 7, 3), "grey.tif": (5, 7), "stack.tif": (6, 5, 7)}[name], dtype)
    path = stored(tmp_path, array, name)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert same(measured(path).like(measured(path).samples), array)
    with pytest.raises(PictureError, match=r'pip install "unconv\[image\]"'):
        save(noise((5, 7, 3), "uint16"), path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_tiff_file_is_turned_upright(tmp_path, orientation):
    tifffile = pytest.importorskip("tifffile", reason="deep TIFF files need tifffile")
    shallow, deep = tmp_path / "shallow.tif", tmp_path / "deep.tif"
    array = noise((5, 7, 3))
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(shallow, array, photometric="rgb", extratags=tag)
    tifffile.imwrite(deep, array.astype(np.uint16), photometric="rgb", extratags=tag)
    assert torch.equal(measured(shallow).samples, measured(deep).samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_deep_png_file_of_each_filter_agrees_with_the_standard(tmp_path, channels):
    shape = (10, 7) if channels == 1 else (10, 7, channels)
    array = noise(shape, "uint16")
    (tmp_path / "filtered.png").write_bytes(filtered_png(array))
    picture = measured(tmp_path / "filtered.png")
    assert same(picture.like(picture.samples), array)
    colours = array[..., : channels - 1] if channels in (2, 4) else array
    assert torch.equal(picture.samples, measured(colours).samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_deep_png_file_with_flipped_bytes_is_refused(tmp_path, channels, place):
    path = stored(tmp_path, noise((20, 30, channels), "uint16"), "picture.png")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PictureError, match="damaged or cut off"):
        measured(path)


def test_a_deep_png_file_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise((5, 7), "uint16")).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(measured(tmp_path / "turned.png").samples, np.rot90(noise((5, 7), "uint16"), -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, 4]))
def test_a_deep_png_file_agrees_with_pillow_where_pillow_keeps_it(height, width, channels):
    from unconv.pictures.encode import encoded

    array = noise((height, width, channels), "uint16")
    with Image.open(io.BytesIO(encoded(array, "a.png"))) as image:
        image.load()
        assert image.size == (width, height)
        found = np.asarray(image)
    expected = array[..., 0] if channels == 1 else array >> 8
    assert np.array_equal(found, expected) or (channels == 2 and found.shape[-1] == 4)  # LA in 16 bits opens as RGBA


LAYOUTS = [
    (np.zeros((5, 7)), None, "HW", (5, 7), (5, 7)),
    (np.zeros((5, 7, 3)), None, "CHW", (3, 5, 7), (5, 7)),
    (np.zeros((3, 5, 7)), None, "NHW", (3, 5, 7), (5, 7)),
    (np.zeros((5, 3, 3)), None, "CHW", (3, 5, 3), (5, 3)),
    (np.zeros((6, 5, 7)), "DHW", "DHW", (6, 5, 7), (6, 5, 7)),
    (np.zeros((6, 5, 7, 3)), "DHWC", "CDHW", (3, 6, 5, 7), (6, 5, 7)),
    (np.zeros((5, 7, 9)), "HWN", "NHW", (9, 5, 7), (5, 7)),
    (np.zeros((2, 6, 5, 7)), "NNHW", "NNHW", (2, 6, 5, 7), (5, 7)),
    (torch.zeros(3, 5, 7), None, "CHW", (3, 5, 7), (5, 7)),
    (torch.zeros(1, 5, 7), None, "CHW", (1, 5, 7), (5, 7)),
    (torch.zeros(5, 7, 3), None, "CHW", (3, 5, 7), (5, 7)),
    (torch.zeros(6, 5, 7), None, "NHW", (6, 5, 7), (5, 7)),
    (torch.zeros(2, 3, 5, 7), None, "NCHW", (2, 3, 5, 7), (5, 7)),
    (torch.zeros(2, 5, 7, 3), None, "NCHW", (2, 3, 5, 7), (5, 7)),
]


@pytest.mark.parametrize("source, axes, expected, shape, spatial", LAYOUTS)
def test_the_axes_a_blur_runs_over_come_last(source, axes, expected, shape, spatial):
    picture = measured(source, axes=axes)
    assert (picture.axes, tuple(picture.samples.shape), picture.spatial) == (expected, shape, spatial)
    assert picture.like(picture.samples).shape == source.shape


@pytest.mark.parametrize("axes", ["HWC", "CHW", "WHC", "NNHW", "DHW", "WDH", "NHWCD", "DCHWN"])
def test_what_axes_says_is_undone(axes):
    array = noise([2 + n if letter != "C" else 3 for n, letter in enumerate(axes)], "uint16")
    picture = measured(array, axes=axes)
    assert same(picture.like(picture.samples), array)


def test_samples_stand_where_axes_says():
    array = noise((5, 7, 3))
    assert torch.equal(measured(array).samples, torch.from_numpy(array).permute(2, 0, 1).float())
    assert torch.equal(measured(array, axes="WHC").samples, torch.from_numpy(array).permute(2, 1, 0).float())


@pytest.mark.parametrize("dtype, peak", [("uint8", 255), ("uint16", 65535), ("int16", 32767), ("float32", None)])
def test_the_peak_is_what_the_type_holds(dtype, peak):
    assert measured(np.zeros((2, 2), dtype)).peak == peak


@pytest.mark.parametrize("shape, colour", [((5, 7, 3), True), ((5, 7, 4), True), ((5, 7, 2), False), ((5, 7), False)])
def test_three_channels_are_colour(shape, colour):
    assert measured(transparent(noise(shape))).colour is colour


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_kept_apart_and_unchanged(channels):
    array = transparent(noise((5, 7, channels)))
    picture = measured(array)
    back = picture.like(torch.zeros_like(picture.samples))
    assert picture.samples.shape == (channels - 1, 5, 7)
    assert not back[..., :-1].any() and np.array_equal(back[..., -1], array[..., -1])


@pytest.mark.parametrize("dtype", [*INTEGERS, "uint64", "int64"])
def test_integers_are_rounded_and_clipped(dtype):
    picture = measured(np.zeros((1, 5), dtype))
    back = picture.like(torch.tensor([[-1e30, 0.4, 0.6, 100.0, 1e30]]))
    info = np.iinfo(dtype)
    assert back[0, :4].tolist() == [info.min, 0, 1, 100]
    assert info.max - 2048 <= int(back[0, 4]) <= info.max


def test_floats_are_neither_clipped_nor_scaled():
    picture = measured(np.zeros((1, 2), np.float32))
    assert picture.like(torch.tensor([[-3.25, 1e9]])).tolist() == [[-3.25, 1e9]]


def test_the_size_may_change_but_not_beside_alpha():
    assert measured(noise((5, 7, 3))).like(torch.zeros(3, 10, 14)).shape == (10, 14, 3)
    with pytest.raises(ShapeError, match="the same size, since it has an alpha channel"):
        measured(transparent(noise((5, 7, 4)))).like(torch.zeros(3, 10, 14))


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 3, 5, 7)])
def test_other_axes_are_not_given_back(shape):
    with pytest.raises(ShapeError, match=r"like: samples are \(.*\), but the picture is \(3, 5, 7\) \(CHW\)"):
        measured(noise((5, 7, 3))).like(torch.zeros(shape))


def test_nan_is_kept_in_floats_and_refused_in_integers():
    array = np.array([[np.nan, 2.0]])
    picture = measured(array)
    assert same(picture.like(picture.samples), array)
    with pytest.raises(NonFinite, match="1 of 2 samples is NaN, which uint8 cannot hold"):
        measured(np.zeros((1, 2), np.uint8)).like(picture.samples)


def test_infinite_samples_are_counted_and_refused():
    with pytest.raises(PictureError, match="2 of 4 samples are infinite"):
        measured(np.array([[1, np.inf], [-np.inf, np.nan]]))


REFUSED = [
    (np.zeros((2, 2), bool), DtypeError, "samples are bool, but .* Is it a mask"),
    (torch.zeros(2, 2, dtype=torch.bool), DtypeError, "samples are bool"),
    (np.zeros((2, 2), complex), DtypeError, "samples are complex128"),
    (np.array([["a"]]), DtypeError, "integers or floats were needed"),
    (np.ma.masked_array(np.zeros((2, 2))), DtypeError, "mask would be lost"),
    ([[1, 2]], DtypeError, "source is a list"),
    (np.full((1, 1), 2**53), PictureError, r"int64 reach beyond 2\*\*53"),
    (np.zeros(4), ShapeError, "do not tell what its axes are"),
    (np.zeros((2, 6, 5, 7)), ShapeError, 'axes="DHW"'),
    (np.zeros((0, 4)), ShapeError, "has no samples"),
]


@pytest.mark.parametrize("source, error, words", REFUSED)
def test_what_is_no_measurement_is_refused(source, error, words):
    with pytest.raises(error, match=words):
        measured(source)


@pytest.mark.parametrize("axes, words", [("HWX", "H and W once"), ("HH", "H and W once"), ("HW", "2 letters"), ("DHW", None)])
def test_axes_that_do_not_fit_are_refused(axes, words):
    if words is None:
        assert measured(noise((5, 7, 3)), axes=axes).spatial == (5, 7, 3)
        return
    with pytest.raises(ShapeError, match=words):
        measured(noise((5, 7, 3)), axes=axes)


@pytest.mark.parametrize("name, shape, dtype", [row for row in DEPTHS if not row[0].startswith("more")])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(tmp_path, name, shape, dtype, share):
    path = stored(
        tmp_path, noise((*shape[:-3], 40, 50, *shape[2:][-1:]) if shape[-1] < 5 else (*shape[:-2], 40, 50), dtype), name
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PictureError, match="damaged or cut off"):
        measured(path)


@pytest.mark.parametrize("name, shape, dtype", DEEP)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_truncated_deep_tiff_file_is_refused(tmp_path, name, shape, dtype, share):
    pytest.importorskip("tifffile", reason="deep TIFF files need tifffile")
    path = stored(tmp_path, noise(shape, dtype), name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PictureError):
        measured(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"II*\0", b"\x93NUMPY", b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x10"])
def test_a_file_that_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "picture.tif").write_bytes(content)
    with pytest.raises(PictureError, match=r"picture\.tif"):
        measured(tmp_path / "picture.tif")


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(PictureError, match=r"there is no file .*nowhere\.png"):
        measured(tmp_path / "nowhere.png")
    with pytest.raises(PictureError, match="is a folder"):
        measured(tmp_path)


@pytest.mark.parametrize("name, dtype", [("a.png", "uint8"), ("a.png", "uint16"), ("a.tif", "uint8"), ("a.tif", "float64")])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, name, dtype):
    if dtype == "float64":
        pytest.importorskip("tifffile", reason="deep TIFF files need tifffile")
    path = stored(tmp_path, noise((11, 11), dtype), name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="decompression bomb"):
        measured(path)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_stack_that_unpacks_a_hundredfold_is_refused(tmp_path, monkeypatch, dtype):
    tifffile = pytest.importorskip("tifffile", reason="writes the stack")
    stack = np.zeros((20, 300, 300), dtype)
    tifffile.imwrite(tmp_path / "packed.tif", stack, compression="zlib", metadata=None, photometric="minisblack")
    tifffile.imwrite(tmp_path / "plain.tif", stack, metadata=None, photometric="minisblack")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    assert measured(tmp_path / "plain.tif").samples.shape == stack.shape
    with pytest.raises(PictureError, match="20 x 90000 pixels, more than 100000; refused as a decompression bomb"):
        measured(tmp_path / "packed.tif")


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_small_copy_in_a_later_page_is_no_picture(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile", reason="writes the pages")
    with tifffile.TiffWriter(tmp_path / "copy.tif") as file:
        file.write(noise((6, 8), dtype), metadata=None, photometric="minisblack")
        file.write(noise((3, 4), dtype), metadata=None, photometric="minisblack", subfiletype=1)
    assert measured(tmp_path / "copy.tif").spatial == (6, 8)


def test_a_pickle_in_npy_is_refused(tmp_path):
    np.save(tmp_path / "code.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(PictureError, match=r"code\.npy is not a picture"):
        measured(tmp_path / "code.npy")


def test_pages_of_several_sizes_are_refused(tmp_path):
    first, second = Image.new("L", (7, 5)), Image.new("L", (6, 5))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with pytest.raises(PictureError, match=r"pages of .* differ: \[\(5, 6\), \(5, 7\)\]"):
        measured(tmp_path / "pages.tif")


UNSAVED = [
    (noise((5, 7), "float32"), "a.png", r"cannot hold samples of float32. Save it as .tif or .npy"),
    (noise((5, 7), "float32"), "a.jpg", r"cannot hold samples of float32"),
    (noise((5, 7), "uint16"), "a.jpg", r"cannot hold samples of uint16. Save it as .png, .tif or .npy"),
    (noise((5, 7), "int32"), "a.png", "cannot hold samples of int32"),
    (noise((6, 5, 7)), "a.png", r"cannot hold a picture of shape \(6, 5, 7\) \(NHW\)"),
    (noise((5, 7, 4)), "a.jpg", "cannot hold a picture of mode RGBA"),
    (noise((5, 7)), "a.xyz", "no known format's ending"),
    (noise((5, 7)), "a", "no known format's ending"),
]


@pytest.mark.parametrize("array, name, words", UNSAVED)
def test_a_format_that_would_lose_samples_is_refused(tmp_path, array, name, words):
    with pytest.raises(PictureError, match=words):
        save(array, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_tensor_and_a_pil_picture_are_saved_like_their_array(tmp_path):
    array = noise((5, 7, 3), "uint16")
    save(torch.from_numpy(array).permute(2, 0, 1), tmp_path / "tensor.png")
    assert torch.equal(measured(tmp_path / "tensor.png").samples, measured(array).samples)
    save(Image.fromarray(noise((5, 7))), tmp_path / "grey.png")
    assert torch.equal(measured(tmp_path / "grey.png").samples, measured(noise((5, 7))).samples)


def test_a_volume_is_saved_as_pages(tmp_path):
    volume = noise((6, 5, 7), "uint16")
    save(volume, tmp_path / "volume.tif", axes="DHW")
    assert measured(tmp_path / "volume.tif", axes="DHW").spatial == (6, 5, 7)


def test_the_callers_array_is_not_shared():
    array = noise((5, 7), "float32")
    measured(array).samples.zero_()
    assert same(array, noise((5, 7), "float32"))


def test_what_is_measured_already_is_returned_as_it_is():
    picture = measured(noise((5, 7, 3)))
    assert measured(picture) is picture and measured(picture, axes="HWC") is picture
    with pytest.raises(ShapeError, match="axes is 'CHW', but the picture was read as 'HWC'"):
        measured(picture, axes="CHW")
