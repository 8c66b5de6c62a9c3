"""Describe how a picture is preprocessed for a network: from the preprocessing's attributes and from tests on plain colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, PictureError, ShapeError
from unconv.pictures.preprocess import Preprocess
from unconv.pictures.transforms import image_processor, own_words, parts, transform

_COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128), (200, 30, 90))
_TRIAL = (64, 48)  # width and height of the pictures that a preprocessing is tried on
_CLOSE = 1e-3  # the allowed error of a colour, as a share of the range from black to white
_NEAR = 0.01  # the allowed mean difference between two ways of resizing, as a share of the range


@dataclass(frozen=True)
class Preparation:
    """How a picture is preprocessed for a network, as far as that is known.

    Args:
        source: where the preprocessing comes from, in words.
        assumed: True if the network does not say how it was trained, so that the usual preprocessing is assumed.
        resize: the short side in pixels, (height, width), or "to cover the crop"; None if it is not resized or not known.
        crop: (height, width) cropped from the centre.
        interpolation: how the picture is resized.
        order: the order of the channels, "RGB", "BGR" or "grey"; None if not known.
        scale: the value of white before the mean is subtracted.
        mean, std: per channel; None if not known.
        steps: the preprocessing's own description, if the attributes above do not say everything.
        picture: the kind of picture that came, and how it was converted.
    """

    source: str
    assumed: bool
    resize: int | tuple[int, int] | str | None = None
    crop: tuple[int, int] | None = None
    interpolation: str | None = None
    order: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    steps: str | None = None
    picture: str | None = None

    @property
    def bgr(self) -> bool:
        """Whether the channels are blue, green, red."""
        return self.order == "BGR"

    def numbers(self) -> dict[str, Any]:
        """Return all attributes ready for JSON, with the sentence of `str` as `words`."""
        rows = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {**rows, "words": str(self)}

    def like(self, size: tuple[int, int], channels: int) -> Preprocess:
        """Return a `Preprocess` that does the same, as far as it is known, and crops to `size` if no size is set."""
        mean, std = self.mean or (0.0,) * channels, self.std or (1.0,) * channels
        fixed = isinstance(self.resize, tuple)
        resize: Any = None if isinstance(self.resize, str) else self.resize
        how: Any = self.interpolation or "bilinear"
        crop = self.crop if self.crop or fixed else size
        return Preprocess(crop, resize, mean, std, self.scale or 1.0, self.bgr, how)

    @property
    def done(self) -> str:
        """The preprocessing in words, without its source."""
        steps = [words for words in (self._framing(), self._values(), self.steps) if words]
        return "; ".join([*([self.picture] if self.picture else []), *(steps or ["taken as it is"])])

    def __str__(self) -> str:
        """Return the preprocessing and its source as one sentence."""
        return f"{self.done} ({'ASSUMED: ' if self.assumed else ''}{self.source})"

    def _framing(self) -> str:
        how = f" ({self.interpolation})" if self.interpolation and self.resize else ""
        to = self.resize
        resized = {int: f"short side to {to}{how}", str: f"resized{how} {to}"}.get(type(to), "")
        resized = f"resized to {_times(to)}{how}" if isinstance(to, tuple) else resized
        cut = f"middle {_times(self.crop)} cut out" if self.crop else ""
        return ", ".join(filter(None, (resized, cut)))

    def _values(self) -> str:
        if self.mean is None or self.std is None:
            return ""
        many = f"{len(self.mean)} channel{'s' if len(self.mean) > 1 else ''}"
        scaled = f", times {self.scale:g}" if self.scale not in (None, 1) else ""
        white = f"{self.order} from 0 to {self.scale:g}" if self.order else many + scaled
        if not any(self.mean) and set(self.std) == {1.0}:
            return white
        less = f", mean {_listed(self.mean)} subtracted" if any(self.mean) else ""
        return white + less + (f", divided by {_listed(self.std)}" if set(self.std) != {1.0} else "")


def preparation(preprocess: Callable[..., Any] | None, size: tuple[int, ...], source: str, assumed: bool) -> Preparation:
    """Describe a preprocessing by its own attributes, and by running it on plain colours.

    Args:
        size: (C, samples..) that the network takes.
        source: where the preprocessing comes from, in words.
        assumed: whether it is only assumed, as the usual one.

    Raises:
        ModelError: the preprocessing draws random numbers.
    """
    if preprocess is None:
        return Preparation(source, assumed)
    if isinstance(preprocess, Preprocess):
        resize = preprocess.resize or ("to cover the crop" if preprocess.size else None)
        order = {1: "grey", 3: "BGR" if preprocess.bgr else "RGB"}.get(len(preprocess.mean)) if len(size) == 3 else None
        how, values = preprocess.interpolation, (preprocess.scale, preprocess.mean, preprocess.std)
        return Preparation(source, assumed, resize, preprocess.size, how if resize else None, order, *values)
    channels = size[0]
    description = Preparation(source, assumed, **_framing(preprocess), **_colours(preprocess, channels))
    if _is_reproduced(preprocess, description, channels):
        return description
    # It does not do what its attributes suggest: only its own description and the colours found by running it are certain.
    return replace(description, resize=None, crop=None, interpolation=None, steps=own_words(preprocess))


def takes_colour(preprocess: Callable[..., Any]) -> bool:
    """Return whether a preprocessing converts to grey itself, so that it needs a picture in colour."""
    greys = any("Gray" in type(step).__name__ for step in parts(preprocess))
    return greys or bool(getattr(image_processor(preprocess), "do_grayscale", False))


def fixed_size(preprocess: Callable[..., Any], channels: int) -> tuple[int, ...] | None:
    """Return the size of a preprocessing's results; None if it depends on the picture.

    Raises:
        ModelError: the preprocessing draws random numbers.
    """
    if isinstance(preprocess, Preprocess):
        size = preprocess.size or (preprocess.resize if not isinstance(preprocess.resize, int) else None)
        return None if size is None else (len(preprocess.mean), *size)
    results = [_tried(preprocess, Image.new(_mode(preprocess, channels), size), channels) for size in (_TRIAL, _TRIAL[::-1])]
    if results[0] is None or results[1] is None or results[0].shape != results[1].shape:
        return None
    return tuple(results[0].shape)


def _mode(preprocess: Callable[..., Any], channels: int) -> str:
    return "L" if channels == 1 and not takes_colour(preprocess) else "RGB"


def _tried(preprocess: Callable[..., Any], picture: Image.Image, channels: int) -> Tensor | None:
    """Return a preprocessing's result for a test picture; None if it refuses the picture."""
    try:
        return transform(preprocess, picture, channels).float().cpu()
    except (PictureError, ShapeError, DtypeError):
        return None


