"""ONNX' own node tests, as files for the opener: one input stands for the image, the others for weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from unconv.networks.onnx.external import DataFiles
from unconv.networks.onnx.image import ImageInput
from unconv.networks.onnx.planning import plan
from unconv.networks.onnx.reading import OnnxFile
from unconv.networks.onnx.steps import constant_of, step_of


def node_cases():
    """All of ONNX' node tests, by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


def tensor(values):
    """An input of a node test as a tensor of the type that the opener would read it as.

    Raises:
        TypeError: it is of a type that the opener refuses.
    """
    values = np.array(values)
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "int4": np.int8, "uint4": np.uint8}
    return torch.from_numpy(values.astype(wider.get(values.dtype.name, values.dtype)))


def as_file(case, image):
    """The case's model as a file whose weights are all inputs except the one called `image`."""
    graph = case.model.graph
    names = [value.name for value in graph.input]
    inputs = dict(zip(names, case.data_sets[0][0], strict=False))
    weights = {name: tensor(values) for name, values in inputs.items() if name != image}
    opset = next(entry.version for entry in case.model.opset_import if entry.domain in ("", "ai.onnx"))
    outputs = tuple(value.name for value in graph.output)
    path = Path("case.onnx")
    return OnnxFile(path, tuple(graph.node), weights, (), outputs, opset, DataFiles(path)), tensor(
        inputs[image]
    ) if image else None


def opened(case, image):
    """What the module makes that the case would be opened as."""
    file, samples = as_file(case, image)
    if samples is None:
        taken = ImageInput("", (1,), False, True, torch.float32)
        made = plan(file, taken, (1,)).module(taken, file.outputs)(torch.zeros(1))
    else:
        taken = ImageInput(image, tuple(samples.shape), False, True, samples.dtype)
        made = plan(file, taken, tuple(samples.shape)).module(taken, file.outputs)(samples)
    return made if isinstance(made, list) else [made]


def computed(case):
    """What the operators make if all inputs are tensors, settings too."""
    file, _ = as_file(case, None)
    values = {"": None, **file.weights}
    for node in file.nodes:
        if node.op_type == "Constant":
            values[node.output[0]] = constant_of(node, file)
            continue
        step = step_of(node, file)
        made = step.row.function(*[values[name] for name in step.inputs], **step.options)
        values.update(zip(step.outputs, made if isinstance(made, tuple) else (made,), strict=False))
    return [values[name] for name in file.outputs]
