"""Run other libraries' transforms on a picture, and extract one image (C, H, W) from whatever they return.

torchvision's and timm's transforms take the picture as their argument; Hugging Face's image processors and albumentations
take it by keyword. They return tensors, arrays, dictionaries or batches.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unconv.errors import DtypeError, ModelError, PictureError, ShapeError, UnconvError
from unconv.kinds import shown
from unconv.pictures.preprocess import Preprocess

_IMAGE_KEYS = ("pixel_values", "image", "images", "img", "inputs", "input", "x")
_LONGEST = 300  # characters of a transform's own description


def transform(preprocess: Callable[..., Any], picture: Image.Image | Tensor, channels: int, axes: int = 2) -> Tensor:
    """Return a picture as a preprocessing transforms it: one floating image (C, samples..).

    Args:
        channels: the number of channels that the network takes.
        axes: the number of axes of its images besides the channels.

    Raises:
        ModelError: the preprocessing draws random numbers, as transforms for training do.
        PictureError: it fails.
        ShapeError, DtypeError: it does not return such an image.
    """
    if isinstance(preprocess, Preprocess):
        image = preprocess.samples(picture) if isinstance(picture, Tensor) else preprocess(picture)
    else:
        image = one_image(_ran(preprocess, picture), name_of(preprocess), channels, axes)
    if image.shape[0] != channels:
        raise ShapeError(
            f"preprocess: {name_of(preprocess)} returned {tuple(image.shape)} for a picture, but the network takes {channels} "
            "channels, which come first. Pass a preprocessing that returns them, or input_size if the network takes others."
        )
    return image


def name_of(preprocess: Any) -> str:
    """Return the name of a preprocessing for messages."""
    return str(getattr(preprocess, "__name__", type(preprocess).__name__))


def own_words(preprocess: Any) -> str:
    """Return a preprocessing's own description (its `repr`), in one line and cut to a readable length."""
    text = " ".join(repr(preprocess).split())
    # The repr of a function holds its address, which differs from run to run.
    if " at 0x" in text or "<function" in text:
        text = str(getattr(preprocess, "__qualname__", type(preprocess).__qualname__)).replace("<locals>.", "")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}.."


def parts(preprocess: Any) -> list[Any]:
    """Return the steps of a composed transform; for any other, a list of itself."""
    inner = getattr(preprocess, "transforms", None)
    if isinstance(preprocess, torch.nn.Sequential):
        inner = list(preprocess)
    if not isinstance(inner, list | tuple | torch.nn.ModuleList):
        return [preprocess]
    return [step for each in inner for step in parts(each)]


def image_processor(preprocess: Any) -> Any:
    """Return the Hugging Face image processor that `preprocess` is or holds; None if there is none."""
    # By the names of its classes: transformers is not imported to find out.
    kinds = {kind.__name__ for kind in type(preprocess).__mro__}
    if "ProcessorMixin" in kinds:
        return getattr(preprocess, "image_processor", None)
    return preprocess if "ImageProcessingMixin" in kinds else None


def one_image(result: Any, name: str, channels: int, axes: int) -> Tensor:
    """Return the one image in a transform's result, taken out of a dictionary or batch, channels first.

    Raises:
        ShapeError, DtypeError: there is none, or more than one.
    """
    where, expected = f"preprocess: {name} returned", f"one floating tensor ({', '.join('C' + 'DHW'[-axes:])})"
    while not isinstance(result, Tensor | np.ndarray):
        result = _within(result, where, expected)
    if isinstance(result, Tensor):
        image = result
    else:
        if result.dtype.kind not in "buif":
            raise DtypeError(f"{where} an array of {result.dtype}, but {expected} was needed.")
        image = torch.from_numpy(np.ascontiguousarray(result))
        # Grey pictures as arrays often come without a channel axis.
        image = image[None] if image.ndim == axes and channels == 1 else image
        if image.ndim == axes + 1 and len(image) != channels and image.shape[-1] == channels:
            image = image.movedim(-1, 0)  # arrays are written channels last
    while image.ndim > axes + 1 and len(image) == 1:
        image = image[0]
    if image.ndim != axes + 1 or 0 in image.shape:
        many = f", a batch of {len(image)}" if image.ndim == axes + 2 else ""
        raise ShapeError(f"{where} {tuple(image.shape)}{many}, but {expected} was needed. Have it return one image.")
    if not image.is_floating_point():
        raise DtypeError(
            f"{where} samples of {image.dtype}, but {expected} was needed. Have it scale them: ToTensor(), "
            "ToDtype(torch.float32, scale=True), do_rescale=True, or Normalize."
        )
    return image.detach()


