"""Least-squares filters against their closed forms, and what they do to traces of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.seismic.filters import predictive, spiking
from unconv.inverse.solvers.prediction import apply_filter, autocorrelate, predictive_filter, spiking_filter


@pytest.mark.parametrize("c", [0.5, 0.9, -0.7, 1.5])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_the_error_of_a_spiking_filter_of_two_samples_has_a_closed_form(c, n):
    result = spiking_filter(torch.tensor([1.0, c], dtype=torch.double), n, lag=0)
    assert float(result.error) == pytest.approx(c ** (2 * n) * (1 - c * c) / (1 - c ** (2 * (n + 1))), abs=1e-12)


def test_the_best_lag_of_a_wavelet_of_maximum_phase_is_the_last():
    result = spiking_filter(torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.double), 6)
    assert result.lag.tolist() == [0, 6] and result.errors.shape == (2, 7)
    assert_close(result.errors[0], result.errors[1].flip(0))
    assert_close(result.filter[0], result.filter[1].flip(0))
    assert_close(result.error, result.errors.amin(1))


def test_a_spiking_filter_is_least_squares_at_every_lag():
    wavelet, length = random(7, seed=2), 10
    matrix = torch.stack([torch.nn.functional.pad(wavelet, (i, length - 1 - i)) for i in range(length)], 1)
    result = spiking_filter(wavelet, length, prewhitening=0.02)
    own = wavelet.square().sum()
    for lag, error in enumerate(result.errors):
        spike = torch.eye(16, dtype=torch.double)[lag]
        expected = torch.linalg.solve(matrix.T @ matrix + 0.02 * own * torch.eye(length), matrix.T @ spike)
        assert_close(spiking_filter(wavelet, length, lag=lag, prewhitening=0.02).filter, expected)
        assert_close(error, (matrix @ expected - spike).square().sum())
    assert result.lag == result.errors.argmin()


@pytest.mark.parametrize("n", [1, 3, 8])
def test_reverberations_of_a_water_layer_are_removed_exactly(n):
    """Backus (1959): down and up through the layer, 1 / (1 + R z^n)^2; gap n and length n + 1 hold its inverse."""
    bottom = 0.6
    series = torch.zeros(120 * n + 1, dtype=torch.double)
    orders = torch.arange(121, dtype=torch.double)
    series[::n] = (orders + 1) * (-bottom) ** orders
    result = predictive_filter(autocorrelate(series, 2 * n + 1), n, n + 1)
    expected = torch.zeros(2 * n + 1, dtype=torch.double)
    expected[0], expected[n], expected[2 * n] = 1, 2 * bottom, bottom**2
    assert_close(result, expected, atol=1e-11, rtol=0)
    trace = random(200, seed=3)
    assert_close(apply_filter(apply_filter(trace, series), result), trace, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.double, torch.cdouble])
def test_a_filter_is_applied_causally_and_to_as_many_samples(dtype):
    traces, taps = random(2, 30, seed=1, dtype=dtype), random(2, 5, seed=2, dtype=dtype)
    expected = np.stack([np.convolve(*both)[:30] for both in zip(traces.numpy(), taps.numpy(), strict=True)])
    assert_close(apply_filter(traces, taps).numpy(), expected)
    assert apply_filter(traces, random(40, dtype=dtype)).shape == (2, 30)


def test_batches_of_filters_equal_single_ones():
    wavelets = random(3, 8, seed=6)
    many = spiking_filter(wavelets, 12, prewhitening=1e-3)
    r = autocorrelate(wavelets, 8)
    for i in range(3):
        one = spiking_filter(wavelets[i], 12, prewhitening=1e-3)
        assert one.lag == many.lag[i]
        assert_close(one.filter, many.filter[i])
        assert_close(predictive_filter(r[i], 2, 4), predictive_filter(r, 2, 4)[i])


def test_refusals_of_filters():
    wavelet = random(4)
    with pytest.raises(ShapeError, match="length is 0, but 1 or more"):
        spiking_filter(wavelet, 0)
    with pytest.raises(ShapeError, match="lag is 9, but 0 to 8 was needed"):
        spiking_filter(wavelet, 6, lag=9)
    with pytest.raises(DtypeError, match="complex128, but real ones"):
        spiking_filter(wavelet.cdouble(), 6)
    with pytest.raises(ShapeError, match=r"4 lags .* gap \+ length = 5"):
        predictive_filter(wavelet, 2, 3)
    with pytest.raises(ShapeError, match="gap is 0"):
        predictive_filter(wavelet, 0, 3)
    with pytest.raises(ShapeError, match=r"apply_filter: traces \(\)"):
        apply_filter(torch.tensor(1.0), wavelet)


# Traces


def shots(seed=0, n=400):
    """Sparse reflections behind one minimum-phase wavelet, (6, n), float64."""
    draw = np.random.default_rng(seed)
    reflections = draw.standard_normal((6, n)) * (draw.random((6, n)) < 0.3)
    wavelet = torch.from_numpy(0.8 ** np.arange(20) * np.cos(0.9 * np.arange(20)))
    return apply_filter(torch.from_numpy(reflections), wavelet), torch.from_numpy(reflections)


def test_spiking_brings_reflections_back_behind_a_minimum_phase_wavelet():
    traces, reflections = shots()
    result = spiking(traces, 20)
    alike = [torch.nn.functional.cosine_similarity(x, reflections, dim=1) for x in (traces, result.traces)]
    assert (alike[1] > alike[0]).all() and alike[1].min() > 0.9
    assert result.kept == () and result.filters.shape == (6, 20) and (result.errors < 0.9).all()
    shared = spiking(traces, 20, average=True)
    assert shared.filters.shape == (1, 20)
    assert torch.nn.functional.cosine_similarity(shared.traces, reflections, dim=1).min() > 0.95


def test_predictive_with_a_gap_of_one_is_spiking():
    traces, _ = shots()
    assert_close(predictive(traces, 1, 19).traces, spiking(traces, 20).traces)


def test_predictive_takes_repetitions_out_and_leaves_what_is_shorter_than_the_gap():
    echoes = torch.zeros(101, dtype=torch.double)
    echoes[::25] = (-0.7) ** torch.arange(5, dtype=torch.double)
    primaries = random(5, 4000, seed=2)
    result = predictive(apply_filter(primaries, echoes), 20, 10)
    assert torch.nn.functional.cosine_similarity(result.traces, primaries, dim=1).min() > 0.98
    assert_close(result.filters[:, :20], torch.eye(20, dtype=torch.double)[:1].expand(5, 20))


def test_traces_that_cannot_be_filtered_are_kept_and_noted_and_kinds_come_back():
    traces = shots()[0].numpy().reshape(2, 3, 400).astype(np.float32)
    traces[0, 1], traces[1, 0, 7] = 0, np.nan
    result = spiking(traces, 20)
    assert isinstance(result.traces, np.ndarray) and result.traces.shape == (2, 3, 400) and result.traces.dtype == np.float32
    assert result.kept == (1, 3) and len(result.notes) == 2 and "dead" in result.notes[0] and "broken" in result.notes[1]
    np.testing.assert_array_equal(result.traces[0, 1], traces[0, 1])
    np.testing.assert_array_equal(result.traces[1, 0], traces[1, 0])
    assert result.filters.shape == (4, 20) and result.filters.dtype == torch.float32
    silent = predictive(torch.zeros(2, 50), 3, 5, average=True)
    assert silent.kept == (0, 1) and torch.equal(silent.traces, torch.zeros(2, 50))


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_the_unit_of_single_precision_traces_does_not_matter(scale):
    traces = shots()[0].float()
    assert_close(spiking(traces * scale, 20).traces / scale, spiking(traces, 20).traces, atol=1e-4, rtol=1e-4)


def test_traces_of_two_samples_are_long_enough():
    result = spiking(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), 2, prewhitening=0.0)
    assert_close(result.traces, torch.tensor([[2.0, 0.2], [0.0, 3.0]]))


def test_refusals_of_traces():
    with pytest.raises(ShapeError, match="length is 1, but 2"):
        spiking(torch.ones(2, 50), 1)
    with pytest.raises(ShapeError, match="gap is 0 and length is 5"):
        predictive(torch.ones(2, 50), 0, 5)
    with pytest.raises(ShapeError, match="the filter has 60 samples, but the traces only 50"):
        spiking(torch.rand(2, 50), 60)
    with pytest.raises(ShapeError, match="clipped is 'no'"):
        spiking(torch.rand(2, 50), 5, clipped="no")
    with pytest.raises(DtypeError, match="complex"):
        spiking(np.ones((2, 50), complex), 5)
