"""One open sound file, through libsndfile: what it holds, and its samples from any place on."""

from __future__ import annotations

import io
import stat
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import NonFinite, RecordingError, UnconvError
from unconv.recordings.containers import Container, container

Values = np.ndarray[Any, Any]

# Bits of a sample. What is lossy has none; floats have none either.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24}
BITS |= {"ALAC_32": 32, "ULAW": 16, "ALAW": 16}
_WIDE = {"PCM_32", "ALAC_32", "DOUBLE"}  # what float32, with its 24 bits, does not hold
FLOATS = ("FLOAT", "DOUBLE")


def library() -> Any:
    """Return soundfile.

    Raises:
        UnconvError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports that is to go some day
            return import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: without the libsndfile that it loads
        raise UnconvError(
            f'open_sound: soundfile cannot be imported ({error}). Install it with pip install "unconv[speech]".'
        ) from error


class Part:
    """An open sound file.

    Attributes:
        path, rate, channels, frames, subtype, format, endian, metadata, notes: as those of `Sound`.
        dtype: float32 where that is exact, else float64.
    """

    def __init__(self, path: Path) -> None:
        _refuse_no_file(path)
        soundfile = library()
        self.path, self._failed, self._at = path, soundfile.SoundFileError, 0
        self._whole: Values | None = None
        held = container(path)
        if held.missing:
            raise RecordingError(
                f"open_sound: {path} is cut off: its header promises {held.missing:,} bytes more than it has. Copy it again."
            )
        self._source = _Endless(path) if held.endless else None
        try:
            self._file = soundfile.SoundFile(self._source or str(path))
        except _failures(soundfile) as error:
            raise RecordingError(
                f"open_sound: {path} cannot be read as sound: {words_of(error)}. Pass WAV, FLAC, AIFF, OGG or what else "
                "libsndfile reads."
            ) from error
        self.rate, self.channels, self.frames = self._file.samplerate, self._file.channels, int(self._file.frames)
        self.subtype, self.format, self.endian = self._file.subtype, self._file.format, self._file.endian
        self.metadata: dict[str, str] = self._file.copy_metadata()
        self.dtype = np.dtype(np.float64 if self.subtype in _WIDE else np.float32)
        self.notes = _notes(path, held)
        if self.rate < 1 or not self.frames:
            self.close()
            what = "no samples" if self.rate else "a rate of 0 samples a second"
            raise RecordingError(f"open_sound: {path} has {what}, but sound was needed. Record or copy it again.")

    @property
    def bits(self) -> int:
        """How many bits a sample has; of floats 32 or 64, of what is lossy 0."""
        return {"FLOAT": 32, "DOUBLE": 64}.get(self.subtype, BITS.get(self.subtype, 0))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._source is not None:
            self._source.close()

    def read(self, first: int, count: int) -> Values:
        """Return `count` samples from `first` on: (channels, count).

        Raises:
            RecordingError: the file ends before its header says, or cannot be read any more.
            NonFinite: NaN or infinite samples.
        """
        try:
            values = self._values(first, count)
        except (self._failed, OSError, RuntimeError) as error:
            raise RecordingError(
                f"open_sound: {self.path} is damaged after sample {first:,}: {words_of(error)}. Copy it again."
            ) from error
        if values.shape[1] != count:
            raise RecordingError(
                f"open_sound: {self.path} ends at sample {first + values.shape[1]:,} of the {self.frames:,} that its header "
                "promises. Copy it again."
            )
        if self.subtype in FLOATS and not np.isfinite(values).all():
            channel, sample = np.argwhere(~np.isfinite(values))[0]
            at = first + int(sample)
            raise NonFinite(
                f"open_sound: {self.path} holds {values[channel, sample]} at sample {at:,} ({at / self.rate:.3f} s) of channel "
                f"{channel}, but numbers were needed. Repair it there."
            )
        return np.ascontiguousarray(values)

    def _values(self, first: int, count: int) -> Values:
        if self.subtype.startswith("MPEG"):
            # soundfile seeks after every read, and in MP3 that does not find the sample: all is read at once.
            if self._whole is None:
                self._whole = self._file.read(-1, self.dtype.name, always_2d=True).T
            return self._whole[:, first : first + count]
        # No seeking for nothing: GSM loses its decoder's state.
        if self._at != first:
            self._file.seek(first)
        values: Values = self._file.read(count, self.dtype.name, always_2d=True).T
        self._at = first + values.shape[1]
        return values


class _Endless(io.FileIO):
    """A file whose size nobody has set, read as if its header said so in the way that libsndfile knows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = super().read(2**16) or b""
        at = head.find(b"data") + 4
        self._patch = range(at, at + 4) if head[:4] in (b"RIFF", b"RIFX") and at > 4 else range(0)
        self.seek(0)

    def readinto(self, buffer: Any) -> int:
        at, count = self.tell(), super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place in self._patch:
            if at <= place < at + count:
                view[place - at] = 0xFF
        return count


def words_of(error: BaseException) -> str:
    """Return what libsndfile said, in one line."""
    said = " ".join(str(getattr(error, "error_string", None) or error).split()).rstrip(".")
    return said or "it is damaged"


def _failures(soundfile: Any) -> tuple[type[Exception], ...]:
    return (soundfile.SoundFileError, OSError, RuntimeError, TypeError, UnicodeError)


def _notes(path: Path, held: Container) -> tuple[str, ...]:
    notes = []
    if held.endless:
        notes.append(f"the header of {path.name} says no length, as that of a stream: it is read to its end")
    if not held.last_page:
        notes.append(f"{path.name} ends without the page that ends an Ogg stream: it may be cut off")
    if held.others:
        notes.append(f"{path.name} has chunks that are not carried into a result: {', '.join(held.others)}")
    return tuple(notes)


def _refuse_no_file(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise RecordingError(f"open_sound: {path} is {kind}, but a sound file was needed. Pass one.")
        with path.open("rb"):
            pass
    except RecordingError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RecordingError(f"open_sound: cannot read {path}: {why}. Check the path.") from error
    if not status.st_size:
        raise RecordingError(f"open_sound: {path} is empty, but a sound file was needed. Record or copy it again.")
