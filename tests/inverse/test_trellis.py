"""Viterbi's algorithm and log-MAP on a trellis, against every sequence and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from oracles import trellis as oracle
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.solvers.forward_backward import bcjr, posterior_costs
from unconv.inverse.solvers.trellis import most_likely, viterbi
from unconv.inverse.solvers.trellis_blocks import lay_out, make_trellis

BPSK = np.array([-1.0, 1.0])
PROAKIS_B, PROAKIS_C = np.array([[0.407, 0.815, 0.407]]), np.array([[0.227, 0.46, 0.688, 0.46, 0.227]])
QPSK = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]) / np.sqrt(2)


def draw(taps, points, n, noise, seed=0, before=None, after=None):
    """Return the symbols' indices and what is observed: (P, n), or (P, n + L - 1) with after="silence"."""
    random = np.random.default_rng(seed)
    memory = taps.shape[1] - 1
    chosen = random.integers(0, len(points), n)
    head = None if before == "silence" else points[random.integers(0, len(points), memory)]
    clean = oracle.sent(taps, points[chosen], head, np.zeros(memory) if after == "silence" else None)
    error = random.standard_normal(clean.shape)
    if np.iscomplexobj(clean):
        error = (error + 1j * random.standard_normal(clean.shape)) / np.sqrt(2)
    return chosen, clean + noise * error


def channel(shape, seed, kind):
    random = np.random.default_rng(seed)
    taps = random.standard_normal(shape)
    return taps + 1j * random.standard_normal(shape) if kind == "complex" else taps


@pytest.mark.parametrize("before", ["unknown", "silence"])
@pytest.mark.parametrize("after", ["unknown", "silence"])
@pytest.mark.parametrize("kind, shape, size, n", [("real", (1, 3), 2, 7), ("complex", (2, 2), 3, 5), ("complex", (1, 2), 4, 4)])
def test_no_sequence_costs_less_than_viterbis(kind, shape, size, n, before, after):
    for seed in range(3):
        taps, points = channel(shape, seed, kind), channel(size, seed + 9, kind)
        _, y = draw(taps, points, n, 0.7, seed, before, after)
        costs = oracle.every_cost(y, taps, points, before, after)
        best = min(costs, key=costs.get)
        result = viterbi(y, taps, points, before=before, after=after)
        assert tuple(result.indices) == best
        assert_allclose(result.cost, costs[best])
        assert result.states == size ** (shape[1] - 1)


@pytest.mark.parametrize(
    "taps, points, noise", [(PROAKIS_B, BPSK, 0.5), (PROAKIS_C, BPSK, 0.4), (np.array([[0.6, 0.8j]]), QPSK, 0.5)]
)
def test_viterbi_in_blocks_is_viterbi_one_symbol_after_another(taps, points, noise):
    _, y = draw(taps, points, 700, noise)
    indices, cost = oracle.viterbi(y, taps, points)
    result = viterbi(y, taps, points)
    assert_array_equal(result.indices, indices)
    assert_allclose(result.cost, cost)


def decoded(y, taps, points, block, overlap, most=None, monkeypatch=None):
    trellis = make_trellis("here", torch.tensor(taps)[None], torch.tensor(points), torch.float64, 4096)
    observation = lay_out("here", torch.tensor(y)[None] if y.ndim == 2 else torch.tensor(y), trellis, "unknown", "unknown")
    if most is not None:
        monkeypatch.setattr("unconv.inverse.solvers.trellis_blocks._CACHE", 0)
        monkeypatch.setattr("unconv.inverse.solvers.trellis_blocks._ROOM", most * block * trellis.states)
    return most_likely(trellis, observation, block, overlap)[:, trellis.memory :]


