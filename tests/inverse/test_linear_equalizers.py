"""Linear and decision-feedback equalisers of known channels: closed forms, measured errors, blocks against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.channel import (
    as_real,
    decision_feedback_equalizer,
    infinite_length,
    linear_equalizer,
    split_taps,
    subchannels,
)
from unconv.inverse.fields.channel.decision_feedback import _decided
from unconv.inverse.fields.channel.overlap_save import filtered

PROAKIS = {
    "A": np.array([[0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07]]),
    "B": np.array([[0.407, 0.815, 0.407]]),
    "C": np.array([[0.227, 0.46, 0.688, 0.46, 0.227]]),
}
PROAKIS = {name: taps / np.linalg.norm(taps) for name, taps in PROAKIS.items()}
BPSK = np.array([-1.0, 1.0])
QPSK = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]) / np.sqrt(2)
QAM16 = np.array([a + 1j * b for a in (-3, -1, 1, 3) for b in (-3, -1, 1, 3)]) / np.sqrt(10)


def level(snr):
    """The noise's standard deviation of a channel of energy 1, by Eb/N0 in dB."""
    return np.sqrt(0.5 * 10 ** (-snr / 10))


def random_channel(shape, seed=0, kind="real"):
    random = np.random.default_rng(seed)
    taps = random.standard_normal(shape) / np.sqrt(shape[0] * shape[1])
    return taps + 1j * random.standard_normal(shape) / np.sqrt(shape[0] * shape[1]) if kind == "complex" else taps


def link(taps, points, n, noise, seed=0):
    """Symbols' indices (n,) and what is observed of them, (P, n)."""
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(points), n)
    clean = np.stack([np.convolve(points[chosen], row)[:n] for row in taps])
    error = random.standard_normal(clean.shape)
    if np.iscomplexobj(clean):
        error = (error + 1j * random.standard_normal(clean.shape)) / np.sqrt(2)
    return chosen, clean + noise * error


@pytest.mark.parametrize("snr", [8, 10])
@pytest.mark.parametrize("name", PROAKIS)
def test_equalisers_of_some_taps_come_within_a_thousandth_of_endless_ones(name, snr):
    endless = infinite_length(PROAKIS[name], level(snr))
    assert 0 < linear_equalizer(PROAKIS[name], level(snr), 31).error - endless.linear < 1e-3
    assert 0 < decision_feedback_equalizer(PROAKIS[name], level(snr), 24).error - endless.feedback < 1e-3
    assert linear_equalizer(PROAKIS[name], level(snr)).error <= 1.01 * endless.linear
    assert decision_feedback_equalizer(PROAKIS[name], level(snr)).error <= 1.01 * endless.feedback


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_best_delay_is_the_best_of_all_and_errors_are_those_of_dense_algebra(kind, parts):
    h, noise, length = random_channel((parts, 4), 1, kind), 0.3, 6
    matrix = np.zeros((parts * length, length + 3), h.dtype)
    for p in range(parts):
        for f in range(length):
            matrix[p * length + f, f : f + 4] = h[p]
    errors, fed = [], []
    for delay in range(length + 3):
        covariance = matrix @ matrix.conj().T + noise**2 * np.eye(parts * length)
        column = matrix[:, delay]
        errors.append(1 - (column.conj() @ np.linalg.solve(covariance, column)).real)
        rest = np.delete(matrix, range(delay + 1, min(delay + 3, length + 3)), 1)
        covariance = rest @ rest.conj().T + noise**2 * np.eye(parts * length)
        fed.append(1 - (column.conj() @ np.linalg.solve(covariance, column)).real)
        assert_allclose(linear_equalizer(h, noise, length, delay).error, errors[-1])
        assert_allclose(decision_feedback_equalizer(h, noise, length, 2, delay).error, fed[-1])
    assert linear_equalizer(h, noise, length).delay == np.argmin(errors)
    assert decision_feedback_equalizer(h, noise, length, 2).delay == np.argmin(fed)


