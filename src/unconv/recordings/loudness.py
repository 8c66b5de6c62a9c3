"""How a recording was levelled: peaks, clipping, offset and silence of each channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unconv.errors import DtypeError, ShapeError
from unconv.recordings.parts import Values

_RUN = 3  # samples in a row at an extreme that count as clipped
_EDGE = 3  # quanta of the step that leads into such a run: a soft peak that is coarsely sampled in height has smaller ones


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of a block of sound; those of consecutive blocks add up to those of the whole.

    Attributes:
        peak: (channels,), the largest magnitude.
        clipped: (channels,), samples in runs of three or more that are flat at the channel's largest or smallest value.
        offset: (channels,), the mean: a microphone's DC offset.
        power: (channels,), the mean square.
        samples: of each channel.
    """

    peak: Values
    clipped: Values
    offset: Values
    power: Values
    samples: int

    @property
    def silent(self) -> Values:
        """(channels,), whether all samples are zero."""
        return np.asarray(self.peak == 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd, in words."""
        said = []
        for channel, count in enumerate(self.clipped.tolist()):
            if count:
                said.append(
                    f"channel {channel} is clipped at {count:,} samples: what was beyond is lost, and no room made that"
                )
        if self.silent.any():
            said.append(f"silent: channel {', '.join(map(str, np.flatnonzero(self.silent)))}")
        with np.errstate(over="ignore", invalid="ignore"):  # beyond 1e154, where nothing is said of offsets
            deviation = np.sqrt(np.maximum(self.power - self.offset**2, 0))
        for channel in np.flatnonzero((np.abs(self.offset) > deviation) & (self.peak > 0)).tolist():
            said.append(f"channel {channel} has an offset of {self.offset[channel]:.3g}, more than its sound")
        return tuple(said)

    def __add__(self, later: Levels) -> Levels:
        total = self.samples + later.samples
        mine, other = self.samples / total, later.samples / total
        # A run counts where it stands at the extreme of the whole.
        peak = np.maximum(self.peak, later.peak)
        near = 0.999 * peak  # the largest and the smallest value of integers differ by one step
        clipped = np.where(self.peak >= near, self.clipped, 0) + np.where(later.peak >= near, later.clipped, 0)
        offset, power = mine * self.offset + other * later.offset, mine * self.power + other * later.power
        return Levels(peak, clipped, offset, power, total)


def levels(values: Values) -> Levels:
    """Return the levels of a block of sound (channels, n), or (n,).

    Raises:
        ShapeError: no samples. DtypeError: no floats.
    """
    values = np.atleast_2d(np.asarray(values))
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"levels: samples are {values.shape}, but (channels, n) was needed. Pass a block.")
    if values.dtype.kind != "f":
        raise DtypeError(f"levels: samples are {values.dtype}, but floats with full scale ±1 were needed. Convert them.")
    wide = values.astype(np.float64)
    clipped = np.array([_flat(channel) for channel in wide])
    with np.errstate(over="ignore"):
        return Levels(np.abs(wide).max(1), clipped, wide.mean(1), np.square(wide).mean(1), values.shape[1])


def _flat(samples: Values) -> int:
    """Count the samples of one channel in runs at its largest or smallest value, into which a steep edge leads."""
    steps = np.abs(np.diff(samples))
    if not steps.any():
        return 0
    quantum, count = float(steps[steps > 0].min()), 0
    for extreme in (samples.max(), samples.min()):
        there = np.concatenate([[False], (samples == extreme) & (extreme != 0), [False]]).astype(np.int8)
        begins, ends = np.flatnonzero(np.diff(there) == 1), np.flatnonzero(np.diff(there) == -1)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            edge = max(steps[begin - 1] if begin else 0, steps[end - 1] if end < len(samples) else 0)
            count += end - begin if end - begin >= _RUN and edge > _EDGE * quantum else 0
    return count
