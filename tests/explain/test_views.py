"""The views of a transposed convolution: each shows what the operation gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from cases.ops import calls, exactly, law, randn
from unconv import DtypeError, NoSuchUnit, ShapeError, explain, ops
from unconv.explain.choices import EXERCISES, VIEW_WORDS


def counting(*shape):
    values = torch.arange(1.0, 1 + torch.tensor(shape).prod().item())
    return values.reshape(*shape)


def classic(**settings):
    """[[1, 2], [3, 4]] with a 3 × 3 kernel of 1 to 9."""
    arguments = {"output_shape": (1, 4, 4, 1), "strides": 2, "padding": "SAME"} | settings
    return ops.explain_conv2d_transpose(counting(1, 2, 2, 1), counting(3, 3, 1, 1), **arguments)


def numbers(panel):
    """The values that a panel shows; what is left blank is 0."""
    return torch.tensor([[float(word or 0) for word in row] for row in panel.cells])


def explained(call, inside, out):
    """One or two axes explained, and what the operation and the convolution are."""
    layout, axes, size, padding = call
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    x, filters = layout.back(randn(1, inside, *small)), randn(*(axis.kernel for axis in axes), out, inside, seed=1)
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    rest = (layout.shape(1, size, out), strides, padding, layout.name, dilations)
    one = layout.axes == 1
    explanation = (explain.explain_conv1d_transpose if one else explain.explain_conv2d_transpose)(x, filters, *rest)
    convolve = ops.conv1d if one else ops.conv2d

    def forward(picture):
        return convolve(picture, filters[..., :1, :1], *rest[1:])

    return explanation, layout, forward


@pytest.mark.slow
@law
@given(calls(most=2), some.integers(1, 2), some.integers(1, 2))
def test_the_sum_of_all_stamps_is_the_result(call, inside, out):
    explanation, layout, _ = explained(call, inside, out)
    total = 0
    for channel in range(inside):
        plane = explanation.plane(explanation.input, channel)
        for place in product(*map(range, plane.shape)):
            one = torch.zeros_like(plane)
            one[place] = plane[place]
            total = total + explanation.stamped(one, explanation.kernel(channel))
    exactly(explanation.uncropped(total), layout.channels_first(explanation.output)[0, 0].reshape(explanation.output_size))
    assert torch.equal(
        explanation.uncropped(explanation.stamped(torch.ones_like(plane), torch.ones_like(explanation.kernel(0)))).long(),
        explanation.hits.reshape(explanation.output_size),
    )


@pytest.mark.slow
@law
@given(calls(most=2))
def test_the_matrix_is_the_convolutions_and_its_transpose_makes_the_result(call):
    explanation, layout, forward = explained(call, 1, 1)
    columns = []
    for number in range(explanation.output_size[0] * explanation.output_size[1]):
        picture = torch.zeros(explanation.output_size[0] * explanation.output_size[1], dtype=torch.float64)
        picture[number] = 1
        result = forward(layout.back(picture.reshape(1, 1, *layout.size(explanation.output.shape))))
        columns.append(layout.channels_first(result).flatten())
    exactly(explanation.matrix, torch.stack(columns, 1))
    exactly(
        explanation.matrix.T @ layout.channels_first(explanation.input).flatten(),
        layout.channels_first(explanation.output).flatten(),
    )


@pytest.mark.slow
@law
@given(calls(most=2))
def test_the_convolution_beside_it_is_the_operations(call):
    explanation, layout, forward = explained(call, 1, 1)
    from unconv.explain.views.forward import forward_output

    exactly(forward_output(explanation).flatten(), layout.channels_first(forward(explanation.output)).flatten())


CASES = {
    "classic": classic,
    "dilated": lambda: classic(output_shape=(1, 4, 3, 1), dilations=2),
    "larger": lambda: classic(output_shape=(1, 6, 5, 1), padding="VALID"),
    "cropped": lambda: classic(output_shape=(1, 1, 2, 1), padding=[(2, 2), (2, 1)]),
    "first channels": lambda: ops.explain_conv2d_transpose(
        counting(2, 2, 2, 3).movedim(-1, 1), counting(2, 3, 2, 3), (2, 2, 4, 4), 2, "SAME", "NCHW"
    ).select(1, 2, 1),
    "one axis": lambda: explain.explain_conv1d_transpose(counting(1, 3, 2), counting(3, 1, 2), (1, 6, 1), 2),
    "half": lambda: ops.explain_conv2d_transpose(counting(1, 2, 2, 1).half(), counting(3, 3, 1, 1).half(), (1, 4, 4, 1), 2),
}


@pytest.mark.parametrize("view", VIEW_WORDS)
@pytest.mark.parametrize("name", CASES)
def test_every_view_has_a_frame_for_each_place_that_ends_at_its_mark(name, view):
    explanation = CASES[name]().as_view(view)
    story = explanation.story()
    rows, columns = explanation.grid
    assert len(story.frames) == rows * columns
    panels = [*story.panels, *story.frames[0].cards]
    for number, frame in enumerate(story.frames):
        panel, row, column, *size = frame.marks[-1]
        first = panels[panel].first
        assert [row, column, *size] == [*divmod(number, columns), 1, 1]
        assert first in ((0, 0), (None, 0))  # the numbers beside the grid name the place
        assert len(frame.cards) == len(frame.signs) == len(panels) - len(story.panels)
        for panel, row, column, high, wide in frame.marks:
            size = panels[panel].size
            assert 0 <= row <= row + high <= size[0] and 0 <= column <= column + wide <= size[1]
    assert explanation.text().startswith(story.title)


@pytest.mark.parametrize("name", CASES)
def test_the_last_stamp_completes_the_output(name):
    explanation = CASES[name]().as_view("scatter")
    last = explanation.story().frames[-1]
    so_far = next(card for card in last.cards if card.title == "Output so far")
    above, before = (pad[0] for pad in explanation.pads)
    rows, columns = explanation.output_size
    shown = numbers(so_far)[above : above + rows, before : before + columns]
    alone = explanation.select(*explanation.shown).as_view("channels").story()
    part = next(panel for panel in alone.panels if panel.title == f"From channel {explanation.shown[1]}")
    assert torch.equal(shown, numbers(part))


def test_stamps_are_told_one_by_one():
    story = classic(view="scatter").story()
    said = [frame.caption for frame in story.frames]
    assert said[0] == "Input at row 0, column 0: 1 times the kernel is added to the output."
    assert "It overlaps earlier stamps in 3 of 9 cells, where values add up. It falls outside in 5 of 9" in said[3]
    assert said[3].endswith("The last stamp: this is the result.")
    assert [card.title for card in story.frames[0].cards][3:] == ["Output so far", "Stamps that reach it"]
    assert torch.equal(numbers(story.frames[2].cards[2]), 3 * counting(3, 3))
    kinds = story.frames[3].cards[3].kinds
    assert kinds[2][2] == "overlap" and kinds[0][0] == "output" and kinds[4][4] == "cropped"
    assert story.frames[0].cards[3].kinds[3][3] == "nothing"


def test_equal_entries_of_the_kernel_have_one_colour_in_both_matrices():
    kernel, matrix, transposed, *_ = classic(view="matrix").story().panels
    kinds = {
        word: kind
        for row, kinds_of_row in zip(kernel.cells, kernel.kinds, strict=True)
        for word, kind in zip(row, kinds_of_row, strict=True)
    }
    assert len(set(kinds.values())) == 9
    for panel in (matrix, transposed):
        for row, kinds_of_row in zip(panel.cells, panel.kinds, strict=True):
            assert all(kind == (kinds[word] if word != "0" else "zero") for word, kind in zip(row, kinds_of_row, strict=True))
    assert torch.equal(numbers(matrix).T, numbers(transposed))


def test_a_frame_of_the_matrices_marks_one_row_and_the_same_column():
    frame = classic(view="matrix").story().frames[10]
    assert {(1, 0, 10, 4, 1), (2, 10, 0, 1, 4), (4, 10, 0, 1, 1), (5, 2, 2, 1, 1)} <= set(frame.marks)
    said = frame.caption.replace("\u00a0", " ")
    assert "row 10 of the transposed matrix, which is column 10 of the convolution's" in said
    assert "9 · 1 + 7 · 2 + 3 · 3 + 1 · 4 = 36." in said


def test_both_ways_mark_the_same_window():
    story = classic(view="forward").story()
    assert [panel.sign for panel in story.panels] == ["", "←", "", "", "→"]
    assert [mark[1:] for mark in story.frames[1].marks if mark[0] == 0] == [(0, 2, 3, 3)]
    assert [mark[1:] for mark in story.frames[1].marks if mark[0] == 3] == [(0, 2, 3, 3)]


def test_channels_add_up():
    explanation = ops.explain_conv2d_transpose(counting(1, 2, 2, 3), counting(3, 3, 1, 3), (1, 4, 4, 1), 2, view="channels")
    *parts, output = explanation.story().panels[6:]
    assert torch.equal(sum(map(numbers, parts)), numbers(output))
    assert [part.sign for part in (*parts, output)] == ["", "+", "+", "="]
    assert "160 + 238 + 324 = 722, a part from each channel." in explanation.text((2, 2))


def test_many_channels_stand_together_and_still_add_up():
    explanation = ops.explain_conv2d_transpose(counting(1, 1, 2, 9), torch.ones(1, 1, 1, 9), (1, 1, 2, 1), 1, view="channels")
    titles = [panel.title for panel in explanation.story().panels]
    assert titles[-2:] == ["From the 4 others", "Output, 2"] and "Input channel 4" in titles and "Input channel 5" not in titles
    assert "1 + 2 + 3 + 4 + 5 + 30 = 45" in explanation.text((0, 0))


def test_what_the_window_meets_is_marked_in_the_input_and_the_kernel():
    story = classic().story()
    assert {(0, 0, 0, 2, 2), (1, 0, 0, 1, 1), (1, 0, 2, 1, 1), (1, 2, 0, 1, 1), (1, 2, 2, 1, 1)} <= set(story.frames[10].marks)
    assert [mark for mark in story.frames[5].marks if mark[0] < 2] == [(0, 0, 0, 1, 1), (1, 1, 1, 1, 1)]


def test_a_view_that_showed_other_numbers_would_not_be_drawn():
    wrong = replace(classic(), output=classic().output + 1)
    with pytest.raises(AssertionError, match="the view 'channels' shows"):
        wrong.as_view("channels").story()


def test_along_one_axis_places_are_numbers():
    explanation = explain.explain_exercise("digits")
    assert explanation.output.flatten().tolist() == [1, 10, 102, 20, 203, 30]
    assert "Output at sample 2: 1 · 100 + 2 · 1 = 102." in explanation.text(2)
    assert explanation.text(2) == explanation.text((0, 2))
    assert "Samples are counted from 0." in explanation.text()
    assert explanation.hits.tolist() == [1, 1, 2, 1, 2, 1]
    assert explanation.forward_padding == ((0, 1),) and explanation.legal_output_sizes == (range(5, 7),)
    with pytest.raises(NoSuchUnit, match="at is 6, but rows are 0 to 0 and columns 0 to 5"):
        explanation.text(6)


def test_stamps_along_one_axis_stand_below_each_other():
    frame = explain.explain_exercise("digits", view="scatter").story().frames[1]
    stamps = next(card for card in frame.cards if card.title == "The stamps")
    assert stamps.cells == [["1", "10", "100", "", "", "", ""], ["", "", "2", "20", "200", "", ""], [""] * 7]


def test_the_exercises_give_what_the_tutorial_prints():
    ones = explain.explain_exercise("ones")
    assert ones.output[0, :, :, 0].tolist() == [[-2, 0, -2, 0], [2, 4, 2, 4]] * 2
    picture = torch.ones(1, 4, 4, 1)
    assert torch.equal(ops.conv2d(picture, ones.filters, 2, "VALID"), ones.input)
    unpool = explain.explain_exercise("unpool")
    assert unpool.argmax[0].tolist() == [[[8, 9], [12, 13]], [[24, 25], [28, 29]]]
    assert unpool.output[0, :, :, 1].tolist() == [[0] * 4, [5, 0, 5, 0], [0] * 4, [7, 0, 7, 0]]
    assert explain.explain_exercise("odd").output.shape == (1, 5, 5, 1)
    assert all(explain.explain_exercise(name, language="zh").text() for name in EXERCISES)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: classic(view="stamps"), DtypeError, "view is 'stamps', but one of 'steps', 'scatter'"),
        (lambda: classic(language="de"), DtypeError, "language is 'de', but 'en' or 'zh'"),
        (lambda: classic().as_view("all"), DtypeError, "as_view: view is 'all'"),
        (lambda: classic().in_language("fr"), DtypeError, "in_language: language is 'fr'"),
        (lambda: explain.explain_exercise("one"), NoSuchUnit, "no exercise 'one'. Pass one of ones"),
        (
            lambda: ops.explain_conv2d_transpose(
                torch.ones(1, 30, 30, 1), torch.ones(2, 2, 1, 1), (1, 60, 60, 1), 2, view="matrix"
            ).text(),
            ShapeError,
            "the matrix is 900 × 3600, more than 200000 entries",
        ),
    ],
)
def test_what_is_not_there_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
