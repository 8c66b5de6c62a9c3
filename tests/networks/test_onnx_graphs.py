"""Graphs as exporters write them: old and new forms, branches, functions, open shapes, shared or packed weights."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

import unconv
from unconv.errors import DtypeError, ModelError, ShapeError, UnconvError

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")
helper = onnx.helper
VERSION = tuple(map(int, onnx.__version__.split(".")[:2]))

from oracles.onnx_written import node, write  # noqa: E402
from oracles.twins import assert_twins, lived_in  # noqa: E402

DRAW = np.random.default_rng(0)
KERNEL = DRAW.normal(size=(2, 3, 3, 3)).astype(np.float32)
IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def ran(spec, image=IMAGE):
    with torch.no_grad():
        return unconv.load(spec).module(image)


def by_reference(spec, image=IMAGE):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(spec.removeprefix("onnx:")).run(None, {"image": image.numpy()})[0]


def long(*numbers):
    return np.array(numbers, np.int64)


@pytest.mark.parametrize("batch", ["n", 0, -1, None, 1])
def test_an_open_batch_may_be_written_in_any_way(tmp_path, batch):
    spec = write(tmp_path / "net.onnx", [node("Relu", "image")], shape=(batch, 3, 8, 8))
    assert unconv.load(spec).input_size == (3, 8, 8)


def test_lengths_left_open_are_those_that_the_graph_runs_at(tmp_path):
    """A reader of text lines: 48 rows are reduced to one, and the axis is removed."""
    nodes = [
        node("Conv", "image w", "maps", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("AveragePool", "maps", "row", kernel_shape=[48, 1], strides=[48, 1]),
        node("Squeeze", "row axes", "out"),
    ]
    spec = write(tmp_path / "net.onnx", nodes, {"w": KERNEL, "axes": long(2)}, shape=("n", 3, "h", "w"))
    assert unconv.load(spec).input_size[1] == 48


def test_lengths_that_nothing_runs_at_are_refused_with_the_node(tmp_path):
    nodes = [node("Reshape", "image shape", name="flat")]
    spec = write(tmp_path / "net.onnx", nodes, {"shape": long(1, 7)}, shape=("n", 3, "h", "w"))
    with pytest.raises(ModelError, match=r"cannot be run: the operator Reshape \(opset 18\) at flat: shape .* not even"):
        unconv.load(spec)


def test_a_size_that_the_file_fixes_and_its_graph_does_not_take_is_refused(tmp_path):
    spec = write(tmp_path / "net.onnx", [node("Conv", "image w", name="c")], {"w": np.ones((2, 5, 3, 3), np.float32)})
    with pytest.raises(ModelError, match=r"cannot be run: the operator Conv \(opset 18\) at c: .* is made for an image of"):
        unconv.load(spec)


def test_an_image_of_integers_is_refused(tmp_path):
    write(tmp_path / "net.onnx", [node("Relu", "image")])
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(DtypeError, match=r"takes image of torch.uint8, but an image of floating-point numbers was needed"):
        unconv.load(f"onnx:{tmp_path / 'net.onnx'}")


def branch(name, *nodes):
    out = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [out])


def with_if(path, condition, weights, shape=(1, 3, 8, 8)):
    """torch's export of `x.relu() if condition else -x`: both branches use the same names for their values."""
    then = branch("then", node("Add", "image zero", "inner"), node("Relu", "inner", "made", "kept"))
    other = branch("else", node("Neg", "image", "made", "turned"))
    nodes = [*condition, node("If", "yes", "chosen", then_branch=then, else_branch=other), node("Exp", "chosen", "out", "end")]
    return write(path, nodes, {"zero": np.zeros(1, np.float32), **weights}, shape)


@pytest.mark.parametrize("yes", [True, False])
def test_a_constant_condition_takes_its_branch(tmp_path, yes):
    spec = with_if(tmp_path / "net.onnx", [], {"yes": np.array(yes)})
    assert torch.equal(ran(spec), (IMAGE.relu() if yes else -IMAGE).exp())
    assert [place.name for place in unconv.load(spec).places()][-2:] == ["kept" if yes else "turned", "end"]


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 3, "h", "w")])
def test_a_condition_on_the_size_takes_the_branch_of_the_size_and_says_where_it_would_not(tmp_path, shape):
    condition = [node("Shape", "image", "s"), node("Gather", "s two", "h"), node("Equal", "h n", "yes")]
    n = 8 if shape[2] == 8 else 224
    spec = with_if(tmp_path / "net.onnx", condition, {"two": np.int64(2), "n": np.int64(n)}, shape)
    image = torch.rand(1, 3, n, n)
    assert torch.equal(ran(spec, image), image.relu().exp())
    if shape[2] == "h":
        with pytest.raises(
            ModelError, match=r"the operator If \(opset 18\) at chosen takes another branch for a picture of this"
        ):
            ran(spec, torch.rand(1, 3, 9, 9))


