"""Run the transforms of other libraries on a picture, and make one image (C, H, W) of whatever they return.

torchvision's and timm's take a picture, Hugging Face's image processors and albumentations' take it by name; they return
tensors, arrays, dictionaries or batches.
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
_LONGEST = 300  # characters of a transform's own words


def transform(preprocess: Callable[..., Any], picture: Image.Image | Tensor, channels: int, axes: int = 2) -> Tensor:
    """Return what a preprocessing makes of a picture: one floating image (C, samples..).

    Args:
        channels: that the network takes.
        axes: of its images, besides channels.

    Raises:
        ModelError: it draws random numbers, as transforms for training do.
        PictureError: it fails.
        ShapeError, DtypeError: it returns no such image.
    """
    if isinstance(preprocess, Preprocess):
        made = preprocess.samples(picture) if isinstance(picture, Tensor) else preprocess(picture)
    else:
        made = one_image(_ran(preprocess, picture), name_of(preprocess), channels, axes)
    if made.shape[0] != channels:
        raise ShapeError(
            f"preprocess: {name_of(preprocess)} made {tuple(made.shape)} of a picture, but the network takes {channels} "
            "channels, which stand first. Pass a preprocessing that makes them, or input_size if the network takes others."
        )
    return made


def name_of(preprocess: Any) -> str:
    """Return what a message calls a preprocessing."""
    return str(getattr(preprocess, "__name__", type(preprocess).__name__))


def own_words(preprocess: Any) -> str:
    """Return a preprocessing's own words for itself, in one line and not too long."""
    text = " ".join(repr(preprocess).split())
    if " at 0x" in text or "<function" in text:
        text = str(getattr(preprocess, "__qualname__", type(preprocess).__qualname__)).replace("<locals>.", "")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}.."


def parts(preprocess: Any) -> list[Any]:
    """Return the steps that a transform is composed of; itself if it is not."""
    inner = getattr(preprocess, "transforms", None)
    if isinstance(preprocess, torch.nn.Sequential):
        inner = list(preprocess)
    if not isinstance(inner, list | tuple | torch.nn.ModuleList):
        return [preprocess]
    return [step for each in inner for step in parts(each)]


def image_processor(preprocess: Any) -> Any:
    """Return Hugging Face's image processor that this is, or has; None if there is none."""
    kinds = {kind.__name__ for kind in type(preprocess).__mro__}
    if "ProcessorMixin" in kinds:
        return getattr(preprocess, "image_processor", None)
    return preprocess if "ImageProcessingMixin" in kinds else None


def one_image(made: Any, name: str, channels: int, axes: int) -> Tensor:
    """Return the image in what a transform returned: out of a dictionary or batch, channels first.

    Raises:
        ShapeError, DtypeError: there is none, or more than one.
    """
    where, wanted = f"preprocess: {name} returned", f"one floating tensor ({', '.join('C' + 'DHW'[-axes:])})"
    while not isinstance(made, Tensor | np.ndarray):
        made = _within(made, where, wanted)
    if isinstance(made, Tensor):
        image = made
    else:
        if made.dtype.kind not in "buif":
            raise DtypeError(f"{where} an array of {made.dtype}, but {wanted} was needed.")
        image = torch.from_numpy(np.ascontiguousarray(made))
        image = image[None] if image.ndim == axes and channels == 1 else image
        if image.ndim == axes + 1 and len(image) != channels and image.shape[-1] == channels:
            image = image.movedim(-1, 0)  # arrays are written channels last
    while image.ndim > axes + 1 and len(image) == 1:
        image = image[0]
    if image.ndim != axes + 1 or 0 in image.shape:
        many = f", a batch of {len(image)}" if image.ndim == axes + 2 else ""
        raise ShapeError(f"{where} {tuple(image.shape)}{many}, but {wanted} was needed. Have it return one image.")
    if not image.is_floating_point():
        raise DtypeError(
            f"{where} samples of {image.dtype}, but {wanted} was needed. Have it scale them: ToTensor(), "
            "ToDtype(torch.float32, scale=True), do_rescale=True, or Normalize."
        )
    return image.detach()


