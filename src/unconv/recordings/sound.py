"""Sound files, opened one by one or as the microphones of an array, read in blocks, and written back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from unconv.errors import RecordingError, ShapeError, WriteError
from unconv.files import said_in_words, uninterrupted, whole_file
from unconv.kinds import checks_kinds
from unconv.recordings.parts import Part, Values
from unconv.recordings.writing import Target, Writer, kind_of

_WHOLE = 2**31  # bytes that are read at once, at most
BLOCK = 2**18  # samples of a block


class Sound:
    """Open sound files whose channels stand side by side: one file, or one for each microphone of an array.

    Closed by `close`, or where the `with` that it stands in ends.

    Attributes:
        paths: the files.
        rate: samples a second.
        channels: of all files together.
        frames: samples of each channel.
        subtype, format: "PCM_16" and "WAV", for example, of the first file, as libsndfile names them.
        metadata: texts of the first file: title, artist, comment and what else libsndfile reads.
        dtype: of what `blocks` gives: float32 where that is exact, so up to 24 bits; float64 of PCM_32 and DOUBLE.
        notes: what a reader should know, such as that a header says no length.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts, first = tuple(parts), parts[0]
        self.paths = tuple(part.path for part in parts)
        self.rate, self.frames, self.subtype, self.format = first.rate, first.frames, first.subtype, first.format
        self.metadata = dict(first.metadata)
        self.channels = sum(part.channels for part in parts)
        self.dtype = np.dtype(np.float64) if any(part.dtype == np.float64 for part in parts) else np.dtype(np.float32)
        self.notes = tuple(note for part in parts for note in part.notes)

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for part in self._parts:
            part.close()

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.frames / self.rate)

    def read(self, first: int = 0, count: int | None = None) -> Values:
        """Return `count` samples from `first` on, or all that follow: (channels, count), full scale ±1.

        Raises:
            ShapeError: they reach beyond the end. RecordingError: a file is damaged, or they would take more than 2 GiB.
            NonFinite: NaN or infinite samples; it is said where.
        """
        count = self.frames - first if count is None else count
        if not (0 <= first <= self.frames and 0 <= count <= self.frames - first):
            raise ShapeError(
                f"read: samples {first} to {first + count} came, but some of 0 to {self.frames} were needed. Ask for fewer."
            )
        if count * self.channels * self.dtype.itemsize > _WHOLE:
            raise RecordingError(
                f"read: {count:,} samples of {self.channels} channels take more than 2 GiB. Take them in `blocks`."
            )
        return np.concatenate([part.read(first, count).astype(self.dtype, copy=False) for part in self._parts])

    def blocks(self, samples: int = BLOCK, overlap: int = 0) -> Iterator[Values]:
        """Give all samples in order: (channels, n) with n = samples, fewer in the last one.

        Args:
            overlap: samples that each block shares with the one before.

        Raises:
            ShapeError: a block of less than one new sample. Else as `read`.
        """
        if not 0 <= overlap < samples:
            raise ShapeError(
                f"blocks: samples is {samples} and overlap {overlap}, but at least one new sample a block was needed. "
                "Make the overlap smaller than the block."
            )
        held, done = np.empty((self.channels, 0), self.dtype), 0
        while done < self.frames:
            # What two blocks share is kept, not read again.
            fresh = self.read(done, min(samples - held.shape[1], self.frames - done))
            block = np.concatenate([held, fresh], 1)
            done += fresh.shape[1]
            held = block[:, block.shape[1] - overlap :].copy()
            yield block

    @contextmanager
    def rewritten(self, out: str | Path | Sequence[str | Path], channels: int | None = None) -> Iterator[Writer]:
        """Write files like these with other samples, whole as the block ends or not at all.

        Kind, rate, number of samples and texts stay; a name that ends as another kind does (.wav, .flac, .ogg, .aiff, .au,
        .caf, .w64, .rf64) is written as that. PCM is rounded without dither, and what is beyond full scale is clipped and
        counted, see `Writer.notes`. Other chunks of a file, such as cue marks, are not carried over. libsndfile puts its own
        name behind that of the software.

        Args:
            out: one file for all channels, of the kind of the opened file with the most bits, or one for each.
            channels: of the one file, where the result has fewer or more.

        Raises:
            ShapeError: another number of names. RecordingError: a kind that has no place for these samples.
            WriteError: `out` is a file that is read, or cannot be written; other than all samples were put.
        """
        outs = [Path(out)] if isinstance(out, str | Path) else [Path(each) for each in out]
        if len(outs) not in (1, len(self._parts)) or (channels is not None and len(outs) > 1):
            raise ShapeError(
                f"rewritten: {len(outs)} names came, but one, or one for each of {len(self._parts)} files was needed. "
                "A result with channels of its own goes to one file."
            )
        for each in outs:
            _refuse_itself(self.paths, each)
        counts = [part.channels for part in self._parts] if len(outs) > 1 else [channels or self.channels]
        # One file for all has room for the bits of each.
        models = self._parts if len(outs) > 1 else [max(self._parts, key=lambda part: part.bits)]
        plans = list(zip(models, outs, counts, strict=True))
        with ExitStack() as files:
            # Every file is finished before the first one comes into its place.
            partials = [files.enter_context(whole_file(path)) for path in outs]
            targets, at = list[tuple[Target, slice]](), 0
            try:
                for (part, path, count), partial in zip(plans, partials, strict=True):
                    target = Target(part, kind_of(part, path, count), count, path, partial)
                    targets.append((target, slice(at, at + count)))
                    at += count
                writer = Writer(targets, self.frames, at)
                yield writer
                writer.finish()
            finally:
                for target, _ in targets:
                    target.close()
            with uninterrupted():
                files.close()


