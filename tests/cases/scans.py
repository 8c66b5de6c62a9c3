"""Small networks and pictures that tests of scans share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

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


class Faulty(nn.Sequential):
    """A network that in other processes than the one that made it does what is asked for: "kill", "raise", "wait" or "pause".

    Args:
        faults: each done once, in this order; `folder`: in which it notes that they were.
        passes: of a process, after which its next forward pass does one.
    """

    forwards = 0

    def __init__(self, *layers, faults=(), folder="", passes=8):
        super().__init__(*layers)
        self.faults, self.folder, self.passes, self.home = list(faults), str(folder), passes, os.getpid()

    def forward(self, x):
        Faulty.forwards += 1
        if self.faults and os.getpid() != self.home and Faulty.forwards > self.passes:
            self._fail()
        return super().forward(x)

    def _fail(self):
        for number, fault in enumerate(self.faults):
            try:
                (Path(self.folder) / f"{number}.{fault}").touch(exist_ok=False)
            except FileExistsError:
                continue
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "raise":
                raise KeyError("it fails")
            time.sleep(12 if fault == "pause" else 600)


def faulty(*faults, folder="", passes=8):
    """The network of `small`, with faults; without any it is the same network."""
    network = small()
    module = Faulty(*network.module, faults=faults, folder=folder, passes=passes).eval()
    return unconv.Network(module, network.preprocess, network.input_size)
