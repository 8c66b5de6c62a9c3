"""Complex baseband samples of radio: raw files as receivers write them, SigMF, .npy, and I and Q as two channels of a sound."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import RecordingError, ShapeError
from unconv.kinds import checks_kinds

Array = np.ndarray[Any, Any]

# What a raw file's ending says about it: the type of I and of Q, and the value that stands for 1.
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
_MOST = 2**31  # bytes: an equaliser holds a signal whole, several times over


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a receiver.

    Attributes:
        values: (n,) or (..., n), complex, or real where the file is real; integers are scaled to -1 to 1.
        rate: samples a second; None where the file does not say.
        kind: "npy", "raw", "SigMF" or "sound".
        notes: what was odd about the file.
    """

    values: Array
    rate: float | None
    kind: str
    notes: tuple[str, ...] = ()


@checks_kinds
def open_samples(path: str | Path, rate: float | None = None) -> Samples:
    """Read samples of a receiver: .npy, SigMF, raw I and Q, or a sound with I and Q in two channels.

    Raw files are told by their ending: .cf32, .fc32, .cfile (as GNU Radio writes them), .cf64, .cs16, .sc16, .cs8, and .cu8
    (as rtl_sdr writes them), interleaved I, Q and little-endian. Of SigMF, pass either file of the pair. Other endings
    are sounds, which need the extra `speech`; a sound of one channel is a real signal.

    Args:
        rate: samples a second, in place of what the file says.

    Raises:
        RecordingError: the file is missing, empty, cut off within a sample, larger than 2 GiB or of none of these kinds; it
            holds NaN or infinite samples.

    Source:
        SigMF, the Signal Metadata Format Specification, version 1.2.
    """
    path = Path(path)
    if rate is not None and not 0 < rate < math.inf:
        raise ShapeError(f"open_samples: rate is {rate}, but samples a second, above 0, were needed.")
    ending = path.suffix.lower()
    if ending in (".sigmf-meta", ".sigmf-data", ".sigmf"):
        found = _sigmf(path)
    elif ending in _RAW:
        found = Samples(_interleaved(path, *_RAW[ending]), None, "raw")
    elif ending == ".npy":
        found = Samples(_npy(path), None, "npy")
    else:
        found = _sound(path)
    broken = np.flatnonzero(~np.isfinite(found.values))
    if len(broken):
        raise RecordingError(
            f"open_samples: {path} has {len(broken)} NaN or infinite samples, the first at {broken[0]}, but numbers were "
            f"needed. "
            "Cut them out or set them to 0."
        )
    return Samples(found.values, rate if rate is not None else found.rate, found.kind, found.notes)


def _checked_size(path: Path) -> int:
    """Return a file's bytes, at least one and not too many."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise RecordingError(f"open_samples: {path} is no file, but a recording was needed. Check the path.")
    except OSError as error:
        raise RecordingError(f"open_samples: cannot read {path}: {error.strerror}. Check the path.") from error
    if size == 0:
        raise RecordingError(f"open_samples: {path} is empty, but samples were needed. Copy it again.")
    if size > _MOST:
        raise RecordingError(
            f"open_samples: {path} has {size:,} bytes, but at most {_MOST:,} are read, since a signal is held whole. Cut out "
            f"a part."
        )
    return size


def _interleaved(path: Path, kind: str, full: float, skipped: int = 0) -> Array:
    """Return I + jQ of interleaved numbers, scaled so that `full` becomes 1; unsigned ones are centred first."""
    pair = 2 * np.dtype(kind).itemsize
    size = _checked_size(path) - skipped
    if size <= 0 or size % pair:
        raise RecordingError(
            f"open_samples: {path} has {size} bytes of samples, but a multiple of {pair} was needed, I and Q of each. It is "
            f"cut off, "
            "or its ending names another type."
        )
    pairs: Array = np.fromfile(path, kind, offset=skipped).reshape(-1, 2)
    wide = np.float64 if np.dtype(kind).itemsize > 4 or kind.endswith(("i4", "u4")) else np.float32
    # rtl_sdr's zero lies between 127 and 128, and the receiver's own offset is larger than the half step.
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
            f"open_samples: {path} is no array that can be read: {error}. Save it again with numpy.save."
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iufc" or values.size == 0:
        raise RecordingError(f"open_samples: {path} holds no numbers, but an array of samples, (n,) or (..., n), was needed.")
    return values if values.dtype.kind in "fc" else values.astype(np.float64)


def _sigmf(path: Path) -> Samples:
    """Read the pair NAME.sigmf-meta and NAME.sigmf-data; of several captures, all samples."""
    if path.suffix.lower() == ".sigmf":
        raise RecordingError(f"open_samples: {path} is an archive. Unpack it with tar, and pass its .sigmf-meta.")
    meta, data = path.with_suffix(".sigmf-meta"), path.with_suffix(".sigmf-data")
    _checked_size(meta)
    try:
        told = json.loads(meta.read_text("utf-8-sig"))  # some tools begin with a byte-order mark
        head = told["global"]
        kind = str(head["core:datatype"])
        channels = int(head.get("core:num_channels", 1))
        rate = head.get("core:sample_rate")
        rate = None if rate is None else float(rate)
        skipped = int(told.get("captures", [{}])[0].get("core:header_bytes", 0)) if told.get("captures") else 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"open_samples: {meta} does not describe samples as SigMF does: {error!r}. Check the file."
        ) from error
    if skipped < 0 or (rate is not None and not 0 < rate < math.inf):
        raise RecordingError(
            f"open_samples: {meta} says {rate} samples a second and {skipped} header bytes, which cannot be. Correct the file."
        )
    number, _, order = kind[1:].partition("_")
    if kind[:1] != "c" or number not in _SIGMF or channels != 1 or order not in ("", "le", "be"):
        raise RecordingError(
            f"open_samples: {meta} says {kind}, {channels} channel(s), but complex samples of one channel were needed, such "
            f"as cf32_le."
        )
    code = _SIGMF[number]
    full = 1.0 if code[0] == "f" else 2.0 ** (8 * int(code[1]) - 1)
    values = _interleaved(data, (">" if order == "be" else "<") + code, full, skipped)
    notes = ("it has several captures, which were joined",) if len(told.get("captures") or []) > 1 else ()
    return Samples(values, rate, "SigMF", notes)


def _sound(path: Path) -> Samples:
    from unconv.recordings.sound import open_sound

    with open_sound(path) as sound:
        values = sound.read()
        rate, notes = float(sound.rate), sound.notes
    if len(values) == 1:
        return Samples(values[0], rate, "sound", notes)
    if len(values) == 2:
        return Samples(values[0] + 1j * values[1], rate, "sound", (*notes, "its two channels were taken for I and Q"))
    raise RecordingError(f"open_samples: {path} has {len(values)} channels, but 1, or 2 for I and Q, were needed. Choose them.")
