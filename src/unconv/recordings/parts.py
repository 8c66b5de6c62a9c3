"""One open sound file, read through libsndfile: its properties, and its samples from any position."""

from __future__ import annotations

import io
import stat
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unconv.errors import NonFinite, RecordingError, UnconvError, counted
from unconv.recordings.containers import Container, container

Values = np.ndarray[Any, Any]

# Bits of a sample. Lossy formats and floats are missing on purpose.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24}
BITS |= {"ALAC_32": 32, "ULAW": 16, "ALAW": 16}
_WIDE = {"PCM_32", "ALAC_32", "DOUBLE"}  # that do not fit into the 24 bits of float32
FLOATS = ("FLOAT", "DOUBLE")


def library() -> Any:
    """Return the module soundfile.

    Raises:
        UnconvError: soundfile is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in the modules that it imports
            return import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: libsndfile, which it loads, is missing
        raise UnconvError(
            f'open_sound: soundfile cannot be imported ({error}). Install it with pip install "unconv[speech]".'
        ) from error


class Part:
    """An open sound file.

    Attributes:
        path: the file.
        rate, channels, frames, subtype, format, metadata, notes: as in `Sound`, for this file.
        endian: byte order, as libsndfile names it.
        dtype: float32 if that is exact, else float64.
    """

    def __init__(self, path: Path) -> None:
        _refuse_no_file(path)
        soundfile = library()
        self.path, self._failed, self._at = path, soundfile.SoundFileError, 0
        self._all_samples: Values | None = None
        # libsndfile would read a file that is cut off without an error.
        headers = container(path)
        if headers.missing:
            raise RecordingError(
                f"open_sound: {path} is cut off: its header promises {counted(headers.missing, 'byte')} more than it has. Copy "
                "it again."
            )
        self._source = _Endless(path) if headers.endless else None
        try:
            self._file = soundfile.SoundFile(self._source or str(path))
        except _failures(soundfile) as error:
            raise RecordingError(
                f"open_sound: {path} cannot be read as sound: {words_of(error)}. Pass WAV, FLAC, AIFF, OGG or another kind "
                "that libsndfile reads."
            ) from error
        self.rate, self.channels, self.frames = self._file.samplerate, self._file.channels, int(self._file.frames)
        self.subtype, self.format, self.endian = self._file.subtype, self._file.format, self._file.endian
        self.metadata: dict[str, str] = self._file.copy_metadata()
        self.dtype = np.dtype(np.float64 if self.subtype in _WIDE else np.float32)
        self.notes = _notes(path, headers)
        if self.rate < 1 or not self.frames:
            self.close()
            trouble = "no samples" if self.rate else "a rate of 0 samples a second"
            raise RecordingError(f"open_sound: {path} has {trouble}, but sound was needed. Record or copy it again.")

    @property
    def bits(self) -> int:
        """Bits of a sample: 32 or 64 for floats, 0 for lossy formats."""
        return {"FLOAT": 32, "DOUBLE": 64}.get(self.subtype, BITS.get(self.subtype, 0))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._source is not None:
            self._source.close()

    def read(self, first: int, count: int) -> Values:
        """Return `count` samples from index `first` on, (channels, count).

        Raises:
            RecordingError: the file ends earlier than its header says, or can no longer be read.
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
        # Only formats of floats can hold NaN or infinity.
        if self.subtype in FLOATS and not np.isfinite(values).all():
            channel, sample = np.argwhere(~np.isfinite(values))[0]
            index = first + int(sample)
            raise NonFinite(
                f"open_sound: {self.path} holds {values[channel, sample]} at sample {index:,} ({index / self.rate:.3f} s) of "
                f"channel {channel}, but finite numbers were needed. Repair it there."
            )
        return np.ascontiguousarray(values)

    def _values(self, first: int, count: int) -> Values:
        if self.subtype.startswith("MPEG"):
            # soundfile seeks after every read, and in MP3 a seek misses the sample: all samples are read at once.
            if self._all_samples is None:
                self._all_samples = self._file.read(-1, self.dtype.name, always_2d=True).T
            return self._all_samples[:, first : first + count]
        # Seek only if necessary: it resets the state of the GSM decoder.
        if self._at != first:
            self._file.seek(first)
        values: Values = self._file.read(count, self.dtype.name, always_2d=True).T
        self._at = first + values.shape[1]
        return values


class _Endless(io.FileIO):
    """A stream whose header has no valid length, read with the length that libsndfile takes for unknown: 0xFFFFFFFF."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = super().read(2**16) or b""
        size = head.find(b"data") + 4
        self._patch = range(size, size + 4) if head[:4] in (b"RIFF", b"RIFX") and size > 4 else range(0)
        self.seek(0)

    def readinto(self, buffer: Any) -> int:
        begin, count = self.tell(), super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for position in self._patch:
            if begin <= position < begin + count:
                view[position - begin] = 0xFF
        return count


def words_of(error: BaseException) -> str:
    """Return libsndfile's message in one line."""
    message = " ".join(str(getattr(error, "error_string", None) or error).split()).rstrip(".")
    return message or "it is damaged"


def _failures(soundfile: Any) -> tuple[type[Exception], ...]:
    return (soundfile.SoundFileError, OSError, RuntimeError, TypeError, UnicodeError)


def _notes(path: Path, headers: Container) -> tuple[str, ...]:
    notes = []
    if headers.endless:
        notes.append(f"the header of {path.name} has no length, as in a stream: the file is read to its end")
    if not headers.last_page:
        notes.append(f"{path.name} lacks the last page of an Ogg stream: it may be cut off")
    if headers.others:
        notes.append(f"{path.name} has chunks that are not copied to a result: {', '.join(headers.others)}")
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
