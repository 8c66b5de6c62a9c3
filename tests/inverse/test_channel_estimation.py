"""Channels from training: exact without noise, found wherever it stands, with deviations that hold, and refused in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.channel import constellation, estimate_channel

TAPS = np.array([0.2, 0.9 - 0.3j, -0.4, 0.15j])
QPSK, BPSK = constellation("qpsk").points.numpy(), constellation("bpsk").points.numpy()


def burst(taps=TAPS, noise=0.0, before=37, training=40, after=30, rate=1, points=QPSK, seed=0, signals=()):
    """Training among unknown symbols, and what is received of all: the training's first symbol is sent at `before`."""
    draw = np.random.default_rng(seed)
    sent = points[draw.integers(0, len(points), before + training + after)]
    fine = np.zeros(len(sent) * rate, sent.dtype)
    fine[::rate] = sent
    clean = np.convolve(fine, taps)[: len(fine)]
    extra = draw.standard_normal((*signals, len(fine)))
    if np.iscomplexobj(clean):
        extra = (extra + 1j * draw.standard_normal(extra.shape)) / np.sqrt(2)
    return sent[before : before + training], clean + noise * extra


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("points", [QPSK, BPSK], ids=["complex", "real"])
def test_without_noise_taps_and_offset_are_exact(rate, points):
    taps = TAPS if len(points) == 4 else TAPS.real + 0.3
    training, received = burst(taps, rate=rate, points=points)
    result = estimate_channel(received, training, 4, rate)
    assert result.offset == 37 * rate and result.notes == () and result.noise < 1e-12
    assert_close(result.taps, taps, atol=1e-12, rtol=0)
    assert_close(estimate_channel(received, training, 4, rate, offset=37 * rate).taps, taps, atol=1e-12, rtol=0)


def test_taps_are_least_squares_of_the_samples_that_only_training_reaches():
    training, received = burst(noise=0.3)
    result = estimate_channel(received, training, 4, offset=37)
    rows = np.array([[training[t - j] for j in range(4)] for t in range(3, 40)])
    solution, residual, *_ = np.linalg.lstsq(rows, received[40:77], rcond=None)
    assert_close(result.taps, solution)
    assert result.noise == pytest.approx(np.sqrt(residual[0] / (37 - 4)))
    wanted = result.noise * np.sqrt(np.diag(np.linalg.inv(rows.conj().T @ rows)).real)
    assert_close(result.deviation, wanted)


@pytest.mark.parametrize("points", [QPSK, BPSK], ids=["complex", "real"])
def test_noise_and_deviations_are_those_of_many_trials(points):
    taps = TAPS if len(points) == 4 else TAPS.real
    training, received = burst(taps, 0.2, points=points, signals=(400,))
    result = estimate_channel(received, training, 4, offset=37)
    assert float(np.mean(result.noise**2)) == pytest.approx(0.04, rel=0.03)
    off = np.mean(np.abs(result.taps - taps) ** 2, 0)
    assert_close(off, np.mean(result.deviation**2, 0), rtol=0.2, atol=0)


@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("before", [0, 5, 37])
def test_length_and_offset_are_estimated_together(before, rate):
    training, received = burst(noise=0.02, before=before, training=60, rate=rate)
    result = estimate_channel(received, training, samples_per_symbol=rate)
    assert result.offset == before * rate and result.taps.shape == (4,) and result.notes == ()
    assert np.abs(result.taps - TAPS).max() < 0.03


def test_taps_with_gaps_keep_their_zeros():
    taps = np.array([1.0, 0, 0, 0, 0, 0.5])
    training, received = burst(taps, 0.03, training=80, points=BPSK)
    result = estimate_channel(received, training)
    assert result.offset == 37 and np.abs(result.taps - taps).max() < 0.03


def test_a_length_by_bic_is_right_in_most_trials():
    lengths = [len(estimate_channel(*burst(noise=0.05, training=60, seed=s)[::-1], offset=37).taps) for s in range(40)]
    assert np.mean(np.array(lengths) == 4) > 0.9 and min(lengths) == 4