def test_a_condition_on_the_picture_is_refused(tmp_path):
    condition = [node("ReduceMax", "image", "m", keepdims=0), node("Cast", "m", "yes", to=onnx.TensorProto.BOOL)]
    with pytest.raises(UnconvError, match="whose condition depends on the values of the picture"):
        unconv.load(with_if(tmp_path / "net.onnx", condition, {}))


def test_functions_of_the_file_are_inlined(tmp_path):
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    inner = helper.make_function("mine", "twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], imports)
    outer = helper.make_function(
        "mine", "four", ["x"], ["y"],
        [helper.make_node("twice", ["x"], ["t"], domain="mine"), helper.make_node("twice", ["t"], ["y"], domain="mine")],
        imports,
    )  # fmt: skip
    nodes = [node("four", "image", "much", domain="mine"), node("Relu", "much", "out", "relu")]
    assert torch.equal(ran(write(tmp_path / "net.onnx", nodes, functions=[inner, outer], domains=["mine"])), 4 * IMAGE)


def test_an_operator_of_one_program_is_named(tmp_path):
    spec = write(
        tmp_path / "net.onnx", [node("FusedConv", "image", name="odd", domain="com.microsoft")], domains=["com.microsoft"]
    )
    with pytest.raises(UnconvError, match=r"has the operator com\.microsoft\.FusedConv at odd, which unconv does not run"):
        unconv.load(spec)


def test_what_no_output_needs_may_be_anything(tmp_path):
    nodes = [node("Det", "image", "unread"), node("Relu", "image", "out", "relu")]
    network = unconv.load(write(tmp_path / "net.onnx", nodes))
    assert [place.name for place in network.places()] == ["relu"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value_float", 2.5),
        ("value_floats", [1.0, 2.0]),
        ("value_int", 3),
        ("value_ints", [1, 2]),
        ("value", np.float32([4, 5])),
    ],
)
def test_a_constant_is_read_in_every_form(tmp_path, attribute, value):
    if attribute == "value":
        value = onnx.numpy_helper.from_array(value)
    nodes = [node("Constant", "", "c", **{attribute: value}), node("Cast", "c", "f", to=1), node("Shape", "image", "s")]
    nodes += [node("ReduceSum", "f", "t"), node("Mul", "image t", "out")]
    spec = write(tmp_path / "net.onnx", nodes)
    np.testing.assert_allclose(ran(spec).numpy(), by_reference(spec), rtol=1e-6)


def test_a_weight_that_two_nodes_read_stays_one(tmp_path):
    nodes = [node("Conv", "image w", "a", "one"), node("Conv", "image w", "b", "two"), node("Add", "a b")]
    module = unconv.load(write(tmp_path / "net.onnx", nodes, {"w": KERNEL})).module
    for same in (module, copy.deepcopy(module), copy.deepcopy(module).double()):
        assert same.get_submodule("one").weight is same.get_submodule("two").weight
        assert len(list(same.parameters())) == 1
    assert set(module.state_dict()) == {"one.weight", "two.weight"}
    other = copy.deepcopy(module)
    other.load_state_dict({key: 2 * value for key, value in module.state_dict().items()})
    assert torch.allclose(other(IMAGE), 2 * module(IMAGE))


def test_a_copy_in_float64_computes_in_float64(tmp_path):
    nodes = [
        node("Cast", "image", "f", to=onnx.TensorProto.FLOAT),
        node("Shape", "f", "s"),
        node("ConstantOfShape", "s", "c", value=onnx.numpy_helper.from_array(np.float32([1]))),
        node("Add", "f c", "g"),
        node("BatchNormalization", "g scale shift mean variance", "h"),
        node("Conv", "h w"),
    ]
    ones = {name: np.ones(3, np.float32) for name in ("scale", "shift", "mean", "variance")}
    module = unconv.load(write(tmp_path / "net.onnx", nodes, {"w": KERNEL, **ones}, (1, 3, "h", "w"))).module
    out = copy.deepcopy(module).double()(IMAGE.double())
    assert out.dtype == torch.float64 and torch.allclose(out.float(), module(IMAGE), atol=1e-5)
    assert {name for name, _ in module.named_parameters()} == {"h.weight", "h.bias", "out.weight"}


