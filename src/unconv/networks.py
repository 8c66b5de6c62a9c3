"""Opening a model: torchvision, the network in the box, a Python file, a live module; its preprocessing.

Weights load as safetensors, or with torch's `weights_only=True`: no code of a file ever runs, but
that of a `FILE.py:factory` that the user names.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import pickle
import re
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors
import torch
from PIL import Image
from torch import Tensor, nn
from torch.hub import download_url_to_file, get_dir
from torchvision.models import WeightsEnum

from unconv import box
from unconv.errors import ModelError, UnconvError, WeightsError, nearest
from unconv.images import Preprocess

# What readers of weights raise on damaged files.
_DAMAGE = (
    safetensors.SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    struct.error,
)

Preprocessing = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Opened:
    """A model ready to run, and what belongs to it.

    Args:
        weights: where its weights came from, in words.
        classes: what its last layer's channels are called; () if unknown.
    """

    module: nn.Module
    name: str
    weights: str
    preprocess: Preprocessing | None
    input_size: tuple[int, ...]
    classes: tuple[str, ...] = ()


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
        return _loaded(opened, weights) if weights else opened
    weights = weights.name if isinstance(weights, WeightsEnum) else weights
    kind, _, name = str(spec).rpartition(":")
    if spec == "unconv:caltech":
        return _caltech(weights)
    if kind == "torchvision":
        return _torchvision(name, None if weights is None else str(weights))
    if kind.endswith(".py"):
        opened = Opened(_made(Path(kind), name), f"{Path(kind).name}:{name}", "the factory's own", None, (3, 224, 224))
        return _loaded(opened, weights) if weights else opened
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
    return _loaded(opened, weights) if weights else _loaded(opened, box.WEIGHTS, "trained, as shipped")


def _torchvision(name: str, weights: str | None) -> Opened:
    from torchvision import models

    if name not in models.list_models():
        raise UnconvError(f"load: torchvision has no model {name!r}. Did you mean {nearest(name, models.list_models())}?")
    table = models.get_model_weights(name)
    arguments: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        arguments["weights_backbone"] = None  # or it would be downloaded unasked
    trained = table.__members__.get(weights or "DEFAULT") or table.__members__.get("DEFAULT")
    if weights is not None and name in ("googlenet", "inception_v3"):
        arguments["transform_input"] = True  # as torchvision does for its trained weights
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        module = models.get_model(name, weights=None, **arguments).eval()
    opened = Opened(module, f"torchvision:{name}", "random", None, (3, 224, 224))
    if trained is not None:
        transforms = trained.transforms()
        crop = getattr(transforms, "crop_size", [224])
        size = tuple(crop) * 2 if len(crop) == 1 else tuple(crop)
        opened = replace(
            opened, preprocess=transforms, input_size=(3, *size), classes=tuple(trained.meta.get("categories", ()))
        )
    if weights is None:
        return opened
    if weights in table.__members__:
        assert trained is not None
        return _loaded(opened, download(trained.url), f"torchvision {weights}")
    if not Path(weights).suffix:
        raise WeightsError(
            f"load: torchvision has no weights {weights!r} for {name}; pass one of {', '.join(table.__members__)}, "
            "or a file .safetensors, .pth or .pt."
        )
    return _loaded(opened, weights)


def download(url: str) -> Path:
    """Fetch a weights file into torch's cache, with a progress bar, unless it is there; what comes must have its hash.

    Raises:
        WeightsError: it cannot be fetched, or what came is not what was announced.
    """
    name = url.rsplit("/", 1)[1]
    path = Path(get_dir()) / "checkpoints" / name
    if path.exists():
        return path
    digest = re.search(r"[-_]([0-9a-f]{8,})$", path.stem)
    print(f"downloading {name}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=digest[1] if digest else None)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"load: cannot download {url}: {error}. Fetch it where there is a network and pass the file as weights."
        ) from error
    return path


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


def _loaded(opened: Opened, weights: str | Path, origin: str | None = None) -> Opened:
    path = Path(weights)
    state, wanted = read_weights(path), opened.module.state_dict()
    if all(key.startswith("module.") for key in state) and not any(key in wanted for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}  # from data-parallel training
    _refuse_misfit(opened.name, wanted, state, path)
    opened.module.load_state_dict(state, strict=False)  # all that matters was compared above
    return replace(opened, weights=origin or path.name)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file; no code in it runs.

    A checkpoint that holds its weights under "state_dict" or "model" is opened.
    """
    if not path.is_file():
        raise WeightsError(f"load: there is no weights file {path}.")
    try:
        state = _read(path)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        # torch's own words advise to run the file's code after all; they are not passed on.
        refused = isinstance(error, pickle.UnpicklingError)
        what = "only tensors are unpickled" if refused else " ".join(str(error).split())[:300]
        raise WeightsError(
            f"load: {path} cannot be read as weights; it is damaged, cut off, or holds more than tensors: {what}. "
            "Save model.state_dict() alone, best as .safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"load: {path} holds no state dict (names to tensors). Save model.state_dict() alone.")
    return {str(key): value for key, value in state.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_misfit(name: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Say which keys are missing, unexpected and of another shape, the first of each."""
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    lists = {
        "missing": [key for key in wanted if key not in state and key not in optional],
        "unexpected": [key for key in state if key not in wanted],
        "wrong shape": shapes,
    }
    if any(lists.values()):
        parts = [
            f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
            for what, keys in lists.items()
            if keys
        ]
        raise WeightsError(f"load: {path} does not fit {name}; {'; '.join(parts)}. Name the network it was saved from.")
    bad = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if bad:
        raise WeightsError(f"load: {path}: {bad} holds NaN or infinite values. Save the weights again.")
