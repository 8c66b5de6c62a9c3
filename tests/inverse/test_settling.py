"""A restoration with a wrong noise is repeated with a better one; the solver is replaced by a stub."""

from __future__ import annotations

import pytest
import torch

from unconv.inverse.fields.image.settling import Estimated, another, settled
from unconv.inverse.fields.image.tiles import middle, parts

OBSERVED = torch.tensor([-50.0, 50.0]).repeat(16, 8)  # a contrast of 50


def runs(moved=lambda noise: noise, taken=lambda noise: 1.0, growth=lambda noise: 1.0):
    """Return a stub of a restoration whose distance, removed part and slopes depend on the noise as given."""
    asked = []

    def restore(noise, growth_):
        asked.append(noise)
        growth_._started, growth_.slopes, growth_.removed = 1.0, growth(noise), taken(noise) ** 2
        return OBSERVED + moved(noise)

    return restore, asked


def corrected(restore, noise, white=False, observed=OBSERVED):
    return settled(restore, noise, 1, Estimated(observed, white))


def test_a_result_that_is_right_is_compared_with_one_of_more_noise_and_stays():
    restore, asked = runs(taken=lambda noise: noise**-0.1)
    restored, used = corrected(restore, 4.0)
    assert used == 4 and float(restored[0, 0]) == -46 and asked == [4, 6]


def test_noise_that_goes_as_more_is_assumed_is_taken_away():
    restore, asked = runs(lambda noise: 8.0, lambda noise: max(6 / noise, 1.0))
    assert corrected(restore, 3.0)[1] == pytest.approx(6.75) and asked == pytest.approx([3, 4.5, 6.75, 10.125])


def test_white_noise_is_believed_more():
    restore, _ = runs(lambda noise: 8.0, lambda noise: noise**-0.45 if noise < 5 else 0.48)  # by 1.5: a fall of 1.2
    assert corrected(restore, 3.0)[1] == pytest.approx(4.5) and corrected(restore, 3.0, white=True)[1] == 3


def test_noise_that_is_much_of_the_contrast_is_not_raised():
    restore, asked = runs(taken=lambda noise: 1 / noise)
    assert corrected(restore, 20.0)[1] == 20 and asked == [20]


def test_what_moves_less_than_its_noise_is_made_again_with_less():
    restore, asked = runs(lambda noise: 3.0, lambda noise: 1.9 - 0.04 * noise)
    restored, used = corrected(restore, 10.0)
    assert used == pytest.approx(6) and asked == pytest.approx([10, 6]) and float(restored[0, 0]) == -47


@pytest.mark.parametrize("taken", [lambda noise: 1.0, lambda noise: 1 / noise], ids=["nothing", "noise"])
def test_less_noise_that_brings_no_detail_back_is_not_taken(taken):
    restore, asked = runs(lambda noise: 3.0, taken)
    assert corrected(restore, 10.0)[1] == 10 and asked == pytest.approx([10, 6])


def test_missing_samples_do_not_count():
    observed = OBSERVED.clone()
    observed[:8] = torch.nan
    restore, asked = runs()
    assert corrected(restore, 4.0, observed=observed)[1] == 4 and asked == [4, 6]


def test_where_nothing_helps_the_first_result_stays():
    restore, asked = runs(lambda noise: 0.1 * noise)
    restored, used = corrected(restore, 10.0)
    assert used == 10 and float(restored[0, 0]) == -49 and len(asked) == 4


def test_a_part_tells_the_noise_and_the_whole_is_restored_once():
    trial, tried = runs(lambda noise: 8.0, lambda noise: max(4.5 / noise, 1.0))
    whole, asked = runs()
    used = settled(whole, 3.0, 1, Estimated(OBSERVED, False), trial)[1]
    assert used == pytest.approx(4.5) and asked == pytest.approx([4.5]) and len(tried) == 3


@pytest.mark.parametrize(("side", "cut"), [(150, None), (400, (112, 112))])
def test_the_middle_is_cut_out_of_what_is_much_larger(side, cut):
    part = middle(parts(torch.rand(side, side), (7, 7), "similar", float("inf"), "circular"))
    assert (None if part is None else tuple(part.picture.shape)) == cut


def test_a_noise_that_was_said_is_raised_only_where_the_result_is_ruined():
    restore, asked = runs(growth=lambda noise: 12.0 / noise if noise < 6 else 1.1)
    assert settled(restore, 3.0, 1)[1] == pytest.approx(6.75) and asked == pytest.approx([3, 4.5, 6.75])
    restore, asked = runs(lambda noise: 0.0, lambda noise: 1 / noise)
    assert settled(restore, 10.0, 1)[1] == 10 and asked == [10]


def test_the_notes_say_which_it_was():
    assert "rougher" in another(2.0, 3.0)[0] and "stayed closer" in another(3.0, 2.0)[0] and not another(2.0, 2.0)