def test_signals_of_several_antennas_share_their_offset():
    training, received = burst(noise=0.5, signals=(3, 2))
    result = estimate_channel(received, training, 4)
    assert result.offset == 37 and result.taps.shape == (3, 2, 4) and result.noise.shape == (3, 2)
    assert_close(result.taps[2, 1], estimate_channel(received[2, 1], training, 4, offset=37).taps)


def test_estimates_come_in_the_kind_of_the_signal():
    training, received = burst()
    tensor = estimate_channel(torch.from_numpy(received).to(torch.complex64), training, 4)
    assert tensor.taps.dtype == torch.complex64 and tensor.deviation.dtype == torch.float32
    assert estimate_channel(received.astype(np.complex64), torch.from_numpy(training), 4).taps.dtype == np.complex64


def test_noise_alone_is_said_to_hold_no_training():
    draw = np.random.default_rng(0)
    training, _ = burst()
    for received in draw.standard_normal((5, 300)) + 1j * draw.standard_normal((5, 300)):
        for length in (4, "estimate"):
            assert "it may not be in the signal" in estimate_channel(received, training, length).notes[-1]
    for received in draw.standard_normal((5, 300)):
        assert "it may not be in the signal" in estimate_channel(received, training.real, 3).notes[-1]


def test_training_at_low_noise_is_not_doubted_even_if_it_is_short():
    for seed in range(20):
        assert estimate_channel(*burst(noise=0.1, training=20, seed=seed)[::-1], 4).notes == ()


def test_training_that_repeats_itself_tells_no_more_taps_apart_than_its_period():
    training = np.tile([1.0, -1.0, 1.0, 1.0, -1.0], 8)
    received = np.convolve(training, [0.5, 1.0])[:40]
    result = estimate_channel(received, training, offset=0)
    assert "determines only 5 taps" in result.notes[0] and result.taps == pytest.approx([0.5, 1.0])
    with pytest.raises(ShapeError, match="7 taps are to be estimated, but the training sequence determines only 5: it is"):
        estimate_channel(received, training, 7)


def test_refusals_of_channel_estimation():
    training, received = burst()
    cases = [
        (
            lambda: estimate_channel(received[:30], training),
            ShapeError,
            "40 training symbols at 1 sample each cannot fit, since received has 30 samples",
        ),
        (lambda: estimate_channel(received, training, 25), ShapeError, "1 to 20 taps can be estimated. Use a longer training"),
        (
            lambda: estimate_channel(received, np.ones(40), 2),
            ShapeError,
            "2 taps are to be estimated, but .* only 1: it is constant",
        ),
        (lambda: estimate_channel(received, np.ones(40)), ShapeError, "13 taps are to be estimated, but .* only 1:"),
        (lambda: estimate_channel(received.real, training), DtypeError, "training is complex and received is real"),
        (lambda: estimate_channel(0 * received, training), ShapeError, "received is silent"),
        (lambda: estimate_channel(received, 0 * training), ShapeError, "training is silent"),
        (lambda: estimate_channel(np.r_[received, np.nan], training), NonFinite, "received has NaN or infinite samples"),
        (lambda: estimate_channel(received, training, "auto"), ShapeError, "length is 'auto', but 'estimate'"),
        (lambda: estimate_channel(received, training, 2.5), DtypeError, "length is 2.5"),
        (lambda: estimate_channel(received, training, 4, offset=99), ShapeError, "offset is 99, but -3 to 67 was needed"),
        (lambda: estimate_channel(received, training, 4, offset="x"), ShapeError, "offset is 'x'"),
        (lambda: estimate_channel(received, training, 4, 0), ShapeError, "samples_per_symbol is 0"),
        (lambda: estimate_channel(received, training[:2]), ShapeError, "training has 2 symbols, but 3 or more"),
        (lambda: estimate_channel(received, training[None]), ShapeError, r"training is \(1, 40\)"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()
