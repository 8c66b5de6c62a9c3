"""How explanations are drawn: numbers that fit, crops with a map, letters, colours, and animations."""

from __future__ import annotations

import io
import re

import pytest
import torch
from PIL import Image, features

from unconv import ShapeError, explain, ops
from unconv.explain import fonts
from unconv.explain.kinds_of_cells import KINDS
from unconv.explain.layout import SHEET, TALL, WIDE, plan
from unconv.explain.sheet import PAPER, Cell, compose, full_sheet
from unconv.explain.story import cell, grid


def counting(*shape):
    values = torch.arange(1.0, 1 + torch.tensor(shape).prod().item())
    return values.reshape(*shape)


def large(size=20, kernel=3, **more):
    shape = (1, 2 * size, 2 * size, 1)
    return ops.explain_conv2d_transpose(counting(1, size, size, 1), counting(kernel, kernel, 1, 1), shape, 2, **more)


@pytest.mark.parametrize(
    "value, word",
    [
        (100000, "100000"),
        (-9999999, "-9999999"),
        (12345678, "1.23e7"),
        (1e8, "1e8"),
        (0.1, "0.1"),
        (torch.tensor(0.1).item(), "0.1"),
        (1 / 3, "0.333"),
        (12.75, "12.75"),
        (-944.43, "-944"),
        (-12345.6, "-12346"),
        (9999.99, "10000"),
        (0.00478, "0.0048"),
        (0.000478, "4.78e-4"),
        (0.0, "0"),
        (-0.0, "0"),
    ],
)
def test_numbers_are_written_so_that_they_fit(value, word):
    assert cell(value) == word


def test_what_is_rounded_has_the_whole_number_beside_it():
    panel = grid("", torch.tensor([[1 / 3, 2.0]], dtype=torch.float64), "value")
    assert panel.exact == [["0.3333333333", ""]]
    assert grid("", torch.tensor([[1.0, 0.5]]), "value").exact == ()
    drawn = ops.explain_unpool_avg(torch.tensor([1.0, 0, 0]).reshape(1, 1, 3, 1), (1, 3), 3, "VALID").page().decode()
    assert "<title>0.3333333433</title></rect>" in drawn


@pytest.mark.parametrize("paper", [WIDE, TALL, SHEET])
@pytest.mark.parametrize("size, kernel", [(2, 3), (5, 7), (20, 3), (40, 4)])
def test_drawings_fit_their_paper_with_letters_that_can_be_read(paper, size, kernel):
    story = large(size, kernel).story()
    laid = plan(story, paper)
    assert laid.width <= paper.width + 40 and laid.height <= paper.height
    assert laid.cell[1] >= paper.sides[-1] >= 22
    cells = [shape for shape in (*compose(story, story.frames[0], laid).all(),) if isinstance(shape, Cell)]
    assert all(0.55 * len(each.word) * each.size <= each.width for each in cells)  # digits are about so wide
    assert min(each.size for each in cells) >= 6


def test_a_kernel_of_seven_is_shown_whole_on_a_projector():
    story = large(5, 7).story()
    laid = plan(story, WIDE)
    assert laid.shows[1] == (7, 7) and laid.shows[len(story.panels)] == (7, 7)


@pytest.mark.parametrize("at", [(0, 0), (21, 17), (39, 39)])
def test_a_crop_shows_what_is_marked_and_says_where_it_lies(at):
    story = large().story()
    frame = story.frames[at[0] * 40 + at[1]]
    laid = plan(story, WIDE)
    for number, row, column, rows, columns in frame.marks:
        (top, left), shown = laid.origin(number, story.panels[number], frame), laid.shows[number]
        assert top <= row and row + rows <= top + shown[0]
        assert left <= column and column + columns <= left + shown[1]
    output = next(number for number, panel in enumerate(story.panels) if panel.title.startswith("4."))
    (top, left), (rows, columns) = laid.origin(output, story.panels[output], frame), laid.shows[output]
    written = [
        shape.text
        for shape in compose(story, frame, laid).live[output]
        if not isinstance(shape, Cell) and hasattr(shape, "text")
    ]
    assert written[0] == str(top) and f"rows {top}–{top + rows - 1}, columns {left}–{left + columns - 1}" in written


def test_what_has_no_room_is_named():
    story = large(20).story()
    laid = plan(story, TALL)
    assert laid.omits(2) and not laid.omits(5)
    drawn = " ".join(shape.text for shape in compose(story, story.frames[0], laid).shapes if hasattr(shape, "text"))
    assert "No room here for: " in drawn and "1. Flip the kernel" in drawn


@pytest.mark.parametrize("name", ["steps", "scatter", "forward"])
def test_pictures_are_about_as_wide_as_a_projector(name):
    story = large(2, view=name).story()
    sheet = full_sheet(story, story.frames[0])
    assert 1.4 < sheet.width / sheet.height < 2.5


KINDS_OF_FILES = ["gif", "apng", *(["webp"] if features.check("webp") else [])]