@pytest.mark.parametrize("points, kind", [(BPSK, "real"), (QAM16, "complex")])
def test_the_error_foretold_is_the_error_measured(points, kind):
    h = random_channel((2, 4), 2, kind)
    chosen, y = link(h, points, 40000, 0.3)
    result = linear_equalizer(h, 0.3)
    inner = slice(50, -50)
    error = (result.equalized(y, unbiased=False) - points[chosen])[inner]
    assert_allclose(np.mean(np.abs(error) ** 2), result.error, rtol=0.05)
    assert_allclose(result.gain, 1 - result.error, atol=1e-9)
    soft = result.equalized(y)[inner]
    assert_allclose(np.mean(soft * points[chosen][inner].conj()), 1, atol=0.02)
    back = decision_feedback_equalizer(h, 0.05)
    chosen, y = link(h, points, 40000, 0.05)
    soft, indices = back.equalized(y, points)
    assert np.mean(indices != chosen) < 1e-3
    assert_allclose(np.mean(np.abs(soft * back.gain - points[chosen])[inner] ** 2), back.error, rtol=0.1)


def test_noise_of_each_sub_channel_weighs_it():
    h = random_channel((2, 3))
    alone = linear_equalizer(h[:1], 0.2, 12)
    both = linear_equalizer(h, [0.2, 1e4], 12)
    assert_allclose(both.error, alone.error, rtol=1e-6)
    assert linear_equalizer(h, [0.2, 0.2], 12).error < alone.error
    assert_allclose(linear_equalizer(h, 0.2, 12).taps, linear_equalizer(h, [0.2, 0.2], 12).taps)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("length", [4, 7, None])
def test_zero_forcing_at_two_samples_a_symbol_inverts_exactly_without_noise(kind, length):
    h = split_taps(random_channel((1, 10), 4, kind)[0], 2)
    chosen, y = link(h, QPSK if kind == "complex" else BPSK, 200, 0.0)
    result = linear_equalizer(h, 0.0, length, criterion="zero-forcing")
    assert result.error < 1e-20 and result.criterion == "zero-forcing"
    soft = result.equalized(y, 180)
    assert_allclose(soft, (QPSK if kind == "complex" else BPSK)[chosen[:180]], atol=1e-9)


def test_zero_forcing_of_one_sub_channel_comes_to_the_endless_error_and_says_what_it_leaves():
    result = linear_equalizer(PROAKIS["A"], level(10), 120, criterion="zero-forcing")
    assert_allclose(result.error, infinite_length(PROAKIS["A"], level(10)).zero_forcing, rtol=0.01)
    assert 0 < result.interference < 1e-3 < result.error
    assert result.error > linear_equalizer(PROAKIS["A"], level(10), 120).error
    with pytest.raises(ShapeError, match=r"zero forcing leaves interference of .* the channel has spectral nulls"):
        linear_equalizer([[1.0, 2.0, 1.0]], 0.1, 8, criterion="zero-forcing")


def test_a_symbol_stands_at_its_own_index_whatever_the_delay():
    h = random_channel((1, 3))
    chosen, y = link(h, BPSK, 300, 0.01)
    for delay in (2, 7, 12):
        soft = linear_equalizer(PROAKIS["A"][:, 4:7], 0.01, 30, delay).equalized(
            np.convolve(BPSK[chosen], PROAKIS["A"][0, 4:7])[None, :300], 280
        )
        assert np.corrcoef(soft, BPSK[chosen[:280]])[0, 1] > 0.5
    soft, indices = decision_feedback_equalizer(h, 0.05).equalized(y, BPSK)
    assert soft.shape == indices.shape == (300,)
    assert_array_equal(indices[:280], chosen[:280])


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("length, count", [(1, 700), (5, 3000), (300, 3000)])
def test_filtering_in_blocks_is_convolution(kind, length, count):
    y, taps = random_channel((3, 3000), 1, kind), random_channel((3, length), 2)
    full = sum(np.convolve(row, tap) for row, tap in zip(y, taps, strict=True))
    for first in (0, 13, -4):
        wanted = np.concatenate([np.zeros(4), full, np.zeros(3000)])[first + 4 :][:count]
        assert_allclose(filtered(torch.tensor(y), torch.tensor(taps), first, count), wanted, atol=1e-12)


def plain_feedback(result, y, points, count):
    """Decide one symbol after another."""
    taps, feedback = result.forward / result.gain, result.feedback / result.gain
    decided, soft, indices = np.zeros(count + len(feedback), np.result_type(points, y)), [], []
    for i in range(count):
        z = 0
        for p in range(len(taps)):
            for f in range(taps.shape[1]):
                t = i + result.delay - f
                z += taps[p, f] * y[p, t] if 0 <= t < y.shape[1] else 0
        z -= sum(feedback[q] * decided[i - 1 - q + len(feedback)] for q in range(len(feedback)))
        soft.append(z)
        indices.append(int(np.argmin(np.abs(z - points))))
        decided[i + len(feedback)] = points[indices[-1]]
    return np.array(soft), np.array(indices)


