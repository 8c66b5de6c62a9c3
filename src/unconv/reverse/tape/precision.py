"""Keep float32 at full precision, on a GPU and under autocast too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 convolutions in float32; put torch's settings back afterwards.

    By default torch lets cuDNN round the factors to ten bits (TF32) on a GPU. That is enough to name a class, but a rounded
    forward pass chooses other switches: a projection of VGG16's features.29 was off by 10 % of its largest value.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    settings: list[tuple[Any, str, Any]] = [(cudnn, "allow_tf32", False)]
    if hasattr(cudnn, "conv"):  # since torch 2.9; both, as torch cannot read `allow_tf32` where the two differ
        settings = [(cudnn.conv, "fp32_precision", "ieee"), (cudnn.rnn, "fp32_precision", "ieee")]
    before = [getattr(owner, name) for owner, name, _ in settings]
    try:
        for owner, name, full in settings:
            setattr(owner, name, full)
        yield
    finally:
        for (owner, name, _), value in zip(settings, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def own_types(device: torch.device) -> Iterator[None]:
    """Compute in the types that tensors have: autocast, which a network may need to run, would round our signals."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield
