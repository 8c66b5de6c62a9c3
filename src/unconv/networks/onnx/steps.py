"""The nodes of an ONNX graph as steps: the row of their operator, their attributes, and what they read and make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unconv.errors import DtypeError, UnconvError
from unconv.networks.onnx.operators import OPERATORS, Operator
from unconv.networks.onnx.reading import OnnxFile, shown
from unconv.networks.onnx.tensors import read_tensor, torch_type

_SEQUENCES = "Sequence", "Optional", "String"


@dataclass(frozen=True)
class OnnxStep:
    """One node.

    Args:
        name: what it is called: the node's own name, or that of its first output, as it stands in the file.
        operator: ONNX' name for what it does.
        title: the operator, opset and node, in words, for errors.
        inputs: the names of the values that it reads; "" where an optional one is left out.
        outputs: the names of those it makes; "" where nothing reads one.
        options: what its function gets by keyword.
        branches: of an If, both graphs.
    """

    name: str
    operator: str
    title: str
    row: Operator | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]
    branches: Mapping[str, Any] | None = None


def live_nodes(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """The nodes that the outputs come from."""
    needed, found = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(read_by(node))
            found.append(node)
    return found[::-1]


def read_by(node: Any) -> set[str]:
    """The names of all values that a node may read, also within the graphs that it holds."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        for graph in graphs:
            names.update(output.name for output in graph.output)
            for inner in graph.node:
                names |= read_by(inner)
    return names


def step_of(node: Any, file: OnnxFile) -> OnnxStep:
    """The node as a step.

    Raises:
        UnconvError: nobody wrote its operator, or this form of it.
    """
    name = node.name or next((output for output in node.output if output), "") or node.op_type
    plain = node.domain in ("", "ai.onnx")
    operator = node.op_type if plain else f"{node.domain}.{node.op_type}"
    title = (
        f"the operator {operator} (opset {file.opset}) at {shown(name)}"
        if plain
        else f"the operator {shown(operator)} at {shown(name)}"
    )
    attributes = {attribute.name: attribute for attribute in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    if plain and node.op_type == "If":
        branches = {"True": attributes["then_branch"].g, "False": attributes["else_branch"].g}
        return OnnxStep(name, operator, title, None, inputs, outputs, {}, branches)
    row = OPERATORS.get(node.op_type) if plain else None
    if row is None:
        raise UnconvError(f"load: {file.path} has {title}, which unconv does not run. {_instead(node.op_type, plain)}")
    options = {}
    for key, attribute in attributes.items():
        if key == "consumed_inputs":  # said up to opset 5 what may be overwritten
            continue
        if key not in row.attributes:
            raise UnconvError(
                f"load: {file.path} has {title} with the attribute {shown(key)}, which unconv does not know. Export it without."
            )
        options[key] = _value(attribute, file, title, key in row.types)
    for key, value in {"opset": file.opset, "outputs": len(outputs), "constant": False}.items():
        if key in row.asks:
            options[key] = value
    return OnnxStep(name, operator, title, row, inputs, outputs, options)


def _instead(operator: str, plain: bool) -> str:
    if not plain:
        return "Export it for ONNX' own operators, without those of one program."
    if operator in ("Loop", "Scan") or operator.startswith(_SEQUENCES):
        return "Export it without loops and sequences, for a fixed input size."
    if "Quantize" in operator or operator.startswith("QLinear") or operator.endswith("Integer"):
        return "Export it without quantisation, in float32."
    if operator in ("NonMaxSuppression", "RoiAlign"):
        return "Export it without its post-processing."
    return "Export it without."


def constant_of(node: Any, file: OnnxFile) -> Tensor:
    """The tensor that a Constant node holds.

    Raises:
        UnconvError: it holds none.
    """
    (attribute,) = [a for a in node.attribute if a.name.startswith(("value", "sparse_value"))][:1] or [None]
    title = f"the operator Constant (opset {file.opset}) at {shown(node.name or node.output[0])}"
    kinds: dict[str, torch.dtype] = {
        "value_float": torch.float32,
        "value_floats": torch.float32,
        "value_int": torch.int64,
        "value_ints": torch.int64,
    }
    if attribute is not None and attribute.name == "value":
        return read_tensor(attribute.t, file.files)
    if attribute is None or attribute.name not in kinds:
        held = "nothing" if attribute is None else attribute.name
        raise UnconvError(f"load: {file.path} has {title}, which holds {held}, but numbers were needed. Export it without.")
    return torch.tensor(_value(attribute, file, title, False), dtype=kinds[attribute.name], device="cpu")


def _value(attribute: Any, file: OnnxFile, title: str, is_type: bool) -> Any:
    """An attribute's value: a number, words, a list of numbers, or a tensor."""
    if attribute.ref_attr_name:
        raise UnconvError(
            f"load: {file.path} has {title} with the attribute of a function outside one. Export the model again."
        )
    kinds: dict[int, Any] = {
        1: lambda: attribute.f,
        2: lambda: attribute.i,
        3: lambda: attribute.s.decode(errors="replace"),
        4: lambda: read_tensor(attribute.t, file.files),
        6: lambda: list(attribute.floats),
        7: lambda: list(attribute.ints),
    }
    if attribute.type not in kinds:
        raise DtypeError(
            f"load: {file.path} has {title} with the attribute {shown(attribute.name)}, which holds neither numbers nor words. "
            "Export the model without it."
        )
    value = kinds[attribute.type]()
    # A type is passed on as an empty tensor of it, which follows the module into another precision.
    return torch.empty(0, dtype=torch_type(value, f"load: {file.path}: {title}"), device="cpu") if is_type else value
