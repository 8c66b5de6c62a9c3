"""Live modules of torch and live Keras models."""

from __future__ import annotations

from typing import Any

from torch import nn

from unconv.networks.keras.graph import adapted
from unconv.networks.keras.opening import is_keras, open_keras_live
from unconv.networks.opened import Opened
from unconv.networks.weights import loaded


def is_live(spec: Any) -> bool:
    """Say whether `spec` is a model itself, and not the name of one.

    Raises:
        UnconvError: it is a Keras model on another backend than torch.
    """
    return is_keras(spec) or isinstance(spec, nn.Module)


def open_live(model: Any, weights: str | None) -> Opened:
    """Open a live model as it is, without its wrappers; weights from a file are written into it."""
    if is_keras(model):
        return open_keras_live(model, weights)
    opened = Opened(unwrap(model), type(model).__name__, "as given", None, (3, 224, 224))
    return loaded(opened, weights, own=False) if weights else opened


def unwrap(module: nn.Module) -> nn.Module:
    """Take DataParallel and torch.compile off a model; write a Keras model anew as a module that torch can follow."""
    if is_keras(module):
        return adapted(module)
    wrapped = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
    inner = module.module if wrapped else getattr(module, "_orig_mod", None)
    return unwrap(inner) if isinstance(inner, nn.Module) else module
