"""Train the network in the box, `unconv:caltech`, on the Caltech-101 pictures.

A VGG in small: five blocks of two 3x3 convolutions, each followed by a rectifier, and a 2x2 max
pool. Batch normalisation helps the training and is folded into the convolutions afterwards, so
what ships is convolutions, rectifiers and pools alone, stored as float16.

    python training/caltech.py --data caltech101_s144_webp.npz --out src/unconv/box/caltech.safetensors

About an hour on two cores with bfloat16. The held-out fifth of the pictures is never trained on;
`--evaluate` measures it, through the preprocessing that ships.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import unconv
from unconv.box import MEAN, STD, WIDTHS

STORE = 144  # side, in pixels, of the squares that the pictures are kept as while training


def network(classes: int) -> nn.Sequential:
    """The network with batch normalisation, as it is trained."""
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *head)


def fold(trained: nn.Sequential) -> dict[str, Tensor]:
    """The weights with each batch normalisation multiplied into the convolution before it."""
    folded: dict[str, Tensor] = {}
    place = 0  # index in the shipped network, which has no batch normalisation
    modules = list(trained)
    for index, module in enumerate(modules):
        if isinstance(module, nn.BatchNorm2d):
            continue
        if isinstance(module, nn.Conv2d):
            norm = modules[index + 1]
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            folded[f"features.{place}.weight"] = module.weight * scale[:, None, None, None]
            folded[f"features.{place}.bias"] = norm.bias - norm.running_mean * scale
        if isinstance(module, nn.Linear):
            folded["classifier.weight"], folded["classifier.bias"] = module.weight, module.bias
        place += 1
    return {name: value.detach().half().contiguous() for name, value in folded.items()}


class Pictures:
    """The packed data set: encoded pictures in one array, with labels and a split."""

    def __init__(self, path: Path):
        packed = np.load(path, allow_pickle=False)
        self.data, self.offsets = packed["data"], packed["offsets"]
        self.labels = torch.from_numpy(packed["labels"].astype(np.int64))
        self.held_out = torch.from_numpy(packed["split"].astype(bool))
        self.classes = [str(name) for name in packed["classes"]]

    def __getitem__(self, index: int) -> Image.Image:
        raw = self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return Image.open(io.BytesIO(raw)).convert("RGB")


def squares(pictures: Pictures, indices: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 3, STORE, STORE) uint8, stretched to squares, and their (n, 2) true (height, width), short side 1."""
    images = torch.empty(len(indices), 3, STORE, STORE, dtype=torch.uint8)
    sides = torch.empty(len(indices), 2)
    for row, index in enumerate(indices.tolist()):
        picture = pictures[index]
        sides[row] = torch.tensor([picture.height, picture.width]) / min(picture.size)
        square = picture.resize((STORE, STORE), Image.Resampling.LANCZOS)
        images[row] = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    return images, sides


def crops(images: Tensor, sides: Tensor, size: int) -> Tensor:
    """Random resized crops with flips, turns and colour changes, normalised; (n, 3, size, size)."""
    n = len(images)
    height, width = sides.unbind(1)
    area = torch.empty(n).uniform_(0.3, 1.0) * height * width
    ratio = torch.exp(torch.empty(n).uniform_(math.log(0.75), math.log(4 / 3)))
    h, w = torch.minimum((area / ratio).sqrt(), height), torch.minimum((area * ratio).sqrt(), width)
    y, x = (torch.rand(n) * 2 - 1) * (1 - h / height), (torch.rand(n) * 2 - 1) * (1 - w / width)
    angle = torch.empty(n).uniform_(-0.2, 0.2) * (torch.rand(n) < 0.5)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([flip * w * angle.cos() / width, -h * angle.sin() / width, x], 1),
            torch.stack([flip * w * angle.sin() / height, h * angle.cos() / height, y], 1),
        ],
        1,
    )
    finer = 2 if size < 80 else 1  # sample finer and average, against aliasing
    grid = F.affine_grid(theta, [n, 3, size * finer, size * finer], align_corners=False)
    out = F.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    out = F.avg_pool2d(out, finer) if finer > 1 else out
    contrast, brightness, colour = (torch.empty(n, 1, 1, 1).uniform_(-s, s) for s in (0.3, 0.2, 0.4))
    mean = out.mean((1, 2, 3), keepdim=True)
    out = (out - mean) * (1 + contrast) + mean + brightness
    grey = out.mean(1, keepdim=True)
    out = (out - grey) * (1 + colour) + grey
    return normalise(out.clamp(0, 1))


