"""SEG-Y: what segyio reads is what comes, only samples change, and headers that contradict each other are refused."""

from __future__ import annotations

import numpy as np
import pytest

from cases.traces import DATA, TYPES, segy
from unconv.errors import DtypeError, NonFinite, ShapeError, TraceError
from unconv.traces import open_traces

segyio = pytest.importorskip("segyio", reason="needs the extra seismic")
REAL = pytest.mark.skipif(not DATA.is_dir(), reason="needs UNCONV_DATA")
VALUES = np.random.default_rng(1).standard_normal((7, 50)).astype(np.float32)
WHOLE = np.arange(350).reshape(7, 50) % 100


def together(traces, most=4 * 2**20):
    blocks = list(traces.blocks(most))
    assert [block.first for block in blocks] == np.cumsum([0, *(len(block.values) for block in blocks)])[:-1].tolist()
    return np.concatenate([block.values for block in blocks])


def copied(traces, out, change=lambda values: values):
    with traces.rewritten(out) as writer:
        for block in traces.blocks(120):
            writer.put(block.first, change(block.values))
    return out.read_bytes()


@pytest.mark.parametrize("mark", "<>")
@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("extended", [0, 2])
def test_samples_come_as_they_were_written_and_go_back_to_the_byte(tmp_path, mark, code, extended):
    values = VALUES if code in (5, 6) else WHOLE
    path = segy(tmp_path / "a.sgy", values, code, mark, extended=extended)
    with open_traces(path) as traces:
        assert (traces.kind, traces.count, traces.shape, traces.rate, traces.units) == ("SEG-Y", 7, (7, 50), 500.0, "m/s²")
        assert any({">": "big", "<": "little"}[mark] in note for note in traces.notes)
        for most in (1, 120, 10**6):
            np.testing.assert_array_equal(together(traces, most), values)
        assert {block.values.dtype.name for block in traces.blocks()} == {"float64" if code in (2, 6, 10) else "float32"}
        assert copied(traces, tmp_path / "b.sgy") == path.read_bytes()
        assert traces.trace_name(3) == "inline 13, crossline 1155"


@pytest.mark.parametrize("mark", "<>")
def test_only_samples_change(tmp_path, mark):
    path = segy(tmp_path / "a.sgy", VALUES, 5, mark, extended=1)
    with open_traces(path) as traces:
        content = copied(traces, tmp_path / "b.sgy", lambda values: -2 * values)
    assert content == segy(tmp_path / "c.sgy", -2 * VALUES, 5, mark, extended=1).read_bytes()


def test_traces_that_nobody_puts_stay(tmp_path):
    path = segy(tmp_path / "a.sgy", VALUES)
    with open_traces(path) as traces, traces.rewritten(tmp_path / "b.sgy") as writer:
        writer.put(2, np.zeros((3, 50)))
    wanted = VALUES.copy()
    wanted[2:5] = 0
    assert (tmp_path / "b.sgy").read_bytes() == segy(tmp_path / "c.sgy", wanted).read_bytes()


@pytest.mark.parametrize("mark", "<>")
def test_ibm_floats_keep_their_precision(tmp_path, mark):
    values = VALUES * 10.0 ** np.arange(-3, 4)[:, None]
    with open_traces(segy(tmp_path / "a.sgy", values, 1, mark)) as traces:
        np.testing.assert_allclose(together(traces), values, rtol=2**-20)
        assert "IBM" in traces.notes[0]
        copied(traces, tmp_path / "b.sgy", lambda block: 3 * block)
    with open_traces(tmp_path / "b.sgy") as traces:
        np.testing.assert_allclose(together(traces), 3 * values, rtol=2**-19)


def test_nan_goes_into_ieee_floats_but_not_into_ibm_floats(tmp_path):
    for code in (5, 1):
        with open_traces(segy(tmp_path / "a.sgy", VALUES, code)) as traces:
            if code == 5:
                assert np.isnan(np.frombuffer(copied(traces, tmp_path / "b.sgy", lambda b: b * np.nan)[-200:], ">f4")).all()
            else:
                with pytest.raises(NonFinite, match=r"samples came \(100 of 100\), but .* has IBM floats"):
                    copied(traces, tmp_path / "c.sgy", lambda b: b * np.nan)
    assert not (tmp_path / "c.sgy").exists()


@pytest.mark.parametrize("change", [lambda b: b / 2, lambda b: b * 1000, lambda b: b * np.nan])
def test_integers_take_only_integers_that_fit(tmp_path, change):
    with open_traces(segy(tmp_path / "a.sgy", WHOLE, 3)) as traces:
        assert "integers in range" in traces.notes[-1]
        copied(traces, tmp_path / "b.sgy", lambda b: -b)
        with pytest.raises(DtypeError, match=r"holds 16-bit integers, but .* from -32768 to 32767, and need IEEE floats"):
            copied(traces, tmp_path / "c.sgy", change)
    assert not (tmp_path / "c.sgy").exists()


def test_samples_too_large_for_the_file_are_refused(tmp_path):
    with (
        open_traces(segy(tmp_path / "a.sgy", VALUES)) as traces,
        pytest.raises(NonFinite, match=r"samples are beyond 3.4e\+38, the largest float32 of the file \(100 of 100\)"),
    ):
        copied(traces, tmp_path / "b.sgy", lambda b: b.astype(float) * 1e300)


