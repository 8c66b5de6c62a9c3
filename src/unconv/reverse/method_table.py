"""The methods of going back, one row each. This file does not import torch, so that the command lists them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Method = Literal["deconvnet", "gradient", "guided", "desalinet", "switch-centre"]
"""The name of a method of going back, a row of `METHODS`."""
Activations = Literal["rectify", "gradient", "pass", "error"]
"""What a method does at rectifiers other than ReLU: see `Rules`."""


@dataclass(frozen=True)
class Row:
    """One method.

    Args:
        words: what it does, for pages and `--help`.
        rules: for an operation, by its common name, the rule that replaces backpropagation, as
            "module:function" of `unconv.reverse.rules`.
        skip: whether signals pass local response norms as if they were not there.
        freeze: whether gates, and statistics that a norm took from the picture, are constants.
    """

    words: str
    rules: Mapping[str, str] = field(default_factory=dict)
    skip: bool = False
    freeze: bool = True


METHODS: dict[Method, Row] = {
    "deconvnet": Row(
        "the signal going back is rectified at each rectifier (Zeiler & Fergus 2014)",
        {"relu": "pointwise:rectify"},
        skip=True,
    ),
    "gradient": Row(
        "exact backpropagation of the activation",
        {"no_grad": "shape:detach", "custom_function": "custom:own_backward"},
        freeze=False,
    ),
    "guided": Row(
        "rectified, and passed only where the forward pass was positive (Springenberg et al. 2015)",
        {"relu": "pointwise:rectify_passed"},
    ),
    "desalinet": Row(
        "as guided, and local response norms are skipped (Mahendran & Vedaldi 2016)",
        {"relu": "pointwise:rectify_passed"},
        skip=True,
    ),
    "switch-centre": Row(
        "deconvnet, but each maximum returns to the centre of its window: what the switches contribute "
        "is missing (Mahendran & Vedaldi 2016)",
        {
            "relu": "pointwise:rectify",
            "max_pool2d": "pool:max_pool_to_centre",
            "max_pool3d": "pool:max_pool_to_centre",
        },
        skip=True,
    ),
}


def method_help() -> str:
    """Return the methods' names in one line."""
    *names, last = METHODS
    return f"{', '.join(names)} or {last}."
