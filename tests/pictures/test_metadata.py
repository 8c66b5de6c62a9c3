"""What a file says of a picture comes back in the file of the result, as other programs read it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from unconv.errors import PictureError
from unconv.inverse.fields.image import super_resolve
from unconv.pictures.encode import save
from unconv.pictures.measured import measured
from unconv.pictures.metadata import NOTHING, changed

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" xmp:Rating="4"/></x:xmpmeta>'
NOTE = bytes(range(256)) * 2  # a maker's note, of a form that nobody knows, longer than a value in its place
KINDS = {"B": 1, "s": 2, "H": 3, "I": 4, "R": 5, "U": 7}


def tags_at(at, tags, following=0, order="<"):
    """A list of tags as it stands at `at`: (number, type, value), after it the values that find no room in it."""
    entries, values = b"", b""
    for number, kind, value in tags:
        content = {
            "s": lambda v: v + b"\0",
            "U": bytes,
            "R": lambda v: struct.pack(f"{order}2I", *v),
            "H": lambda v: struct.pack(f"{order}H", v),
            "I": lambda v: struct.pack(f"{order}I", v),
            "B": lambda v: bytes([v]),
        }[kind](value)
        count = len(content) if kind in "sU" else 1
        if len(content) > 4:
            place = at + 2 + 12 * len(tags) + 4 + len(values)
            values += content
            content = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", number, KINDS[kind], count) + content.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following) + values


def camera_exif(width, height, orientation, order="<"):
    """EXIF as a camera writes it: a maker's note, a place, and a small picture of the turned one."""
    small = io.BytesIO()
    Image.new("RGB", (16, 8)).save(small, "JPEG")
    base, inner, place, second = 8, 200, 900, 1000
    first = [
        (271, "s", b"Maker"), (272, "s", b"Model 5"), (274, "H", orientation), (282, "R", (300, 1)), (283, "R", (150, 1)),
        (296, "H", 2), (34665, "I", inner), (34853, "I", place),
    ]  # fmt: skip
    exif = [(33434, "R", (1, 250)), (37500, "U", NOTE), (0xA002, "I", width), (0xA003, "I", height)]
    raw = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", base)
    for start, part in (
        (base, tags_at(base, first, second, order)),
        (inner, tags_at(inner, exif, order=order)),
        (place, tags_at(place, [(1, "s", b"N")], order=order)),
        (second, tags_at(second, [(513, "I", 1100), (514, "I", len(small.getvalue()))], order=order)),
        (1100, small.getvalue()),
    ):
        assert len(raw) <= start
        raw = raw.ljust(start, b"\0") + part
    return raw


def picture(shape=(40, 24, 3), dtype="uint8"):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def camera_file(tmp_path, suffix, orientation=6, order="<"):
    """A picture as a camera leaves it, wider than high before it is turned."""
    image = Image.fromarray(picture((24, 40, 3)))
    exif = b"Exif\0\0" + camera_exif(40, 24, orientation, order)
    path = tmp_path / f"camera{suffix}"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    text.add_text("Title", "a test")
    text.add(b"gAMA", struct.pack(">I", 45455))
    rest = {"pnginfo": text} if suffix == ".png" else {"xmp": XMP}
    image.save(path, exif=exif, icc_profile=PROFILE, dpi=(300, 150), **rest)
    return path


def restored_file(source, place):
    """What a restoration does with a file, without one."""
    given = measured(source)
    save(given.like(given.samples), place, axes=given.given, metadata=given.metadata)
    return given


def exif_read(path):
    exifread = pytest.importorskip("exifread", reason="reads EXIF")
    with path.open("rb") as file:
        return dict(exifread.process_file(file).items())


def profile_of(path):
    """The colours' profile in a file, by its structure, without Pillow."""
    content = path.read_bytes()
    if content.startswith(b"\xff\xd8"):
        at, parts = 2, {}
        while content[at + 1] != 0xDA:
            (length,) = struct.unpack_from(">H", content, at + 2)
            part = content[at + 4 : at + 2 + length]
            if content[at + 1] == 0xE2 and part.startswith(b"ICC_PROFILE\0"):
                parts[part[12]] = part[14:]
            at += 2 + length
        return b"".join(parts[number] for number in sorted(parts)) or None
    if content.startswith(b"\x89PNG"):
        return next(
            (zlib.decompress(part[part.index(b"\0") + 2 :]) for name, part in png_chunks(path) if name == b"iCCP"), None
        )
    if content.startswith(b"RIFF"):
        at = content.find(b"ICCP")
        return content[at + 8 : at + 8 + struct.unpack_from("<I", content, at + 4)[0]] if at > 0 else None
    tifffile = pytest.importorskip("tifffile", reason="reads TIFF")
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags.get(34675)
        return None if tag is None else bytes(tag.value)


