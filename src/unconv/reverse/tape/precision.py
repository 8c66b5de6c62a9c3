"""float32 means float32, on a GPU and under autocast, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions in float32 are computed in it; afterwards torch's settings are as they were.

    On a GPU torch lets cuDNN round their factors to ten bits (TF32) unless told not to. That is enough for a class, but
    a rounded forward pass chooses other switches: of VGG16's features.29 a projection was off by 10 % of its largest value.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    settings: list[tuple[Any, str, Any]] = [(cudnn, "allow_tf32", False)]
    if hasattr(cudnn, "conv"):  # since torch 2.9; both, as torch refuses to tell one flag for two settings
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
    """Compute in the types that tensors have: autocast, which a network may need to run in, would round what is ours."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield
