"""Reverse rules of rectifiers: where the methods differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unconv.reverse.rules.table import local, one_channel, rule
from unconv.reverse.tape import Step
from unconv.reverse.window import Window

aten = torch.ops.aten


def _passed(_args: tuple[Any, ...], results: tuple[Any, ...]) -> Tensor:
    passed: Tensor = results[0] > 0
    return passed


@one_channel
@rule(aten.relu.default, reach=local, keep=_passed)
def relu_gradient(step: Step, r: Window) -> Window:
    """Backpropagation: the signal passes where the forward pass was positive."""
    return r.times(step.kept)


@one_channel
def rectify(_step: Step, r: Window) -> Window:
    """Deconvnet: what goes back is rectified, whatever passed forward.

    Source:
        Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), sec. 2.1.
    """
    return r.map(lambda values: values.clamp(min=0))


@one_channel
def rectify_passed(step: Step, r: Window) -> Window:
    """Guided backpropagation: both.

    Source:
        Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (2015), sec. 3.4.
    """
    return relu_gradient(step, rectify(step, r))
