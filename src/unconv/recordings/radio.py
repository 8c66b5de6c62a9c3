"""Read complex baseband samples: raw files as radio receivers write them, SigMF, .npy, and stereo sound files of I and Q."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import RecordingError, ShapeError, counted
from unconv.kinds import checks_kinds

Array = np.ndarray[Any, Any]

# For each ending of a raw file: the type of I and of Q, and the value that is scaled to 1.
_RAW = {
    ".cf32": ("<f4", 1.0),
    ".fc32": ("<f4", 1.0),
    ".cfile": ("<f4", 1.0),
    ".cf64": ("<f8", 1.0),
    ".cs16": ("<i2", 32768.0),
    ".sc16": ("<i2", 32768.0),
    ".cs8": ("i1", 128.0),
    ".cu8": ("u1", 128.0),
}
_SIGMF = {"f32": "f4", "f64": "f8", "i32": "i4", "i16": "i2", "i8": "i1", "u32": "u4", "u16": "u2", "u8": "u1"}
_MOST = 2**31  # bytes: an equaliser needs several copies of a signal in memory


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a receiver.

    Attributes:
        values: (n,) or (..., n), complex, or real where the file is real; integers of raw
            files, SigMF and sounds are scaled to -1 to 1, those of .npy are not.
        rate: samples per second; None where the file does not give it.
        kind: "npy", "raw", "SigMF" or "sound".
        notes: remarks on the file.
    """

    values: Array
    rate: float | None
    kind: str
    notes: tuple[str, ...] = ()


@checks_kinds
def open_samples(path: str | Path, rate: float | None = None) -> Samples:
    """Read samples of a radio receiver: .npy, SigMF, raw I and Q, or a sound file with I and Q as its two channels.

    The ending of a raw file gives its type: .cf32, .fc32, .cfile (as GNU Radio writes it), .cf64, .cs16, .sc16, .cs8, or .cu8
    (as rtl_sdr writes it), with I and Q interleaved, little-endian. For SigMF, pass either file of the pair. Any other ending
    is read as a sound file, which needs the extra `speech`; a sound of one channel is a real signal.

    Args:
        path: the file.
        rate: samples per second, which replaces the rate in the file.

    Raises:
        RecordingError: the file is missing, empty, truncated, larger than 2 GiB, or of none of these kinds; it holds NaN or
            infinite samples. ShapeError: a rate that is not above 0.

    Source:
        SigMF, the Signal Metadata Format Specification, version 1.2.
    """
    path = Path(path)
    if rate is not None and not 0 < rate < math.inf:
        raise ShapeError(f"open_samples: rate is {rate}, but a number of samples per second above 0 was needed.")
    ending = path.suffix.lower()
    if ending in (".sigmf-meta", ".sigmf-data", ".sigmf"):
        samples = _sigmf(path)
    elif ending in _RAW:
        samples = Samples(_interleaved(path, *_RAW[ending]), None, "raw")
    elif ending == ".npy":
        samples = Samples(_npy(path), None, "npy")
    else:
        samples = _sound(path)
    # The equaliser would refuse these, too, but only here the file can be named.
    broken = np.flatnonzero(~np.isfinite(samples.values))
    if len(broken):
        raise RecordingError(
            f"open_samples: {path} has {counted(len(broken), 'NaN or infinite sample')}, the first at {broken[0]}, but finite "
            "numbers were needed. Cut them out, or set them to 0."
        )
    return Samples(samples.values, rate if rate is not None else samples.rate, samples.kind, samples.notes)


