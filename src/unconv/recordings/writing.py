"""Writing of sound files in the format of the input, or in that of the result's name, complete to the last sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unconv.errors import DtypeError, NonFinite, RecordingError, ShapeError, WriteError, counted
from unconv.files import said_in_words
from unconv.recordings.containers import speaker_mask
from unconv.recordings.parts import BITS, FLOATS, Part, Values, library, words_of

_PIECE = 2**16  # samples passed to libsndfile at a time: its Vorbis encoder overflows its stack on long blocks
_WAVES = dict.fromkeys((".wav", ".wave"), "WAV") | {".rf64": "RF64", ".w64": "W64"}
_KINDS = _WAVES | {".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".au": "AU", ".snd": "AU", ".caf": "CAF"}
_KINDS |= dict.fromkeys((".aiff", ".aif", ".aifc"), "AIFF")
_SAME_ENDING = {"WAVEX": "WAV", "RF64": "WAV"}  # formats that files ending in .wav may have
_MAX_SIZES = {"WAV": 2**32 - 2**16, "WAVEX": 2**32 - 2**16, "AIFF": 2**32 - 2**16, "AU": 2**32 - 2**16}
_LOSSY = ("VORBIS", "OPUS")  # ADPCM, GSM and MP3 are not written: they pad the last block with samples
# Substitutes for subtypes that a format does not support, the best one first.
_SUBSTITUTES = {"FLAC": ("PCM_24", "PCM_16"), "OGG": ("VORBIS",)}


@dataclass(frozen=True)
class Kind:
    """The file format of a result: `format`, `subtype` and `endian` in libsndfile's names, and notes on losses."""

    format: str
    subtype: str
    endian: str
    notes: tuple[str, ...] = ()


