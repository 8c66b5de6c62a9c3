"""Echoes of whole recordings: found where they are, and taken out to rounding."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.speech import find_echoes, remove_echo

RATE = 8000
SPEECH = Path(os.environ.get("UNCONV_DATA", "data")) / "inverse" / "speech"


def sound(n=20000, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def with_echoes(dry, *echoes, rate=RATE):
    wet = dry.copy()
    for delay, gain in echoes:
        lag = round(delay * rate)
        wet[lag:] += gain * dry[:-lag]
    return wet


@pytest.mark.parametrize("gain", [0.8, 0.5, 0.2, -0.3, -0.7])
def test_an_echo_is_found_with_its_gain_and_its_sign(gain):
    found = find_echoes(with_echoes(sound(), (0.1, gain)), RATE)
    assert found.delays.tolist() == [0.1]
    assert found.gains[0] == pytest.approx(gain, abs=5 * found.deviation)
    assert found.strength[0] > 10 and found.deviation < 0.02


def test_two_echoes_are_found_and_neither_multiples_nor_sums_of_their_delays():
    found = find_echoes(with_echoes(sound(40000), (0.05, 0.5), (0.08, -0.3)), RATE)
    assert found.delays.tolist() == [0.05, 0.08]
    np.testing.assert_allclose(found.gains, [0.5, -0.3], atol=0.03)


def test_the_cepstrum_has_the_peaks_that_the_series_says():
    found = find_echoes(with_echoes(sound(200000), (0.05, 0.6)), RATE)
    for k in (1, 2, 3):
        assert found.cepstrum[400 * k] == pytest.approx((-1) ** (k + 1) * 0.6**k / k, abs=0.03)


def test_an_offset_and_the_size_of_a_recording_change_no_echo():
    wet = with_echoes(sound(), (0.1, 0.5))
    plain = find_echoes(wet, RATE)
    for other in (wet + 1000, 2.0**-700 * wet, 2.0**700 * wet):
        found = find_echoes(other, RATE)
        assert found.delays.tolist() == [0.1] and found.gains[0] == pytest.approx(plain.gains[0], abs=2 * plain.deviation)
    assert find_echoes(np.ones(20000), RATE).delays.tolist() == []


def test_nothing_is_found_where_there_is_no_echo():
    assert all(len(find_echoes(sound(seed=seed), RATE).delays) == 0 for seed in range(5))


@pytest.mark.skipif(not SPEECH.is_dir(), reason="the speech is absent")
@pytest.mark.parametrize("name", ["cmu_arctic_us_aew_a0001.wav", "cmu_arctic_us_axb_a0004.wav", "german_speech_8000.wav"])
def test_echoes_of_speech_are_found_and_its_pitch_is_taken_for_none(name):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is absent")
    dry, rate = soundfile.read(SPEECH / name)
    assert len(find_echoes(dry, rate).delays) == 0
    wet = with_echoes(dry, (0.05, 0.5), (0.08, -0.3), rate=rate)
    found = find_echoes(wet, rate)
    assert found.delays.tolist() == [0.05, 0.08]
    np.testing.assert_allclose(found.gains, [0.5, -0.3], atol=0.03)
    left, before = remove_echo(wet, rate) - dry, wet - dry
    assert left @ left < 0.01 * (before @ before)


@pytest.mark.parametrize("echoes", [((0.1, 0.9),), ((0.000125, -0.5),), ((0.05, 0.5), (0.0501, -0.3), (1.0, 0.1))])
def test_a_known_echo_is_taken_out_to_rounding(echoes):
    dry = np.stack([sound(12000), sound(12000, 1)])
    wet = np.stack([with_echoes(channel, *echoes) for channel in dry])
    delays, gains = zip(*echoes, strict=True)
    np.testing.assert_allclose(remove_echo(wet, RATE, delays, gains), dry, rtol=0, atol=1e-12)


def test_the_result_is_the_slow_recursion():
    wet, lag, gain = sound(300), 7, -0.6
    slow = wet.copy()
    for at in range(lag, len(wet)):
        slow[at] = wet[at] - gain * slow[at - lag]
    np.testing.assert_allclose(remove_echo(wet, RATE, lag / RATE, gain), slow, rtol=0, atol=1e-13)


def test_results_come_in_the_kind_of_the_recording():
    wet = with_echoes(sound(), (0.1, 0.5))
    as_float = remove_echo(wet.astype(np.float32), RATE, 0.1, 0.5)
    assert as_float.dtype == np.float32
    as_tensor = remove_echo(torch.from_numpy(wet), RATE, 0.1, 0.5)
    assert_close(as_tensor, torch.from_numpy(remove_echo(wet, RATE, 0.1, 0.5)))
    assert remove_echo((1000 * wet).astype(np.int16), RATE, 0.1, 0.5).dtype == np.float32


def test_what_does_not_fit_is_refused():
    x = sound(4000)
    for arguments, error, said in (
        ((x, RATE, 0.1, 1.0), ShapeError, "grows without limit"),
        ((x, RATE, [0.1, 0.2], [0.6, -0.5]), ShapeError, "magnitudes sum to 1 or more"),
        ((x, RATE, 0.1), ShapeError, "one of them is missing"),
        ((x, RATE, 1e-6, 0.5), ShapeError, "one sample to 0.5 s"),
        ((x, RATE, 0.6, 0.5), ShapeError, "one sample to 0.5 s"),
        ((x, RATE), ShapeError, "no echo stands out"),
        ((x, 0.0, 0.1, 0.5), ShapeError, "rate is 0.0"),
        ((x + 1j, RATE, 0.1, 0.5), DtypeError, "complex128"),
        ((np.where(x == x[5], np.nan, x), RATE, 0.1, 0.5), NonFinite, "sample 5"),
    ):
        with pytest.raises(error, match=said):
            remove_echo(*arguments)
    for arguments, said in (
        ((np.stack([x, x]), RATE), "one channel"),
        ((0 * x, RATE), "silent"),
        ((x, RATE, 0.2, 0.1), "ascending delays"),
        ((x[:100], RATE), "ascending delays"),
    ):
        with pytest.raises(ShapeError, match=said):
            find_echoes(*arguments)
    for shortest, longest in ((float("nan"), 0.5), (0.02, float("inf")), (0.3, 0.2)):
        with pytest.raises(ShapeError, match="ascending delays within a third"):
            find_echoes(sound(), RATE, shortest, longest)
    with pytest.raises(NonFinite, match="the result is beyond the range"):
        remove_echo(np.full(100, 3e38, np.float32), RATE, 1 / RATE, -0.5)
