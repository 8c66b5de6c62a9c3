"""Networks that a function in a Python file makes: the one way to open a model that runs the user's code."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from torch import nn

from unconv.errors import ModelError, UnconvError, nearest
from unconv.networks.live import unwrap
from unconv.networks.opened import Opened
from unconv.networks.weights import loaded


def open_factory(spec: str, weights: str | None) -> Opened:
    """Run a file and open the module that its function makes; `spec` is "FILE.py:factory".

    Weights from a file replace the module's own.
    """
    file, _, factory = spec.rpartition(":")
    path = Path(file)
    opened = Opened(_module(path, factory), f"{path.name}:{factory}", "the factory's own", None, (3, 224, 224))
    return loaded(opened, weights) if weights else opened


def _module(path: Path, factory: str) -> nn.Module:
    """Return what the function `factory` of a Python file returns, or the module that is called so."""
    if not os.path.isfile(path):
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
