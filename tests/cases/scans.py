"""Small networks and pictures that tests of scans share."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

import unconv


def small(seed=0):
    """A network of two convolutions and two fully connected layers, for pictures of 12 x 12."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.ReLU()]
        module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    return unconv.Network(module, unconv.Preprocess((12, 12), mean=(0.5,) * 3, std=(0.25,) * 3), (3, 12, 12))


def save_pictures(folder, count, seed=0, side=16):
    """Write pictures of coarse noise into subfolders, one for each class; return their paths, sorted."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"class{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path)
    return sorted(folder.rglob("*.png"))