@pytest.mark.parametrize("first, shape", [(0, (7, 49)), (5, (3, 50)), (-1, (1, 50)), (0, (50,)), (0, (0, 50)), (0, ())])
def test_values_of_another_shape_are_refused(tmp_path, first, shape):
    with open_traces(segy(tmp_path / "a.sgy", VALUES)) as traces, traces.rewritten(tmp_path / "b.sgy") as writer:
        with pytest.raises(ShapeError, match=r"put: values are \(.*\) from trace .*but \(n, .*7 traces"):
            writer.put(first, np.zeros(shape))
        with pytest.raises(DtypeError, match="complex128, but real numbers"):
            writer.put(0, np.zeros((7, 50), complex))


REFUSED = {
    "0 in its binary header and in its trace headers. Pass rate=": {"interval": 0, "own": 0},
    "4000 µs in its binary header, but 2000 µs in its trace headers. Pass rate=": {"interval": 4000},
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_rate_that_is_not_clear_is_asked_for(tmp_path, words):
    path = segy(tmp_path / "a.sgy", VALUES, **REFUSED[words])
    with pytest.raises(TraceError, match=words):
        open_traces(path)
    with open_traces(path, rate=250) as traces:
        assert traces.rate == 250.0
        assert any("250 samples per second was passed and is used" in note for note in traces.notes)


def test_a_given_rate_takes_the_place_of_the_headers_and_is_noted(tmp_path):
    with open_traces(segy(tmp_path / "a.sgy", VALUES), rate=1000) as traces:
        assert traces.rate == 1000 and "says 500 samples per second, but 1000 was passed" in traces.notes[-1]


@pytest.mark.parametrize("headers", [{"interval": 0, "own": 40000}, {"interval": 40000, "own": 0}])
def test_one_header_with_an_interval_is_enough(tmp_path, headers):
    with open_traces(segy(tmp_path / "a.sgy", VALUES, **headers)) as traces:
        assert traces.rate == 25.0 and "only its" in traces.notes[1]


def test_two_rates_in_one_file_are_refused_by_name(tmp_path):
    path = segy(tmp_path / "a.sgy", VALUES, own=[2000] * 6 + [4000])
    for rate in (None, 500.0):
        with pytest.raises(TraceError, match=r"2000 µs \(500 samples .*\) and 4000 µs \(250 samples"):
            open_traces(path, rate)


def test_delays_are_the_start_and_said_where_they_differ(tmp_path):
    with open_traces(segy(tmp_path / "a.sgy", VALUES, delay=65536 - 100)) as traces:
        assert traces.start == -0.1 and len(traces.notes) == 1
    with open_traces(segy(tmp_path / "a.sgy", VALUES, delay=[8, 4, 4, 4, 4, 4, 12])) as traces:
        assert traces.start == 0.008 and "begin at 0.004 to 0.012 s" in traces.notes[-1]


SIZES = {
    100: "ends after 100 bytes, within its text headers of 3200",
    3300: "ends after 3300 bytes, within its text and binary headers of 3600",
    3600: "holds no traces: it has 3600 bytes",
    3600 + 3 * 440 + 17: "holds 3 complete traces of 50 samples and 17 bytes more: it was cut off",
}


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_cut_off_is_refused(tmp_path, size):
    path = segy(tmp_path / "a.sgy", VALUES)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TraceError, match=SIZES[size]):
        open_traces(path)


HEADERS = {
    "says 0 samples a trace": {3221: ("H", 0)},
    "samples have format 4, and one of 1": {3225: ("H", 4)},
    "format code is 0 .big-endian. or 0 .little-endian.": {3225: ("H", 0)},
    "how many text headers follow": {3505: ("h", -1)},
    "no traces: it has 6680 bytes, and its headers take 16400": {3505: ("h", 4)},
    "60 samples a trace in bytes 3269-3272": {3501: ("B", 2), 3269: ("i", 60)},
    "an interval of 12.5 µs": {3501: ("B", 2), 3273: ("d", 12.5)},
    "additional trace headers .1 for each trace.": {3501: ("B", 2), 3507: ("i", 1)},
    "a first trace at byte 4000": {3501: ("B", 2), 3521: ("Q", 4000)},
    "records after the traces .-1.": {3501: ("B", 2), 3529: ("i", -1)},
}


@pytest.mark.parametrize("words", HEADERS)
def test_headers_that_make_no_sense_are_refused(tmp_path, words):
    with pytest.raises(TraceError, match=words):
        open_traces(segy(tmp_path / "a.sgy", VALUES, binary=HEADERS[words]))


def test_revision_2_that_says_the_same_twice_is_read(tmp_path):
    binary = {3501: ("B", 2), 3269: ("i", 50), 3273: ("d", 2000.0), 3521: ("Q", 3600)}
    with open_traces(segy(tmp_path / "a.sgy", VALUES, binary=binary)) as traces:
        np.testing.assert_array_equal(together(traces), VALUES)


@REAL
@pytest.mark.parametrize("name", ["penobscot_xl1155.sgy", "f3_small.sgy"])
def test_real_files_come_as_segyio_reads_them_and_go_back_to_the_byte(tmp_path, name):
    with segyio.open(str(DATA / name), ignore_geometry=True, strict=False) as file:
        wanted = file.trace.raw[:]
    with open_traces(DATA / name) as traces:
        np.testing.assert_array_equal(together(traces, 20_000), wanted)
        assert traces.rate == 250.0
        assert copied(traces, tmp_path / "b.sgy") == (DATA / name).read_bytes()
        assert traces.trace_name(0) == {601: "inline 1000, crossline 1155"}.get(traces.count, "inline 111, crossline 875")