@pytest.mark.parametrize("suffix", KINDS_OF_FILES)
def test_an_animation_has_every_frame_in_the_colours_of_its_cells(suffix, tmp_path):
    explanation = explain.explain_exercise("digits", view="scatter")
    reports = []
    explanation.save(tmp_path / f"a.{suffix}", progress=lambda what, done, total: reports.append((what, done, total)))
    assert reports == [("drawing", 0, 3), ("drawing", 1, 3), ("drawing", 2, 3), ("writing", 3, 3)]
    with Image.open(tmp_path / f"a.{suffix}") as animation:
        assert animation.n_frames == 3
        seen = []
        for number in range(3):
            animation.seek(number)
            seen.append({"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in animation.convert("RGB").getcolors(2**24)})
    for number, frame in enumerate(explanation.story().frames):
        kinds = {kind for card in frame.cards for row in card.kinds for kind in row} - {"blank"}
        assert {KINDS[kind].day[0] for kind in kinds} <= seen[number]
    count = sum(KINDS["overlap"].day[0] in colours for colours in seen)
    assert count == 3  # the legend has it in each


ANIMATED = {
    "stamps": lambda: explain.explain_exercise("digits", view="scatter"),
    "long stamps": lambda: explain.explain_conv1d_transpose(
        counting(1, 24, 1), counting(3, 1, 1), (1, 48, 1), 2, view="scatter"
    ),
    "crops": lambda: ops.explain_unpool_max(counting(1, 8, 60, 1), (4, 20), (4, 20), "SAME"),
}


@pytest.mark.parametrize("name", ANIMATED)
def test_every_cell_has_its_colour_in_every_frame(name):
    explanation = ANIMATED[name]()
    story = explanation.story()
    with Image.open(io.BytesIO(explanation.animation())) as animation:
        assert animation.n_frames == len(story.frames)
        for number, frame in enumerate(story.frames):
            animation.seek(number)
            picture = animation.convert("RGB")
            for shape in (shape for shape in full_sheet(story, frame).all() if isinstance(shape, Cell) and shape.width > 20):
                colour = "#{:02x}{:02x}{:02x}".format(*picture.getpixel((round(shape.x) + 4, round(shape.y) + 4)))
                assert colour == (PAPER[0] if shape.kind == "blank" else KINDS[shape.kind].day[0])


@pytest.mark.parametrize(
    "name, way", [("a.mp4", "ffmpeg -i a.gif -pix_fmt yuv420p a.mp4"), ("a.mov", "a.gif"), ("a.doc", "NAME.webp")]
)
def test_other_kinds_of_files_are_refused_with_a_way_out(name, way, tmp_path):
    with pytest.raises(ShapeError, match=r"is not of a kind that can be written") as refused:
        explain.explain_exercise("digits").save(tmp_path / name)
    assert way in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def only_fonts_of(monkeypatch):
    """Leave the system the fonts of one folder."""

    def leave(folder):
        for name in ("XDG_DATA_HOME", "XDG_DATA_DIRS"):
            monkeypatch.setenv(name, str(folder))
        fonts._chinese_font.cache_clear()
        fonts._opened.cache_clear()

    yield leave
    fonts._chinese_font.cache_clear()
    fonts._opened.cache_clear()


@pytest.mark.skipif("sys.platform != 'linux'", reason="fonts lie in other folders")
def test_without_a_chinese_font_a_picture_is_refused_but_not_a_page(only_fonts_of, tmp_path):
    only_fonts_of(tmp_path)
    explanation = explain.explain_exercise("digits", language="zh")
    for suffix in ("png", "gif"):
        with pytest.raises(ShapeError, match="no font with Chinese characters was found on this system"):
            explanation.save(tmp_path / f"a.{suffix}")
    for suffix in ("svg", "html", "txt"):
        explanation.save(tmp_path / f"a.{suffix}")
        assert "转置卷积" in (tmp_path / f"a.{suffix}").read_text()
    explain.explain_exercise("digits").save(tmp_path / "a.png")  # English needs none


@pytest.mark.skipif("sys.platform != 'linux'", reason="fonts lie in other folders")
def test_a_chinese_font_of_the_system_is_used(only_fonts_of, tmp_path):
    builder = pytest.importorskip("fontTools.fontBuilder", reason="fontTools is absent: pip install fonttools")
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    words = sorted(set("".join(re.findall(r"[\u2e80-\uffef]", explain.explain_exercise("digits", language="zh").text()))))
    names = [".notdef", *(f"uni{ord(word):04X}" for word in words)]

    def box(side):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, side), (side, side), (side, 0)):
            pen.lineTo(corner)
        pen.closePath()
        return pen.glyph()

    font = builder.FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(word): name for word, name in zip(words, names[1:], strict=True)})
    font.setupGlyf({name: box(300 if name == ".notdef" else 900) for name in names})
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    (tmp_path / "fonts").mkdir()
    font.save(tmp_path / "fonts" / "NotoSansSC-Regular.ttf")
    only_fonts_of(tmp_path)
    assert explain.explain_exercise("digits", language="zh").picture().width > 600


@pytest.mark.parametrize("number", [0, 210, 399])
def test_a_crop_of_a_matrix_shows_the_entries_that_meet_and_their_samples(number):
    story = large(10, view="matrix").story()
    frame, laid = story.frames[number], plan(story, WIDE)
    (top, left), shown = laid.origin(2, story.panels[2], frame), laid.shows[2]
    assert top <= number < top + shown[0]
    assert any(story.panels[2].kinds[number][column] != "zero" for column in range(left, left + shown[1]))
    assert laid.origin(3, story.panels[3], frame)[0] == left and laid.shows[3][0] == shown[1]