def test_shapes_are_computed_on_the_cpu_wherever_the_signals_are(tmp_path):
    """The meta device takes the place of any other."""
    nodes = [
        node("Conv", "image w", "maps"),
        node("Shape", "maps", "s"),
        node("Gather", "s last", "n"),
        node("Cast", "n", "f", to=onnx.TensorProto.FLOAT),
        node("Mul", "maps f", "scaled"),
        node("Concat", "one all n", "shape", axis=0),
        node("Reshape", "scaled shape"),
    ]
    weights = {"w": KERNEL, "last": long(3), "one": long(1), "all": long(-1)}
    module = unconv.load(write(tmp_path / "net.onnx", nodes, weights, (1, 3, "h", "w"))).module
    assert module(IMAGE).shape == (1, 12, 6)
    result = module.to("meta")(IMAGE.to("meta"))
    assert result.is_meta and result.shape == (1, 12, 6)


def test_weights_packed_in_bytes_are_unpacked(tmp_path):
    packed = DRAW.integers(-128, 128, KERNEL.shape).astype(np.int8)
    scale = np.float32([0.01, 0.02])
    nodes = [node("DequantizeLinear", "q scale zero", "w", axis=0), node("Conv", "image w", name="conv")]
    network = unconv.load(write(tmp_path / "net.onnx", nodes, {"q": packed, "scale": scale, "zero": np.int8([1, 2])}))
    wanted = (packed.astype(np.float32) - np.float32([1, 2]).reshape(2, 1, 1, 1)) * scale.reshape(2, 1, 1, 1)
    np.testing.assert_allclose(network.module.get_submodule("conv").weight.detach(), wanted, rtol=1e-6)


def test_quantised_activations_are_refused(tmp_path):
    nodes = [node("QuantizeLinear", "image scale", "q"), node("DequantizeLinear", "q scale")]
    with pytest.raises(UnconvError, match=r"QuantizeLinear .* Export the model without quantisation, in float32"):
        unconv.load(write(tmp_path / "net.onnx", nodes, {"scale": np.float32(0.1)}))


def test_several_results_come_as_a_list(tmp_path):
    nodes = [node("Relu", "image", "a"), node("Neg", "image", "b")]
    a, b = ran(write(tmp_path / "net.onnx", nodes, outputs=["a", "b"]))
    assert torch.equal(a, IMAGE) and torch.equal(b, -IMAGE)


def test_a_model_in_training_mode_is_refused(tmp_path):
    nodes = [node("BatchNormalization", "image s s s s", "out m v", "bn", training_mode=1)]
    with pytest.raises(UnconvError, match="takes its statistics from the picture, as in training"):
        unconv.load(write(tmp_path / "net.onnx", nodes, {"s": np.ones(3, np.float32)}))


THREE = torch.tensor([1.0, 2, 3])

