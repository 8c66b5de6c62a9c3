"""Preprocess a picture as a network wants it, and show how it looked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from unconv.errors import PictureError, ShapeError
from unconv.kinds import check_fields, checks_kinds

_LARGE = 50_000_000  # pixels that a resized or cropped picture may have


@dataclass(frozen=True)
class Preprocess:
    """Make of a picture what a network wants: resize, crop the centre, scale, normalise.

    Args:
        size: (height, width) cropped from the centre; None keeps all.
        resize: the short side before the crop, in pixels; None: just large enough for the crop.
        mean, std: per channel, in units of `scale`; one of each makes the picture grey.
        scale: what white is: 1, or 255 for networks from Caffe.
        bgr: blue first.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    bgr: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ShapeError(
                f"Preprocess: {len(self.mean)} means and {len(self.std)} standard deviations; pictures have 1 or 3 "
                "channels. For other networks pass a preprocessed tensor."
            )
        numbers = (*self.mean, *self.std, self.scale)
        if not np.isfinite(numbers).all() or 0 in self.std or self.scale <= 0:
            raise ShapeError(
                f"Preprocess: mean {self.mean}, std {self.std}, scale {self.scale}; all must be finite, "
                "no std zero and the scale positive."
            )
        height, width = self.size or (0, 0)
        if max(height * width, (self.resize or 0) ** 2) > _LARGE:
            raise ShapeError(
                f"Preprocess: size {self.size}, resize {self.resize}; at most {_LARGE} pixels were allowed for. Choose less."
            )
        if any(n < 1 for n in (*(self.size or ()), *([] if self.resize is None else [self.resize]))):
            raise ShapeError(f"Preprocess: size {self.size}, resize {self.resize}; lengths must be at least 1 pixel.")

    @classmethod
    def like(cls, known: Any, size: tuple[int, int]) -> Preprocess:
        """Copy what another preprocessing tells of itself, as torchvision's presets do; crop to `size` where it does not."""
        if isinstance(known, cls):
            return known
        crop, short = getattr(known, "crop_size", None), getattr(known, "resize_size", None)
        mean = tuple(getattr(known, "mean", None) or (0.0, 0.0, 0.0))
        std = tuple(getattr(known, "std", None) or (1.0,) * len(mean))
        return cls((crop[0], crop[-1]) if crop else size, short[0] if short else None, mean, std)

    @checks_kinds
    def __call__(self, picture: Image.Image) -> Tensor:
        """Return (C, height, width), float32."""
        picture = picture.convert("L" if len(self.mean) == 1 else "RGB")
        short = self.resize or self._short_side(picture)
        if short:
            picture = vision.resize(self._middle(picture, short / min(picture.size)), [short])
        if self.size:
            picture = vision.center_crop(picture, list(self.size))
        tensor: Tensor = vision.pil_to_tensor(picture).float() / 255 * self.scale
        tensor = tensor.flip(0) if self.bgr else tensor
        normalised: Tensor = vision.normalize(tensor, list(self.mean), list(self.std))
        return normalised

    def _short_side(self, picture: Image.Image) -> int | None:
        if self.size is None:
            return None
        grow = max(self.size[0] / picture.height, self.size[1] / picture.width)
        return -int(-min(picture.size) * grow // 1)

    def _middle(self, picture: Image.Image, grow: float) -> Image.Image:
        """Return the picture or, where it is thin and would grow out of bounds, the middle of it that the crop can see."""
        if picture.width * picture.height * grow**2 < _LARGE:
            return picture
        if self.size is None:
            raise PictureError(f"Preprocess: {picture.size} grows {grow:.3g} times, beyond {_LARGE} pixels. Crop it first.")
        height, width = (max(1, -int(-n / grow // 1)) for n in self.size)
        middle: Image.Image = vision.center_crop(picture, [min(height, picture.height), min(width, picture.width)])
        return middle


def shown(image: Tensor, preprocess: Callable[..., Any] | None) -> Tensor:
    """Return a preprocessed image (C, H, W) as it looked, between 0 and 1: the normalisation is undone.

    Where `preprocess` does not tell its mean and std, the range of the image's own values is shown.
    """
    image = image.detach().float().cpu()
    mean, std = getattr(preprocess, "mean", None), getattr(preprocess, "std", None)
    if mean is None or std is None or len(mean) != len(image):
        low, high = image.min(), image.max()
        return (image - low) / (high - low).clamp(min=1e-12)
    axes = [-1] + [1] * (image.ndim - 1)
    image = image * torch.tensor(std).view(axes) + torch.tensor(mean).view(axes)
    image = image / getattr(preprocess, "scale", 1.0)
    return (image.flip(0) if getattr(preprocess, "bgr", False) else image).clamp(0, 1)
