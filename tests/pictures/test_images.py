"""Pictures in and out: what strangers wrote comes out upright, at 8 bits, or is refused in words."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torchvision.transforms._presets import ImageClassification

from unconv.errors import PictureError, ShapeError, UnconvError
from unconv.files import write
from unconv.pictures.decode import open_picture
from unconv.pictures.draw import common_scale, grid, picture_of, signed_picture
from unconv.pictures.encode import png
from unconv.pictures.preprocess import Preprocess, shown

COLOUR = (200, 100, 50)
UPRIGHT = np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3)


def noise(height, width, channels=3):
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


def saved(tmp_path, picture, name="picture.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    "mode, tolerance", [("RGB", 0), ("RGBA", 0), ("RGBX", 0), ("CMYK", 2), ("YCbCr", 2), ("HSV", 4), ("P", 0)]
)
def test_a_colour_survives_its_mode(mode, tolerance):
    source = Image.new("RGB", (3, 2), COLOUR)
    picture = open_picture(source.convert(mode, palette=Image.Palette.ADAPTIVE))
    assert (picture.mode, picture.size) == ("RGB", (3, 2))
    assert np.abs(np.subtract(picture.getpixel((1, 1)), COLOUR)).max() <= tolerance


@pytest.mark.parametrize("lightness, grey", [(0, 0), (136, 127), (255, 255)])
def test_a_colourless_lab_picture_is_grey(lightness, grey):
    pixel = open_picture(Image.new("LAB", (2, 2), (lightness, 128, 128))).getpixel((0, 0))
    assert np.abs(np.subtract(pixel, grey)).max() <= 2


@pytest.mark.parametrize("mode, white", [("1", 1), ("L", 255), ("I;16", 65535), ("I;16B", 65535), ("I", 65535), ("F", 1.0)])
def test_white_without_colour_is_white_in_mode_l(mode, white):
    picture = open_picture(Image.new(mode, (3, 2), white))
    assert (picture.mode, picture.size, picture.getpixel((2, 1))) == ("L", (3, 2), 255)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_what_is_all_transparent_becomes_white(mode):
    assert open_picture(Image.new(mode, (2, 2))).getpixel((0, 0)) in (255, (255, 255, 255))


def test_half_transparent_black_over_white_is_grey():
    picture = open_picture(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))
    assert picture.getpixel((0, 0)) == (127, 127, 127)


def test_a_transparent_palette_entry_becomes_white(tmp_path):
    source = Image.new("P", (2, 1))
    source.putpalette([10, 20, 30, 40, 50, 60])
    source.putpixel((1, 0), 1)
    picture = open_picture(saved(tmp_path, source, transparency=1))
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


@pytest.mark.parametrize("mode, hidden", [("RGB", COLOUR), ("L", 70)])
def test_a_transparent_colour_of_a_png_becomes_white(tmp_path, mode, hidden):
    path = saved(tmp_path, Image.new(mode, (2, 2), hidden), transparency=hidden)
    assert open_picture(path).getpixel((0, 0)) in (255, (255, 255, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["picture.png", "picture.tiff"])
def test_every_exif_orientation_is_turned_upright(tmp_path, orientation, name):
    turned = UPRIGHT.T  # Exif 2.3, tag 0x0112: where the 0th row and the 0th column stand
    stored = [UPRIGHT, UPRIGHT[:, ::-1], UPRIGHT[::-1, ::-1], UPRIGHT[::-1]]
    stored += [turned, turned[::-1], turned[::-1, ::-1], turned[:, ::-1]]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored[orientation - 1])), name, exif=exif)
    assert np.array_equal(open_picture(path), UPRIGHT)


def test_a_nonsensical_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(open_picture(saved(tmp_path, Image.fromarray(UPRIGHT), exif=exif)), UPRIGHT)


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    deep = UPRIGHT.astype(np.uint16) * 257
    path = saved(tmp_path, Image.fromarray(deep))
    assert np.array_equal(open_picture(path), UPRIGHT)
    assert np.array_equal(open_picture(deep), UPRIGHT)


def test_the_first_of_several_frames_is_taken(tmp_path):
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    path = saved(tmp_path, first, "moving.gif", save_all=True, append_images=[second])
    assert open_picture(path).getpixel((0, 0)) == (255, 0, 0)


def test_the_callers_picture_is_not_shared():
    source = Image.new("RGB", (2, 2), COLOUR)
    open_picture(source).putpixel((0, 0), (0, 0, 0))
    assert source.getpixel((0, 0)) == COLOUR


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.full((2, 3), 200, np.uint8), 200),
        (np.full((2, 3, 1), 200, np.uint8), 200),
        (np.full((2, 3, 3), 200, np.uint8), (200, 200, 200)),
        (np.full((2, 3), 32896, np.uint16), 128),
        (np.full((2, 3), 32896, ">u2"), 128),
        (np.full((2, 3), 0.2, np.float32), 51),
        (np.full((2, 3), 0.2, np.float64), 51),
        (np.full((2, 3), 1, np.float16), 255),
        (np.full((2, 3), True), 255),
        (np.zeros((2, 3, 4), np.uint8), (255, 255, 255)),
    ],
)
def test_an_array_is_scaled_by_what_its_type_can_hold(array, expected):
    picture = open_picture(array)
    assert picture.size == (3, 2)
    assert picture.getpixel((0, 0)) == expected


@pytest.mark.parametrize("values, words", [([-0.1, 0.5], "from -0.1 to 0.5"), ([0.0, 255.0], "from 0 to 255")])
def test_floats_beyond_zero_to_one_are_refused(values, words):
    with pytest.raises(PictureError, match=f"{words}, but floats between 0 and 1 were needed"):
        open_picture(np.array([values]))


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_sixteen_bits_are_refused(value):
    with pytest.raises(PictureError, match="samples of int64 came, which do not say what white is"):
        open_picture(np.array([[0, value]]))


def test_an_array_of_wide_integers_is_not_turned_black():
    with pytest.raises(PictureError, match="int64"):
        open_picture(np.array([[0, 200]], dtype=np.int64))


@pytest.mark.parametrize("array", [np.array([["a", "b"]]), np.array([[None, 1]])])
def test_an_array_of_no_numbers_is_refused(array):
    with pytest.raises(PictureError, match="picture: "):
        open_picture(array)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_array_with_a_hole_is_refused(bad):
    with pytest.raises(PictureError, match="NaN or infinite"):
        open_picture(np.array([[0.5, bad]]))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (3, 4, 5), (1, 4, 4, 3), (0, 4), (4, 0, 3), ()])
def test_an_array_of_no_pictures_shape_is_refused(shape):
    with pytest.raises(ShapeError, match=r"came, but \(height, width\)"):
        open_picture(np.zeros(shape, np.uint8))


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(PictureError, match=r"there is no file .*nowhere\.png"):
        open_picture(tmp_path / "nowhere.png")


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(PictureError, match="is a folder; a picture file was needed"):
        open_picture(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", bytes(5000)])
def test_a_file_that_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"picture\.png is not a picture, or is damaged or cut off"):
        open_picture(path)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.gif", "cut.bmp", "cut.webp", "cut.tiff", "cut.avif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = saved(tmp_path, noise(40, 50), name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_picture(path)


def test_a_png_with_flipped_bytes_is_refused(tmp_path):
    path = saved(tmp_path, noise(40, 50))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_picture(path)


def test_a_dds_file_of_an_unknown_pixel_format_is_refused(tmp_path):
    path = saved(tmp_path, noise(4, 4), "picture.dds")
    content = bytearray(path.read_bytes())
    content[80:84] = struct.pack("<I", 0)
    path.write_bytes(content)
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_picture(path)


def test_a_cut_off_picture_that_pil_already_opened_is_refused():
    content = png(noise(40, 50))
    with Image.open(io.BytesIO(content[: len(content) // 2])) as half, pytest.raises(PictureError, match="cut off"):
        open_picture(half)


@pytest.mark.parametrize("side", [11, 20])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, side):
    path = saved(tmp_path, Image.new("L", (side, side)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="more than 100 pixels; refused as a decompression bomb"):
        open_picture(path)


def test_a_picture_just_within_the_limit_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (10, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_picture(path).size == (10, 10)


def test_one_pixel_fills_the_crop():
    image = Preprocess((4, 6))(open_picture(Image.new("RGB", (1, 1), COLOUR)))
    assert image.shape == (3, 4, 6)
    assert torch.equal(image, (torch.tensor(COLOUR).float() / 255).view(3, 1, 1).expand(3, 4, 6))


@pytest.mark.parametrize("size", [(300, 1), (1, 300), (299, 2)])
def test_a_very_long_picture_fills_the_crop(size):
    assert torch.equal(Preprocess((4, 6))(Image.new("L", size, 255)), torch.ones(3, 4, 6))


def test_a_line_of_pixels_is_not_blown_up_to_gigabytes(monkeypatch):
    resize = Image.Image.resize

    def bounded(picture, size, *rest, **options):
        assert size[0] * size[1] < 1e8
        return resize(picture, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", bounded)
    assert Preprocess((224, 224))(Image.new("L", (100_000, 1))).shape == (3, 224, 224)


@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0)])
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises((PictureError, ShapeError), match="picture"):
        open_picture(Image.new("RGB", size))


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_a_crop_never_reaches_beyond_the_picture(size, crop):
    assert torch.equal(Preprocess(crop)(Image.new("L", size, 255)), torch.ones(3, *crop))


@pytest.mark.parametrize("picture", [noise(37, 53), noise(53, 37), noise(16, 16)])
def test_preprocess_agrees_with_torchvision(picture):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = ImageClassification(crop_size=18, resize_size=24, mean=mean, std=std)(picture)
    assert torch.allclose(Preprocess((18, 18), 24, mean, std)(picture), theirs, atol=1e-6)


def test_without_a_size_nothing_is_cropped():
    assert Preprocess()(noise(7, 11)).shape == (3, 7, 11)
    assert Preprocess(resize=14)(noise(7, 11)).shape == (3, 14, 22)


def test_caffe_wants_blue_first_up_to_255_less_the_mean():
    image = Preprocess(mean=(104.0, 117.0, 123.0), scale=255, bgr=True)(Image.new("RGB", (2, 2), COLOUR))
    assert image[:, 0, 0].tolist() == pytest.approx([50 - 104, 100 - 117, 200 - 123], abs=1e-4)


def test_one_mean_makes_the_picture_grey():
    image = Preprocess(mean=(0.5,), std=(0.5,))(Image.new("RGB", (2, 3), "white"))
    assert torch.equal(image, torch.ones(1, 3, 2))


@pytest.mark.parametrize("mean, std", [((0.0,) * 2, (1.0,) * 3), ((0.0,) * 3, (1.0,)), ((), ())])
def test_means_that_fit_no_picture_are_refused(mean, std):
    with pytest.raises(ShapeError, match=f"mean has {len(mean)} and std {len(std)} values"):
        Preprocess(mean=mean, std=std)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 3]).flatmap(lambda n: st.tuples(*[st.tuples(st.floats(-1, 1), st.floats(0.1, 3))] * n)),
    st.sampled_from([1.0, 255.0]),
    st.booleans(),
)
def test_shown_undoes_preprocess(channels, scale, bgr):
    mean, std = (tuple(value * scale for value in values) for values in zip(*channels, strict=True))
    preprocess = Preprocess(mean=mean, std=std, scale=scale, bgr=bgr)
    picture = noise(3, 5, len(channels))
    assert np.array_equal(picture_of(shown(preprocess(picture), preprocess)), picture)


def test_shown_undoes_torchvisions_own_preprocessing():
    preprocess = ImageClassification(crop_size=8, resize_size=8)
    assert np.array_equal(picture_of(shown(preprocess(noise(8, 8)), preprocess)), noise(8, 8))


@pytest.mark.parametrize("preprocess", [None, Preprocess(), lambda picture: picture])
def test_what_cannot_be_undone_is_shown_over_its_own_range(preprocess):
    image = torch.linspace(-3, 5, 5 * 4).view(5, 2, 2)
    found = shown(image, preprocess)
    assert (found.min(), found.max()) == (0, 1)
    assert torch.equal(shown(torch.zeros(5, 2, 2), preprocess), torch.zeros(5, 2, 2))


def test_channels_that_make_no_colour_are_averaged():
    image = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8]).view(5, 1, 1)
    assert picture_of(image).getpixel((0, 0)) == 102


def test_zero_is_mid_grey_and_the_scale_white_and_black():
    picture = signed_picture(torch.tensor([[[-9.0, -2.0, 0.0, 2.0, 9.0]]]), 2.0)
    assert np.asarray(picture).tolist() == [[0, 0, 128, 255, 255]]


def test_a_signal_of_nothing_is_mid_grey():
    assert np.asarray(signed_picture(torch.zeros(3, 1, 1), 0.0)).tolist() == [[[128] * 3]]


def test_one_sample_in_a_hundred_does_not_set_the_scale():
    signal = torch.full((1, 10, 10), -1.0)
    signal[0, 0, 0] = 1000
    assert common_scale([signal]) == 1


def test_zeros_do_not_count_for_the_scale():
    assert common_scale([torch.zeros(3, 50, 50), torch.tensor([[[0.0, -4.0]]])]) == 4


@pytest.mark.parametrize("signals", [[], [torch.zeros(3, 2, 2)], [torch.zeros(3, 0, 2)]])
def test_the_scale_of_nothing_is_zero(signals):
    assert common_scale(signals) == 0


def test_a_grid_centres_each_tile_in_a_cell_of_the_largest():
    tiles = [Image.new("RGB", (4, 6), "red"), Image.new("L", (2, 2), 0), Image.new("RGB", (1, 1), "blue")]
    sheet = grid(tiles, 2, gap=3)
    assert sheet.size == (4 + 3 + 4, 6 + 3 + 6)
    black = np.argwhere((np.asarray(sheet) == 0).all(-1))
    assert (black.min(0).tolist(), black.max(0).tolist()) == ([2, 8], [3, 9])
    assert sheet.getpixel((5, 0)) == sheet.getpixel((10, 14)) == (255, 255, 255)


def test_a_grid_is_no_wider_than_its_tiles():
    assert grid([Image.new("L", (5, 4))] * 2, 9, gap=1).size == (11, 4)


def test_write_replaces_a_file_and_makes_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_partial_one(tmp_path):
    path = tmp_path / "file.bin"
    write(path, b"old")
    with pytest.raises(TypeError):
        write(path, "text, which is not bytes")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("file.bin", b"old")]


def test_a_move_that_fails_leaves_no_partial_file(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(UnconvError, match=r"taken is a folder, but a file's name was needed. Choose another name"):
        write(tmp_path / "taken", b"new")
    assert [found.name for found in tmp_path.iterdir()] == ["taken"]


def test_png_keeps_every_sample():
    picture = noise(5, 7)
    with Image.open(io.BytesIO(png(picture))) as back:
        assert np.array_equal(back, picture)
