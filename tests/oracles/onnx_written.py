"""Small ONNX files, written node by node."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def node(operator, inputs, outputs=("out",), name="", **attributes):
    """One node; inputs and outputs as words, or a list of them."""
    inputs, outputs = (names.split() if isinstance(names, str) else list(names) for names in (inputs, outputs))
    return helper.make_node(operator, inputs, outputs, name=name, **attributes)


def write(path, nodes, weights=(), shape=(1, 3, 8, 8), opset=18, outputs=None, functions=(), domains=(), **graph_settings):
    """A file of these nodes that takes `image`, and returns what the last one makes; its path, for `unconv.load`."""
    weights = dict(weights)
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)
    names = outputs or [nodes[-1].output[0]]
    outs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    tensors = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(nodes, "net", [image], outs, tensors, **graph_settings)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return f"onnx:{path}"
