"""The strongest pictures and other statistics of the units of one place, and how two such results are merged.

`merge` is associative and independent of order: one process, many processes and a continued run give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import ShapeError

NOBODY = 2**62
"""Stands for the number of a picture where there is none; larger than every number."""
BINS = 64
ZERO = 0
"""The bin of maxima that are not above zero; bin b >= 1 holds those from 2^(b-32) to below 2^(b-31)."""


@dataclass(frozen=True)
class Lists:
    """The strongest pictures of each channel, strongest first; among equals, the smaller number first.

    Args:
        rank: (C, K) float32, the key of the order: a unit's activation, or its value before a clip; -inf if there is none.
        value: (C, K) float32, the activation.
        picture: (C, K) int64, the picture's number; `NOBODY` if there is none.
        position: (C, K, axes) int32, the unit's position on the map.
    """

    rank: Tensor
    value: Tensor
    picture: Tensor
    position: Tensor

    @classmethod
    def empty(cls, channels: int, keep: int, axes: int) -> Lists:
        """Return lists without pictures."""
        nothing = torch.full((channels, keep), -torch.inf)
        nobody = torch.full((channels, keep), NOBODY)
        return cls(nothing, torch.zeros(channels, keep), nobody, torch.zeros(channels, keep, axes, dtype=torch.int32))

    def beside(self, other: Lists) -> Lists:
        """Return the strongest of both lists, as many as one of them holds."""
        both = [torch.cat([own, theirs], 1) for own, theirs in zip(self.parts, other.parts, strict=True)]
        return Lists(*both).first(self.rank.shape[1])

    def first(self, keep: int) -> Lists:
        """Return the `keep` strongest, in order."""
        # Sorted by number first, then stably by rank, so that equals are in the order of their numbers.
        by_number = self.picture.argsort(dim=1, stable=True)
        order = by_number.gather(1, self.rank.gather(1, by_number).argsort(dim=1, descending=True, stable=True))[:, :keep]
        at = order[..., None].expand(-1, -1, self.position.shape[2])
        rank, value, picture = (part.gather(1, order) for part in (self.rank, self.value, self.picture))
        return Lists(rank, value, picture, self.position.gather(1, at))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four tensors."""
        return self.rank, self.value, self.picture, self.position


@dataclass(frozen=True)
class Levels:
    """One picture for each channel and octave of activation: the one with the smallest random number.

    Args:
        draw: (C, BINS) int64, the random number of the picture; the largest integer where no picture reached that level.
        picture, value, position: as in `Lists`, (C, BINS).
    """

    draw: Tensor
    picture: Tensor
    value: Tensor
    position: Tensor

    @classmethod
    def empty(cls, channels: int, axes: int) -> Levels:
        """Return levels without pictures."""
        most = torch.full((channels, BINS), torch.iinfo(torch.int64).max)
        nobody = torch.full((channels, BINS), NOBODY)
        return cls(most, nobody, torch.zeros(channels, BINS), torch.zeros(channels, BINS, axes, dtype=torch.int32))

    def beside(self, other: Levels) -> Levels:
        """Return for each level the picture with the smaller random number."""
        theirs = other.draw < self.draw
        pairs = zip(self.parts, other.parts, strict=True)
        return Levels(*(torch.where(theirs if a.ndim == 2 else theirs[..., None], b, a) for a, b in pairs))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four tensors."""
        return self.draw, self.picture, self.value, self.position


@dataclass(frozen=True)
class PlaceTop:
    """The results of a scan for the units of one place.

    Args:
        strongest: the pictures with the largest maxima.
        lowest: those with the smallest minima, with rank and value negated; None if they are not kept.
        positive: (C,) int64, the number of pictures with a maximum above zero.
        histogram: (C, BINS) int64, the histogram of the maxima.
        levels: one picture of each octave.
        sums: (C,) float64, the sum of the maxima of each part, by the number of its first picture. Added in the order of
            the numbers and not of arrival, they always give the same total.
    """

    strongest: Lists
    lowest: Lists | None
    positive: Tensor
    histogram: Tensor
    levels: Levels
    sums: Mapping[int, Tensor]

    def beside(self, other: PlaceTop) -> PlaceTop:
        """Return the results for the pictures of both."""
        if self.strongest.rank.shape != other.strongest.rank.shape or (self.lowest is None) != (other.lowest is None):
            raise ShapeError(
                "merge: results of different places, or with lists of different lengths, came. Merge those of one run."
            )
        lowest = None if self.lowest is None or other.lowest is None else self.lowest.beside(other.lowest)
        return PlaceTop(
            self.strongest.beside(other.strongest),
            lowest,
            self.positive + other.positive,
            self.histogram + other.histogram,
            self.levels.beside(other.levels),
            {**self.sums, **{part: self.sums[part] + sum_ if part in self.sums else sum_ for part, sum_ in other.sums.items()}},
        )

    def sum(self) -> Tensor:
        """Return (C,) float64, the sum of the maxima of all pictures."""
        total = torch.zeros(len(self.positive), dtype=torch.float64)
        for part in sorted(self.sums):
            total = total + self.sums[part]
        return total


@dataclass(frozen=True)
class Top:
    """The results of some pictures for all places of a run.

    Args:
        parts: for each part of the list of pictures, by the number of its first picture, how many pictures were read.
        places: the results for each place, in the order of the run.
    """

    parts: Mapping[int, int]
    places: Sequence[PlaceTop] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of pictures that were read."""
        return sum(self.parts.values())


def merge(a: Top, b: Top) -> Top:
    """Return the results for the pictures of both.

    Raises:
        ShapeError: they have pictures in common, or belong to different runs.
    """
    common = sorted(set(a.parts) & set(b.parts))
    if common or len(a.places) != len(b.places):
        what = f"both hold the part from picture {common[0]} on" if common else "they are of different places"
        raise ShapeError(f"merge: {what}, but results of different pictures of one run were needed. Merge each once.")
    return Top({**a.parts, **b.parts}, [mine.beside(theirs) for mine, theirs in zip(a.places, b.places, strict=True)])


def bins(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bin of each float32 value, int32: 0 if it is not above zero, else its octave."""
    # The octave is the exponent in the float's bits: exact at powers of two, where a logarithm may round.
    octave: np.ndarray[Any, Any] = (values.view(np.int32) >> 23) - (127 - 32)
    np.minimum(np.maximum(octave, 1, out=octave), BINS - 1, out=octave)
    octave *= values > 0
    return octave


def draws(numbers: Tensor) -> Tensor:
    """Return a pseudo-random int64 for the number of each picture: always the same, and different for different numbers.

    Source:
        Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (2014), the mixing function of SplitMix64.
    """
    mixed = [_mixed(number) for number in numbers.tolist()]
    return torch.tensor(mixed, dtype=torch.int64)


def _mixed(number: int) -> int:
    most = 2**64 - 1
    x = (number + 1) * 0x9E3779B97F4A7C15 & most
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & most
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & most
    return (x ^ (x >> 31)) - 2**63  # as a signed number, in the same order
