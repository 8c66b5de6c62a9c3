"""The nodes of an ONNX graph as steps: their operator's row, their attributes, their inputs and outputs."""

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
        name: the node's own name in the file, or that of its first output.
        operator: ONNX' name of the operator.
        title: the operator, opset and node, in words, for errors.
        inputs: the names of the values that it reads; "" for an optional one that is missing.
        outputs: the names of the values that it returns; "" for one that nothing reads.
        options: the keyword arguments of its function.
        branches: both graphs of an If.
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
    """Return the nodes that the outputs depend on, in order."""
    needed, live = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(read_by(node))
            live.append(node)
    return live[::-1]


def read_by(node: Any) -> set[str]:
    """Return the names of all values that a node may read, also in the graphs within it."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        for graph in graphs:
            names.update(output.name for output in graph.output)
            for inner in graph.node:
                names |= read_by(inner)
    return names


def step_of(node: Any, file: OnnxFile) -> OnnxStep:
    """Return a node as a step.

    Raises:
        UnconvError: its operator is not supported, or not with these attributes.
    """
    name = node.name or next((output for output in node.output if output), "") or node.op_type
    is_standard = node.domain in ("", "ai.onnx")
    operator = node.op_type if is_standard else f"{node.domain}.{node.op_type}"
    title = (
        f"the operator {operator} (opset {file.opset}) at {shown(name)}"
        if is_standard
        else f"the operator {shown(operator)} at {shown(name)}"
    )
    attributes = {attribute.name: attribute for attribute in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    if is_standard and node.op_type == "If":
        branches = {"True": attributes["then_branch"].g, "False": attributes["else_branch"].g}
        return OnnxStep(name, operator, title, None, inputs, outputs, {}, branches)
    row = OPERATORS.get(node.op_type) if is_standard else None
    if row is None:
        raise UnconvError(f"load: {file.path} has {title}, which unconv does not run. {_instead(node.op_type, is_standard)}")
    options = {}
    for key, attribute in attributes.items():
        if key == "consumed_inputs":  # up to opset 5 it listed the inputs that may be overwritten
            continue
        if key not in row.attributes:
            raise UnconvError(
                f"load: {file.path} has {title} with the attribute {shown(key)}, which unconv does not know. "
                "Export the model without it."
            )
        options[key] = _value(attribute, file, title, key in row.types)
    for key, value in {"opset": file.opset, "outputs": len(outputs), "constant": False}.items():
        if key in row.asks:
            options[key] = value
    return OnnxStep(name, operator, title, row, inputs, outputs, options)


def _instead(operator: str, is_standard: bool) -> str:
    if not is_standard:
        return "Export the model with ONNX' own operators only."
    if operator in ("Loop", "Scan") or operator.startswith(_SEQUENCES):
        return "Export the model without loops and sequences, for a fixed input size."
    if "Quantize" in operator or operator.startswith("QLinear") or operator.endswith("Integer"):
        return "Export the model without quantisation, in float32."
    if operator in ("NonMaxSuppression", "RoiAlign"):
        return "Export the model without its post-processing."
    return "Export the model without this operator."


def constant_of(node: Any, file: OnnxFile) -> Tensor:
    """Return the tensor of a Constant node.

    Raises:
        UnconvError: it has none.
    """
    # The value is in one of several attributes, each for one type; strings and sparse tensors are refused below.
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
        content = "nothing" if attribute is None else attribute.name
        raise UnconvError(
            f"load: {file.path} has {title}, which contains {content}, but numbers were needed. Export the model without it."
        )
    return torch.tensor(_value(attribute, file, title, False), dtype=kinds[attribute.name], device="cpu")


def _value(attribute: Any, file: OnnxFile, title: str, is_type: bool) -> Any:
    """Return an attribute's value: a number, a string, a list of numbers, or a tensor."""
    if attribute.ref_attr_name:
        raise UnconvError(
            f"load: {file.path} has {title} with an attribute of a function, but outside any function. Export the model again."
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
            f"load: {file.path} has {title} with the attribute {shown(attribute.name)}, which is neither numbers nor a string. "
            "Export the model without it."
        )
    value = kinds[attribute.type]()
    # A number type is passed as an empty tensor of it, which is converted with the module, as by `module.double()`.
    return torch.empty(0, dtype=torch_type(value, f"load: {file.path}: {title}"), device="cpu") if is_type else value
