"""Spectrograms and cepstra: decoded, and what is drawn looked for where it belongs."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unconv.errors import DtypeError, NonFinite, ShapeError, UnconvError
from unconv.render.panels import ACCENT, BLUE
from unconv.render.spectrograms import cepstrum_picture, spectrogram_picture

pytest.importorskip("matplotlib", reason="draws the pictures")

RATE = 8000
TIME = np.arange(2 * RATE) / RATE


def decoded(png):
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and picture.size == (1600, 1120)
    return np.asarray(picture.convert("RGB")).astype(np.int16)


def dark(pixels):
    """Where a panel is near its loudest, away from labels, axes and the scale's bar."""
    inside = pixels[:, 100:1420].sum(-1) < 250
    return inside


def near(pixels, colour, within=40):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.int16)
    return np.abs(pixels - wanted).max(-1) <= within


def runs(found):
    """First and last rows of runs of rows that are found."""
    places = np.flatnonzero(found)
    return [(part[0], part[-1]) for part in np.split(places, np.flatnonzero(np.diff(places) > 20) + 1)]


def test_a_tone_is_a_line_at_its_frequency_and_softer_after_on_the_same_scale():
    tone = np.sin(2 * np.pi * 1000 * TIME)
    pixels = decoded(spectrogram_picture(tone, 0.03 * tone, RATE))
    lines = runs(dark(pixels).sum(1) > 1000)
    assert len(lines) == 1  # 30 dB below, the second panel's line is orange
    orange = runs(near(pixels[:, 100:1420], ACCENT, 60).sum(1) > 800)
    assert orange and orange[-1][0] > 600


def test_three_panels_stand_below_each_other_with_a_reference():
    tone = torch.from_numpy(np.sin(2 * np.pi * 1000 * TIME))
    pixels = decoded(spectrogram_picture(tone, tone, RATE, tone, names=("a", "b", "c")))
    lines = runs(dark(pixels).sum(1) > 1000)
    assert len(lines) == 3
    places = [sum(line) / 2 for line in lines]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=4)


def test_a_click_stands_at_its_time_also_in_a_long_recording():
    click = np.zeros(60 * RATE)
    click[15 * RATE] = 1
    pixels = decoded(spectrogram_picture(click, click, RATE))
    columns = np.flatnonzero(dark(pixels)[100:480].sum(0) > 200)
    assert 0.2 < (columns.mean() + 100 - 80) / 1360 < 0.3


def test_silence_is_drawn_white():
    pixels = decoded(spectrogram_picture(np.zeros(RATE), np.zeros(RATE), RATE))
    assert (pixels[100:450, 120:1400] > 245).mean() > 0.99


def test_echoes_are_stems_at_their_delays():
    cepstrum = 0.01 * np.sin(np.arange(4000.0))
    cepstrum[[800, 2400]] = 0.5, -0.3
    pixels = decoded(cepstrum_picture(cepstrum, RATE, [0.1, 0.3], [0.5, -0.3], 0.02))
    up, down = (np.flatnonzero(near(pixels, colour).sum(0) > 100).mean() for colour in (ACCENT, BLUE))
    assert (down - up) / 1600 == pytest.approx(0.4 * 0.9, abs=0.03)
    assert not near(decoded(cepstrum_picture(cepstrum, RATE)), ACCENT).sum() > 500


def test_the_same_picture_gives_the_same_bytes():
    tone = np.sin(2 * np.pi * 1000 * TIME[:2000])
    assert spectrogram_picture(tone, tone, RATE) == spectrogram_picture(tone, tone, RATE)


def test_what_does_not_fit_is_refused():
    tone = np.sin(TIME)
    for call, error, said in (
        (lambda: spectrogram_picture(tone, tone[1:], RATE), ShapeError, "one length"),
        (lambda: spectrogram_picture(tone[:50], tone[:50], RATE), ShapeError, "at least 256"),
        (lambda: spectrogram_picture(tone, np.where(tone > 0.5, np.nan, tone), RATE), NonFinite, "after is NaN"),
        (lambda: spectrogram_picture(tone[None], tone[None], RATE), ShapeError, "before is"),
        (lambda: spectrogram_picture(["a"], tone, RATE), DtypeError, "real numbers"),
        (lambda: cepstrum_picture(tone, RATE, [0.1], []), ShapeError, "one gain for each delay"),
        (lambda: cepstrum_picture(tone[:2], RATE), ShapeError, "2 samples of a cepstrum"),
    ):
        with pytest.raises(error, match=said):
            call()


def test_matplotlib_that_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnconvError, match=r'pip install "unconv\[plot\]"'):
        spectrogram_picture(TIME, TIME, RATE)
