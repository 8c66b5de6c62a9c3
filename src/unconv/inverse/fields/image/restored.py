"""A restored picture, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unconv.files import write
from unconv.pictures.draw import picture_of
from unconv.pictures.encode import encoded, png
from unconv.pictures.measured import measured
from unconv.pictures.metadata import NOTHING, Metadata


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored picture, and how it came about.

    Attributes:
        picture: the same kind, shape and type as the input: a tensor, an array (also for a file) or a PIL picture.
        noise: the standard deviation that was taken away, in the picture's own units; for a stack the mean over its
            pictures.
        method: the method used.
        steps: how many were made, the most over the pictures of a stack and over tiles.
        converged: every part met its solver's rule for stopping; plug-and-play converges at the end of its schedule.
        notes: what was odd about the input, and what was done about it.
        observed: the input, in the same kind.
        axes: what the axes of both are: see `unconv.pictures.measured.measured`.
        metadata: what the input's file said of it: a profile of its colours, EXIF, resolution.
    """

    picture: Any
    noise: float
    method: str
    steps: int
    converged: bool
    notes: tuple[str, ...] = ()
    observed: Any = field(default=None, repr=False)
    axes: str = "HW"
    metadata: Metadata = field(default=NOTHING, repr=False)

    def save(self, path: str | Path) -> None:
        """Write the picture, whole or not at all, at its own depth: PNG for 8 and 16 bits, TIFF or .npy for all.

        What its file said of it comes with it; a format that cannot hold all of that brings a `UserWarning`.
        """
        write(Path(path), self.encoded(path))

    def encoded(self, path: str | Path) -> bytes:
        """Return the bytes that `save` writes."""
        told = f"{self.method}, {self.steps} steps, noise {self.noise:.4g} taken away"
        return encoded(self.picture, path, axes=self.axes, metadata=self.metadata.with_history(told))

    def comparison(self) -> Image.Image:
        """Before and after, side by side, at 8 bits: of a stack the first picture, of a volume the middle slice."""
        before, after = (_shown(picture, self.axes) for picture in (self.observed, self.picture))
        height = before.shape[-2]
        low, high = np.quantile(before.numpy(), [0.001, 0.999])
        both = torch.cat([before, torch.full((*before.shape[:-2], height, 4), float(high)), after], -1)
        if self.metadata.fits is not None:
            both = both.flip(-2)  # its rows are stored from the lowest one up
        return picture_of((both - low) / max(float(high - low), 1e-12))

    def _repr_png_(self) -> bytes:
        return png(self.comparison())


def _shown(picture: Any, axes: str) -> Tensor:
    """Take one picture out of what may be a stack or a volume: (1 or 3, H, W), floating."""
    samples = measured(picture, axes=axes).samples.float().cpu()
    while samples.ndim > 3 or (samples.ndim == 3 and len(samples) != 3):
        samples = samples[len(samples) // 2]
    return samples if samples.ndim == 3 else samples[None]
