"""Pictures of traces: decoded, and what is drawn looked for where it belongs."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from cases.drawings import decoded, near, opened, spine
from unconv.errors import DtypeError, NonFinite, ShapeError, UnconvError
from unconv.render.panels import ACCENT, BLUE, INK, number_words
from unconv.render.rows import clock, rows
from unconv.render.traces import echoes_picture, receiver_picture, section_picture, spikes_picture, wiggle_picture

pytest.importorskip("matplotlib", reason="draws the pictures")

N = 120
TIMES = np.arange(N) / 100
ZEROS = np.zeros((4, N))


def impulse(at, height=1.0, count=4, n=N):
    made = np.zeros((count, n))
    made[:, at] = height
    return made


def share(place, ends):
    return (place - ends[0]) / (ends[1] - ends[0])


def test_a_section_shows_each_sample_at_its_time_and_its_sign_as_a_colour():
    pixels = decoded(section_picture(impulse(30), impulse(90, -1e-9), TIMES))
    down = spine(pixels, 0)
    left, right = pixels[:, 150:750], pixels[:, 900:1550]
    orange, blue = (near(side, colour).sum(1) > 500 for side, colour in ((left, "#7a2705"), (right, "#0d3a78")))
    for rows_of_colour, sample in ((orange, 30), (blue, 90)):
        drawn = np.flatnonzero(rows_of_colour)
        assert share(drawn.mean(), down) == pytest.approx((sample + 0.5) / N, abs=0.01)
        assert len(drawn) == pytest.approx((down[1] - down[0]) / N, abs=2)


def test_one_spike_among_thousands_of_samples_is_seen():
    after = impulse(15_007, count=1, n=20_000)
    pixels = decoded(section_picture(np.ones_like(after), after, np.arange(20_000) / 500))
    drawn = np.flatnonzero(near(pixels[:, 900:1550], "#7a2705").sum(1) > 500)
    assert share(drawn.mean(), spine(pixels, 0)) == pytest.approx(0.75, abs=0.01)


def test_of_many_traces_evenly_chosen_ones_are_shown_and_the_axis_says_so():
    at = clock("", TIMES, "s")
    many = np.arange(5000.0)[:, None] + np.zeros(N)
    shown = rows("", "before", many, at, 700, 900)
    assert np.array_equal(shown.values[:, 0], shown.numbers) and len(shown.numbers) == 700
    assert np.array_equal(shown.numbers * 700 // 5000, np.arange(700))
    assert shown.said("trace") == "trace (700 of 5,000 shown)"
    assert rows("", "before", many[:9], at, 700, 900).said("trace") == "trace"


def test_parts_of_a_long_trace_keep_their_strongest_sample():
    trace = np.random.default_rng(0).standard_normal((2, 1003))
    trace[0, 5] = np.nan
    at = clock("", np.arange(1003) / 10, "s")
    shown = rows("", "before", trace, at, 10, 100)
    starts = [i * 1003 // 100 for i in range(101)]
    parts = [trace[:, a:b] for a, b in pairwise(starts)]
    strongest = [[row[np.nanargmax(np.abs(row))] for row in part] for part in parts]
    assert np.array_equal(shown.values.T, strongest) and shown.at.shape == (100,)
    assert np.abs(shown.at - [at.at[a:b].mean() for a, b in pairwise(starts)]).max() < 0.1


def test_positive_lobes_of_wiggles_are_filled_to_the_right():
    slow = np.zeros((1, N))
    slow[0, 20:60], slow[0, 70:110] = np.hanning(40), -np.hanning(40)
    pixels = decoded(wiggle_picture(slow, slow, TIMES))
    down, dark = spine(pixels, 0), near(pixels[:, 150:780], INK)
    rows_at = [round(down[0] + sample / N * (down[1] - down[0])) for sample in (40, 90)]
    zero = np.flatnonzero(dark[round(down[0] + 10 / N * (down[1] - down[0]))]).mean()
    filled, empty = (np.flatnonzero(dark[row]) for row in rows_at)
    assert filled.min() == pytest.approx(zero, abs=4) and len(filled) > 150
    assert empty.max() < zero - 150 and len(empty) < 20


def test_spikes_stand_at_their_times_with_bars_where_there_are_deviations():
    spikes = np.zeros(N)
    spikes[30] = -2.0
    drawn = [decoded(spikes_picture(0 * spikes, spikes, d, 0 * spikes, TIMES)) for d in (None, 0.5 + 0 * spikes)]
    for pixels, longest in zip(drawn, (60, 0), strict=True):
        columns = np.flatnonzero(near(pixels, BLUE).sum(0) > 40)
        assert share(columns.mean(), spine(pixels, 1)) == pytest.approx(30.5 / N, abs=0.005)
        dark = near(pixels[600:1040, columns], INK, 60).sum(0).max()
        assert dark < 20 if longest else dark > 60


def test_echoes_are_marked_at_their_delays_in_the_colour_of_their_sign():
    scans = np.random.default_rng(0).standard_normal((5, N)) * 1e-3
    delays = np.full((5, 3), np.nan)
    delays[:, 0], delays[:, 1] = 30e-6, 90e-6
    pixels = decoded(echoes_picture(scans, np.arange(N) * 1e-6, delays, np.array([[2.0, -1.0, np.nan]] * 5)))
    down, areas = spine(pixels, 0), []
    for colour, sample in ((ACCENT, 30), (BLUE, 90)):
        marked = np.argwhere(near(pixels, colour, 20) & (np.arange(1120) > 60)[:, None])
        assert share(marked[:, 0].mean(), down) == pytest.approx((sample + 0.5) / N, abs=0.01)
        areas.append(len(marked))
    assert areas[0] == pytest.approx(2 * areas[1], rel=0.25)


def test_one_scan_is_a_line_with_stems_and_several_stand_beside_their_refit():
    scan, one = impulse(60, count=1), np.array([[0.6]])
    alone = decoded(echoes_picture(scan, TIMES, one, one))
    columns = np.flatnonzero(near(alone, ACCENT).sum(0) > 100)
    assert share(columns.mean(), spine(alone, 1)) == pytest.approx(60.5 / N, abs=0.005)
    assert near(decoded(echoes_picture(scan, TIMES, one, one, refit=scan)), ACCENT).sum() > near(alone, ACCENT).sum()
    several = decoded(echoes_picture(0 * ZEROS, TIMES, ZEROS[:, :1], ZEROS[:, :1], refit=impulse(60)))
    assert not near(several[300:900, 150:780], "#101010").any() and near(several[300:900, 900:1550], "#101010").any()


def test_receiver_functions_stand_around_zero_with_the_mean_of_all():
    times = np.arange(-20, 100) / 4
    traces = np.exp(-(times**2))[None] * np.ones((120, 1))
    pixels = decoded(receiver_picture(traces, times))
    orange = np.flatnonzero(near(pixels[:200], ACCENT).sum(0) > 5)
    assert share(orange.mean(), spine(pixels, 1)) == pytest.approx(20.5 / N, abs=0.01)
    hidden = sorted({*range(120)} - {*rows("", "traces", traces, clock("", times, "s"), 60, 900).numbers})[0]
    traces[hidden] = np.exp(-((times - 15) ** 2))
    changed = np.flatnonzero((decoded(receiver_picture(traces, times)) != pixels).any((1, 2)))
    assert len(changed) and changed.max() < 300


def test_pictures_need_no_pyplot_and_are_the_same_every_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    noise = np.random.default_rng(0).standard_normal((60, 80))
    arguments = noise, noise.astype("f4"), np.arange(80), ("$x_", "50 %"), "m"
    first = section_picture(*arguments)
    assert first == section_picture(torch.from_numpy(noise), *arguments[1:])


def test_a_trace_of_tiny_numbers_with_a_perfect_refit_and_no_deviations_is_drawn():
    trace = np.full(N, 1e-310)
    opened(spikes_picture(trace, trace, np.full(N, np.nan), trace, TIMES))


@pytest.mark.parametrize("draw", [section_picture, wiggle_picture])
def test_constant_broken_and_extreme_sections_are_drawn(draw):
    traces = np.stack([np.full(N, value) for value in (0.0, np.nan, np.inf, 1e300)])
    opened(draw(traces, np.full_like(traces, 1e-310), TIMES))


def test_single_and_missing_samples_are_drawn():
    nothing = np.full((3, 1), np.nan)
    opened(section_picture([[1.0]], [[2]], [0.0]))
    opened(receiver_picture(nothing, [0.0]))
    opened(echoes_picture(nothing, [0.0], nothing[:, :0], nothing[:, :0]))


def test_gaps_are_grey_in_a_section():
    masked = np.ma.masked_equal(impulse(60), 0)
    pixels = decoded(section_picture(masked, ZEROS, TIMES))
    assert near(pixels[100:400, 150:750], "#d3cfc5", 2).all() and near(pixels[100:400, 900:1500], "#ffffff", 0).all()


@pytest.mark.parametrize(
    "times, label, factor",
    [(TIMES, "time, s", 1), (TIMES / 2, "time, ms", 1e3), (TIMES / 1e5, "time, µs", 1e6), (TIMES - 5, "time, s", 1)],
)
def test_seconds_are_shown_in_the_unit_that_suits_them(times, label, factor):
    at = clock("", times, "s")
    assert at.label == label and np.array_equal(at.at, times * factor)
    assert clock("", times, "m").label == "time, m"


def test_numbers_are_written_to_be_read():
    assert [number_words(x) for x in (4742.0, -0.03125, 3.1e-9, 0.0, 25.0)] == ["4,740", "−0.0312", "3.1e−09", "0", "25"]
    assert number_words(1e9 + 0.25, 12) == "1,000,000,000.25"


@pytest.mark.parametrize(
    "draw, error, words",
    [
        (lambda: section_picture(ZEROS, ZEROS, np.r_[TIMES[:-1], np.nan]), NonFinite, "times is not finite at 119"),
        (lambda: section_picture(ZEROS, ZEROS, TIMES[::-1]), ShapeError, "times goes from 1.19 to 0 .* rising in equal steps"),
        (lambda: wiggle_picture(ZEROS, ZEROS, TIMES**2), ShapeError, "rising in equal steps were needed"),
        (lambda: section_picture(ZEROS, ZEROS[:3], TIMES), ShapeError, r"after is \(3, 120\), but \(4, 120\)"),
        (lambda: section_picture(ZEROS[0], ZEROS, TIMES), ShapeError, r"before is \(120,\), but \(traces, 120\)"),
        (lambda: section_picture(ZEROS[:0], ZEROS[:0], TIMES), ShapeError, r"before is \(0, 120\)"),
        (lambda: section_picture(ZEROS, ZEROS, []), ShapeError, "times is empty"),
        (lambda: section_picture(ZEROS, ZEROS, TIMES, ("one",)), DtypeError, r"names is .* a tuple \(2 items, each a string\)"),
        (lambda: section_picture(ZEROS + 0j, ZEROS, TIMES), DtypeError, "before is an array of .*complex.* real numbers"),
        (lambda: section_picture([[1], [1, 2]], ZEROS, TIMES), DtypeError, "before is .* real numbers were needed"),
        (lambda: spikes_picture(ZEROS[0], ZEROS[0], None, TIMES[1:], TIMES), ShapeError, r"refit is \(119,\), but \(120\)"),
        (lambda: echoes_picture(ZEROS, TIMES, ZEROS[:3], ZEROS), ShapeError, r"delays is \(3, 120\), but \(4, any\)"),
        (lambda: echoes_picture(ZEROS, TIMES, ZEROS, ZEROS[:, 1:]), ShapeError, r"amplitudes is \(4, 119\), but \(4, 120\)"),
        (lambda: receiver_picture(torch.zeros(4, N).to_sparse(), TIMES), DtypeError, "traces is a sparse tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_drawn_is_refused_in_words(draw, error, words):
    with pytest.raises(error, match=words):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnconvError, match=r'section_picture: matplotlib cannot be imported .* pip install "unconv\[plot\]"'):
        section_picture(ZEROS, ZEROS, TIMES)
