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
from unconv.errors import ModelError, UnconvError, nearest
from unconv.images import Preprocess
from unconv.networks.opened import Opened
from unconv.networks.torchvision import open_torchvision
from unconv.networks.weights import loaded


def open_network(spec: str | nn.Module, weights: str | Path | WeightsEnum | None = None) -> Opened:
    """The model that `spec` names, in evaluation mode.

    Args:
        spec: "unconv:caltech", "torchvision:NAME", "FILE.py:factory" (a function without arguments
            that returns a module; the file is run), or a live module, which is taken as it is.
        weights: for torchvision "DEFAULT" or another of its names, which downloads; or a file
            .safetensors, .pth or .pt. None: random for torchvision, the factory's own otherwise.

    Raises:
        UnconvError: there is no such model.
        WeightsError: the weights cannot be had, are damaged, or fit another architecture.
    """
    if isinstance(spec, nn.Module):
        opened = Opened(unwrap(spec), type(spec).__name__, "as given", None, (3, 224, 224))
        return loaded(opened, weights) if weights else opened
    weights = weights.name if isinstance(weights, WeightsEnum) else weights
    kind, _, name = str(spec).rpartition(":")
    if spec == "unconv:caltech":
        return _caltech(weights)
    if kind == "torchvision":
        return open_torchvision(name, None if weights is None else str(weights))
    if kind.endswith(".py"):
        opened = Opened(_made(Path(kind), name), f"{Path(kind).name}:{name}", "the factory's own", None, (3, 224, 224))
        return loaded(opened, weights) if weights else opened
    raise UnconvError(
        f"load: {spec!r} names no network. Pass unconv:caltech, torchvision:NAME (torchvision:vgg16), "
        "FILE.py:factory, or a torch.nn.Module."
    )


def unwrap(module: nn.Module) -> nn.Module:
    """The model itself, out of DataParallel or torch.compile."""
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
