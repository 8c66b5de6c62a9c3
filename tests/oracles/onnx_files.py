"""ONNX' own node tests, as files for the opener: one input is the image, the others are weights."""

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
    """An input of a node test as a tensor, of the type that the opener gives it.

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
    """The results of the module that the case is opened as."""
    file, samples = as_file(case, image)
    if samples is None:
        image_input = ImageInput("", (1,), False, True, torch.float32)
        result = plan(file, image_input, (1,)).module(image_input, file.outputs)(torch.zeros(1))
    else:
        image_input = ImageInput(image, tuple(samples.shape), False, True, samples.dtype)
        result = plan(file, image_input, tuple(samples.shape)).module(image_input, file.outputs)(samples)
    return result if isinstance(result, list) else [result]


def computed(case):
    """The results of the operators if all inputs are tensors, including settings."""
    file, _ = as_file(case, None)
    values = {"": None, **file.weights}
    for node in file.nodes:
        if node.op_type == "Constant":
            values[node.output[0]] = constant_of(node, file)
            continue
        step = step_of(node, file)
        result = step.row.function(*[values[name] for name in step.inputs], **step.options)
        values.update(zip(step.outputs, result if isinstance(result, tuple) else (result,), strict=False))
    return [values[name] for name in file.outputs]
