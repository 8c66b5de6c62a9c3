"""What does a unit cost in ResNet-50, GoogLeNet and SqueezeNet 1.1, against captum, zennit and plain autograd?

    pip install captum zennit
    python benchmarks/networks.py [--json FILE]

Random weights and statistics; milliseconds per unit, medians. captum and zennit take one unit a call, a
forward and a backward pass each; autograd a batch of 16 with the rectifiers' backward replaced, which is
what one would write by hand. Ours is the strongest unit of each of the first `--units` channels in one call,
forward pass included. A peer whose answer differs from ours by more than 1 in 100 is marked, and not counted; in
float32 a batch rounds otherwise than one picture, and a switch may turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torchvision import models

import unconv
from unconv.reverse.walking.cost import convolution_rate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracles.reverse import ReplacedRelu

NETWORKS = {
    "resnet50": [f"layer{stage}.{block}" for stage, blocks in enumerate((3, 4, 6, 3), 1) for block in range(blocks)],
    "googlenet": [f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")],
    "squeezenet1_1": [f"features.{index}" for index in (1, 3, 4, 6, 7, 9, 10, 11, 12)],
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = models.get_model(name, weights=None, **options).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def median_seconds(times: int, work, *arguments) -> float:
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work(*arguments)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def by_captum(model, image, place):
    from captum.attr import NeuronDeconvolution

    attribution = NeuronDeconvolution(model, model.get_submodule(place))
    return lambda unit, value: value * attribution.attribute(image.clone().requires_grad_(True), tuple(unit))


def by_zennit(model, image, place):
    from zennit.composites import DeconvNet

    def run(unit, value):
        source, kept = image.clone().requires_grad_(True), {}
        handle = model.get_submodule(place).register_forward_hook(lambda m, a, out: kept.setdefault("out", out))
        try:
            with DeconvNet().context(model) as hooked:
                hooked(source)
                seed = torch.zeros_like(kept["out"])
                seed[(0, *unit)] = value
                return torch.autograd.grad(kept["out"], source, seed)[0]
        finally:
            handle.remove()

    return run


def by_autograd(model, image, place, count=16):
    def run(units, values):
        source, kept = image.expand(len(units), -1, -1, -1).clone().requires_grad_(True), {}
        handle = model.get_submodule(place).register_forward_hook(lambda m, a, out: kept.setdefault("out", out))
        try:
            with ReplacedRelu():
                model(source)
        finally:
            handle.remove()
        seed = torch.zeros_like(kept["out"])
        for row, (unit, value) in enumerate(zip(units, values, strict=True)):
            seed[(row, *unit)] = value
        return torch.autograd.grad(kept["out"], source, seed)[0]

    return run


def differs(mine, theirs) -> float:
    return float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="may be repeated; all")
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    limit, rows = convolution_rate(torch.float32, torch.device("cpu")), []
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    for name in arguments.network or NETWORKS:
        model, places = built(name), NETWORKS[name]
        network = unconv.Network(model)
        for place in places:
            recording = network.record(image, [place])
            chosen = range(min(arguments.units, len(recording.activation(place))))
            found = network.project(image, place, chosen)
            order = found.values.argsort(descending=True).tolist()  # the first is compared: it must not be dead
            units, values = [list(found.units[index]) for index in order], found.values[order]
            ours = median_seconds(arguments.times, network.project, image, place, chosen)
            row = {"network": name, "place": place, "units": len(found), "ours": ours / len(found)}
            operations = recording.units(place, chosen).operations.sum()
            row["of_limit"] = float(operations) / limit / ours
            mine = found[order[0] : order[0] + 1].pixels()
            for peer, made in (("captum", by_captum), ("zennit", by_zennit)):
                run = made(model, image, place)
                row[f"{peer}_differs"] = differs(run(units[0], values[0]), mine)
                row[peer] = median_seconds(arguments.times, run, units[1], values[1])
            run = by_autograd(model, image, place)
            row["autograd_differs"] = differs(run(units[:16], values[:16])[:1], mine)
            row["autograd"] = median_seconds(arguments.times, run, units[:16], values[:16]) / 16
            right = [row[peer] for peer in ("captum", "zennit", "autograd") if row[f"{peer}_differs"] < 0.01]
            row["faster"] = min(right, default=float("nan")) / row["ours"]
            rows.append(row)
            print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "limit": limit, "torch": torch.__version__}, indent=1))


if __name__ == "__main__":
    main()
