"""Equalisers in the frequency domain: exact inverses without noise, the closed forms of their errors, and nulls by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.channel import (
    Pilots,
    constellation,
    infinite_length,
    mean_squared_error,
    ofdm_equalize,
    overlap_fde,
    single_carrier_fde,
    split_taps,
)

CHANNEL = np.array([0.2, 0.9 - 0.3j, -0.4, 0.15j])
PROAKIS_A = np.array([0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07])


def symbols(n, name="qpsk", seed=0):
    table = constellation(name)
    return table.symbols(np.random.default_rng(seed).integers(0, len(table.points), n))


def noisy(clean, noise, seed=5):
    draw = np.random.default_rng(seed)
    if not np.iscomplexobj(clean):
        return clean + noise * draw.standard_normal(clean.shape)
    return clean + noise / 2**0.5 * (draw.standard_normal(clean.shape) + 1j * draw.standard_normal(clean.shape))


def blocks(sent, block, prefix, channel, rate=1):
    """Each block behind a copy of its end, through the channel."""
    rows = sent.reshape(-1, block)
    line = np.hstack([rows[:, block - prefix :], rows]).ravel()
    fine = np.zeros(len(line) * rate, line.dtype)
    fine[::rate] = line
    return np.convolve(fine, channel)[: len(fine)]


def ofdm(grid, prefix, channel):
    """OFDM symbols (t, carriers) in plain terms: a unitary inverse transform, its end copied in front, the channel."""
    waves = np.fft.ifft(grid, norm="ortho")
    line = np.hstack([waves[:, grid.shape[1] - prefix :], waves]).ravel()
    return np.convolve(line, channel)[: len(line)]


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("criterion", ["mmse", "zero-forcing"])
def test_behind_a_prefix_zero_forcing_inverts_the_channel_exactly(rate, criterion):
    sent = symbols(5 * 32)
    received = blocks(sent, 32, 3, CHANNEL, rate)
    result = single_carrier_fde(received, CHANNEL, 0.0, 32, 3, criterion, rate)
    assert_close(result.soft, sent, atol=1e-12, rtol=0)
    assert result.gain == pytest.approx(1) and result.error == pytest.approx(0) and result.notes == ()


@pytest.mark.parametrize("name", ["qpsk", "bpsk"])
@pytest.mark.parametrize("rate", [1, 2])
@pytest.mark.parametrize("criterion", ["mmse", "zero-forcing"])
def test_the_error_is_the_one_that_is_told(name, rate, criterion):
    channel, noise = (CHANNEL if name == "qpsk" else CHANNEL.real), 0.3
    sent = symbols(400 * 32, name)
    received = noisy(blocks(sent, 32, 3, channel, rate), noise)
    result = single_carrier_fde(received, channel, noise, 32, 3, criterion, rate)
    assert mean_squared_error(sent, result.soft).value == pytest.approx(result.error, rel=0.03)
    assert float(np.vdot(sent, result.soft).real / np.vdot(sent, sent).real) == pytest.approx(result.gain, abs=0.01)


def test_the_mmse_error_is_its_closed_form_and_below_that_of_zero_forcing():
    noise, sent = 0.3, symbols(64)
    received = noisy(blocks(sent, 64, 10, PROAKIS_A), noise)
    power = np.abs(np.fft.fft(PROAKIS_A, 64)) ** 2
    mmse, forced = (single_carrier_fde(received, PROAKIS_A, noise, 64, 10, c) for c in ("mmse", "zero-forcing"))
    assert mmse.error == pytest.approx(np.mean(noise**2 / (power + noise**2))) and mmse.gain == pytest.approx(1 - mmse.error)
    assert forced.error == pytest.approx(np.mean(noise**2 / power)) and forced.error > mmse.error


def test_overlapping_blocks_reach_the_error_of_infinite_length_without_a_prefix():
    noise, sent = 10 ** (-25 / 20), symbols(20_000)
    received = noisy(np.convolve(sent, PROAKIS_A)[:20_000], noise)
    result = overlap_fde(received, PROAKIS_A, noise)
    power = np.abs(np.fft.fft(PROAKIS_A, 4096)) ** 2
    assert result.error == pytest.approx(np.mean(noise**2 / (power + noise**2)), rel=1e-3) and result.notes == ()
    assert mean_squared_error(sent[:-50], result.soft[:-50]).value == pytest.approx(result.error, rel=0.03)


@pytest.mark.parametrize("rate", [1, 2])
def test_the_error_of_overlapping_blocks_is_that_of_an_endless_equaliser(rate):
    result = overlap_fde(symbols(500 * rate), CHANNEL, 0.2, rate)
    assert result.error == pytest.approx(infinite_length(split_taps(CHANNEL, rate), 0.2).linear, rel=1e-9)


@pytest.mark.parametrize("rate", [1, 2])
def test_overlapping_blocks_are_one_long_convolution(rate):
    sent = symbols(1500)
    fine = np.zeros(1500 * rate, complex)
    fine[::rate] = sent
    received = noisy(np.convolve(fine, CHANNEL)[: 1500 * rate], 0.1)
    power = sum(np.abs(np.fft.fft(CHANNEL, 4096 * rate)).reshape(rate, 4096) ** 2)
    filters = np.fft.fft(CHANNEL, 4096 * rate).conj() / np.tile(power + rate * 0.01, rate)
    whole = np.fft.fft(received, 4096 * rate) * filters
    wanted = np.fft.ifft(whole.reshape(rate, 4096).sum(0))[:1500]
    assert_close(overlap_fde(received, CHANNEL, 0.1, rate).soft, wanted, atol=2e-3, rtol=0)


def test_an_equaliser_that_does_not_die_out_is_told():
    received = np.convolve(symbols(2000, "bpsk"), [1.0, 1.0])
    result = overlap_fde(received, [1.0, 1.0], 0.0, criterion="zero-forcing")
    assert "is a spectral null of the channel" in result.notes[0] and "does not decay within 8,192 symbols" in result.notes[1]


def test_signals_side_by_side_are_equalised_as_each_alone():
    received = np.stack([blocks(symbols(64, seed=s), 32, 3, CHANNEL * (1 + s)) for s in range(3)])
    channels = CHANNEL * np.array([[1], [2], [3]])
    both, alone = (single_carrier_fde(r, c, 0.2, 32, 3) for r, c in ((received, channels), (received[2], channels[2])))
    assert_close(both.soft[2], alone.soft)
    assert both.error[2] == pytest.approx(alone.error) and both.gain.shape == (3,)
    assert_close(overlap_fde(received, channels, 0.2).soft[2], overlap_fde(received[2], channels[2], 0.2).soft)


def test_results_come_in_the_kind_of_the_signal():
    received = blocks(symbols(64), 32, 3, CHANNEL)
    single = torch.from_numpy(received).to(torch.complex64)
    assert single_carrier_fde(single, torch.from_numpy(CHANNEL), 0.1, 32, 3).soft.dtype == torch.complex64
    assert overlap_fde(received.real.astype(np.float32), [1.0, 0.3], 0.1).soft.dtype == np.float32
    grid = symbols(2 * 16).reshape(2, 16)
    result = ofdm_equalize(torch.from_numpy(ofdm(grid, 3, CHANNEL)).to(torch.complex64), CHANNEL, 16, 3, noise=0.1)
    assert result.symbols.dtype == torch.complex64 and result.variance.dtype == torch.float32


def test_a_frequency_on_a_null_is_named_and_its_loss_told():
    sent = symbols(32, "bpsk")
    received = blocks(sent, 32, 1, [1.0, 1.0])
    result = single_carrier_fde(received, [1.0, 1.0], 0.0, 32, 1, "zero-forcing")
    assert result.nulls == (16,) and result.notes == (
        "frequency 16 of 32 is a spectral null of the channel: nothing is received there",
    )
    assert result.error == pytest.approx(1 / 32) and np.isfinite(result.soft).all()


def test_ofdm_behind_a_prefix_is_inverted_exactly():
    grid = symbols(6 * 64, "16qam").reshape(6, 64)
    result = ofdm_equalize(ofdm(grid, 16, CHANNEL), CHANNEL, 64, 16)
    assert_close(result.symbols, grid, atol=1e-12, rtol=0)
    assert_close(result.response, np.fft.fft(CHANNEL, 64))
    assert result.nulls == () and result.notes == () and not result.variance.any()


@pytest.mark.parametrize(
    "where, rows", [(range(64), (0,)), (range(0, 64, 4), None), ([1, 5, 11, 20, 33, 47, 60], (1, 4))], ids=str
)
def test_pilots_give_the_channel_between_them_exactly(where, rows):
    grid = symbols(6 * 64).reshape(6, 64)
    known = grid[list(rows) if rows else slice(None)][:, list(where)]
    result = ofdm_equalize(ofdm(grid, 6, CHANNEL), None, 64, 6, pilots=Pilots(list(where), known, rows))
    assert_close(result.taps[:4], CHANNEL, atol=1e-10, rtol=0)
    assert_close(result.symbols, grid, atol=1e-9, rtol=0)


def test_variances_of_the_carriers_are_those_of_their_errors():
    grid, noise = symbols(2000 * 16).reshape(2000, 16), 0.1
    result = ofdm_equalize(noisy(ofdm(grid, 3, CHANNEL), noise), CHANNEL, 16, 3, noise=noise)
    assert_close(np.mean(np.abs(result.symbols - grid) ** 2, 0), result.variance, rtol=0.1, atol=0)
    qpsk = constellation("qpsk")
    right = (qpsk.llr(result.symbols, result.variance) < 0) == qpsk.bits(qpsk.nearest(grid))
    assert right.shape == (2000, 32) and right.mean() > 0.99


def test_carriers_on_a_null_or_below_the_noise_are_told():
    grid = symbols(2 * 16).reshape(2, 16)
    result = ofdm_equalize(ofdm(grid, 2, [1.0, 0.0, 1.0]), [1.0, 0.0, 1.0], 16, 2, noise=0.8)
    assert (
        result.nulls == (4, 12)
        and result.notes[0] == "carriers 4, 12 of 16 are spectral nulls of the channel: nothing is received there"
    )
    assert result.notes[1] == "the signal is below the noise on 4 of 16 carriers: see `variance`"
    assert (result.symbols[:, [4, 12]] == 0).all() and np.isfinite(result.variance).all()
    others = [c for c in range(16) if c not in (4, 12)]
    assert_close(result.symbols[:, others], grid[:, others], atol=1e-10, rtol=0)


def test_refusals_in_the_frequency_domain():
    received, grid = blocks(symbols(64), 32, 3, CHANNEL), symbols(2 * 16).reshape(2, 16)
    waves = ofdm(grid, 3, CHANNEL)
    result = single_carrier_fde(np.r_[received, 1, 1], CHANNEL, 0.0, 32, 3)
    assert result.notes == ("ignored 2 samples after the last complete block",) and len(result.soft) == 64
    one, three = Pilots([0], [1.0]), Pilots([0, 1, 2], [1.0, 1, 1])
    cases = [
        (
            lambda: single_carrier_fde(received, CHANNEL, 0.1, 32, 2),
            ShapeError,
            r"prefix is 2 symbols \(2 samples\), but at least the channel's memory of 3 samples",
        ),
        (
            lambda: single_carrier_fde(received, CHANNEL, 0.1, 99, 3),
            ShapeError,
            "received has 70 samples, but at least 102, one block",
        ),
        (lambda: single_carrier_fde(received, CHANNEL, -1.0, 32, 3), ShapeError, "noise is -1.0"),
        (lambda: single_carrier_fde(received, CHANNEL, 0.1, 2, 3), ShapeError, "block is 2 and prefix is 3"),
        (lambda: single_carrier_fde(received, 0 * CHANNEL, 0.1, 32, 3), ShapeError, "channel is silent"),
        (lambda: single_carrier_fde(received.real, CHANNEL, 0.1, 32, 3), DtypeError, "channel is complex and received is real"),
        (lambda: single_carrier_fde(received, CHANNEL, 0.1, 32, 3, "ml"), DtypeError, "criterion is 'ml'"),
        (lambda: single_carrier_fde(received, CHANNEL[None], 0.1, 32, 3), ShapeError, r"channel is \(1, 4\)"),
        (lambda: overlap_fde(np.r_[received, np.nan], CHANNEL, 0.1), NonFinite, "received has NaN or infinite samples"),
        (
            lambda: ofdm_equalize(waves, CHANNEL, 16, 2),
            ShapeError,
            "prefix is 2 samples, but at least the channel's memory of 3 samples",
        ),
        (lambda: ofdm_equalize(waves, None, 16, 3), ShapeError, "neither channel nor pilots was passed"),
        (lambda: ofdm_equalize(waves, CHANNEL, 16, 3, pilots=one), ShapeError, "both channel and pilots were passed"),
        (lambda: ofdm_equalize(waves.real, [1.0], 16, 3), DtypeError, "complex samples were needed"),
        (
            lambda: ofdm_equalize(waves, None, 16, 3, pilots=one, length=2),
            ShapeError,
            "length is 2, but 1 to 1 was needed for 1 pilot carrier",
        ),
        (lambda: ofdm_equalize(waves, None, 16, 3, pilots=Pilots([16], [1.0])), ShapeError, "pilots.carriers is 16 at 0"),
        (lambda: ofdm_equalize(waves, None, 16, 3, pilots=Pilots([1, 1], [1.0, 1])), ShapeError, "has an index twice"),
        (lambda: ofdm_equalize(waves, None, 16, 3, pilots=Pilots([1], [0.0])), ShapeError, "without zeros"),
        (lambda: ofdm_equalize(waves, None, 16, 3, pilots=Pilots([1], [1.0], [2])), ShapeError, "pilots.symbols is 2 at 0"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()
    assert (
        ofdm_equalize(waves, None, 16, 3, pilots=three).notes[0]
        == "3 pilot carriers can determine no more than 3 taps, fewer than the prefix allows"
    )
    crowded = Pilots(list(range(20)), [1.0] * 20)
    with pytest.raises(ShapeError, match="too close together to determine 20 taps"):
        ofdm_equalize(symbols(1100), None, 1024, 60, pilots=crowded)
