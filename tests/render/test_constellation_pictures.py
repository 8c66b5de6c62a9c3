"""Pictures of constellations, eyes and error rates: decoded, and what is drawn looked for where it belongs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cases.drawings import decoded, near, spine
from unconv.errors import DtypeError, ShapeError, UnconvError
from unconv.render.constellations import _traces, constellation_picture, error_rate_picture, eye_picture
from unconv.render.panels import ACCENT, BLUE, QUIET

pytest.importorskip("matplotlib", reason="draws the pictures")

QPSK = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j])


def middle(mask):
    return np.argwhere(mask).mean(0)


def rate(value, low, high):
    return SimpleNamespace(rate=value, low=low, high=high)


def test_the_real_part_runs_to_the_right_and_the_imaginary_part_up():
    corner = np.full(20, 1 + 1j)
    pixels = decoded(constellation_picture(corner, -corner))
    for side, sign in ((pixels[:, :830], 1), (pixels[:, 830:], -1)):
        left, right = spine(side, 1)
        low, high = spine(side, 0)[::-1]
        y, x = middle(near(side, BLUE, 90))
        assert (x - left) / (right - left) == pytest.approx(0.5 + sign * 0.5 / 1.08, abs=0.02)
        assert (y - low) / (high - low) == pytest.approx(0.5 + sign * 0.5 / 1.08, abs=0.02)


def test_points_stand_over_the_symbols_after_equalisation_only():
    pixels = decoded(constellation_picture(QPSK, QPSK, QPSK))
    assert not near(pixels[:, :830], ACCENT).any()
    rings = near(pixels[:, 830:], ACCENT)
    assert middle(rings) == pytest.approx(middle(near(pixels[:, 830:], BLUE, 90)), abs=3) and rings.sum() > 200


def test_real_symbols_are_drawn_over_their_number():
    drift = np.linspace(-1, 1, 400)
    pixels = decoded(constellation_picture(drift, np.sign(drift), [-1.0, 1.0]))
    rows, columns = np.nonzero(near(pixels[:, :830], BLUE, 90))
    assert np.corrcoef(rows, columns)[0, 1] < -0.99
    lines = near(pixels[:, 830:], ACCENT).sum(1)
    assert len(np.split(np.flatnonzero(lines > 400), np.flatnonzero(np.diff(np.flatnonzero(lines > 400)) > 5) + 1)) == 2


def test_broken_symbols_are_left_out_and_pictures_are_the_same_every_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    soft = QPSK[np.random.default_rng(0).integers(0, 4, (2, 2600))]
    broken = soft.copy()
    broken[0, :3] = np.nan, np.inf, 1j * np.nan
    decoded(constellation_picture(broken, np.full(5, np.nan)))
    first = constellation_picture(soft, torch.from_numpy(soft), QPSK, ("$x_", "50 %"))
    assert first == constellation_picture(soft, soft, torch.from_numpy(QPSK), ("$x_", "50 %"))


@pytest.mark.parametrize("n, rate", [(40, 4), (41, 1), (40, 1), (201, 3), (5 * 50, 50)])
def test_an_eye_goes_through_its_samples_and_follows_a_tone_between_them(n, rate):
    count = n // rate
    time = np.arange(count * rate) / rate
    tone = np.exp(2j * np.pi * time / count) + 0.3
    pieces = _traces(tone, rate)
    starts = np.round(np.angle(pieces[:, 0] - 0.3) / (2 * np.pi / count)) % count
    fine = starts[:, None] + np.arange(65) / 32
    assert np.abs(pieces - np.exp(2j * np.pi * fine / count) - 0.3).max() < 1e-9


def test_an_open_eye_is_empty_at_the_decision_and_a_closed_one_is_not():
    draw = np.random.default_rng(0)
    sent = draw.choice([-1.0, 1.0], 120)
    pixels = decoded(eye_picture(np.convolve(sent, [0.4, 0.8, 0.4], "same"), sent))
    for side, opened in ((pixels[:, :830], False), (pixels[:, 830:], True)):
        down, across = spine(side, 0), spine(side, 1)
        centre, at = (down[0] + down[1]) // 2, (across[0] + across[1]) // 2
        window = near(side[centre - 40 : centre + 40, at + 6 : at + 14], "#ffffff", 12)
        assert window.all() == opened


def test_complex_signals_have_an_eye_for_each_part():
    sent = QPSK[np.random.default_rng(0).integers(0, 4, 60)]
    lower = decoded(eye_picture(sent.real, sent, (1, 1)))[600:1000]
    assert near(lower[:, 900:1500], BLUE, 60).sum() > 4_000


def test_rates_stand_at_their_decibels_with_intervals_on_a_logarithmic_axis():
    rates = [rate(0.1, 0.09, 0.11), rate(1e-2, 1e-3, 3e-2), rate(1.01e-4, 1.01e-4, 1.01e-4)]
    pixels = decoded(error_rate_picture([0, 5, 10], {"linear": rates}))
    marks = near(pixels[: 1120 - 250], ACCENT, 20)
    down, across = spine(pixels, 0), spine(pixels, 1)
    x = round(across[0] + (across[1] - across[0]) * (0.04 * 10 + 5) / 10.8)
    bar = np.flatnonzero(marks[:, x - 4 : x + 5].any(1))
    decades = (down[1] - down[0]) / 4
    assert (bar.min() - down[0]) / decades == pytest.approx(-np.log10(3e-2), abs=0.04)
    assert (bar.max() - down[0]) / decades == pytest.approx(3, abs=0.04)


def test_no_errors_are_an_arrow_down_from_the_bound():
    counted, none = rate(0.1, 0.09, 0.11), rate(0.0, 0.0, 3e-3)
    with_arrow, without = (
        near(decoded(error_rate_picture([0, 10], {"linear": [counted, last]})), ACCENT, 20)
        for last in (none, rate(0.0, 0.0, np.nan))
    )
    assert with_arrow[:, 1400:].sum() > 100 and not without[:, 1400:].any()


def test_bounds_are_dashed_and_plain_numbers_have_no_intervals():
    snr, values = np.arange(5.0), 10.0 ** -np.arange(1, 6)
    both = decoded(error_rate_picture(snr, {"one": values, "two": torch.from_numpy(values / 2)}, values / 4))
    alone = decoded(error_rate_picture(snr, {"one": values, "two": values / 2}))
    assert near(both, QUIET, 20).sum() > near(alone, QUIET, 20).sum() + 800
    decoded(error_rate_picture([3.0], {"a": [0.0]}, {"matched filter": [0.0]}))


@pytest.mark.parametrize(
    "draw, error, words",
    [
        (lambda: constellation_picture([], QPSK), ShapeError, r"before is \(0,\), but"),
        (lambda: constellation_picture(QPSK, ["a"]), DtypeError, "after is .* numbers were needed"),
        (lambda: constellation_picture(QPSK, QPSK, QPSK, ("one",)), DtypeError, r"names is .* \(2 items, each a string\)"),
        (
            lambda: eye_picture(QPSK[:3], QPSK),
            ShapeError,
            r"before is \(3,\) at 1 sample per symbol, but one signal of at least 4",
        ),
        (lambda: eye_picture(QPSK, QPSK, (1, 2)), ShapeError, r"after is \(4,\) at 2 samples"),
        (lambda: eye_picture(QPSK * np.nan, QPSK), ShapeError, "without NaN"),
        (lambda: error_rate_picture([1, 0], {"a": [0.1, 0.1]}), ShapeError, "snr is from 1 to 0, but rising"),
        (lambda: error_rate_picture([], {"a": []}), ShapeError, "snr is empty"),
        (lambda: error_rate_picture([0, 1], {"a": [0.1]}), ShapeError, "a has 1 rate, but 2 were needed"),
        (lambda: error_rate_picture([0], {"a": [1.5]}), ShapeError, "a holds 1.5, but rates from 0 to 1"),
        (lambda: error_rate_picture([0], {"a": [0.5]}, [-0.1]), ShapeError, "bound holds -0.1"),
        (lambda: error_rate_picture([0], [0.5]), DtypeError, "rates is .* a dict of 1 to 6 names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_drawn_is_refused_in_words(draw, error, words):
    with pytest.raises(error, match=words):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnconvError, match=r"eye_picture: matplotlib cannot be imported .* pip install"):
        eye_picture(QPSK, QPSK)
