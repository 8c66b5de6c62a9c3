"""The table of Keras' layers in torch's operations, channels first: one row a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from unconv.networks.keras.layout import Facts, Layer

Row = Callable[[Any, Facts], Layer | None]
"""Takes Keras' layer and returns what runs it; None where it does not know a setting, and Keras runs the layer itself."""

_R = TypeVar("_R", bound=Row)
_LAYERS: dict[str, Row] = {}
_OPERATIONS: dict[str, Row] = {}

LAYERS: Mapping[str, Row] = MappingProxyType(_LAYERS)
"""The rows of Keras' layers, by the names of their classes. Keras runs a layer without a row itself."""

OPERATIONS: Mapping[str, Row] = MappingProxyType(_OPERATIONS)
"""The rows of operations of `keras.ops` in a graph, such as the sum that `x + y` makes."""


def keras_layer(*names: str) -> Callable[[_R], _R]:
    """Make a function the row of Keras' layers called `names`."""
    return lambda row: _register(_LAYERS, names, row)


def keras_operation(*names: str) -> Callable[[_R], _R]:
    """Make a function the row of the operations of `keras.ops` called `names`."""
    return lambda row: _register(_OPERATIONS, names, row)


def _register(table: dict[str, Row], names: tuple[str, ...], row: _R) -> _R:
    table.update(dict.fromkeys(names, row))
    return row