def png_chunks(path):
    content, at = path.read_bytes(), 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


@pytest.mark.parametrize("to", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_everything_a_camera_says_is_in_the_file_of_the_result(tmp_path, suffix, to):
    given = restored_file(camera_file(tmp_path, suffix), tmp_path / f"out{to}")
    assert given.spatial == (40, 24)
    assert profile_of(tmp_path / f"out{to}") == PROFILE
    tags = exif_read(tmp_path / f"out{to}")
    assert str(tags["Image Make"]) == "Maker" and str(tags["Image Model"]) == "Model 5"
    assert str(tags["EXIF ExposureTime"]) == "1/250"
    assert str(tags["GPS GPSLatitudeRef"]) == "N"
    assert bytes(tags["EXIF MakerNote"].values) == NOTE
    assert tags.get("Image Orientation") is None or tags["Image Orientation"].values == [1]
    assert (tags["EXIF ExifImageWidth"].values, tags["EXIF ExifImageLength"].values) == ([24], [40])
    assert "JPEGThumbnail" not in tags
    with Image.open(tmp_path / f"out{to}") as image:
        assert image.size == (24, 40)
        assert image.info["dpi"] == pytest.approx((150, 300), abs=0.02)  # turned with the picture
        if suffix != ".tif":  # into which Pillow does not write it together with EXIF
            assert b'tiff:Orientation="1"' in image.info["xmp"] and b'Rating="4"' in image.info["xmp"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_a_picture_is_turned_once(tmp_path, orientation, order):
    path = camera_file(tmp_path, ".png", orientation, order)
    first = restored_file(path, tmp_path / "once.png")
    second = restored_file(tmp_path / "once.png", tmp_path / "twice.png")
    assert first.samples.equal(second.samples)
    assert str(exif_read(tmp_path / "twice.png")["Image Orientation"]) == "Horizontal (normal)"


def test_of_exif_only_what_must_be_is_changed():
    came = camera_exif(40, 24, 6)
    now = changed(came, {274: 1})
    assert [at for at in range(len(came)) if came[at] != now[at]] == [came.index(struct.pack("<HHI", 274, 3, 1)) + 8]


@pytest.mark.parametrize("cut", [0, 3, 9, 40, 150])
def test_damaged_exif_is_left_out_and_the_picture_read(tmp_path, cut):
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + camera_exif(40, 24, 1)[:cut], icc_profile=PROFILE)
    given = measured(tmp_path / "a.jpg")
    assert given.metadata.icc == PROFILE and given.spatial == (40, 24)


def test_deep_png_keeps_all_of_it(tmp_path):
    png = pytest.importorskip("png", reason="pypng reads PNG")
    deep = picture((6, 8, 3), "uint16")
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a test")
    text.add(b"gAMA", struct.pack(">I", 45455))
    Image.fromarray(deep[..., 0]).save(
        tmp_path / "a.png", pnginfo=text, exif=camera_exif(8, 6, 1), dpi=(300, 150), icc_profile=PROFILE
    )
    save(deep, tmp_path / "b.png", metadata=measured(tmp_path / "a.png").metadata)
    restored_file(tmp_path / "b.png", tmp_path / "c.png")
    width, height, rows, info = png.Reader(bytes=(tmp_path / "c.png").read_bytes()).asDirect()
    assert np.array_equal(np.array([list(row) for row in rows]).reshape(height, width, 3), deep)
    assert profile_of(tmp_path / "c.png") == PROFILE and info["gamma"] == pytest.approx(0.45455)
    assert (info["physical"].x, info["physical"].y) == (round(300 / 0.0254), round(150 / 0.0254))
    names = [name for name, _ in png_chunks(tmp_path / "c.png")]
    assert names == [b"IHDR", b"iCCP", b"gAMA", b"tEXt", b"pHYs", b"eXIf", b"IDAT", b"IEND"]
    assert str(exif_read(tmp_path / "c.png")["Image Make"]) == "Maker"


def test_a_pil_picture_keeps_it_in_its_info(tmp_path):
    with Image.open(camera_file(tmp_path, ".jpg")) as source:
        given = measured(source)
    back = given.like(given.samples)
    assert back.info["icc_profile"] == PROFILE and back.getexif()[271] == "Maker" and back.getexif()[274] == 1
    save(back, tmp_path / "b.png")
    assert str(exif_read(tmp_path / "b.png")["Image Model"]) == "Model 5"


def tables_of(path):
    with Image.open(path) as image:
        return image.quantization, image.layer


@pytest.mark.parametrize(("came", "written"), [(60, 95), (75, 95), (95, 95), (98, 98), (100, 100)])
def test_jpeg_is_written_finely_whatever_came(tmp_path, came, written):
    image = Image.fromarray(picture())
    image.save(tmp_path / "came.jpg", quality=came, subsampling=2)
    image.save(tmp_path / "like.jpg", quality=written, subsampling=0)
    restored_file(tmp_path / "came.jpg", tmp_path / "out.jpg")
    assert tables_of(tmp_path / "out.jpg") == tables_of(tmp_path / "like.jpg")


def test_webp_is_written_without_loss_and_with_colours_under_transparency(tmp_path):
    array = picture((9, 11, 4))
    array[:4, :, 3] = 0
    save(array, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        assert np.array_equal(np.asarray(image), array)


def test_webp_tells_of_resolution_in_exif(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png", dpi=(300, 300))
    restored_file(tmp_path / "a.png", tmp_path / "b.webp")
    assert measured(tmp_path / "b.webp").metadata.exif is not None
    with Image.open(tmp_path / "b.webp") as image:
        assert (image.getexif()[282], image.getexif()[296]) == (pytest.approx(300, abs=0.01), 2)


def test_what_a_format_cannot_hold_is_said(tmp_path):
    with pytest.warns(UserWarning, match=r"out\.bmp cannot hold .*: colour profile, EXIF, XMP\. Save it as \.png"):
        restored_file(camera_file(tmp_path, ".png"), tmp_path / "out.bmp")  # into JPEG an old Pillow writes no XMP
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(picture(), tmp_path / "plain.bmp")


def test_more_than_256_colours_do_not_go_into_gif(tmp_path):
    with pytest.raises(
        PictureError, match=r"a\.gif cannot hold a picture of mode RGB; GIF holds 256 colours. Save it as \.png"
    ):
        save(picture(), tmp_path / "a.gif")
    save(picture()[..., 0], tmp_path / "a.gif")


def test_a_palette_and_ink_are_answered_in_words(tmp_path):
    Image.fromarray(picture()).quantize(8).save(tmp_path / "a.png")
    assert measured(tmp_path / "a.png").notes == (
        "measured: the picture has a palette; its colours were read as RGB, and the result has no palette.",
    )
    Image.new("CMYK", (8, 8), (0, 200, 0, 0)).save(tmp_path / "a.jpg")
    assert "CMYK was converted by a rough formula, since it has no profile" in measured(tmp_path / "a.jpg").notes[0]
    Image.new("1", (8, 8)).save(tmp_path / "b.png")
    assert "with 1 bit a sample; the result is grey, with 8 bits" in measured(tmp_path / "b.png").notes[0]
    frames = [Image.new("L", (8, 8), value) for value in (10, 20)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert "an animation; only its first frame was read" in measured(tmp_path / "a.gif").notes[-1]


def test_the_profile_of_inks_is_not_given_to_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 200, 0, 0)).save(tmp_path / "a.jpg", icc_profile=b"\0" * 200)
    given = measured(tmp_path / "a.jpg")
    assert given.metadata.icc is None and given.metadata.tables


@pytest.mark.parametrize("words", ["ImageJ=1.53\nimages=5\n", '{"shape": [5, 40, 24]}', "<?xml version='1.0'?><OME/>"])
def test_words_for_programs_about_other_pages_are_not_written_into_one(tmp_path, words):
    Image.fromarray(picture()).save(tmp_path / "a.tif", tiffinfo={270: words, 305: "a program"})
    with Image.open(tmp_path / "a.tif") as image:
        given = measured(image)
    save(picture(), tmp_path / "b.tif", metadata=given.metadata)
    with Image.open(tmp_path / "b.tif") as image:
        assert 270 not in image.tag_v2 and image.tag_v2[305] == "a program"


def test_an_array_says_nothing():
    assert measured(picture()).metadata == NOTHING


@pytest.mark.parametrize(("shape", "dtype"), [((9, 7, 3), "uint16"), ((9, 7, 4), "uint16"), ((9, 7), "int16")])
@pytest.mark.parametrize("to", ["b.tif", "c.tiff"])
def test_deep_tiff_has_it_too(tmp_path, shape, dtype, to):
    tifffile = pytest.importorskip("tifffile", reason="writes and reads deep TIFF")
    deep = picture(shape, dtype)
    said = measured(camera_file(tmp_path, ".jpg", 1)).metadata
    save(deep, tmp_path / "a.tif", metadata=said)
    given = restored_file(tmp_path / "a.tif", tmp_path / to)  # and once more, from that file
    assert np.array_equal(tifffile.imread(tmp_path / to), deep) and given.dtype == dtype
    assert profile_of(tmp_path / to) == PROFILE
    tags = exif_read(tmp_path / to)
    assert str(tags["Image Make"]) == "Maker" and str(tags["EXIF ExposureTime"]) == "1/250"
    assert bytes(tags["EXIF MakerNote"].values) == NOTE and str(tags["GPS GPSLatitudeRef"]) == "N"
    assert (tags["EXIF ExifImageWidth"].values, tags["EXIF ExifImageLength"].values) == ([7], [9])
    with tifffile.TiffFile(tmp_path / to) as file:
        (page,) = file.pages
        assert page.get_resolution("INCH") == (300, 150) and [tag.code for tag in page.tags] == sorted(page.tags.keys())
        assert b'Rating="4"' in bytes(page.tags[700].value)


def press(words):
    """A JPEG's segment with a caption, as Photoshop writes it."""
    caption = b"\x1c\x02\x78" + struct.pack(">H", len(words)) + words
    part = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(caption)) + caption + bytes(len(caption) % 2)
    return caption, b"\xff\xed" + struct.pack(">H", len(part) + 2) + part


@pytest.mark.parametrize("words", [b"a caption", b"captions"])
def test_captions_of_the_press_are_kept(tmp_path, words):
    caption, segment = press(words)
    Image.fromarray(picture()).save(tmp_path / "a.jpg", extra=segment)
    restored_file(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert segment in (tmp_path / "b.jpg").read_bytes()
    restored_file(tmp_path / "b.jpg", tmp_path / "c.tif")
    with Image.open(tmp_path / "c.tif") as image:
        assert image.tag_v2[33723] == caption
    with pytest.warns(UserWarning, match="picture: IPTC"):
        restored_file(tmp_path / "b.jpg", tmp_path / "d.png")


@pytest.mark.parametrize("to", [".jpg", ".png", ".tif"])
def test_a_finer_grid_has_more_samples_an_inch(tmp_path, to):
    source = camera_file(tmp_path, ".jpg", 1)
    result = super_resolve(source, 2, noise=2, method="dct", steps=1)
    result.save(tmp_path / f"out{to}")
    tags = exif_read(tmp_path / f"out{to}")
    assert (tags["EXIF ExifImageWidth"].values, tags["EXIF ExifImageLength"].values) == ([80], [48])
    assert [str(tags[f"Image {name}Resolution"]) for name in "XY"] == ["600", "300"]
    with Image.open(tmp_path / f"out{to}") as image:
        assert image.size == (80, 48) and image.info["dpi"] == pytest.approx((600, 300), abs=0.02)


def test_fits_that_pillow_has_opened_is_asked_for_by_its_name(tmp_path):
    cards = [
        f"{name:8}= {value:>20}" for name, value in (("SIMPLE", "T"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 4), ("NAXIS2", 3))
    ]
    head = "".join(card.ljust(80) for card in [*cards, "END"]).ljust(2880).encode()
    with Image.open(io.BytesIO(head + bytes(range(12)).ljust(2880, b"\0"))) as image:
        for _ in range(2):
            with pytest.raises(PictureError, match=r"format FITS.*Pass the file's name instead; astropy opens it"):
                measured(image)
            image.load()
