"""Which units start the walk: every way to ask for them, and every way to ask wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unconv.errors import NoSuchUnit, ShapeError
from unconv.reverse.seed import choose

# Four channels of 2 x 3: the largest is 5 at (1, 0); a tie of 9 at (0, 1) and (1, 2); dead; all negative.
MAPS = torch.tensor(
    [
        [[1.0, 2.0, 3.0], [5.0, 4.0, 0.0]],
        [[0.0, 9.0, 1.0], [2.0, 3.0, 9.0]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[-3.0, -2.0, -1.0], [-4.0, -5.0, -6.0]],
    ]
)
VECTOR = torch.tensor([3.0, 7.0, 7.0, -1.0])


def test_the_strongest_unit_of_each_channel_is_its_maximum():
    seeds = choose(MAPS, "all", "strongest")
    assert seeds.units == [(0, 1, 0), (1, 0, 1), (2, 0, 0), (3, 0, 2)]
    assert seeds.values.tolist() == [5, 9, 0, -1]


def test_of_equal_units_the_first_in_reading_order_is_taken():
    torch.manual_seed(0)
    tied = torch.zeros(1, 40, 30)
    places = torch.randperm(1200)[:50]
    tied.view(-1)[places] = 2.5
    assert choose(tied, 0, "strongest").units == [(0, *divmod(int(places.min()), 30))]


def test_channels_come_in_the_order_asked_for():
    assert [unit[0] for unit in choose(MAPS, [3, 0, 3], "strongest").units] == [3, 0, 3]
    assert [unit[0] for unit in choose(MAPS, range(1, 3), "strongest").units] == [1, 2]
    assert choose(MAPS, 2, "map").units == [(2, None, None)]


def test_no_channels_are_no_seeds():
    seeds = choose(MAPS, [], "strongest")
    assert (seeds.units, len(seeds.values), seeds.spans()) == ([], 0, [])


@pytest.mark.parametrize("count, expected", [(1, [1]), (2, [1, 0]), (4, [1, 0, 2, 3]), (99, [1, 0, 2, 3])])
def test_top_takes_the_most_active_strongest_first_and_no_more_than_there_are(count, expected):
    assert [unit[0] for unit in choose(MAPS, f"top:{count}", "strongest").units] == expected


def test_of_equally_active_channels_the_first_comes_first():
    assert [unit[0] for unit in choose(torch.zeros(300, 2, 2), "top:5", "strongest").units] == [0, 1, 2, 3, 4]


def test_top_ranks_by_the_unit_that_was_asked_for():
    seeds = choose(MAPS, "top:2", (0, 2))
    assert seeds.units == [(0, 0, 2), (1, 0, 2)]
    assert seeds.values.tolist() == [3, 1]


def test_a_position_is_taken_in_every_channel():
    seeds = choose(MAPS, "all", (1, 1))
    assert seeds.units == [(0, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert seeds.values.tolist() == [4, 3, 0, -5]
    assert seeds.spans() == [([1, 1], [1, 1])] * 4


def test_a_map_starts_with_all_of_itself():
    seeds = choose(MAPS, [1], "map")
    assert (seeds.units, seeds.values.tolist()) == ([(1, None, None)], [9])
    assert seeds.spans() == [([0, 0], [1, 2])]
    assert seeds.window(torch.float64).values.shape == (1, 1, 2, 3)
    start = seeds.window(torch.float64).dense(4).values
    assert torch.equal(start[0, 1], MAPS[1].double())
    assert start[0, [0, 2, 3]].abs().sum() == 0


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_a_mask_starts_with_what_lies_in_it(kind):
    mask = kind([[True, False, True], [False, False, False]])
    seeds = choose(MAPS, [0, 3], mask)
    assert (seeds.units, seeds.values.tolist()) == ([(0, None, None), (3, None, None)], [3, -1])
    assert seeds.spans() == [([0, 0], [0, 2])] * 2
    assert seeds.window(torch.float32).dense(4).values[0, 0].tolist() == [[1, 0, 3], [0, 0, 0]]


def test_an_empty_mask_starts_with_nothing():
    seeds = choose(MAPS, "all", torch.zeros(2, 3, dtype=torch.bool))
    assert seeds.values.tolist() == [0, 0, 0, 0]
    assert seeds.window(torch.float32).values.abs().sum() == 0
    assert seeds.spans() == [([0, 0], [1, 2])] * 4


def test_a_dead_channel_starts_with_nothing_at_the_first_unit():
    seeds = choose(MAPS, 2, "strongest")
    assert (seeds.units, seeds.values.tolist()) == ([(2, 0, 0)], [0])
    assert seeds.window(torch.float32).values.abs().sum() == 0


def test_one_unit_starts_as_a_window_of_one_sample_with_its_activation():
    seeds = choose(MAPS, "all", "strongest")
    window = seeds.window(torch.float64)
    assert (window.values.shape, window.values.dtype) == ((4, 1, 1, 1), torch.float64)
    assert window.corner.tolist() == [[1, 0], [0, 1], [0, 0], [0, 2]]
    assert window.channel.tolist() == [0, 1, 2, 3]
    assert window.dense(4).values.flatten(1).tolist() == [[5, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]]


def test_the_activation_is_not_changed():
    before = MAPS.clone()
    choose(MAPS, "all", "map").window(torch.float32).values.fill_(7)
    choose(MAPS, "all", "strongest").window(torch.float32).values.fill_(7)
    assert torch.equal(MAPS, before)


@pytest.mark.parametrize("unit", ["strongest", (), "map"])
def test_a_vector_has_channels_and_no_positions(unit):
    seeds = choose(VECTOR, "top:3", unit)
    assert (seeds.units, seeds.values.tolist()) == ([(1,), (2,), (0,)], [7, 7, 3])
    assert seeds.window(torch.float32).dense(4).values[0].tolist() == [0, 7, 0, 0]


def test_a_line_has_positions_of_one_number():
    assert choose(MAPS[:, 0], [0, 1], "strongest").units == [(0, 2), (1, 1)]
    assert choose(MAPS[:, 0], 0, (1,)).values.tolist() == [2]


@pytest.mark.parametrize("channel", [-1, 4, 1000])
def test_a_channel_that_is_not_there_is_refused(channel):
    with pytest.raises(NoSuchUnit, match=f"there is no channel {channel}; the place has 4, from 0 to 3"):
        choose(MAPS, [0, channel], "strongest")


@pytest.mark.parametrize("unit", [(2, 0), (0, 3), (-1, 0), (0,), (0, 0, 0), ()])
def test_a_position_outside_the_map_is_refused(unit):
    with pytest.raises(NoSuchUnit, match=r"is outside the map; positions run from \(0, 0\) to below \(2, 3\)"):
        choose(MAPS, "all", unit)


@pytest.mark.parametrize("channels", ["top:0", "top:-1", "top:", "top:2.5", "top: 3", "3", "", "All"])
def test_words_that_choose_no_channels_are_refused(channels):
    with pytest.raises(ShapeError, match=f'\'{channels}\' is not a choice\\. Pass "all", "together", "top:9"'):
        choose(MAPS, channels, "strongest")


@pytest.mark.parametrize("unit", ["weakest", "", "Map", "0,1"])
def test_words_that_name_no_unit_are_refused(unit):
    with pytest.raises(ShapeError, match=f'\'{unit}\' is not a unit\\. Pass "strongest", "map"'):
        choose(MAPS, "all", unit)


@pytest.mark.parametrize(
    "mask", [torch.ones(3, 2, dtype=torch.bool), torch.ones(4, 2, 3, dtype=torch.bool), torch.tensor(True)]
)
def test_a_mask_of_another_size_is_refused(mask):
    with pytest.raises(ShapeError, match=r"the mask is .* of torch.bool, but the place has maps of \(2, 3\)"):
        choose(MAPS, "all", mask)


@pytest.mark.parametrize("mask", [torch.ones(2, 3), np.ones((2, 3), np.uint8), 1])
def test_a_mask_of_numbers_is_refused(mask):
    with pytest.raises(ShapeError, match="Pass a boolean mask of that size"):
        choose(MAPS, "all", mask)


@pytest.mark.parametrize("channel", [np.int64(1), torch.tensor(1)])
def test_one_channel_may_be_anybodys_integer(channel):
    assert choose(MAPS, channel, "strongest").units == [(1, 0, 1)]


@pytest.mark.parametrize("channels", [[1.7], 1.7, [True, False, True, False], None])
def test_channels_that_are_no_integers_are_refused(channels):
    with pytest.raises((ShapeError, NoSuchUnit), match="channels: "):
        choose(MAPS, channels, "strongest")


@pytest.mark.parametrize("unit", [(0.5, 1), [0, 1.5], None])
def test_a_unit_that_is_no_position_is_refused(unit):
    with pytest.raises((ShapeError, NoSuchUnit), match="unit: "):
        choose(MAPS, "all", unit)