@pytest.mark.parametrize(
    "points, kind, parts, noise", [(BPSK, "real", 1, 0.7), (QAM16, "complex", 2, 0.2), (BPSK, "complex", 1, 0.6)]
)
def test_decisions_fed_back_are_those_of_plain_loops(points, kind, parts, noise):
    h = PROAKIS["C"] if kind == "real" else random_channel((parts, 3), 3, kind)
    _, y = link(h, points, 220, noise)
    result = decision_feedback_equalizer(h, noise, 6)
    soft, indices = result.equalized(y, points, 210)
    plain_soft, plain_indices = plain_feedback(result, y, points, 210)
    assert_array_equal(indices, plain_indices)
    assert_allclose(soft, plain_soft, atol=1e-9)


@pytest.mark.parametrize("block", [8, 33, 200])
@pytest.mark.parametrize("most", [None, 100])
def test_no_block_changes_the_decisions(block, most, monkeypatch):
    """At this noise decisions are often wrong, and blocks begin with other ones than their neighbours ended with."""
    if most is not None:
        monkeypatch.setattr("unconv.inverse.fields.channel.decision_feedback._ROOM", most)
    result = decision_feedback_equalizer(PROAKIS["C"], level(2))
    y = np.stack([link(PROAKIS["C"], BPSK, 1001, level(2), seed)[1] for seed in range(3)])
    ahead = filtered(torch.tensor(y), torch.tensor(result.forward), result.delay, 1001)
    feedback, points = torch.tensor(result.feedback), torch.tensor(BPSK)
    sequential = _decided(ahead, feedback, points, 1001)
    monkeypatch.setattr("unconv.inverse.fields.channel.decision_feedback._OVERLAP", 1)
    parallel = _decided(ahead, feedback, points, block)
    assert_array_equal(parallel[1], sequential[1])
    assert_allclose(parallel[0], sequential[0], atol=1e-9)


def test_without_feedback_taps_decisions_are_those_of_the_linear_equaliser():
    _, y = link(PROAKIS["A"], BPSK, 3000, 0.2)
    result = decision_feedback_equalizer(PROAKIS["A"], 0.2, 20, 0)
    straight = linear_equalizer(PROAKIS["A"], 0.2, 20)
    assert_allclose(result.error, straight.error)
    assert result.feedback.shape == (0,)
    soft, indices = result.equalized(y, BPSK)
    assert_allclose(soft, straight.equalized(y), atol=1e-9)
    assert_array_equal(indices, soft > 0)


def test_feedback_gains_where_a_spectrum_has_nulls_and_costs_nothing_where_it_has_none():
    for name in PROAKIS:
        noise = level(12)
        assert decision_feedback_equalizer(PROAKIS[name], noise, 24).error <= linear_equalizer(PROAKIS[name], noise, 24).error
    assert_allclose(decision_feedback_equalizer([[1.0]], 0.5, 3).error, 0.2)
    assert_allclose(linear_equalizer([[1.0]], 0.5, 3).error, 0.2)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_soft_symbols_come_in_the_kind_and_precision_of_the_observation(kind):
    result = linear_equalizer(PROAKIS["A"], 0.1)
    _, y = link(PROAKIS["A"], BPSK, 400, 0.1)
    assert result.equalized(y.astype(kind)).dtype == kind
    tensor = result.equalized(torch.tensor(y.astype(kind))[None])
    assert isinstance(tensor, torch.Tensor) and tensor.shape == (1, 400)
    soft, indices = decision_feedback_equalizer(torch.tensor(PROAKIS["A"]), 0.1).equalized(y.astype(kind), BPSK)
    assert soft.dtype == kind and indices.dtype == np.int64
    assert_allclose(soft, decision_feedback_equalizer(PROAKIS["A"], 0.1).equalized(y, BPSK)[0], atol=1e-4)


def test_sub_channels_of_an_oversampled_link_are_what_their_taps_send():
    random = np.random.default_rng(0)
    symbols, pulse = random.standard_normal((2, 21)), random.standard_normal(8)
    spread = np.zeros((2, 63))
    spread[:, ::3] = symbols
    received = np.stack([np.convolve(row, pulse) for row in spread])
    parts, taps = subchannels(received, 3), split_taps(pulse, 3)
    assert parts.shape == (2, 3, 24) and taps.shape == (3, 3)
    for row, part in zip(symbols, parts, strict=True):
        for p in range(3):
            assert_allclose(part[p, :23], np.convolve(row, taps[p]), atol=1e-12)


