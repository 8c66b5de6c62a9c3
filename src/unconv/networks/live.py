"""Live modules of torch and live Keras models: wrappers are taken off, and what is no module is refused in words."""

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
from unconv.networks.keras.graph import adapted
from unconv.networks.keras.opening import input_size as keras_input_size
from unconv.networks.keras.opening import is_keras, open_keras_live
from unconv.networks.opened import Opened
from unconv.networks.weights import loaded

SIZE = (3, 224, 224)
"""The input size of a network that does not say its own."""


def is_live(spec: Any) -> bool:
    """Say whether `spec` is a model itself, and not the name of one.

    Raises:
        UnconvError: it is a Keras model on another backend than torch.
    """
    return is_keras(spec) or isinstance(spec, nn.Module) or is_exported(spec)


def open_live(model: Any, weights: str | None) -> Opened:
    """Open a live model as it is, without its wrappers; weights from a file are written into it."""
    if is_keras(model):
        return open_keras_live(model, weights)
    module = unwrap(model)
    opened = Opened(module, type(module).__name__, "as given", None, input_size(model))
    return loaded(opened, weights, own=False) if weights else opened


def unwrap(module: Any) -> nn.Module:
    """Take DataParallel, torch.compile and averaging off a model.

    A Keras model is written anew as a module that torch can follow, an exported program as one with the modules' names.
    """
    if is_keras(module):
        return adapted(module)
    if is_exported(module):
        return _unflattened(module)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    inner = module.module if isinstance(module, wrappers) else getattr(module, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return unwrap(inner)
    assert isinstance(module, nn.Module)
    return module


def is_exported(model: Any) -> bool:
    """Say whether this is a program that `torch.export` made; its package is not imported for it."""
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(model, getattr(export, "ExportedProgram", ()))


def _unflattened(program: Any) -> nn.Module:
    """Return an exported program as modules, with the names that they had before."""
    try:
        module: nn.Module = torch.export.unflatten(program)
    except Exception as error:  # whatever torch's own tools have against a program
        raise ModelError(
            f"Network: the exported program cannot be taken apart into modules ({error}). "
            "Pass the nn.Module that it was exported from."
        ) from error
    return module


def input_size(model: Any) -> tuple[int, ...]:
    """Return the (C, samples..) of a Keras model or an exported program; `SIZE` of any other."""
    if is_keras(model):
        return keras_input_size(model)
    if not is_exported(model):
        return SIZE
    inputs = set(model.graph_signature.user_inputs)
    shapes = [node.meta["val"].shape for node in model.graph.nodes if node.op == "placeholder" and node.name in inputs]
    lengths = [length if isinstance(length, int) else SIZE[-1] for length in shapes[0][1:]] if shapes else []
    return tuple(lengths) if len(lengths) > 1 else SIZE


def refuse_other(where: str, model: Any) -> None:
    """Refuse what is no module, with what to pass instead.

    Raises:
        DtypeError: it is none.
    """
    if not is_live(model):
        raise DtypeError(f"{where}: {_named(model)}, but a torch.nn.Module was needed. {_way_out(model)}")


def is_state_dict(found: Any) -> bool:
    """Say whether this is a dictionary of tensors."""
    return isinstance(found, Mapping) and len(found) > 0 and all(isinstance(value, Tensor) for value in found.values())


def _named(model: Any) -> str:
    if is_state_dict(model):
        return f"a state dict of {counted(len(model), 'tensor')} came"
    if isinstance(model, Mapping | tuple | list):
        return f"a {type(model).__name__} of {len(model)} came"
    if inspect.isroutine(model):
        return f"the function {model.__name__} came"
    if isinstance(model, functools.partial):
        return "a functools.partial came"
    return f"{shown(model)} came"


def _way_out(model: Any) -> str:
    if isinstance(model, type):
        return f"Make one of the class and give it its weights: model = {model.__name__}(..), model.load_state_dict(..)."
    if isinstance(model, Mapping) and any(isinstance(value, nn.Module) for value in model.values()):
        return "Pass the module in it that takes the image."
    if isinstance(model, Mapping):
        return (
            "These are weights; make the network they belong to, and load them: model.load_state_dict(..). "
            'Weights in a file go with a name: unconv.load("torchvision:resnet18", "FILE.pth").'
        )
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        return f"A name is opened by unconv.load({str(model)!r}); weights in a file go second, after the network's name."
    if isinstance(model, tuple | list):
        return "Pass the module in it that takes the image, or nn.Sequential(*modules)."
    if callable(model):
        return (
            "Call it, if it makes a network, and pass what it returns; if it is a network's forward pass, put it into a class: "
            "class Mine(torch.nn.Module), whose forward(self, x) returns it."
        )
    return "unconv.load opens names."
