"""Constellations against their own definitions and slow oracles, and error rates against scipy."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import binomtest
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import bcjr
from unconv.inverse.fields.channel import (
    align,
    bit_error_rate,
    constellation,
    mean_squared_error,
    symbol_error_rate,
)

GRAY = ("bpsk", "qpsk", "8psk", "16psk", "4pam", "8pam", "8qam", "16qam", "64qam", "256qam")
CROSS = ("32qam", "128qam", "512qam")
OWN = [1 + 0j, -1, 1j, -0.5 - 0.5j]


def noisy(points, shape=(3, 50), noise=0.5, seed=0):
    draw = np.random.default_rng(seed)
    chosen = np.asarray(points)[draw.integers(0, len(points), shape)]
    extra = draw.standard_normal(shape) + (1j * draw.standard_normal(shape) if np.iscomplexobj(chosen) else 0)
    return chosen + noise * extra


@pytest.mark.parametrize("name", GRAY)
def test_nearest_neighbours_of_a_gray_set_differ_in_one_bit(name):
    table = constellation(name)
    points, labels = table.points.numpy(), table.labels.numpy()
    apart = np.abs(points[:, None] - points) + np.where(np.eye(len(points)), np.inf, 0)
    near = apart < apart.min() * (1 + 1e-9)
    assert ((labels[:, None] != labels).sum(-1)[near] == 1).all() and near.any(1).all()
    assert table.neighbour_bits == 1 and table.spacing == pytest.approx(apart.min())


@pytest.mark.parametrize("name, penalty", [("32qam", 15 / 13), ("128qam", 1.069), ("512qam", 1.033)])
def test_a_cross_has_distinct_points_without_corners_and_is_nearly_gray(name, penalty):
    table = constellation(name)
    odd = np.round(table.points.numpy() / table.spacing * 2)
    assert len(set(odd)) == len(odd) and (odd.real % 2 == 1).all() and (odd.imag % 2 == 1).all()
    reach, corner = odd.real.max(), np.minimum(np.abs(odd.real), np.abs(odd.imag)).max()
    assert odd.imag.max() == reach and ((np.abs(odd.real) <= corner) | (np.abs(odd.imag) <= corner)).all()
    assert table.neighbour_bits == pytest.approx(penalty, abs=0.001)
    assert len(table.rotations) == 4


@pytest.mark.parametrize("name", GRAY + CROSS)
def test_symbols_have_power_one_and_give_back_their_bits(name):
    table = constellation(name)
    assert table.power == pytest.approx(1) and table.points.is_complex() == (name[-3:] != "pam" and name != "bpsk")
    assert table.labels.shape == (len(table.points), table.bits_per_symbol)
    bits = np.random.default_rng(1).integers(0, 2, (2, 40 * table.bits_per_symbol))
    symbols = table.modulate(bits)
    assert symbols.shape == (2, 40)
    indices = table.nearest(symbols)
    assert_close(table.bits(indices), bits)
    assert_close(table.indices_of(symbols), indices)
    assert_close(table.symbols(indices), symbols)
    # Their index is their bits, read as a number.
    assert indices[0, 0] == int("".join(map(str, bits[0, : table.bits_per_symbol])), 2)


def test_zeros_are_sent_to_the_right_and_bpsk_sends_one_as_minus_one():
    assert constellation("bpsk").modulate([0, 1]).tolist() == [1, -1]
    assert_close(constellation("QPSK").modulate([0, 0, 0, 1]), np.array([1 + 1j, 1 - 1j]) / 2**0.5)
    assert_close(constellation("pam4").modulate([0, 0, 0, 1, 1, 1, 1, 0]), np.array([3, 1, -1, -3]) / 5**0.5)


@pytest.mark.parametrize("name", ["bpsk", "8pam", "8psk", "8qam", "16qam", "128qam", OWN], ids=str)
def test_decisions_are_the_nearest_of_all_points(name):
    table = constellation(name)
    soft = noisy(table.points.numpy(), (4, 500))
    wanted = np.abs(soft[..., None] - table.points.numpy()).argmin(-1)
    assert_close(table.nearest(soft), wanted)
    assert_close(table.nearest(torch.from_numpy(soft)), torch.from_numpy(wanted))


@pytest.mark.parametrize("name", ["bpsk", "4pam", "qpsk", "8psk", "8qam", "16qam", "32qam", OWN], ids=str)
@pytest.mark.parametrize("variance", [0.3, 1e-3])
def test_ratios_are_those_of_bayes_rule(name, variance):
    table = constellation(name)
    soft = noisy(table.points.numpy())
    width = variance if np.iscomplexobj(soft) else 2 * variance
    log = -(np.abs(soft[..., None] - table.points.numpy()) ** 2) / width
    zero = table.labels.numpy() == 0
    wanted = [logsumexp(log[..., side], -1) - logsumexp(log[..., ~side], -1) for side in zero.T]
    wanted = np.stack(wanted, -1).reshape(3, -1)
    assert_close(table.llr(soft, variance), wanted, atol=1e-9, rtol=1e-9)
    assert_close(table.llr_from_posteriors(log - 7), wanted, atol=1e-9, rtol=1e-9)


def test_ratios_of_bpsk_are_two_y_over_the_variance_in_real_noise_and_four_in_complex():
    table, y = constellation("bpsk"), np.array([0.3, -2.0])
    assert_close(table.llr(y, 0.5), 2 * y / 0.5)
    assert_close(table.llr(y + 0.7j, np.array([0.5, 2.0])), 4 * y / np.array([0.5, 2.0]))
    single = table.llr(torch.tensor([0.3]), 0.5)
    assert single.dtype == torch.float32 and float(single) == pytest.approx(1.2)


@pytest.mark.parametrize("name", ["4pam", "8psk"])
def test_posteriors_of_a_channel_of_one_tap_have_the_ratios_of_soft_symbols(name):
    table = constellation(name)
    soft = noisy(table.points.numpy(), (40,))
    posteriors = bcjr(soft[None], [[1.0]], table.points.numpy(), 0.6)
    assert_close(table.llr_from_posteriors(posteriors), table.llr(soft, 0.36), atol=1e-9, rtol=1e-9)


def test_the_sign_of_a_ratio_is_the_bit_without_noise():
    table = constellation("64qam")
    bits = np.random.default_rng(0).integers(0, 2, 600)
    assert_close((table.llr(table.modulate(bits), 0.01) < 0).astype(np.int64), bits)


def test_a_variance_for_each_signal_is_taken():
    table = constellation("16qam")
    soft = noisy(table.points.numpy(), (2, 9))
    both = table.llr(soft, np.array([[0.1], [0.4]]))
    assert_close(both[1], table.llr(soft[1], 0.4))


@pytest.mark.parametrize(
    "name, angles",
    [("bpsk", 2), ("4pam", 2), ("qpsk", 4), ("8psk", 8), ("8qam", 2), ("16qam", 4), ([1.0, 2.0], 1), (OWN[:3], 1)],
    ids=str,
)
def test_rotations_turn_the_set_into_itself_and_there_are_as_many_as_it_has(name, angles):
    table = constellation(name)
    assert_close(torch.tensor(table.rotations), 2 * pi * torch.arange(angles) / angles)
    for angle in table.rotations:
        turned = table.points.numpy() * np.exp(1j * angle)
        assert np.abs(turned[:, None] - table.points.numpy()).min(1).max() < 1e-9


@pytest.mark.parametrize("name", ["16qam", "QAM16", "qam-16", "16-QAM", " Qam_16 "])
def test_names_are_read_however_they_are_written(name):
    assert constellation(name).name == "16qam" and len(constellation(name).points) == 16


@pytest.mark.parametrize(
    "name, known", [("psk2", "bpsk"), ("2PAM", "bpsk"), ("4-qam", "qpsk"), ("psk4", "qpsk"), ("4ask", "4pam")]
)
def test_sets_of_several_names_have_one(name, known):
    assert constellation(name).name == known
    assert_close(constellation(name).points, constellation(known).points)


def test_the_size_of_a_set_changes_no_decision():
    for size in (1e-30, 1e30):
        assert constellation(size * np.array([1.0, 2, 4])).nearest(size * np.array([1.4, 1.6, 9])).tolist() == [0, 1, 2]


def test_a_set_of_ones_own_stays_as_it_is_and_has_bits_if_it_can():
    table = constellation([3.0, 1.0, -1.0])
    assert table.points.tolist() == [3, 1, -1] and constellation(table) is table and "3 points" in repr(table)
    assert table.nearest([2.2, -9.0]).tolist() == [0, 2]
    with pytest.raises(ShapeError, match="the constellation has 3 points, but a power of two was needed for bits"):
        table.modulate([0, 1])
    assert constellation(OWN).labels.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_refusals_of_constellations():
    qpsk = constellation("qpsk")
    for wrong, words in [("16qma", "Nearest: 16qam"), ("12qam", "power of two up to 4,096"), ("bpks", "Nearest: bpsk")]:
        with pytest.raises(ShapeError, match=words):
            constellation(wrong)
    with pytest.raises(ShapeError, match="two of the points are equal"):
        constellation([1.0, 1.0])
    with pytest.raises(ShapeError, match=r"points is \(1,\)"):
        constellation([1.0])
    with pytest.raises(ShapeError, match=r"the symbol at \(1, 0\) is 1\+0j, but points of qpsk .*Nearest: 0.7071"):
        qpsk.indices_of([[0.5**0.5 * (1 + 1j)], [1 + 0j]])
    with pytest.raises(DtypeError, match=r"soft is real, but qpsk is complex.*use bpsk"):
        qpsk.nearest([1.0])
    with pytest.raises(NonFinite, match="nearest: soft has NaN or infinite"):
        qpsk.nearest([1j, np.nan])
    with pytest.raises(ShapeError, match=r"bits has 3 bits, but qpsk takes 2 per symbol. Append 1 bit\."):
        qpsk.modulate([0, 1, 0])
    with pytest.raises(ShapeError, match="bits is 2 at 1, but bits, 0 or 1"):
        qpsk.modulate([0, 2])
    with pytest.raises(ShapeError, match="indices is 4 at 0, but integers from 0 to 3"):
        qpsk.symbols([4])
    with pytest.raises(ShapeError, match="variance is 0, but"):
        qpsk.llr([1j], 0)
    with pytest.raises(ShapeError, match=r"variance is \(3,\), but one number, or one for each of the \(2, 2\)"):
        qpsk.llr(np.ones((2, 2), complex), np.ones(3))
    with pytest.raises(ShapeError, match=r"log_posteriors is \(2, 3\), torch.float64, but real \(\.\.\., n, 4\)"):
        qpsk.llr_from_posteriors(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="all points of a symbol have probability zero"):
        qpsk.llr_from_posteriors(np.full((2, 4), -np.inf))


@pytest.mark.parametrize("errors, n", [(1, 50), (20, 1000), (49, 50), (3, 10**6)])
def test_intervals_are_wilsons(errors, n):
    wrong = np.arange(n) < errors
    result = bit_error_rate(np.zeros(n, int), wrong)
    wanted = binomtest(errors, n).proportion_ci(method="wilson")
    assert (result.errors, result.count, result.rate) == (errors, n, errors / n)
    assert (result.low, result.high) == pytest.approx((wanted.low, wanted.high))
    assert f"{errors:,} of {n:,}" in str(result)


def test_no_errors_bound_the_rate_by_three_over_the_count():
    result = bit_error_rate(np.zeros(1000, int), np.zeros(1000, bool))
    assert (result.rate, result.low) == (0, 0) and result.high == pytest.approx(3 / 1000, rel=0.01)
    assert str(result) == "below 0.003 (none of 1,000)"
    every = bit_error_rate(np.zeros(1000, int), np.ones(1000, int))
    assert (every.rate, every.high) == (1, 1) and every.low == pytest.approx(1 - result.high)


def test_symbols_and_indices_have_the_same_error_rate():
    table, draw = constellation("16qam"), np.random.default_rng(0)
    sent, decided = draw.integers(0, 16, (2, 3, 500))
    for kind in (lambda x: x, table.symbols, lambda x: torch.from_numpy(table.symbols(x)).to(torch.complex64)):
        assert symbol_error_rate(kind(sent), kind(decided)).errors == (sent != decided).sum()


def test_mean_squared_errors_are_told_in_decibels_of_the_power_sent():
    sent = 2 * constellation("qpsk").modulate([0, 1] * 50)
    result = mean_squared_error(sent, sent + 0.2j)
    assert (result.value, result.decibels, result.count) == (pytest.approx(0.04), pytest.approx(-20), 50)
    assert mean_squared_error(sent, sent).decibels == -np.inf


@pytest.mark.parametrize("delay", [-7, 0, 12])
def test_sequences_are_brought_together_whichever_comes_first(delay):
    sent = noisy(constellation("qpsk").points.numpy(), (300,), 0, seed=3)
    late = np.concatenate([noisy([1j, -1j], (max(delay, 0),), 0, seed=4), -1j * sent[max(-delay, 0) :]])[:290]
    result = align(sent, late + 0.1 * noisy([0j], late.shape))
    assert result.delay == delay and result.factor == pytest.approx(-1j, abs=0.05) and result.likeness > 0.95
    assert len(result.sent) == len(result.decided) and np.abs(result.decided + 1j * result.sent).max() < 0.5
    assert align(sent, late, most=12).delay == delay


def test_refusals_of_rates():
    table, draw = constellation("qpsk"), np.random.default_rng(0)
    symbols = table.symbols(draw.integers(0, 4, 100))
    with pytest.raises(ShapeError, match=r"\(100,\) were sent but \(99,\) were decided"):
        symbol_error_rate(symbols, symbols[1:])
    with pytest.raises(ShapeError, match=r"symbols equal to those sent were needed\. They look like soft symbols"):
        symbol_error_rate(symbols, noisy(symbols, (100,), 0.3))
    with pytest.raises(DtypeError, match="both indices, or both points"):
        symbol_error_rate(np.zeros(100, int), symbols)
    with pytest.raises(DtypeError, match=r"decided_bits is an array of .* Decide log-likelihood ratios first"):
        bit_error_rate(np.zeros(3, int), np.zeros(3))
    with pytest.raises(ShapeError, match="sent is all zeros"):
        mean_squared_error(np.zeros(3), np.ones(3))
    with pytest.raises(ShapeError, match=r"but at least 0\.[0-9]+ was needed, which unrelated symbols do not reach"):
        align(symbols, table.symbols(draw.integers(0, 4, 100)))
    with pytest.raises(ShapeError, match=r"align: sent is \(3,\).* of 26 or more"):
        align(np.ones(3), np.ones(30))
