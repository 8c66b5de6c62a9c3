"""Traces in .npy: any integers and floats, any order, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from unconv.errors import ShapeError, TraceError
from unconv.traces import open_traces

VALUES = np.random.default_rng(0).integers(-100, 100, (3, 4, 50))
KINDS = ["<f4", ">f4", "<f8", ">f8", "f2", "i1", "<i2", ">i2", "i4", "i8", "u4"]


def saved(path, array):
    np.save(path, array)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_traces_come_along_the_last_axis_and_go_back(tmp_path, kind, order, axes):
    array = np.array(VALUES[(0,) * (3 - axes)], kind, order=order)
    rows = array.reshape(-1, 50)
    with open_traces(saved(tmp_path / "a.npy", array), rate=100) as traces:
        assert (traces.count, traces.shape, traces.rate, traces.start) == (len(rows), array.shape, 100.0, 0.0)
        for most in (1, 250, 10**6):
            np.testing.assert_array_equal(np.concatenate([block.values for block in traces.blocks(most)]), rows)
        with traces.rewritten(tmp_path / "b.npy") as writer:
            for block in traces.blocks(250):
                writer.put(block.first, block.values)
        with traces.rewritten(tmp_path / "c.npy") as writer:
            writer.put(len(rows) - 1, np.full((1, 50), np.nan))
    same, changed = np.load(tmp_path / "b.npy"), np.load(tmp_path / "c.npy").reshape(-1, 50)
    np.testing.assert_array_equal(same, array)
    assert same.dtype == (array.dtype if kind[-2:] in ("f4", "f8") else {"i4": "f8", "i8": "f8", "u4": "f8"}.get(kind, "f4"))
    assert same.flags.f_contiguous == array.flags.f_contiguous
    assert np.isnan(changed[-1]).all() and (changed[:-1] == rows[:-1]).all()
    if kind[-2:] in ("f4", "f8"):
        assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_a_trace_of_three_axes_is_named_by_two_numbers(tmp_path):
    with open_traces(saved(tmp_path / "a.npy", VALUES)) as traces:
        assert (traces.rate, traces.trace_name(7), traces.units) == (None, "trace (1, 3)", "")


REFUSED = {
    "complex": (np.zeros((2, 5), complex), "holds complex128, but integers or floats"),
    "bool": (np.zeros((2, 5), bool), "holds bool, but integers or floats"),
    "text": (np.zeros((2, 5), "U3"), "but integers or floats"),
    "records": (np.zeros((2, 5), [("a", "f4")]), "but integers or floats"),
    "object": (np.array([None, 1]), "is not an array that can be read"),
    "number": (np.array(3.0), r"has shape \(\), but"),
    "empty": (np.zeros((2, 0)), r"has shape \(2, 0\), but|cannot be read|can be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_traces_is_refused(tmp_path, name):
    array, words = REFUSED[name]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(TraceError, match=words):
        open_traces(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: c[:20], lambda c: c[:8], lambda c: c.replace(b"(2, 5)", b"(2,-5)")]
)
def test_a_damaged_array_is_refused(tmp_path, change):
    path = saved(tmp_path / "a.npy", np.zeros((2, 5)))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TraceError, match="is not an array that can be read"):
        open_traces(path)


def test_bytes_after_the_array_are_refused(tmp_path):
    path = saved(tmp_path / "a.npy", np.zeros((2, 5)))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(TraceError, match="4 bytes after its array"):
        open_traces(path)


def test_integers_that_float64_does_not_hold_are_refused(tmp_path):
    with open_traces(saved(tmp_path / "a.npy", np.array([[1, -(2**53) - 1]]))) as traces:
        with pytest.raises(TraceError, match=r"beyond 2\*\*53"):
            list(traces.blocks())


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    with pytest.raises(ShapeError, match="a finite number above 0 was needed"):
        open_traces(saved(tmp_path / "a.npy", np.zeros((2, 5))), rate)
