"""Transparent samples: what colour they have is an accident of the program that wrote them, and must not blur into others."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unconv.errors import NonFinite
from unconv.pictures.measured import Measured


def without_hidden(given: Measured) -> Measured:
    """Return the picture in which samples count as missing that are wholly transparent; as it is where none are.

    Raises:
        NonFinite: all of them are.
    """
    if given.alpha is None or not bool((given.alpha == 0).any()):
        return given
    if not bool((given.alpha != 0).any()):
        raise NonFinite("deblur: all of the picture is transparent, and nothing of it is to be seen. Leave its alpha out.")
    return replace(given, samples=given.samples.masked_fill(given.alpha == 0, float("nan")))


def put_back(samples: Tensor, came: Tensor, alpha: Tensor | None) -> Tensor:
    """Return a result in which wholly transparent samples are those that came."""
    return samples if alpha is None else torch.where(alpha == 0, came, samples)
