"""The configuration in a Keras file, checked before Keras reads it: the names in it, its depth and its size."""

from __future__ import annotations

import json
import math
from typing import Any

from unconv.networks.keras.allowed import is_allowed
from unconv.networks.model_files import Unfit, shown

MOST_BYTES = 1 << 24
_MOST_DEPTH = 100
_MOST_ENTRIES = 500_000  # classes named, each counted once per call of its layer
_MOST_SAMPLES = 1 << 28  # in one input


def check_config(text: bytes) -> None:
    """Check the configuration of a model.

    Raises:
        Unfit: it is damaged or too large, or names something that is not Keras' own; the message gives the name.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit("its configuration is damaged") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise Unfit("its configuration names no model")
    config.pop("compile_config", None)  # the training settings are read neither here nor by Keras
    _refuse_foreign(config)
    if _count(config) > _MOST_ENTRIES:
        raise Unfit(f"its layers come to more than {_MOST_ENTRIES:,} once inner models are counted at each call")


def _refuse_foreign(config: dict[str, Any]) -> None:
    # With a list of its own instead of recursion: the file decides the depth.
    stack: list[tuple[Any, int]] = [(config, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > _MOST_DEPTH:
            raise Unfit(f"its configuration is nested more than {_MOST_DEPTH} deep")
        if isinstance(value, list):
            stack.extend((part, depth + 1) for part in value)
        elif isinstance(value, dict):
            if "class_name" in value and not is_allowed(value):
                raise Unfit(_foreign(value))
            _refuse_size(value)
            stack.extend((part, depth + 1) for part in value.values())


def _foreign(entry: dict[str, Any]) -> str:
    """Say what an entry names, and where."""
    inner = entry.get("config")
    layer = entry.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    what = inner if entry["class_name"] == "function" and isinstance(inner, str) else entry["class_name"]
    registered = entry.get("registered_name")
    registration = f", registered as {shown(registered)}" if registered not in (None, what, entry["class_name"]) else ""
    where = f" in the layer {shown(layer)}" if layer else ""
    module = shown(entry.get("module") or "no module")
    return f"it names {shown(what)} of {module}{registration}{where}, which is not one of Keras' own layers"


def _refuse_size(entry: dict[str, Any]) -> None:
    """Refuse an input with more samples than any picture has."""
    config = entry.get("config")
    if entry.get("class_name") != "InputLayer" or not isinstance(config, dict):
        return
    shape = config.get("batch_shape") or config.get("batch_input_shape") or config.get("shape")
    if not isinstance(shape, list):
        return
    lengths = [length for length in shape if isinstance(length, int)]
    if len(shape) > 16 or any(not 0 <= length <= _MOST_SAMPLES for length in lengths) or math.prod(lengths) > _MOST_SAMPLES:
        raise Unfit(f"its input is {str(shape)[:100]}, which is more than {_MOST_SAMPLES:,} samples")


def _count(value: Any) -> int:
    """Count the classes named, once per call of their layer: Keras builds the graph of an inner model at each call."""
    if isinstance(value, list):
        return sum(map(_count, value))
    if not isinstance(value, dict):
        return 0
    calls = value.get("inbound_nodes")
    times = max(1, len(calls)) if isinstance(calls, list) else 1
    inner = sum(_count(part) for key, part in value.items() if key != "inbound_nodes")
    return times * (inner + ("class_name" in value))
