"""An opened model, and the import of the libraries that open one."""

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
    """A model ready to run, and what belongs to it.

    Args:
        weights: where its weights came from, in words.
        classes: what its last layer's channels are called; () if unknown.
        notes: what was done so that the weights fit, in sentences.
        trained_with: whose preprocessing `preprocess` is, in words, if it is the one that these weights were trained with.
        guess: whose it is otherwise.
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
    """Import the library called `name`, which comes with an extra of ours.

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
