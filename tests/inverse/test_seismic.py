"""Spikes of seismic traces in every kind and shape, and wavelets estimated from traces whose reflectivity is white."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from oracles import spikes as oracle
from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.seismic import SPIKES, estimate_wavelet, sparse_spikes

N = 120
WAVELET = oracle.ricker(25, 0.004, 31)
PLACES, HEIGHTS = (20, 47, 75, 98), (1.0, -0.7, 0.5, -1.2)


def isolated(count=3, noise=0.0, seed=0, wavelet=WAVELET, centre=15):
    """The same four spikes far apart in each trace, and the traces: (N,), (count, N)."""
    truth = np.zeros(N)
    truth[list(PLACES)] = HEIGHTS
    clean = np.convolve(truth, wavelet)[centre : centre + N]
    return truth, clean + noise * np.random.default_rng(seed).standard_normal((count, N))


def white(count=40, n=400, wavelet=None, snr=30.0, seed=0):
    """Traces (count, n) of white sparse spikes behind a causal wavelet."""
    draw = np.random.default_rng(seed)
    spikes = (draw.random((count, n)) < 0.06) * draw.standard_normal((count, n))
    clean = np.array([np.convolve(row, wavelet)[:n] for row in spikes])
    return clean + clean.std() / 10 ** (snr / 20) * draw.standard_normal(clean.shape)


def rotated(samples, degrees):
    spectrum = np.fft.rfft(samples, 512) * np.exp(1j * np.deg2rad(degrees))
    return np.fft.irfft(spectrum)[: len(samples)]


def turned(samples, degrees):
    """A zero-phase wavelet turned by an angle, with room for its tails."""
    wide = np.zeros(129)
    wide[64 - len(samples) // 2 : 64 + len(samples) // 2 + 1] = samples
    return rotated(wide, degrees)


def likeness(a, b):
    """The largest correlation of two wavelets over all shifts, whatever their sign: theirs cannot be told."""
    a, b = (np.asarray(x, float) for x in (a, b))
    return np.abs(np.correlate(a, b, "full")).max() / np.sqrt((a @ a) * (b @ b))


KINDS = {
    "numpy float32": (np.float32, lambda x: x.astype(np.float32)),
    "numpy float64": (np.float64, lambda x: x),
    "numpy int16": (np.float32, lambda x: np.round(1000 * x).astype(np.int16)),
    "numpy int32": (np.float64, lambda x: np.round(1e6 * x).astype(np.int32)),
    "tensor float32": (torch.float32, lambda x: torch.from_numpy(x).float()),
    "tensor float64": (torch.float64, torch.from_numpy),
    "tensor int16": (torch.float32, lambda x: torch.from_numpy(np.round(1000 * x)).short()),
}


@pytest.mark.parametrize("shape", [(N,), (4, N), (2, 2, N)])
@pytest.mark.parametrize("kind", KINDS)
def test_spikes_come_in_the_kind_and_shape_of_the_traces(kind, shape):
    dtype, cast = KINDS[kind]
    traces = isolated(4, 0.01)[1][: int(np.prod(shape[:-1]))].reshape(shape)
    came = cast(traces)
    found = sparse_spikes(came, WAVELET)
    for made in (found.spikes, found.deviation, found.refit):
        assert isinstance(made, torch.Tensor) == isinstance(came, torch.Tensor)
        assert tuple(made.shape) == shape and made.dtype == dtype
    assert tuple(found.noise.shape) == shape[:-1]
    assert found.observed is came and found.method == "sbl" and found.kept == () and found.notes == ()


def test_a_tensor_may_stand_for_the_wavelet_and_require_a_gradient():
    traces = isolated(2, 0.01)[1]
    with_tensor = sparse_spikes(traces, torch.from_numpy(WAVELET).requires_grad_())
    assert_close(with_tensor.spikes, sparse_spikes(traces, WAVELET).spikes)


# The l1 norm makes spikes smaller by 2 noise / |wavelet|, and needs a noise above zero for its strength.
@pytest.mark.parametrize(
    "method, noise, error",
    [("sbl", "estimate", 1e-5), ("sbl-only", "estimate", 2e-4), ("l1", 0.01, 0.015), ("reweighted-l1", 0.01, 1e-3)],
)
def test_every_method_finds_isolated_spikes_of_a_trace_without_noise(method, noise, error):
    truth, traces = isolated(1)
    found = sparse_spikes(traces[0], WAVELET, noise, method)
    assert found.converged
    assert_close(found.spikes, truth, rtol=0, atol=error)


@pytest.mark.parametrize("method", ["l1", "reweighted-l1"])
def test_a_norm_that_ran_out_of_steps_says_so(method):
    # The noise that is estimated is next to nothing, and so is the strength: the norm is minimised slowly.
    assert not sparse_spikes(isolated(1)[1], WAVELET, method=method).converged


@pytest.mark.parametrize("method", SPIKES)
def test_every_method_reports_the_noise_and_whether_it_converged(method):
    found = sparse_spikes(isolated(8, 0.05)[1], WAVELET, method=method)
    assert isinstance(found.converged, bool)
    assert float(np.median(found.noise)) == pytest.approx(0.05, rel=0.2)
    assert np.isnan(found.deviation).all() == ("l1" in method)


def test_a_noise_that_is_given_is_the_one_that_is_told():
    traces = isolated(4, 0.05)[1]
    told = sparse_spikes(traces, WAVELET, 0.05)
    assert_close(told.noise, np.full(4, 0.05))
    estimated = sparse_spikes(traces, WAVELET)
    assert_close(estimated.noise, told.noise, rtol=0.3, atol=0)
    assert_close(estimated.spikes, told.spikes, rtol=0, atol=0.05)


def test_more_noise_leaves_fewer_spikes():
    traces = isolated(1, 0.05)[1]
    counts = [int((sparse_spikes(traces, WAVELET, noise).spikes != 0).sum()) for noise in (0.05, 0.5, 50)]
    assert counts[0] >= counts[1] >= counts[2] == 0


def odd(kind):
    """A trace that is kept as it is."""
    trace = isolated(1, 0.02)[1][0]
    if kind == "dead":
        trace[:] = 3.0
    elif kind == "silent":
        trace[:] = 0.0
    elif kind == "NaN":
        trace[50] = np.nan
    elif kind == "infinite":
        trace[0] = -np.inf
    else:
        trace = np.clip(trace, -0.3, 0.3)
    return trace


@pytest.mark.parametrize(
    "kind, words",
    [("dead", "dead"), ("silent", "dead"), ("NaN", "broken"), ("infinite", "broken"), ("clipped", "clipped")],
)
def test_odd_traces_are_kept_and_listed_and_others_are_not_affected(kind, words):
    traces = isolated(4, 0.02)[1]
    alone = sparse_spikes(traces[[0, 1, 3]], WAVELET)
    traces[2] = odd(kind)
    found = sparse_spikes(traces, WAVELET)
    assert found.kept == (2,)
    assert len(found.notes) == 1 and words in found.notes[0] and "trace 2" in found.notes[0]
    for made in (found.spikes, found.refit):
        np.testing.assert_array_equal(made[2], traces[2])
    assert np.isnan(found.noise[2]) and np.isnan(found.deviation[2]).all()
    assert_close(found.spikes[[0, 1, 3]], alone.spikes)


def test_clipped_traces_are_used_where_asked():
    traces = isolated(2, 0.02)[1]
    traces[1] = odd("clipped")
    found = sparse_spikes(traces, WAVELET, clipped="use")
    assert found.kept == () and found.notes == () and not np.array_equal(found.spikes[1], traces[1])


def test_a_gather_without_a_sound_trace_is_returned_as_it_came():
    traces = np.full((3, N), np.nan, np.float32)
    found = sparse_spikes(traces, WAVELET)
    assert found.kept == (0, 1, 2) and found.converged
    np.testing.assert_array_equal(found.spikes, traces)


@pytest.mark.parametrize("method, dtype", [("sbl", np.float64), *((method, np.float32) for method in SPIKES)])
@pytest.mark.parametrize("factor", [1e-12, 1e6])
def test_spikes_are_homogeneous_in_the_traces_unit(factor, method, dtype):
    traces = isolated(2, 0.03)[1]
    one = sparse_spikes(traces.astype(dtype), WAVELET, method=method)
    other = sparse_spikes((factor * traces).astype(dtype), WAVELET, method=method)
    near = {"rtol": 2e-3, "atol": 2e-4} if dtype == np.float32 else {"rtol": 1e-6, "atol": 1e-9}
    for name in ("spikes", "refit", "noise"):
        assert_close(getattr(other, name).astype(float) / factor, getattr(one, name).astype(float), **near)


@pytest.mark.parametrize("factor", [-1e-12, 1e6])
def test_spikes_are_inverse_in_the_wavelets_unit(factor):
    traces = isolated(2, 0.03)[1]
    one, other = (sparse_spikes(traces, scale * WAVELET) for scale in (1, factor))
    assert_close(other.spikes * factor, one.spikes)
    assert_close(other.refit, one.refit)


def test_a_given_noise_is_in_the_traces_unit():
    traces = isolated(2, 0.03)[1]
    one, other = sparse_spikes(traces, WAVELET, 0.03), sparse_spikes(1e6 * traces, WAVELET, 0.03e6)
    assert_close(other.spikes / 1e6, one.spikes)


@pytest.mark.parametrize("shift", [-7, 5])
def test_a_centre_shifts_the_spikes(shift):
    traces = isolated(2, 0.02)[1]
    middle, moved = sparse_spikes(traces, WAVELET), sparse_spikes(traces, WAVELET, centre=15 + shift)
    assert_close(moved.spikes, np.roll(middle.spikes, shift, 1), rtol=1e-5, atol=1e-6)


def test_a_minimum_phase_wavelet_has_its_spikes_where_it_begins():
    wavelet = damped()
    truth, traces = isolated(2, 0.005, wavelet=wavelet, centre=0)
    found = sparse_spikes(traces, wavelet, centre=0)
    assert_close(found.spikes, np.stack([truth, truth]), rtol=0, atol=0.1)


@pytest.mark.parametrize("method", SPIKES)
def test_the_refit_is_the_spikes_behind_the_wavelet(method):
    traces = isolated(2, 0.03)[1]
    found = sparse_spikes(traces, WAVELET, method=method, centre=10)
    behind = np.array([np.convolve(row, WAVELET)[10 : 10 + N] for row in found.spikes])
    # The wavelet's ends below a ten thousandth of it are left out.
    assert_close(found.refit, behind, rtol=0, atol=1e-3)


def test_traces_side_by_side_are_solved_as_alone():
    traces = isolated(5, 0.03)[1]
    together = sparse_spikes(traces, WAVELET).spikes
    for row, trace in zip(together, traces, strict=True):
        assert_close(row, sparse_spikes(trace, WAVELET).spikes, rtol=1e-6, atol=1e-8)


def test_times_have_the_rate_and_the_start():
    found = sparse_spikes(isolated(1)[1], WAVELET, rate=250.0, start=-0.1)
    assert found.times.shape == (N,) and found.times[0] == -0.1 and found.times[-1] == pytest.approx(-0.1 + 119 / 250)


def test_progress_goes_to_the_end():
    said = []
    sparse_spikes(isolated(3, 0.03)[1], WAVELET, progress=lambda *what: said.append(what))
    assert said[0] == ("finding spikes", 0, 3) and said[-1] == ("finding spikes", 3, 3)


TRACE = np.random.default_rng(0).standard_normal(40)
REFUSED = {
    "a wavelet longer than the trace": ((TRACE, np.ones(41)), {}, ShapeError, "has 41 samples, but the traces only 40"),
    "an empty wavelet": ((TRACE, np.ones(0)), {}, ShapeError, "not zero everywhere"),
    "a wavelet of zeros": ((TRACE, np.zeros(5)), {}, ShapeError, "not zero everywhere"),
    "two axes of a wavelet": ((TRACE, np.ones((5, 1))), {}, ShapeError, r"the wavelet is \(5, 1\)"),
    "NaN in the wavelet": ((TRACE, [1.0, np.nan, 2.0]), {}, NonFinite, "the wavelet has NaN"),
    "only NaN in the wavelet": ((TRACE, [np.nan]), {}, NonFinite, "the wavelet has NaN"),
    "a complex wavelet": ((TRACE, np.ones(5, complex)), {}, DtypeError, "wavelet is complex128"),
    "a complex wavelet tensor": ((TRACE, torch.ones(5, dtype=torch.cfloat)), {}, DtypeError, "wavelet is torch.complex64"),
    "a wavelet of words": ((TRACE, "ricker"), {}, DtypeError, "the wavelet is"),
    "a centre outside": ((TRACE, np.ones(5)), {"centre": 5}, ShapeError, "centre is 5, but 0 to 4"),
    "traces of one sample": ((np.ones((3, 1)), np.ones(1)), {}, ShapeError, "at least two samples"),
    "a number for a trace": ((3.0, np.ones(1)), {}, ShapeError, "at least two samples"),
    "no trace": ((np.ones((0, 40)), np.ones(3)), {}, ShapeError, r"traces are \(0, 40\)"),
    "complex traces": ((TRACE + 0j, np.ones(3)), {}, DtypeError, "traces are complex128"),
    "boolean traces": ((TRACE > 0, np.ones(3)), {}, DtypeError, "traces are bool"),
    "an unknown method": (
        (TRACE, np.ones(3)),
        {"method": "sbI"},
        ShapeError,
        "method is 'sbI', but one of sbl, .* was needed. Nearest: sbl",
    ),
    "another word for the noise": (
        (TRACE, np.ones(3), "guess"),
        {},
        ShapeError,
        "noise is 'guess', but a standard deviation or 'estimate'",
    ),
    "no noise": ((TRACE, np.ones(3), 0.0), {}, ShapeError, "noise is 0.0, but a number above zero"),
    "noise that is NaN": ((TRACE, np.ones(3), float("nan")), {}, ShapeError, "noise is nan, but a number above zero"),
    "no number for the noise": ((TRACE, np.ones(3), [1, 2]), {}, ShapeError, r"noise has shape \(2,\), but one number"),
    "no number at all for the noise": ((TRACE, np.ones(3), object()), {}, DtypeError, "noise is <object"),
    "another word for clipped traces": ((TRACE, np.ones(3)), {"clipped": "mend"}, ShapeError, "clipped is 'mend'"),
    "no rate": ((TRACE, np.ones(3)), {"rate": 0.0}, ShapeError, "rate is 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(what):
    given, options, error, words = REFUSED[what]
    with pytest.raises(error, match=f"^sparse_spikes: .*{words}"):
        sparse_spikes(*given, **options)


def test_an_estimated_wavelet_of_zero_phase_is_the_traces_own():
    found = estimate_wavelet(white(wavelet=WAVELET), 31)
    assert found.samples.shape == (31,) and found.centre == 15 and found.phase == "zero" and found.rotation == 0
    assert_close(found.samples, found.samples[::-1].copy(), rtol=0, atol=1e-12)
    assert np.abs(found.samples).max() == 1
    assert np.corrcoef(found.samples, WAVELET)[0, 1] > 0.95


def damped():
    """A minimum-phase wavelet: an oscillation that two poles inside the unit circle make, without zeros."""
    made = [0.0, 1.0]
    while len(made) < 32:
        made.append(2 * 0.85 * np.cos(0.7) * made[-1] - 0.85**2 * made[-2])
    return np.array(made[1:])


@pytest.mark.parametrize("rounds, count, n", [(0, 40, 400), (2, 8, 200)])
def test_an_estimated_wavelet_of_minimum_phase_is_the_traces_own(rounds, count, n):
    found = estimate_wavelet(white(count, n, damped()), 31, "minimum", rounds=rounds)
    assert found.samples.shape == (31,) and found.centre == 0
    assert np.corrcoef(found.samples, damped())[0, 1] > 0.95


@pytest.mark.parametrize("degrees", [0, 30, 60, -45])
def test_an_estimated_rotation_is_that_of_the_wavelet(degrees):
    wavelet = turned(WAVELET, degrees)
    found = estimate_wavelet(white(60, wavelet=wavelet), 61, "mixed")
    assert found.rotation == pytest.approx(degrees, abs=5)
    assert likeness(found.samples, wavelet) > 0.95


@pytest.mark.parametrize("phase", ["zero", "minimum", "mixed"])
def test_that_the_sign_cannot_be_told_is_said(phase):
    traces = white(10, 200, WAVELET)
    one, other = (estimate_wavelet(sign * traces, 31, phase) for sign in (1, -1))
    assert any("sign" in note for note in one.notes)
    assert_close(one.samples, other.samples)


def test_rounds_mend_an_estimated_wavelet():
    errors = np.zeros(2)
    for seed in range(3):
        traces = white(8, 300, WAVELET, seed=seed)
        errors += [1 - likeness(estimate_wavelet(traces, 31, rounds=rounds).samples, WAVELET) for rounds in (0, 2)]
    assert errors[1] < 0.7 * errors[0]


def test_a_wavelet_of_even_length_is_one_longer_where_it_has_a_middle():
    assert len(estimate_wavelet(white(10, wavelet=WAVELET), 30).samples) == 31
    assert len(estimate_wavelet(white(10, wavelet=WAVELET), 30, "minimum").samples) == 30


def test_gaussian_traces_have_a_rotation_that_is_not_to_be_trusted():
    draw = np.random.default_rng(0).standard_normal((60, 400))
    traces = np.array([np.convolve(row, WAVELET, "same") for row in draw])
    assert any("do not rely on the rotation" in note for note in estimate_wavelet(traces, 31, "mixed").notes)
    spiky = estimate_wavelet(white(60, wavelet=WAVELET), 31, "mixed")
    assert not any("do not rely on the rotation" in note for note in spiky.notes)


@pytest.mark.parametrize("factor", [1e-12, 1e6])
@pytest.mark.parametrize("phase", ["zero", "minimum", "mixed"])
def test_an_estimated_wavelet_has_no_unit(phase, factor):
    traces = white(6, 200, WAVELET)
    one, other = (estimate_wavelet(scale * traces, 31, phase, rounds=1) for scale in (1, factor))
    assert_close(other.samples, one.samples, rtol=1e-4, atol=1e-5)


def test_odd_traces_have_no_say_in_the_wavelet():
    traces = white(10, n=N, wavelet=WAVELET)
    sound = estimate_wavelet(traces[[0, 1, 3, 4, 6, 7, 8, 9]], 31)
    traces[2], traces[5] = odd("NaN"), odd("dead")
    found = estimate_wavelet(traces, 31)
    assert_close(found.samples, sound.samples)
    assert any("trace 2" in note for note in found.notes) and any("trace 5" in note for note in found.notes)


def test_an_estimated_wavelet_comes_in_the_kind_of_the_traces():
    traces = white(6, 200, WAVELET)
    assert isinstance(estimate_wavelet(traces, 31).samples, np.ndarray)
    found = estimate_wavelet(torch.from_numpy(traces).float(), 31, rounds=1).samples
    assert isinstance(found, torch.Tensor)
    assert_close(found.numpy(), estimate_wavelet(traces, 31, rounds=1).samples, rtol=0, atol=1e-3, check_dtype=False)


@pytest.mark.parametrize(
    "given, words",
    [
        ((TRACE, 2), "length is 2, and 1 of 1 traces"),
        ((TRACE, 41), "length is 41"),
        ((np.zeros((3, 40)), 9), "0 of 3 traces of 40 samples can be used"),
        ((TRACE, 9, "constant"), "phase is 'constant'"),
    ],
)
def test_wavelets_that_cannot_be_estimated_are_refused_in_words(given, words):
    with pytest.raises((ShapeError, DtypeError), match=f"^estimate_wavelet: .*({words})"):
        estimate_wavelet(*given)


def test_rounds_below_zero_are_refused():
    with pytest.raises(ShapeError, match=r"^estimate_wavelet: rounds is -1"):
        estimate_wavelet(TRACE, 9, rounds=-1)


# What a first version got wrong


@pytest.mark.parametrize("centre", [0, 1, 5, 30])
@pytest.mark.parametrize("method", ["sbl", "sbl-only", "l1"])
def test_the_time_of_a_spike_may_be_any_sample_of_the_wavelet(method, centre):
    truth, traces = isolated(2, 0.01, centre=centre)
    found = sparse_spikes(traces, WAVELET, method=method, centre=centre)
    assert np.isfinite(found.spikes).all() and np.isfinite(found.noise).all()
    assert np.corrcoef(found.spikes[0], truth)[0, 1] > 0.95


@pytest.mark.parametrize("offset", [0.2, 50.0])
def test_an_offset_is_taken_away_and_said(offset):
    truth, traces = isolated(2, 0.01)
    found = sparse_spikes(traces + offset, WAVELET)
    assert any("an offset was subtracted" in note for note in found.notes)
    assert np.corrcoef(found.spikes[0], truth)[0, 1] > 0.99
    assert float(found.noise.max()) < 0.02


def test_an_offset_does_not_change_an_estimated_wavelet():
    traces = white(wavelet=WAVELET)
    plain, lifted = estimate_wavelet(traces, 31), estimate_wavelet(traces + 2, 31)
    assert np.corrcoef(plain.samples, lifted.samples)[0, 1] > 0.999


def test_traces_that_are_no_spikes_and_noise_above_all_are_answered():
    walk = np.random.default_rng(0).standard_normal((4, 200)).cumsum(1)
    assert np.isfinite(sparse_spikes(walk, WAVELET).spikes).all()
    assert not sparse_spikes(isolated()[1], WAVELET, noise=1e3).spikes.any()


@pytest.mark.parametrize("peak", [20, 100, 1000])
def test_integers_that_are_coarse_are_not_clipped(peak):
    """25 Hz at 0.5 ms: the wavelet's top is flat for some samples at so few steps."""
    slow = oracle.ricker(25, 0.0005, 241)
    clean = white(20, 600, slow, snr=200)
    coarse = np.round(clean / np.abs(clean).max(1, keepdims=True) * peak).astype(np.int16)
    assert len(sparse_spikes(coarse[:, ::2], slow[::2]).kept) <= 4
    cut = np.clip(clean, -0.5 * np.abs(clean).max(), 0.5 * np.abs(clean).max())
    fine = np.round(cut / np.abs(cut).max() * 30000).astype(np.int16)
    flat = np.array([np.abs(row).max() == np.abs(fine).max() for row in fine])
    assert set(np.flatnonzero(flat)) - {2} <= set(sparse_spikes(fine[:, ::2], slow[::2]).kept) | {2}


def test_each_trace_may_have_a_noise_of_its_own():
    _, traces = isolated(3, 0.02)
    levels = np.array([0.02, 0.5, 0.02])
    found = sparse_spikes(traces, WAVELET, levels)
    assert_close(found.noise, levels)
    one = sparse_spikes(traces[1], WAVELET, 0.5)
    assert_close(found.spikes[1], one.spikes, rtol=1e-9, atol=1e-12)
    with pytest.raises(ShapeError, match=r"noise has shape \(2,\), but one number, or one for each trace with shape \(3,\)"):
        sparse_spikes(traces, WAVELET, levels[:2])


def test_a_misfit_keeps_a_wrong_wavelet_from_making_spikes():
    truth, traces = isolated(4, 0.005)
    wrong = oracle.ricker(27, 0.004, 31)
    strict, lenient = (sparse_spikes(traces, wrong, misfit=misfit) for misfit in (0.0, 0.1))
    assert (lenient.spikes != 0).sum() < (strict.spikes != 0).sum()
    likeness_of = [np.corrcoef(found.spikes[0], truth)[0, 1] for found in (strict, lenient)]
    assert likeness_of[1] > likeness_of[0]
    assert_close(lenient.noise, strict.noise, rtol=1e-9, atol=0)