@pytest.mark.parametrize("block, overlap", [(16, 0), (16, 3), (40, 7), (64, 64)])
@pytest.mark.parametrize("most", [None, 2, 5])
def test_no_block_and_no_overlap_changes_the_path(block, overlap, most, monkeypatch):
    """Blocks that are too short to begin right are walked again, and so are groups that guessed where their paths end."""
    y = np.stack([draw(PROAKIS_C, BPSK, 501, 0.6, seed)[1] for seed in range(3)])
    in_one_block = decoded(y, PROAKIS_C, BPSK, 501, 0)
    assert_array_equal(decoded(y, PROAKIS_C, BPSK, block, overlap, most, monkeypatch), in_one_block)


@pytest.mark.parametrize("most", [None, 2])
def test_survivors_that_never_merge_are_followed_from_the_start(most, monkeypatch):
    """Behind 1 + D, symbols that alternate are told from their negatives at the ends only."""
    taps, n = np.array([[1.0, 1.0]]), 400
    symbols = np.where(np.arange(n) % 2, 1.0, -1.0)
    symbols[-1] = symbols[-2]  # which the last sample tells
    y = oracle.sent(taps, symbols, np.array([1.0]))
    result = decoded(y, taps, BPSK, 20, 4, most, monkeypatch)
    assert_array_equal(BPSK[result[0]], symbols)


def test_known_symbols_before_and_after_are_those_of_a_longer_observation():
    random = np.random.default_rng(3)
    taps, points = channel((1, 4), 3, "complex"), channel(3, 4, "complex")
    indices = random.integers(0, 3, (2, 60))
    y = np.stack([oracle.sent(taps, points[row[3:]], points[row[:3]]) for row in indices])
    for q in (0, 1, 3, 6):
        result = viterbi(y, taps, points, before=indices[:, :3], after=indices[:, 60 - q :])
        assert_array_equal(result.indices, indices[:, 3 : 60 - q])
        assert_allclose(result.cost, 0, atol=1e-20)
    wrong = viterbi(y[0], taps, points, before=(indices[0, :3] + 1) % 3)
    assert wrong.cost > 0.1


@pytest.mark.parametrize("before", ["unknown", "silence"])
@pytest.mark.parametrize("after", ["unknown", "silence"])
def test_zero_taps_at_the_ends_cost_no_states_and_change_nothing(before, after):
    taps = np.array([[0.0, 0.0, 0.5, 0.9, 0.3, 0.0], [0.0, 0.0, 0.0, 0.2, 0.7, 0.0]])
    _, y = draw(taps, BPSK, 7, 0.4, 5, before, after)
    result = viterbi(y, taps, BPSK, before=before, after=after)
    costs = oracle.every_cost(y, taps, BPSK, before, after)
    assert result.states == 4
    assert_allclose(result.cost, min(costs.values()))
    seen = result.indices if after == "silence" else result.indices[:-2]
    assert tuple(seen) in {key[: len(seen)] for key, cost in costs.items() if cost < min(costs.values()) + 1e-9}
    assert after == "silence" or set(result.indices[-2:]) == {-1}


def test_a_single_tap_is_a_slicer():
    taps, points = np.array([[0.0, 2.0 - 1j]]), np.array([-3.0, -1, 1, 3])
    _, y = draw(taps, points, 40, 0.1)
    assert_array_equal(viterbi(y, taps, points, after="silence").indices, viterbi(y[:, 1:], taps[:, 1:], points).indices)


def test_each_signal_may_have_its_channel_and_axes_in_front_stay():
    taps = np.random.default_rng(1).standard_normal((2, 3, 1, 3))
    pairs = [[draw(taps[i, j], BPSK, 30, 0.2, 3 * i + j) for j in range(3)] for i in range(2)]
    y = np.array([[pair[1] for pair in row] for row in pairs])
    result = viterbi(y, taps, BPSK)
    assert result.indices.shape == (2, 3, 30) and result.cost.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = viterbi(y[i, j], taps[i, j], BPSK)
            assert_array_equal(result.indices[i, j], one.indices)
            assert_allclose(result.cost[i, j], one.cost)
    known = np.arange(12).reshape(2, 3, 2) % 2
    ended = viterbi(y, taps, BPSK, before=known)
    assert_array_equal(ended.indices[1, 2], viterbi(y[1, 2], taps[1, 2], BPSK, before=known[1, 2]).indices)
    posteriors = bcjr(y, taps, BPSK, 0.2, after=known)
    assert_allclose(posteriors[1, 2], bcjr(y[1, 2], taps[1, 2], BPSK, 0.2, after=known[1, 2]))