def kind_of(part: Part, out: Path, channels: int) -> Kind:
    """Return the file format of a result named `out`: that of `part`, unless the ending of the name asks for another.

    Raises:
        RecordingError: an unknown ending; a format that cannot be written, or cannot hold this number of samples.
    """
    soundfile, ending = library(), out.suffix.lower()
    by_ending = _KINDS.get(ending)
    # An ending changes the format only if the input's format does not go with it: .wav may be WAVEX or RF64.
    same = ending == part.path.suffix.lower() or by_ending in (part.format, _SAME_ENDING.get(part.format, part.format))
    if by_ending is None and not same:
        raise RecordingError(
            f"write: the ending of {out} is not that of a format that can be written. Use one of {', '.join(_KINDS)}."
        )
    form = part.format if same or by_ending is None else by_ending
    if form == "MP3":
        raise RecordingError(f"write: {out} would be MP3, which adds samples at both ends. Use the ending .wav, .flac or .ogg.")
    known = soundfile.available_subtypes(form)
    own = [part.subtype] if part.subtype in BITS or part.subtype in (*FLOATS, *_LOSSY) else []
    subtype = next((each for each in (*own, *_SUBSTITUTES.get(form, ())) if each in known), None)
    subtype = subtype or ("DOUBLE" if part.dtype == np.float64 and "DOUBLE" in known else soundfile.default_subtype(form))
    endian = part.endian if form == part.format else "FILE"
    size = part.frames * channels * max(1, BITS.get(subtype, 8 if subtype == "DOUBLE" else 4) // 8)
    if size > _MAX_SIZES.get(form, size):
        raise RecordingError(
            f"write: {out} would take {size:,} bytes, more than {form} can hold. Use the ending .rf64 or .w64."
        )
    return Kind(form, subtype, endian, _losses(part, out, subtype))


def _losses(part: Part, out: Path, subtype: str) -> tuple[str, ...]:
    if subtype in _LOSSY:
        return (f"{out.name} is written as {subtype}, which is lossy",)
    if subtype in FLOATS or subtype == part.subtype:
        return ()
    if part.subtype in FLOATS or BITS.get(part.subtype, 0) > BITS.get(subtype, 64):
        return (f"{out.name} is written as {subtype}, which keeps {BITS[subtype]} bits of each sample of {part.subtype}",)
    if part.subtype not in BITS:
        return (f"{out.name} is written as {subtype}: {part.subtype} would add samples, or needs another file format",)
    return ()


class Target:
    """A sound file that is being written.

    Attributes:
        clipped: number of samples beyond the file's range, which were set to its largest or smallest value. They never wrap.
        written: number of samples written to each channel so far.
        notes: losses, such as texts that the format does not support.
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
                    f"write: {kind.format} with {kind.subtype} cannot hold {counted(channels, 'channel')} of {part.rate} "
                    f"samples a second ({words_of(error)}). Use the ending .wav for {out}."
                ) from error
        unsupported = [name for name, text in part.metadata.items() if not self._set_text(name, text)]
        if unsupported:
            self.notes += (f"{out.name}: {kind.format} cannot store the {', '.join(unsupported)}",)

    def _set_text(self, name: str, text: str) -> bool:
        """Write a text such as the title, and return whether the format supports it."""
        try:
            setattr(self._file, name, text)
        except (*self._failed, AttributeError):
            return False
        return True

    def put(self, values: Values) -> None:
        """Append (channels, n) samples."""
        for first in range(0, values.shape[1], _PIECE):
            piece, clipped = to_subtype(values[:, first : first + _PIECE], self._kind.subtype)
            try:
                self._file.write(np.ascontiguousarray(piece.T))
            except self._failed as error:
                raise self._refused(error) from error
            self.clipped += clipped
        self.written += values.shape[1]

    def finish(self) -> None:
        """Close the file, and check that its header counts all samples."""
        try:
            self._file.close()
            with library().SoundFile(str(self._partial)) as result:
                frames = int(result.frames)
        except self._failed as error:
            raise self._refused(error) from error
        self._copy_mask()
        if frames != self.written:
            raise WriteError(
                f"write: {self._out} holds {frames:,} samples, but {self.written:,} were written. Make room, or use .wav."
            )

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _copy_mask(self) -> None:
        """Copy the speaker mask of the input, the assignment of channels to loudspeakers: libsndfile writes none."""
        if self._kind.format != "WAVEX" or self._channels != self._part.channels:
            return
        source, target = speaker_mask(self._part.path), speaker_mask(self._partial)
        if source is not None and target is not None:
            with said_in_words(self._out), self._partial.open("r+b") as file:
                file.seek(target[0])
                file.write(source[1])

    def _refused(self, error: BaseException) -> WriteError:
        return WriteError(f"write: cannot write {self._out}: {words_of(error)}. Make room, or choose another folder.")


def to_subtype(values: Values, subtype: str) -> tuple[Values, int]:
    """Return samples in the type that libsndfile writes for a subtype, and how many were clipped.

    PCM is rounded to the nearest step, with ties to even, without dither.
    """
    # Rounded here because libsndfile truncates floats, which makes the result half a step lower on average.
    bits = BITS.get(subtype)
    if bits is None:
        floating = np.dtype(np.float64 if subtype == "DOUBLE" else np.float32)
        with np.errstate(over="ignore"):
            floats: Values = np.asarray(values, floating)
        if not np.isfinite(floats).all():
            raise NonFinite(f"put: samples are beyond the range of {floating.name}, which {subtype} uses. Scale them.")
        # Lossy encoders would clip beyond 1 themselves, without a count.
        return (floats, 0) if subtype in FLOATS else (np.clip(floats, -1, 1), int((np.abs(floats) > 1).sum()))
    steps = 2.0 ** (bits - 1)
    rounded = np.rint(np.asarray(values, np.float64) * steps)
    clipped = int(((rounded > steps - 1) | (rounded < -steps)).sum())
    integers = np.clip(rounded, -steps, steps - 1).astype(np.int64)
    # libsndfile uses the upper bits of an integer.
    width = 16 if bits <= 16 else 32
    return (integers << (width - bits)).astype(np.int16 if width == 16 else np.int32), clipped


class Writer:
    """Writes the samples of new sound files block by block; opened by `Sound.rewritten`."""

    def __init__(self, targets: Sequence[tuple[Target, slice]], frames: int, channels: int) -> None:
        self._targets, self._frames, self._channels = targets, frames, channels

    @property
    def clipped(self) -> int:
        """Number of samples that were clipped to the range of their file."""
        return sum(target.clipped for target, _ in self._targets)

    @property
    def notes(self) -> tuple[str, ...]:
        """Losses in words: by a lossy format, by fewer bits, by clipping."""
        notes = [note for target, _ in self._targets for note in target.notes]
        if self.clipped:
            notes.append(
                f"clipped {counted(self.clipped, 'sample')} beyond full scale: scale the result, or write to a format of floats"
            )
        return tuple(dict.fromkeys(notes))

    def put(self, values: Values) -> None:
        """Append the next samples of all channels.

        Args:
            values: (channels, n), full scale ±1; or (n,) for one channel.

        Raises:
            ShapeError: another number of channels, or more samples than the input has.
            DtypeError: samples that are not floats.
            NonFinite: NaN or infinite samples, or samples beyond the range of the file's floats.
            WriteError: the disk is full, or another error of the system.
        """
        values = np.atleast_2d(np.asarray(values))
        if values.dtype.kind != "f":
            raise DtypeError(f"put: samples are {values.dtype}, but floats with full scale ±1 were needed. Convert them.")
        done = self._targets[0][0].written
        if values.ndim != 2 or len(values) != self._channels or values.shape[1] > self._frames - done:
            raise ShapeError(
                f"put: samples are {values.shape} after {done:,}, but ({self._channels}, n) within {self._frames:,} was "
                "needed. Put the blocks' own shapes."
            )
        if not np.isfinite(values).all():
            index = done + int(np.argwhere(~np.isfinite(values))[0][1])
            raise NonFinite(f"put: sample {index:,} is NaN or infinite, but a finite number was needed. Replace it.")
        for target, some in self._targets:
            target.put(values[some])

    def finish(self) -> None:
        """Close the files, and check that they have as many samples as the input."""
        done = self._targets[0][0].written
        if done != self._frames:
            raise WriteError(f"write: {counted(done, 'sample')} came, but {self._frames:,} were needed. Put every block.")
        for target, _ in self._targets:
            target.finish()
