"""Options of the commands on recordings: how they are read, and how long recordings are processed in blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unconv.errors import RecordingError
from unconv.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from unconv.recordings import Sound

    Array = np.ndarray[Any, Any]

_AT_ONCE, _BLOCK = 2**25, 2**23  # samples of all channels: of the longest recording processed at once; of a block of others
_FADE = 2.0  # seconds of the cross-fade from one block to the next
_EXCERPT = 2**25  # samples of a channel that are kept for a picture and for distances
_FOLDER_ENDINGS = ("", ".")  # a path that ends like this is a folder


def output_paths(sounds: Sequence[Path], out: Path) -> list[Path]:
    """Return the output paths: `out` itself, or the inputs' names in `out` if that is a folder."""
    if os.path.isdir(out) or out.suffix in _FOLDER_ENDINGS:
        return [out / path.name for path in sounds]
    return [out]


def in_blocks(sound: Sound, work: Callable[[Array, Progress], Array], progress: Progress) -> Iterator[tuple[Array, Array]]:
    """Yield all samples (channels, n) before and after processing, in order; a long recording in blocks with a cross-fade.

    Args:
        sound: the recording.
        work: processes a block to as many samples, and reports its progress.
        progress: receives the progress over the entire recording.
    """
    import numpy as np

    if sound.frames * sound.channels <= _AT_ONCE:
        samples = sound.read()
        yield samples, work(samples, progress)
        return
    fade = round(_FADE * sound.rate)
    size = max(_BLOCK // sound.channels, 8 * fade)
    rise: Array = np.linspace(0, 1, fade + 2, dtype=sound.dtype)[1:-1]
    done, tail = 0, np.zeros((sound.channels, fade), sound.dtype)
    # Blocks overlap by two fades: in the first the new block's filters settle and its output is dropped, in the second it
    # replaces the previous block. `tail` is the previous block's output there.
    for block in sound.blocks(size, 2 * fade):
        skipped = fade if done else 0
        processed = work(block, _within(progress, done - skipped, block.shape[1], sound.frames))
        if done:
            processed[:, fade : 2 * fade] = (1 - rise) * tail + rise * processed[:, fade : 2 * fade]
        last = done - skipped + block.shape[1] == sound.frames
        end = block.shape[1] if last else block.shape[1] - fade
        yield block[:, skipped:end], processed[:, skipped:end]
        done, tail = done - skipped + end, processed[:, end:]


def _within(progress: Progress, done: int, size: int, total: int) -> Progress:
    """Return a progress function for one block that reports progress over the entire recording."""
    return lambda what, share, of: progress(what, done + size * share / max(of, 1), total)


@dataclass
class Excerpt:
    """The first channel before and after processing, for a picture and for distances; the beginning of a long recording.

    Args:
        wanted: whether there is a picture or a distance at all.
    """

    wanted: bool
    before: list[Array] = field(default_factory=list)
    after: list[Array] = field(default_factory=list)

    def take(self, before: Array, after: Array) -> None:
        """Add the first channel of a block."""
        # A copy, so that the block itself can be freed.
        if self.wanted and sum(map(len, self.before)) < _EXCERPT:
            self.before.append(before[0].copy())
            self.after.append(after[0].copy())

    def both(self) -> tuple[Array, Array]:
        """Return the samples before and after, (n,) each."""
        import numpy as np

        return np.concatenate(self.before), np.concatenate(self.after)


def read_clean(path: Path, rate: int, samples: int) -> Array:
    """Return the first channel of a clean recording, (n,) with n up to `samples`.

    Raises:
        RecordingError: the clean recording has another rate.
    """
    from unconv.recordings import open_sound

    with open_sound(path) as sound:
        if sound.rate != rate:
            raise RecordingError(
                f"--reference: {path} has {sound.rate:,} samples a second, but the recording has {rate:,}. Resample it."
            )
        first: Array = sound.read(0, min(samples, sound.frames))[0]
    return first


def read_rooms(text: str, rate: int) -> Array:
    """Return room responses (D, k) from a file; FILE.sofa:3 is the fourth measurement of a SOFA file."""
    from unconv.recordings import open_responses

    path, measurement = rooms_file(text)
    return open_responses(path, rate, measurement)


def rooms_file(text: str) -> tuple[Path, int | None]:
    """Split "FILE.sofa:3" into the file and the measurement; the measurement is None for other files."""
    name, colon, index = text.rpartition(":")
    if colon and index.isdigit() and name.lower().endswith(".sofa"):
        return Path(name), int(index)
    return Path(text), None