OLD = {
    "Add along an axis": (
        6,
        [node("Add", "image b", axis=1, broadcast=1)],
        {"b": np.float32([1, 2, 3])},
        lambda x: x + THREE.view(3, 1, 1),
    ),
    "Clip by attributes": (6, [node("Clip", "image", min=0.2, max=0.5)], {}, lambda x: x.clamp(0.2, 0.5)),
    "Dropout": (6, [node("Dropout", "image", ratio=0.5)], {}, lambda x: x),
    "Pad by attributes": (2, [node("Pad", "image", pads=[0, 0, 1, 2, 0, 0, 3, 4])], {}, lambda x: F.pad(x, (2, 4, 1, 3))),
    "PRelu of channels": (
        6,
        [node("Neg", "image", "n"), node("PRelu", "n s")],
        {"s": np.float32([1, 2, 3])},
        lambda x: -x * THREE.view(3, 1, 1),
    ),
    "ReduceSum by attributes": (11, [node("ReduceSum", "image", axes=[2, 3])], {}, lambda x: x.sum((2, 3), True)),
    "Slice by attributes": (
        9,
        [node("Slice", "image", axes=[2, 3], starts=[1, -3], ends=[100, -1])],
        {},
        lambda x: x[:, :, 1:, -3:-1],
    ),
    "Softmax over all": (11, [node("Softmax", "image")], {}, lambda x: x.flatten(1).softmax(1).view_as(x)),
    "Split by attributes": (
        11,
        [node("Split", "image", "a b", axis=1, split=[1, 2]), node("Neg", "b")],
        {},
        lambda x: -x[:, 1:],
    ),
    "Squeeze by attributes": (11, [node("Squeeze", "image", axes=[0])], {}, lambda x: x[0]),
    "Unsqueeze by attributes": (11, [node("Unsqueeze", "image", axes=[-1, 0])], {}, lambda x: x[None, ..., None]),
    "TopK by attributes": (9, [node("TopK", "image", "v i", axis=3, k=2)], {}, lambda x: x.topk(2)[0]),
    "Upsample by attributes": (
        7,
        [node("Upsample", "image", scales=[1.0, 1.0, 2.0, 3.0])],
        {},
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
    ),
    "Upsample": (9, [node("Upsample", "image s")], {"s": np.float32([1, 1, 2, 2])}, lambda x: F.interpolate(x, scale_factor=2)),
    "Resize of opset 10": (
        10,
        [node("Resize", "image s")],
        {"s": np.float32([1, 1, 2, 2])},
        lambda x: F.interpolate(x, scale_factor=2),
    ),
    "BatchNormalization": (
        7,
        [node("BatchNormalization", "image s s s s")],
        {"s": np.float32([1, 2, 3])},
        lambda x: F.batch_norm(x, *[THREE] * 4, False),
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_the_forms_of_old_opsets_are_read(tmp_path, name):
    opset, nodes, weights, wanted = OLD[name]
    spec = write(tmp_path / "net.onnx", nodes, weights, opset=opset, outputs=["v"] if name.startswith("TopK") else None)
    torch.testing.assert_close(ran(spec), wanted(IMAGE))


def test_a_global_power_pool_is_the_norm_of_each_map(tmp_path):
    spec = write(tmp_path / "net.onnx", [node("GlobalLpPool", "image", p=3)])
    torch.testing.assert_close(ran(spec), torch.linalg.vector_norm(IMAGE, 3, (2, 3), keepdim=True))


def test_a_hard_sigmoid_is_known_as_a_gate(tmp_path):
    nodes = [
        node("Conv", "image w", "maps"),
        node("HardSigmoid", "maps", "gate", "g", alpha=0.2),
        node("Mul", "maps gate", "out", "m"),
    ]
    network = unconv.load(write(tmp_path / "net.onnx", nodes, {"w": KERNEL}))
    maps = F.conv2d(IMAGE, torch.from_numpy(KERNEL))
    torch.testing.assert_close(network.module(IMAGE).detach(), maps * (0.2 * maps + 0.5).clamp(0, 1))
    assert "1 gate frozen at its recorded value" in " ".join(network.project(IMAGE, "m").notes)


@pytest.mark.skipif(VERSION < (1, 23), reason="ONNX' reference forgets paddings and dilations before 1.23")
@pytest.mark.parametrize("seed", range(40))
def test_pools_and_convolutions_agree_with_onnx(tmp_path, seed):
    draw = np.random.default_rng(seed)
    axes = int(draw.integers(1, 3))
    size = tuple(int(n) for n in draw.integers(5, 10, axes))
    settings = {
        "kernel_shape": [int(k) for k in draw.integers(1, 4, axes)],
        "strides": [int(s) for s in draw.integers(1, 4, axes)],
        "dilations": [int(d) for d in draw.integers(1, 3, axes)],
    }
    pads = [int(draw.integers(0, k)) for k in settings["kernel_shape"] * 2]
    padding = {"pads": pads} if seed % 3 else {"auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID"][seed // 3 % 3]}
    if "auto_pad" in padding:
        settings["dilations"] = [1] * axes  # which ONNX' reference forgets there
    weights = {"w": draw.normal(size=(4, 3, *settings["kernel_shape"])).astype(np.float32)}
    image = torch.rand(1, 3, *size)
    ceil = {"ceil_mode": int(draw.integers(0, 2))} if "pads" in padding else {}
    trials = {"Conv": {}, "MaxPool": ceil, "AveragePool": {**ceil, "count_include_pad": seed % 2}}
    if "auto_pad" in padding:
        del trials["MaxPool"], trials["AveragePool"]  # ONNX' reference fails at them; ONNX Runtime agrees with us
    for operator, more in trials.items():
        nodes = [node(operator, "image w" if operator == "Conv" else "image", **settings, **padding, **more)]
        spec = write(tmp_path / "net.onnx", nodes, weights, tuple(image.shape), opset=22)
        np.testing.assert_allclose(ran(spec, image).numpy(), by_reference(spec, image), atol=1e-5, err_msg=operator)


COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.slow
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_agrees_with_onnx(tmp_path, mode, coordinates):
    draw = np.random.default_rng(len(coordinates))
    for trial in range(8):
        sizes, scales = long(1, 3, *draw.integers(2, 20, 2)), np.float32([1, 1, *draw.uniform(0.3, 2.7, 2)])
        settings = {"mode": mode, "coordinate_transformation_mode": coordinates}
        if mode == "nearest":
            settings["nearest_mode"] = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][trial % 4]
        elif trial % 4 == 3:
            settings["antialias"] = 1
        elif trial % 4 == 2:
            settings["exclude_outside"] = int(mode == "cubic")
        inputs = ["image", "", "", "n"] if trial % 2 else ["image", "", "n"]
        spec = write(
            tmp_path / "net.onnx", [node("Resize", inputs, **settings)], {"n": sizes if trial % 2 else scales}, opset=19
        )
        np.testing.assert_allclose(ran(spec).numpy(), by_reference(spec), atol=2e-5, err_msg=str((settings, sizes, scales)))


def exported(module, image, path, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (image,), str(path), dynamo=False, **settings)
    return unconv.load(f"onnx:{path}")


EXPORTED = {
    "alexnet": 224,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "shufflenet_v2_x0_5": 64,
    "efficientnet_b0": 64,
    "densenet121": 64,
    "mnasnet0_5": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_agrees_with_its_module(tmp_path, name):
    module, image = lived_in(getattr(models, name)()), torch.rand(1, 3, EXPORTED[name], EXPORTED[name])
    network = exported(module, image, tmp_path / "net.onnx")
    with torch.no_grad():
        result, expected = network.module(image), module(image)
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("opset", [11, 17])
def test_a_segmentation_head_with_open_lengths_agrees_at_every_size(tmp_path, opset):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.InstanceNorm2d(8, affine=True)
            self.up, self.prelu = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.PReLU(6)

        def forward(self, x):
            y = self.prelu(self.up(F.hardswish(self.norm(self.down(x)))))
            y = torch.cat([y, F.pad(x, (1, 1, 1, 1), mode="reflect")[..., 1:-1, 1:-1]], 1)
            y = F.interpolate(F.adaptive_avg_pool2d(y, 1).expand_as(y) + y, size=x.shape[2:], mode="bilinear")
            return F.pixel_shuffle(y[:, :8], 2).flatten(2).softmax(-1)

    torch.manual_seed(0)
    module = Head().eval()
    open_axes = {"image": {0: "n", 2: "h", 3: "w"}}
    path = tmp_path / "net.onnx"
    network = exported(
        module, torch.rand(1, 3, 16, 16), path, opset_version=opset, input_names=["image"], dynamic_axes=open_axes
    )
    for size in ((16, 16), (12, 30)):
        image = torch.rand(1, 3, *size)
        torch.testing.assert_close(network.module(image), module(image), atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_decoder_projects_as_the_network_it_was_written_from(tmp_path):
    torch.manual_seed(0)
    twin = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 3), nn.ReLU())
    image = torch.rand(1, 3, 16, 16)
    network = exported(twin.eval(), image, tmp_path / "net.onnx")
    assert_twins(network, twin, image, {place.name: str(k) for place, k in zip(network.places(), (0, 1, 2, 3, 4), strict=True)})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_local_response_norm_of_even_size_has_the_odd_channel_after(tmp_path, size):
    image = torch.rand(1, 7, 4, 4)  # ONNX' reference norms the first channel alone
    spec = write(tmp_path / "net.onnx", [node("LRN", "image", size=size, alpha=0.5, beta=0.6, bias=2.0)], shape=(1, 7, 4, 4))
    before, after = (size - 1) // 2, size // 2
    squares = torch.stack([image[0, max(c - before, 0) : c + after + 1].square().sum(0) for c in range(7)])
    torch.testing.assert_close(ran(spec, image), image / (2 + 0.5 / size * squares) ** 0.6)


def test_a_shape_that_does_not_fit_is_refused_at_run_time_too(tmp_path):
    spec = write(
        tmp_path / "net.onnx", [node("Flatten", "image", "f"), node("Gemm", "f w")], {"w": np.ones((192, 2), np.float32)}
    )
    with pytest.raises((ModelError, ShapeError), match="failed on an image of"):
        unconv.load(spec).record(torch.rand(3, 9, 9))
