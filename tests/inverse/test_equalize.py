"""One call recovers symbols: whatever stands around them, however they are turned, and it says what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unconv import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields import channel

A = np.array([0.04, -0.05, 0.07, -0.21, -0.5, 0.72, 0.36, 0, 0.21, 0.03, 0.07])
B = np.array([0.407, 0.815, 0.407])
ECHOES = np.array([1.0, 0.3 - 0.4j, 0.2j, -0.1])


def sent_through(taps, constellation="bpsk", n=2000, level=0.1, seed=0, sps=1):
    """Symbols, and what is received of them, with what the channel leaves after the last."""
    random = np.random.default_rng(seed)
    table = channel.constellation(constellation)
    sent = table.symbols(random.integers(0, len(table.points), n))
    spaced = np.zeros(n * sps, sent.dtype)
    spaced[::sps] = sent
    clean = np.convolve(spaced, taps)
    noise = random.standard_normal(len(clean))
    if np.iscomplexobj(clean):
        noise = (noise + 1j * random.standard_normal(len(clean))) / np.sqrt(2)
    return sent, clean + level * noise


@pytest.mark.parametrize("method", ["auto", "mlse", "bcjr", "decision-feedback", "mmse"])
@pytest.mark.parametrize(
    "constellation, taps", [("bpsk", A), ("qpsk", ECHOES), ("4pam", [0.2, 1.0, 0.3]), ("16qam", [1.0, 0.2j])]
)
def test_every_method_recovers_what_was_sent_through_a_mild_channel(constellation, taps, method):
    sent, received = sent_through(np.array(taps), constellation, 1500, 0.03)
    result = channel.equalize(received, taps, constellation=constellation, method=method)
    assert result.symbol_errors(sent).errors <= (5 if constellation == "16qam" else 0)
    assert result.noise == pytest.approx(0.03, rel=0.15)
    assert result.delay == 0


@pytest.mark.parametrize("method", ["mlse", "decision-feedback"])
@pytest.mark.parametrize("before", [0, 50])
@pytest.mark.parametrize("after", [0, 50])
def test_what_stands_around_the_symbols_is_told_from_the_signal(method, before, after):
    sent, received = sent_through(B, n=1000, level=0.02)
    cut = received[before : len(received) - 2 - after] if after else received[before:]
    result = channel.equalize(cut, B, method=method)
    assert result.symbols.shape[-1] == 1000 - before - after
    wrong = np.flatnonzero(result.symbols != sent[before : 1000 - after])
    # A signal that begins in the middle holds its first symbols in part only.
    assert len(wrong) <= (2 if before else 0) and (not len(wrong) or wrong.max() < 12)


def test_a_carrier_is_turned_back_and_the_rest_said():
    sent, received = sent_through(ECHOES, "qpsk")
    turned = received * np.exp(1j * (0.3 + 1e-3 * np.arange(len(received))))
    result = channel.equalize(turned, ECHOES, constellation="qpsk")
    assert result.symbol_errors(sent).errors == 0
    assert result.phase == pytest.approx(0.3, abs=0.03) and result.frequency == pytest.approx(1e-3, rel=0.02)
    assert len(result.ambiguity) == 4 and any("multiples of 90 degrees" in note for note in result.notes)


def test_a_signal_that_no_carrier_turns_is_left_alone():
    _, received = sent_through(ECHOES, "qpsk")
    result = channel.equalize(received, ECHOES, constellation="qpsk")
    assert result.phase == 0 == result.frequency and result.ambiguity == (0.0,) and result.notes == ()


@pytest.mark.parametrize("sps", [1, 2])
@pytest.mark.parametrize("constellation", ["bpsk", "qpsk", "16qam"])
def test_a_training_gives_place_phase_and_channel(constellation, sps):
    taps = np.convolve(ECHOES, [0.3, 1, 0.3]) if sps == 2 else ECHOES
    sent, received = sent_through(taps * np.exp(2j), constellation, 1200, 0.03, sps=sps)
    around = 0.03 * np.random.default_rng(5).standard_normal(len(received) + 300) + 0j
    around[137 : 137 + len(received)] += received
    result = channel.equalize(around, training=sent[:80], constellation=constellation, samples_per_symbol=sps, count=1200)
    assert result.symbol_errors(sent).errors <= 2
    # Where the first tap is small, the channel may be taken to begin later.
    assert abs(result.delay - 137) <= 1


def test_a_training_in_the_middle_counts_from_the_first_symbol():
    sent, received = sent_through(ECHOES, "qpsk", 1000, 0.05)
    result = channel.equalize(received, training=sent[400:480], constellation="qpsk", training_start=400, count=1000)
    assert result.symbol_errors(sent).errors == 0
    with pytest.raises(
        ShapeError, match="training_start is 500, but the training sequence was found at sample 400, 400 symbol periods"
    ):
        channel.equalize(received, training=sent[400:480], constellation="qpsk", training_start=500)


def test_channel_and_training_together_give_place_phase_and_strength():
    sent, received = sent_through(ECHOES, "16qam", 800, 0.03)
    late = np.concatenate([np.zeros(33), 2.5 * np.exp(2.2j) * received])
    result = channel.equalize(late, ECHOES, sent[:60], "16qam", count=800)
    assert result.delay == 33 and result.symbol_errors(sent).errors <= 2
    np.testing.assert_allclose(result.channel, 2.5 * np.exp(2.2j) * ECHOES, rtol=0.05)
    with pytest.raises(ShapeError, match="the training sequence was not found in received"):
        channel.equalize(late, ECHOES, channel.constellation("16qam").symbols(np.arange(60) * 7 % 16), "16qam")


def test_ratios_speak_for_the_bits_and_are_as_sure_as_they_should_be():
    random = np.random.default_rng(2)
    bits = random.integers(0, 2, 40_000)
    bpsk = channel.constellation("bpsk")
    received = np.convolve(bpsk.modulate(bits), B) + 0.45 * random.standard_normal(40_002)
    for method in ("bcjr", "mlse", "mmse"):
        result = channel.equalize(received, B, method=method, noise=0.45)
        ratios = result.llr
        assert np.mean((ratios < 0) == bits) > 0.85
        # Of ratios near 2, a share of 1 / (1 + e^2) is wrong.
        near = np.abs(np.abs(ratios) - 2) < 0.2
        wrong = np.mean((ratios[near] < 0) != bits[near])
        assert wrong == pytest.approx(1 / (1 + np.exp(2)), rel=0.25), method


def test_results_come_in_the_kind_and_shape_that_came():
    sent, received = sent_through(B, n=300)
    as_array = channel.equalize(received.astype(np.float32), B)
    assert as_array.symbols.dtype == np.float32 and as_array.bits.shape == (300,)
    tensor = torch.tensor(received)[None, None].repeat(2, 3, 1)
    as_tensor = channel.equalize(tensor, torch.tensor(B))
    assert isinstance(as_tensor.symbols, torch.Tensor) and as_tensor.symbols.shape == (2, 3, 300)
    assert as_tensor.llr.shape == (2, 3, 300) and as_tensor.soft.dtype == torch.float64
    assert bool((as_tensor.symbols == torch.tensor(sent)).all())
    assert isinstance(channel.equalize(list(received), list(B)).symbols, np.ndarray)


def test_each_signal_may_have_a_channel_of_its_own():
    first, second = sent_through(B, n=400), sent_through(np.array([1.0, -0.5, 0.2]), n=400, seed=1)
    result = channel.equalize(np.stack([first[1], second[1]]), np.array([B, [1.0, -0.5, 0.2]]))
    assert (result.symbols == np.stack([first[0], second[0]])).all()


def test_the_strength_of_a_channel_is_put_right():
    sent, received = sent_through(ECHOES, "16qam", 1000, 0.02)
    result = channel.equalize(1.15 * received, ECHOES, constellation="16qam")
    assert result.symbol_errors(sent).errors == 0
    assert any("channel taps scaled by 1.15" in note for note in result.notes)


def test_a_wrong_channel_is_doubted():
    _, received = sent_through(B, n=1000)
    for wrong in ([0.9, -0.4, 0.1], [0.3, 0.9, 0.3], [1.0, 0.2]):
        assert any("channel mismatch" in note for note in channel.equalize(received, wrong).notes)


@pytest.mark.parametrize("taps", [B, A, [0.227, 0.46, 0.688, 0.46, 0.227]], ids=["B", "A", "C"])
@pytest.mark.parametrize("method", ["auto", "mmse"])
def test_a_right_channel_is_not_doubted_where_noise_is_strong(taps, method):
    _, received = sent_through(np.array(taps), n=3000, level=0.4)
    result = channel.equalize(received, taps, method=method)
    # Behind the linear filter, a tenth and more of the symbols are wrong, and that is said.
    assert all("at this noise" in note for note in result.notes) and result.noise == pytest.approx(0.4, rel=0.1)


def test_a_signal_of_a_batch_with_nothing_in_it_is_named():
    _, received = sent_through(B, n=500)
    noise = 1e-9 * np.random.default_rng(3).standard_normal(len(received))
    result = channel.equalize(np.stack([received, noise]), B)
    assert any("% of the received power of signal 1" in note for note in result.notes)


def test_noise_that_is_larger_than_told_is_said():
    _, received = sent_through(B, n=1000, level=0.2)
    result = channel.equalize(received, B, noise=0.02)
    assert any("times the noise that was passed" in note for note in result.notes)


def test_points_of_ones_own_come_back_as_they_are():
    points = np.array([0.0, 1.0])  # on-off keying
    random = np.random.default_rng(0)
    sent = points[random.integers(0, 2, 500)]
    received = np.convolve(sent, [1.0, 0.5]) + 0.05 * random.standard_normal(501)
    assert (channel.equalize(received, [1.0, 0.5], constellation=points).symbols[:500] == sent).all()
    with pytest.raises(ShapeError, match=r"have mean 0.5.*but mmse needs points of mean 0"):
        channel.equalize(received, [1.0, 0.5], constellation=points, method="mmse")


@pytest.mark.parametrize("method", ["mlse", "bcjr", "decision-feedback", "mmse", "zero-forcing"])
def test_points_of_any_power_are_decided_by_every_method(method):
    levels = np.array([-3.0, -1.0, 1.0, 3.0])
    sent, received = sent_through(np.array([1.0, 0.3, -0.2]), levels, 600, 0.1)
    result = channel.equalize(received, [1.0, 0.3, -0.2], constellation=levels, method=method)
    assert result.symbol_errors(sent).errors == 0 and ((result.llr < 0) == result.bits).all()


@pytest.mark.parametrize("constellation, level", [("16qam", 0.3), ("bpsk", 0.8)])
def test_ratios_are_calibrated_where_many_decisions_are_wrong(constellation, level):
    table = channel.constellation(constellation)
    sent, received = sent_through(np.array([1.0 + 0j] if constellation == "16qam" else B), constellation, 30_000, level)
    result = channel.equalize(received, [1.0] if constellation == "16qam" else B, constellation=constellation, method="bcjr")
    assert result.noise == pytest.approx(level, rel=0.05)
    near = np.abs(np.abs(result.llr) - 2) < 0.2
    wrong = (result.llr < 0) != table.bits(table.indices_of(sent))
    assert wrong[near].mean() == pytest.approx(1 / (1 + np.exp(2)), rel=0.15)


def test_points_with_a_mean_get_the_trellis_however_many_states_it_has():
    taps = np.r_[1.0, 0.1 * np.ones(9)]
    sent, received = sent_through(taps, np.array([0.0, 1.0]), 400, 0.02)
    result = channel.equalize(received, taps, constellation=[0.0, 1.0])
    assert result.method == "mlse" and result.states == 512 and result.symbol_errors(sent).errors == 0


def amid_noise(received, before, after, level, seed=5):
    random = np.random.default_rng(seed)
    n = before + len(received) + after
    around = level * (random.standard_normal(n) + 1j * random.standard_normal(n)) / np.sqrt(2)
    around[before : before + len(received)] += received
    return around


@pytest.mark.parametrize("constellation", ["qpsk", "16qam"])
def test_noise_behind_a_burst_is_said_and_does_not_count_as_the_burst_s(constellation):
    sent, received = sent_through(ECHOES, constellation, 1000, 0.05)
    result = channel.equalize(amid_noise(received, 250, 300, 0.02), training=sent[:64], constellation=constellation)
    assert any("from about symbol 1003 on, the samples hold little but noise" in note for note in result.notes)
    assert result.symbol_errors(sent).errors == 0
    assert result.noise == pytest.approx(np.hypot(0.05, 0.02), rel=0.1)


def test_symbols_before_the_first_are_said():
    _, received = sent_through(B, n=1000)
    for method in ("mlse", "decision-feedback"):
        result = channel.equalize(received[1:-1], B, method=method)  # as numpy.convolve(..., "same")
        assert any("prepend as many zeros" in note for note in result.notes)
    sent, received = sent_through(ECHOES, "qpsk", 1000)
    result = channel.equalize(received, training=sent[400:480], constellation="qpsk")
    assert result.delay == 400 and any("pass training_start" in note for note in result.notes)


def test_a_constant_in_the_samples_is_said():
    _, received = sent_through(ECHOES, "16qam", 1000, 0.05)
    result = channel.equalize(received + 0.1, ECHOES, constellation="16qam")
    assert any("have a DC offset, " in note for note in result.notes)


def test_a_step_too_small_to_learn_is_said():
    sent, received = sent_through(ECHOES, "16qam", 1000, 0.05)
    result = channel.equalize(received, training=sent[:64], constellation="16qam", method="nlms")
    assert result.symbol_errors(sent).rate > 0.5
    assert not result.converged and any("nlms did not converge" in note for note in result.notes)


@pytest.mark.parametrize("constellation", ["bpsk", "qpsk"])
def test_a_carrier_that_turns_during_the_training_leaves_no_symmetry_open(constellation):
    sent, received = sent_through(ECHOES, constellation, 1000, 0.05)
    turned = received * np.exp(0.05j * np.arange(len(received)))
    result = channel.equalize(turned, training=sent[:64], constellation=constellation, count=1000)
    assert result.symbol_errors(sent).errors <= 2 and result.frequency == pytest.approx(0.05, rel=0.01)


def test_decisions_against_the_training_are_said():
    sent, received = sent_through(ECHOES, "16qam", 1000, 0.05)
    turned = received * np.exp(0.02j * np.arange(len(received)))
    result = channel.equalize(turned, training=sent[:64], constellation="16qam", count=1000)
    # A carrier that turns so much during the training needs a joint estimate with the channel, which there is not.
    assert result.symbol_errors(sent).rate > 0.1
    assert any("training symbols are decided wrongly" in note for note in result.notes)


def test_a_training_is_looked_for_where_all_symbols_have_room():
    sent, received = sent_through(ECHOES, "bpsk", 1000, 0.05)
    late = np.concatenate([amid_noise(received, 100, 0, 0.01), received[300:400]])
    assert channel.equalize(late, training=sent[:10], count=1000, taps=4).delay == 100


@pytest.mark.parametrize("rate", [4, 8])
def test_a_signal_that_begins_after_its_first_taps_is_no_matter_for_a_training(rate):
    pulse = np.sinc(np.arange(-6 * rate, 6 * rate + 1) / rate) * np.hanning(12 * rate + 1)
    sent, received = sent_through(pulse + 0j, "qpsk", 400, 0.02, sps=rate)
    result = channel.equalize(received[6 * rate :][: 400 * rate], None, sent[:64], "qpsk", samples_per_symbol=rate)
    assert (result.symbols[:380] == sent[:380]).all()


def test_many_samples_a_symbol_shorten_the_blind_filter():
    _, received = sent_through(np.ones(8) + 0j, "qpsk", 800, 0.02, sps=8)
    assert channel.equalize(received, constellation="qpsk", samples_per_symbol=8).converged


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"channel": [0.0, 0.0]}, ShapeError, "a channel is all zeros"),
        ({"channel": np.ones(200)}, ShapeError, "channel has 200 taps, but received has only 100 samples"),
        ({"channel": B, "method": "mlsd"}, ShapeError, "method is 'mlsd'.*Nearest: mlse"),
        ({"channel": B, "method": "rls"}, ShapeError, "method is 'rls', which adapts to a training sequence"),
        ({"channel": B, "method": "cma"}, ShapeError, "method is 'cma', which is blind, but channel or training"),
        ({"method": "mmse"}, ShapeError, "method is 'mmse', which needs channel or training"),
        ({"channel": B, "constellation": "17qam"}, ShapeError, "the name is '17qam'"),
        ({"channel": B, "constellation": "qpsk"}, DtypeError, "real, but qpsk is complex"),
        ({"channel": B, "noise": 0}, ShapeError, "noise is 0"),
        ({"channel": B, "noise": None}, DtypeError, "noise is None"),
        ({"channel": 1e-200 * B}, ShapeError, "channel reaches 8.15e-201, whose square overflows or underflows"),
        ({"channel": B, "count": 500}, ShapeError, "count is 500 symbols, but received holds only 100 symbol periods"),
        ({"channel": np.ones(20), "method": "mlse"}, ShapeError, r"2\*\*19 = 524288 states.*decision-feedback"),
        ({"training": [1.0, 0.5, 1.0]}, ShapeError, "training has a symbol outside the constellation.*the symbol at 1 is 0.5"),
        ({"training": np.ones(300)}, ShapeError, "training"),
        ({"channel": np.ones((3, 2))}, ShapeError, r"channel is \(3, 2\)"),
        ({"channel": B, "samples_per_symbol": 0}, ShapeError, "samples_per_symbol is 0"),
        ({"channel": [np.nan, 1.0]}, NonFinite, "channel has NaN or infinite samples, the first at 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(arguments, error, words):
    received = np.random.default_rng(0).standard_normal(100)
    with pytest.raises(error, match=words):
        channel.equalize(received, **arguments)


def test_silence_and_what_is_no_number_is_refused():
    with pytest.raises(ShapeError, match="signal 1 is all zeros"):
        channel.equalize(np.array([[1.0, 2.0], [0.0, 0.0]]), [1.0])
    with pytest.raises(NonFinite, match="received has NaN or infinite samples, the first at 3"):
        channel.equalize(np.array([1.0, 2, 3, np.nan]), [1.0])
    with pytest.raises(ShapeError):
        channel.equalize(np.array([]), [1.0])
    with pytest.raises(DtypeError):
        channel.equalize("noise.wav", [1.0])
