"""Preprocess a picture as a network wants it, and show how it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from unconv.errors import PictureError, ShapeError
from unconv.kinds import check_fields, checks_kinds

_LARGE = 50_000_000  # pixels that a resized or cropped picture may have


Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"]
"""How a picture is resized; `box`, `hamming` and `lanczos` are Pillow's, and not for arrays."""


@dataclass(frozen=True)
class Preprocess:
    """Make of a picture what a network wants: resize, crop the centre, scale, normalise.

    Args:
        size: (height, width) cropped from the centre; None keeps all.
        resize: before the crop, in pixels: the short side, or (height, width) whatever the picture's shape; None: just
            large enough for the crop.
        mean, std: per channel, in units of `scale`; one of each makes the picture grey. Arrays may have any number.
        scale: what white is: 1, or 255 for networks from Caffe.
        bgr: blue first.
        interpolation: by which the picture is resized.
    """

    size: tuple[int, int] | None = None
    resize: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    bgr: bool = False
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.mean) != len(self.std) or not self.mean:
            raise ShapeError(
                f"Preprocess: {len(self.mean)} means and {len(self.std)} standard deviations; as many of one as of the other, "
                "one for each channel, were needed. Pass them."
            )
        if self.bgr and len(self.mean) not in (1, 3):
            raise ShapeError(f"Preprocess: bgr with {len(self.mean)} channels; only three can stand blue first. Leave it out.")
        numbers = (*self.mean, *self.std, self.scale)
        if not np.isfinite(numbers).all() or 0 in self.std or self.scale <= 0:
            raise ShapeError(
                f"Preprocess: mean {self.mean}, std {self.std}, scale {self.scale}; all must be finite, "
                "no std zero and the scale positive."
            )
        height, width = self.size or (0, 0)
        to = (self.resize or 0,) * 2 if self.resize is None or isinstance(self.resize, int) else self.resize
        if max(height * width, to[0] * to[1]) > _LARGE:
            raise ShapeError(
                f"Preprocess: size {self.size}, resize {self.resize}; at most {_LARGE} pixels were allowed for. Choose less."
            )
        if any(n < 1 for n in (*(self.size or ()), *([] if self.resize is None else to))):
            raise ShapeError(f"Preprocess: size {self.size}, resize {self.resize}; lengths must be at least 1 pixel.")

    @classmethod
    def like(cls, known: Any, size: tuple[int, int]) -> Preprocess:
        """Copy what another preprocessing tells of itself, as torchvision's presets do; crop to `size` where it does not."""
        if isinstance(known, cls):
            return known
        crop, short = getattr(known, "crop_size", None), getattr(known, "resize_size", None)
        mean = tuple(getattr(known, "mean", None) or (0.0, 0.0, 0.0))
        std = tuple(getattr(known, "std", None) or (1.0,) * len(mean))
        how: Any = getattr(getattr(known, "interpolation", None), "value", "bilinear")
        return cls((crop[0], crop[-1]) if crop else size, short[0] if short else None, mean, std, interpolation=how)

    @checks_kinds
    def __call__(self, picture: Image.Image) -> Tensor:
        """Return (C, height, width), float32.

        Raises:
            ShapeError: this is for arrays of another number of channels than a picture has.
        """
        if len(self.mean) not in (1, 3):
            raise ShapeError(
                f"Preprocess: a picture came, which has 1 or 3 channels, but there are {len(self.mean)} means. "
                f"Pass an array of {len(self.mean)} channels, from the command line as a file .npy or .tif."
            )
        framed = self._framed(picture.convert("L" if len(self.mean) == 1 else "RGB"))
        return self._normalised(vision.pil_to_tensor(framed).float() / 255)

    def samples(self, values: Tensor) -> Tensor:
        """Do the same to samples (C, samples..), floating, 1 where white would be.

        Raises:
            ShapeError: another number of channels, or a size to crop or resize to and no two axes.
        """
        if values.ndim != 3 and (self.size or self.resize):
            raise ShapeError(
                f"Preprocess: samples of {tuple(values.shape)} came, but only pictures (C, H, W) are resized and cropped. "
                "Leave size and resize out."
            )
        if len(values) != len(self.mean):
            raise ShapeError(f"Preprocess: {len(values)} channels came, but there are {len(self.mean)} means. Pass as many.")
        return self._normalised(self._framed(values))

    def _normalised(self, values: Tensor) -> Tensor:
        values = values * self.scale
        values = values.flip(0) if self.bgr else values
        each = [-1] + [1] * (values.ndim - 1)
        normalised: Tensor = (values - values.new_tensor(self.mean).view(each)) / values.new_tensor(self.std).view(each)
        return normalised

    def _framed(self, picture: Any) -> Any:
        """Resize and crop a picture, or samples (C, H, W)."""
        how = vision.InterpolationMode(self.interpolation)
        if self.resize is not None and not isinstance(self.resize, int):
            picture = vision.resize(picture, list(self.resize), how)
        elif short := self.resize or self._short_side(picture):
            grow = short / min(vision.get_size(picture))
            picture = vision.resize(self._middle(picture, grow), [short], how)
        return vision.center_crop(picture, list(self.size)) if self.size else picture

    def _short_side(self, picture: Any) -> int | None:
        if self.size is None:
            return None
        height, width = vision.get_size(picture)
        grow = max(self.size[0] / height, self.size[1] / width)
        return -int(-min(height, width) * grow // 1)

    def _middle(self, picture: Any, grow: float) -> Any:
        """Return the picture or, where it is thin and would grow out of bounds, the middle of it that the crop can see."""
        came = vision.get_size(picture)
        if came[0] * came[1] * grow**2 < _LARGE:
            return picture
        if self.size is None:
            raise PictureError(
                f"Preprocess: {(came[1], came[0])} grows {grow:.3g} times, beyond {_LARGE} pixels. Crop it first."
            )
        height, width = (max(1, -int(-n / grow // 1)) for n in self.size)
        return vision.center_crop(picture, [min(height, came[0]), min(width, came[1])])


def shown(image: Tensor, preprocess: Any) -> Tensor:
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