def _is_reproduced(preprocess: Callable[..., Any], description: Preparation, channels: int) -> bool:
    """Return whether a `Preprocess` with the attributes found gives the same result for a picture of noise."""
    noise = torch.randint(0, 256, (300, 400, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    picture = Image.fromarray(noise).convert(_mode(preprocess, channels))
    theirs = _tried(preprocess, picture, channels)
    if theirs is None or description.mean is None or (description.order == "grey" and channels != 1):
        return False
    try:
        ours = replace(description.like((1, 1), channels), size=description.crop)(picture)
    except ShapeError:  # attributes that contradict each other
        return False
    span = ours.max() - ours.min()
    return ours.shape == theirs.shape and bool((ours - theirs).abs().mean() <= _NEAR * span)


def _framing(preprocess: Callable[..., Any]) -> dict[str, Any]:
    """Read from a preprocessing's own attributes how it resizes and crops."""
    processor = image_processor(preprocess)
    if processor is not None:
        size = getattr(processor, "size", None) if getattr(processor, "do_resize", False) else None
        crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
        return _framing_attributes(_edges(size), _edges(crop), getattr(processor, "resample", None))
    if hasattr(preprocess, "resize_size") or hasattr(preprocess, "crop_size"):  # torchvision's presets
        resize, crop = getattr(preprocess, "resize_size", None), getattr(preprocess, "crop_size", None)
        return _framing_attributes(resize, crop, getattr(preprocess, "interpolation", None))
    steps = {type(step).__name__: step for step in parts(preprocess)}
    resize, crop = steps.get("Resize"), steps.get("CenterCrop", steps.get("CenterCropOrPad"))
    # albumentations has height and width where torchvision has size.
    resize_to, crop_to = (getattr(step, "size", None) or _edges(step) for step in (resize, crop))
    resize_to = None if getattr(resize, "max_size", None) else resize_to
    return _framing_attributes(resize_to, crop_to, getattr(resize, "interpolation", None))


def _edges(size: Any) -> Any:
    """Return a size whose sides have names: one short side, or (height, width)."""
    named = {key: _entry(size, key) for key in ("shortest_edge", "longest_edge", "height", "width")}
    if named["height"] and named["width"]:
        return (named["height"], named["width"])
    return (
        None if named["longest_edge"] else named["shortest_edge"]
    )  # `Preparation` cannot describe a bound on the longest side


def _entry(size: Any, key: str) -> Any:
    return size.get(key) if isinstance(size, Mapping) else getattr(size, key, None)


def _framing_attributes(resize: Any, crop: Any, interpolation: Any) -> dict[str, Any]:
    """Return the sizes and the interpolation in the form of `Preparation`'s attributes."""
    resize, crop = ([n] if isinstance(n, int) else list(n or ()) for n in (resize, crop))
    # Some libraries give Pillow's number of a filter, not its name.
    how = getattr(interpolation, "name", interpolation)
    how = Image.Resampling(how).name if isinstance(how, int) and how in list(Image.Resampling) else how
    return {
        "resize": (resize[0] if len(resize) == 1 else tuple(resize)) if resize else None,
        "crop": (crop[0], crop[-1]) if crop else None,
        "interpolation": str(how).lower() if how is not None and resize else None,
    }


def _colours(preprocess: Callable[..., Any], channels: int) -> dict[str, Any]:
    """Find the order, mean and std of the channels by running plain colours through; {} if the map of colours is not affine."""
    results = [_tried(preprocess, Image.new("RGB", _TRIAL, c).convert(_mode(preprocess, channels)), channels) for c in _COLOURS]
    if channels not in (1, 3) or any(image is None or image.ndim != 3 for image in results):
        return {}
    # The sample in the middle, since some transforms pad the edges.
    black, *others = (image[:, image.shape[1] // 2, image.shape[2] // 2].double() for image in results if image is not None)
    # Column by column what red, green and blue add to black. White, grey and a mixture must follow from these three.
    mixes = torch.stack([colour - black for colour in others[:3]], 1)
    span = mixes.sum(1)
    predicted = [black + mixes @ torch.tensor(colour).double() / 255 for colour in _COLOURS[4:]]
    # The tolerance is wide, since a conversion to grey rounds to 8 bits before anything else is done.
    error = max(float((result - expected).abs().max()) for result, expected in zip(others[3:], predicted, strict=True))
    if not torch.isfinite(mixes).all() or (span.abs() < 1e-9).any() or error > 0.01 * float(span.abs().max()):
        return {}
    shares = mixes / span[:, None]
    order = next((name for name, share in _orders(channels) if (shares - share).abs().max() < 0.01), None)
    if order is None:
        return {}
    std = 1 / span
    return {"order": order, **_declared(preprocess, (-black * std).tolist(), std.tolist())}


def _orders(channels: int) -> Iterator[tuple[str, Tensor]]:
    """Yield each order of channels with its (channels, 3) shares of red, green and blue."""
    if channels == 3:
        yield "RGB", torch.eye(3).double()
        yield "BGR", torch.eye(3).double().flip(0)
    yield "grey", torch.tensor([0.299, 0.587, 0.114]).double().expand(channels, 3)


def _declared(preprocess: Callable[..., Any], mean: list[float], std: list[float]) -> dict[str, Any]:
    """Return the scale, mean and std that a preprocessing declares if they agree with those found; otherwise those found."""
    for scale, *declared in _declarations(preprocess, len(mean)):
        rows = (torch.as_tensor(values).flatten().tolist() for values in declared)
        means, stds = (tuple(float(f"{n:.6g}") for n in row) for row in rows)
        same_length = len(means) == len(mean) and len(stds) == len(std)
        pairs = [*zip(means, mean, strict=same_length), *zip(stds, std, strict=same_length)]
        if same_length and all(abs(own / scale - measured) < _CLOSE * max(std) for own, measured in pairs):
            return {"scale": scale, "mean": means, "std": stds}
    # No declaration agrees. A std of about 1 / 255 belongs to samples of 0 to 255.
    scale = 255.0 if max(map(abs, std)) < 0.02 else 1.0
    rounded = (tuple(round(n * scale, 6) + 0.0 for n in values) for values in (mean, std))
    return dict(zip(("scale", "mean", "std"), (scale, *rounded), strict=True))


def _declarations(preprocess: Callable[..., Any], channels: int) -> Iterator[tuple[float, Any, Any]]:
    """Yield each (scale, mean, std) that the attributes of a preprocessing and of its steps declare, then the plain ones."""
    plain = ([0.0] * channels, [1.0] * channels)
    processor = image_processor(preprocess)
    if processor is not None:
        scale = 255 * float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else 255.0
        normal = getattr(processor, "do_normalize", False)
        yield (round(scale, 9), *((processor.image_mean, processor.image_std) if normal else plain))
    for step in parts(preprocess):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            yield from ((scale, mean, std) for scale in (255.0 / getattr(step, "max_pixel_value", 255.0), 255.0))
    yield from ((scale, *plain) for scale in (1.0, 255.0))


def _times(lengths: Sequence[int] | None) -> str:
    return " × ".join(map(str, lengths or ()))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in (values if len(set(values)) > 1 else values[:1]))
