"""ONNX files, as modules of torch whose names are those of the graph's nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx

from unconv.axis import Axis
from unconv.errors import ModelError, ShapeError, UnconvError, WeightsError
from unconv.networks.opened import Opened, library

_SIDE = 224  # samples along an axis whose length the graph leaves open


def open_onnx(file: str, weights: str | None) -> Opened:
    """The model in an ONNX file, with the weights in it; data kept in files beside it is read too.

    A place is called what its node is called, or its first output if it has no name, without a
    slash before it, and with `_` for each dot. An image of channels last (NHWC), which a last axis
    of 1 or 3 samples tells, is turned within the module: it takes (1, C, H, W) all the same.

    Raises:
        WeightsError: there is no such file, it is damaged, or other weights were asked for.
        UnconvError: it holds an operator that cannot be turned into torch's.
    """
    if weights is not None:
        raise WeightsError(f"load: weights {weights!r} came with onnx:{file}; an ONNX file holds its own. Pass none.")
    path = Path(file)
    onnx, onnx2torch = library("onnx", "onnx"), library("onnx2torch", "onnx")
    model = _read(onnx, path)
    shape, last = _image(model.graph, path)
    _settle_constants(onnx, model.graph)
    _name_nodes(model.graph)
    model = onnx2torch.utils.safe_shape_inference.safe_shape_inference(model)
    _spell_out_padding(onnx, model.graph)
    _spell_out_axes(onnx, model.graph)
    with torch.random.fork_rng(devices=[]):  # its modules draw weights, before they get those of the file
        module = _converted(onnx, onnx2torch, model, path)
    if last:
        _turn(module, len(shape))
    size = (shape[-1], *shape[1:-1]) if last else shape[1:]
    return Opened(module.eval(), f"onnx:{path.name}", "those in the file", None, size)


def _read(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"load: there is no file {path}. Pass onnx:FILE.")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and missing data each raise their own
        raise WeightsError(
            f"load: {path} cannot be read as ONNX; it is damaged, cut off, or its data files are missing: "
            f"{' '.join(str(error).split())[:300]}. Export the model again."
        ) from error
    if not model.graph.node or not model.opset_import:
        raise WeightsError(f"load: {path} holds no whole graph. Export the model again.")
    return model


def _image(graph: Any, path: Path) -> tuple[tuple[int, ...], bool]:
    """The shape (1, ...) of the graph's one input, and whether its channels come last."""
    weights = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(f"load: {path} takes {len(inputs)} inputs ({names}), but one image was needed. Export it with one.")
    lengths = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    if len(lengths) not in (3, 4, 5) or (lengths[0] or 1) != 1:
        raise ShapeError(
            f"load: {path} takes {inputs[0].name} of {tuple(lengths)}, but one image was needed: (1, channels, samples..). "
            "Export it with a batch of 1, or one left open."
        )
    last = lengths[-1] in (1, 3) and lengths[1] not in (1, 3)
    channels = lengths[-1 if last else 1] or 3
    sides = [length or _SIDE for length in (lengths[1:-1] if last else lengths[2:])]
    return ((1, *sides, channels) if last else (1, channels, *sides)), last


def _name_nodes(graph: Any) -> None:
    """Give each node a name that a module may have, as near its own as that is possible."""
    values = {value.name for value in (*graph.initializer, *graph.input)}
    taken = {*values, *dir(fx.GraphModule(torch.nn.Module(), fx.Graph())), "initializers"}
    for node in graph.node:
        name = (node.name or next(iter(node.output))).lstrip("/").replace(".", "_") or node.op_type
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name


