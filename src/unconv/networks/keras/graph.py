"""A Keras model as a torch module: its graph, with one child per layer under the layer's name.

torch's hooks do not see Keras' layers, and most Keras models keep channels last. Here each layer is rewritten in
torch's operations, channels first, on weights that share memory with the model's own; the model itself is only read. A
layer without a row in the table is run by Keras: its input is converted to Keras' layout and its output back. The places
within such a layer have their channels where Keras has them.
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
    """A tensor of the graph, by index."""

    index: int


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its name, its arguments, and the wires of its results."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int, ...]


class KerasGraph(nn.Module):
    """The graph of a Keras model.

    Args:
        function: Keras' own functional model, which is only read.
        layout: whether its channels come last.
    """

    def __init__(self, function: Any, layout: Layout):
        super().__init__()
        wires: dict[int, int] = {}
        names: dict[int, str] = {}

        def number(tensor: Any) -> int:
            return wires.setdefault(id(tensor), len(wires))

        def wire(argument: Any) -> Any:
            return _Wire(number(argument)) if _is_symbolic(argument) else argument

        self.inputs = [number(tensor) for tensor in function.inputs]
        self.calls: list[_Call] = []
        # Keras counts depth from the output, so the deepest nodes run first. A layer called twice is one child with two calls.
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                operation = node.operation
                if id(operation) not in names:
                    names[id(operation)] = self._add(operation, node, layout)
                args, kwargs = node.arguments.convert(wire)
                self.calls.append(_Call(names[id(operation)], args, kwargs, tuple(number(t) for t in node.outputs)))
        self.outputs = [number(tensor) for tensor in function.outputs]

    def _add(self, operation: Any, node: Any, layout: Layout) -> str:
        """Add a child that computes `operation` and return its name; a name already in use gets a number."""
        name = base = _plain(operation.name)
        count = 0
        while hasattr(self, name):
            count += 1
            name = f"{base}_{count}"
        self.add_module(name, _child(operation, node, layout))
        return name

    def forward(self, *images: Any, **_options: Any) -> Any:
        """Run the model, channels first; several results are returned as a list."""
        values: dict[int, Tensor] = dict(zip(self.inputs, tree_leaves(images), strict=True))

        def value_of(argument: Any) -> Any:
            return values[argument.index] if isinstance(argument, _Wire) else argument

        for call in self.calls:
            args, kwargs = tree_map(value_of, (call.args, call.kwargs))
            values.update(zip(call.outputs, tree_leaves(self.get_submodule(call.name)(*args, **kwargs)), strict=True))
        results = [values[index] for index in self.outputs]
        return results[0] if len(results) == 1 else results


def graph_of(operation: Any) -> Any:
    """Return the functional model behind a Keras model; None if it has no graph."""
    function = getattr(operation, "_functional", operation)
    return function if hasattr(function, "_nodes_by_depth") else None


def _is_symbolic(argument: Any) -> bool:
    return type(argument).__name__ == "KerasTensor"


def as_torch_module(model: Any) -> nn.Module:
    """Return a Keras model rewritten as a torch module that takes (1, C, samples..).

    A subclassed model is traced: its `call` runs once on Keras' symbolic tensors.

    Raises:
        ModelError: it takes several inputs, is not built, or cannot be traced.
    """
    function, layout = graph_of(model), Layout.of(model)
    if function is None:  # a subclassed model must be traced, which needs its input shape
        if not model.built or (shape := built_shape(model)) is None:
            raise ModelError(
                f"load: the Keras model {model.name} is not built. Start it with keras.Input(shape), or call it once."
            )
        graph = _trace(model, shape, layout)
        if graph is None:
            raise ModelError(
                f"load: the Keras model {model.name} has no graph, and its call cannot be traced with symbolic tensors. "
                "Build it from keras.Input, layers and keras.ops."
            )
        return graph.eval()
    if len(function.inputs) != 1:
        names = ", ".join(tensor.name for tensor in function.inputs)
        raise ModelError(
            f"load: the Keras model {model.name} takes {len(function.inputs)} inputs ({names}), but one image was "
            "needed. Build a model with one input."
        )
    return KerasGraph(function, layout).eval()


def built_shape(model: Any) -> tuple[int | None, ...] | None:
    """Return the shape that a Keras model without a graph was built for, batch first; None if unknown."""
    shape = (model.get_build_config() or {}).get("input_shape")
    flat = isinstance(shape, list | tuple) and all(length is None or isinstance(length, int) for length in shape)
    return tuple(shape) if shape and flat else None


def _child(operation: Any, node: Any, layout: Layout) -> nn.Module:
    function = graph_of(operation)
    if function is not None:
        return KerasGraph(function, layout)
    foreign = not type(operation).__module__.startswith("keras.src.")
    if foreign and getattr(operation, "_layers", None) and len(node.input_tensors) == 1:
        graph = _trace(operation, tuple(node.input_tensors[0].shape), layout)
        if graph is not None:
            return graph
    return _translate(operation, node, layout)


def _trace(model: Any, shape: tuple[int | None, ...], layout: Layout) -> KerasGraph | None:
    """Return the graph that the `call` of a model or layer builds from its own layers; None if it builds none.

    The nodes that Keras adds to those layers while tracing are removed afterwards.
    """
    keras = library("keras", "keras")
    node_counts = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model._flatten_layers()]
    options = {"training": False} if model._call_has_training_arg else {}
    try:
        image = keras.Input(shape[1:])
        return KerasGraph(keras.Model(image, model.call(image, **options)), layout)
    except Exception:  # the user's code can raise anything on a symbolic tensor
        return None
    finally:
        for layer, inbound, outbound in node_counts:
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]


@dataclass(frozen=True)
class _Foreign:
    """A layer that Keras runs itself, in its own number type; copies of the module around it share it."""

    layer: Any
    layout: Layout

    def __deepcopy__(self, memo: Any) -> _Foreign:
        return self

    def __call__(self, _weights: Layer, *args: Any, **options: Any) -> Any:
        # The Keras layer keeps its own dtype if the module around it is converted, as to float64: cast on the way in and out.
        outer = next(value.dtype for value in tree_leaves((args, options)) if isinstance(value, Tensor))
        dtypes = (p.dtype for p in self.layer.parameters()) if isinstance(self.layer, nn.Module) else iter(())
        inner = next((dtype for dtype in dtypes if dtype.is_floating_point), outer)

        def cast(value: Any, dtype: torch.dtype) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        args, options = tree_map(lambda value: self.layout.keras(cast(value, inner)), (args, options))
        if getattr(self.layer, "_call_has_training_arg", False):
            options = {**options, "training": False}
        return tree_map(lambda value: self.layout.ours(cast(value, outer)), self.layer(*args, **options))


def _translate(operation: Any, node: Any, layout: Layout) -> Layer:
    """Return a module that computes a Keras layer or an operation of `keras.ops`."""
    layer = _from_table(operation, node, layout)
    if layer is not None:
        return layer
    variables = getattr(operation, "variables", ())
    return Layer(_Foreign(operation, layout), {_plain(variable.path): variable for variable in variables})


def _from_table(operation: Any, node: Any, layout: Layout) -> Layer | None:
    module = type(operation).__module__
    row = (OPERATIONS if module.startswith("keras.src.ops") else LAYERS).get(type(operation).__name__)
    altered = getattr(operation, "quantization_mode", None) or getattr(operation, "lora_enabled", False)
    if row is None or altered or not module.startswith("keras.src.") or not layout.fits(operation):
        return None
    arguments = node.arguments.args, node.arguments.kwargs
    constants = (argument for argument in tree_leaves(arguments) if not _is_symbolic(argument))
    if not all(argument is None or isinstance(argument, bool | int | float) for argument in constants):
        return None  # a constant tensor would need its channels moved
    return row(operation, Facts(tuple(len(tensor.shape) for tensor in node.input_tensors), layout))


def _plain(name: str) -> str:
    """Return a name that torch allows for a child or a parameter of a module."""
    return name.replace(".", "_").replace("/", "_")
