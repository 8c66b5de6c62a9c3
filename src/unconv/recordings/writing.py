"""Sound written as the file it came from is: the same kind, or that of the result's name; whole, and to the last sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unconv.errors import DtypeError, NonFinite, RecordingError, ShapeError, WriteError
from unconv.files import said_in_words
from unconv.recordings.containers import speaker_mask
from unconv.recordings.parts import BITS, FLOATS, Part, Values, library, words_of

_PIECE = 2**16  # samples handed over at a time: libsndfile's Vorbis encoder overflows its stack on long ones
_WAVES = dict.fromkeys((".wav", ".wave"), "WAV") | {".rf64": "RF64", ".w64": "W64"}
_KINDS = _WAVES | {".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".au": "AU", ".snd": "AU", ".caf": "CAF"}
_KINDS |= dict.fromkeys((".aiff", ".aif", ".aifc"), "AIFF")
_ALIKE = {"WAVEX": "WAV", "RF64": "WAV"}  # kinds that a name ending in .wav may stand for
_LARGEST = {"WAV": 2**32 - 2**16, "WAVEX": 2**32 - 2**16, "AIFF": 2**32 - 2**16, "AU": 2**32 - 2**16}
_LOSSY = ("VORBIS", "OPUS")  # ADPCM, GSM and MP3 fill up their last block: they are not written
# What a kind takes instead of samples that it has no place for, the best one first.
_INSTEAD = {"FLAC": ("PCM_24", "PCM_16"), "OGG": ("VORBIS",)}


@dataclass(frozen=True)
class Kind:
    """How a result is stored: `format`, `subtype` and `endian` as libsndfile has them, and what is lost by that."""

    format: str
    subtype: str
    endian: str
    notes: tuple[str, ...] = ()


def kind_of(part: Part, out: Path, channels: int) -> Kind:
    """Return how a result named `out` is stored: as `part` is, unless the name ends as another kind does.

    Raises:
        RecordingError: a name of an unknown kind; a kind that cannot be written, takes fewer channels or another rate, or
            ends before so many samples.
    """
    soundfile, ending = library(), out.suffix.lower()
    wanted = _KINDS.get(ending)
    same = ending == part.path.suffix.lower() or wanted in (part.format, _ALIKE.get(part.format, part.format))
    if wanted is None and not same:
        raise RecordingError(f"write: {out} ends as no kind that is written does. End it with {', '.join(_KINDS)}.")
    form = part.format if same or wanted is None else wanted
    if form == "MP3":
        raise RecordingError(f"write: {out} would be MP3, which adds samples at both ends. End it with .wav, .flac or .ogg.")
    known = soundfile.available_subtypes(form)
    own = [part.subtype] if part.subtype in BITS or part.subtype in (*FLOATS, *_LOSSY) else []
    subtype = next((each for each in (*own, *_INSTEAD.get(form, ())) if each in known), None)
    subtype = subtype or ("DOUBLE" if part.dtype == np.float64 and "DOUBLE" in known else soundfile.default_subtype(form))
    endian = part.endian if form == part.format else "FILE"
    size = part.frames * channels * max(1, BITS.get(subtype, 8 if subtype == "DOUBLE" else 4) // 8)
    if size > _LARGEST.get(form, size):
        raise RecordingError(
            f"write: {out} would take {size:,} bytes, more than {form} has room for. End it with .rf64 or .w64."
        )
    return Kind(form, subtype, endian, _losses(part, out, subtype))


def _losses(part: Part, out: Path, subtype: str) -> tuple[str, ...]:
    if subtype in _LOSSY:
        return (f"{out.name} is written as {subtype}, which is lossy",)
    if subtype in FLOATS or subtype == part.subtype:
        return ()
    if part.subtype in FLOATS or BITS.get(part.subtype, 0) > BITS.get(subtype, 64):
        return (f"{out.name} is written as {subtype}: {BITS[subtype]} bits of each sample of {part.subtype} stay",)
    if part.subtype not in BITS:
        return (f"{out.name} is written as {subtype}: {part.subtype} would add samples, or needs another kind of file",)
    return ()


class Target:
    """A file that is being written.

    Attributes:
        clipped: samples beyond what the file holds, which were set to its largest or smallest value. They never wrap.
        written: samples of each channel so far.
        notes: texts that the kind of file has no place for.
    """

    def __init__(self, part: Part, kind: Kind, channels: int, out: Path, partial: Path) -> None:
        soundfile = library()
        self._part, self._kind, self._out, self._partial, self._channels = part, kind, out, partial, channels
        self.clipped, self.written, self.notes = 0, 0, kind.notes
        self._failed = (soundfile.SoundFileError, AssertionError, RuntimeError)
        with said_in_words(out):
            try:
                self._file = soundfile.SoundFile(str(partial), "w", part.rate, channels, kind.subtype, kind.endian, kind.format)
            except (*self._failed, ValueError, TypeError) as error:
                raise RecordingError(
                    f"write: {kind.format} of {kind.subtype} takes no {channels} channels of {part.rate} samples a second "
                    f"({words_of(error)}). End {out} with .wav."
                ) from error
        lost = [name for name, text in part.metadata.items() if not self._told(name, text)]
        if lost:
            self.notes += (f"{out.name}: {kind.format} has no place for {', '.join(lost)}",)

    def _told(self, name: str, text: str) -> bool:
        try:
            setattr(self._file, name, text)
        except (*self._failed, AttributeError):
            return False
        return True

    def put(self, values: Values) -> None:
        """Append (channels, n) samples."""
        for first in range(0, values.shape[1], _PIECE):
            piece, clipped = stored(values[:, first : first + _PIECE], self._kind.subtype)
            try:
                self._file.write(np.ascontiguousarray(piece.T))
            except self._failed as error:
                raise self._refused(error) from error
            self.clipped += clipped
        self.written += values.shape[1]

    def finish(self) -> None:
        """Close the file, and read in its header that all samples are in it."""
        try:
            self._file.close()
            with library().SoundFile(str(self._partial)) as made:
                held = int(made.frames)
        except self._failed as error:
            raise self._refused(error) from error
        self._copy_mask()
        if held != self.written:
            raise WriteError(
                f"write: {self._out} holds {held:,} samples after {self.written:,} were written. Make room, or write .wav."
            )

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _copy_mask(self) -> None:
        """Say which loudspeakers channels are for as the file that was read does: libsndfile writes none."""
        if self._kind.format != "WAVEX" or self._channels != self._part.channels:
            return
        read, made = speaker_mask(self._part.path), speaker_mask(self._partial)
        if read is not None and made is not None:
            with said_in_words(self._out), self._partial.open("r+b") as file:
                file.seek(made[0])
                file.write(read[1])

    def _refused(self, error: BaseException) -> WriteError:
        return WriteError(f"write: cannot write {self._out}: {words_of(error)}. Make room, or choose another folder.")


def stored(values: Values, subtype: str) -> tuple[Values, int]:
    """Return samples as libsndfile is given them, and how many were clipped.

    PCM is rounded to the nearest step here, half steps to even ones, without dither: libsndfile's own conversion from floats
    drops the rest, which is half a step lower on the average.
    """
    bits = BITS.get(subtype)
    if bits is None:
        floating = np.dtype(np.float64 if subtype == "DOUBLE" else np.float32)
        with np.errstate(over="ignore"):
            floats: Values = np.asarray(values, floating)
        if not np.isfinite(floats).all():
            raise NonFinite(f"put: samples are beyond what {floating.name}, as {subtype} holds it, has room for. Scale them.")
        # Compressed kinds clip for themselves what is beyond 1.
        return (floats, 0) if subtype in FLOATS else (np.clip(floats, -1, 1), int((np.abs(floats) > 1).sum()))
    steps = 2.0 ** (bits - 1)
    rounded = np.rint(np.asarray(values, np.float64) * steps)
    clipped = int(((rounded > steps - 1) | (rounded < -steps)).sum())
    whole = np.clip(rounded, -steps, steps - 1).astype(np.int64)
    # libsndfile takes a file's bits from the top of an integer's.
    held = 16 if bits <= 16 else 32
    return (whole << (held - bits)).astype(np.int16 if held == 16 else np.int32), clipped


class Writer:
    """Takes the samples of sound files that are being written, one block after another."""

    def __init__(self, targets: Sequence[tuple[Target, slice]], frames: int, channels: int) -> None:
        self._targets, self._frames, self._channels = targets, frames, channels

    @property
    def clipped(self) -> int:
        """Samples that were beyond the largest or smallest value of their file, and set to it."""
        return sum(target.clipped for target, _ in self._targets)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was lost: to a lossy kind, to one with fewer bits, to clipping."""
        said = [note for target, _ in self._targets for note in target.notes]
        if self.clipped:
            said.append(
                f"{self.clipped:,} samples were beyond full scale, and clipped: scale the result, or name a file of floats"
            )
        return tuple(dict.fromkeys(said))

    def put(self, values: Values) -> None:
        """Append the next samples of all channels.

        Args:
            values: (channels, n), full scale ±1; (n,) of one channel.

        Raises:
            ShapeError: other channels, or more samples than the file had. DtypeError: no real numbers.
            NonFinite: NaN or infinite samples. WriteError: the disk is full, or another error of the system.
        """
        values = np.atleast_2d(np.asarray(values))
        if values.dtype.kind != "f":
            raise DtypeError(f"put: samples are {values.dtype}, but floats with full scale ±1 were needed. Convert them.")
        done = self._targets[0][0].written
        if values.ndim != 2 or len(values) != self._channels or values.shape[1] > self._frames - done:
            raise ShapeError(
                f"put: samples are {values.shape} after {done:,}, but ({self._channels}, n) within {self._frames:,} were "
                "needed. Put as many as `blocks` gave."
            )
        if not np.isfinite(values).all():
            at = done + int(np.argwhere(~np.isfinite(values))[0][1])
            raise NonFinite(f"put: sample {at:,} is NaN or infinite, but sound files hold numbers. Replace it.")
        for target, some in self._targets:
            target.put(values[some])

    def finish(self) -> None:
        """Close the files, which must hold as many samples as those that they were made from."""
        done = self._targets[0][0].written
        if done != self._frames:
            raise WriteError(f"write: {done:,} samples were put, but {self._frames:,} were needed. Put every block.")
        for target, _ in self._targets:
            target.finish()
