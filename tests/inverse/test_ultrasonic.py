"""Echoes of known delays: fitted between samples, counted where they overlap, and said in the units that the scans came in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse import refine_delays
from unconv.inverse.fields.ultrasonic import pulse_of_echo, resolve_echoes

RATE, FREQUENCY = 100e6, 5e6
SPREAD = np.sqrt(2 * np.log(2)) / (np.pi * 0.6 * FREQUENCY) * RATE  # samples: the bandwidth is 60 % at -6 dB
WIDTH = 29.4  # samples, of the envelope at -6 dB
N = 400


def shape(t):
    """The pulse at times in samples."""
    return np.exp(-((t / SPREAD) ** 2) / 2) * np.cos(2 * np.pi * FREQUENCY / RATE * t)


PULSE = shape(np.arange(-62, 63.0))


def scans(delays, amplitudes=(1.0, 0.8), noise=0.0, count=1, seed=0, n=N):
    """Scans (count, n) of echoes at delays (K,) or (count, K), in samples."""
    delays = np.broadcast_to(np.asarray(delays, float), (count, np.shape(delays)[-1]))
    clean = (np.asarray(amplitudes)[..., None] * shape(np.arange(n) - delays[..., None])).sum(1)
    return clean + noise * np.random.default_rng(seed).standard_normal((count, n))


def pairs(separation, count, noise, seed=0):
    """Scans of two echoes so many samples apart, the second upside down in half of them, and their delays (count, 2)."""
    draw = np.random.default_rng(seed)
    delays = (150 + 50 * draw.random(count))[:, None] + [0, separation]
    amplitudes = np.stack([np.ones(count), 0.8 * (-1.0) ** np.arange(count)], 1)
    return scans(delays, amplitudes, noise, count, seed + 1), delays


def bounds(delays, amplitudes, noise):
    """The Cramér-Rao bounds of delays, from the pulse's own slopes."""
    t = np.arange(N) - np.asarray(delays, float)[:, None]
    slopes = -np.asarray(amplitudes)[:, None] * (shape(t + 1e-4) - shape(t - 1e-4)) / 2e-4
    jacobian = np.concatenate([slopes, shape(t)])
    return noise * np.sqrt(np.linalg.inv(jacobian @ jacobian.T).diagonal()).reshape(2, -1)


def tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.double)


