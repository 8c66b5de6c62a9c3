"""What a spec names: the network in the box, another library's, a Python file's, a live module.

Weights load as safetensors, or with torch's `weights_only=True`: no code of a file ever runs, but
that of a `FILE.py:factory` that the user names.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import safetensors
import torch
from torch import nn
from torchvision.models import WeightsEnum

from unconv import box
from unconv.errors import ModelError, UnconvError, WeightsError, nearest
from unconv.networks.keras.graph import adapted
from unconv.networks.keras.opening import is_keras, open_keras, open_keras_file, open_keras_live
from unconv.networks.onnx import open_onnx
from unconv.networks.opened import Opened
from unconv.networks.timm import open_timm
from unconv.networks.torchvision import open_torchvision
from unconv.networks.weights import loaded
from unconv.pictures.preprocess import Preprocess


def open_network(spec: str | Path | nn.Module, weights: str | Path | WeightsEnum | None = None) -> Opened:
    """The model that `spec` names, in evaluation mode.

    Args:
        spec: "unconv:caltech", "torchvision:NAME", "timm:NAME", "keras:NAME", "onnx:FILE", "FILE.keras",
            "FILE.py:factory" (a function without arguments that returns a module; the file is run), or a
            live module or Keras model, which is taken as it is.
        weights: "DEFAULT", or another name of the library's for its trained weights, which downloads; or a
            file .safetensors, .pth or .pt, for Keras .keras or .weights.h5. None: random for a library's
            architecture, the model's own otherwise.

    Raises:
        UnconvError: there is no such model, or the library that opens it is not installed.
        WeightsError: the weights cannot be had, are damaged, or fit another architecture.
    """
    name = weights.name if isinstance(weights, WeightsEnum) else None if weights is None else str(weights)
    if is_keras(spec):
        return open_keras_live(spec, name)
    if isinstance(spec, nn.Module):
        return _refilled(Opened(unwrap(spec), type(spec).__name__, "as given", None, (3, 224, 224)), name)
    if spec == "unconv:caltech":
        return _caltech(name)
    opened = _from_library(str(spec), name)
    if opened is not None:
        return opened
    file, _, factory = str(spec).rpartition(":")
    if file.endswith(".py"):
        module = _made(Path(file), factory)
        made = Opened(module, f"{Path(file).name}:{factory}", "the factory's own", None, (3, 224, 224))
        return _refilled(made, name)
    raise UnconvError(
        f"load: {str(spec)!r} names no network. Pass unconv:caltech, torchvision:NAME (torchvision:vgg16), timm:NAME, "
        "keras:NAME, FILE.keras, onnx:FILE, FILE.py:factory, or a torch.nn.Module."
    )


def _from_library(spec: str, weights: str | None) -> Opened | None:
    """The model of another library that `spec` names; None if it names none."""
    kind, _, name = spec.partition(":")
    if spec.endswith(".keras"):
        return open_keras_file(Path(spec.removeprefix("keras:")), weights)
    if kind == "onnx":
        if weights is not None:
            raise WeightsError(f"load: weights {weights!r} came with {spec}; an ONNX file holds its own. Pass none.")
        return open_onnx(Path(name))
    openers = {"torchvision": open_torchvision, "timm": open_timm, "keras": open_keras}
    return openers[kind](name, weights) if kind in openers and name else None


def _refilled(opened: Opened, weights: str | None) -> Opened:
    return loaded(opened, weights) if weights else opened


def unwrap(module: nn.Module) -> nn.Module:
    """The model itself, out of DataParallel or torch.compile; a Keras model as a module that torch can follow."""
    if is_keras(module):
        return adapted(module)
    wrapped = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
    inner = module.module if wrapped else getattr(module, "_orig_mod", None)
    return unwrap(inner) if isinstance(inner, nn.Module) else module


def _caltech(weights: str | Path | None) -> Opened:
    preprocess = Preprocess((box.SIZE, box.SIZE), box.RESIZE, box.MEAN, box.STD)
    with safetensors.safe_open(box.WEIGHTS, "pt") as file:
        classes = tuple(json.loads(file.metadata()["classes"]))
    with torch.random.fork_rng(devices=[]):  # a new module draws its weights from the caller's random numbers
        module = box.Caltech(len(classes)).eval()
    opened = Opened(module, "unconv:caltech", "trained", preprocess, (3, box.SIZE, box.SIZE), classes)
    return loaded(opened, weights) if weights else loaded(opened, box.WEIGHTS, "trained, as shipped")


def _made(path: Path, factory: str) -> nn.Module:
    """The module that the function `factory` of a Python file returns."""
    if not path.is_file():
        raise UnconvError(f"load: there is no file {path}. Pass FILE.py:factory.")
    specification = importlib.util.spec_from_file_location(f"unconv_factory_{path.stem}", path)
    assert specification is not None and specification.loader is not None
    namespace = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = namespace  # dataclasses look their module up there
    specification.loader.exec_module(namespace)
    make = getattr(namespace, factory, None)
    if isinstance(make, nn.Module):
        return unwrap(make).eval()
    if not callable(make):
        names = [name for name in vars(namespace) if not name.startswith("__")]
        raise UnconvError(f"load: {path} has no function {factory!r}. Did you mean {nearest(factory, names)}?")
    module = make()
    if not isinstance(module, nn.Module):
        raise ModelError(f"load: {path.name}:{factory} returned {type(module).__name__}; a torch.nn.Module was needed.")
    return unwrap(module).eval()
