"""Preprocess a picture for a network, and undo the normalisation to show a preprocessed image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from unconv.errors import PictureError, ShapeError, counted
from unconv.kinds import check_fields, checks_kinds

_LARGE = 50_000_000  # pixels that a resized or cropped picture may have


Interpolation = Literal["nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"]
"""The interpolation that resizes a picture; `box`, `hamming` and `lanczos` are Pillow's and do not work on arrays."""


@dataclass(frozen=True)
class Preprocess:
    """Preprocess a picture for a network: resize, crop the centre, scale, normalise.

    Args:
        size: (height, width) cropped from the centre; None crops nothing.
        resize: the size before the crop, in pixels: the short side, or (height, width), which may distort the picture;
            None resizes just enough for the crop.
        mean, std: per channel, in units of `scale`; one of each converts the picture to grey. Arrays may have any number.
        scale: the value of white: 1, or 255 for networks from Caffe.
        bgr: whether the channels are ordered blue, green, red.
        interpolation: how the picture is resized.
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
                f"Preprocess: mean has {len(self.mean)} and std {len(self.std)} values, but both need one value "
                "for each channel. Pass equally many."
            )
        if self.bgr and len(self.mean) not in (1, 3):
            raise ShapeError(
                f"Preprocess: bgr came with {len(self.mean)} channels, but it reorders three (or grey). Leave it out."
            )
        numbers = (*self.mean, *self.std, self.scale)
        if not np.isfinite(numbers).all() or 0 in self.std or self.scale <= 0:
            raise ShapeError(
                f"Preprocess: mean {self.mean}, std {self.std}, scale {self.scale} came, but finite numbers were needed, "
                "no std of zero and a positive scale. Pass such values."
            )
        height, width = self.size or (0, 0)
        to = (self.resize or 0,) * 2 if self.resize is None or isinstance(self.resize, int) else self.resize
        # Settings may come from a model's file: a huge size would otherwise exhaust the memory.
        if max(height * width, to[0] * to[1]) > _LARGE:
            raise ShapeError(
                f"Preprocess: size {self.size}, resize {self.resize} came; at most {_LARGE} pixels are allowed. Choose less."
            )
        if any(n < 1 for n in (*(self.size or ()), *([] if self.resize is None else to))):
            raise ShapeError(
                f"Preprocess: size {self.size}, resize {self.resize} came, but each length must be at least 1 pixel."
            )

    @classmethod
    def like(cls, known: Any, size: tuple[int, int]) -> Preprocess:
        """Return a `Preprocess` like another one, such as torchvision's presets; crop to `size` if that names no crop."""
        if isinstance(known, cls):
            return known
        crop, short = getattr(known, "crop_size", None), getattr(known, "resize_size", None)
        mean = tuple(getattr(known, "mean", None) or (0.0, 0.0, 0.0))
        std = tuple(getattr(known, "std", None) or (1.0,) * len(mean))
        how: Any = getattr(getattr(known, "interpolation", None), "value", "bilinear")
        return cls((crop[0], crop[-1]) if crop else size, short[0] if short else None, mean, std, interpolation=how)

    @checks_kinds
    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the preprocessed picture (C, height, width), float32.

        Raises:
            ShapeError: there are neither 1 nor 3 means, so this is for arrays and not for pictures.
        """
        if len(self.mean) not in (1, 3):
            raise ShapeError(
                f"Preprocess: a picture came, which has 1 or 3 channels, but there are {len(self.mean)} means. "
                f"Pass an array of {len(self.mean)} channels (on the command line, a .npy or .tif file)."
            )
        framed = self._framed(picture.convert("L" if len(self.mean) == 1 else "RGB"))
        return self._normalised(vision.pil_to_tensor(framed).float() / 255)

    def samples(self, values: Tensor) -> Tensor:
        """Return samples (C, samples..) preprocessed in the same way; they are floating, and white is 1.

        Raises:
            ShapeError: there is another number of channels, or the samples are to be resized or cropped and are not (C, H, W).
        """
        if values.ndim != 3 and (self.size or self.resize):
            raise ShapeError(
                f"Preprocess: samples of {tuple(values.shape)} came, but only pictures (C, H, W) are resized and cropped. "
                "Leave size and resize out."
            )
        if len(values) != len(self.mean):
            raise ShapeError(
                f"Preprocess: samples of {counted(len(values), 'channel')} came, but mean has "
                f"{counted(len(self.mean), 'value')}. Pass as many."
            )
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
        """Return the short side of the smallest picture that covers the crop; None without a crop."""
        if self.size is None:
            return None
        height, width = vision.get_size(picture)
        grow = max(self.size[0] / height, self.size[1] / width)
        return -int(-min(height, width) * grow // 1)

    def _middle(self, picture: Any, grow: float) -> Any:
        """Return the picture, or only the middle that the crop will keep if all of it would grow beyond the limit of pixels."""
        source_size = vision.get_size(picture)
        if source_size[0] * source_size[1] * grow**2 < _LARGE:
            return picture
        if self.size is None:
            raise PictureError(
                f"Preprocess: a picture of {source_size[1]} x {source_size[0]} pixels would grow {grow:.3g} times, but at most "
                f"{_LARGE} pixels are allowed. Crop it first."
            )
        height, width = (max(1, -int(-n / grow // 1)) for n in self.size)
        return vision.center_crop(picture, [min(height, source_size[0]), min(width, source_size[1])])


def shown(image: Tensor, preprocess: Any) -> Tensor:
    """Return a preprocessed image (C, H, W) with its normalisation undone, from 0 to 1.

    If `preprocess` has no mean and std for its channels, the image's own range of values is mapped to 0..1.
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
