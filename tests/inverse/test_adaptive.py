"""Adaptive filters: their laws, the least-squares and MMSE solutions they must reach, and how they fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import lms, nlms, rls
from unconv.inverse.fields.channel import constellation, symbol_error_rate

QPSK = constellation("qpsk").points.numpy()
CHANNEL = np.array([0.3, 0.9, -0.2 + 0.2j])


def link(n=2000, channel=CHANNEL, noise=0.05, points=QPSK, seed=0, signals=()):
    """Symbols, and what of them is received behind a channel of three taps, the middle one in the symbol's own place."""
    draw = np.random.default_rng(seed)
    sent = points[draw.integers(0, len(points), (*signals, n))]
    wide = np.pad(sent, [(0, 0)] * len(signals) + [(1, 1)])
    clean = sum(tap * wide[..., 2 - j : 2 - j + n] for j, tap in enumerate(channel))
    extra = draw.standard_normal(clean.shape) + (1j * draw.standard_normal(clean.shape) if np.iscomplexobj(clean) else 0)
    return sent, clean + noise / np.sqrt(1 + np.iscomplexobj(clean)) * extra


def windows(received, length, ahead, rate=1):
    """The input vectors in plain loops: (K, length)."""
    n = len(received)
    at = [[k * rate + ahead - j for j in range(length)] for k in range(-(-n // rate))]
    return np.array([[received[i] if 0 <= i < n else 0 for i in row] for row in at])


def wiener(channel, noise, length, ahead):
    """The MMSE filter and its error for white symbols of power one."""
    rows = np.zeros((length, length + 2), complex)  # input j holds symbol k + ahead - j + 1 - i behind tap i
    for j in range(length):
        for i, tap in enumerate(channel):
            rows[j, j + i] = tap
    own = ahead + 1  # column of symbol k
    r = rows.conj() @ rows.T + noise**2 * np.eye(length)
    taps = np.linalg.solve(r, rows[:, own].conj())
    return taps, float((1 - rows[:, own] @ taps).real)


def test_lms_is_its_definition_in_plain_loops():
    sent, received = link(60)
    result = lms(received, sent[:40], 5, QPSK, step=0.02)
    taps, outputs = np.zeros(5, complex), []
    for k, x in enumerate(windows(received, 5, 2)):
        y = x @ taps
        expected = sent[k] if k < 40 else QPSK[np.abs(QPSK - y).argmin()]
        taps = taps + 0.02 * (expected - y) * x.conj()
        outputs.append(y)
    assert_close(result.outputs, np.array(outputs))
    assert_close(result.taps, taps)


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_the_excess_error_of_lms_is_mu_j_tr_r_over_two_minus_mu_tr_r(fraction):
    # Independent inputs, as the formula takes them: one window of five samples for each output.
    draw = np.random.default_rng(1)
    x, truth, noise = draw.standard_normal((200, 1500, 5)), draw.standard_normal(5), 0.3 * draw.standard_normal((200, 1500))
    expected = x @ truth + noise
    step = fraction / 5
    # `rate` = 5 with 4 samples ahead: window k holds samples 5 k to 5 k + 4, the latest first.
    result = lms(x[..., ::-1].reshape(200, -1), expected, 5, step=step, samples_per_symbol=5, ahead=4)
    excess = float(np.mean((result.errors - noise)[:, 500:] ** 2))
    # With Gaussian inputs the fourth moments add a little to the textbook's formula: 1 + 2 / 5 in the second term.
    j, load = 0.09, step * 5
    assert excess == pytest.approx(load * j / (2 - load), rel=0.5 * load + 0.03)
    assert excess == pytest.approx(load * j / (2 - load * (1 + 2 / 5)), rel=0.03)


@pytest.mark.parametrize("feedback", [0, 2])
@pytest.mark.parametrize("stop", [3, 10, 90])
def test_rls_without_forgetting_is_regularised_least_squares_at_each_time(feedback, stop):
    sent, received = (each[:stop] for each in link(90, noise=0.2))
    start = 0.1 * np.arange(6) + 0j
    past = np.array([[sent[k - b] if k >= b else 0 for b in range(1, feedback + 1)] for k in range(stop)])
    rows = np.hstack([windows(received, 6, 3), past.reshape(stop, feedback)])
    first = np.r_[start, np.zeros(feedback)]
    result = rls(received, sent, 6, forgetting=1.0, regularisation=0.7, feedback=feedback, initial=start)
    matrix = rows.conj().T @ rows + 0.7 * np.eye(len(first))
    solution = first + np.linalg.solve(matrix, rows.conj().T @ (sent - rows @ first))
    assert_close(np.r_[result.taps, result.feedback], solution, rtol=1e-9, atol=1e-10)


def test_rls_with_forgetting_weighs_the_past_down():
    sent, received = link(80)
    result = rls(received, sent, 4, forgetting=0.9, regularisation=0.5)
    x, weights = windows(received, 4, 2), 0.9 ** np.arange(79, -1, -1.0)
    matrix = (x.conj().T * weights) @ x + 0.9**80 * 0.5 * np.eye(4)
    assert_close(result.taps, np.linalg.solve(matrix, (x.conj().T * weights) @ sent), rtol=1e-9, atol=1e-10)


def test_nlms_does_not_see_the_scale_of_its_input():
    sent, received = link(300)
    options = {"feedback": 2, "step": 0.5}
    first, second = (nlms(scale * received, sent[:200], 7, QPSK, **options) for scale in (1.0, 1e-7))
    assert_close(first.outputs, second.outputs, rtol=1e-9, atol=1e-9)
    assert_close(first.taps, 1e-7 * second.taps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "learn, options, excess",
    [(lms, {"step": 0.002}, 1.1), (nlms, {"step": 0.02}, 1.1), (rls, {"forgetting": 1.0}, 1.05)],
    ids=["lms", "nlms", "rls"],
)
def test_adaptive_filters_reach_the_mmse_solution(learn, options, excess):
    noise = 0.2
    sent, received = link(8000, noise=noise)
    result = learn(received, sent, 9, **options)
    taps, least = wiener(CHANNEL, noise, 9, 4)
    assert np.abs(result.taps - taps).max() < 0.03
    assert float(np.mean(np.abs(result.errors[2000:]) ** 2)) == pytest.approx(excess * least, rel=0.1)
    assert not result.diverged and result.notes == ()


def test_decisions_carry_on_where_training_ends():
    sent, received = link(3000)
    result = rls(received, sent[:60], 9, QPSK)
    assert symbol_error_rate(sent[60:], QPSK[np.abs(result.outputs[60:, None] - QPSK).argmin(1)]).errors == 0
    function = rls(received, sent[:60], 9, lambda y: QPSK[np.abs(y[:, None] - QPSK).argmin(1)])
    assert_close(function.outputs, result.outputs)


def test_without_decisions_the_taps_stay_as_training_left_them():
    sent, received = link(300)
    result = nlms(received, sent[:200], 7)
    assert_close(result.outputs[200:], windows(received, 7, 3)[200:] @ result.taps)
    assert np.isnan(result.errors[200:]).all() and not np.isnan(result.errors[:200]).any()


def test_feedback_takes_away_what_past_symbols_left():
    # A zero on the unit circle: no linear filter inverts it, and feedback does.
    points = np.array([1.0, -1.0])
    sent, received = link(4000, [0.0, 1.0, 1.0], 0.1, points)
    linear, fed = (rls(received, sent[:500], 11, points, ahead=5, feedback=b) for b in (0, 1))
    power = [float(np.mean(each.errors[1000:] ** 2)) for each in (linear, fed)]
    assert power[1] < 0.02 < 2 * power[1] + 0.02 < power[0]
    assert fed.feedback == pytest.approx(-1, abs=0.1) and fed.outputs.dtype == np.float64


@pytest.mark.parametrize("learn", [lms, nlms, rls])
def test_a_turning_carrier_is_followed_by_the_phase_loop(learn):
    sent, received = link(4000, noise=0.1)
    turning = received * np.exp(1j * (0.5 + 0.02 * np.arange(4000)))
    with_loop, without = (learn(turning, sent[:400], 9, QPSK, phase=band) for band in (0.02, 0.0))
    power = [float(np.mean(np.abs(each.errors[3000:]) ** 2)) for each in (with_loop, without)]
    assert power[0] < 0.06 < power[1]
    slope = np.diff(with_loop.phase[2000:]).mean()
    assert slope == pytest.approx(0.02, abs=0.001) and not without.phase.any()


def test_two_samples_a_symbol_are_filtered_at_their_own_rate():
    sent, fine = link(1000, noise=0.0)
    received = np.repeat(fine, 2)
    result = rls(received, sent, 10, samples_per_symbol=2, forgetting=1.0)
    assert result.outputs.shape == (1000,) and result.taps.shape == (10,)
    assert_close(result.outputs[-1], windows(received, 10, 5, 2)[-1] @ result.taps, atol=1e-3, rtol=0)


@pytest.mark.parametrize("learn", [lms, nlms, rls])
def test_signals_side_by_side_are_equalised_as_each_alone(learn):
    sent, received = link(150, signals=(2, 3))
    received = received * np.array([[1.0], [2.0], [0.1]])
    both = learn(received, sent[..., :80], 5, QPSK, feedback=1, phase=0.01)
    alone = learn(received[1, 2], sent[1, 2, :80], 5, QPSK, feedback=1, phase=0.01)
    for name in ("outputs", "errors", "taps", "feedback", "phase"):
        assert_close(getattr(both, name)[1, 2], getattr(alone, name))
    assert both.diverged.shape == (2, 3) and both.outputs.shape == (2, 3, 150)


def test_a_thousand_signals_take_one_loop(monkeypatch):
    sent, received = link(40, signals=(1000,))
    calls = []
    lms(received, sent[:, :20], 5, lambda y: calls.append(len(y)) or np.sign(y.real) + 0j)
    assert calls == [1000] * 20


def test_results_come_in_the_kind_of_the_signal():
    sent, received = link(80)
    tensor = rls(torch.from_numpy(received).to(torch.complex64), torch.from_numpy(sent), 5)
    assert tensor.outputs.dtype == torch.complex64 and tensor.phase.dtype == torch.float32
    assert rls(received.real.astype(np.float32), sent.real, 5).taps.dtype == np.float32
    assert rls(received.tolist(), sent.tolist(), 5).taps.dtype == np.complex128


def test_a_step_beyond_the_bound_diverges_and_says_so():
    sent, received = link(3000)
    result = lms(received, sent, 9, step=2.0)
    assert result.diverged and "2 / (L power): LMS is unstable there" in result.notes[0] and "diverged" in result.notes[1]
    assert lms(np.stack([received, 9 * received]), sent, 9, step=0.02).diverged.tolist() == [False, True]


def test_rls_survives_an_input_that_stops_to_excite_it():
    sent, received = link(6000)
    received[1000:5000] = 0.0
    result = rls(received, sent[:1000], 9, QPSK, forgetting=0.95)
    again = rls(received[:1000], sent[:1000], 9, QPSK, forgetting=0.95)
    assert np.isfinite(result.taps).all() and not result.diverged
    assert np.abs(result.errors[5100:]).mean() < 2 * np.abs(again.errors[100:]).mean()


def test_refusals_of_adaptive_filters():
    sent, received = link(50)
    cases = [
        (lambda: lms(received, None, 5), ShapeError, "neither training nor decisions came"),
        (lambda: lms(received, np.r_[sent, sent], 5), ShapeError, "100 training symbols came, but `received` has only 50"),
        (lambda: lms(received, sent, 0), ShapeError, "length is 0"),
        (lambda: lms(received, sent, 5, step=-1.0), ShapeError, "lms: step is -1.0, but one between 0 and"),
        (lambda: nlms(received, sent, 5, step=2.0), ShapeError, "nlms: step is 2.0"),
        (lambda: rls(received, sent, 5, forgetting=1.1), ShapeError, "forgetting is 1.1"),
        (lambda: rls(received, sent, 5, regularisation=0.0), ShapeError, "regularisation is 0.0"),
        (lambda: lms(0 * received, sent, 5), ShapeError, "received is silent: all zeros"),
        (lambda: lms(received * 1e-200, sent, 5), ShapeError, "received reaches .*e-200, but samples whose powers"),
        (lambda: lms(np.stack([received, 0 * received]), sent, 5), ShapeError, "received 1 is silent"),
        (lambda: lms(received, sent, 5, ahead=5), ShapeError, "ahead is 5"),
        (lambda: lms(received, sent[:9], 5, feedback=2), ShapeError, "after training it needs decisions"),
        (lambda: lms(received, sent, 5, phase=0.3), ShapeError, "phase is 0.3, but a loop bandwidth"),
        (lambda: lms(received.real, sent.real, 5, phase=0.1), DtypeError, "real signals have none to track"),
        (lambda: lms(received, sent, 5, [1.0, -1.0]), DtypeError, "training is complex, but decisions are real"),
        (lambda: lms(received, sent, 5, "qpsk"), DtypeError, "decide is 'qpsk'"),
        (lambda: lms(received, sent, 5, initial=np.ones(4)), ShapeError, r"initial is \(4,\), but \(5,\)"),
        (lambda: lms(received, sent[None], 5), ShapeError, r"training is \(1, 50\)"),
        (lambda: lms(np.r_[received[:9], np.nan], sent[:9], 5), NonFinite, "received has NaN or infinite samples"),
        (lambda: lms(received, sent, 5.5), DtypeError, "length is 5.5"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()