@pytest.mark.parametrize("amplitudes", [(1.0, 0.8), (1.0, -0.8), (-1.0, -0.3)])
@pytest.mark.parametrize("separation", [8, 12, 100])
def test_delays_of_clean_scans_are_exact(separation, amplitudes):
    delays = (150.37, 150.37 + separation)
    found = refine_delays(tensor(scans(delays, amplitudes)[0]), tensor(PULSE), tensor(delays) + tensor([0.8, -0.9]))
    assert_close(found.delays, tensor(delays), rtol=0, atol=1e-5)
    assert_close(found.amplitudes, tensor(amplitudes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("separation", [12, 16, 40])
def test_errors_of_delays_are_those_of_the_cramer_rao_bound(separation):
    delays, noise = np.array([170.4, 170.4 + separation]), 0.01
    y = tensor(scans(delays, noise=noise, count=400))
    found = refine_delays(y, tensor(PULSE), tensor(delays).expand(400, 2), noise=noise)
    wanted = tensor(bounds(delays, (1.0, 0.8), noise))
    assert_close((found.delays - tensor(delays)).square().mean(0).sqrt(), wanted[0], rtol=0.2, atol=0)
    assert_close((found.amplitudes - tensor((1.0, 0.8))).square().mean(0).sqrt(), wanted[1], rtol=0.2, atol=0)
    assert_close(found.delay_bounds.mean(0), wanted[0], rtol=0.02, atol=0)
    assert_close(found.amplitude_bounds.mean(0), wanted[1], rtol=0.02, atol=0)
    estimated = refine_delays(y, tensor(PULSE), tensor(delays).expand(400, 2))
    assert_close(estimated.delay_bounds.mean(0), wanted[0], rtol=0.02, atol=0)


def test_scans_side_by_side_are_fitted_as_alone():
    y, delays = pairs(20, 6, 0.02)
    first = tensor(delays + 0.5)
    first[3, 1] = torch.nan
    together = refine_delays(tensor(y).reshape(2, 3, N), tensor(PULSE), first.reshape(2, 3, 2))
    for row in range(6):
        alone = refine_delays(tensor(y[row]), tensor(PULSE), first[row])
        for name in ("delays", "amplitudes", "delay_bounds", "residual"):
            of_row = getattr(together, name).reshape(6, *getattr(alone, name).shape)[row]
            assert_close(of_row, getattr(alone, name), rtol=1e-6, atol=1e-7, equal_nan=True)
    assert torch.isnan(together.delays[1, 0, 1]) and together.amplitudes[1, 0, 1] == 0


def test_a_shifted_scan_has_shifted_delays():
    y = tensor(scans((150.2, 175.7), noise=0.02)[0])
    one = refine_delays(y, tensor(PULSE), tensor([150.0, 176.0]))
    other = refine_delays(y.roll(13), tensor(PULSE), tensor([163.0, 189.0]))
    centred = refine_delays(y, tensor(PULSE), tensor([140.0, 166.0]), centre=52)
    assert_close(other.delays - 13, one.delays, rtol=0, atol=1e-5)
    assert_close(centred.delays + 10, one.delays, rtol=0, atol=1e-5)


def test_a_scan_upside_down_has_amplitudes_of_the_other_sign():
    y = tensor(scans((150.2, 175.7), noise=0.02)[0])
    one, other = (refine_delays(sign * y, tensor(PULSE), tensor([150.0, 176.0])) for sign in (1, -1))
    assert_close(other.amplitudes, -one.amplitudes)
    assert_close(other.delays, one.delays)
    assert_close(other.delay_bounds, one.delay_bounds)


def test_the_residual_is_what_the_pulses_leave():
    y = scans((150.2, 175.7), noise=0.02)
    found = refine_delays(tensor(y[0]), tensor(PULSE), tensor([150.0, 176.0]))
    left = y - scans(found.delays.numpy(), found.amplitudes.numpy())
    assert_close(found.residual, tensor((left**2).sum()), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "given",
    [
        (torch.zeros(40), torch.ones(41), torch.ones(1)),
        (torch.zeros(40), torch.ones(3, 3), torch.ones(1)),
        (torch.zeros(2, 40), torch.ones(3), torch.ones(1)),
        (torch.zeros(40), torch.ones(0), torch.ones(1)),
    ],
)
def test_delays_of_other_shapes_are_refused(given):
    with pytest.raises(ShapeError, match=r"^refine_delays: observed is .* were needed"):
        refine_delays(*given)


def is_right(found, delays, separation):
    seen = found[np.isfinite(found)] * RATE
    return len(seen) == 2 and np.abs(seen - delays).max() <= max(1, separation / 4)


@pytest.mark.parametrize("width", [0.41, 0.2, 0.14])
def test_two_echoes_closer_than_the_pulse_are_told_apart(width):
    y, delays = pairs(width * WIDTH, 80, 0.01)
    found = resolve_echoes(y, PULSE, RATE)
    right = [is_right(*pair, width * WIDTH) for pair in zip(found.delays, delays, strict=True)]
    assert np.mean(right) >= 0.95


def test_deviations_are_those_of_the_delays():
    y, delays = pairs(16, 250, 0.01)
    found = resolve_echoes(y, PULSE, RATE)
    assert (found.order == 2).all()
    errors = (found.delays - delays / RATE) / found.deviations
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(1, abs=0.1)
    errors = (np.abs(found.amplitudes) - [1, 0.8]) / found.amplitude_deviations
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(1, abs=0.1)
    assert np.median(found.noise) == pytest.approx(0.01, rel=0.1)


def test_noise_has_no_echoes():
    found = resolve_echoes(np.random.default_rng(0).standard_normal((200, N)), PULSE, RATE)
    assert np.mean(found.order > 0) < 0.03


def test_one_echo_is_one():
    found = resolve_echoes(scans([180.3], [1.0], 0.01, 60), PULSE, RATE)
    assert np.mean(found.order == 1) >= 0.95
    assert found.why(0).startswith("1 echo, the criterion falls by ") and "rises by" in found.why(0)


@pytest.mark.parametrize("sign", [1, -1])
def test_amplitudes_have_the_echoes_sign_and_size(sign):
    found = resolve_echoes(scans((120.25, 260.5), (0.5 * sign, -2.0 * sign), 0.005)[0], PULSE, RATE)
    assert_close(found.amplitudes, sign * np.array([0.5, -2.0]), rtol=0.02, atol=0)
    assert_close(found.delays * RATE, np.array([120.25, 260.5]), rtol=0, atol=0.05)


def test_an_offset_is_said_and_does_no_harm():
    y, delays = pairs(16, 10, 0.01)
    plain, lifted = resolve_echoes(y, PULSE, RATE), resolve_echoes(y + 0.5, PULSE, RATE)
    assert plain.notes == () and any("an offset was subtracted, the largest 0.5" in note for note in lifted.notes)
    assert_close(lifted.delays, plain.delays, rtol=0, atol=1e-6 / RATE)
    assert np.abs(lifted.delays * RATE - delays).max() < 0.1


@pytest.mark.parametrize("separation", [12, 40])
def test_clipped_samples_are_said_and_cost_little(separation):
    y, delays = pairs(separation, 10, 0.01)
    cut = np.clip(y, -0.8, 0.8)
    found = resolve_echoes(cut, PULSE, RATE)
    assert any("clipped samples in" in note and "of 10 scans as missing" in note for note in found.notes)
    assert found.kept == () and (found.order == 2).all()
    assert np.abs(found.delays * RATE - delays).max() < 0.2
    assert_close(np.abs(found.amplitudes), np.tile([1, 0.8], (10, 1)), rtol=0, atol=0.1)


def test_a_gate_leaves_out_what_lies_outside_it():
    y = scans((100.3, 200.6, 310.2), (1.0, 0.5, -0.7), 0.005)
    found = resolve_echoes(y[0], PULSE, RATE, gate=(150 / RATE, 250 / RATE))
    assert found.order == 1 and found.gate == (150 / RATE, 250 / RATE)
    assert_close(found.delays * RATE, np.array([200.6]), rtol=0, atol=0.05)
    assert_close(found.refit, scans([200.6], [0.5])[0], rtol=0, atol=0.02)


def test_an_echo_beside_the_gate_is_no_echo_in_it():
    y = scans((190.0, 215.0), (1.0, 0.5), 0.005)[0]
    found = resolve_echoes(y, PULSE, RATE, gate=(205 / RATE, 300 / RATE))
    assert found.order == 1
    assert_close(found.delays * RATE, np.array([215.0]), rtol=0, atol=0.1)


def test_depths_are_half_of_the_way():
    found = resolve_echoes(scans((120.25, 260.5), noise=0.005)[0], PULSE, RATE, 5900.0)
    assert_close(found.depths, found.delays * 5900 / 2)
    assert resolve_echoes(scans((120.25, 260.5))[0], PULSE, RATE).depths is None


def test_the_start_is_added_to_delays_and_taken_from_gates():
    y = scans((120.25, 260.5), noise=0.005)[0]
    late = resolve_echoes(y, PULSE, RATE, start=2e-6, gate=(2e-6 + 200 / RATE, 2e-6 + 300 / RATE))
    assert_close(late.delays * RATE, np.array([200 + 260.5]), rtol=0, atol=0.05)


def test_why_names_the_order_and_its_neighbours():
    found = resolve_echoes(scans((120.25, 260.5), noise=0.005, count=2), PULSE, RATE)
    assert found.why(1).startswith("2 echoes, the criterion falls by ") and found.why(1).endswith("to 3")
    assert found.criterion.shape == (2, 9) and (np.nanargmin(found.criterion, 1) == 2).all()


def test_dead_and_broken_scans_have_no_echoes_and_are_listed():
    y, _ = pairs(16, 5, 0.01)
    alone = resolve_echoes(y[[0, 2, 4]], PULSE, RATE)
    y[1], y[3, 7] = 2.0, np.nan
    found = resolve_echoes(y, PULSE, RATE, 5900.0)
    assert found.kept == (1, 3) and any("trace 1" in note for note in found.notes)
    assert found.order.tolist() == [2, 0, 2, 0, 2]
    assert np.isnan(found.delays[[1, 3]]).all() and np.isnan(found.noise[[1, 3]]).all()
    assert not found.refit[[1, 3]].any()
    assert_close(found.delays[[0, 2, 4]], alone.delays)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda y: np.round(1000 * y).astype(np.int16)])
