"""The commands on traces: files in and out, what they print, what they refuse, and what is left when they are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from oracles.spikes import ricker, synthetic


@pytest.fixture
def section(tmp_path):
    """A gather as .npy with a dead trace, and its wavelet."""
    traces = np.stack([synthetic(seed, 30, 200)[1] for seed in range(6)]).astype(np.float32)
    traces[2] = 0
    np.save(tmp_path / "in.npy", traces)
    np.save(tmp_path / "wavelet.npy", ricker(25, 0.002, 81))
    return tmp_path


def test_spikes_are_those_of_the_library_and_a_dead_trace_stays(section, unconv_command):
    from unconv.inverse.fields import seismic

    status, out, error = unconv_command(
        *("spikes", section / "in.npy", section / "out.npy", "--wavelet", section / "wavelet.npy"),
        *("--deviation", section / "deviation.npy", "--json"),
    )
    assert status == 0, error
    told, traces = json.loads(out), np.load(section / "in.npy")
    assert told["kept"] == [2] and told["traces"] == 6 and told["method"] == "sbl"
    found = seismic.sparse_spikes(traces, np.load(section / "wavelet.npy"))
    np.testing.assert_array_equal(np.load(section / "out.npy"), found.spikes)
    np.testing.assert_array_equal(np.load(section / "deviation.npy"), found.deviation)


@pytest.mark.parametrize("method", [["spiking", "--length", "20"], ["predictive", "--gap", "4", "--length", "20"]])
def test_filters_are_those_of_the_library(section, unconv_command, method):
    from unconv.inverse.fields import seismic

    status, out, _ = unconv_command("spikes", section / "in.npy", section / "out.npy", "--method", *method)
    assert status == 0 and out.startswith(f"{method[0]}: 6 traces")
    traces = np.load(section / "in.npy")
    wanted = seismic.spiking(traces, 20) if method[0] == "spiking" else seismic.predictive(traces, 4, 20)
    np.testing.assert_array_equal(np.load(section / "out.npy"), wanted.traces)


@pytest.mark.parametrize("wavelet", ["ricker:25", "estimate:31", "estimate:31,minimum", "estimate:31,mixed"])
def test_wavelets_are_made_and_estimated(section, unconv_command, wavelet):
    options = ("--rate", "500") if wavelet.startswith("ricker") else ()
    status, _, error = unconv_command("spikes", section / "in.npy", section / "out.npy", "--wavelet", wavelet, *options)
    assert status == 0, error


def test_what_was_done_to_traces_is_said(section, unconv_command):
    np.save(section / "in.npy", np.load(section / "in.npy") + 100)
    arguments = ("spikes", section / "in.npy", section / "out.npy", "--wavelet", section / "wavelet.npy")
    assert "an offset was subtracted, the largest" in unconv_command(*arguments)[2]
    notes = json.loads(unconv_command(*arguments, "--force", "--json")[1])["notes"]
    assert len(notes) == 1 and notes[0].startswith("an offset was subtracted")


def test_results_of_float64_samples_in_another_kind_of_file_stay_float64(section, unconv_command):
    obspy = pytest.importorskip("obspy", reason="obspy is absent: pip install obspy")
    values = synthetic(0, 30, 200)[1]
    obspy.Stream([obspy.Trace(values, {"sampling_rate": 500.0})]).write(section / "in.mseed", format="MSEED")
    arguments = ("spikes", section / "in.mseed", section / "out.npy", "--wavelet", section / "wavelet.npy")
    status, _, error = unconv_command(*arguments)
    assert status == 0, error
    assert np.load(section / "out.npy").dtype == np.float64


def test_a_picture_is_drawn(section, unconv_command):
    pytest.importorskip("matplotlib", reason="matplotlib is absent: pip install matplotlib")
    picture = section / "picture.png"
    arguments = ("--wavelet", section / "wavelet.npy", "--rate", "500", "--picture", picture)
    assert unconv_command("spikes", section / "in.npy", section / "out.npy", *arguments)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    np.save(section / "one.npy", np.load(section / "in.npy")[0])
    arguments = ("--wavelet", section / "wavelet.npy", "--picture", picture, "--force")
    assert unconv_command("spikes", section / "one.npy", section / "out.npy", *arguments)[0] == 0


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ((), 2, "needs --wavelet"),
        (("--wavelet", "ricker:25"), 1, "Pass --rate"),
        (("--wavelet", "ricker:300", "--rate", "500"), 2, "below 250 Hz"),
        (("--wavelet", "estimate:x"), 2, "estimate:LENGTH"),
        (("--wavelet", "absent.npy"), 1, "cannot be read"),
        (("--wavelet", "estimate:999"), 1, "length is 999"),
        (("--method", "magic"), 2, "write one of"),
        (("--method", "spiking", "--wavelet", "ricker:25"), 2, "takes no --wavelet"),
        (("--method", "predictive"), 2, "--gap"),
        (("--method", "spiking", "--noise", "3", "--centre", "5"), 2, "takes no --centre, --noise"),
        (("--method", "l1", "--wavelet", "estimate:31", "--deviation", "d.npy"), 2, "has no standard deviations"),
        (("--method", "spiking", "--gap", "3"), 2, "--gap goes with"),
        (("--wavelet", "estimate:31", "--noise", "loud"), 2, "estimate or a number"),
        (("--wavelet", "estimate:31", "--noise", "-1"), 1, "above zero"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(section, unconv_command, options, status, said):
    found, _, error = unconv_command("spikes", section / "in.npy", section / "out.npy", *options)
    assert (found, said in " ".join(error.replace("│", " ").split())) == (status, True), error
    assert not (section / "out.npy").exists()


def test_nothing_is_written_over_the_input_or_without_leave(section, unconv_command):
    before = (section / "in.npy").read_bytes()
    arguments = ("--wavelet", section / "wavelet.npy")
    status, _, error = unconv_command("spikes", section / "in.npy", section / "in.npy", *arguments, "--force")
    assert status == 1 and "overwritten" in error
    (section / "out.npy").write_text("mine")
    status, _, error = unconv_command("spikes", section / "in.npy", section / "out.npy", *arguments)
    assert status == 1 and "--force" in error and (section / "out.npy").read_text() == "mine"
    status, _, error = unconv_command(
        "spikes", section / "in.npy", section / "a.npy", *arguments, "--deviation", section / "a.npy"
    )
    assert status == 1 and "one file" in error
    assert (section / "in.npy").read_bytes() == before


def test_deviations_of_a_dead_trace_fit_into_ibm_floats(tmp_path, unconv_command):
    segyio = pytest.importorskip("segyio", reason="segyio is absent: pip install segyio")
    from cases.traces import segy

    values = np.stack([synthetic(seed, 30, 150)[1] for seed in range(3)]).astype(np.float32)
    values[1] = 0
    before = segy(tmp_path / "in.sgy", values, code=1)
    arguments = ("--wavelet", "ricker:25", "--deviation", tmp_path / "deviation.sgy")
    status, _, error = unconv_command("spikes", before, tmp_path / "out.sgy", *arguments)
    assert status == 0, error
    with segyio.open(str(tmp_path / "deviation.sgy"), ignore_geometry=True) as file:
        found = file.trace.raw[:]
    assert not found[1].any() and found[0].any()


def test_segy_headers_stay_to_the_bit(tmp_path, unconv_command):
    pytest.importorskip("segyio", reason="segyio is absent: pip install segyio")
    from cases.traces import segy

    values = np.stack([synthetic(seed, 30, 150)[1] for seed in range(4)]).astype(np.float32)
    before = segy(tmp_path / "in.sgy", values)
    status, _, error = unconv_command("spikes", before, tmp_path / "out.sgy", "--wavelet", "ricker:25")
    assert status == 0, error
    old, new = before.read_bytes(), (tmp_path / "out.sgy").read_bytes()
    assert len(old) == len(new) and old[:3600] == new[:3600]
    size = 240 + 4 * 150
    for number in range(4):
        first = 3600 + number * size
        assert old[first : first + 240] == new[first : first + 240]
    status, _, _ = unconv_command("spikes", before, tmp_path / "out.npy", "--wavelet", "ricker:25")
    assert status == 0 and np.load(tmp_path / "out.npy").shape == (4, 150)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_half_file(tmp_path, stop):
    traces = np.stack([synthetic(seed % 20, 20, 400)[1] for seed in range(4000)]).astype(np.float32)
    np.save(tmp_path / "in.npy", traces)
    np.save(tmp_path / "wavelet.npy", ricker(25, 0.002, 81))
    before = (tmp_path / "in.npy").read_bytes()
    arguments = [tmp_path / "in.npy", tmp_path / "out.npy", "--wavelet", tmp_path / "wavelet.npy", "-q"]
    command = [sys.executable, "-m", "unconv", "spikes", *map(str, arguments)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = time.monotonic() + 60
    while not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]:
        assert time.monotonic() < ended and running.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(stop)
    running.wait(60)
    assert not (tmp_path / "out.npy").exists()
    assert (tmp_path / "in.npy").read_bytes() == before
    if stop == signal.SIGTERM:
        assert running.returncode == 143
        assert {path.name for path in tmp_path.iterdir()} == {"in.npy", "wavelet.npy"}


def echo(delay, rate=1e8, n=300):
    t = np.arange(n) / rate - delay
    return np.exp(-((t / 0.176e-6) ** 2)) * np.cos(2 * np.pi * 5e6 * t)


@pytest.fixture
def scans(tmp_path):
    random = np.random.default_rng(0)
    delays = 1e-6 + 1e-8 * np.arange(3)
    np.save(
        tmp_path / "scan.npy",
        np.stack([echo(d) - 0.8 * echo(d + 6e-8) for d in delays]) + 0.01 * random.standard_normal((3, 300)),
    )
    np.save(tmp_path / "pulse.npy", echo(0.6e-6, n=121))
    return tmp_path, delays


def test_echoes_are_told_printed_and_written(scans, unconv_command):
    folder, delays = scans
    arguments = ("echoes", folder / "scan.npy", "--rate", "1e8", "--pulse", folder / "pulse.npy", "--velocity", "5900")
    status, out, error = unconv_command(*arguments, "-o", folder / "echoes.csv")
    assert status == 0, error
    assert "6 echoes in 3 scans" in out
    lines = (folder / "echoes.csv").read_text().splitlines()
    assert lines[0] == "scan,echo,delay_s,delay_deviation_s,amplitude,amplitude_deviation,depth_m"
    rows = np.array([[float(value) for value in line.split(",")] for line in lines[1:]])
    np.testing.assert_allclose(rows[::2, 2], delays, atol=3e-9)
    np.testing.assert_allclose(rows[1::2, 2], delays + 6e-8, atol=3e-9)
    np.testing.assert_allclose(rows[:, 6], rows[:, 2] * 5900 / 2, rtol=1e-6)
    told = json.loads(unconv_command(*arguments, "--json")[1])
    assert [each["delay_s"] for each in told["echoes"]] == pytest.approx(rows[:, 2].tolist(), rel=1e-6)


def test_an_estimated_pulse_and_its_misfit_serve_all_blocks_of_a_file(tmp_path, unconv_command, monkeypatch):
    from unconv.inverse.fields import ultrasonic

    random = np.random.default_rng(1)
    # Echoes that differ from the strongest one, as lossy materials make them.
    traces = np.stack([echo(8e-7) + 0.5 * np.gradient(echo(2e-6 + 1e-8 * k)) / 0.31 for k in range(12)])
    traces += 0.005 * random.standard_normal(traces.shape)
    np.save(tmp_path / "scan.npy", traces)
    monkeypatch.setattr("unconv.cli.commands.traces._BLOCK", 6 * 300)
    status, out, error = unconv_command("echoes", tmp_path / "scan.npy", "--rate", "1e8", "--json")
    assert status == 0, error
    first = ultrasonic.resolve_echoes(traces[:6], rate=1e8)
    assert first.misfit > 0.05
    rest = ultrasonic.resolve_echoes(traces[6:], first.pulse, 1e8, misfit=first.misfit)
    wanted = [delay for found in (first, rest) for delay in found.delays[np.isfinite(found.delays)].tolist()]
    assert [each["delay_s"] for each in json.loads(out)["echoes"]] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ((), 1, "Pass --rate"),
        (("--rate", "1e8", "--gate", "5,1"), 2, "smaller than the second"),
        (("--rate", "1e8", "--gate", "5,6"), 1, "ascending times inside the scan"),
        (("--rate", "1e8", "--velocity", "0"), 1, "velocity is 0"),
        (("--rate", "1e8", "--most", "0"), 1, "most is 0"),
        (("--rate", "-1"), 1, "above 0"),
        (("--rate", "1e8", "--pulse", "absent.csv"), 1, "cannot be read"),
    ],
)
def test_echoes_that_cannot_be_looked_for_are_refused(scans, unconv_command, options, status, said):
    found, _, error = unconv_command("echoes", scans[0] / "scan.npy", *options)
    assert (found, said in " ".join(error.replace("│", " ").split())) == (status, True), error


def test_fragments_between_gaps_are_kept_and_listed(tmp_path, unconv_command):
    obspy = pytest.importorskip("obspy", reason="obspy is absent: pip install obspy")
    trace = synthetic(0, 30, 300)[1].astype(np.float32)
    header = {"network": "XX", "station": "ONE", "channel": "BHZ", "sampling_rate": 500.0}
    parts = [obspy.Trace(trace, header), obspy.Trace(trace[:10].copy(), header | {"starttime": obspy.UTCDateTime(100)})]
    obspy.Stream(parts).write(str(tmp_path / "in.mseed"), "MSEED")
    status, out, error = unconv_command(
        "spikes", tmp_path / "in.mseed", tmp_path / "out.mseed", "--wavelet", "ricker:25", "--json"
    )
    assert status == 0, error
    assert json.loads(out)["kept"] == [1]
    np.testing.assert_array_equal(obspy.read(str(tmp_path / "out.mseed"))[1].data, trace[:10])


def test_the_numbers_of_a_dead_component_are_json(tmp_path, unconv_command):
    obspy = pytest.importorskip("obspy", reason="obspy is absent: pip install obspy")
    stream = obspy.Stream()
    for number in range(2):
        for letter in "RZ":
            header = {"network": "XX", "station": "ONE", "channel": f"BH{letter}", "sampling_rate": 20.0}
            header["starttime"] = obspy.UTCDateTime(1000 * number)
            samples = np.random.default_rng(number).standard_normal(400).cumsum()
            stream.append(obspy.Trace(samples * (number == 0 or letter == "R"), header))
    stream.write(str(tmp_path / "in.mseed"), "MSEED")
    status, out, error = unconv_command("receiver-function", tmp_path / "in.mseed", "-o", tmp_path / "rf.npy", "--json")
    assert status == 0, error
    told = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert told["events"][1]["fit"] is None and told["kept"] == [1] and told["notes"]


def test_receiver_functions_of_measured_records(tmp_path, unconv_command):
    pytest.importorskip("obspy", reason="obspy is absent: pip install obspy")
    from cases.traces import DATA

    if not DATA.is_dir():
        pytest.skip("real records are absent; set UNCONV_DATA to their folder")
    arguments = ("--events", DATA / "rf_example_events.xml", "--stations", DATA / "rf_example_inventory.xml")
    status, out, error = unconv_command(
        "receiver-function",
        DATA / "rf_example_data.mseed",
        "-o",
        tmp_path / "rf.npy",
        *arguments,
        "--band",
        "0.03,1.5",
        "--json",
    )
    assert status == 0, error
    told, made = json.loads(out), np.load(tmp_path / "rf.npy")
    times = told["times"]["first"] + told["times"]["interval"] * np.arange(told["times"]["samples"])
    assert made.shape == (len(told["events"]), len(times)) and len(told["events"]) >= 7
    assert abs(times[made.mean(0).argmax()]) <= 0.2, "the direct wave"
    status, _, error = unconv_command("receiver-function", DATA / "rf_example_data.mseed", "-o", tmp_path / "none.npy")
    assert status == 1 and "back azimuth" in error