def normalise(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def mixed(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the batches are mixed: pasted rectangles (CutMix) or blends (mixup)."""
    if torch.rand(()) < 0.5:
        return x, targets
    order = torch.randperm(len(x))
    if torch.rand(()) < 0.5:
        share = float(np.random.beta(0.2, 0.2))
        return x * share + x[order] * (1 - share), targets * share + targets[order] * (1 - share)
    side = x.shape[-1]
    cut = int(side * math.sqrt(1 - np.random.beta(1.0, 1.0)))
    top, left = (int(torch.randint(0, side - cut + 1, ())) for _ in range(2))
    x = x.clone()
    x[:, :, top : top + cut, left : left + cut] = x[order, :, top : top + cut, left : left + cut]
    share = 1 - (cut / side) ** 2
    return x, targets * share + targets[order] * (1 - share)


def train(pictures: Pictures, phases: list[tuple[int, int]], out: Path, batch: int = 64) -> nn.Sequential:
    """Train through `phases` of (side in pixels, epochs); a running average of the weights comes back."""
    indices = (~pictures.held_out).nonzero().squeeze(1)
    images, sides = squares(pictures, indices)
    labels = F.one_hot(pictures.labels[indices], len(pictures.classes)).float() * 0.9 + 0.1 / len(pictures.classes)
    model = network(len(pictures.classes)).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    steps = len(indices) // batch
    total, step = steps * sum(epochs for _, epochs in phases), 0
    epoch = 0
    for size, epochs in phases:
        for _ in range(epochs):
            began, losses = time.time(), 0.0
            order = torch.randperm(len(indices))
            for rows in order[: steps * batch].split(batch):
                rate = 0.1 * min(step / 300, 0.5 + 0.5 * math.cos(math.pi * step / total))
                for group in optimiser.param_groups:
                    group["lr"] = rate
                x, targets = mixed(crops(images[rows], sides[rows], size), labels[rows])
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = F.cross_entropy(model(x.to(memory_format=torch.channels_last)), targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                step += 1
                losses += loss.item()
                follow(average, model, min(0.998, step / (step + 10)))
            epoch += 1
            print(
                f"epoch {epoch} side {size} loss {losses / steps:.3f} rate {rate:.4f} {time.time() - began:.0f} s", flush=True
            )
            torch.save(average.state_dict(), out.with_suffix(".training.pt"))
    return average


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)


@torch.no_grad()
def accuracy(weights: Path, pictures: Pictures, every: int = 1) -> dict[str, float]:
    """Held-out accuracy of the shipped network, through the preprocessing that ships."""
    network = unconv.load("unconv:caltech", weights)
    indices = pictures.held_out.nonzero().squeeze(1)[::every]
    ranks = []
    for rows in indices.split(128):
        scores = network.module(torch.stack([network.preprocess(pictures[i]) for i in rows.tolist()]))
        truth = scores.gather(1, pictures.labels[rows][:, None])
        ranks.append((scores > truth).sum(1))
    rank, labels = torch.cat(ranks), pictures.labels[indices]
    per_class = [(rank[labels == c] == 0).float().mean() for c in labels.unique()]
    return {
        "pictures": len(indices),
        "top1": round((rank == 0).float().mean().item(), 4),
        "top5": round((rank < 5).float().mean().item(), 4),
        "mean_of_classes": round(torch.stack(per_class).mean().item(), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phases", default="64:55,96:28", help="side:epochs, comma separated")
    parser.add_argument("--evaluate", action="store_true", help="only measure --out as it is")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)
    pictures = Pictures(arguments.data)
    if arguments.evaluate:
        print(json.dumps(accuracy(arguments.out, pictures)))
        return
    phases = [tuple(int(n) for n in phase.split(":")) for phase in arguments.phases.split(",")]
    average = train(pictures, phases, arguments.out)
    metadata = {
        "name": "unconv:caltech",
        "data": "Caltech-101 (CC BY 4.0; Li, Andreeto, Ranzato, Perona), four fifths of each class",
        "licence": "Apache-2.0",
        "classes": json.dumps(pictures.classes),
    }
    partial = arguments.out.with_suffix(".partial")
    save_file(fold(average), partial, metadata=metadata)
    os.replace(partial, arguments.out)


if __name__ == "__main__":
    main()
