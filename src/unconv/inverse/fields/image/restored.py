"""The result of a restoration: the picture, its noise, and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unconv.errors import counted
from unconv.files import write
from unconv.pictures.draw import picture_of
from unconv.pictures.encode import encoded, png
from unconv.pictures.measured import measured
from unconv.pictures.metadata import NOTHING, Metadata


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored picture, with the noise, the method and the notes of its restoration.

    Attributes:
        picture: of the same kind, shape and type as the input: a tensor, an array (also for a file) or a PIL picture.
        noise: the standard deviation of the noise that was assumed, in the picture's own units; for a stack, the mean over
            its pictures.
        method: the name of the method.
        steps: the largest number of steps over the pictures of a stack and over tiles.
        converged: true if every part met its solver's stopping rule; plug-and-play converges at the end of its schedule.
        notes: anything unusual about the input, and what was done about it.
        observed: the input, of the same kind as `picture`.
        axes: the meaning of the axes of both; see `unconv.pictures.measured.measured`.
        metadata: of the input's file: colour profile, EXIF, resolution.
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
        """Save the picture at its own depth, completely or not at all: PNG for 8 and 16 bits, TIFF or .npy for all types.

        The metadata of the input's file is saved with it. If the format cannot store all of it, there is a `UserWarning`.
        """
        write(Path(path), self.encoded(path))

    def encoded(self, path: str | Path) -> bytes:
        """Return the bytes that `save` writes."""
        history = f"{self.method}, {counted(self.steps, 'step')}, assumed noise {self.noise:.4g}"
        return encoded(self.picture, path, axes=self.axes, metadata=self.metadata.with_history(history))

    def comparison(self) -> Image.Image:
        """Return before and after side by side at 8 bits: of a stack the middle picture, of a volume the middle slice."""
        before, after = (_shown(picture, self.axes) for picture in (self.observed, self.picture))
        height = before.shape[-2]
        low, high = np.quantile(before.numpy(), [0.001, 0.999])
        both = torch.cat([before, torch.full((*before.shape[:-2], height, 4), float(high)), after], -1)
        if self.metadata.fits is not None:
            both = both.flip(-2)  # FITS stores its rows from the bottom up
        return picture_of((both - low) / max(float(high - low), 1e-12))

    def _repr_png_(self) -> bytes:
        return png(self.comparison())


def _shown(picture: Any, axes: str) -> Tensor:
    """Return the middle picture of a stack or a volume, (1 or 3, H, W), in float32."""
    shown = measured(picture, axes=axes)
    samples = shown.samples.float().cpu()
    for number, name in reversed(list(enumerate(shown.axes))):
        # Only three channels are a colour: three grey pictures of a stack are not.
        if name not in "HW" and not (name == "C" and samples.shape[number] == 3):
            samples = samples.select(number, samples.shape[number] // 2)
    return samples if samples.ndim == 3 else samples[None]