@checks_kinds
def open_sound(path: str | Path) -> Sound:
    """Open a sound file: WAV, FLAC, AIFF, OGG, W64, RF64, AU, CAF, MP3 or what else libsndfile reads; needs the extra `speech`.

    Raises:
        RecordingError: no such file, empty, no sound, or cut off: its header promises more samples than it has. A header
            without a length, as that of a stream, is noted instead.
        UnconvError: soundfile is missing.

    Example:
        >>> with open_sound("talk.wav") as sound, sound.rewritten("quiet.wav") as writer:  # doctest: +SKIP
        ...     for block in sound.blocks():
        ...         writer.put(block / 2)
    """
    return Sound([Part(Path(path))])


@checks_kinds
def open_sounds(paths: Sequence[str | Path]) -> Sound:
    """Open the files of an array, one or more channels in each, as one sound whose channels stand in the order of the files.

    Raises:
        RecordingError: rates or lengths differ, and it is said which; else as `open_sound`.
        ShapeError: no file.
    """
    if not len(paths):
        raise ShapeError("open_sounds: no file came, but at least one was needed. Pass paths.")
    with ExitStack() as stack:
        parts = list[Part]()
        for path in paths:
            parts.append(Part(Path(path)))
            stack.callback(parts[-1].close)
        for what, unit in (("rate", "samples a second"), ("frames", "samples")):
            first = getattr(parts[0], what)
            for part in parts[1:]:
                if getattr(part, what) != first:
                    raise RecordingError(
                        f"open_sounds: {parts[0].path} has {first:,} {unit} and {part.path} {getattr(part, what):,}, but the "
                        f"files of an array have to agree. {'Resample' if what == 'rate' else 'Cut'} one."
                    )
        stack.pop_all()
    return Sound(parts)


def _refuse_itself(paths: Sequence[Path], out: Path) -> None:
    """Refuse to write over a file that is read, also by another name or a link."""
    with said_in_words(out):
        for path in paths:
            if os.path.realpath(path) == os.path.realpath(out) or (out.exists() and os.path.samefile(path, out)):
                raise WriteError(f"write: {out} is a file that is read, which stays as it is. Choose another name.")
