"""The networks that laws are checked on: read by the tests and by the docs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

DATA = Path(os.environ.get("UNCONV_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "weights").is_dir(), reason="real weights and pictures are absent; set UNCONV_DATA to their folder"
)


@dataclass(frozen=True)
class Case:
    """A network, an input small for it, and places early, in the middle and deep: modules, for the oracles."""

    build: str
    size: tuple[int, int]
    modules: tuple[str, str, str]
    channels: int = 3


NETWORKS = {
    "vgg": Case("vgg11", (49, 35), ("features.1", "features.9", "features.18")),
    "vgg_bn": Case("vgg11_bn", (35, 49), ("features.2", "features.12", "features.26")),
    "alexnet": Case("alexnet", (97, 71), ("features.1", "features.4", "features.11")),
    "resnet18": Case("resnet18", (71, 53), ("relu", "layer2.1.conv2", "layer4")),
    "resnet50": Case("resnet50", (65, 47), ("layer1.0.conv3", "layer2.1", "layer4.0.bn2")),
    "googlenet": Case("googlenet", (71, 53), ("conv1", "inception3b", "inception4c.branch2")),
    "inception": Case("inception_v3", (91, 107), ("Conv2d_2b_3x3", "Mixed_5c", "Mixed_6b")),
    "densenet": Case("densenet121", (53, 71), ("features.relu0", "features.denseblock1", "features.denseblock2.denselayer3")),
    "squeezenet10": Case("squeezenet1_0", (71, 53), ("features.1", "features.5", "features.12")),
    "squeezenet11": Case("squeezenet1_1", (53, 71), ("features.3", "features.6", "features.12")),
    "mnasnet": Case("mnasnet0_5", (65, 47), ("layers.4", "layers.8", "layers.12")),
    "shufflenet": Case("shufflenet_v2_x0_5", (65, 47), ("conv1", "stage2.1", "stage3.2")),
    "grey": Case("resnet18", (37, 53), ("bn1", "layer1.0", "layer3"), channels=1),
    "five_channels": Case("vgg11", (33, 47), ("features.0", "features.7", "features.14"), channels=5),
}


@cache
def network(name: str) -> nn.Module:
    """The case's model in float64 with random weights, also random statistics and negative scales of batch norms."""
    case = NETWORKS[name]
    torch.manual_seed(0)
    model = models.get_model(case.build, weights=None, **_arguments(case.build)).eval()
    if case.channels != 3:
        first_name, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
        replaced = nn.Conv2d(case.channels, first.out_channels, first.kernel_size, first.stride, first.padding)
        model.get_submodule(first_name.rpartition(".")[0]).__setattr__(first_name.rpartition(".")[2], replaced)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(0, 1)
            module.bias.data.normal_(0, 0.3)
    _shrink_head(model)
    return model.eval().double().requires_grad_(False)


def _shrink_head(model: nn.Module) -> None:
    """Replace the three dense layers of VGG and AlexNet by a small one.

    No place of a case lies there, and in float64 each network would otherwise hold a gigabyte, in every process that
    runs the tests.
    """
    if isinstance(model, models.VGG | models.AlexNet):
        first = next(module for module in model.classifier if isinstance(module, nn.Linear))
        model.classifier = nn.Linear(first.in_features, 10)


def _arguments(build: str) -> dict[str, bool]:
    return {"init_weights": False, "transform_input": True} if build in ("googlenet", "inception_v3") else {}


def image(name: str, seed: int = 1) -> Tensor:
    """(1, C, H, W), float64: not square, odd sides."""
    case = NETWORKS[name]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, case.channels, *case.size, dtype=torch.float64, generator=generator)
