"""Explain why an image and a network do not fit together, and how to call or wrap the network instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

from torch import nn

from unconv.errors import DtypeError, ModelError

_WRAPPER = """

class Wrapped(torch.nn.Module):
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, x): return self.model({})

network = unconv.Network(Wrapped(model))"""

_OF_DICTIONARIES = r"has no attribute|too many indices|only integers, slices|invalid data type 'str'|indices must be"
_OF_LISTS = r"must be tuple of Tensors|not enough values to unpack|to be a list|must be a list|a list of|should be a list"


def refuse_collection(image: Any) -> None:
    """Refuse several images, or one among other inputs, and say how to pass them.

    Raises:
        DtypeError: `image` is a list, a dictionary or the like.
    """
    # A dictionary is also a collection, but its remedy depends on whether forward takes it apart, so it comes first.
    if isinstance(image, Mapping):
        names = [str(name) for name in image]
        one = names[0] if names else "image"
        raise DtypeError(
            f"image: a {type(image).__name__} of {', '.join(names[:4]) or 'nothing'} came, but one image was needed. Pass "
            f'image[{one!r}] alone. If forward has that as an argument: unconv.Network(model, argument="{one}", '
            "others={..}), where others are the rest. If forward takes the dictionary as it is, wrap the model:"
            + wrapper(f'{{"{one}": x}}')
        )
    if isinstance(image, Sequence | set | frozenset | Iterator) and not isinstance(image, str | bytes):
        count = f"of {len(image)} " if isinstance(image, Sized) else ""
        raise DtypeError(
            f"image: a {type(image).__name__} {count}came, but one image was needed. Pass each by itself, or all in a list "
            "to network.stream(images, places). Pass numbers in lists as numpy.array(image). If the model takes a list of "
            "images, wrap it:" + wrapper("[x[0]]")
        )


def wrapper(argument: str) -> str:
    """Return the Python code of a module that calls `model` with `argument`, where `x` is a batch of one image."""
    return _WRAPPER.replace("{}", argument)


def failed(
    name: str, module: nn.Module, shape: Sequence[int], input_size: Sequence[int], error: Exception
) -> ModelError | None:
    """Return an explanation of an error that a network raised on an image; None if it was not called in a wrong way."""
    text = str(error)
    if isinstance(error, ImportError):
        return ModelError(
            f"record: {name} imports a module while it runs, and fails: {text}. Import it at the top of its file."
        )
    if isinstance(error, AttributeError) and "'Tensor' object has no attribute" not in text:
        return None
    if isinstance(error, KeyError) and not _takes_any_name(module):
        return None
    what = (text or type(error).__name__).splitlines()[0].rstrip(".")
    way_out = _way_out(module, error, text) or f"Is that the size it was made for? (input_size is {tuple(input_size)})"
    return ModelError(f"record: {name} failed on an image of {tuple(shape)}: {what}. {way_out}")


def _way_out(module: nn.Module, error: Exception, text: str) -> str | None:
    """Return how to call a module instead, if an error came from a wrong call."""
    if 'missing the required "forward" function' in text:
        return "It has no forward: pass the module in it that takes the image, or nn.Sequential(*modules)."
    missing = re.search(r"forward\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.*)", text)
    if missing:
        return f"Pass its other arguments by name: unconv.Network(model, others={{..}}), here {missing[1]}."
    if re.search(r"forward\(\) takes \d+ positional arguments? but \d+ were given", text) or isinstance(error, KeyError):
        return 'Say which argument of its forward is the image: unconv.Network(model, argument="pixel_values").'
    hint = _annotation(module)
    if "dict" in hint or isinstance(error, AttributeError) or re.search(_OF_DICTIONARIES, text):
        return "If its forward takes a dictionary, wrap it, with the name that it looks for:" + wrapper('{"image": x}')
    if "list" in hint or re.search(_OF_LISTS, text):
        return "If its forward takes a list of images, wrap it:" + wrapper("[x[0]]")
    return None


def _takes_any_name(module: nn.Module) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(module))


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # a forward in C++
        return []


def _annotation(module: nn.Module) -> str:
    """Return the annotation of the first argument of a module's forward, in lower case."""
    first = next(iter(_parameters(module)), None)
    return "" if first is None or first.annotation is first.empty else str(first.annotation).lower()