@pytest.mark.parametrize("shape", [(N,), (6, N), (2, 3, N), (1, 2, 3, N)])
def test_echoes_come_in_the_shape_of_the_scans(shape, kind):
    y, delays = pairs(30, 6, 0.01)
    came = kind(y[: int(np.prod(shape[:-1]))].reshape(shape))
    found = resolve_echoes(came, PULSE, RATE, 5900.0, most=4)
    for name in ("delays", "amplitudes", "deviations", "amplitude_deviations", "depths"):
        made = getattr(found, name)
        assert isinstance(made, torch.Tensor) == isinstance(came, torch.Tensor)
        assert tuple(made.shape) == (*shape[:-1], 2)
    assert tuple(found.order.shape) == tuple(found.noise.shape) == shape[:-1]
    assert tuple(found.criterion.shape) == (*shape[:-1], 5) and tuple(found.refit.shape) == shape
    wanted = delays[: int(np.prod(shape[:-1]))].reshape(*shape[:-1], 2) / RATE
    assert_close(tensor(found.delays), tensor(wanted), rtol=0, atol=0.2 / RATE)


def test_scans_of_float32_are_fitted_as_those_of_float64():
    y, _ = pairs(16, 4, 0.01)
    for kind in (y.astype(np.float32), torch.from_numpy(y).float()):
        found = resolve_echoes(kind, PULSE, RATE)
        assert_close(tensor(found.delays), tensor(resolve_echoes(y, PULSE, RATE).delays), rtol=0, atol=1e-4 / RATE)


