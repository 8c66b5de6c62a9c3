"""timm's models, with their weights and preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from unconv.errors import UnconvError, WeightsError, nearest
from unconv.networks.opened import Opened, Preprocessing, library
from unconv.networks.weights import with_weights


def open_timm(name: str, weights: str | None) -> Opened:
    """Open timm's model `name` ("resnet50", "resnet50.a1_in1k"), with random weights if `weights` is None.

    Args:
        weights: "DEFAULT" or one of timm's tags such as "a1_in1k", which download; or a file.
    """
    timm = library("timm", "timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnconvError(f"load: timm has no model {name!r}. Did you mean {nearest(name, timm.list_models())}?")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{architecture}.*")]
    from_file = weights is not None and bool(Path(weights).suffix)
    requested = [tag] if tag else []
    if weights not in (None, "DEFAULT") and not from_file:
        requested.append(str(weights))
        name = f"{architecture}.{weights}"
    if any(requested_tag not in tags for requested_tag in requested):
        raise WeightsError(
            f"load: timm has no weights {requested[-1]!r} for {architecture}; pass one of {', '.join(('DEFAULT', *tags))}, "
            "or a file .safetensors, .pth or .pt."
        )
    # A network draws random weights before it loads others, which must not advance the user's random numbers.
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        module: Any = _create(timm, name, pretrained=weights is not None and not from_file)
    config = timm.data.resolve_model_data_config(module)
    origin = "random" if weights is None else f"timm {module.pretrained_cfg.get('tag') or weights}"
    source = "as timm does for " + ".".join(filter(None, (architecture, module.pretrained_cfg.get("tag"))))
    opened = Opened(
        module,
        f"timm:{name}",
        origin,
        _preprocessing(timm, config),
        tuple(config["input_size"]),
        _classes(timm, module),
        trained_with="" if weights is None or from_file else source,
        guess=source,
    )
    return with_weights(opened, str(weights)) if from_file else opened


def _create(timm: Any, name: str, pretrained: bool) -> nn.Module:
    if not pretrained:
        module: nn.Module = timm.create_model(name, pretrained=False)
        return module.eval()
    try:
        module = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise WeightsError(
            f"load: cannot download timm's weights for {name}: {str(error).splitlines()[0]} "
            "Download them on a connected machine and pass the file as weights."
        ) from error
    return module.eval()


def _preprocessing(timm: Any, config: dict[str, Any]) -> Preprocessing:
    """Return timm's preprocessing for evaluation; torchvision's preset if it does the same."""
    _, height, width = config["input_size"]
    if config["crop_mode"] != "center" or height != width or len(config["mean"]) != 3:
        transform: Preprocessing = timm.data.create_transform(**config)
        return transform
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
    info = timm.data.ImageNetInfo()
    return tuple(info.index_to_description(index).split(",")[0] for index in range(1000))
