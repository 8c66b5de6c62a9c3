"""An opened model, and the import of the optional libraries that open one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor, nn

from unconv.errors import UnconvError

Preprocessing = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Opened:
    """A model ready to run, with its preprocessing and where its weights came from.

    Args:
        weights: where its weights came from, in words.
        classes: the names of its last layer's channels; () if unknown.
        notes: what was changed so that the weights fit, in sentences.
        trained_with: where `preprocess` comes from, in words, if these weights were trained with it; otherwise "".
        guess: where it comes from if that is not known of these weights.
    """

    module: nn.Module
    name: str
    weights: str
    preprocess: Preprocessing | None
    input_size: tuple[int, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    trained_with: str = ""
    guess: str = ""


def library(name: str, extra: str) -> Any:
    """Import and return the library `name`, which one of unconv's extras installs.

    Raises:
        UnconvError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnconvError(
            f"load: {name} cannot be imported ({error}), but this model needs it. "
            f'Install it with pip install "unconv[{extra}]".'
        ) from error
