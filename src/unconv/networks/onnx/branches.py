"""The nodes within an If, as nodes of the graph that it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unconv.networks.onnx.reading import OnnxFile
from unconv.networks.onnx.steps import OnnxStep, live_nodes
from unconv.networks.onnx.tensors import read_tensor
from unconv.networks.opened import library


def branch_nodes(graph: Any, step: OnnxStep, number: int, file: OnnxFile) -> tuple[dict[str, Tensor], list[Any]]:
    """The tensors and nodes of a branch, whose values get names of their own; its outputs become those of the If.

    Args:
        number: what tells the names of this branch from all others.
    """
    onnx = library("onnx", "onnx")
    inner = {name for node in graph.node for name in node.output if name} | {proto.name for proto in graph.initializer}
    names = {name: f"{step.outputs[0]}\0{number}\0{name}" for name in inner}
    weights = {names[proto.name]: read_tensor(proto, file.files) for proto in graph.initializer}
    nodes = []
    for node in live_nodes(graph.node, [output.name for output in graph.output]):
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        _rename(copied, names)
        if not copied.name:  # a place is called what the file calls it, not what we do
            copied.name = next((output for output in node.output if output), "")
        nodes.append(copied)
    for inside, outside in zip(graph.output, step.outputs, strict=True):
        source = names.get(inside.name, inside.name)
        if outside:
            nodes.append(onnx.helper.make_node("Identity", [source], [outside], name=step.name))
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