def _settle_constants(onnx: Any, graph: Any) -> None:
    """Make initializers of constants, and of what is only another name of one: converters look for weights there."""
    known = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        value = next((a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant"), None)
        if node.op_type == "Identity":
            value = known.get(node.input[0])
        if value is None or node.output[0] in {output.name for output in graph.output}:
            continue
        copied = onnx.TensorProto()
        copied.CopyFrom(value)
        copied.name = node.output[0]
        known[copied.name] = copied
        graph.initializer.append(copied)
        graph.node.remove(node)


def _spell_out_axes(onnx: Any, graph: Any) -> None:
    """Write the axes of a reduction as an attribute, as it was before opset 18."""
    known = {initializer.name: initializer for initializer in graph.initializer}
    for node in graph.node:
        if (
            node.op_type.startswith("Reduce")
            and node.op_type != "ReduceSum"
            and len(node.input) == 2
            and node.input[1] in known
        ):
            axes = onnx.numpy_helper.to_array(known[node.input[1]]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
            del node.input[1]


def _spell_out_padding(onnx: Any, graph: Any) -> None:
    """In place of SAME padding, the samples that it comes to, where the lengths are known."""
    known = {value.name: value for value in (*graph.value_info, *graph.input)}
    for node in graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        auto = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else ""
        if node.op_type not in ("Conv", "MaxPool", "AveragePool") or not auto.startswith("SAME") or node.input[0] not in known:
            continue
        lengths = [dim.dim_value for dim in known[node.input[0]].type.tensor_type.shape.dim[2:]]
        kernel = _kernel(graph, node, attributes)
        if 0 in lengths or len(kernel) != len(lengths):
            continue
        strides, dilations = (
            list(attributes[name].ints) if name in attributes else [1] * len(kernel) for name in ("strides", "dilations")
        )
        pairs = [
            Axis(k, s, None, d).pads(n)[:: -1 if auto == "SAME_LOWER" else 1]
            for k, s, d, n in zip(kernel, strides, dilations, lengths, strict=True)
        ]
        node.attribute.remove(attributes["auto_pad"])
        pads = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
        node.attribute.append(onnx.helper.make_attribute("pads", pads))


def _kernel(graph: Any, node: Any, attributes: Any) -> list[int]:
    if "kernel_shape" in attributes:
        return list(attributes["kernel_shape"].ints)
    return next((list(value.dims[2:]) for value in graph.initializer if value.name == node.input[1]), [])


def _converted(onnx: Any, onnx2torch: Any, model: Any, path: Path) -> fx.GraphModule:
    with _newer_versions(onnx, onnx2torch.node_converters.registry, model, path):
        try:
            module: fx.GraphModule = onnx2torch.convert(model)
        except Exception as error:  # a converter that meets what it does not know raises anything
            raise UnconvError(
                f"load: onnx2torch cannot turn {path} into a module of torch: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}. Export the model in another way."
            ) from error
    return module


@contextmanager
def _newer_versions(onnx: Any, registry: Any, model: Any, path: Path) -> Iterator[None]:
    """Let onnx2torch take a node of a newer opset for an older one that it knows, where the node is valid there too."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    table, added = registry._CONVERTER_REGISTRY, []
    try:
        for node in model.graph.node:
            version = _since(onnx, node, versions.get(node.domain, 1))
            wanted = registry.OperationDescription(node.domain, node.op_type, version)
            if wanted in table:
                continue
            older = [known for known in table if known[:2] == wanted[:2] and known.version < version]
            fitting = (known for known in sorted(older, key=lambda known: -known.version) if _valid(onnx, node, known.version))
            found = next(fitting, None)
            if found is None:
                raise UnconvError(
                    f"load: {path} has the operator {node.op_type} (opset {version}) at {node.name}, which onnx2torch "
                    "cannot turn into torch's. Export the model for opset 17, or without that operator."
                )
            table[wanted] = table[found]
            added.append(wanted)
        yield
    finally:
        for wanted in added:
            del table[wanted]


def _since(onnx: Any, node: Any, version: int) -> int:
    """The opset that last changed the operator, as onnx2torch looks it up."""
    try:
        return int(onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=node.domain).since_version)
    except onnx.defs.SchemaError:
        return version


def _valid(onnx: Any, node: Any, version: int) -> bool:
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = onnx.IR_VERSION, {node.domain: version}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError:
        return False
    return True


def _turn(module: fx.GraphModule, axes: int) -> None:
    """Have the graph take (1, C, samples..) where it was made for channels last."""
    image = next(node for node in module.graph.nodes if node.op == "placeholder")
    with module.graph.inserting_after(image):
        turned = module.graph.call_method("permute", (image, 0, *range(2, axes), 1))
    image.replace_all_uses_with(turned, delete_user_cb=lambda user: user is not turned)
    module.recompile()