def test_channels_of_several_lengths_are_found_side_by_side():
    """Each costs the states that it needs, and has its own symbols that no sample shows."""
    taps = np.random.default_rng(1).standard_normal((5, 2, 4))
    taps[1, :, 3], taps[2, :, 0], taps[4, :, :2] = 0, 0, 0
    y = np.array([draw(each, BPSK, 700, 0.5, number)[1] for number, each in enumerate(taps)])
    known = np.arange(15).reshape(5, 3) % 2
    for ends in ({}, {"before": "silence"}, {"before": known}, {"after": "silence"}, {"after": known}):
        result, posteriors = viterbi(y, taps, BPSK, **ends), bcjr(y, taps, BPSK, 0.5, **ends)
        assert result.states == 8
        for number in range(5):
            own = {name: each if isinstance(each, str) else each[number] for name, each in ends.items()}
            one = viterbi(y[number], taps[number], BPSK, **own)
            assert_array_equal(result.indices[number], one.indices)
            assert_allclose(result.cost[number], one.cost)
            assert_allclose(posteriors[number], bcjr(y[number], taps[number], BPSK, 0.5, **own), atol=1e-8)


def test_many_bursts_each_with_its_channel_are_found_without_noise():
    taps = channel((3000, 1, 3), 0, "complex")
    random = np.random.default_rng(1)
    chosen = random.integers(0, 4, (3000, 40))
    padded = np.pad(QPSK[chosen], ((0, 0), (2, 2)))
    y = sum(taps[:, :, k, None] * padded[:, None, 2 - k : 44 - k] for k in range(3))
    result = viterbi(y, taps, QPSK, before="silence", after="silence")
    assert_array_equal(result.indices, chosen)
    assert_allclose(result.cost, 0, atol=1e-20)


@pytest.mark.parametrize("factor", [1e-25, 1e15])
def test_a_sequence_has_no_unit_also_in_single_precision(factor):
    _, y = draw(PROAKIS_B, BPSK, 300, 0.3)
    result = viterbi((factor * y).astype(np.float32), factor * PROAKIS_B, BPSK)
    assert_array_equal(result.indices, viterbi(y, PROAKIS_B, BPSK).indices)


def test_a_sequence_comes_in_the_kind_of_the_observation():
    _, y = draw(PROAKIS_B, BPSK, 50, 0.3)
    sequence = viterbi(torch.tensor(y).float(), PROAKIS_B, BPSK)
    assert isinstance(sequence.indices, torch.Tensor) and isinstance(sequence.cost, torch.Tensor)
    assert_array_equal(sequence.indices.numpy(), viterbi(y.tolist(), PROAKIS_B.tolist(), [-1, 1]).indices)


@pytest.mark.parametrize("before", ["unknown", "silence"])
@pytest.mark.parametrize("after", ["unknown", "silence"])
@pytest.mark.parametrize("kind, shape, size, n", [("real", (1, 3), 2, 6), ("complex", (2, 2), 3, 4)])
def test_posteriors_are_those_of_every_sequence_weighed(kind, shape, size, n, before, after):
    taps, points = channel(shape, 1, kind), channel(size, 9, kind)
    _, y = draw(taps, points, n, 0.7, 1, before, after)
    log_prior = np.random.default_rng(2).standard_normal((n, size))
    variance = 0.49 * (1 if kind == "complex" else 2)
    expected = oracle.every_posterior(y, taps, points, variance, before, after, log_prior)
    assert_allclose(bcjr(y, taps, points, 0.7, before=before, after=after, prior=log_prior), expected, atol=1e-9)
    plain = oracle.every_posterior(y, taps, points, variance, before, after, 0 * log_prior)
    assert_allclose(bcjr(y, taps, points, 0.7, before=before, after=after), plain, atol=1e-9)


