"""Layers and operations that join several tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from unconv.networks.keras.layers.table import Row, keras_layer, keras_operation
from unconv.networks.keras.layout import Facts, Layer


def _combine_row(combine: Callable[[Any, Any], Any]) -> Row:
    """Return the row of a layer that combines tensors or numbers sample by sample."""

    def row(_layer: Any, facts: Facts) -> Layer | None:
        return Layer(lambda _, *args: reduce(combine, tree_leaves(args)), {}) if len(set(facts.ranks)) == 1 else None

    return row


@keras_layer("Average")
def _average(_layer: Any, facts: Facts) -> Layer | None:
    same_rank = len(set(facts.ranks)) == 1
    return Layer(lambda _, tensors: reduce(operator.add, tensors) / len(tensors), {}) if same_rank else None


@keras_layer("Concatenate")
@keras_operation("Concatenate")
def _concatenate(layer: Any, facts: Facts) -> Layer:
    axis = facts.layout.axis(layer.axis, facts.ranks[0])
    return Layer(lambda _, tensors: torch.cat(list(tensors), axis), {})


@keras_layer("CustomScaleLayer")
def _scaled_sum(layer: Any, _facts: Facts) -> Layer:
    scale = float(layer.scale)
    return Layer(lambda _, pair: pair[0] + pair[1] * scale, {})


keras_layer("Add")(keras_operation("Add")(_combine_row(operator.add)))
keras_layer("Subtract")(keras_operation("Subtract")(_combine_row(operator.sub)))
keras_layer("Multiply")(keras_operation("Multiply")(_combine_row(operator.mul)))
keras_operation("Divide")(_combine_row(operator.truediv))
keras_layer("Maximum")(_combine_row(torch.maximum))
keras_layer("Minimum")(_combine_row(torch.minimum))