def _within(result: Any, where: str, expected: str) -> Any:
    """Return the image in a dictionary, or the only entry of a list."""
    if isinstance(result, Mapping):
        arrays = {key: value for key, value in result.items() if isinstance(value, Tensor | np.ndarray | list | tuple)}
        key = next((key for key in _IMAGE_KEYS if key in arrays), None)
        if key is None and len(arrays) != 1:
            raise ShapeError(
                f"{where} a dictionary of {', '.join(map(str, result)) or 'nothing'}, but one of the keys "
                f"{', '.join(_IMAGE_KEYS)} was needed. Pass a function that picks the image."
            )
        return arrays[key] if key is not None else next(iter(arrays.values()))
    if isinstance(result, list | tuple):
        if len(result) != 1:
            raise ShapeError(
                f"{where} a {type(result).__name__} of {len(result)}, but {expected} was needed. "
                "Pass a function that picks the image."
            )
        return result[0]
    kind = "a picture" if isinstance(result, Image.Image) else type(result).__name__
    hint = "End it with ToTensor()" if isinstance(result, Image.Image) else "Pass a function that returns one"
    raise DtypeError(f"{where} {kind}, but {expected} was needed. {hint}.")


def _ran(preprocess: Callable[..., Any], picture: Image.Image | Tensor) -> Any:
    """Return a transform's result; refuse one that draws random numbers or returns something else on a second run."""
    before = torch.random.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state(legacy=False))
    result = _called(preprocess, picture)
    after = random.getstate(), pickle.dumps(np.random.get_state(legacy=False))
    has_drawn = after != before[1:] or not torch.equal(torch.random.get_rng_state(), before[0])
    if has_drawn:  # the caller's own random numbers go on as if nothing had been drawn
        torch.random.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(pickle.loads(before[2]))
    # Libraries with generators of their own leave the three above alone. Their random steps have a probability p, or the
    # second run returns something else.
    chances = [getattr(step, "p", None) for step in parts(preprocess)]
    by_chance = any(isinstance(chance, float) and 0 < chance < 1 for chance in chances)
    if has_drawn or by_chance or not _same(result, _called(preprocess, picture)):
        raise ModelError(
            f"preprocess: {name_of(preprocess)} draws random numbers, as transforms for training do, so each run would see "
            f"another picture ({own_words(preprocess)}). Pass the transform for evaluation."
        )
    return result


def _called(preprocess: Any, picture: Image.Image | Tensor) -> Any:
    """Return the result of a transform, called with the arguments that its library uses."""
    processor = image_processor(preprocess)
    if processor is not None:
        function: Any = processor
        keywords: dict[str, Any] = {"images": picture, "return_tensors": "pt"}
    elif type(preprocess).__module__.partition(".")[0] == "albumentations":
        array = np.asarray(picture) if isinstance(picture, Image.Image) else picture.movedim(0, -1).numpy()
        function, keywords = preprocess, {"image": array}
    else:
        function, keywords = preprocess, {}
    try:
        return function(**keywords) if keywords else function(picture)
    except UnconvError:
        raise
    except Exception as error:  # a transform may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        description = f"a picture, {picture.mode}, {picture.size}" if isinstance(picture, Image.Image) else shown(picture)
        raise PictureError(
            f"preprocess: {name_of(preprocess)} failed on {description}: {reason}. "
            "Pass a function from a PIL picture to a tensor (C, H, W)."
        ) from error


def _same(one: Any, other: Any) -> bool:
    """Return whether two results hold the same samples."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor | np.ndarray) and isinstance(other, Tensor | np.ndarray):
        first, second = (torch.as_tensor(values).detach() for values in (one, other))
        return first.shape == second.shape and bool(torch.allclose(first, second, 0, 0, equal_nan=True))
    return True  # a picture or text, which is refused later
