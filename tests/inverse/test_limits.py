"""What equalisers of a known channel can reach: Proakis' numbers, closed forms of simple channels, every difference tried."""

from __future__ import annotations

from itertools import product
from math import erfc, inf, sqrt

import numpy as np
import pytest
from numpy.testing import assert_allclose

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.channel import infinite_length, matched_filter_bound, minimum_distance, sequence_error_rate

A = [[0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07]]
B, C = [[0.407, 0.815, 0.407]], [[0.227, 0.46, 0.688, 0.46, 0.227]]


def level(snr):
    return sqrt(0.5 * 10 ** (-snr / 10))


@pytest.mark.parametrize(
    "taps, snr, linear, feedback",
    [(B, 8, 0.3148, 0.1424), (B, 10, 0.2770, 0.1029), (C, 8, 0.4813, 0.2219), (C, 10, 0.4387, 0.1731)],
)
def test_endless_equalisers_of_proakis_channels_have_their_errors(taps, snr, linear, feedback):
    result = infinite_length(taps / np.linalg.norm(taps), level(snr))
    assert_allclose([result.linear, result.feedback], [linear, feedback], atol=5e-5)


@pytest.mark.parametrize("a, noise", [(0.5, 0.3), (-0.9, 1.0), (0.4 + 0.7j, 0.2)])
def test_a_channel_of_one_echo_has_its_closed_forms(a, noise):
    """With r = |a|: S = 1 + r^2 + 2 r cos, whose means are elementary."""
    result, r = infinite_length([[1.0, a]], noise), abs(a)
    middle = 1 + r**2 + noise**2
    assert_allclose(result.linear, noise**2 / sqrt(middle**2 - 4 * r**2))
    assert_allclose(result.feedback, noise**2 * 2 / (middle + sqrt(middle**2 - 4 * r**2)))
    assert_allclose(result.zero_forcing, noise**2 / (1 - r**2))
    assert_allclose(result.zero_forcing_feedback, noise**2)


def test_a_null_makes_zero_forcing_infinite_and_feedback_keeps_it_finite():
    for taps in ([[1.0, 1.0]], [[1.0, -1.0]], [[1.0, -2 * np.cos(1.0), 1.0]]):
        result = infinite_length(taps, 0.3)
        assert result.zero_forcing == inf
        assert_allclose(result.zero_forcing_feedback, 0.09, rtol=1e-4)
        assert 0 < result.feedback < result.linear < 1


def test_sub_channels_add_up_each_by_its_noise():
    one = infinite_length([[1.0, 0.5]], 0.3)
    assert_allclose(infinite_length([[1.0, 0.5], [1.0, 0.5]], 0.3 * sqrt(2)).linear, one.linear)
    assert_allclose(infinite_length([[1.0, 0.5], [4.0, 2.0]], [0.3, 1e9]).feedback, one.feedback)


def test_the_matched_filter_bound_is_the_q_function():
    assert_allclose(matched_filter_bound(8.0), erfc(sqrt(10**0.8)) / 2, rtol=1e-12)
    assert_allclose(matched_filter_bound([6, 8, 10]), [2.39e-3, 1.91e-4, 3.87e-6], rtol=2e-3)


@pytest.mark.parametrize(
    "taps, loss",
    [
        *((A, 0.0), (B, 1.76), (C, 5.01)),
        *(([[0.5, 0.71, 0.5]], 2.32), ([[0.38, 0.6, 0.6, 0.38]], 4.18), ([[0.29, 0.5, 0.58, 0.5, 0.29]], 5.72)),
        ([[0.23, 0.42, 0.52, 0.52, 0.42, 0.23]], 7.03),
    ],
)
def test_the_most_likely_sequence_loses_what_proakis_says(taps, loss):
    assert_allclose(minimum_distance(taps).loss, loss, atol=6e-3)


@pytest.mark.parametrize("points", [(-1.0, 1.0), (-3.0, -1.0, 1.0, 3.0), (1, 1j, -1, -1j), (0.0, 1.0, 0.3 + 1j)])
def test_the_minimum_distance_is_the_least_of_every_difference(points):
    for seed in range(4):
        random = np.random.default_rng(seed)
        taps = random.standard_normal((2, 3)) + (1j * random.standard_normal((2, 3)) if seed % 2 else 0)
        steps = list(dict.fromkeys(np.round(a - b, 9) for a in points for b in points))
        least = inf
        for error in product(steps, repeat=4):
            if error[0]:
                responses = [np.convolve(row, np.array(error)) for row in taps]
                least = min(least, np.sum(np.abs(responses) ** 2))
        result = minimum_distance(taps, points)
        assert result.squared <= least + 1e-9
        assert_allclose(sum(np.sum(np.abs(np.convolve(row, np.array(result.error))) ** 2) for row in taps), result.squared)
        assert len(result.error) > 4 or result.squared == pytest.approx(least)


def test_zero_taps_in_front_and_a_unit_change_no_loss():
    assert_allclose(minimum_distance([[0, 0, 4.07, 8.15, 4.07, 0]]).loss, minimum_distance(B).loss)
    assert minimum_distance([[3.0]]).loss == 0 and minimum_distance([[3.0]]).error == (2.0,)


def test_at_high_ratios_the_error_rate_of_sequences_is_what_was_counted():
    """Counted with 2 million bits of channel B; the sum is near it and above the matched filter's bound."""
    assert_allclose(sequence_error_rate(B, 10), 3.9e-4, rtol=0.05)
    assert_allclose(sequence_error_rate([[2.0]], [4.0, 9.0]), matched_filter_bound([4.0, 9.0]))
    assert (sequence_error_rate(C, [10, 14]) > matched_filter_bound([10, 14])).all()


@pytest.mark.parametrize(
    "function, given, error, words",
    [
        (infinite_length, ([[0.0, 0.0]], 1.0), ShapeError, r"taps is \(1, 2\), all zeros, but"),
        (infinite_length, (B, 0.0), ShapeError, "noise is 0.0, but more than 0"),
        (infinite_length, (B, [0.1, 0.1]), ShapeError, "noise is .* each of 1 sub-channel"),
        (infinite_length, ([[np.inf]], 1.0), NonFinite, "taps has NaN or infinite"),
        (minimum_distance, (B, [1.0]), ShapeError, r"points is \(1,\), but \(M,\) with two"),
        (minimum_distance, (B, [1.0, 1.0]), ShapeError, "points has 2 symbols, some of them alike"),
        (matched_filter_bound, ("high",), DtypeError, "snr is 'high'"),
        (matched_filter_bound, (1j,), DtypeError, "snr is torch.complex128, but real numbers of dB"),
        (sequence_error_rate, ([[1j]], 3.0), ShapeError, "taps is complex, but real taps"),
    ],
)
def test_channels_without_limits_are_refused_in_words(function, given, error, words):
    with pytest.raises(error, match=f"^{function.__name__}: .*{words}"):
        function(*given)


def test_a_search_that_would_not_end_is_refused_in_words(monkeypatch):
    monkeypatch.setattr("unconv.inverse.fields.channel.limits._MAX_STATES", 50)
    with pytest.raises(ShapeError, match=r"^minimum_distance: the search visited more than 50 states"):
        minimum_distance(np.random.default_rng(0).standard_normal((1, 9)))
