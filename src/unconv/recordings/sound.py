"""Sound files, opened singly or as the microphones of an array, read in blocks, and written with new samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from unconv.errors import RecordingError, ShapeError, WriteError, counted
from unconv.files import said_in_words, uninterrupted, whole_file
from unconv.kinds import checks_kinds
from unconv.recordings.parts import Part, Values
from unconv.recordings.writing import Target, Writer, kind_of

_MAX_BYTES = 2**31  # that `read` returns at once
BLOCK = 2**18  # samples of a block


class Sound:
    """One open sound file, or several whose channels are joined: one for each microphone of an array.

    Closed by `close` or at the end of a `with` block.

    Attributes:
        paths: the files.
        rate: samples a second.
        channels: number of channels of all files together.
        frames: number of samples in each channel.
        subtype, format: of the first file, in libsndfile's names, such as "PCM_16" and "WAV".
        metadata: texts of the first file, such as title, artist and comment.
        dtype: of the samples from `blocks`: float32 for up to 24 bits, float64 for PCM_32 and DOUBLE.
        notes: remarks on the files, such as a header without a length.
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
        """The duration in seconds."""
        return float(self.frames / self.rate)

    def read(self, first: int = 0, count: int | None = None) -> Values:
        """Return `count` samples from index `first` on, or all from there: (channels, count), full scale ±1.

        Raises:
            ShapeError: a range beyond the end of the recording.
            RecordingError: a damaged file, or a result of more than 2 GiB.
            NonFinite: NaN or infinite samples; the message says where.
        """
        count = self.frames - first if count is None else count
        if not (0 <= first <= self.frames and 0 <= count <= self.frames - first):
            raise ShapeError(
                f"read: first is {first} and count is {count}, but a range within 0 to {self.frames} was needed. Pass fewer."
            )
        if count * self.channels * self.dtype.itemsize > _MAX_BYTES:
            raise RecordingError(
                f"read: {counted(count, 'sample')} of {counted(self.channels, 'channel')} take more than 2 GiB. Use `blocks`."
            )
        return np.concatenate([part.read(first, count).astype(self.dtype, copy=False) for part in self._parts])

    def blocks(self, samples: int = BLOCK, overlap: int = 0) -> Iterator[Values]:
        """Yield all samples in order, in blocks (channels, n) with n = samples; the last block may be shorter.

        Args:
            samples: number of samples in a block.
            overlap: number of samples that each block shares with the previous one.

        Raises:
            ShapeError: an overlap that is not shorter than the block. Otherwise as `read`.
        """
        if not 0 <= overlap < samples:
            raise ShapeError(
                f"blocks: samples is {samples} and overlap is {overlap}, but at least one new sample in each block was needed. "
                "Pass an overlap shorter than the block."
            )
        tail, done = np.empty((self.channels, 0), self.dtype), 0
        while done < self.frames:
            # The overlap is kept, not read again: compressed formats cannot always seek back exactly.
            fresh = self.read(done, min(samples - tail.shape[1], self.frames - done))
            block = np.concatenate([tail, fresh], 1)
            done += fresh.shape[1]
            tail = block[:, block.shape[1] - overlap :].copy()
            yield block

    @contextmanager
    def rewritten(self, out: str | Path | Sequence[str | Path], channels: int | None = None) -> Iterator[Writer]:
        """Write copies of these files with new samples. They appear, complete, at the end of the `with` block, or not at all.

        Format, rate, number of samples and texts are kept, unless the ending of a name (.wav, .flac, .ogg, .aiff, .au, .caf,
        .w64, .rf64) asks for another format. PCM is rounded without dither. Samples beyond full scale are clipped and counted,
        see `Writer.notes`. Other chunks of a file, such as cue marks, are not copied. libsndfile appends its own name to that
        of the software.

        Args:
            out: one file for all channels, in the format of the opened file with the most bits; or one for each opened file.
            channels: number of channels of a single output file, if it differs from the input's.

        Raises:
            ShapeError: another number of names.
            RecordingError: a format that cannot hold these samples.
            WriteError: `out` is an input file or cannot be written, or not all samples were put.
        """
        outs = [Path(out)] if isinstance(out, str | Path) else [Path(each) for each in out]
        if len(outs) not in (1, len(self._parts)) or (channels is not None and len(outs) > 1):
            raise ShapeError(
                f"rewritten: {counted(len(outs), 'name')} came, but one, or one for each of {len(self._parts)} opened files, "
                "was needed. With `channels`, pass a single name."
            )
        for each in outs:
            _refuse_itself(self.paths, each)
        counts = [part.channels for part in self._parts] if len(outs) > 1 else [channels or self.channels]
        # A single file for all channels must hold the bits of each.
        models = self._parts if len(outs) > 1 else [max(self._parts, key=lambda part: part.bits)]
        plans = list(zip(models, outs, counts, strict=True))
        with ExitStack() as files:
            # Every file is finished before the first one appears under its name.
            partials = [files.enter_context(whole_file(path)) for path in outs]
            targets, channel = list[tuple[Target, slice]](), 0
            try:
                for (part, path, count), partial in zip(plans, partials, strict=True):
                    target = Target(part, kind_of(part, path, count), count, path, partial)
                    targets.append((target, slice(channel, channel + count)))
                    channel += count
                writer = Writer(targets, self.frames, channel)
                yield writer
                writer.finish()
            finally:
                for target, _ in targets:
                    target.close()
            with uninterrupted():
                files.close()


