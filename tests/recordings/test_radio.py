"""Radio samples come in scaled, complex and whole, whatever wrote them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unconv import RecordingError, ShapeError
from unconv.recordings import open_samples

VALUES = np.array([0.5 - 0.25j, -1 + 0.75j, 0.125j, 0.0])
RAW = {".cf32": "<f4", ".cfile": "<f4", ".cf64": "<f8", ".cs16": "<i2", ".cs8": "i1"}


def interleaved(kind: str) -> np.ndarray:
    pairs = np.stack([VALUES.real, VALUES.imag], -1)
    return (pairs if "f" in kind else pairs * 2 ** (8 * np.dtype(kind).itemsize - 1)).astype(kind)


@pytest.mark.parametrize("ending", RAW)
def test_raw_samples_are_read_as_their_ending_says(tmp_path, ending):
    path = tmp_path / f"capture{ending}"
    interleaved(RAW[ending]).tofile(path)
    result = open_samples(path)
    np.testing.assert_array_equal(result.values, VALUES)
    assert result.rate is None and result.kind == "raw"


def test_unsigned_bytes_are_centred_as_rtl_sdr_writes_them(tmp_path):
    path = tmp_path / "capture.cu8"
    np.array([0, 255, 127, 128], np.uint8).tofile(path)
    np.testing.assert_allclose(open_samples(path).values, [(-127.5 + 127.5j) / 128, (-0.5 + 0.5j) / 128])


@pytest.mark.parametrize("kind", ["cf32_le", "ci16_be", "ci8"])
def test_sigmf_says_type_byte_order_and_rate(tmp_path, kind):
    number = {"cf32_le": "<f4", "ci16_be": ">i2", "ci8": "i1"}[kind]
    interleaved(number).tofile(tmp_path / "burst.sigmf-data")
    meta = {"global": {"core:datatype": kind, "core:sample_rate": 2e6, "core:version": "1.2.0"}, "captures": [{}, {}]}
    (tmp_path / "burst.sigmf-meta").write_text(json.dumps(meta))
    for ending in ("meta", "data"):
        result = open_samples(tmp_path / f"burst.sigmf-{ending}")
        np.testing.assert_array_equal(result.values, VALUES)
        assert result.rate == 2e6 and "joined" in result.notes[0]


def test_arrays_keep_their_type_and_integers_become_floats(tmp_path):
    np.save(tmp_path / "a.npy", VALUES.astype(np.complex64)[None])
    np.save(tmp_path / "b.npy", np.array([1, -2], np.int16))
    assert open_samples(tmp_path / "a.npy", rate=5).values.dtype == np.complex64
    np.testing.assert_array_equal(open_samples(tmp_path / "b.npy").values, [1.0, -2.0])


def test_a_sound_of_two_channels_is_i_and_q(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "iq.wav", np.stack([VALUES.real, VALUES.imag], -1), 48_000, subtype="FLOAT")
    result = open_samples(tmp_path / "iq.wav")
    np.testing.assert_array_equal(result.values, VALUES)
    assert result.rate == 48_000


def test_what_cannot_be_samples_is_refused_in_words(tmp_path):
    def refused(name: str, content: bytes, words: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=words):
            open_samples(tmp_path / name)

    refused("a.cf32", b"", "is empty")
    refused("a.cs16", b"12345", "5 bytes of samples, but a multiple of 4")
    refused("a.npy", b"\x93NUMPY\x01\x00", "is not an array that can be read")
    refused("a.sigmf-meta", b"{}", "does not describe samples as SigMF does")
    refused("b.cf32", np.array([1, np.nan], "<f4").tobytes(), "1 NaN or infinite sample, the first at 0")
    (tmp_path / "a.sigmf-meta").write_text('{"global": {"core:datatype": "rf32_le"}}')
    with pytest.raises(RecordingError, match="describes rf32_le samples of 1 channel,"):
        open_samples(tmp_path / "a.sigmf-meta")
    (tmp_path / "a.sigmf-meta").write_text('{"global": {"core:datatype": "cf32_le", "core:sample_rate": -1}}')
    with pytest.raises(RecordingError, match=r"gives -1\.0 samples per second"):
        open_samples(tmp_path / "a.sigmf-meta")
    with pytest.raises(RecordingError, match=r"cannot read .*absent"):
        open_samples(tmp_path / "absent.cf32")
    (tmp_path / "folder.cf32").mkdir()
    with pytest.raises(RecordingError, match=r"is not a file, but a recording was needed"):
        open_samples(tmp_path / "folder.cf32")
    with pytest.raises(ShapeError, match="rate is 0"):
        open_samples(tmp_path / "b.cf32", rate=0)