@pytest.mark.parametrize("noise", [0.1, 0.6, 3.0])
def test_posteriors_in_blocks_are_those_of_one_walk_forwards_and_one_back(noise):
    _, y = draw(PROAKIS_B, BPSK, 500, noise)
    expected = oracle.log_map(y, PROAKIS_B, BPSK, 2 * noise**2)
    assert_allclose(bcjr(y, PROAKIS_B, BPSK, noise), expected, atol=1e-6, rtol=0)
    single = bcjr(y.astype(np.float32), PROAKIS_B, BPSK, noise)
    assert single.dtype == np.float32
    assert_allclose(np.exp(single), np.exp(expected), atol=2e-4)


@pytest.mark.parametrize("block, overlap", [(16, 0), (16, 3), (40, 9), (64, 64)])
@pytest.mark.parametrize("most", [None, 2, 5])
def test_no_block_and_no_overlap_changes_the_posteriors(block, overlap, most, monkeypatch):
    y = torch.tensor(np.stack([draw(PROAKIS_C, BPSK, 301, 0.6, seed)[1] for seed in range(3)]))
    trellis = make_trellis("here", torch.tensor(PROAKIS_C)[None], torch.tensor(BPSK), torch.float64, 4096, 0.72)
    observation = lay_out("here", y, trellis, "unknown", "silence")
    in_one_block = posterior_costs(trellis, observation, 301, 0)
    if most is not None:
        monkeypatch.setattr("unconv.inverse.solvers.trellis_blocks._CACHE", 0)
        monkeypatch.setattr("unconv.inverse.solvers.trellis_blocks._ROOM", most * block * trellis.states * 8)
    result = posterior_costs(trellis, observation, block, overlap)
    assert_allclose((-result).log_softmax(-1), (-in_one_block).log_softmax(-1), atol=1e-6, rtol=0)


def test_a_certain_prior_is_known_training_and_posteriors_sum_to_one():
    chosen, y = draw(PROAKIS_C, BPSK, 90, 1.0)
    certain = np.where(np.arange(2) == chosen[:30, None], 0.0, -np.inf)
    log_prior = np.concatenate([certain, np.zeros((60, 2))])
    result = bcjr(y, PROAKIS_C, BPSK, 1.0, prior=log_prior)
    assert_array_equal(result[:30].argmax(-1), chosen[:30])
    assert_allclose(np.exp(result).sum(-1), 1)
    # What is known up to symbol 29 is what begins a shorter observation.
    shorter = bcjr(y[:, 30:], PROAKIS_C, BPSK, 1.0, before=chosen[26:30])
    assert_allclose(result[30:], shorter, atol=1e-9)


def test_a_symbol_that_no_sample_shows_has_its_prior():
    _, y = draw(PROAKIS_B, BPSK, 40, 0.5)
    late = np.pad(PROAKIS_B, ((0, 0), (2, 0)))
    log_prior = np.log([0.2, 0.8])
    result = bcjr(y, late, BPSK, 0.5, prior=log_prior)
    assert_allclose(np.exp(result[-2:]), [[0.2, 0.8]] * 2)
    assert_allclose(np.exp(bcjr(y, late, BPSK, 0.5)[-2:]), 0.5)


