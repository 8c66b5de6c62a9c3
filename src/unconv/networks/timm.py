"""timm's models, their weights and what it knows of their preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from unconv.errors import UnconvError, WeightsError, nearest
from unconv.networks.opened import Opened, Preprocessing, library
from unconv.networks.weights import loaded


def open_timm(name: str, weights: str | None) -> Opened:
    """Open timm's model called `name` ("resnet50", "resnet50.a1_in1k"), random if `weights` is None.

    Args:
        weights: "DEFAULT", or a tag of timm's such as "a1_in1k", which download; or a file.
    """
    timm = library("timm", "timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnconvError(f"load: timm has no model {name!r}. Did you mean {nearest(name, timm.list_models())}?")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    from_file = weights is not None and bool(Path(weights).suffix)
    wanted = [tag] if tag else []
    if weights not in (None, "DEFAULT") and not from_file:
        wanted.append(str(weights))
        name = f"{architecture}.{weights}"
    if any(asked not in tags for asked in wanted):
        raise WeightsError(
            f"load: timm has no weights {wanted[-1]!r} for {architecture}; pass one of {', '.join(('DEFAULT', *tags))}, "
            "or a file .safetensors, .pth or .pt."
        )
    # A network draws random weights before it loads others: the user's random numbers are not to move for that.
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        module: Any = _made(timm, name, pretrained=weights is not None and not from_file)
    config = timm.data.resolve_model_data_config(module)
    origin = "random" if weights is None else f"timm {module.pretrained_cfg.get('tag') or weights}"
    whose = "as timm does for " + ".".join(filter(None, (architecture, module.pretrained_cfg.get("tag"))))
    opened = Opened(
        module,
        f"timm:{name}",
        origin,
        _preprocessing(timm, config),
        tuple(config["input_size"]),
        _classes(timm, module),
        trained_with="" if weights is None or from_file else whose,
        guess=whose,
    )
    return loaded(opened, str(weights)) if from_file else opened


def _made(timm: Any, name: str, pretrained: bool) -> nn.Module:
    if not pretrained:
        made: nn.Module = timm.create_model(name, pretrained=False)
        return made.eval()
    try:
        made = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise WeightsError(
            f"load: cannot download timm's weights for {name}: {str(error).splitlines()[0]} "
            "Fetch them where there is a network and pass the file as weights."
        ) from error
    return made.eval()


def _preprocessing(timm: Any, config: dict[str, Any]) -> Preprocessing:
    """Return what timm does to a picture at evaluation; torchvision's preset where that is the same."""
    _, height, width = config["input_size"]
    if config["crop_mode"] != "center" or height != width or len(config["mean"]) != 3:
        made: Preprocessing = timm.data.create_transform(**config)
        return made
    preset: Preprocessing = ImageClassification(
        crop_size=height,
        resize_size=int(height / config["crop_pct"]),
        mean=config["mean"],
        std=config["std"],
        interpolation=InterpolationMode(config["interpolation"]),
    )
    return preset


def _classes(timm: Any, module: Any) -> tuple[str, ...]:
    if module.num_classes != 1000:
        return ()
    known = timm.data.ImageNetInfo()
    return tuple(known.index_to_description(index).split(",")[0] for index in range(1000))
