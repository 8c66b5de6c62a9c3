"""Results that show that the noise is another are made again: with runs that answer as they are told to."""

from __future__ import annotations

import pytest
import torch

from unconv.inverse.fields.image.settling import another, settled

OBSERVED = torch.zeros(16, 16)


def runs(moved, growth):
    """A restoration: how far the result lies from what was observed, and how its slopes grew, by the noise assumed."""
    asked = []

    def restore(noise, slopes):
        asked.append(noise)
        slopes._begun, slopes.ended = 1.0, growth(noise)
        return OBSERVED + moved(noise)

    return restore, asked


def test_a_result_that_is_right_is_made_once():
    restore, asked = runs(lambda noise: noise, lambda noise: 1.2)
    assert settled(restore, 4.0, 1, OBSERVED)[1] == 4 and asked == [4]


def test_what_grows_rough_is_made_again_with_more_noise():
    restore, asked = runs(lambda noise: 8.0, lambda noise: 12.0 / noise if noise < 6 else 1.1)
    assert settled(restore, 3.0, 1, OBSERVED)[1] == pytest.approx(6.75) and asked == pytest.approx([3, 4.5, 6.75])


def test_what_moves_less_than_its_noise_is_made_again_with_less():
    restore, asked = runs(lambda noise: 3.0, lambda noise: 1.6 - 0.04 * noise)
    restored, used = settled(restore, 10.0, 1, OBSERVED)
    assert used == pytest.approx(6) and asked == pytest.approx([10, 6]) and float(restored[0, 0]) == 3


def test_less_noise_that_brings_no_detail_back_is_not_taken():
    restore, asked = runs(lambda noise: 3.0, lambda noise: 1.0)
    assert settled(restore, 10.0, 1, OBSERVED)[1] == 10 and asked == pytest.approx([10, 6])


def test_missing_samples_do_not_count():
    observed = OBSERVED.clone()
    observed[:8] = torch.nan
    restore, asked = runs(lambda noise: noise, lambda noise: 1.0)
    assert settled(restore, 4.0, 1, observed)[1] == 4 and asked == [4]


def test_where_nothing_helps_the_first_result_stays():
    restore, asked = runs(lambda noise: 0.1 * noise, lambda noise: 1.0)
    restored, used = settled(restore, 10.0, 1, OBSERVED)
    assert used == 10 and float(restored[0, 0]) == 1 and len(asked) == 4


def test_a_noise_that_was_said_is_not_taken_for_less():
    restore, asked = runs(lambda noise: 0.0, lambda noise: 1.0)
    assert settled(restore, 10.0, 1)[1] == 10 and asked == [10]


def test_the_notes_say_which_it_was():
    assert "rougher" in another(2.0, 3.0)[0] and "taken away" in another(3.0, 2.0)[0] and not another(2.0, 2.0)