def _within(made: Any, where: str, wanted: str) -> Any:
    """Return what of a dictionary, or the only thing of a list, is the image."""
    if isinstance(made, Mapping):
        arrays = {key: value for key, value in made.items() if isinstance(value, Tensor | np.ndarray | list | tuple)}
        key = next((key for key in _IMAGE_KEYS if key in arrays), None)
        if key is None and len(arrays) != 1:
            raise ShapeError(
                f"{where} {', '.join(map(str, made)) or 'nothing'}, but one called {', '.join(_IMAGE_KEYS)} was needed. "
                "Pass a function that picks the image."
            )
        return arrays[key] if key is not None else next(iter(arrays.values()))
    if isinstance(made, list | tuple):
        if len(made) != 1:
            raise ShapeError(f"{where} {len(made)} things, but {wanted} was needed. Pass a function that picks the image.")
        return made[0]
    hint = "End it with ToTensor()" if isinstance(made, Image.Image) else "Pass a function that does"
    raise DtypeError(
        f"{where} {'a picture' if isinstance(made, Image.Image) else type(made).__name__}, but {wanted} was needed. {hint}."
    )


def _ran(preprocess: Callable[..., Any], picture: Image.Image | Tensor) -> Any:
    """Return what a transform makes of a picture, without chance: drawing numbers is seen, and so are two unlike runs."""
    before = torch.random.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state(legacy=False))
    made = _called(preprocess, picture)
    after = random.getstate(), pickle.dumps(np.random.get_state(legacy=False))
    drawn = after != before[1:] or not torch.equal(torch.random.get_rng_state(), before[0])
    if drawn:
        torch.random.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(pickle.loads(before[2]))
    # Libraries with generators of their own leave those as they were: what happens by chance says so, or differs.
    chances = [getattr(step, "p", None) for step in parts(preprocess)]
    by_chance = any(isinstance(chance, float) and 0 < chance < 1 for chance in chances)
    if drawn or by_chance or not _same(made, _called(preprocess, picture)):
        raise ModelError(
            f"preprocess: {name_of(preprocess)} draws random numbers, as transforms for training do, so that no two runs see "
            f"the same picture ({own_words(preprocess)}). Pass the transform that is used for evaluation."
        )
    return made


def _called(preprocess: Any, picture: Image.Image | Tensor) -> Any:
    """Call a transform as its library does."""
    processor = image_processor(preprocess)
    if processor is not None:
        call: Any = processor
        named: dict[str, Any] = {"images": picture, "return_tensors": "pt"}
    elif type(preprocess).__module__.partition(".")[0] == "albumentations":
        array = np.asarray(picture) if isinstance(picture, Image.Image) else picture.movedim(0, -1).numpy()
        call, named = preprocess, {"image": array}
    else:
        call, named = preprocess, {}
    try:
        return call(**named) if named else call(picture)
    except UnconvError:
        raise
    except Exception as error:  # whatever a transform has against the picture
        what = (str(error) or type(error).__name__).splitlines()[0]
        came = f"a picture, {picture.mode}, {picture.size}" if isinstance(picture, Image.Image) else shown(picture)
        raise PictureError(
            f"preprocess: {name_of(preprocess)} failed on {came}: {what}. "
            "Pass a function from a PIL picture to a tensor (C, H, W)."
        ) from error


def _same(one: Any, other: Any) -> bool:
    """Say whether two results hold the same samples."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor | np.ndarray) and isinstance(other, Tensor | np.ndarray):
        first, second = (torch.as_tensor(values).detach() for values in (one, other))
        return first.shape == second.shape and bool(torch.allclose(first, second, 0, 0, equal_nan=True))
    return True  # a picture or a word, which is refused anyway
