"""Receiver functions of traces whose conversions are known, by every method; tapers against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal.windows import dpss
from torch.testing import assert_close

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.fields.seismic.receivers import receiver_function
from unconv.inverse.fields.seismic.tapers import slepian

METHODS = ["iterative", "waterlevel", "multitaper"]
RATE, N = 10.0, 500
CONVERSIONS = {0.0: 0.5, 4.0: 0.3, 12.5: -0.2}


def pairs(count=3, noise=0.0, seed=0):
    """Radial and vertical components (count, N) whose receiver function has spikes at CONVERSIONS."""
    draw = np.random.default_rng(seed)
    vertical = np.zeros((count, N))
    vertical[:, 50:200] = draw.standard_normal((count, 150)) * np.exp(-np.arange(150) / 30)
    radial = sum(height * np.roll(vertical, round(at * RATE), 1) for at, height in CONVERSIONS.items())
    radial, vertical = (x + noise * x.std() * draw.standard_normal(x.shape) for x in (radial, vertical))
    return torch.from_numpy(radial), torch.from_numpy(vertical)


def truth(times, gauss):
    """Gaussians of height 1 at no delay: the low-pass exp(-f^2 / 2 g^2) has the impulse response exp(-2 (pi g t)^2)."""
    return sum(height * torch.exp(-2 * (torch.pi * gauss * (times - at)) ** 2) for at, height in CONVERSIONS.items())


@pytest.mark.parametrize("method, least", [("iterative", 0.999), ("waterlevel", 0.99), ("multitaper", 0.9)])
def test_the_receiver_function_of_a_convolved_pair_has_its_delays(method, least):
    found = receiver_function(*pairs(), RATE, method, gauss=0.8, end=30)
    assert found.trace.shape == (3, 351) and found.times[0] == -5 and found.times[-1] == 30
    wanted = truth(found.times, 0.8)
    for trace in found.trace:
        assert torch.nn.functional.cosine_similarity(trace, wanted, dim=0) > least
        for at, height in CONVERSIONS.items():
            near = (found.times - at).abs() <= 0.5
            assert found.times[near][trace[near].mul(height).argmax()] == pytest.approx(at, abs=0.11)
    if method != "multitaper":
        assert_close(found.trace[:, 50], torch.full((3,), 0.5, dtype=torch.double), atol=0.03, rtol=0)
        assert (found.fit > 0.99).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gauss", [0.5, 2.0, None])
def test_the_vertical_component_by_itself_is_one_at_time_zero(method, gauss):
    _, vertical = pairs()
    found = receiver_function(vertical, vertical, RATE, method, gauss=gauss)
    assert_close(found.trace[:, 50], torch.ones(3, dtype=torch.double))
    assert (found.trace.abs().argmax(1) == 50).all()


def test_the_iterative_one_of_the_vertical_component_is_the_low_pass_in_rfs_sense():
    _, vertical = pairs(1)
    found = receiver_function(vertical, vertical, RATE, gauss=0.5)
    assert_close(found.trace[0], torch.exp(-2 * (torch.pi * 0.5 * found.times) ** 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_batches_equal_single_pairs_in_every_kind(method):
    radial, vertical = pairs(4, noise=0.05)
    many = receiver_function(radial.view(2, 2, N), vertical.view(2, 2, N), RATE, method)
    one = receiver_function(radial[3].numpy(), vertical[3].numpy(), RATE, method)
    assert many.trace.shape == (2, 2, N) and many.fit.shape == (2, 2)
    assert isinstance(one.trace, np.ndarray) and isinstance(one.times, np.ndarray) and np.ndim(one.fit) == 0
    np.testing.assert_allclose(one.trace, many.trace[1, 1], atol=1e-9)
    single = receiver_function(radial.float() * 1e-24, vertical.float() * 1e-24, RATE, method)
    assert single.trace.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(single.trace.double(), many.trace.view(4, N), dim=1).min() > 0.99


def test_amplitudes_scale_with_the_radial_component():
    radial, vertical = pairs()
    a, b = (receiver_function(scale * radial, vertical / scale, RATE).trace for scale in (1.0, 4.0))
    assert_close(b, 16 * a)


def test_the_window_is_a_cut_of_the_whole_and_spikes_after_it_count():
    radial, vertical = pairs(noise=0.02)
    whole, part = (receiver_function(radial, vertical, RATE, end=end) for end in (None, 8.0))
    assert_close(part.trace, whole.trace[:, :131])
    assert_close(part.fit, whole.fit)


def test_a_precursor_is_found_before_time_zero():
    radial, vertical = pairs(1)
    found = receiver_function(radial.roll(-30, 1), vertical, RATE, start=-4)
    assert found.times[found.trace[0].argmax()] == -3


def test_fewer_spikes_explain_less():
    fits = [receiver_function(*pairs(noise=0.05), RATE, spikes=count, min_gain=0).fit for count in (1, 3, 30)]
    assert (fits[0] < fits[1]).all() and (fits[1] < fits[2]).all()


def test_noise_before_the_wave_tames_the_multitaper():
    draw = torch.Generator().manual_seed(0)
    radial, vertical = pairs(noise=0.3, seed=1)
    quiet = 0.3 * vertical.std() * torch.randn(3, 120, generator=draw, dtype=torch.double)
    found = receiver_function(radial, vertical, RATE, "multitaper", noise=quiet)
    loud = receiver_function(radial, vertical, RATE, "multitaper", noise=100 * quiet)
    assert (found.fit > loud.fit).all() and torch.isfinite(found.trace).all()


def test_pairs_without_a_sound_trace_are_not_a_number_and_noted():
    radial, vertical = pairs(4)
    radial[1], vertical[2, 5] = 0, torch.nan
    found = receiver_function(radial, vertical, RATE)
    assert found.kept == (1, 2) and found.fit.isnan().tolist() == [False, True, True, False]
    assert found.trace[1:3].isnan().all() and torch.isfinite(found.trace[::3]).all()
    assert "no receiver function (NaN), dead (all samples alike): trace 1" in found.notes
    assert "no receiver function (NaN), broken (NaN or infinite samples): trace 2" in found.notes
    assert_close(found.trace[3], receiver_function(radial[3], vertical[3], RATE).trace)


def test_refusals_of_receiver_functions():
    radial, vertical = pairs()
    with pytest.raises(ShapeError, match=r"radial is \(3, 500\) but vertical is \(500,\)"):
        receiver_function(radial, vertical[0], RATE)
    with pytest.raises(ShapeError, match=r"rate is 0, but a number above zero"):
        receiver_function(radial, vertical, 0)
    with pytest.raises(ShapeError, match=r"gauss is -1"):
        receiver_function(radial, vertical, RATE, gauss=-1)
    with pytest.raises(ShapeError, match=r"no pair of traces can be used .*dead"):
        receiver_function(radial[0], 0 * vertical[0], RATE)
    with pytest.raises(ShapeError, match="at least two samples"):
        receiver_function(radial[:, :1], vertical[:, :1], RATE)
    with pytest.raises(ShapeError, match=r"window is -60.0 to None s, but one within -49.9 to 49.9 s"):
        receiver_function(radial, vertical, RATE, start=-60.0)
    with pytest.raises(ShapeError, match=r"window is -5.0 to -6.0 s"):
        receiver_function(radial, vertical, RATE, end=-6.0)
    with pytest.raises(ShapeError, match=r"method is 'iterativ', but one of .* was needed. Nearest: iterative"):
        receiver_function(radial, vertical, RATE, "iterativ")
    with pytest.raises(ShapeError, match="water is 0"):
        receiver_function(radial, vertical, RATE, "waterlevel", water=0)
    with pytest.raises(ShapeError, match=r"tapers is 9 and bandwidth is 2.5, but for 8 samples"):
        receiver_function(radial[:, 50:58], vertical[:, 50:58], RATE, "multitaper", start=0, tapers=9)
    with pytest.raises(ShapeError, match="2 traces of noise came for 3 pairs of traces"):
        receiver_function(radial, vertical, RATE, "multitaper", noise=vertical[:2])
    with pytest.raises(ShapeError, match="noise has NaN"):
        receiver_function(radial, vertical, RATE, "multitaper", noise=vertical * torch.nan)
    with pytest.raises(DtypeError, match="complex"):
        receiver_function(radial.cdouble(), vertical, RATE)


@pytest.mark.parametrize("n, bandwidth, count", [(2, 0.5, 1), (8, 2, 3), (50, 2.5, 3), (64, 4, 7), (1201, 4, 7)])
def test_tapers_are_scipys_signs_included(n, bandwidth, count):
    assert_close(slepian(n, bandwidth, count).numpy(), dpss(n, bandwidth, count).copy(), atol=1e-10, rtol=0)
