"""Live torch modules and live Keras models: wrappers are removed, and anything else is refused with what to pass instead."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import DtypeError, ModelError, counted
from unconv.kinds import shown
from unconv.networks.keras.graph import as_torch_module
from unconv.networks.keras.opening import input_size as keras_input_size
from unconv.networks.keras.opening import is_keras, open_keras_live
from unconv.networks.opened import Opened
from unconv.networks.weights import with_weights

SIZE = (3, 224, 224)
"""The input size assumed for a network that does not state its own."""


def is_live(spec: Any) -> bool:
    """Say whether `spec` is itself a model, not the name of one.

    Raises:
        UnconvError: it is a Keras model on another backend than torch.
    """
    return is_keras(spec) or isinstance(spec, nn.Module) or is_exported(spec)


def open_live(model: Any, weights: str | None) -> Opened:
    """Open a live model without its wrappers; weights from a file are written into it."""
    if is_keras(model):
        return open_keras_live(model, weights)
    module = unwrap(model)
    opened = Opened(module, type(module).__name__, "as given", None, input_size(model))
    return with_weights(opened, weights, own=False) if weights else opened


def unwrap(module: Any) -> nn.Module:
    """Return the plain module inside DataParallel, torch.compile or weight averaging.

    A Keras model is rewritten as a torch module. An exported program becomes modules with their original names.
    """
    if is_keras(module):
        return as_torch_module(module)
    if is_exported(module):
        return _unflatten(module)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    inner = module.module if isinstance(module, wrappers) else getattr(module, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return unwrap(inner)
    assert isinstance(module, nn.Module)
    return module


def is_exported(model: Any) -> bool:
    """Say whether `model` is a program of `torch.export`; that package is not imported to find out."""
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(model, getattr(export, "ExportedProgram", ()))


def _unflatten(program: Any) -> nn.Module:
    """Return an exported program as modules with their original names."""
    try:
        module: nn.Module = torch.export.unflatten(program)
    except Exception as error:  # torch's own tools raise anything for a program they cannot unflatten
        raise ModelError(
            f"Network: the exported program cannot be taken apart into modules ({error}). "
            "Pass the nn.Module that it was exported from."
        ) from error
    return module


def input_size(model: Any) -> tuple[int, ...]:
    """Return (C, samples..) of a Keras model or an exported program; `SIZE` for any other model."""
    if is_keras(model):
        return keras_input_size(model)
    if not is_exported(model):
        return SIZE
    inputs = set(model.graph_signature.user_inputs)
    shapes = [node.meta["val"].shape for node in model.graph.nodes if node.op == "placeholder" and node.name in inputs]
    lengths = [length if isinstance(length, int) else SIZE[-1] for length in shapes[0][1:]] if shapes else []
    return tuple(lengths) if len(lengths) > 1 else SIZE


def refuse_other(where: str, model: Any) -> None:
    """Refuse anything that is not a model, and say what to pass instead.

    Raises:
        DtypeError: `model` is not a module.
    """
    if not is_live(model):
        raise DtypeError(f"{where}: {_describe(model)} came, but a torch.nn.Module was needed. {_remedy(model)}")


def is_state_dict(value: Any) -> bool:
    """Say whether this is a dictionary of tensors."""
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(entry, Tensor) for entry in value.values())


def _describe(model: Any) -> str:
    if is_state_dict(model):
        return f"a state dict of {counted(len(model), 'tensor')}"
    if isinstance(model, Mapping | tuple | list):
        return f"a {type(model).__name__} of {counted(len(model), 'item')}"
    if inspect.isroutine(model):
        return f"the function {model.__name__}"
    if isinstance(model, functools.partial):
        return "a functools.partial"
    return shown(model)


def _remedy(model: Any) -> str:
    if isinstance(model, type):
        return f"Create an instance and load its weights: model = {model.__name__}(..), model.load_state_dict(..)."
    if isinstance(model, Mapping) and any(isinstance(value, nn.Module) for value in model.values()):
        return "Pass the module in it that takes the image."
    if isinstance(model, Mapping):
        return (
            "These are weights: build the network they belong to and load them with model.load_state_dict(..). "
            'For weights in a file, name the network: unconv.load("torchvision:resnet18", "FILE.pth").'
        )
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        return f"Open a name with unconv.load({str(model)!r}); pass a weights file second, after the network's name."
    if isinstance(model, tuple | list):
        return "Pass the module in it that takes the image, or nn.Sequential(*modules)."
    if callable(model):
        return (
            "If it builds a network, call it and pass the result. If it is a forward pass, wrap it in a class: "
            "class Mine(torch.nn.Module), whose forward(self, x) calls it."
        )
    return "Pass a module, or open a network by name with unconv.load."