def test_many_scans_are_resolved_as_alone():
    y, _ = pairs(16, 70, 0.01)
    said = []
    together = resolve_echoes(y, PULSE, RATE, progress=lambda *what: said.append(what[1:]))
    assert said == [(0, 70), (64, 70), (70, 70)]
    for row in (0, 65):
        alone = resolve_echoes(y[row], PULSE, RATE)
        assert_close(together.delays[row, : int(alone.order)], alone.delays, rtol=0, atol=1e-5 / RATE)


@pytest.mark.parametrize("factor", [1e-12, 1e6])
def test_echoes_are_homogeneous_in_the_scans_unit(factor):
    y, _ = pairs(16, 4, 0.01)
    one, other = (resolve_echoes(scale * y, PULSE, RATE) for scale in (1, factor))
    assert_close(other.delays, one.delays, rtol=1e-9, atol=0)
    for name in ("amplitudes", "amplitude_deviations", "noise", "refit"):
        assert_close(getattr(other, name) / factor, getattr(one, name), rtol=1e-5, atol=1e-8)
    assert_close(other.deviations, one.deviations, rtol=1e-5, atol=0)


@pytest.mark.parametrize("factor", [1e-8, 1e3])
def test_delays_are_inverse_in_the_rate(factor):
    y, _ = pairs(16, 4, 0.01)
    one, other = (resolve_echoes(y, PULSE, RATE * scale) for scale in (1, factor))
    assert_close(other.delays * factor, one.delays)
    assert_close(other.deviations * factor, one.deviations)
    assert_close(other.amplitudes, one.amplitudes)


@pytest.mark.parametrize("factor", [-1e-12, 1e6])
def test_amplitudes_are_inverse_in_the_pulses_unit(factor):
    y, _ = pairs(16, 4, 0.01)
    one, other = (resolve_echoes(y, scale * PULSE, RATE) for scale in (1, factor))
    assert_close(other.delays, one.delays)
    assert_close(other.amplitudes * factor, one.amplitudes)


