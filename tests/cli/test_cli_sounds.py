"""The commands on recordings: files in and out, long ones in blocks, what is refused, and what a stopped run leaves."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from typing import get_args

import numpy as np
import pytest

from unconv.cli import sound_options
from unconv.inverse.fields.speech.method_table import BLIND, KNOWN

soundfile = pytest.importorskip("soundfile", reason='soundfile is absent: pip install "unconv[speech]"')

RATE = 8000


def dry(n=RATE, seed=0):
    """Bursts of noise, as syllables are, at a rate of 8 kHz."""
    draw = np.random.default_rng(seed)
    made = draw.standard_normal(n)
    made[1:] += 0.8 * made[:-1]
    return 0.1 * made * (0.02 + np.clip(np.sin(2 * np.pi * np.arange(n) / 2500), 0, 1))


def rooms(count=2, k=1200, seed=1):
    draw = np.random.default_rng(seed)
    made = 0.2 * draw.standard_normal((count, k)) * np.exp(-5 * np.arange(k) / k)
    made[:, 3] = 1
    return made


@pytest.fixture
def folder(tmp_path):
    """A recording of two microphones in a room, also as two files, the room, and the dry source."""
    source, responses = dry(2 * RATE), rooms()
    wet = 0.5 * np.stack([np.convolve(source, response)[: len(source)] for response in responses])
    soundfile.write(tmp_path / "wet.wav", wet.T, RATE, "PCM_24")
    for number, channel in enumerate(wet):
        soundfile.write(tmp_path / f"mic{number}.wav", channel, RATE)
    np.save(tmp_path / "rooms.npy", responses)
    soundfile.write(tmp_path / "rooms.wav", responses.T, RATE, "FLOAT")
    soundfile.write(tmp_path / "dry.wav", source, RATE, "FLOAT")
    return tmp_path


def test_a_recording_comes_out_as_the_library_makes_it(folder, unconv_command):
    from unconv.inverse.fields.speech import dereverb

    status, out, error = unconv_command("dereverb", folder / "wet.wav", folder / "out.wav", "--json")
    assert status == 0, error
    told = json.loads(out)
    assert told["method"] == "wpe" and told["channels"] == 2 and told["samples"] == 2 * RATE and told["clipped"] == 0
    wet, _ = soundfile.read(folder / "wet.wav", dtype="float32")
    wanted = dereverb(np.ascontiguousarray(wet.T), RATE).signal
    made, rate = soundfile.read(folder / "out.wav")
    assert rate == RATE and soundfile.info(folder / "out.wav").subtype == "PCM_24"
    np.testing.assert_allclose(made.T, wanted, atol=2**-23)


@pytest.mark.parametrize("method", BLIND)
def test_every_method_can_be_named(folder, unconv_command, method):
    status, out, error = unconv_command(
        *("dereverb", folder / "mic0.wav", folder / "out.flac", "--method", method, "--taps", "10", "--gain", "-6")
    )
    assert status == 0 and out.startswith(f"{method}: 1 channel, 2.0 s"), error
    assert soundfile.info(folder / "out.flac").frames == 2 * RATE


def test_the_table_of_methods_has_those_of_the_library():
    from unconv.inverse.fields.speech import RoomMethod, dereverb, dereverberation, invert_room

    assert set(BLIND) == set(get_args(dereverberation.Method)) and set(KNOWN) == set(get_args(RoomMethod))
    for table, function in ((BLIND, dereverb), (KNOWN, invert_room)):
        assert next(iter(table)) == inspect.signature(function).parameters["method"].default


def test_several_files_are_the_microphones_of_one_array(folder, unconv_command):
    mics = [folder / "mic0.wav", folder / "mic1.wav"]
    status, out, error = unconv_command("dereverb", *mics, folder / "made")
    assert status == 0 and "2 channels" in out, error
    together, _ = soundfile.read(folder / "made" / "mic0.wav")
    assert unconv_command("dereverb", *mics, folder / "both.wav")[0] == 0
    np.testing.assert_array_equal(soundfile.read(folder / "both.wav")[0][:, 0], together)
    status, out, error = unconv_command("dereverb", *mics, folder / "alone", "--each", "--json")
    assert status == 0 and [each["channels"] for each in json.loads(out)["recordings"]] == [1, 1], error
    assert np.abs(soundfile.read(folder / "alone" / "mic0.wav")[0] - together).max() > 1e-3


@pytest.mark.parametrize("name", ["rooms.npy", "rooms.wav", "room.sofa:1"])
def test_a_known_room_gives_the_dry_source(folder, unconv_command, name):
    if "sofa" in name:
        h5py = pytest.importorskip("h5py", reason="h5py is absent")
        with h5py.File(folder / "room.sofa", "w") as file:
            file["Data.IR"], file["Data.SamplingRate"] = np.stack([rooms(seed=5), rooms()]), [float(RATE)]
    status, out, error = unconv_command(
        *("dereverb", folder / "wet.wav", folder / "out.wav", "--rooms", folder / name),
        *("--gain", str(20 * np.log10(2)), "--reference", folder / "dry.wav"),
    )
    assert status == 0 and "wiener" in out and "expected error" in out, error
    made, source = soundfile.read(folder / "out.wav")[0], soundfile.read(folder / "dry.wav")[0]
    assert made.ndim == 1 and np.sum((made - source) ** 2) < 1e-2 * np.sum(source**2)
    assert "cepstral distance to the reference" in out


def test_a_long_recording_is_worked_on_in_blocks_that_pass_into_each_other(folder, monkeypatch):
    from unconv.recordings import open_sound

    monkeypatch.setattr(sound_options, "_AT_ONCE", 1000)
    monkeypatch.setattr(sound_options, "_BLOCK", 2000)
    monkeypatch.setattr(sound_options, "_FADE", 0.02)
    shares, starts = [], []

    def work(block, progress):
        starts.append(block.shape[1])
        progress("working", 1, 1)
        return 3 * block

    with open_sound(folder / "wet.wav") as sound:
        parts = list(sound_options.in_blocks(sound, work, lambda what, done, total: shares.append((done, total))))
        wanted = sound.read()
    before, after = (np.concatenate([part[side] for part in parts], 1) for side in (0, 1))
    np.testing.assert_array_equal(before, wanted)
    np.testing.assert_allclose(after, 3 * wanted, rtol=1e-6)
    assert len(starts) > 5 and max(starts) <= 1280 and shares[-1] == (2 * RATE, 2 * RATE)


def test_spectrograms_are_drawn(folder, unconv_command):
    pytest.importorskip("matplotlib", reason="matplotlib is absent")
    picture = folder / "p.png"
    arguments = ("--picture", picture, "--reference", folder / "dry.wav")
    assert (
        unconv_command("dereverb", folder / "mic0.wav", folder / "out.wav", *arguments, "--method", "wpe", "--taps", "3")[0]
        == 0
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_cepstrum_is_drawn(folder, unconv_command):
    pytest.importorskip("matplotlib", reason="matplotlib is absent")
    assert unconv_command("cepstrum", folder / "wet.wav", "--picture", folder / "p.png")[0] == 0
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_echo_is_found_and_removed(tmp_path, unconv_command):
    source = dry(3 * RATE)
    wet = source.copy()
    wet[800:] += 0.5 * source[:-800]
    soundfile.write(tmp_path / "in.wav", np.stack([wet, 0 * wet], 1), RATE, "FLOAT", format="WAV")
    arguments = ("-o", tmp_path / "c.npy", "--remove-echo", tmp_path / "out.wav")
    status, out, error = unconv_command("cepstrum", tmp_path / "in.wav", *arguments, "--json")
    assert status == 0, error
    told = json.loads(out)
    (echo,) = told["channels"][0]["echoes"]
    assert echo["delay_s"] == 0.1 and echo["gain"] == pytest.approx(0.5, abs=0.03) and told["channels"][1]["echoes"] == []
    made = soundfile.read(tmp_path / "out.wav")[0]
    assert np.sum((made[:, 0] - source) ** 2) < 0.01 * np.sum((wet - source) ** 2) and not made[:, 1].any()
    cepstra = np.load(tmp_path / "c.npy")
    assert cepstra.shape == (2, 4001) and cepstra[0, 800] == pytest.approx(0.5, abs=0.05) and np.isnan(cepstra[1]).all()
    status, out, _ = unconv_command("cepstrum", tmp_path / "in.wav")
    assert "100" in out and "channel 1: silent" not in out


def test_clipping_and_silence_are_said_once(folder, unconv_command):
    wet = soundfile.read(folder / "mic0.wav")[0]
    soundfile.write(folder / "odd.wav", np.stack([np.clip(20 * wet, -1, 1), 0 * wet], 1), RATE)
    status, _, error = unconv_command("dereverb", folder / "odd.wav", folder / "out.wav", "--gain", "-20")
    assert status == 0 and error.count("clipped") == 1 and error.count("silent") == 1, error


@pytest.mark.parametrize("samples", [1, 3, 100])
def test_a_few_samples_come_out_as_they_are(folder, unconv_command, samples):
    wet = soundfile.read(folder / "wet.wav", dtype="int32")[0][4000 : 4000 + samples]
    soundfile.write(folder / "few.wav", wet, RATE, "PCM_32")
    status, _, error = unconv_command("dereverb", folder / "few.wav", folder / "out.wav")
    assert status == 0 and "read as" not in error and ("is returned unchanged" in error or "is silent" in error), error
    np.testing.assert_array_equal(soundfile.read(folder / "out.wav", dtype="int32")[0], wet)


def test_samples_beyond_what_can_be_squared_are_worked_on(folder, unconv_command):
    wet = soundfile.read(folder / "mic0.wav")[0]
    soundfile.write(folder / "huge.wav", 1e300 * wet, RATE, "DOUBLE")
    status, _, error = unconv_command("dereverb", folder / "huge.wav", folder / "out.wav")
    assert status == 0 and "RuntimeWarning" not in error
    assert np.isfinite(soundfile.read(folder / "out.wav")[0]).all()


def test_a_result_that_is_too_loud_is_noted(folder, unconv_command):
    status, _, error = unconv_command("dereverb", folder / "wet.wav", folder / "out.wav", "--gain", "30")
    assert status == 0 and "samples beyond full scale: scale the result" in error


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("wet.wav", "wet.wav", "--force"), 1, "is an input file and would be overwritten"),
        (("wet.wav", "dry.wav"), 1, "already exists. Pass --force"),
        (("wet.wav", "out.wav", "--rooms", "bad.sofa:1", "--picture", "bad.sofa", "--force"), 1, "bad.sofa is an input file"),
        (("absent.wav", "out.wav"), 1, "cannot read"),
        (("rooms.npy", "out.wav"), 1, "cannot be read as sound"),
        (("wet.wav", "out.xyz"), 1, "is not that of a format that can be written"),
        (("wet.wav", "out.wav", "--method", "magic"), 2, "write one of wpe, wpe-wiener"),
        (("wet.wav", "out.wav", "--method", "mint"), 2, "mint goes with --rooms"),
        (("wet.wav", "out.wav", "--rooms", "rooms.npy", "--method", "wpe"), 2, "wpe goes without --rooms"),
        (("wet.wav", "out.wav", "--taps", "many"), 2, "write auto or a whole number"),
        (("wet.wav", "out.wav", "--taps", "²"), 2, "write auto or a whole number"),
        (("wet.wav", "out.wav", "--gain", "1e9"), 2, "write dB, from -200 to 200"),
        (("wet.wav", "out.wav", "--gain", "-1e9"), 2, "write dB, from -200 to 200"),
        (("wet.wav", "out.wav", "--gain", "nan"), 2, "write dB, from -200 to 200"),
        (("wet.wav", "out.wav", "--rooms", "rooms.npy", "--taps", "3"), 2, "does not go with --rooms"),
        (("mic0.wav", "out.wav", "--rooms", "rooms.npy"), 1, "one response for each microphone"),
        (("mic0.wav", "out.wav", "--rooms", "other.wav"), 1, "Resample it"),
        (("mic0.wav", "out.wav", "--rooms", "bad.npy"), 1, "cannot be read"),
        (("mic0.wav", "out.wav", "--rooms", "bad.sofa"), 1, "cannot be read as SOFA"),
        (("mic0.wav", "out.wav", "--reference", "other.wav"), 1, "Resample it"),
        (("mic0.wav", "mic1.wav", "folder", "--rooms", "rooms.npy"), 1, "Pass the name of a file"),
        (("mic0.wav", "mic1.wav", "out.wav", "--each"), 1, "Pass a folder"),
        (("mic0.wav", "mic1.wav", "out", "--each", "--reference", "dry.wav"), 2, "do not go with --each"),
        (("mic0.wav", "short.wav", "out"), 1, "files of an array must agree"),
        (("mic0.wav", "mic0.wav", "out"), 1, "two results would go to one file"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(folder, unconv_command, monkeypatch, arguments, status, said):
    monkeypatch.chdir(folder)
    soundfile.write("other.wav", rooms(1)[0], 4000)
    soundfile.write("short.wav", rooms(1)[0], RATE)
    for name in ("bad.npy", "bad.sofa"):
        (folder / name).write_text("nothing")
    before = sorted(os.listdir(folder))
    found, _, error = unconv_command("dereverb", *arguments)
    assert (found, said in " ".join(error.replace("│", " ").split())) == (status, True), error
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("dry.wav", "--remove-echo", "out.wav"), 1, "no echo stands out"),
        (("dry.wav", "-o", "out.txt"), 2, "Use the ending .npy"),
        (("dry.wav", "--shortest", "0.3", "--longest", "0.2"), 1, "ascending delays"),
        (("silent.wav", "--picture", "p.png"), 1, "first channel is silent"),
    ],
)
def test_what_a_cepstrum_cannot_do_is_said(folder, unconv_command, monkeypatch, arguments, status, said):
    monkeypatch.chdir(folder)
    soundfile.write("silent.wav", np.zeros(RATE), RATE)
    found, _, error = unconv_command("cepstrum", *arguments)
    assert (found, said in " ".join(error.replace("│", " ").split())) == (status, True), error
    assert not (folder / "out.wav").exists() and not (folder / "p.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_run_that_is_stopped_leaves_nothing(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.tile(dry(RATE), 300)[:, None].repeat(4, 1), RATE)
    command = [sys.executable, "-m", "unconv", "dereverb", str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not any("partial" in name for name in os.listdir(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 143 and "stopped" in error
    assert os.listdir(tmp_path) == ["in.wav"]
