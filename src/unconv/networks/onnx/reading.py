"""An ONNX file as data: parsed, checked, and its tensors read. Nothing in it is run, and no name in it is trusted."""

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

_MOST_NODES = 200_000  # in a file, once its functions are inlined


@dataclass(frozen=True)
class OnnxFile:
    """The content of a file.

    Args:
        nodes: the graph's nodes, in order.
        weights: its tensors, by name.
        inputs: its inputs, each a ValueInfoProto.
        outputs: the names of its outputs.
        opset: the version of ONNX' own operators.
        files: the data files in which tensors of its nodes may be kept.
    """

    path: Path
    nodes: tuple[Any, ...]
    weights: Mapping[str, Tensor]
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...]
    opset: int
    files: DataFiles


def shown(name: str) -> str:
    """Return a name from the file fit for an error: shortened, with unprintable characters escaped."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name[:100])
    return printable if len(name) <= 100 else f"{printable}.."


def read_onnx(path: Path) -> OnnxFile:
    """Read the graph in an ONNX file.

    Raises:
        WeightsError: there is no such file, or it is damaged, or its tensors and their data do not agree.
        ModelError: it is valid, but contains something that cannot be run backwards.
    """
    onnx = library("onnx", "onnx")
    if not os.path.isfile(path):
        raise WeightsError(f"load: there is no file {path}. Pass onnx:FILE.")
    model = _parse(onnx, path)
    if model.functions:
        model = _inline_functions(onnx, model, path)
    _check(onnx, model, path)
    graph, files = model.graph, DataFiles(path)
    if graph.sparse_initializer:
        raise ModelError(f"load: {path} contains sparse tensors, which cannot be read. Export the model with dense ones.")
    weights = {proto.name: read_tensor(proto, files) for proto in graph.initializer}
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    # Up to version 3 of the format every weight was listed as an input, too; what is left must be the image.
    inputs = tuple(value for value in graph.input if value.name not in weights)
    return OnnxFile(path, tuple(graph.node), weights, inputs, tuple(out.name for out in graph.output), opset, files)


def _parse(onnx: Any, path: Path) -> Any:
    try:
        # Name the format: a file name ending in .json or .txt would choose another. Data files are read by `DataFiles`.
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf raises its own error, and others for a file that is no protobuf
        raise damaged(path, error) from error
    if any(isinstance(text, bytes) for text in _texts(model)):  # protobuf returns invalid text as bytes
        raise damaged(path, ValueError("a name in it is not valid text"))
    if not model.graph.node or not model.opset_import:
        raise WeightsError(f"load: {path} contains no complete graph. Export the model again.")
    return model


def _texts(message: Any) -> Iterator[str | bytes]:
    """Yield all strings in a protobuf message."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value
        elif field.type == field.TYPE_MESSAGE:
            for inner in value if hasattr(value, "__len__") else [value]:
                yield from _texts(inner)


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that is not ONNX, or is damaged."""
    return WeightsError(
        f"load: {path} cannot be read as ONNX; it is damaged or cut off: {' '.join(str(error).split())[:300]}. "
        "Export the model again."
    )


def _check(onnx: Any, model: Any, path: Path) -> None:
    """Check the graph with ONNX' own checker.

    Its tensors are declared as inputs, because their data is checked where it is read.
    """
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    for node in graph.node:
        for tensor in _tensors(node):
            _without_data(tensor)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    for value in (*graph.input, *graph.output):  # their shapes may be missing in the file, which does not matter here
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            value.type.tensor_type.shape.SetInParent()
            value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or 1
    declared = {value.name for value in graph.input}
    for proto in model.graph.initializer:
        if proto.name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(proto.name, proto.data_type or 1, list(proto.dims)))
            declared.add(proto.name)
    try:
        onnx.checker.check_model(bare)
    except Exception as error:  # ValidationError, and what protobuf raises for a model above 2 GiB
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
    """Yield the nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _with_branches(attribute.g.node)
            for graph in attribute.graphs:
                yield from _with_branches(graph.node)


def _inline_functions(onnx: Any, model: Any, path: Path) -> Any:
    """Return the model with every call of its own functions inlined, unless that makes too many nodes."""
    # Count first: 30 functions that each call the next one twice would expand to a billion nodes.
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
        raise ModelError(
            f"load: {path} has more than {_MOST_NODES:,} nodes once functions are inlined. Export the model without functions."
        )
    try:
        inlined = library("onnx.inliner", "onnx").inline_local_functions(model)
    except Exception as error:  # the inliner is written in C++ and can raise anything
        raise damaged(path, error) from error
    if inlined.functions:
        raise UnconvError(f"load: {path} has functions that cannot be inlined. Export the model without functions.")
    return inlined
