"""Windows against the plain arithmetic of whole maps."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unconv.reverse.window import Reach, Window, join

law = settings(deadline=None, max_examples=60, derandomize=True)
MARGIN = 24  # no drawn window reaches further from its map


@st.composite
def maps(draw) -> tuple[int, ...]:
    """(1, C, samples..) of a map along one to three axes."""
    return (1, draw(st.integers(1, 2)), *draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))


@st.composite
def windows(draw, shape: tuple[int, ...], units: int = 2, together: bool | None = None) -> Window:
    """Windows on, across and off a map of `shape`; of whole numbers, so that sums are exact."""
    axes = len(shape) - 2
    lengths = draw(st.lists(st.integers(1, 5), min_size=axes, max_size=axes))
    places = st.lists(st.integers(-7, 8), min_size=axes, max_size=axes)
    if draw(st.booleans()) if together is None else together:
        corner = [draw(places)] * units
    else:
        corner = [draw(places) for _ in range(units)]
    return Window(numbers(draw(st.integers(0, 99)), units, shape[1], *lengths), torch.tensor(corner))


def numbers(seed: int, *shape: int) -> Tensor:
    """Whole numbers, none of them zero."""
    values = torch.randint(1, 9, shape, generator=torch.Generator().manual_seed(seed))
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed + 100))
    return (values * (2 * signs - 1)).double()


def dense(window: Window, shape: tuple[int, ...], margin: int = MARGIN) -> Tensor:
    """The signal written sample by sample on a map with `margin` more on each side."""
    canvas = torch.zeros(len(window.values), shape[1], *(n + 2 * margin for n in shape[2:]), dtype=torch.float64)
    for unit, first in enumerate(window.corner.tolist()):
        for sample in product(*map(range, window.lengths)):
            place = tuple(margin + f + s for f, s in zip(first, sample, strict=True))
            canvas[(unit, slice(None), *place)] = window.values[(unit, slice(None), *sample)]
    return canvas


def on_map(canvas: Tensor, shape: tuple[int, ...]) -> Tensor:
    return canvas[(..., *(slice(MARGIN, MARGIN + n) for n in shape[2:]))]


def in_frame(canvas: Tensor, corner: Tensor, lengths: tuple[int, ...]) -> Tensor:
    rows = zip(canvas, (corner + MARGIN).tolist(), strict=True)
    cuts = [row[(..., *(slice(f, f + n) for f, n in zip(first, lengths, strict=True)))] for row, first in rows]
    return torch.stack(cuts)


def copied(window: Window) -> Window:
    return Window(window.values.clone(), window.corner.clone())


@pytest.mark.slow
@law
@given(st.data())
def test_the_whole_map_is_the_signal_written_sample_by_sample(data):
    shape = data.draw(maps())
    window = data.draw(windows(shape))
    full = window.full_map(shape)
    assert full.corner is None and full.full_map(shape) is full
    assert torch.equal(full.values, on_map(dense(window, shape), shape))


def test_the_old_name_of_full_map_works_and_warns():
    window = Window(torch.ones(1, 1, 2), torch.tensor([[1]]))
    with pytest.warns(DeprecationWarning, match="Window: whole is now called full_map"):
        assert torch.equal(window.whole((1, 1, 4)).values, window.full_map((1, 1, 4)).values)


@pytest.mark.slow
@law
@given(st.data())
def test_a_larger_frame_and_back_is_the_identity(data):
    window = data.draw(windows(data.draw(maps())))
    axes = window.corner.shape[1]
    before, after = (torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=axes, max_size=axes))) for _ in range(2))
    lengths = (torch.tensor(window.lengths) + before + after).tolist()
    larger = window.framed(window.corner - before, lengths)
    assert larger.lengths == tuple(lengths)
    assert larger.values.abs().sum() == window.values.abs().sum()
    assert torch.equal(larger.framed(window.corner, window.lengths).values, window.values)


@pytest.mark.slow
@law
@given(st.data())
def test_any_frame_holds_what_stands_there_and_zero_elsewhere(data):
    shape = data.draw(maps())
    window, frame = data.draw(windows(shape)), data.draw(windows(shape))
    framed = window.framed(frame.corner, frame.lengths)
    assert torch.equal(framed.corner, frame.corner)
    assert torch.equal(framed.values, in_frame(dense(window, shape), frame.corner, frame.lengths))


@pytest.mark.slow
@law
@given(st.data())
def test_a_whole_map_in_a_frame_holds_what_stands_there_and_zero_elsewhere(data):
    shape = data.draw(maps())
    frame, values = data.draw(windows(shape)), numbers(5, 2, *shape[1:])
    right = dense(Window(values, torch.zeros(2, len(shape) - 2, dtype=torch.int64)), shape)
    assert torch.equal(Window(values).framed(frame.corner, frame.lengths).values, in_frame(right, frame.corner, frame.lengths))


@pytest.mark.slow
@law
@given(st.data())
def test_a_window_made_whole_and_cut_out_again_has_lost_what_was_outside(data):
    shape = data.draw(maps())
    window = data.draw(windows(shape))
    inside = in_frame(dense(Window(torch.ones(2, *shape[1:]), window.corner * 0), shape), window.corner, window.lengths)
    again = window.full_map(shape).framed(window.corner, window.lengths)
    assert torch.equal(again.values, window.values * inside)


@pytest.mark.slow
@law
@given(st.data())
def test_inside_keeps_what_is_on_the_map_and_nothing_else(data):
    shape = data.draw(maps())
    window = data.draw(windows(shape))
    right = window.full_map(shape).values
    inside = copied(window).inside(shape)
    assert torch.equal(inside.full_map(shape).values, right)
    assert inside.values.abs().sum() == right.abs().sum()


@pytest.mark.slow
@law
@given(st.data())
def test_inside_is_the_whole_map_or_smaller(data):
    shape = data.draw(maps())
    window = data.draw(windows(shape))
    inside = copied(window).inside(shape)
    assert inside.values[0, 0].numel() <= torch.Size(shape[2:]).numel()
    assert (inside.corner is None) == (inside.values.shape[2:] == shape[2:])
    assert inside.inside(shape) is inside or inside.corner is not None


@pytest.mark.slow
@law
@given(st.data())
def test_what_no_unit_has_on_the_map_is_cut_off(data):
    shape = data.draw(maps())
    window = data.draw(windows(shape))
    inside = copied(window).inside(shape)
    for axis, (n, size) in enumerate(zip(window.lengths, shape[2:], strict=True)):
        before = [min(max(-first, 0), n) for first in window.corner[:, axis].tolist()]
        after = [min(max(first + n - size, 0), n) for first in window.corner[:, axis].tolist()]
        needed = max(n - min(before) - min(after), 1)
        assert inside.values.shape[2 + axis] in (needed, size if inside.corner is None else needed)


@pytest.mark.slow
@law
@given(st.data(), st.sampled_from(["full", "one channel", "per channel", "number", "one row", "batch of one number"]))
def test_a_factor_meets_the_samples_it_stands_over(data, kind):
    shape = data.draw(maps())
    window = copied(data.draw(windows(shape)))
    ones = [1] * (len(shape) - 2)
    sizes = {
        "full": shape,
        "one channel": (1, 1, *shape[2:]),
        "per channel": (1, shape[1], *ones),
        "number": (),
        "one row": (1, shape[1], shape[2], *ones[1:]),
        "batch of one number": (1, 1, *ones),
    }
    factor = numbers(7, *sizes[kind])
    right = window.full_map(shape).values * factor
    product = window.times(factor)
    assert product.values.shape == window.values.shape
    assert torch.equal(product.full_map(shape).values, right)


@pytest.mark.slow
@law
@given(st.data())
def test_what_is_cut_out_of_a_recorded_map_is_what_stands_there_on_the_map(data):
    shape = data.draw(maps())
    window, recorded = data.draw(windows(shape)), torch.arange(1, 1 + torch.Size(shape).numel()).view(shape)
    pieces = window.cut(recorded).expand_as(window.values)
    origin = torch.zeros_like(window.corner)
    right = in_frame(dense(Window(recorded.expand(2, *shape[1:]).double(), origin), shape), window.corner, window.lengths)
    assert torch.equal(pieces[right > 0], right[right > 0].long())


@pytest.mark.slow
@law
@given(st.data())
def test_joining_commutes_and_is_the_sum_of_the_whole_maps(data):
    shape = data.draw(maps())
    a, b = data.draw(windows(shape)), data.draw(windows(shape))
    right = on_map(dense(a, shape) + dense(b, shape), shape)
    assert torch.equal(join(a, b, shape).full_map(shape).values, right)
    assert torch.equal(join(b, a, shape).full_map(shape).values, right)


@pytest.mark.slow
@law
@given(st.data())
def test_windows_that_move_together_are_joined_as_a_window(data):
    shape = (1, 2, 40, 40)
    a = data.draw(windows(shape))
    shift = torch.tensor(data.draw(st.lists(st.integers(-5, 5), min_size=2, max_size=2)))
    b = Window(numbers(3, 2, 2, 3, 4), a.corner + shift)
    joined = join(a, b, shape)
    assert joined.corner is not None
    assert torch.equal(joined.full_map(shape).values, a.full_map(shape).values + b.full_map(shape).values)
    assert joined.values.abs().sum() == joined.full_map(shape).values.abs().sum()


@pytest.mark.slow
@law
@given(st.data())
def test_a_whole_map_joins_a_window(data):
    shape = data.draw(maps())
    window, values = data.draw(windows(shape)), numbers(4, 2, *shape[1:])
    right = values + window.full_map(shape).values
    assert torch.equal(join(Window(values), window, shape).values, right)
    assert torch.equal(join(window, Window(values), shape).values, right)
    assert torch.equal(join(Window(values), Window(values), shape).values, 2 * values)


@pytest.mark.slow
@law
@given(st.data())
def test_joining_is_associative_and_nothing_is_its_zero(data):
    shape = data.draw(maps())
    a, b, c = (data.draw(windows(shape)) for _ in range(3))
    left, right = join(join(a, b, shape), c, shape), join(a, join(b, c, shape), shape)
    assert torch.equal(left.full_map(shape).values, right.full_map(shape).values)
    assert join(None, a, shape) is a


@pytest.mark.slow
@law
@given(st.data())
def test_only_inside_changes_a_window_in_place(data):
    shape = data.draw(maps())
    a, b = data.draw(windows(shape)), data.draw(windows(shape))
    before = copied(a), copied(b)
    join(a, b, shape)
    a.framed(b.corner, b.lengths).values.zero_()
    a.times(numbers(1, *shape))
    for window, copy in zip((a, b), before, strict=True):
        assert torch.equal(window.values, copy.values) and torch.equal(window.corner, copy.corner)


@pytest.mark.parametrize("corner", [(-3, 0), (0, -3), (5, 0), (0, 6), (-9, -9), (9, 9), (5, -3), (-4, 2)])
def test_a_window_wholly_off_the_map_holds_nothing(corner):
    shape = (1, 2, 5, 6)
    window = Window(torch.ones(1, 2, 3, 3), torch.tensor([corner]))
    assert not window.full_map(shape).values.any()
    assert not copied(window).inside(shape).values.any()
    assert not join(copied(window), copied(window), shape).values.any()
    assert not window.framed(torch.tensor([[0, 0]]), (5, 6)).values.any()


def test_one_unit_off_the_map_takes_nothing_from_another_on_it():
    window = Window(numbers(0, 2, 1, 3, 3), torch.tensor([[-3, 0], [1, 2]]))
    inside = copied(window).inside((1, 1, 5, 6))
    assert not inside.values[0].any()
    assert torch.equal(inside.values[1], window.values[1])


@law
@given(st.data())
def test_a_window_below_covers_just_what_its_units_see(data):
    axes = data.draw(st.integers(1, 3))
    drawn = [data.draw(st.lists(st.integers(low, 4), min_size=axes, max_size=axes)) for low in (1, 0, 1)]
    reach = Reach(*map(tuple, drawn))
    corner, lengths = torch.tensor([[2] * axes, [-1] * axes]), [3] * axes
    first, sizes = reach.corner(corner), reach.lengths(lengths)
    for axis, (stride, padding, extent) in enumerate(zip(*drawn, strict=True)):
        for start, low in zip(corner[:, axis].tolist(), first[:, axis].tolist(), strict=True):
            seen = [y * stride - padding + k for y in range(start, start + 3) for k in range(extent)]
            assert (min(seen), max(seen) + 1) == (low, low + sizes[axis])
