"""Levels of a recording: peak, clipping, offset and silence of each channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unconv.errors import DtypeError, ShapeError, counted
from unconv.recordings.parts import Values

_RUN = 3  # samples in a row at an extreme that count as clipped
_EDGE = 3  # quanta of the step into such a run: a soft peak of few quanta has smaller steps


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of a block of sound. The sum of the levels of consecutive blocks is that of the entire recording.

    Attributes:
        peak: (channels,), largest magnitude.
        clipped: (channels,), number of samples in runs of three or more at the channel's largest or smallest value.
        offset: (channels,), mean, such as a microphone's DC offset.
        power: (channels,), mean square.
        samples: number of samples in each channel.
    """

    peak: Values
    clipped: Values
    offset: Values
    power: Values
    samples: int

    @property
    def silent(self) -> Values:
        """(channels,), whether all samples of a channel are zero."""
        return np.asarray(self.peak == 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return clipped, silent and offset channels in words."""
        notes = []
        for channel, count in enumerate(self.clipped.tolist()):
            if count:
                notes.append(f"channel {channel} is clipped ({counted(count, 'sample')}): this distortion remains in a result")
        if self.silent.any():
            channels = np.flatnonzero(self.silent)
            notes.append(f"{'channel' if len(channels) == 1 else 'channels'} {', '.join(map(str, channels))}: silent")
        with np.errstate(over="ignore", invalid="ignore"):  # squares of samples beyond 1e154 overflow: no note on offsets
            deviation = np.sqrt(np.maximum(self.power - self.offset**2, 0))
        for channel in np.flatnonzero((np.abs(self.offset) > deviation) & (self.peak > 0)).tolist():
            notes.append(f"channel {channel} has an offset of {self.offset[channel]:.3g}, larger than its sound")
        return tuple(notes)

    def __add__(self, later: Levels) -> Levels:
        total = self.samples + later.samples
        mine, other = self.samples / total, later.samples / total
        # Runs of a block count only if they are at the peak of both blocks together.
        peak = np.maximum(self.peak, later.peak)
        near = 0.999 * peak  # the largest and the smallest integer differ by one step in magnitude
        clipped = np.where(self.peak >= near, self.clipped, 0) + np.where(later.peak >= near, later.clipped, 0)
        offset, power = mine * self.offset + other * later.offset, mine * self.power + other * later.power
        return Levels(peak, clipped, offset, power, total)


def levels(values: Values) -> Levels:
    """Return the levels of a block of sound (channels, n), or (n,).

    Raises:
        ShapeError: no samples, or another shape. DtypeError: samples that are not floats.
    """
    values = np.atleast_2d(np.asarray(values))
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"levels: samples are {values.shape}, but (channels, n) was needed. Pass a block of samples.")
    if values.dtype.kind != "f":
        raise DtypeError(f"levels: samples are {values.dtype}, but floats with full scale ±1 were needed. Convert them.")
    wide = values.astype(np.float64)
    clipped = np.array([_flat(channel) for channel in wide])
    with np.errstate(over="ignore"):
        return Levels(np.abs(wide).max(1), clipped, wide.mean(1), np.square(wide).mean(1), values.shape[1])


def _flat(samples: Values) -> int:
    """Return the number of samples of one channel in runs at its largest or smallest value that begin or end steeply."""
    steps = np.abs(np.diff(samples))
    if not steps.any():
        return 0
    quantum, count = float(steps[steps > 0].min()), 0
    for extreme in (samples.max(), samples.min()):
        at_extreme = np.concatenate([[False], (samples == extreme) & (extreme != 0), [False]]).astype(np.int8)
        begins, ends = np.flatnonzero(np.diff(at_extreme) == 1), np.flatnonzero(np.diff(at_extreme) == -1)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            edge = max(steps[begin - 1] if begin else 0, steps[end - 1] if end < len(samples) else 0)
            count += end - begin if end - begin >= _RUN and edge > _EDGE * quantum else 0
    return count
