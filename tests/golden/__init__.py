"""TensorFlow's own answers: see golden/README.md."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FOLDER = Path(__file__).parent

CASES: list[dict[str, Any]] = json.loads((_FOLDER / "tensorflow.json").read_text())["cases"]
ANSWERS = [case for case in CASES if "error" not in case["tags"]]
REFUSALS = [case for case in CASES if "error" in case["tags"]]


@cache
def _arrays() -> Any:
    return np.load(_FOLDER / "tensorflow.npz")


def inputs(case: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that went in, by their argument's name."""
    return {name: torch.from_numpy(_arrays()[key]) for name, key in case["inputs"].items()}


def outputs(case: dict[str, Any]) -> dict[str, Tensor]:
    """What TensorFlow gave."""
    return {name: torch.from_numpy(_arrays()[key]) for name, key in case["outputs"].items()}
