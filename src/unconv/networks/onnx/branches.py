"""The nodes within an If, moved into the graph around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unconv.networks.onnx.reading import OnnxFile
from unconv.networks.onnx.steps import OnnxStep, live_nodes
from unconv.networks.onnx.tensors import read_tensor
from unconv.networks.opened import library


def branch_nodes(graph: Any, step: OnnxStep, number: int, file: OnnxFile) -> tuple[dict[str, Tensor], list[Any]]:
    """Return the tensors and nodes of a branch under new names of their values; its outputs become those of the If.

    Args:
        number: makes the names of this branch different from all others.
    """
    onnx = library("onnx", "onnx")
    inner_names = {name for node in graph.node for name in node.output if name} | {proto.name for proto in graph.initializer}
    names = {name: f"{step.outputs[0]}\0{number}\0{name}" for name in inner_names}
    weights = {names[proto.name]: read_tensor(proto, file.files) for proto in graph.initializer}
    nodes = []
    for node in live_nodes(graph.node, [output.name for output in graph.output]):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        _rename(copy, names)
        if not copy.name:  # the place keeps the file's name, not the new one
            copy.name = next((output for output in node.output if output), "")
        nodes.append(copy)
    for inner_output, outer_name in zip(graph.output, step.outputs, strict=True):
        source = names.get(inner_output.name, inner_output.name)
        if outer_name:
            nodes.append(onnx.helper.make_node("Identity", [source], [outer_name], name=step.name))
    return weights, nodes


def _rename(node: Any, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for inner in graph.node:
                _rename(inner, names)
            for output in graph.output:
                output.name = names.get(output.name, output.name)
