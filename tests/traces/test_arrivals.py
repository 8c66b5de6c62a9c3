"""Three components of distant earthquakes: rotated, grouped, cut around the P wave, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cases.traces import DATA
from unconv.errors import ShapeError, TraceError
from unconv.traces.arrivals import open_arrivals

obspy = pytest.importorskip("obspy", reason="obspy is absent: pip install obspy")


def record(folder, components, rate=20.0, start=0, name="a.mseed"):
    """Write components (a letter: samples) as miniSEED."""
    stream = obspy.Stream()
    for letter, samples in components.items():
        header = {"network": "XX", "station": "ONE", "channel": f"BH{letter}", "sampling_rate": rate}
        header["starttime"] = obspy.UTCDateTime(2020, 1, 1) + start
        stream.append(obspy.Trace(np.asarray(samples, dtype=np.float64), header))
    stream.write(str(folder / name), "MSEED")
    return folder / name


def waves(seed=0, n=400):
    made = np.random.default_rng(seed).standard_normal((2, n)).cumsum(1)
    line = np.polynomial.polynomial.polyvander(np.arange(n), 1)
    return made - (line @ np.linalg.lstsq(line, made.T, rcond=None)[0]).T  # as `detrend` leaves it


@pytest.mark.parametrize("azimuth", [0.0, 30.0, 250.0])
def test_radial_is_what_points_away_from_the_event(tmp_path, azimuth):
    radial, vertical = waves()
    angle = np.deg2rad(azimuth)
    path = record(tmp_path, {"N": -np.cos(angle) * radial, "E": -np.sin(angle) * radial, "Z": vertical})
    found = open_arrivals([path], back_azimuth=azimuth)
    np.testing.assert_allclose(found.radial[0], radial, atol=1e-9)
    np.testing.assert_allclose(found.vertical[0], vertical, atol=1e-9)
    assert (found.rate, found.start, len(found.names)) == (20.0, None, 1)


def test_components_that_are_rotated_already_need_no_azimuth(tmp_path):
    radial, vertical = waves(1)
    found = open_arrivals([record(tmp_path, {"R": radial, "Z": vertical})])
    np.testing.assert_allclose(found.radial[0], radial, atol=1e-9)


def test_what_began_apart_is_of_other_events(tmp_path):
    parts = [record(tmp_path, dict(zip("RZ", waves(k), strict=True)), start=1000 * k, name=f"{k}.mseed") for k in range(3)]
    assert open_arrivals(parts).radial.shape == (3, 400)


def test_components_that_begin_apart_are_cut_to_the_time_they_share(tmp_path):
    radial, vertical = waves(2, 460)
    late = record(tmp_path, {"R": radial[60:]}, start=3, name="late.mseed")
    found = open_arrivals([record(tmp_path, {"Z": vertical}), late])
    assert found.radial.shape == (1, 400)
    line = np.polynomial.polynomial.polyvander(np.arange(400), 1)
    for made, wanted in ((found.radial[0], radial[60:]), (found.vertical[0], vertical[60:])):
        np.testing.assert_allclose(made, wanted - line @ np.linalg.lstsq(line, wanted, rcond=None)[0], atol=1e-8)


def test_lacking_components_and_two_rates_are_refused(tmp_path):
    radial, vertical = waves()
    with pytest.raises(TraceError, match="the components are missing: N, E"):
        open_arrivals([record(tmp_path, {"Z": vertical})])
    with pytest.raises(TraceError, match="need a back azimuth"):
        open_arrivals([record(tmp_path, {"N": radial, "E": radial, "Z": vertical})])
    slow = record(tmp_path, {"R": radial}, rate=10.0, name="slow.mseed")
    with pytest.raises(TraceError, match=r"\[10.0, 20.0\] Hz"):
        open_arrivals([slow, record(tmp_path, {"Z": vertical})])
    with pytest.raises(ShapeError, match="ascending"):
        open_arrivals([slow], window=(5, 5))
    (tmp_path / "none.mseed").write_bytes(b"nothing")
    with pytest.raises(TraceError, match="cannot be read"):
        open_arrivals([tmp_path / "none.mseed"])


@pytest.mark.skipif(not DATA.is_dir(), reason="real records are absent; set UNCONV_DATA to their folder")
def test_measured_records_are_cut_around_the_p_wave():
    found = open_arrivals(
        [DATA / "rf_example_data.mseed"], DATA / "rf_example_events.xml", DATA / "rf_example_inventory.xml", band=(0.03, 1.5)
    )
    assert found.radial.shape == (7, 501) and found.start == -25
    assert all(note.startswith("left out: ") for note in found.notes)
    quiet, loud = found.vertical[:, 20:100].std(1), found.vertical[:, 125:205].std(1)
    assert (loud > quiet).all() and np.median(loud / quiet) > 2, "the P wave comes 25 s after the first sample"
