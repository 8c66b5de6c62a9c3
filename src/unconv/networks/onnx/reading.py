"""An ONNX file as data: parsed, checked, and its tensors read. Nothing in it is run, and no name in it is believed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unconv.errors import ModelError, UnconvError, WeightsError
from unconv.networks.onnx.external import DataFiles
from unconv.networks.onnx.tensors import read_tensor
from unconv.networks.opened import library

_MOST_NODES = 200_000  # of a file whose functions were put in place


@dataclass(frozen=True)
class OnnxFile:
    """What a file holds.

    Args:
        nodes: the graph's nodes, in order.
        weights: its tensors, by name.
        inputs: what it takes, as a ValueInfoProto each.
        outputs: the names of what it returns.
        opset: the version of ONNX' own operators.
        files: where tensors in its nodes may keep their data.
    """

    path: Path
    nodes: tuple[Any, ...]
    weights: Mapping[str, Tensor]
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...]
    opset: int
    files: DataFiles


def shown(name: str) -> str:
    """A name in the file as it may stand in an error: cut short, and what a terminal would obey is written out."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name[:100])
    return printable if len(name) <= 100 else f"{printable}.."


def read_onnx(path: Path) -> OnnxFile:
    """The graph in an ONNX file.

    Raises:
        WeightsError: there is no such file, or it is damaged, or its tensors and their data do not agree.
        ModelError: it is valid, but holds what no network that can be run backwards does.
    """
    onnx = library("onnx", "onnx")
    if not os.path.isfile(path):
        raise WeightsError(f"load: there is no file {path}. Pass onnx:FILE.")
    model = _parsed(onnx, path)
    if model.functions:
        model = _functions_in_place(onnx, model, path)
    _check(onnx, model, path)
    graph, files = model.graph, DataFiles(path)
    if graph.sparse_initializer:
        raise ModelError(f"load: {path} holds sparse tensors, which cannot be read. Export it with dense ones.")
    weights = {proto.name: read_tensor(proto, files) for proto in graph.initializer}
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    inputs = tuple(value for value in graph.input if value.name not in weights)
    return OnnxFile(path, tuple(graph.node), weights, inputs, tuple(out.name for out in graph.output), opset, files)


def _parsed(onnx: Any, path: Path) -> Any:
    try:
        # The format is said, as a name ending in .json or .txt would choose another; data beside it is read by us.
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf raises its own, and others for what is no protobuf
        raise damaged(path, error) from error
    if any(isinstance(text, bytes) for text in _texts(model)):  # what is no text is given out as bytes
        raise damaged(path, ValueError("a name in it is no text"))
    if not model.graph.node or not model.opset_import:
        raise WeightsError(f"load: {path} holds no whole graph. Export the model again.")
    return model


def _texts(message: Any) -> Iterator[str | bytes]:
    """All names and other words in a message of protobuf."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value
        elif field.type == field.TYPE_MESSAGE:
            for inner in value if hasattr(value, "__len__") else [value]:
                yield from _texts(inner)


def damaged(path: Path, error: Exception) -> WeightsError:
    """The error of a file that is no ONNX, or no longer whole."""
    return WeightsError(
        f"load: {path} cannot be read as ONNX; it is damaged or cut off: {' '.join(str(error).split())[:300]}. "
        "Export the model again."
    )


def _check(onnx: Any, model: Any, path: Path) -> None:
    """Have ONNX' checker look at the graph, whose tensors stand there as inputs: their data is checked where it is read."""
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    for node in graph.node:
        for tensor in _tensors(node):
            _without_data(tensor)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    for value in (*graph.input, *graph.output):  # whose shapes may be left out: nothing hangs on them
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            value.type.tensor_type.shape.SetInParent()
            value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or 1
    known = {value.name for value in graph.input}
    for proto in model.graph.initializer:
        if proto.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(proto.name, proto.data_type or 1, list(proto.dims)))
            known.add(proto.name)
    try:
        onnx.checker.check_model(bare)
    except Exception as error:  # ValidationError, and what protobuf raises of a model above 2 GiB
        raise damaged(path, error) from error


def _tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _without_data(tensor: Any) -> None:
    if tensor.data_location == 1:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        del tensor.dims[:]
        tensor.dims.append(0)


def _with_branches(nodes: Any) -> Iterator[Any]:
    """The nodes, and those of the graphs that they hold."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _with_branches(attribute.g.node)
            for graph in attribute.graphs:
                yield from _with_branches(graph.node)


def _functions_in_place(onnx: Any, model: Any, path: Path) -> Any:
    """The model with what its own functions hold in place of each call of them, if that is not too much."""
    functions = {(function.domain, function.name): function for function in model.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Any, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in _with_branches(nodes):
            key = (node.domain, node.op_type)
            if key in functions and key not in counts:
                if key in within or len(within) > 100:
                    raise ModelError(f"load: {path} has a function {node.op_type!r} that calls itself. Export the model again.")
                counts[key] = count(functions[key].node, (*within, key))
            total = min(total + counts.get(key, 1), _MOST_NODES + 1)
        return total

    if count(model.graph.node, ()) > _MOST_NODES:
        raise ModelError(f"load: {path} comes to more than {_MOST_NODES:,} nodes. Export the model without functions.")
    try:
        made = library("onnx.inliner", "onnx").inline_local_functions(model)
    except Exception as error:  # the inliner is C++ and raises what it likes
        raise damaged(path, error) from error
    if made.functions:
        raise UnconvError(f"load: {path} holds functions that cannot be put in place. Export the model without functions.")
    return made
