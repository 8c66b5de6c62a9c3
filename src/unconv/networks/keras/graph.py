"""A Keras model as a module of torch: its graph, with a child for each layer that has its name.

Keras' layers hide from torch's hooks, and most of Keras' models keep channels last. Here each layer
is written anew in torch's operations, channels first, on weights that share the memory of the
model's own; the model itself is only read. A layer that nobody wrote anew is run by Keras, turned
to its layout and back; within it, a place's channels are where Keras has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unconv.errors import ModelError
from unconv.networks.keras.layers import LAYERS, OPERATIONS
from unconv.networks.keras.layout import Facts, Layer, Layout
from unconv.networks.opened import library


@dataclass(frozen=True)
class _Wire:
    """A tensor of the graph, by number."""

    index: int


@dataclass(frozen=True)
class _Call:
    """One run of a layer: its name, its arguments, and the wires of its results."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int, ...]


class KerasGraph(nn.Module):
    """The graph of a Keras model.

    Args:
        function: Keras' own functional model; only read.
        layout: where its channels are.
    """

    def __init__(self, function: Any, layout: Layout):
        super().__init__()
        wires: dict[int, int] = {}
        names: dict[int, str] = {}

        def number(tensor: Any) -> int:
            return wires.setdefault(id(tensor), len(wires))

        def wired(argument: Any) -> Any:
            return _Wire(number(argument)) if _is_symbolic(argument) else argument

        self.inputs = [number(tensor) for tensor in function.inputs]
        self.calls: list[_Call] = []
        # The deepest nodes are the first to be computed. A layer called twice is one child with two calls.
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                operation = node.operation
                if id(operation) not in names:
                    names[id(operation)] = self._add(operation, node, layout)
                args, kwargs = node.arguments.convert(wired)
                self.calls.append(_Call(names[id(operation)], args, kwargs, tuple(number(t) for t in node.outputs)))
        self.outputs = [number(tensor) for tensor in function.outputs]

    def _add(self, operation: Any, node: Any, layout: Layout) -> str:
        """Add a child that does what `operation` does, and return its name; two of one name are told apart."""
        name = base = _plain(operation.name)
        count = 0
        while hasattr(self, name):
            count += 1
            name = f"{base}_{count}"
        self.add_module(name, _child(operation, node, layout))
        return name

    def forward(self, *images: Any, **_options: Any) -> Any:
        """Run the model, channels first; several results come as a list."""
        known: dict[int, Tensor] = dict(zip(self.inputs, tree_leaves(images), strict=True))

        def filled(argument: Any) -> Any:
            return known[argument.index] if isinstance(argument, _Wire) else argument

        for call in self.calls:
            args, kwargs = tree_map(filled, (call.args, call.kwargs))
            known.update(zip(call.outputs, tree_leaves(self.get_submodule(call.name)(*args, **kwargs)), strict=True))
        results = [known[index] for index in self.outputs]
        return results[0] if len(results) == 1 else results


def graph_of(operation: Any) -> Any:
    """Return the functional model behind a Keras model; None if it has no graph."""
    function = getattr(operation, "_functional", operation)
    return function if hasattr(function, "_nodes_by_depth") else None


def _is_symbolic(argument: Any) -> bool:
    return type(argument).__name__ == "KerasTensor"


def adapted(model: Any) -> nn.Module:
    """Write a Keras model anew as a module of torch that takes (1, C, samples..).

    A subclassed model is followed through its `call`, with Keras' symbolic tensors.

    Raises:
        ModelError: it takes several inputs, is not built, or cannot be followed.
    """
    function, layout = graph_of(model), Layout.of(model)
    if function is None:  # subclassed: its graph has to be traced, for which its shape must be known
        if not model.built or (shape := built_shape(model)) is None:
            raise ModelError(
                f"load: the Keras model {model.name} is not built. Begin it with keras.Input(shape), or call it once."
            )
        graph = _traced(model, shape, layout)
        if graph is None:
            raise ModelError(
                f"load: the Keras model {model.name} has no graph, and its call cannot be followed from layer to layer. "
                "Make it of keras.Input, layers and keras.ops."
            )
        return graph.eval()
    if len(function.inputs) != 1:
        names = ", ".join(tensor.name for tensor in function.inputs)
        raise ModelError(
            f"load: the Keras model {model.name} takes {len(function.inputs)} inputs ({names}), but one image was "
            "needed. Make a model of one input."
        )
    return KerasGraph(function, layout).eval()


