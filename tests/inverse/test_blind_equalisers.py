"""Blind equalisers reach the MMSE solution up to what nobody can tell, descend, and say where they do not converge."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import lms
from unconv.inverse.fields.channel import align, cma, constellation, mean_squared_error, multimodulus
from unconv.inverse.solvers.constant_modulus import _step, least_dispersion

PROAKIS_A = np.array([0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07])
NOISE = 10 ** (-25 / 20)


def least_error(channel, noise, rate=1):
    """The mean squared error of the infinite MMSE equaliser: the mean of noise^2 / (|H|^2 + noise^2) over all frequencies."""
    power = np.abs(np.fft.fft(channel, 4096)) ** 2
    return float(np.mean(noise**2 / (power + noise**2)))


def link(name, n=4000, channel=PROAKIS_A, noise=NOISE, phase=0.7, seed=1, rate=1):
    points, draw = constellation(name), np.random.default_rng(seed)
    sent = points.symbols(draw.integers(0, len(points.points), n))
    fine = np.zeros(n * rate, sent.dtype)
    fine[::rate] = sent
    clean = np.convolve(fine, channel)[: n * rate]
    if not np.iscomplexobj(sent):
        return sent, clean + noise * draw.standard_normal(len(clean))
    extra = draw.standard_normal(clean.shape) + 1j * draw.standard_normal(clean.shape)
    return sent, np.exp(1j * phase) * clean + noise / 2**0.5 * extra


def error_of(found, sent):
    """The mean squared error against what was sent, after its delay and the nearest of the angles left open are known."""
    both = align(sent, found.soft)
    turn = min(np.exp(1j * np.array(found.ambiguity)), key=lambda t: abs(t - both.factor / abs(both.factor)))
    turn = turn if np.iscomplexobj(sent) else turn.real
    return mean_squared_error(both.sent[30:-30], (both.decided / turn)[30:-30]).value


@pytest.mark.parametrize("equalise", [cma, multimodulus])
@pytest.mark.parametrize("name", ["qpsk", "16qam", "8psk", "bpsk", "4pam"])
def test_on_proakis_a_at_25_db_blind_equalisers_come_near_the_mmse(equalise, name):
    sent, received = link(name)
    found = equalise(3 * received, name, 31)
    least = least_error(PROAKIS_A, NOISE)
    assert least == pytest.approx(0.0059, abs=5e-5)
    assert error_of(found, sent) == pytest.approx(least, rel=0.1)
    assert found.converged and found.notes == () and found.error == pytest.approx(least, rel=0.1)


def test_without_decisions_the_error_is_higher_and_the_eye_open_still():
    sent, received = link("16qam")
    raw, directed = (cma(received, "16qam", 31, directed=d) for d in (False, True))
    assert error_of(directed, sent) < error_of(raw, sent) < 0.03 and raw.converged


@pytest.mark.parametrize("name, angles", [("bpsk", 2), ("qpsk", 4), ("8psk", 8), ("8qam", 2)])
def test_the_angles_left_open_are_the_symmetries_of_the_constellation(name, angles):
    _, received = link(name, 1000)
    found = cma(received, name, 21)
    assert_close(torch.tensor(found.ambiguity), 2 * pi * torch.arange(angles) / angles)


def test_bpsk_behind_a_complex_channel_is_turned_upright():
    sent, received = link("bpsk", channel=np.array([0.3j, 1.0, 0.2 - 0.3j]))
    found = cma(received.astype(complex) * np.exp(1.1j), "bpsk", 15)
    assert np.abs(found.soft.imag).mean() < 0.1 and error_of(found, sent.astype(complex)) < 0.02


def test_two_samples_a_symbol_are_equalised_without_knowing_their_clock():
    pulse = np.convolve(np.hanning(7)[1:-1], [1.0, 0, 0.4j])
    sent, received = link("qpsk", channel=pulse, noise=0.05, rate=2)
    found = cma(received, "qpsk", 20, 2)
    assert found.soft.shape == sent.shape and found.converged and error_of(found, sent) < 0.01


def test_the_dispersion_falls_with_each_pass_and_the_taps_give_the_soft_symbols():
    _, received = link("16qam", 1000)
    found = cma(received, "16qam", 11)
    assert (np.diff(found.dispersion) < 1e-9).all() and found.dispersion[-1] < found.dispersion[0]
    assert_close(found.soft[5:-5], np.convolve(received, found.taps, "valid"))


def test_an_adaptive_filter_goes_on_from_blind_taps():
    _, received = link("qpsk", 1500)
    found = cma(received, "qpsk", 21)
    later = lms(received, None, 21, constellation("qpsk").points, initial=found.taps, step=1e-3)
    assert_close(later.outputs[0], found.soft[0])
    assert np.mean(np.abs(later.errors[200:]) ** 2) == pytest.approx(float(found.error), rel=0.2)


def test_signals_side_by_side_are_equalised_as_each_alone():
    received = np.stack([link("qpsk", 800, seed=s)[1] for s in range(4)]).reshape(2, 2, -1) * np.array([[1.0], [1e-3]])
    both, alone = cma(received, "qpsk", 15), cma(received[1, 1], "qpsk", 15)
    assert both.soft.shape == (2, 2, 800) and both.error.shape == both.converged.shape == (2, 2)
    assert_close(both.soft[1, 1], alone.soft, atol=1e-6, rtol=0)


def test_results_come_in_the_kind_of_the_signal():
    _, received = link("qpsk", 500)
    found = multimodulus(torch.from_numpy(received).to(torch.complex64), "qpsk", 11)
    assert found.soft.dtype == torch.complex64 and found.dispersion.dtype == torch.float32
    assert cma(received.astype(np.complex64), constellation("qpsk").points.numpy(), 11).taps.dtype == np.complex64


@pytest.mark.parametrize("equalise", [cma, multimodulus])
@pytest.mark.parametrize("name", ["bpsk", "qpsk", "16qam", "64qam"])
def test_noise_alone_is_said_not_to_converge(equalise, name):
    draw = np.random.default_rng(0)
    for n in (160, 600):
        noise = draw.standard_normal(n) + (0 if name == "bpsk" else 1j * draw.standard_normal(n))
        found = equalise(noise, name, 15)
        assert not found.converged and "not converged: decisions are off by" in found.notes[0]


@pytest.mark.parametrize("kind", ["modulus", "parts"])
def test_the_step_is_the_least_point_along_the_line(kind):
    draw = torch.Generator().manual_seed(0)
    y, v = torch.randn(2, 5, 40, dtype=torch.complex128, generator=draw)

    def value(steps):
        z = y[:, None] - steps[..., None] * v[:, None]
        parts = [z.abs()] if kind == "modulus" else [z.real, z.imag]
        return sum((p.square() - 1.3).square().mean(-1) for p in parts)

    found = _step(y, v, 1.3, kind)[:, None]
    assert (value(found) <= value(torch.linspace(-5, 5, 2001).double().expand(5, -1)).amin(1, keepdim=True) + 1e-12).all()


def test_descent_ends_where_the_gradient_does():
    _, received = link("qpsk", 600)
    windows = torch.from_numpy(received).unfold(-1, 7, 1).flip(-1)[None]
    start = torch.zeros(1, 7, dtype=torch.complex128)
    start[0, 3] = 1
    found = least_dispersion(windows, start, 1.0, "modulus", 400)
    taps = found.taps.clone().requires_grad_()
    ((windows[0] @ taps[0]).abs().square() - 1).square().mean().backward()
    assert bool(found.settled) and float(taps.grad.abs().max()) < 1e-2 * float(start.abs().max())


@pytest.mark.parametrize("name", ["bpsk", "qpsk"])
def test_a_constant_signal_is_not_taken_for_symbols(name):
    found = cma(np.full(400, 1.0 if name == "bpsk" else 1 + 0j), name, 5)
    assert not found.converged and "nearly all decisions are one point" in found.notes[-1]


def test_refusals_of_blind_equalisers():
    _, received = link("qpsk", 300)
    cases = [
        (lambda: cma(received, "qpsk", 31), ShapeError, "300 symbols came for 31 taps, but 310 or more"),
        (lambda: cma(received.real, "qpsk", 11), DtypeError, "a real signal came, but qpsk is complex"),
        (lambda: cma(0 * received, "qpsk", 11), ShapeError, "received is silent"),
        (lambda: cma(received * np.nan, "qpsk", 11), NonFinite, "received has NaN or infinite samples"),
        (lambda: cma(received, "17qam", 11), ShapeError, "'17qam' is no constellation"),
        (lambda: cma(received, "qpsk", 0), ShapeError, "length is 0"),
        (lambda: multimodulus(received, "bpsk", 11), ShapeError, "parts of bpsk are not alike.* Use cma"),
        (lambda: multimodulus(received, "8qam", 11), ShapeError, "parts of 8qam are not alike"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()
