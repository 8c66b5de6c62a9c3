"""Known rooms undone: exact filters, noise that is told from the source, and a measured room with one and two microphones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.speech import invert_room, mint_filters

DATA = Path(os.environ.get("UNCONV_DATA", "data")) / "inverse"
RATE = 16000


def responses(count, k, seed=0):
    """Decaying noise: zeros in common to two of them are next to impossible."""
    draw = np.random.default_rng(seed)
    made = draw.standard_normal((count, k)) * np.exp(-3 * np.arange(k) / k)
    made[:, 0] += 1
    return made


def voice(n, seed=0):
    """Noise that is loud at low frequencies and comes in bursts."""
    draw = np.random.default_rng(seed)
    bursts = 0.02 + np.clip(np.sin(2 * np.pi * np.arange(n) / 5000), 0, 1)
    made = draw.standard_normal(n)
    for _ in range(2):
        made[1:] += 0.8 * made[:-1]
    return 0.1 * made * bursts


def heard(dry, rooms, noise=0.0, seed=9):
    clean = np.stack([np.convolve(dry, room)[: len(dry)] for room in rooms])
    return clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)


def si_sdr(estimate, truth):
    """dB of the truth in the estimate over all else in it, whatever its gain."""
    part = (estimate @ truth) / (truth @ truth) * truth
    return 10 * np.log10((part @ part) / ((estimate - part) @ (estimate - part)))


@pytest.mark.parametrize("count, k", [(2, 8), (2, 64), (3, 65), (5, 200)])
def test_coprime_responses_are_undone_exactly_by_finite_filters(count, k):
    rooms = responses(count, k)
    filters = mint_filters(rooms)
    assert filters.shape == (count, -(-(k - 1) // (count - 1)))
    total = sum(np.convolve(room, filter) for room, filter in zip(rooms, filters, strict=True))
    wanted = np.zeros_like(total)
    wanted[0] = 1
    np.testing.assert_allclose(total, wanted, rtol=0, atol=1e-8)
    dry = voice(3000)
    found = invert_room(heard(dry, rooms), rooms, RATE, method="mint")
    np.testing.assert_allclose(found.signal, dry, rtol=0, atol=1e-8)


def test_the_spike_comes_out_at_the_delay_that_was_asked_for():
    rooms = torch.from_numpy(responses(2, 30))
    filters = mint_filters(rooms, length=40, delay=7)
    assert isinstance(filters, torch.Tensor) and filters.shape == (2, 40)
    total = sum(np.convolve(room, filter) for room, filter in zip(rooms.numpy(), filters.numpy(), strict=True))
    assert np.abs(total - np.eye(69)[7]).max() < 1e-8


def test_zeros_in_common_are_said():
    rooms = np.stack([np.convolve(room, [1.0, -1.5]) for room in responses(2, 20)])
    with pytest.raises(ShapeError, match="zeros in common"):
        mint_filters(rooms)


def test_two_microphones_without_noise_give_the_dry_signal_back():
    dry, rooms = voice(20000), responses(2, 200)
    found = invert_room(heard(dry, rooms), rooms, RATE)
    assert si_sdr(found.signal, dry) > 60


@pytest.mark.parametrize("level", [1e-3, 1e-2])
def test_the_noise_of_several_microphones_is_told_to_a_few_per_cent(level):
    dry, rooms = voice(20000), responses(2, 200)
    assert invert_room(heard(dry, rooms, level), rooms, RATE).noise == pytest.approx(level, rel=0.03)


def test_the_noise_of_one_microphone_is_told_to_a_factor_of_two():
    dry, rooms = voice(40000), responses(1, 800)
    assert 0.5 < invert_room(heard(dry, rooms, 1e-2), rooms, RATE).noise / 1e-2 < 1.5


def test_the_spectrum_of_the_voice_and_its_pauses_gain_over_one_strength_for_all():
    dry, rooms = voice(40000), responses(2, 400)
    noisy = heard(dry, rooms, 0.1)
    plain, wiener = (invert_room(noisy, rooms, RATE, method=method) for method in ("tikhonov", "wiener"))
    assert si_sdr(wiener.signal, dry) > si_sdr(plain.signal, dry) + 2
    for found in (plain, wiener):
        assert np.sqrt(np.mean((found.signal - dry) ** 2)) == pytest.approx(found.error, rel=0.35)


def test_more_microphones_gain():
    dry, rooms = voice(20000), responses(4, 300)
    noisy = heard(dry, rooms, 0.01)
    gains = [si_sdr(invert_room(noisy[:count], rooms[:count], RATE).signal, dry) for count in (1, 2, 4)]
    assert gains[0] + 2 < gains[1] and gains[1] + 1 < gains[2]


def test_a_recording_that_stops_while_the_room_sounds_is_undone_to_its_end():
    dry, rooms = voice(9000, seed=5), responses(2, 400)
    found = invert_room(heard(dry, rooms, 1e-4), rooms, RATE)
    end = slice(-800, None)
    assert np.sqrt(np.mean((found.signal - dry)[end] ** 2)) < 0.2 * np.sqrt(np.mean(dry[end] ** 2))


def test_results_come_in_the_kind_of_the_recording():
    dry, rooms = voice(3000), responses(2, 50)
    wet = heard(dry, rooms)
    for cast, kind in ((torch.from_numpy, torch.float64), (lambda x: torch.from_numpy(x).float(), torch.float32)):
        found = invert_room(cast(wet), rooms, RATE).signal
        assert found.dtype == kind and found.shape == (3000,)
    assert invert_room(wet.astype(np.float32), rooms, RATE).signal.dtype == np.float32
    assert invert_room(wet[0], rooms[0], RATE).signal.shape == (3000,)


@pytest.mark.skipif(not (DATA / "rir").is_dir(), reason="the measured rooms are absent")
@pytest.mark.parametrize("count, wanted", [(1, 30.0), (2, 36.0)])
def test_a_measured_room_at_40_db_is_undone_to_its_known_ceiling_and_beyond(count, wanted):
    h5py = pytest.importorskip("h5py", reason="h5py is absent")
    soundfile = pytest.importorskip("soundfile", reason="soundfile is absent")
    dry, rate = soundfile.read(DATA / "speech" / "cmu_arctic_us_aew_a0001.wav")
    with h5py.File(DATA / "rir" / "UniS_Room_A_BRIR_16k.sofa") as file:
        rooms = file["Data.IR"][18, :count]
    wet = heard(dry, rooms)
    wet = heard(dry, rooms, 10**-2 * np.sqrt(np.mean(wet**2)))
    assert si_sdr(invert_room(wet, rooms, rate).signal, dry) > wanted


@pytest.mark.parametrize("method", ["wiener", "tikhonov", "mint"])
def test_the_size_of_recordings_and_responses_does_not_matter(method):
    rooms, dry = responses(2, 60), voice(RATE // 2)
    observed = heard(dry, rooms, 1e-4)
    plain = invert_room(observed, rooms, RATE, method=method)
    for loud, gain in ((2.0**-900, 1.0), (2.0**900, 1.0), (1.0, 2.0**-900), (1.0, 2.0**900)):
        found = invert_room(loud * observed, gain * rooms, RATE, method=method)
        np.testing.assert_allclose(found.signal / loud * gain, plain.signal, atol=1e-9)
        np.testing.assert_allclose([found.noise / loud, found.error / loud * gain], [plain.noise, plain.error], rtol=1e-6)
    with pytest.raises(NonFinite, match="the result is beyond the range of float32"):
        invert_room(observed.astype(np.float32), 1e-40 * rooms, RATE, method=method)


def test_responses_of_another_place_order_or_alignment_are_noted():
    rooms = responses(2, 400)
    observed = heard(voice(RATE), rooms, 1e-4)
    assert invert_room(observed, rooms, RATE).notes == ()
    for other in (rooms[::-1].copy(), responses(2, 400, 5), np.stack([rooms[0], np.roll(rooms[1], 7)]), rooms * [[1], [3]]):
        (note,) = invert_room(observed, other, RATE).notes
        assert "these are not its responses" in note


def test_what_is_no_room_is_refused():
    dry, rooms = voice(3000), responses(2, 50)
    wet = heard(dry, rooms)
    silent = wet.copy()
    silent[1] = 0
    broken = wet.copy()
    broken[1, 77] = np.nan
    for arguments, error, said in (
        ((wet, rooms[:1], RATE), ShapeError, "one response for each microphone"),
        ((wet[:, :40], rooms, RATE), ShapeError, "responses have 50 samples, but the recording only 40"),
        ((silent, rooms, RATE), ShapeError, "channel 1 of the recording is silent"),
        ((wet, 0 * rooms, RATE), ShapeError, "channel 0 of the responses is silent"),
        ((broken, rooms, RATE), NonFinite, "sample 77 of channel 1"),
        ((wet, rooms, 0.0), ShapeError, "rate is 0.0"),
        ((wet, rooms, RATE, -1.0), ShapeError, "noise is -1.0"),
        ((wet, rooms, RATE, "loud"), DtypeError, "noise is 'loud'"),
        ((wet, rooms, RATE, 0.0, "magic"), DtypeError, "magic"),
        ((wet + 0j, rooms, RATE), DtypeError, "complex128"),
    ):
        with pytest.raises(error, match=said):
            invert_room(*arguments)
    for arguments, said in (
        ((rooms[:1],), "one response has no finite inverse"),
        ((rooms, 48), "49 or more samples"),
        ((rooms, 49, 98), "a delay below 98"),
        ((responses(2, 6000),), "at most 4096"),
    ):
        with pytest.raises(ShapeError, match=said):
            mint_filters(*arguments)


def test_a_room_that_nobody_hears_at_some_frequencies_is_noted():
    deaf = np.fft.irfft(np.fft.rfft(responses(2, 512)) * (np.abs(np.arange(257) - 120) > 30))
    found = invert_room(heard(voice(8000), deaf, 1e-3), deaf, RATE, 1e-3)
    assert "no microphone hears the source" in found.notes[0]


def test_a_response_with_deep_nulls_does_not_let_the_estimate_grow():
    # Zeros on the unit circle: an exact inverse does not exist.
    room = np.convolve(np.convolve(responses(1, 300)[0], [1.0, 0.0, 1.0]), [1.0, -1.0])
    dry = voice(20000)
    found = invert_room(heard(dry, room[None])[0], room, RATE, 1e-7)
    assert si_sdr(found.signal, dry) > 15 and np.abs(found.signal).max() < 2 * np.abs(dry).max()
