"""What torch, Keras and ONNX compute with the settings we name is what we compute."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from cases.ops import TRANSPOSED, calls, exactly, law, randn
from unconv import Inexpressible, ShapeError, ops


def drawn(call, inside, out):
    """(input, filters, the other arguments, the result) of a transposed convolution."""
    layout, axes, size, padding = call
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    x, filters = randn(2, inside, *small), randn(*(axis.kernel for axis in axes), out, inside, seed=1)
    x = layout.back(x)
    rest = (layout.shape(2, size, out), [axis.stride for axis in axes], padding, layout.name, [axis.dilation for axis in axes])
    return x, filters, rest, TRANSPOSED[layout.axes](x, filters, *rest)


@pytest.mark.slow
@law
@given(calls(), some.integers(1, 3), some.integers(1, 3))
def test_torch_s_module_and_the_crop_give_the_same(call, inside, out):
    x, filters, rest, expected = drawn(call, inside, out)
    arguments = ops.torch_arguments(x, filters, *rest)
    result = arguments.module(filters)(call[0].channels_first(x))
    cropped = result[(..., *arguments.crop)]
    exactly(call[0].back(cropped), expected)
    assert arguments.needs_crop == (cropped.shape != result.shape)
    lines = {"torch": torch, "input": x, "filters": filters}
    exec(str(arguments), lines)
    exactly(lines["output"], expected)


def test_the_usual_port_is_one_sample_off_and_ours_is_not():
    x, filters = randn(1, 3, 1), randn(3, 1, 1)
    arguments = ops.torch_arguments(x, filters, (1, 6, 1), 2)
    assert (arguments.padding, arguments.output_padding, arguments.crop, arguments.needs_crop) == (
        (0,),
        (0,),
        (slice(0, 6),),
        True,
    )
    usual = torch.nn.functional.conv_transpose1d(x.mT, filters.permute(2, 1, 0), None, 2, 1, 1)
    exactly(usual[..., :5], ops.conv1d_transpose(x, filters, (1, 6, 1), 2).mT[..., 1:])


def test_torch_needs_no_crop_where_both_sides_are_padded_alike():
    assert not ops.torch_arguments((1, 4, 4, 3), (4, 4, 5, 3), (1, 8, 8, 5), 2).needs_crop


@pytest.mark.slow
@law
@given(calls(), some.integers(1, 3), some.integers(1, 3))
def test_onnx_s_reference_gives_the_same(call, inside, out):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    x, filters, rest, expected = drawn(call, inside, out)
    arguments = ops.onnx_arguments(x, filters, *rest)
    node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], **arguments.attributes)
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in "xwy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "one", value[:2], value[2:]))
    feeds = {"x": call[0].channels_first(x).contiguous().numpy(), "w": filters.permute(arguments.permutation).numpy()}
    (result,) = ReferenceEvaluator(model).run(None, feeds)
    exactly(call[0].back(torch.from_numpy(np.asarray(result))), expected)


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@pytest.mark.slow
def test_keras_layers_give_the_same_or_cannot(keras):
    counts = {"same": 0, "cannot": 0}

    @law
    @given(calls(), some.integers(1, 3), some.integers(1, 3))
    def check(call, inside, out):
        x, filters, rest, expected = drawn(call, inside, out)
        try:
            arguments = ops.keras_arguments(x, filters, *rest)
        except Inexpressible as refusal:
            assert "cannot be expressed" in str(refusal)
            counts["cannot"] += 1
            return
        layer = eval(str(arguments), {"keras": keras})
        layer.dtype_policy = "float64"
        layer.build(x.shape)
        layer.kernel.assign(filters)
        exactly(layer(x).detach().cpu(), expected)
        counts["same"] += 1

    check()
    assert min(counts.values()) > 20


@pytest.mark.slow
@law
@given(calls())
def test_keras_can_whenever_some_setting_of_its_gives_the_size_and_place(call):
    layout, axes, size, _ = call
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    if max(axis.stride for axis in axes) > 1 and max(axis.dilation for axis in axes) > 1:
        return
    x, filters, rest, expected = drawn(call, 1, 1)
    last, first = layout.channels_first(x).movedim(1, -1), layout.channels_first(expected)
    keras_can = False
    for padding in ("same", "valid"):
        for more in [
            None,
            *torch.cartesian_prod(*(torch.arange(axis.stride) for axis in axes), torch.arange(1))[:, :-1].tolist(),
        ]:
            try:
                result = ops.keras_conv_transpose(last, filters, rest[1], padding, more, "channels_last", rest[4])
            except ShapeError:
                continue
            result = result.movedim(-1, 1)
            keras_can = keras_can or (result.shape == first.shape and torch.allclose(result, first))
    assert small
    try:
        ops.keras_arguments(x, filters, *rest)
    except Inexpressible:
        assert not keras_can
    else:
        assert keras_can


@pytest.mark.parametrize(
    "arguments, words",
    [
        (((1, 4, 4, 1), (2, 2, 1, 1), (1, 8, 7, 1), 2), "cannot be expressed by Keras.* takes one output_padding for all axes"),
        (((1, 4, 4, 1), (3, 3, 1, 1), (1, 8, 8, 1), 2, [[0, 0], [1, 0], [1, 0], [0, 0]]), "cannot be expressed by Keras"),
        (((1, 4, 4, 1), (3, 3, 1, 1), (1, 8, 8, 1), 2, "SAME", None, 2), r"stride \(2, 2\) with dilation \(2, 2\) cannot"),
    ],
)
def test_what_keras_has_no_arguments_for_is_said(arguments, words):
    with pytest.raises(Inexpressible, match=words):
        ops.keras_arguments(*arguments)


@pytest.mark.parametrize("name", ["torch", "keras", "onnx"])
def test_a_bridge_refuses_what_the_function_refuses(name):
    bridge = getattr(ops, f"{name}_arguments")
    with pytest.raises(ShapeError, match=r"9 for the height \(axis 1\) is not possible.* 7 or 8"):
        bridge((1, 4, 4, 3), (3, 3, 5, 3), (1, 9, 8, 5), 2)
    with pytest.raises(ShapeError, match=r"filters is \(3, 3\), but 4 lengths were needed for NHWC"):
        bridge((1, 4, 4, 3), (3, 3), (1, 8, 8, 5), 2)


@pytest.mark.slow
@law
@given(calls())
def test_every_listed_size_is_what_the_libraries_make_of_it(call):
    layout, axes, size, padding = call
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    rows = ops.output_sizes(small, [axis.kernel for axis in axes], strides, padding, dilations)
    for index, axis in enumerate(axes):
        mine = [row for row in rows if row.axis == layout.axis_name(layout.spatial[index])]
        assert [row.output for row in mine] == [n for n in axis.legal(small[index]) if n]
        for row in mine:
            given_padding = [axis.padding] if axis.padding else "SAME"
            call_of_row = (
                (1, row.input, 1),
                (axis.kernel, 1, 1),
                (1, row.output, 1),
                axis.stride,
                given_padding,
                "NWC",
                axis.dilation,
            )
            arguments = ops.torch_arguments(*call_of_row)
            assert (arguments.padding + arguments.output_padding, arguments.crop) == (row.torch, (slice(*row.torch_crop),))
            onnx = ops.onnx_arguments(*call_of_row)
            assert (*onnx.pads, *onnx.output_padding) == row.onnx
            if row.keras is None:
                with pytest.raises(Inexpressible):
                    ops.keras_arguments(*call_of_row)
            else:
                keras = ops.keras_arguments(*call_of_row)
                assert (keras.padding, keras.output_padding and keras.output_padding[0]) == row.keras
