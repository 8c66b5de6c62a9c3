"""torchvision's models, with their weights and preprocessing."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unconv.errors import UnconvError, WeightsError, nearest
from unconv.networks.opened import Opened
from unconv.networks.weights import download, with_weights

_FRAMES = 16  # of a video; all of torchvision's video models accept that


def open_torchvision(name: str, weights: str | None) -> Opened:
    """Open torchvision's model `name`, with random weights if `weights` is None."""
    from torchvision import models

    if name not in models.list_models():
        raise UnconvError(f"load: torchvision has no model {name!r}. Did you mean {nearest(name, models.list_models())}?")
    table = models.get_model_weights(name)
    inception = name.removeprefix("quantized_") in ("googlenet", "inception_v3")
    arguments: dict[str, Any] = {"init_weights": False} if inception else {}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        arguments["weights_backbone"] = None  # otherwise a trained backbone would be downloaded unasked
    trained = table.__members__.get(weights or "DEFAULT") or table.__members__.get("DEFAULT")
    if weights is not None and inception:
        arguments["transform_input"] = True  # as torchvision does for its trained weights
    if name.startswith("vit_") and trained is not None:
        arguments["image_size"] = trained.meta["min_size"][0]  # the position embedding has that size
    # A network draws random weights before it loads others, which must not advance the user's random numbers.
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        module = models.get_model(name, weights=None, **arguments).eval()
    opened = Opened(module, f"torchvision:{name}", "random", None, (3, 224, 224))
    if trained is not None:
        transforms = trained.transforms()
        crop = getattr(transforms, "crop_size", [224])
        size = tuple(crop) * 2 if len(crop) == 1 else tuple(crop)
        classes = tuple(trained.meta.get("categories", ()))
        if name in models.list_models(models.video):  # takes tensors of frames, not pictures
            opened = replace(opened, input_size=(3, _FRAMES, *size), classes=classes)
        else:
            source = f"as torchvision does for {trained.name}"
            opened = replace(opened, preprocess=transforms, input_size=(3, *size), classes=classes, guess=source)
    if weights is None:
        return opened
    if weights in table.__members__:
        assert trained is not None
        opened = replace(opened, trained_with=opened.guess)
        return with_weights(opened, download(trained.url), f"torchvision {weights}")
    if not Path(weights).suffix:
        raise WeightsError(
            f"load: torchvision has no weights {weights!r} for {name}; pass one of {', '.join(table.__members__)}, "
            "or a file .safetensors, .pth or .pt."
        )
    return with_weights(opened, weights)
