"""ONNX files: equal to the module that they were exported from, with the names of their nodes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

import unconv
from oracles.twins import assert_twins, lived_in
from unconv.errors import ModelError, ShapeError, UnconvError, WeightsError

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
helper = onnx.helper


def exported(module, image, path, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, image, str(path), dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, **settings)
    return unconv.load(f"onnx:{path}")


def conv_then_relu(path, shape, weight, opset=18, name="first.conv/0", **attributes):
    """A file of two nodes that takes `shape`, transposed to channels first if they come last."""
    last = shape[-1] == 3
    nodes = [helper.make_node("Transpose", ["image"], ["turned"], name="turn", perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("Conv", ["turned" if last else "image", "weight"], ["maps"], name=name, **attributes),
        helper.make_node("Relu", ["maps"], ["out"]),
    ]
    return written(path, nodes, [("image", shape)], {"weight": weight}, opset)


def written(path, nodes, inputs, weights, opset=18):
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs]
    out = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", values, [out], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


TWINS = {
    "squeezenet1_1": ({}, {"features/features_3/squeeze_activation/Relu": "features.3.squeeze_activation"}),
    "resnet18": (
        {},
        {
            "layer1/layer1_0/relu_1/Relu": "layer1.0.relu_1",
            "layer2/layer2_0/bn1/BatchNormalization": "layer2.0.bn1",
            "fc/Gemm": "fc",
        },
    ),
    "googlenet": ({"init_weights": False, "aux_logits": False}, {"inception3a/Concat": "inception3a.cat", "fc/Gemm": "fc"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_a_file_projects_as_the_network_it_was_written_from(tmp_path, name):
    settings, places = TWINS[name]
    twin, image = lived_in(getattr(models, name)(**settings)), torch.rand(1, 3, 64, 64)
    network = exported(twin, image, tmp_path / f"{name}.onnx")
    assert (network.input_size, network.weights, network.module.training) == ((3, 64, 64), "those in the file", False)
    assert_twins(network, twin, image, places)


@pytest.mark.slow
def test_vgg16s_places_have_the_names_of_the_files_nodes(tmp_path):
    path = tmp_path / "vgg.onnx"
    twin = models.vgg16(init_weights=False).features.eval()
    network = exported(twin, torch.rand(1, 3, 32, 32), path)
    nodes = [node.name.lstrip("/").replace(".", "_") for node in onnx.load(path).graph.node]
    assert [place.name for place in network.places()] == nodes
    assert_twins(network, twin, torch.rand(1, 3, 32, 32), {nodes[-1]: "30", nodes[10]: "10"})


def test_channels_last_are_converted_within(tmp_path):
    twin = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU())
    path = conv_then_relu(tmp_path / "last.onnx", (1, 12, 14, 3), twin[0].weight.detach().numpy())
    network = unconv.load(f"onnx:{path}")
    assert network.input_size == (3, 12, 14)
    assert [place.name for place in network.places()] == ["first_conv/0", "out"]
    assert_twins(network, twin, torch.rand(1, 3, 12, 14), {"out": "1", "first_conv/0": "0"})


def test_open_lengths_take_the_usual_ones(tmp_path):
    path = conv_then_relu(tmp_path / "open.onnx", ("n", 3, "h", "w"), np.zeros((2, 3, 3, 3), np.float32))
    network = unconv.load(f"onnx:{path}")
    assert network.input_size == (3, 224, 224)
    assert network.record(torch.rand(3, 20, 30)).places()[0].size == (18, 28)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_spelt_out(tmp_path, auto, stride):
    from onnx.reference import ReferenceEvaluator

    weight = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    path = conv_then_relu(tmp_path / "same.onnx", (1, 3, 9, 9), weight, auto_pad=auto, strides=[stride] * 2)
    image = torch.rand(1, 3, 9, 9)
    expected = ReferenceEvaluator(str(path)).run(None, {"image": image.numpy()})[0]
    assert np.allclose(unconv.load(f"onnx:{path}").module(image).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 23])
def test_opsets_old_and_new_are_opened(tmp_path, opset):
    axes = np.array([2, 3])
    reduce = helper.make_node("ReduceMean", ["maps", "axes"] if opset >= 18 else ["maps"], ["mean"], name="mean", keepdims=1)
    if opset < 18:
        reduce.attribute.append(helper.make_attribute("axes", axes.tolist()))
    nodes = [
        helper.make_node("Identity", ["weight"], ["same"]),
        helper.make_node("Conv", ["image", "same"], ["maps"], name="conv"),
        reduce,
        helper.make_node("Reshape", ["mean", "shape"], ["vector"], name="vector"),
    ]
    weights = {"weight": np.ones((2, 3, 3, 3), np.float32), "shape": np.array([0, -1]), "axes": axes}
    network = unconv.load(f"onnx:{written(tmp_path / 'net.onnx', nodes, [('image', (1, 3, 6, 6))], weights, opset)}")
    assert torch.allclose(network.module(torch.ones(1, 3, 6, 6)), torch.full((1, 2), 27.0))
    assert [place.name for place in network.places()] == ["conv", "mean"]


def test_weights_in_a_file_beside_it_are_read(tmp_path):
    weight = np.full((2, 3, 3, 3), 0.5, np.float32)
    path = conv_then_relu(tmp_path / "net.onnx", (1, 3, 8, 8), weight)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert unconv.load(f"onnx:{path}").module(torch.ones(1, 3, 8, 8)).unique().tolist() == [13.5]
    (tmp_path / "net.data").unlink()
    with pytest.raises(WeightsError, match="Its data files are missing"):
        unconv.load(f"onnx:{path}")


def test_an_operator_without_a_counterpart_is_named(tmp_path):
    path = written(
        tmp_path / "net.onnx", [helper.make_node("Det", ["image"], ["out"], name="odd")], [("image", (1, 3, 8, 8))], {}
    )
    with pytest.raises(
        UnconvError,
        match=r"has the operator Det \(opset 18\) at odd, which unconv does not run\. Export the model without this operator",
    ):
        unconv.load(f"onnx:{path}")


def test_several_inputs_are_refused_by_name(tmp_path):
    node = helper.make_node("Add", ["left", "right"], ["out"])
    path = written(tmp_path / "net.onnx", [node], [("left", (1, 3, 8, 8)), ("right", (1, 3, 8, 8))], {})
    with pytest.raises(ModelError, match=r"takes 2 inputs \(left, right\), but one image was needed"):
        unconv.load(f"onnx:{path}")


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (1, 10)])
def test_what_takes_no_single_image_is_refused(tmp_path, shape):
    path = written(tmp_path / "net.onnx", [helper.make_node("Relu", ["image"], ["out"])], [("image", shape)], {})
    with pytest.raises(ShapeError, match="but one image was needed"):
        unconv.load(f"onnx:{path}")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_cut_off_file_is_refused(tmp_path, share):
    path = conv_then_relu(tmp_path / "net.onnx", (1, 3, 8, 8), np.zeros((2, 3, 3, 3), np.float32))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"net\.onnx (cannot be read as ONNX|contains no complete graph)"):
        unconv.load(f"onnx:{path}")


def test_an_absent_file_is_named():
    with pytest.raises(WeightsError, match=r"there is no file nowhere\.onnx. Pass onnx:FILE"):
        unconv.load("onnx:nowhere.onnx")


def test_weights_beside_a_file_that_has_its_own_are_refused():
    with pytest.raises(WeightsError, match="an ONNX file has its own"):
        unconv.load("onnx:net.onnx", "DEFAULT")


def test_opening_draws_no_random_numbers(tmp_path):
    path = conv_then_relu(tmp_path / "net.onnx", (1, 3, 8, 8), np.zeros((2, 3, 3, 3), np.float32), opset=23)
    state = torch.random.get_rng_state()
    unconv.load(f"onnx:{path}")
    assert torch.equal(state, torch.random.get_rng_state())
