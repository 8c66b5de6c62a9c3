"""Dereverberation of recordings in every kind and layout, what is said of odd ones, and how near the dry sound it comes."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.speech import dereverb
from unconv.inverse.fields.speech.dereverberation import Method, _Plan, _planned
from unconv.inverse.fields.speech.stft import Stft

RATE = 4000  # a low one, for speed
DATA = Path(os.environ.get("UNCONV_DATA", "no data folder")) / "inverse" / "speech"


def room(channels, seconds=0.5, seed=1):
    """Impulse responses (channels, taps): a direct sound, and noise that falls by 60 dB in `seconds`."""
    draw = np.random.default_rng(seed)
    n = int(seconds * RATE)
    tail = 0.25 * draw.standard_normal((channels, n)) * 10 ** (-3 * np.arange(n) / n)
    tail[:, :20] = 0
    tail[:, 0] = 1
    return tail


def dry(seconds=5.0, seed=0):
    """Noise that comes and goes as syllables do."""
    draw = np.random.default_rng(seed)
    n = int(seconds * RATE)
    envelope = np.repeat(draw.exponential(size=n // 400 + 1) ** 2, 400)[:n]
    return 0.05 * envelope * np.convolve(draw.standard_normal(n), [1, 1.2, 0.6], "same")


def recording(channels, seconds=5.0):
    """(what each microphone would hear without a room, what it hears), (channels, n)."""
    source = dry(seconds)
    return np.array([source] * channels), np.array([np.convolve(source, h)[: len(source)] for h in room(channels)])


def gain(truth, observed, result):
    """Decibels by which the error falls."""
    return 10 * np.log10(np.sum((observed - truth) ** 2) / np.sum((result - truth) ** 2))


METHODS = {"wpe-wiener": 3.5, "wpe-mvdr": 3.0, "wpe": 3.0, "wpe-block": 3.0, "wpe-online": 1.5}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_brings_a_recording_nearer_the_dry_sound(method):
    truth, observed = recording(2)
    found = dereverb(observed, RATE, method, block=2.5)
    assert gain(truth, observed, found.signal) > METHODS[method]
    # The room sounds for long: of the filtered methods, which choose, more taps predict more than chance.
    taps = {"wpe-online": 10, "wpe": 20, "wpe-block": 20}.get(method, 40)
    assert (found.method, found.taps, found.delay, found.notes) == (method, taps, 3, ())
    assert 0.1 < found.energy < 1 and 0.5 < found.correlation < 1


def test_more_taps_are_used_only_where_they_predict_more_than_chance():
    """White noise has nothing to predict, whatever the taps."""
    noise = np.random.default_rng(0).standard_normal((2, 6 * RATE))
    assert dereverb(noise, RATE, "wpe-wiener").taps == 20


KINDS = {
    "numpy float64": lambda x: x,
    "numpy float32": lambda x: x.astype(np.float32),
    "numpy float16": lambda x: x.astype(np.float16),
    "big-endian float32": lambda x: x.astype(">f4"),
    "numpy int16": lambda x: np.round(8000 * x).clip(-32768, 32767).astype(np.int16),
    "big-endian int16": lambda x: np.round(8000 * x).clip(-32768, 32767).astype(">i2"),
    "numpy int32": lambda x: np.round(1e8 * x).astype(np.int32),
    "numpy int64": lambda x: np.round(1e8 * x).astype(np.int64),
    "numpy uint8": lambda x: (np.clip(np.round(40 * x), -128, 127) + 128).astype(np.uint8),
    "tensor float32": lambda x: torch.from_numpy(x).float(),
    "tensor int16": lambda x: torch.from_numpy(np.round(8000 * x).clip(-32768, 32767)).short(),
    "list": lambda x: x.tolist(),
    "not contiguous": lambda x: np.repeat(x, 2, -1)[..., ::2],
}


@pytest.mark.parametrize("layout", ["(n,)", "(channels, n)", "(n, channels)"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_comes_in_the_kind_and_layout_of_the_recording(kind, layout):
    observed = recording(2, 0.6)[1]
    observed = {"(n,)": observed[0], "(channels, n)": observed, "(n, channels)": observed.T}[layout]
    came = KINDS[kind](observed)
    found = dereverb(came, RATE)
    assert np.shape(found.signal) == np.shape(came)
    assert isinstance(found.signal, torch.Tensor) == isinstance(came, torch.Tensor)
    assert found.signal.dtype == (np.asarray(came).dtype if isinstance(came, list) else came.dtype)
    assert found.observed is came
    assert any("read as (n, channels): 2 channels of" in note for note in found.notes) == (layout == "(n, channels)")


def test_layouts_and_integers_give_what_floats_do():
    observed = recording(2, 1.0)[1]
    plain = dereverb(observed, RATE).signal
    assert_close(dereverb(observed.T, RATE).signal.T, plain)
    pcm = np.round(observed / np.abs(observed).max() * 20000).astype(np.int16)
    assert np.abs(dereverb(pcm, RATE).signal - dereverb(pcm.astype(np.float64), RATE).signal).max() <= 1.01
    offset = dereverb((pcm // 256 + 128).astype(np.uint8), RATE).signal.astype(int) - 128
    assert np.abs(offset - dereverb((pcm // 256).astype(np.int8), RATE).signal).max() <= 1


def test_a_scaled_delayed_or_permuted_recording_gives_that_of_the_result():
    observed = recording(2, 1.0)[1]
    plain = dereverb(observed, RATE).signal
    for scale in (1e-30, 1e30):
        assert_close(dereverb(scale * observed, RATE).signal / scale, plain, atol=1e-9, rtol=1e-9)
    assert_close(dereverb(observed[::-1].copy(), RATE).signal[::-1].copy(), plain, atol=1e-6, rtol=1e-6)
    late = np.concatenate([np.zeros((2, 32 * 8)), observed], 1)  # of whole frames
    assert_close(dereverb(late, RATE, taps=10).signal[:, 256:], dereverb(observed, RATE, taps=10).signal, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", get_args(Method))
def test_the_size_of_a_recording_does_not_matter_at_the_ends_of_the_range(method):
    observed = recording(2, 1.0)[1]
    plain = dereverb(observed, RATE, method)
    for scale in (2.0**-1000, 2.0**1000):
        found = dereverb(scale * observed, RATE, method)
        assert_close(found.signal / scale, plain.signal, atol=1e-9, rtol=1e-9)
        assert found.energy == pytest.approx(plain.energy)
    single = dereverb((1e38 * observed / np.abs(observed).max()).astype(np.float32), RATE, method).signal
    assert np.isfinite(single).all() and single.any()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint8])
def test_a_recording_that_is_given_back_is_so_bit_by_bit(kind):
    observed = np.random.default_rng(0).standard_normal((2, 100)) + 3
    came = (10 * observed + 100).astype(kind)
    np.testing.assert_array_equal(dereverb(came, RATE).signal, came)
    speech = recording(1, 1.0)[1].astype(np.float32)
    silent = np.concatenate([speech, np.full_like(speech, 0.1), np.zeros_like(speech)])
    np.testing.assert_array_equal(dereverb(silent, RATE).signal[1:], silent[1:])


def test_settings_beyond_all_measure_are_lowered_or_noted():
    observed = recording(1, 0.5)[1][0]
    assert dereverb(observed, RATE, taps=np.int64(3)).taps == 3
    found = dereverb(observed, RATE, delay=10**9)
    np.testing.assert_array_equal(found.signal, observed)
    assert any("the delay of 1000000000 frames leaves none of the" in note for note in found.notes)
    found = dereverb(observed, RATE, "wpe-block", block=1e-9)
    assert np.isfinite(found.signal).all()
    # Not run: as many taps as fit into memory take minutes.
    plan, notes = _planned(torch.ones(2, 9 * RATE), Stft.at(RATE), "wpe-online", 10**6, _Plan(0, 3, 3, 1.0))
    assert plan.taps < 1000 and "would take too much memory: lowered to" in notes[0]


def test_noise_without_reverberation_is_left_nearly_as_it_is():
    noise = np.random.default_rng(3).standard_normal((2, 8 * RATE))
    found = dereverb(noise, RATE, taps=4)
    assert np.linalg.norm(found.signal - noise) < 0.15 * np.linalg.norm(noise)
    assert found.correlation > 0.98


def test_pcm_that_overflows_is_clipped_and_counted():
    observed = recording(1, 1.0)[1][0]
    loud = np.clip(np.round(observed / np.abs(observed).max() * 60000), -32768, 32767).astype(np.int16)
    found = dereverb(loud, RATE)
    assert any("clipped (" in note for note in found.notes)
    assert any("of the result that exceeded the range of its number type" in note for note in found.notes)
    assert found.signal.min() == -32768 or found.signal.max() == 32767


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_speech_remains_where_taps_exceed_what_the_frames_allow(channels):
    truth, observed = recording(channels, 2.0)
    found = dereverb(observed, RATE, taps=400)
    assert found.taps < 400 and any("frames cannot support 400 taps" in note and "lowered to" in note for note in found.notes)
    assert np.sum(found.signal**2) > 0.5 * np.sum(truth**2)
    assert np.corrcoef(found.signal[0], truth[0])[0, 1] > np.corrcoef(observed[0], truth[0])[0, 1]


def test_more_channels_than_the_frames_allow_are_predicted_from_themselves():
    observed = recording(16, 0.5)[1]
    found = dereverb(observed, RATE)
    assert any("each was predicted from itself" in note for note in found.notes)
    assert_close(found.signal[3], dereverb(observed[3], RATE, taps=found.taps).signal, atol=1e-9, rtol=1e-9)


def test_silent_copied_and_offset_channels_among_live_ones_are_told():
    observed = recording(2)[1]
    observed -= observed.mean(1, keepdims=True)
    plain = dereverb(observed, RATE, taps=10).signal
    odd = np.stack([np.zeros_like(observed[0]), observed[0] + 1, np.full_like(observed[0], 3), observed[1], observed[1]])
    found = dereverb(odd, RATE, taps=10)
    assert_close(found.signal[1] - 1, plain[0], atol=1e-7, rtol=1e-7)
    assert_close(found.signal[3], plain[1], atol=1e-7, rtol=1e-7)
    assert_close(found.signal[4], found.signal[3])
    assert not found.signal[0].any() and (found.signal[2] == 3).all()
    told = " ".join(found.notes)
    assert "channels 0, 2: silent (all samples are equal), left unchanged" in told
    assert "channel 4: copies of earlier channels, processed once" in told
    assert "channel 1: a constant offset was removed for processing and put back" in told


@pytest.mark.parametrize(
    "signal, words",
    [
        (np.zeros((2, 4000)), "the recording is silent"),
        (np.random.default_rng(0).standard_normal(100), "shorter than one frame of 128 samples"),
        ([0.5], "the recording is silent"),
        ([0.5, -0.5], "shorter than one frame"),
    ],
)
def test_what_cannot_be_worked_on_is_given_back_with_words(signal, words):
    found = dereverb(signal, RATE)
    assert_close(np.asarray(found.signal), np.asarray(signal))
    assert any(words in note for note in found.notes) and found.taps == 0 and found.energy == 1


def test_one_frame_and_a_few_give_numbers():
    for n in (128, 129, 250, 400):
        for channels in (1, 2, 8):
            signal = recording(channels, 0.2)[1][:, :n]
            assert np.isfinite(dereverb(signal, RATE).signal).all()


def test_blocks_pass_into_each_other_without_a_seam():
    observed = recording(1, 12.0)[1][0]
    whole, blocks = (dereverb(observed, RATE, method, block=4.0).signal for method in ("wpe", "wpe-block"))
    # Filters differ from block to block, by no more at the joints than elsewhere.
    error = np.abs(blocks - whole) ** 2
    joint = error[16000 - 8000 : 16000].mean()
    assert joint < 2 * error.mean() and error.sum() < 0.1 * (whole**2).sum()


def test_what_is_too_long_is_worked_on_in_blocks(monkeypatch):
    from unconv.inverse.fields.speech import dereverberation

    observed = recording(1, 6.0)[1][0]
    monkeypatch.setattr(dereverberation, "_MAX_BYTES", 1000)
    monkeypatch.setattr(dereverberation, "_BLOCK", 3.0)
    found = dereverb(observed, RATE, "wpe")
    assert any("in blocks of 3 s" in note for note in found.notes)
    assert_close(found.signal, dereverb(observed, RATE, "wpe-block", block=3.0).signal)


def test_a_result_that_lost_everything_is_not_believed(monkeypatch):
    from unconv.inverse.fields.speech import dereverberation

    observed = recording(1, 1.0)[1][0]
    for factor, words in (
        (0.05, "the recording is returned unchanged"),
        (0.2, "of the energy is left"),
        (3.0, "no room explains"),
    ):
        monkeypatch.setitem(dereverberation._METHODS, "wpe", lambda spectra, plan, by=factor: by * spectra)
        found = dereverb(observed, RATE, "wpe")
        assert any(words in note for note in found.notes)
        assert_close(found.signal, observed if factor != 0.2 else factor * observed)


def test_progress_is_told_to_its_end():
    shares = []
    dereverb(
        recording(1, 3.0)[1], RATE, "wpe-block", block=1.0, progress=lambda word, share, total: shares.append((word, share))
    )
    assert [share for _, share in shares] == sorted(share for _, share in shares)
    assert shares[-1] == ("dereverberating", 1) and len(shares) >= 3


@pytest.mark.parametrize("rate", [7, 100, 8000, 11025, 16000, 44100, 48000])
def test_spectra_are_undone_to_the_sample_also_at_both_ends(rate):
    stft = Stft.at(rate)
    assert rate < 1000 or 0.0079 < stft.step / rate < 0.009
    for n in (1, stft.size - 1, stft.size, 5 * stft.size + 17):
        x = torch.from_numpy(np.random.default_rng(n).standard_normal((2, n)))
        spectra = stft.analysed(x)
        assert spectra.shape == (stft.size // 2 + 1, 2, stft.frames(n))
        assert_close(stft.synthesised(spectra, n), x, atol=1e-12, rtol=0)


def test_spectra_are_those_of_nara_wpe():
    peer = pytest.importorskip("nara_wpe.utils")
    x = np.random.default_rng(0).standard_normal((2, 3001))
    wanted = torch.from_numpy(peer.stft(x, 512, 128).transpose(2, 0, 1))
    assert_close(Stft.at(16000).analysed(torch.from_numpy(x)), wanted, atol=1e-12, rtol=0)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data folder")
def test_a_meeting_recorded_by_eight_microphones_keeps_its_speech():
    channels = []
    for number in range(1, 9):
        with wave.open(str(DATA / "reverberant_real" / f"AMI_WSJ20-Array1-{number}_T10c0201.wav")) as file:
            channels.append(np.frombuffer(file.readframes(32000), "<i2"))
    observed = np.stack(channels)
    found = dereverb(observed, 16000)
    assert found.signal.dtype == np.int16 and found.signal.shape == observed.shape
    assert found.taps == 5 and 0.2 < found.energy < 1 and found.correlation > 0.5


def test_refusals():
    observed = recording(1, 0.5)[1][0]
    with pytest.raises(ShapeError, match=r"dereverb: method is 'wep', but one of wpe, .* was needed. Nearest: wpe"):
        dereverb(observed, RATE, "wep")
    for rate in (0, -16000, float("inf"), float("nan")):
        with pytest.raises(ShapeError, match=f"dereverb: rate is {rate}, but a number of samples a second"):
            dereverb(observed, rate)
    with pytest.raises(ShapeError, match=r"the signal is \(2, 0\), but \(n,\) or \(channels, n\)"):
        dereverb(np.zeros((2, 0)), RATE)
    with pytest.raises(ShapeError, match=r"the signal is \(1, 2, 3\)"):
        dereverb(np.zeros((1, 2, 3)), RATE)
    with pytest.raises(DtypeError, match=r"the signal is complex128, but real numbers"):
        dereverb(observed + 0j, RATE)
    with pytest.raises(DtypeError, match=r"the signal is torch.bool"):
        dereverb(torch.ones(9, dtype=torch.bool), RATE)
    with pytest.raises(DtypeError, match=r"samples are uint16, but floats or PCM"):
        dereverb(np.ones(99, np.uint16), RATE)
    with pytest.raises(ShapeError, match=r"the signal is not an array: .* Pass rows of one length"):
        dereverb([[1.0, 2.0], [3.0]], RATE)
    with pytest.raises(ShapeError, match=r"the signal is \(\), but \(n,\)"):
        dereverb(np.float64(3), RATE)
    with pytest.raises(DtypeError, match=r"signal is .*U"):
        dereverb("a recording", RATE)
    broken = np.stack([observed, observed])
    broken[1, 17:19] = np.nan
    with pytest.raises(NonFinite, match=r"samples came \(2 of 4000, the first at sample 17 of channel 1"):
        dereverb(broken, RATE)
    for name in ("taps", "delay", "iterations"):
        with pytest.raises(ShapeError, match=f"dereverb: {name} is 0, but 1 or more"):
            dereverb(observed, RATE, **{name: 0})
    for taps in ("many", 2.5, True):
        with pytest.raises(DtypeError, match=r"dereverb: taps is .* but 'auto' or a whole number"):
            dereverb(observed, RATE, taps=taps)
    with pytest.raises(ShapeError, match="block is 0"):
        dereverb(observed, RATE, "wpe-block", block=0)
    with pytest.raises(ShapeError, match="forgetting is 2"):
        dereverb(observed, RATE, "wpe-online", forgetting=2)
