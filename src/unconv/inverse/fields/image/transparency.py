"""Treat transparent samples as missing: their colour is arbitrary, and must not affect the others."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unconv.errors import NonFinite
from unconv.pictures.measured import Measured


def without_hidden(picture: Measured) -> Measured:
    """Return the picture with its fully transparent samples set to NaN; unchanged if there are none.

    Raises:
        NonFinite: all samples are transparent.
    """
    if picture.alpha is None or not bool((picture.alpha == 0).any()):
        return picture
    if not bool((picture.alpha != 0).any()):
        raise NonFinite(
            "deblur: every sample of the picture is transparent, but some must be visible. Remove its alpha channel."
        )
    return replace(picture, samples=picture.samples.masked_fill(picture.alpha == 0, float("nan")))


def put_back(samples: Tensor, original: Tensor, alpha: Tensor | None) -> Tensor:
    """Return the result with its fully transparent samples replaced by the original ones."""
    return samples if alpha is None else torch.where(alpha == 0, original, samples)
