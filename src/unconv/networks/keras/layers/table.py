"""The table of Keras' layers in torch's operations, channels first: one row a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from unconv.networks.keras.layout import Facts, Layer

Row = Callable[[Any, Facts], Layer | None]
"""Takes a Keras layer and returns the module that computes it; None for a setting it does not support: Keras then runs it."""

_R = TypeVar("_R", bound=Row)
_LAYERS: dict[str, Row] = {}
_OPERATIONS: dict[str, Row] = {}

LAYERS: Mapping[str, Row] = MappingProxyType(_LAYERS)
"""The rows of Keras' layers, by class name. A layer without a row is run by Keras itself."""

OPERATIONS: Mapping[str, Row] = MappingProxyType(_OPERATIONS)
"""The rows of operations of `keras.ops` in a graph, such as the sum that `x + y` makes."""


def keras_layer(*names: str) -> Callable[[_R], _R]:
    """Register a function as the row of the Keras layers `names`."""
    return lambda row: _register(_LAYERS, names, row)


def keras_operation(*names: str) -> Callable[[_R], _R]:
    """Register a function as the row of the `keras.ops` operations `names`."""
    return lambda row: _register(_OPERATIONS, names, row)


def _register(table: dict[str, Row], names: tuple[str, ...], row: _R) -> _R:
    table.update(dict.fromkeys(names, row))
    return row
