"""Voices as source and filter: predictions of known filters, pitches of known pulses, and exact resynthesis."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oracles.plain_speech import all_pole
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import levinson
from unconv.inverse.fields.speech import envelope, lpc, pitch, separate

RATE = 16000
FORMANTS = (500.0, 1500.0, 2500.0)


def tract():
    """1, a[1], ..., of a throat with three formants."""
    poles = [0.97 * np.exp(sign * 2j * np.pi * f / RATE) for f in FORMANTS for sign in (1, -1)]
    return np.poly(poles).real


def vowel(frequency=120.0, seconds=0.6, noise=1e-3):
    """Pulses of a pitch, a number or one for each sample, through the throat."""
    n = round(seconds * RATE)
    turns = np.cumsum(np.broadcast_to(np.asarray(frequency, float), n)) / RATE
    pulses = np.diff(np.floor(turns), prepend=0.0)
    return all_pole(tract(), pulses) + noise * np.random.default_rng(0).standard_normal(n)


def test_a_prediction_is_that_of_the_normal_equations():
    frames = np.random.default_rng(0).standard_normal((3, 4, 60))
    found = lpc(frames, 5)
    for place in np.ndindex(3, 4):
        x = frames[place]
        r = np.array([x[lag:] @ x[: 60 - lag] for lag in range(6)])
        r[0] *= 1 + 1e-9
        matrix = r[np.abs(np.subtract.outer(np.arange(5), np.arange(5)))]
        a = np.linalg.solve(matrix, -r[1:])
        np.testing.assert_allclose(found.coefficients[place], [1, *a], atol=1e-10)
        assert found.gain[place] ** 2 == pytest.approx(r[0] + a @ r[1:])
    assert np.abs(found.reflection).max() < 1


def test_the_filter_of_noise_is_found_back():
    a = tract()
    x = all_pole(a, np.random.default_rng(0).standard_normal(60000)) * np.hanning(60000)
    found = lpc(torch.from_numpy(x), 6)
    assert isinstance(found.coefficients, torch.Tensor)
    np.testing.assert_allclose(found.coefficients.numpy(), a, atol=0.05)
    r = np.array([x[lag:] @ x[: len(x) - lag] for lag in range(7)])
    np.testing.assert_allclose(found.coefficients, levinson(torch.from_numpy(r), prewhitening=1e-9).solution, atol=1e-6)


def test_silence_and_tiny_numbers_are_predicted():
    frames = np.zeros((2, 50), np.float32)
    frames[1] = 1e-20 * np.sin(np.arange(50))
    found = lpc(frames, 4)
    assert found.coefficients[0].tolist() == [1, 0, 0, 0, 0] and found.gain[0] == 0
    assert np.isfinite(found.coefficients).all() and found.coefficients.dtype == np.float32


@pytest.mark.parametrize("method", ["autocorrelation", "cepstrum"])
def test_a_pitch_that_glides_is_followed(method):
    glide = np.linspace(90, 220, RATE)
    found = pitch(vowel(glide, 1.0), RATE, method)
    truth = np.interp(found.times, np.arange(RATE) / RATE, glide)
    assert np.isfinite(found.frequency).mean() > 0.95
    assert np.nanmedian(np.abs(found.frequency / truth - 1)) < 0.01
    assert np.nanpercentile(np.abs(found.frequency / truth - 1), 90) < 0.03


@pytest.mark.parametrize("method", ["autocorrelation", "cepstrum"])
def test_the_pitch_of_tiny_and_huge_numbers_is_that_of_others(method):
    voice = vowel()
    plain = pitch(voice, RATE, method).frequency
    for scale in (2.0**-700, 2.0**700):
        np.testing.assert_allclose(pitch(scale * voice, RATE, method).frequency, plain, rtol=1e-9)


@pytest.mark.parametrize("method", ["autocorrelation", "cepstrum"])
def test_noise_and_pauses_are_not_voiced(method):
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert np.isnan(pitch(noise, RATE, method).frequency).mean() > 0.95
    spoken = np.concatenate([vowel(), 1e-4 * noise[:8000], vowel(200.0)])
    found = pitch(np.stack([spoken, np.zeros_like(spoken)]), RATE, method)
    pause = (found.times > 0.65) & (found.times < 1.05)
    assert np.isnan(found.frequency[0, pause]).all() and np.isnan(found.frequency[1]).all()
    assert np.nanmedian(found.frequency[0, found.times < 0.5]) == pytest.approx(120, rel=0.01)
    assert np.nanmedian(found.frequency[0, found.times > 1.2]) == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("method, within", [("lpc", 60), ("cepstrum", 130)])
def test_an_envelope_has_the_formants_and_not_the_harmonics(method, within):
    found = envelope(vowel(), RATE, method)
    level = np.log(found.amplitude[10:-10]).mean(0)
    peaks = found.frequencies[1:-1][(level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:])]
    for formant in FORMANTS:
        assert np.abs(peaks - formant).min() < within
    assert (peaks < 3000).sum() <= 4
    assert found.amplitude.shape == (len(found.times), len(found.frequencies)) and found.frequencies[-1] == RATE / 2


def test_an_envelope_of_white_noise_has_its_level():
    x = np.random.default_rng(0).standard_normal(RATE)
    wanted = np.sqrt(np.square(np.hanning(480)).sum())
    assert np.median(envelope(x, RATE, "lpc").amplitude) == pytest.approx(wanted, rel=0.1)
    # The mean logarithm of an exponential variable is below the logarithm of its mean by Euler's constant.
    assert np.median(envelope(x, RATE).amplitude) == pytest.approx(wanted * np.exp(-0.5772 / 2), rel=0.1)
    assert (envelope(0 * x, RATE).amplitude == 0).all()


@pytest.mark.parametrize("n", [40, 159, 160, 4000, 9599])
def test_a_resynthesis_gives_the_recording_back(n):
    x = np.stack([vowel()[:n], np.zeros(n), np.random.default_rng(0).standard_normal(n)])
    found = separate(x, RATE)
    assert found.excitation.shape == x.shape and found.coefficients.shape[-1] == 19
    np.testing.assert_allclose(found.resynthesis(), x, rtol=0, atol=1e-10)


def test_a_resynthesis_is_the_plain_recursion_of_its_filters():
    x = vowel(seconds=0.1)
    found = separate(x, RATE, order=8)
    made = np.zeros(len(x))
    for at in range(len(x)):
        a = found.coefficients[at // found.hop]
        made[at] = found.excitation[at] - sum(a[k] * made[at - k] for k in range(1, 9) if at >= k)
    np.testing.assert_allclose(made, x, rtol=0, atol=1e-10)


def test_an_excitation_of_a_voice_is_pulses_where_the_voice_has_them():
    x = vowel(100.0)
    found = separate(x, RATE)
    assert np.var(found.excitation) < 0.05 * np.var(x)
    middle = np.abs(found.excitation[3200:6400])
    assert np.sort(middle)[-20:].sum() > 0.25 * middle.sum()
    assert np.sort(np.abs(x[3200:6400]))[-20:].sum() < 0.1 * np.abs(x[3200:6400]).sum()


def test_single_precision_and_tensors_come_back_as_such():
    x = torch.from_numpy(vowel()).float()
    found = separate(x, RATE)
    assert found.excitation.dtype == torch.float32
    np.testing.assert_allclose(found.resynthesis().numpy(), x.numpy(), atol=1e-4)
    assert envelope(x, RATE).amplitude.dtype == torch.float32 == pitch(x, RATE).frequency.dtype


def test_what_does_not_fit_is_refused():
    x = vowel(seconds=0.1)
    for call, error, said in (
        (lambda: lpc(x[:10], 10), ShapeError, "order is 10, but 1 to 9"),
        (lambda: separate(x, RATE, 0), ShapeError, "order is 0"),
        (lambda: separate(x, -1.0), ShapeError, "rate is -1.0"),
        (lambda: envelope(x[:100], RATE), ShapeError, "lasts 0.00625 s"),
        (lambda: envelope(x, RATE, points=1), ShapeError, "points is 1"),
        (lambda: envelope(x, RATE, "magic"), DtypeError, "magic"),
        (lambda: pitch(x, RATE, lowest=400, highest=60), ShapeError, "ascending"),
        (lambda: pitch(x[:300], RATE), ShapeError, "one frame"),
        (lambda: pitch(np.where(x == x[7], np.inf, x), RATE), NonFinite, "sample 7"),
        (lambda: separate(x + 0j, RATE), DtypeError, "complex"),
        (lambda: separate([], RATE), ShapeError, "n of 2 or more"),
    ):
        with pytest.raises(error, match=said):
            call()
