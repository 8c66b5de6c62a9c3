"""The network that comes with unconv, with its weights, classes and preprocessing."""

from __future__ import annotations

import json

import safetensors
import torch

from unconv import box
from unconv.networks.opened import Opened
from unconv.networks.weights import with_weights
from unconv.pictures.preprocess import Preprocess


def open_caltech(_name: str, weights: str | None) -> Opened:
    """Open the network that comes with unconv, with the shipped weights or those in a file."""
    preprocess = Preprocess((box.SIZE, box.SIZE), box.RESIZE, box.MEAN, box.STD)
    with safetensors.safe_open(box.WEIGHTS, "pt") as file:
        classes = tuple(json.loads(file.metadata()["classes"]))
    with torch.random.fork_rng(devices=[]):  # a new module would draw from the caller's random numbers
        module = box.Caltech(len(classes)).eval()
    source = "as the network in the box was trained"
    opened = Opened(
        module,
        "unconv:caltech",
        "trained",
        preprocess,
        (3, box.SIZE, box.SIZE),
        classes,
        trained_with="" if weights else source,
        guess=source,
    )
    return with_weights(opened, weights) if weights else with_weights(opened, box.WEIGHTS, "trained, as shipped")