def built_shape(model: Any) -> tuple[int | None, ...] | None:
    """Return the shape that a Keras model without a graph was built for, batch first; None if that is not known."""
    shape = (model.get_build_config() or {}).get("input_shape")
    flat = isinstance(shape, list | tuple) and all(length is None or isinstance(length, int) for length in shape)
    return tuple(shape) if shape and flat else None


def _child(operation: Any, node: Any, layout: Layout) -> nn.Module:
    function = graph_of(operation)
    if function is not None:
        return KerasGraph(function, layout)
    foreign = not type(operation).__module__.startswith("keras.src.")
    if foreign and getattr(operation, "_layers", None) and len(node.input_tensors) == 1:
        graph = _traced(operation, tuple(node.input_tensors[0].shape), layout)
        if graph is not None:
            return graph
    return _translated(operation, node, layout)


def _traced(model: Any, shape: tuple[int | None, ...], layout: Layout) -> KerasGraph | None:
    """Trace the graph that a model's, or a layer's, `call` makes of its own layers; None if it makes none.

    The nodes that Keras adds to the layers meanwhile are removed again.
    """
    keras = library("keras", "keras")
    known = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model._flatten_layers()]
    options = {"training": False} if model._call_has_training_arg else {}
    try:
        image = keras.Input(shape[1:])
        return KerasGraph(keras.Model(image, model.call(image, **options)), layout)
    except Exception:  # what a stranger's code raises on a symbolic tensor can be anything
        return None
    finally:
        for layer, inbound, outbound in known:
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


@dataclass(frozen=True)
class _Foreign:
    """A layer that Keras runs itself, in its own type; copies of the module around it share it."""

    layer: Any
    layout: Layout

    def __deepcopy__(self, memo: Any) -> _Foreign:
        return self

    def __call__(self, _weights: Layer, *args: Any, **options: Any) -> Any:
        here = next(value.dtype for value in tree_leaves((args, options)) if isinstance(value, Tensor))
        kinds = (p.dtype for p in self.layer.parameters()) if isinstance(self.layer, nn.Module) else iter(())
        there = next((kind for kind in kinds if kind.is_floating_point), here)

        def cast(value: Any, dtype: torch.dtype) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        args, options = tree_map(lambda value: self.layout.keras(cast(value, there)), (args, options))
        if getattr(self.layer, "_call_has_training_arg", False):
            options = {**options, "training": False}
        return tree_map(lambda value: self.layout.ours(cast(value, here)), self.layer(*args, **options))


def _translated(operation: Any, node: Any, layout: Layout) -> Layer:
    """Make the module that does what a Keras layer, or an operation of `keras.ops`, does."""
    known = _by_row(operation, node, layout)
    if known is not None:
        return known
    variables = getattr(operation, "variables", ())
    return Layer(_Foreign(operation, layout), {_plain(variable.path): variable for variable in variables})


def _by_row(operation: Any, node: Any, layout: Layout) -> Layer | None:
    home = type(operation).__module__
    row = (OPERATIONS if home.startswith("keras.src.ops") else LAYERS).get(type(operation).__name__)
    altered = getattr(operation, "quantization_mode", None) or getattr(operation, "lora_enabled", False)
    if row is None or altered or not home.startswith("keras.src.") or not layout.fits(operation):
        return None
    arguments = node.arguments.args, node.arguments.kwargs
    settled = (argument for argument in tree_leaves(arguments) if not _is_symbolic(argument))
    if not all(argument is None or isinstance(argument, bool | int | float) for argument in settled):
        return None  # a constant would have to be turned
    return row(operation, Facts(tuple(len(tensor.shape) for tensor in node.input_tensors), layout))


def _plain(name: str) -> str:
    """Turn a name into one that a child or a parameter of a module may have."""
    return name.replace(".", "_").replace("/", "_")