def _checked_size(path: Path) -> int:
    """Return the size of a file in bytes; refuse one that is empty, too large or not a file."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f"open_samples: cannot read {path}: {error.strerror}. Check the path.") from error
    if not path.is_file():
        raise RecordingError(f"open_samples: {path} is not a file, but a recording was needed. Check the path.")
    if size == 0:
        raise RecordingError(f"open_samples: {path} is empty, but samples were needed. Copy it again.")
    if size > _MOST:
        raise RecordingError(
            f"open_samples: {path} has {size:,} bytes, but at most {_MOST:,} fit, since a signal is read into memory at once. "
            "Cut out a part."
        )
    return size


def _interleaved(path: Path, kind: str, full: float, skipped: int = 0) -> Array:
    """Return I + jQ from interleaved numbers, scaled so that `full` becomes 1; unsigned numbers are centred first."""
    pair = 2 * np.dtype(kind).itemsize
    size = _checked_size(path) - skipped
    if size <= 0 or size % pair:
        raise RecordingError(
            f"open_samples: {path} has {counted(size, 'byte')} of samples, but a multiple of {pair} was needed, for I and Q of "
            "each. Copy the file again if it is truncated, or rename it if its ending names another type."
        )
    pairs: Array = np.fromfile(path, kind, offset=skipped).reshape(-1, 2)
    wide = np.float64 if np.dtype(kind).itemsize > 4 or kind.endswith(("i4", "u4")) else np.float32
    # rtl_sdr's zero lies between 127 and 128; the receiver's own DC offset is larger than that half step.
    middle = full - 0.5 if np.dtype(kind).kind == "u" else 0.0
    values: Array = np.asarray((pairs - np.array(middle, wide)) / np.array(full, wide), wide)
    joined: Array = values[:, 0] + np.array(1j, np.complex64) * values[:, 1]
    return joined


def _npy(path: Path) -> Array:
    _checked_size(path)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(
            f"open_samples: {path} is not an array that can be read: {error}. Save it again with numpy.save."
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iufc" or values.size == 0:
        raise RecordingError(
            f"open_samples: {path} does not hold numbers, but an array of samples, (n,) or (..., n), was needed. Save one."
        )
    return values if values.dtype.kind in "fc" else values.astype(np.float64)


def _sigmf(path: Path) -> Samples:
    """Read the pair NAME.sigmf-meta and NAME.sigmf-data, with the samples of all captures."""
    if path.suffix.lower() == ".sigmf":
        raise RecordingError(f"open_samples: {path} is an archive. Unpack it with tar, and pass its .sigmf-meta.")
    meta, data = path.with_suffix(".sigmf-meta"), path.with_suffix(".sigmf-data")
    _checked_size(meta)
    try:
        description = json.loads(meta.read_text("utf-8-sig"))  # some tools begin with a byte-order mark
        header = description["global"]
        kind = str(header["core:datatype"])
        channels = int(header.get("core:num_channels", 1))
        rate = header.get("core:sample_rate")
        rate = None if rate is None else float(rate)
        skipped = int(description.get("captures", [{}])[0].get("core:header_bytes", 0)) if description.get("captures") else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"open_samples: {meta} does not describe samples as SigMF does: {error!r}. Check the file."
        ) from error
    if skipped < 0 or (rate is not None and not 0 < rate < math.inf):
        raise RecordingError(
            f"open_samples: {meta} gives {rate} samples per second and {counted(skipped, 'header byte')}, but a rate above 0 "
            "and 0 bytes or more were needed. Correct the file."
        )
    number, _, order = kind[1:].partition("_")
    if kind[:1] != "c" or number not in _SIGMF or channels != 1 or order not in ("", "le", "be"):
        raise RecordingError(
            f"open_samples: {meta} describes {kind} samples of {counted(channels, 'channel')}, but complex samples of one "
            "channel were needed, such as cf32_le. Convert the recording."
        )
    code = _SIGMF[number]
    # Floats are read as they are; integers are scaled by their largest magnitude.
    full = 1.0 if code[0] == "f" else 2.0 ** (8 * int(code[1]) - 1)
    values = _interleaved(data, (">" if order == "be" else "<") + code, full, skipped)
    notes = ("the recording has several captures, which were joined",) if len(description.get("captures") or []) > 1 else ()
    return Samples(values, rate, "SigMF", notes)


def _sound(path: Path) -> Samples:
    from unconv.recordings.sound import open_sound

    with open_sound(path) as sound:
        values = sound.read()
        rate, notes = float(sound.rate), sound.notes
    if len(values) == 1:
        return Samples(values[0], rate, "sound", notes)
    if len(values) == 2:
        return Samples(values[0] + 1j * values[1], rate, "sound", (*notes, "the two channels were read as I and Q"))
    raise RecordingError(
        f"open_samples: {path} has {len(values)} channels, but 1, or 2 for I and Q, were needed. Extract them."
    )
