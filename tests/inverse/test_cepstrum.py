"""Cepstra: their inverse, the sum that a convolution becomes, and phases that the roots of the polynomial confirm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import complex_cepstrum, from_cepstrum, lifter, minimum_phase_of, real_cepstrum

DOUBLE = torch.float64


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def from_roots(x, length):
    """The complex cepstrum and the delay by the zeros of the polynomial, which have closed forms: Oppenheim & Schafer 13.2."""
    x = np.asarray(x, float)
    lead = np.flatnonzero(x)[0]
    x = np.trim_zeros(x)
    zeros = np.roots(x)
    inside, outside = zeros[abs(zeros) < 1], zeros[abs(zeros) > 1]
    scale = (x[0] * np.prod(-outside)).real
    values, k = np.zeros(length), np.arange(1, length // 2)
    values[0] = np.log(abs(scale))
    for zero in inside:
        values[1 : length // 2] -= (zero**k / k).real
    for zero in outside:
        values[: -length // 2 : -1] -= (zero ** -k.astype(float) / k).real
    return values, lead + len(outside), np.sign(scale)


@pytest.mark.parametrize("n", [2, 5, 12, 40])
@pytest.mark.parametrize("seed", range(4))
def test_the_cepstrum_and_its_delay_are_those_of_the_polynomials_zeros(n, seed):
    x = noise(n, seed=seed)
    result = complex_cepstrum(x)
    values, delay, _ = from_roots(x, result.values.shape[-1])
    assert int(result.delay) == delay
    assert_close(result.values, torch.from_numpy(values), rtol=0, atol=1e-10)
    assert float(result.aliasing) < 1e-12


# Two or three zeros together turn the phase by 2 pi or 3 pi between two samples of a coarse grid.
@pytest.mark.parametrize("times, near", [(1, 1e-3), (2, 1e-2), (3, 3e-2), (2, 1e-4)])
@pytest.mark.parametrize("outside", [False, True])
def test_zeros_in_one_place_near_the_circle_are_not_missed(times, near, outside):
    pair = np.poly([(1 - near) * np.exp(1j), (1 - near) * np.exp(-1j)]).real
    x = np.array([1.0])
    for _ in range(times):
        x = np.convolve(x, pair)
    result = complex_cepstrum(torch.from_numpy(x[::-1].copy() if outside else x))
    assert int(result.delay) == (2 * times if outside else 0)


def test_a_wavelet_with_echoes_has_peaks_at_multiples_of_the_delay():
    gain, lag = 0.6, 50
    wavelet = minimum_phase_of(noise(20))
    trace = torch.zeros(lag + 20, dtype=DOUBLE)
    trace[:20] += wavelet
    trace[lag:] += gain * wavelet
    result = complex_cepstrum(trace)
    alone = complex_cepstrum(wavelet, result.values.shape[-1])
    peaks = result.values - alone.values
    expected = torch.zeros_like(peaks)
    for k in range(1, 60):
        expected[k * lag] = (-1) ** (k + 1) * gain**k / k
    assert_close(peaks, expected, rtol=0, atol=1e-10)
    assert int(result.delay) == 0
    # The peaks taken out, the wavelet comes back.
    cepstrum = complex_cepstrum(trace)
    cepstrum.values[lag::lag] -= expected[lag::lag]
    assert_close(cepstrum.inverse()[:20], wavelet, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 17), (2, 3, 64), (500,), (1000,)])
def test_the_inverse_gives_the_signal_back(shape):
    x = noise(*shape, seed=3)
    result = complex_cepstrum(x)
    assert_close(from_cepstrum(result), x, rtol=0, atol=1e-10)
    assert result.values.shape[:-1] == result.delay.shape == result.sign.shape == result.aliasing.shape == shape[:-1]
    assert_close(complex_cepstrum(1e-200 * x).inverse(), 1e-200 * x, rtol=0, atol=1e-210)


def test_a_phase_of_thousands_of_turns_costs_no_digits():
    late = torch.zeros(3000, dtype=torch.float64)
    late[1000:2000] = (noise(1000) * torch.exp(-torch.arange(1000) / 400)).flip(0)
    result = complex_cepstrum(late)
    assert int(result.delay) > 1700
    assert_close(result.inverse(), late, rtol=0, atol=1e-13)


def test_a_length_that_is_given_is_kept_and_inverted_all_the_same():
    x = noise(30)
    result = complex_cepstrum(x, 32)
    assert result.values.shape == (32,) and float(result.aliasing) > 1e-3
    assert_close(result.inverse(), x, rtol=0, atol=1e-10)
    assert result.delay == complex_cepstrum(x).delay


def test_a_convolution_adds_cepstra():
    x, y = noise(31), noise(20, seed=1)
    both = torch.from_numpy(np.convolve(x, y))
    convolved = complex_cepstrum(both)
    length = convolved.values.shape[-1]
    total = complex_cepstrum(x, length) + complex_cepstrum(y, length)
    assert_close(total.values, convolved.values, rtol=0, atol=1e-10)
    assert (total.delay, total.sign) == (convolved.delay, convolved.sign)
    assert_close(total.inverse(), both, rtol=0, atol=1e-10)
    with pytest.raises(ShapeError, match="one length of 50 or more"):
        complex_cepstrum(x, 32) + complex_cepstrum(y, 32)


def test_a_delay_and_a_sign_are_told_and_leave_the_cepstrum_alone():
    x = minimum_phase_of(noise(12))
    plain, moved = complex_cepstrum(x, 4096), complex_cepstrum(-torch.nn.functional.pad(x, (7, 3)), 4096)
    assert_close(moved.values, plain.values, rtol=0, atol=1e-12)
    assert int(moved.delay) == 7 and float(moved.sign) == -1


def test_a_minimum_phase_wavelet_has_nothing_before_zero_and_its_reverse_nothing_after():
    x = minimum_phase_of(noise(16))
    forward, backward = complex_cepstrum(x).values, complex_cepstrum(x.flip(0)).values
    half = len(forward) // 2
    assert float(forward[half:].abs().max()) < 1e-12
    assert float(backward[1:half].abs().max()) < 1e-12


def test_the_real_cepstrum_is_the_even_part_of_the_complex_one():
    x = noise(3, 24)
    complex_one = complex_cepstrum(x)
    real = real_cepstrum(x, complex_one.values.shape[-1])
    assert_close(real, (complex_one.values + complex_one.values.roll(-1, -1).flip(-1)) / 2, rtol=0, atol=1e-12)


def test_a_zero_on_the_circle_is_refused_with_its_frequency():
    for samples, said in (
        ([1.0, -1.0], "frequency 0, the mean"),
        ([1.0, 0.0, 1.0], "frequency 0.25"),
        ([1.0, 1.0], "frequency 0.5"),
        ([1.0, 2 * np.cos(1.0), 1.0], f"frequency {(np.pi - 1) / 2 / np.pi:.6g}"),
    ):
        with pytest.raises(ShapeError, match=said):
            complex_cepstrum(torch.tensor(samples, dtype=DOUBLE))
    x = torch.tensor([1.0, 0.0, 1.0], dtype=DOUBLE)
    assert int(complex_cepstrum(x * 0.99 ** torch.arange(3)).delay) == 0
    assert real_cepstrum(x).isfinite().all()


def test_a_lifter_keeps_low_quefrencies_on_both_sides():
    cepstrum = noise(16)
    low = lifter(cepstrum, 0, 3)
    assert torch.nonzero(low).flatten().tolist() == [0, 1, 2, 14, 15]
    assert_close(low + lifter(cepstrum, 3), cepstrum)
    complex_one = complex_cepstrum(noise(9))
    assert_close(lifter(complex_one, 0).inverse(), complex_one.inverse())
    with pytest.raises(ShapeError, match="0 <= low < high"):
        lifter(cepstrum, 3, 3)


def test_single_precision_comes_back_as_such():
    x = noise(40).float()
    result = complex_cepstrum(x)
    assert result.values.dtype == torch.float32 == result.inverse().dtype
    assert_close(result.inverse(), x, rtol=0, atol=1e-5)


def test_what_has_no_cepstrum_is_refused():
    for function in (complex_cepstrum, real_cepstrum):
        with pytest.raises(ShapeError, match="zero everywhere"):
            function(torch.zeros(2, 8))
        with pytest.raises(DtypeError, match="real ones"):
            function(torch.ones(8, dtype=torch.complex64))
        with pytest.raises(NonFinite, match="NaN"):
            function(torch.tensor([1.0, torch.nan]))
        with pytest.raises(ShapeError, match="samples was needed"):
            function(torch.zeros(0))
        with pytest.raises(ShapeError, match="length is 4"):
            function(torch.ones(8), 4)
    with pytest.raises(ShapeError, match="even number"):
        complex_cepstrum(torch.ones(8), 9)
