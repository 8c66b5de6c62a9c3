"""Features of recognisers: the formulas in plain loops, and distances that fall as a recording comes nearer to a clean one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oracles import plain_speech
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.speech import feature_distance, log_mel, mfcc


def speechlike(n, seed=0):
    draw = np.random.default_rng(seed)
    made = draw.standard_normal(n)
    for lag in (1, 2):
        made[lag:] += 0.7 * made[:-lag]
    return 0.05 * made * (0.05 + np.abs(np.sin(np.arange(n) / 700)))


@pytest.mark.parametrize("rate, bands, lowest, highest, emphasis", [(8000, 23, 20, 4000, 0.97), (4000, 10, 100, 1800, 0.0)])
def test_log_mel_bands_are_those_of_the_plain_loops(rate, bands, lowest, highest, emphasis):
    x = speechlike(round(0.046 * rate))
    wanted = plain_speech.log_mel(x, rate, bands, lowest, highest, emphasis)
    found = log_mel(x, rate, bands, lowest, highest, emphasis)
    assert found.shape == wanted.shape == (3, bands)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_mel_cepstra_are_those_of_the_plain_loops():
    x = speechlike(600)
    wanted = plain_speech.mfcc(log_mel(x, 8000, 23), 13)
    np.testing.assert_allclose(mfcc(x, 8000, 13, 23), wanted, rtol=0, atol=1e-9)


def test_features_agree_with_librosas_cosine_transform():
    librosa = pytest.importorskip("librosa", reason="librosa is absent")
    bands = log_mel(speechlike(16000), 16000, 40)
    theirs = librosa.feature.mfcc(S=bands.T, n_mfcc=13, dct_type=2, norm="ortho").T
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    np.testing.assert_allclose(mfcc(speechlike(16000), 16000, 13, 40), theirs * lifter, atol=1e-6)


def test_features_are_kaldis():
    knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is absent")
    x = speechlike(16000)
    for options, extractor in ((knf.FbankOptions(), knf.OnlineFbank), (knf.MfccOptions(), knf.OnlineMfcc)):
        options.frame_opts.dither, options.frame_opts.window_type = 0, "hamming"
        options.frame_opts.remove_dc_offset, options.mel_opts.num_bins = False, 40
        if extractor is knf.OnlineMfcc:
            options.use_energy, options.num_ceps = False, 13
        else:
            options.energy_floor = 0
        theirs = extractor(options)
        theirs.accept_waveform(16000, (32768 * x).tolist())
        theirs.input_finished()
        wanted = np.stack([theirs.get_frame(frame) for frame in range(theirs.num_frames_ready)])
        shift = 2 * np.log(32768)
        if extractor is knf.OnlineMfcc:
            wanted[:, 0] -= shift * np.sqrt(40)
            np.testing.assert_allclose(mfcc(x, 16000, 13, 40), wanted, atol=2e-3)
        else:
            np.testing.assert_allclose(log_mel(x, 16000, 40), wanted - shift, atol=2e-3)


def test_channels_and_kinds_are_kept():
    x = np.stack([speechlike(8000), speechlike(8000, 1)]).astype(np.float32)
    found = log_mel(x, 16000)
    assert found.shape == (2, 48, 80) and found.dtype == np.float32
    np.testing.assert_allclose(found[1], log_mel(x[1], 16000), atol=1e-5)
    assert isinstance(mfcc(torch.from_numpy(x), 16000), torch.Tensor)


def test_silence_has_the_floor_and_no_infinity():
    assert np.allclose(log_mel(np.zeros(4000), 16000), np.log(1e-10))


def test_a_gain_and_a_fixed_filter_count_for_nothing_and_an_echo_does():
    clean = speechlike(32000)
    wet = clean.copy()
    wet[1600:] += 0.7 * clean[:-1600]
    half = clean.copy()
    half[1600:] += 0.2 * clean[:-1600]
    found = feature_distance(wet, half, clean, 16000)
    assert found.cepstral_before > found.cepstral_after + 0.5 > 0.5
    assert found.log_mel_before > found.log_mel_after + 0.5
    same = feature_distance(0.3 * clean, clean, clean, 16000)
    assert same.cepstral_before < 1e-6 and same.cepstral_after == 0 == same.log_mel_after
    tilted = np.convolve(clean, [1.0, -0.5])[:32000]
    assert feature_distance(tilted, clean, clean, 16000).cepstral_before < 0.3


def test_the_cepstral_distance_is_that_of_the_plain_formula():
    clean, other = speechlike(4000), speechlike(4000, 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)

    def cepstra(x):
        frames = np.stack([x[begin : begin + 400] * window for begin in range(0, 3601, 160)])
        frames[:, 0] += 1e-5 * np.abs(x).max()
        c = np.fft.irfft(np.log(np.abs(np.fft.rfft(frames, 512))))[:, :25]
        loud = np.array([np.sum(clean[begin : begin + 400] ** 2) for begin in range(0, 3601, 160)])
        return c - c[loud > 1e-5 * loud.max()].mean(0)

    apart = (cepstra(other) - cepstra(clean)) ** 2
    wanted = np.minimum(10 / np.log(10) * np.sqrt(apart[:, 0] + 2 * apart[:, 1:].sum(1)), 10).mean()
    assert feature_distance(other, clean, clean, 16000).cepstral_before == pytest.approx(wanted, rel=1e-6)


def test_what_does_not_fit_is_refused():
    x = speechlike(4000)
    for call, error, said in (
        (lambda: log_mel(x[:300], 16000), ShapeError, "one frame of 0.025 s"),
        (lambda: log_mel(x, 16000, 0), ShapeError, "0 bands"),
        (lambda: log_mel(x, 16000, 80, 20, 9000), ShapeError, "up to 8000 Hz"),
        (lambda: log_mel(x, 16000, 400), ShapeError, "so narrow that one contains none"),
        (lambda: mfcc(x, 16000, 41, 40), ShapeError, "1 to 40"),
        (lambda: mfcc(np.where(x == x[9], np.nan, x), 16000), NonFinite, "sample 9"),
        (lambda: log_mel(x > 0, 16000), DtypeError, "bool"),
        (lambda: feature_distance(x, x[1:], x, 16000), ShapeError, "one length"),
        (lambda: feature_distance(x, x, 0 * x, 16000), ShapeError, "silent"),
    ):
        with pytest.raises(error, match=said):
            call()