@checks_kinds
def open_sound(path: str | Path) -> Sound:
    """Open a sound file: WAV, FLAC, AIFF, OGG, W64, RF64, AU, CAF, MP3 or another kind that libsndfile reads.

    Needs the extra `speech`. A header without a length, as in a stream, is not an error but gets a note.

    Raises:
        RecordingError: a file that is missing, empty or not sound, or cut off: its header promises more samples than it has.
        UnconvError: soundfile is not installed.

    Example:
        >>> with open_sound("talk.wav") as sound, sound.rewritten("quiet.wav") as writer:  # doctest: +SKIP
        ...     for block in sound.blocks():
        ...         writer.put(block / 2)
    """
    return Sound([Part(Path(path))])


@checks_kinds
def open_sounds(paths: Sequence[str | Path]) -> Sound:
    """Open the files of a microphone array, with one or more channels each, as one sound with all channels in order.

    Raises:
        RecordingError: rates or lengths that differ; otherwise as `open_sound`.
        ShapeError: no path.
    """
    if not len(paths):
        raise ShapeError("open_sounds: paths is empty, but at least one was needed. Pass the paths of sound files.")
    # If one file cannot be opened or does not match, the stack closes the others.
    with ExitStack() as stack:
        parts = list[Part]()
        for path in paths:
            parts.append(Part(Path(path)))
            stack.callback(parts[-1].close)
        for name, unit in (("rate", "samples a second"), ("frames", "samples")):
            first = getattr(parts[0], name)
            for part in parts[1:]:
                if getattr(part, name) != first:
                    raise RecordingError(
                        f"open_sounds: {parts[0].path} has {first:,} {unit} and {part.path} {getattr(part, name):,}, but the "
                        f"files of an array must agree. {'Resample' if name == 'rate' else 'Cut'} one of them."
                    )
        stack.pop_all()
    return Sound(parts)


def _refuse_itself(paths: Sequence[Path], out: Path) -> None:
    """Refuse to overwrite an input file, also under another name or through a link."""
    with said_in_words(out):
        for path in paths:
            if os.path.realpath(path) == os.path.realpath(out) or (out.exists() and os.path.samefile(path, out)):
                raise WriteError(f"write: {out} is an input file, which is never overwritten. Choose another name.")