def test_the_refit_is_the_sum_of_the_echoes():
    y, _ = pairs(16, 3, 0.01)
    found = resolve_echoes(y, PULSE, RATE)
    for row in range(3):
        assert_close(found.refit[row], scans(found.delays[row] * RATE, found.amplitudes[row])[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("scan", [np.zeros((2, N)), np.full(N, np.nan)])
def test_scans_that_are_all_kept_have_no_echoes_but_no_pulse_either(scan):
    found = resolve_echoes(scan, PULSE, RATE, 5900.0)
    assert not found.order.any() and found.delays.shape == (*scan.shape[:-1], 0) and len(found.kept) == scan.size // N
    with pytest.raises(ShapeError, match=r"^pulse_of_echo: all scans are dead or have NaN"):
        resolve_echoes(scan, rate=RATE)


def test_the_pulse_is_estimated_from_an_echo_that_stands_apart():
    delays, amplitudes = (100.3, 280.2, 450.6), (1.0, 0.7, -0.4)
    y = scans(delays, amplitudes, 0.005, 6, n=600)
    found = resolve_echoes(y, rate=RATE)
    assert (found.order == 3).all() and any("the pulse is the strongest echo" in note for note in found.notes)
    # The pulse stands at a whole sample of the echo that it was taken from: all delays are off by as much, half of one at most.
    shift = found.delays * RATE - delays
    assert np.abs(shift).max() < 0.55
    assert_close(shift, np.full((6, 3), shift.mean()), rtol=0, atol=0.05)
    assert_close(found.amplitudes / found.amplitudes[:, :1], np.tile(amplitudes, (6, 1)), rtol=0, atol=0.03)


def test_most_is_the_most_and_is_said():
    y = scans((80.3, 200.2, 320.6), (1.0, 0.7, -0.4), 0.005)
    found = resolve_echoes(y, PULSE, RATE, most=2)
    assert found.order[0] == 2 and any("the largest number of echoes (2) was reached in" in note for note in found.notes)


SCAN = scans((120.25, 260.5), noise=0.01)[0]
REFUSED = {
    "a pulse longer than the scan": (
        (SCAN[:100], PULSE, RATE),
        {},
        ShapeError,
        "the pulse has 105 samples, but the scans only",
    ),
    "an empty pulse": ((SCAN, np.ones(0)), {}, ShapeError, "not zero everywhere"),
    "a pulse of zeros": ((SCAN, np.zeros(9)), {}, ShapeError, "not zero everywhere"),
    "NaN in the pulse": ((SCAN, [1.0, np.nan]), {}, NonFinite, "has NaN or infinite samples"),
    "a complex pulse": ((SCAN, np.ones(9, complex)), {}, DtypeError, "complex128, but real numbers"),
    "another word for the pulse": ((SCAN, "guess"), {}, ShapeError, "pulse is 'guess', but an array \\(k,\\) or 'estimate'"),
    "a scan of one sample": ((np.ones(1), np.ones(1)), {}, ShapeError, "at least two samples"),
    "no scan": ((np.ones((0, 40)), np.ones(3)), {}, ShapeError, r"traces are \(0, 40\)"),
    "complex scans": ((SCAN + 0j, PULSE), {}, DtypeError, "complex128, but real numbers"),
    "no rate": ((SCAN, PULSE, 0.0), {}, ShapeError, "rate is 0.0, but a number of samples a second above zero"),
    "a rate of NaN": ((SCAN, PULSE, float("nan")), {}, ShapeError, "rate is nan"),
    "no velocity": ((SCAN, PULSE, RATE, 0.0), {}, ShapeError, "velocity is 0.0, but a number of metres a second above zero"),
    "a gate after the scan": (
        (SCAN, PULSE, RATE),
        {"gate": (5e-6, 6e-6)},
        ShapeError,
        "gate is .* but the scan lasts from 0 to",
    ),
    "a gate the wrong way round": ((SCAN, PULSE, RATE), {"gate": (2e-6, 1e-6)}, ShapeError, "gate is 2e-06 to 1e-06 s"),
    "no echo allowed": ((SCAN, PULSE, RATE), {"most": 0}, ShapeError, "most is 0, but 1 to 64"),
    "a centre outside": ((SCAN, PULSE, RATE), {"centre": 125}, ShapeError, "centre is 125, but 0 to 124"),
    "a misfit below zero": ((SCAN, PULSE, RATE), {"misfit": -0.1}, ShapeError, "misfit is -0.1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(what):
    given, options, error, words = REFUSED[what]
    with pytest.raises(error, match=f"^resolve_echoes: .*{words}"):
        resolve_echoes(*given, **options)


@pytest.mark.parametrize("delay", [200.0, 200.5])
def test_the_pulse_of_an_echo_is_the_pulse(delay):
    found = pulse_of_echo(scans([delay], [1.0], 0.001)[0], RATE)
    middle = len(found) // 2
    assert len(found) % 2 == 1 and found.dtype == torch.float64
    t = np.arange(len(found)) - middle - (delay - 200)
    alike = min(np.abs(found.numpy() - shape(t + shift)).max() for shift in (-1, 0, 1))
    assert alike < 0.03


def test_the_pulse_is_that_of_the_strongest_echo_in_the_gate_that_is_not_clipped():
    y = np.stack([scans([200.0], [1.0])[0], scans([100.0, 300.0], [3.0, 2.0])[0], np.clip(scans([200.0], [9.0])[0], -5, 5)])
    assert float(pulse_of_echo(y, RATE).abs().max()) == pytest.approx(3, rel=0.01)
    assert float(pulse_of_echo(y, RATE, (250 / RATE, 350 / RATE)).abs().max()) == pytest.approx(2, rel=0.01)
    assert float(pulse_of_echo(y, RATE, (1e-6 + 150 / RATE, 1e-6 + 250 / RATE), 1e-6).abs().max()) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(
    "given, words",
    [
        ((np.zeros((2, N)), RATE), "all scans are dead or have NaN"),
        ((SCAN, 0.0), "rate is 0.0"),
        ((SCAN, RATE, (5e-6, 6e-6)), "gate is 5e-06 to 6e-06 s"),
        ((np.full(N, np.nan), RATE), "all scans are dead or have NaN"),
    ],
)
def test_scans_without_an_echo_have_no_pulse(given, words):
    with pytest.raises(ShapeError, match=f"^pulse_of_echo: .*{words}"):
        pulse_of_echo(*given)


# What a first version got wrong


@pytest.mark.parametrize("delay", [10.0, 5.0, 395.0])
def test_an_echo_that_the_scan_s_end_cuts_off_is_one_echo_and_less_sure(delay):
    found = resolve_echoes(scans((delay,), (1.0,), 0.01)[0], PULSE, RATE)
    middle = resolve_echoes(scans((200.0,), (1.0,), 0.01)[0], PULSE, RATE)
    assert found.order == 1
    assert float(found.delays[0]) * RATE == pytest.approx(delay, abs=0.2)
    assert float(found.amplitudes[0]) == pytest.approx(1, abs=0.1)
    assert float(found.deviations[0]) > float(middle.deviations[0])
    assert any("cuts off 1 echo;" in note for note in found.notes) and middle.notes == ()


def test_what_lies_beside_a_gate_does_not_use_up_what_is_allowed_in_it():
    y = scans((150.3, 220.0), (1.0, -0.5), 0.01)[0]
    found = resolve_echoes(y, PULSE, RATE, gate=(200 / RATE, 240 / RATE), most=1)
    assert found.order == 1 and found.fitted == 2
    assert float(found.delays[0]) * RATE == pytest.approx(220, abs=0.2)
    assert found.why().startswith("2 echoes, 1 in the gate, the criterion falls by ")


@pytest.mark.parametrize("gate", [(0.0, float("inf")), (float("nan"), 1.0)])
def test_a_gate_without_end_is_refused(gate):
    with pytest.raises(ShapeError, match="but two finite times were needed"):
        resolve_echoes(scans((150.0,), (1.0,))[0], PULSE, RATE, gate=gate)


@pytest.mark.parametrize("options", [{"misfit": float("nan")}, {"start": float("nan")}])
def test_settings_that_are_no_numbers_are_refused(options):
    with pytest.raises(ShapeError, match=f"{next(iter(options))} is nan"):
        resolve_echoes(scans((150.0,), (1.0,))[0], PULSE, RATE, **options)
