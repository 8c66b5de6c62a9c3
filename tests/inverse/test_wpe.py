"""Weighted prediction error: the paper's sums in loops, what it must and must not take away, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases.operators import random
from oracles import speech as oracle
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import OnlineWpe, online_wpe, wpe
from unconv.inverse.solvers import weighted_prediction


def spectra(*shape, seed=0, dtype=torch.cdouble):
    """Frames whose power changes as that of speech does."""
    loudness = torch.exp(1.5 * random(*shape[:-2], 1, shape[-1], seed=seed + 1, dtype=torch.double))
    return (random(*shape, seed=seed, dtype=torch.cdouble) * loudness).to(dtype)


def reverberant(early, coefficients, delay):
    """y[t] = early[t] + sum over k of coefficients[k] y[t - delay - k], the room that the method supposes: (F, D, T)."""
    y = early.clone()
    for t in range(y.shape[-1]):
        for k, matrix in enumerate(coefficients):
            if t >= delay + k:
                y[..., t] += y[..., t - delay - k] @ matrix.T
    return y


def room(channels, taps, seed=7):
    return 0.3 * random(taps, channels, channels, seed=seed, dtype=torch.cdouble) / channels


@pytest.mark.parametrize("channels, taps, delay, context", [(1, 5, 1, 0), (1, 3, 2, 2), (3, 2, 3, 0), (2, 4, 2, 1)])
def test_wpe_is_the_papers_sums_in_loops(channels, taps, delay, context):
    y = reverberant(spectra(2, channels, 60), room(channels, 3), 2)
    expected = oracle.wpe(y.numpy(), taps, delay, 3, context=context)
    assert_close(wpe(y, taps, delay, 3, context=context), torch.from_numpy(expected), atol=1e-8, rtol=1e-8)


def test_frequencies_and_frames_worked_on_in_parts_give_the_same(monkeypatch):
    y = spectra(5, 2, 100)
    in_one_group = wpe(y, 4)
    monkeypatch.setattr(weighted_prediction, "_GROUP", 4000)
    monkeypatch.setattr(weighted_prediction, "_CACHE", 600)
    assert_close(wpe(y, 4), in_one_group, atol=1e-10, rtol=1e-10)


def test_wpe_of_nara_wpe_is_the_same():
    peer = pytest.importorskip("nara_wpe.wpe")
    for channels, taps in ((1, 12), (2, 8), (4, 3)):
        y = reverberant(spectra(6, channels, 200, seed=channels), room(channels, 3), 3)
        expected = torch.from_numpy(peer.wpe_v8(y.numpy(), taps, 3, 3, psd_context=1))
        assert_close(wpe(y, taps, 3, 3, context=1), expected, atol=1e-8, rtol=1e-8)


# The prediction is one of 6 unknowns from T frames: what it takes of the early sound falls as 1 / T.
def test_reverberation_of_the_models_own_kind_is_removed_as_frames_grow_in_number():
    errors = []
    for frames in (100, 800, 6400):
        early = spectra(3, 2, frames)
        y = reverberant(early, room(2, 3), 2)
        errors.append(float((wpe(y, 3, 2, 6, floor=1e-4) - early).abs().square().sum() / early.abs().square().sum()))
    assert errors[0] < 1e-2 and errors[1] < errors[0] / 5 and errors[2] < 1e-4


def test_spectra_without_reverberation_are_left_nearly_as_they_are():
    y = spectra(4, 2, 4000)
    assert float((wpe(y, 4) - y).norm() / y.norm()) < 0.06


def test_scaled_spectra_give_scaled_ones_however_small_or_large():
    y = spectra(3, 2, 80)
    for scale in (2.0**-400, 2.0**400):
        assert_close(wpe(scale * y, 4) / scale, wpe(y, 4), atol=1e-11, rtol=1e-11)


def test_permuted_and_mixed_channels_are_permuted_and_turned_results():
    y = spectra(3, 3, 80)
    order = torch.tensor([2, 0, 1])
    assert_close(wpe(y[:, order], 4), wpe(y, 4)[:, order], atol=1e-8, rtol=1e-8)
    turn = torch.linalg.qr(random(3, 3, seed=3, dtype=torch.cdouble))[0]  # keeps the mean power
    assert_close(wpe(turn @ y, 4), turn @ wpe(y, 4), atol=1e-8, rtol=1e-8)


def test_silence_before_the_sound_delays_the_result():
    y = spectra(3, 2, 80)
    later = torch.cat([torch.zeros(3, 2, 9, dtype=y.dtype), y], -1)
    # A frame of silence weighs as much as the floor lets it, but has nothing to predict.
    assert_close(wpe(later, 4)[..., 9:], wpe(y, 4), atol=1e-10, rtol=1e-10)


def test_batches_are_worked_on_one_by_one():
    y = spectra(2, 3, 2, 60)
    both = wpe(y, 4)
    assert_close(both[1], wpe(y[1], 4), atol=1e-11, rtol=1e-11)


def test_single_precision_is_near_double_where_it_is_used():
    # Microphones that hear nearly the same: the first principal channel is 1e4 times the second.
    y = reverberant(spectra(3, 1, 200).expand(-1, 2, -1) + 1e-4 * spectra(3, 2, 200, seed=5), room(2, 3), 2)
    single, double = wpe(y.to(torch.complex64), 4, floor=1e-4), wpe(y, 4, floor=1e-4)
    assert single.dtype == torch.complex64
    assert float((single - double).norm() / double.norm()) < 1e-3
    steep = wpe(y.to(torch.complex64), 4, floor=1e-9)  # computed in double
    assert float((steep - wpe(y.to(torch.complex64).to(torch.cdouble), 4, floor=1e-9)).norm() / steep.norm()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_alike_silent_and_too_many_channels_give_numbers(dtype):
    one = spectra(3, 1, 40, dtype=dtype)
    assert torch.isfinite(wpe(one.expand(-1, 3, -1), 5, floor=1e-4).abs()).all()
    assert_close(wpe(torch.cat([one, one], 1), 5)[:, 0], wpe(one, 5)[:, 0], atol=1e-3, rtol=1e-3)
    assert not wpe(torch.zeros(3, 2, 40, dtype=dtype), 5).abs().any()
    assert torch.isfinite(wpe(torch.cat([one, 0 * one], 1), 30).abs()).all()
    assert torch.isfinite(wpe(one[..., :1], 4).abs()).all()


def test_a_better_power_at_the_start_gives_a_better_first_iteration():
    early = spectra(3, 1, 200)
    y = reverberant(early, 2.5 * room(1, 3), 2)
    known = wpe(y, 3, 2, 1, power=early.abs().square().mean(-2))
    assert float((known - early).norm()) < 0.8 * float((wpe(y, 3, 2, 1) - early).norm())
    assert_close(wpe(y, 3, 2, 0), y)


def test_online_is_least_squares_of_all_frames_so_far():
    y = reverberant(spectra(2, 2, 60), room(2, 2), 2)
    expected = torch.from_numpy(oracle.online_wpe(y.numpy(), 3, 2, 0.98, 4.0))
    assert_close(online_wpe(y, 3, 2, 0.98, 4.0), expected, atol=1e-8, rtol=1e-8)


def test_online_with_a_prior_of_one_is_that_of_nara_wpe():
    peer = pytest.importorskip("nara_wpe.wpe")
    y = reverberant(spectra(4, 2, 40), room(2, 2), 2)
    frames = np.concatenate([np.zeros((5, 4, 2)), y.permute(2, 0, 1).numpy()])
    inverse, filters, expected = np.stack([np.eye(6, dtype=complex)] * 4), np.zeros((4, 6, 2), complex), []
    for t in range(5, 45):
        # Its delay counts one less than that of its offline functions, and it is given the power.
        power = np.mean(np.abs(frames[t - 5 : t + 1]) ** 2, (0, 2))
        early, inverse, filters = peer.online_wpe_step(frames[t - 4 : t + 1], power, inverse, filters, 0.99, 3, 1)
        expected.append(early)
        if t < 7:  # without a past it forgets what it was told at the start
            inverse = np.stack([np.eye(6, dtype=complex)] * 4)
    assert_close(online_wpe(y, 3, 2, 0.99, 1.0), torch.from_numpy(np.stack(expected, -1)), atol=1e-8, rtol=1e-8)


def test_online_frames_pushed_in_any_parts_give_the_same():
    y = spectra(3, 2, 70)
    filter = OnlineWpe(4)
    parts = [filter.push(part) for part in y.split([1, 30, 2, 37], -1)]
    assert_close(torch.cat(parts, -1), online_wpe(y, 4), atol=1e-11, rtol=1e-11)


def test_online_converges_to_offline():
    early = random(1, 2, 2000, dtype=torch.cdouble)
    y = reverberant(early, room(2, 3), 2)
    late = slice(1500, 2000)
    online, offline = online_wpe(y, 3, 2, 1.0)[..., late], wpe(y, 3, 2)[..., late]
    assert float((online - offline).norm() / offline.norm()) < 0.08
    assert float((online - early[..., late]).norm()) < 0.2 * float((y - early)[..., late].norm())


def test_online_lives_through_silence_and_begins_anew_where_it_degenerates():
    y = spectra(2, 2, 200)
    y[..., 50:150] = 0
    filter = OnlineWpe(4, forgetting=0.5)  # without a guard, silence would double the inverse covariance in each frame
    result = filter.push(y)
    assert torch.isfinite(result.abs()).all() and not result[..., 60:150].abs().any()
    constant = OnlineWpe(2, forgetting=0.5)
    result = constant.push(torch.ones(1, 1, 400, dtype=torch.cdouble))
    assert torch.isfinite(result.abs()).all() and constant.restarts > 0


def test_refusals_of_wpe():
    y = spectra(3, 2, 40)
    with pytest.raises(DtypeError, match=r"wpe: the spectra are torch.float64, but complex"):
        wpe(y.real)
    with pytest.raises(ShapeError, match=r"wpe: the spectra are \(2, 40\), but \(\.\.\., F, D, T\)"):
        wpe(y[0])
    with pytest.raises(ShapeError, match=r"spectra are \(3, 2, 0\)"):
        wpe(y[..., :0])
    with pytest.raises(NonFinite, match="wpe: spectra are NaN or infinite"):
        wpe(y * torch.nan)
    for name, value in (("taps", 0), ("delay", 0), ("iterations", -1), ("context", -1)):
        with pytest.raises(ShapeError, match=f"wpe: {name} is {value}, but {0 if name in ('iterations', 'context') else 1}"):
            wpe(y, **{name: value})
    with pytest.raises(ShapeError, match="floor is 0"):
        wpe(y, floor=0)
    with pytest.raises(ShapeError, match=r"power is \(3, 40, 1\).* but a real \(3, 40\)"):
        wpe(y, power=torch.ones(3, 40, 1))
    with pytest.raises(ShapeError, match=r"power has values that are .* below zero"):
        wpe(y, power=-torch.ones(3, 40))
    with pytest.raises(DtypeError, match=r"taps is 2.5"):
        wpe(y, 2.5)


def test_refusals_of_online_wpe():
    with pytest.raises(ShapeError, match="taps is 0 and delay is 3"):
        OnlineWpe(0)
    with pytest.raises(ShapeError, match=r"forgetting is 1\.5, but more than 0"):
        OnlineWpe(forgetting=1.5)
    with pytest.raises(ShapeError, match="prior is 0"):
        OnlineWpe(prior=0)
    filter = OnlineWpe(2)
    filter.push(spectra(3, 2, 4))
    with pytest.raises(ShapeError, match=r"frames are \(3, 1, 4\), but \(3, 2, T\), as before"):
        filter.push(spectra(3, 1, 4))
    with pytest.raises(NonFinite, match=r"OnlineWpe.push: spectra are NaN"):
        filter.push(torch.full((3, 2, 4), torch.nan, dtype=torch.cdouble))
    assert np.isfinite(filter.push(spectra(3, 2, 4)).abs().numpy()).all()
