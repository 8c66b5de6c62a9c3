"""What the commands on recordings read from their options, and how they work through long ones."""

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

_WHOLE, _BLOCK = 2**25, 2**23  # samples of all channels that are worked on at once, and of a block of a longer recording
_FADE = 2.0  # seconds over which one block passes into the next
_HELD = 2**25  # samples of a channel that are kept for a picture and for distances
_FOLDED = ("", ".")  # endings of a name that is a folder's


def result_places(sounds: Sequence[Path], out: Path) -> list[Path]:
    """Return where results go: to one file, or to files of the same names in a folder."""
    if os.path.isdir(out) or out.suffix in _FOLDED:
        return [out / path.name for path in sounds]
    return [out]


def in_blocks(sound: Sound, work: Callable[[Array, Progress], Array], progress: Progress) -> Iterator[tuple[Array, Array]]:
    """Yield samples (channels, n) before and after, in order and each once; of a long recording block by block.

    A block has as long again to settle before it rises, while the one before it fades.

    Args:
        work: makes as many samples of a block, and tells its own progress.
    """
    import numpy as np

    if sound.frames * sound.channels <= _WHOLE:
        whole = sound.read()
        yield whole, work(whole, progress)
        return
    fade = round(_FADE * sound.rate)
    size = max(_BLOCK // sound.channels, 8 * fade)
    rise: Array = np.linspace(0, 1, fade + 2, dtype=sound.dtype)[1:-1]
    done, tail = 0, np.zeros((sound.channels, fade), sound.dtype)
    for block in sound.blocks(size, 2 * fade):
        skipped = fade if done else 0
        made = work(block, _within(progress, done - skipped, block.shape[1], sound.frames))
        if done:
            made[:, fade : 2 * fade] = (1 - rise) * tail + rise * made[:, fade : 2 * fade]
        last = done - skipped + block.shape[1] == sound.frames
        end = block.shape[1] if last else block.shape[1] - fade
        yield block[:, skipped:end], made[:, skipped:end]
        done, tail = done - skipped + end, made[:, end:]


def _within(progress: Progress, done: int, size: int, total: int) -> Progress:
    """Tell progress within a block as that of the whole recording."""
    return lambda what, share, of: progress(what, done + size * share / max(of, 1), total)


@dataclass
class Kept:
    """One channel before and after, kept for a picture and for distances; of a long recording its beginning.

    Args:
        wanted: whether anything is.
    """

    wanted: bool
    before: list[Array] = field(default_factory=list)
    after: list[Array] = field(default_factory=list)

    def take(self, before: Array, after: Array) -> None:
        """Keep the first channel of a block, as a copy, so that nothing keeps the block in memory."""
        if self.wanted and sum(map(len, self.before)) < _HELD:
            self.before.append(before[0].copy())
            self.after.append(after[0].copy())

    def both(self) -> tuple[Array, Array]:
        """Return what was kept, (n,) each."""
        import numpy as np

        return np.concatenate(self.before), np.concatenate(self.after)


def read_clean(path: Path, rate: int, samples: int) -> Array:
    """Return the first channel of a clean recording, (n,) with n up to `samples`.

    Raises:
        RecordingError: it has another rate.
    """
    from unconv.recordings import open_sound

    with open_sound(path) as sound:
        if sound.rate != rate:
            raise RecordingError(
                f"--reference: {path} has {sound.rate:,} samples a second, the recording {rate:,}. Resample it."
            )
        first: Array = sound.read(0, min(samples, sound.frames))[0]
    return first


def read_rooms(text: str, rate: int) -> Array:
    """Return room responses (D, k) from a file; FILE.sofa:3 is the fourth place of a SOFA file."""
    from unconv.recordings import open_responses

    name, colon, place = text.rpartition(":")
    if colon and place.isdigit() and name.lower().endswith(".sofa"):
        return open_responses(name, rate, int(place))
    return open_responses(text, rate)