def test_bpsk_behind_a_complex_channel_is_two_real_sub_channels():
    h = random_channel((1, 3), 5, "complex")
    chosen, y = link(h, BPSK, 3000, 0.4)
    real, taps = as_real(y, h)
    assert real.shape == (2, 3000) and taps.shape == (2, 3) and not np.iscomplexobj(real)
    widely = linear_equalizer(taps, 0.4 / np.sqrt(2), 20)
    both = [
        np.mean((soft.real - BPSK[chosen]) ** 2)
        for soft in (widely.equalized(real, unbiased=False), linear_equalizer(h, 0.4, 20).equalized(y, unbiased=False))
    ]
    assert_allclose(both[0], widely.error, rtol=0.05)
    assert both[0] < both[1]


H = PROAKIS["B"]
REFUSED = {
    "zeros": (linear_equalizer, (np.zeros((1, 3)), 0.1), ShapeError, r"taps is \(1, 3\), all zeros, but"),
    "NaN": (linear_equalizer, ([[np.nan]], 0.1), NonFinite, "taps has NaN"),
    "words": (linear_equalizer, ("B", 0.1), DtypeError, "taps is 'B'"),
    "no noise": (linear_equalizer, (H, 0.0), ShapeError, "noise is 0.0, but more than 0 was needed. Or pass criterion="),
    "noises": (linear_equalizer, (H, [0.1, 0.2]), ShapeError, "noise is .*one number, or one for each of 1 sub-channel"),
    "below zero": (linear_equalizer, (H, -1.0), ShapeError, "noise is -1.0, but its standard deviation"),
    "no taps": (linear_equalizer, (H, 0.1, 0), ShapeError, "length is 0, but 1 or more"),
    "half a tap": (linear_equalizer, (H, 0.1, 2.5), ShapeError, "length is 2.5, but 1 or more"),
    "a delay outside": (linear_equalizer, (H, 0.1, 5, 7), ShapeError, "delay is 7, but 0 to 6 symbols"),
    "a word for a delay": (linear_equalizer, (H, 0.1, 5, "least"), ShapeError, "delay is 'least', but 'best'"),
    "a criterion": (linear_equalizer, (H, 0.1, 5, 1, "zf"), ShapeError, "criterion is 'zf', but 'mmse' or 'zero-forcing'"),
    "no noise fed back": (decision_feedback_equalizer, (H, 0.0), ShapeError, "noise is 0.0, but more than 0"),
    "no forward taps": (decision_feedback_equalizer, (H, 0.1, 0), ShapeError, "forward is 0, but 1 or more"),
    "less than no feedback": (decision_feedback_equalizer, (H, 0.1, 3, -1), ShapeError, "feedback is -1, but 0 or more"),
    "samples a symbol": (subchannels, ([1.0], 0), ShapeError, "samples_per_symbol is 0, but 1 or more"),
    "an empty signal": (subchannels, ([], 2), ShapeError, r"received is \(0,\), but"),
    "a number": (split_taps, (1.0, 2), ShapeError, r"taps is \(\), but"),
    "a vector": (as_real, ([1.0], [[1.0]]), ShapeError, r"observed is \(1,\), but \(..., P, N\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_designs_that_make_no_sense_are_refused_in_words(what):
    function, given, error, words = REFUSED[what]
    with pytest.raises(error, match=f"^{function.__name__}: .*{words}"):
        function(*given)


@pytest.mark.parametrize(
    "given, options, error, words",
    [
        ((np.ones((2, 9)),), {}, ShapeError, r"observed is \(2, 9\) and count is 9, but \(..., 1, N\)"),
        ((np.ones((1, 9)),), {"count": 10}, ShapeError, "count is 10, but"),
        ((np.full((1, 9), np.inf),), {}, NonFinite, "observed has NaN or infinite"),
    ],
)
def test_observations_that_do_not_fit_are_refused_in_words(given, options, error, words):
    with pytest.raises(error, match=f"^equalized: .*{words}"):
        linear_equalizer(H, 0.1).equalized(*given, **options)
    with pytest.raises(error, match=f"^equalized: .*{words}"):
        decision_feedback_equalizer(H, 0.1).equalized(*given, BPSK, **options)
    with pytest.raises(ShapeError, match="points has 2 symbols, some of them alike"):
        decision_feedback_equalizer(H, 0.1).equalized(np.ones((1, 9)), [1.0, 1.0])