def test_noise_of_each_sub_channel_weighs_it():
    taps = channel((2, 3), 0, "real")
    _, y = draw(taps, BPSK, 60, 0.3)
    result = bcjr(y, taps, BPSK, [0.3, 1e6])
    assert_allclose(result, bcjr(y[:1], taps[:1], BPSK, 0.3), atol=1e-6)
    each = [bcjr(np.stack([y, y]), np.stack([taps, other]), BPSK, 0.3) for other in (taps, 2 * taps)]
    assert_allclose(each[0][0], each[1][0])
    assert abs(each[0][1] - each[1][1]).max() > 0.1


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        ((0.0,), {}, "noise is 0.0, but a standard deviation above zero"),
        (([1.0, 1, 1],), {}, r"noise is \[1.0, 1, 1\], but"),
        ((1.0,), {"prior": np.zeros((5, 2))}, r"prior is \(5, 2\), but log probabilities \(2,\), \(20, 2\) or \(20, 2\)"),
        ((1.0,), {"prior": [np.nan, 0]}, "prior is .* without NaN or plus infinity"),
        ((1.0,), {"prior": [[0.0], [1, 2]]}, "prior is a ragged list"),
    ],
)
def test_noise_and_priors_that_make_no_sense_are_refused_in_words(arguments, options, words):
    with pytest.raises(ShapeError, match=f"^bcjr: .*{words}"):
        bcjr(Y, PROAKIS_B, BPSK, *arguments, **options)


Y = np.ones((1, 20))
REFUSED = {
    "a channel of zeros": ((Y, np.zeros((1, 3)), BPSK), {}, ShapeError, "all taps are zero, but a channel"),
    "one channel of zeros": ((np.ones((2, 1, 9)), [[[1.0, 1]], [[0, 0]]], BPSK), {}, ShapeError, "all taps are zero"),
    "NaN": ((np.full((1, 9), np.nan), PROAKIS_B, BPSK), {}, NonFinite, "observed has NaN"),
    "NaN in the taps": ((Y, [[1.0, np.nan]], BPSK), {}, NonFinite, "taps has NaN"),
    "one point": ((Y, PROAKIS_B, [1.0]), {}, ShapeError, r"points is \(1,\), but \(M,\) with two"),
    "points that are alike": ((Y, PROAKIS_B, [1.0, -1, 1]), {}, ShapeError, "3 symbols, some of them alike"),
    "words": ((Y, PROAKIS_B, ["a", "b"]), {}, DtypeError, "points is .*, but numbers were needed"),
    "more taps than samples": ((Y, np.ones((1, 30)), BPSK), {"after": "silence"}, ShapeError, r"2\^29 states|20 samples"),
    "too many states": (
        (Y, np.ones((1, 14)), BPSK),
        {},
        ShapeError,
        r"2 points and 14 taps make 2\^13 states, .* decision_fee",
    ),
    "no symbol": ((Y, np.ones((1, 3)), BPSK), {"after": [0] * 20}, ShapeError, "20 samples came for 3 taps"),
    "other sub-channels": ((Y, np.ones((2, 3)), BPSK), {}, ShapeError, r"observed is \(1, 20\) and taps \(2, 3\)"),
    "one axis": ((Y[0], PROAKIS_B, BPSK), {}, ShapeError, r"observed is \(20,\), but \(..., P, N\)"),
    "another word": ((Y, PROAKIS_B, BPSK), {"before": "zeros"}, ShapeError, "before is 'zeros', but 'unknown', 'silence'"),
    "few known symbols": ((Y, PROAKIS_B, BPSK), {"before": [1]}, ShapeError, "before has 1 symbol, but taps reach 2 back"),
    "an index outside": ((Y, PROAKIS_B, BPSK), {"after": [2]}, ShapeError, "after is .*, but indices 0 to 1"),
    "words for indices": ((Y, PROAKIS_B, BPSK), {"before": ["a", "b"]}, DtypeError, "before is .*, but numbers"),
    "None": ((Y, PROAKIS_B, BPSK), {"before": None}, DtypeError, "before is None"),
    "symbols for indices": ((Y, PROAKIS_B, BPSK), {"after": [-1.0]}, ShapeError, "after is torch.float64, but 'unknown'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(what):
    arguments, options, error, words = REFUSED[what]
    with pytest.raises(error, match=f"^viterbi: .*({words})"):
        viterbi(*arguments, **options)
