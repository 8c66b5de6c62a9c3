"""miniSEED and SAC: what obspy reads is what comes, headers stay, and damage is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cases.traces import DATA
from unconv.errors import ShapeError, TraceError
from unconv.traces import open_traces

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what obspy imports
    obspy = pytest.importorskip("obspy", reason="needs the extra seismic")

REAL = pytest.mark.skipif(not DATA.is_dir(), reason="needs UNCONV_DATA")
KEPT = ("network", "station", "location", "channel", "starttime", "endtime", "npts", "sampling_rate")


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return obspy.read(path)


def stream(lengths=(3000, 3000, 500), kind="i4", rates=(20.0, 20.0, 20.0), seconds=(0, 1000.123456, 2000)):
    rng, made = np.random.default_rng(0), []
    for length, rate, second in zip(lengths, rates, seconds, strict=True):
        header = {"network": "CX", "station": "PB01", "location": "00", "channel": "BHZ", "sampling_rate": rate}
        header["starttime"] = obspy.UTCDateTime(2011, 2, 25) + second
        made.append(obspy.Trace((rng.standard_normal(length) * 1000).astype(kind), header))
    return obspy.Stream(made)


def written(path, made, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.write(str(path), **options)
    return path


def rewrite(traces, out, change):
    with traces.rewritten(out) as writer:
        for block in traces.blocks(4000):
            writer.put(block.first, change(block.values))
            block.values[:] = 0
    return read(out)


@pytest.mark.parametrize("kind, encoding", [("i4", "STEIM2"), ("f4", "FLOAT32"), ("f8", "FLOAT64")])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("reclen", [512, 4096])
def test_miniseed_keeps_its_headers_and_takes_floats(tmp_path, kind, encoding, byteorder, reclen):
    options = {"format": "MSEED", "encoding": encoding, "byteorder": byteorder, "reclen": reclen}
    path = written(tmp_path / "a.mseed", stream(kind=kind), **options)
    with open_traces(path) as traces:
        assert (traces.kind, traces.count, traces.rate, traces.shape) == ("miniSEED", 3, 20.0, (3,))
        assert traces.notes[-1] == "its traces have several lengths, from 500 to 3000 samples"
        assert traces.trace_name(1) == "CX.PB01.00.BHZ 2011-02-25T00:16:40"
        blocks = list(traces.blocks())
        assert [(block.first, block.values.shape) for block in blocks] == [(0, (2, 3000)), (2, (1, 500))]
        assert {block.values.dtype.name for block in blocks} == {"float32" if kind == "f4" else "float64"}
        before = read(path)
        rows = [row for block in traces.blocks(1) for row in block.values]
        for row, trace in zip(rows, before, strict=True):
            np.testing.assert_array_equal(row, trace.data)
        after = rewrite(traces, tmp_path / "b.mseed", lambda values: values / 2)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.data, old.data / 2)
        assert [new.stats[name] for name in KEPT] == [old.stats[name] for name in KEPT]
        assert (new.stats.mseed.record_length, new.stats.mseed.byteorder) == (reclen, byteorder)
        assert new.stats.mseed.encoding == ("FLOAT32" if kind == "f4" else "FLOAT64")


def test_traces_of_miniseed_that_nobody_puts_stay(tmp_path):
    path = written(tmp_path / "a.mseed", stream(), format="MSEED")
    with open_traces(path) as traces:
        with traces.rewritten(tmp_path / "b.mseed") as writer:
            writer.put(0, np.zeros((2, 3000)))
            with pytest.raises(ShapeError, match=r"but \(n, 500 or 3000\) within the 3 traces"):
                writer.put(0, np.zeros((3, 3000)))
    after = read(tmp_path / "b.mseed")
    assert not after[0].data.any() and not after[1].data.any()
    np.testing.assert_array_equal(after[2].data, read(path)[2].data)


def test_two_rates_in_one_stream_are_refused_by_name(tmp_path):
    path = written(tmp_path / "a.mseed", stream(rates=(20.0, 40.0, 20.0)), format="MSEED")
    with pytest.raises(TraceError, match="has traces of 20 and 40 samples per second"):
        open_traces(path)


def test_a_given_rate_is_used_and_noted(tmp_path):
    with open_traces(written(tmp_path / "a.mseed", stream(), format="MSEED"), rate=25) as traces:
        assert traces.rate == 25.0 and "says 20 samples per second, but 25 was passed" in " ".join(traces.notes)


DAMAGES = {
    "cut within a record": (lambda c: c[:1500], "cut off or damaged: its data records take 1024 of 1500 bytes"),
    "cut within the first": (lambda c: c[:300], "cut off or damaged"),
    "zeros between": (lambda c: c[:1024] + bytes(512) + c[1024:], "is damaged: .*Not a SEED record"),
    "other bytes between": (lambda c: c[:1024] + b"Q" * 300 + c[1024:], "is damaged: .*Not a SEED record"),
    "samples overwritten": (lambda c: c[:1124] + bytes(300) + c[1424:], "cut off or damaged: Encountered 1 error"),
    "a name that is no text": (
        lambda c: c[:1032] + b"\xff\xfe" + c[1034:1124] + bytes(300) + c[1424:],
        "is damaged|or damaged",
    ),
    "a byte more": (lambda c: c + b"0", "damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_miniseed_is_refused(tmp_path, name):
    change, words = DAMAGES[name]
    path = written(tmp_path / "a.mseed", stream(), format="MSEED", reclen=512)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TraceError, match=words) as refused:
        open_traces(path)
    assert len(str(refused.value)) < 700 and "\n" not in str(refused.value)


def sac(path, byteorder="<"):
    made = stream(lengths=(300,), kind="f4", rates=(20.0,), seconds=(0.5,))
    made[0].stats.sac = {"b": -1.5, "stla": 12.5, "user3": 7.25, "kevnm": "quake", "idep": 7}
    return written(path, made, format="SAC", byteorder=byteorder)


@pytest.mark.parametrize("byteorder", "<>")
def test_sac_changes_only_samples_and_what_the_header_says_of_them(tmp_path, byteorder):
    path = sac(tmp_path / "a.sac", byteorder)
    before = read(path)[0]
    with open_traces(path) as traces:
        assert (traces.kind, traces.count, traces.rate, traces.shape, traces.units) == ("SAC", 1, 20.0, (1, 300), "nm/s")
        (block,) = traces.blocks()
        np.testing.assert_array_equal(block.values[0], before.data)
        after = rewrite(traces, tmp_path / "b.sac", lambda values: values * 2.0)[0]
    np.testing.assert_array_equal(after.data, before.data * 2)
    derived = ("depmin", "depmax", "depmen")
    assert [after.stats.sac[name] for name in derived] == pytest.approx([2 * before.stats.sac[name] for name in derived])
    old, new = (np.frombuffer(file.read_bytes()[:632], f"{byteorder}i4") for file in (path, tmp_path / "b.sac"))
    assert {*np.flatnonzero(old != new)} == {1, 2, 56}


def test_damaged_sac_is_refused(tmp_path):
    path = sac(tmp_path / "a.sac")
    content = path.read_bytes()
    for change, words in (
        (content[:-40], "SAC of 300 samples, but holds 290: it is cut off"),
        (content + b"1234", "SAC of 300 samples, but holds 301"),
        (content[:316] + bytes(4) + content[320:], "its header says 0 samples"),
        (content[:340] + b"\2\0\0\0" + content[344:], "not a time series of evenly spaced samples"),
        (content[:304] + b"\7\0\0\0" + content[308:], "of version 7"),
    ):
        path.write_bytes(change)
        with pytest.raises(TraceError, match=words):
            open_traces(path)


def test_sac_without_an_interval_asks_for_the_rate(tmp_path):
    path = sac(tmp_path / "a.sac")
    path.write_bytes(bytes(4) + path.read_bytes()[4:])
    with pytest.raises(TraceError, match=r"interval of 0.0 s, which gives no rate. Pass rate="):
        open_traces(path)
    with open_traces(path, rate=20) as traces:
        assert traces.rate == 20.0 and "20 samples per second was passed" in traces.notes[-1]


@REAL
def test_a_real_stream_comes_as_obspy_reads_it_and_keeps_its_headers(tmp_path):
    path = DATA / "rf_example_data.mseed"
    before = read(str(path))
    with open_traces(path) as traces:
        assert (traces.count, traces.rate) == (39, 5.0)
        np.testing.assert_array_equal(np.concatenate([b.values for b in traces.blocks()]), [t.data for t in before])
        after = rewrite(traces, tmp_path / "b.mseed", lambda values: values + 0.5)
    for old, new in zip(before, after, strict=True):
        assert [new.stats[name] for name in KEPT] == [old.stats[name] for name in KEPT]
        np.testing.assert_array_equal(new.data, old.data + 0.5)
