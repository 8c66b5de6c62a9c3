"""Every call whose answer TensorFlow gave: the same values, the same refusals."""

from __future__ import annotations

import pytest
import torch

from golden import ANSWERS, REFUSALS, inputs, outputs
from unconv import UnconvError, ops


def same(actual, expected, case):
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, **_tolerance(case, expected), equal_nan=True)


def _tolerance(case, expected):
    if not expected.is_floating_point():
        return {"rtol": 0, "atol": 0}
    return {name: case["compare"][name] for name in ("rtol", "atol")}


def names(cases):
    return [case["name"] for case in cases]


def of(*operations):
    chosen = [case for case in ANSWERS if case["op"] in operations]
    assert chosen
    return pytest.mark.parametrize("case", chosen, ids=names(chosen))


@of(
    "conv1d",
    "conv2d",
    "conv3d",
    "conv1d_transpose",
    "conv2d_transpose",
    "conv3d_transpose",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_input",
    "keras_conv_transpose",
    "avg_pool2d",
)
def test_the_result_is_tensorflows(case):
    same(getattr(ops, case["op"])(**inputs(case), **case["args"]), outputs(case)["output"], case)


@of("max_pool_with_argmax")
def test_maxima_and_indices_are_tensorflows(case):
    output, argmax = ops.max_pool_with_argmax(**inputs(case), **case["args"])
    same(output, outputs(case)["output"], case)
    same(argmax, outputs(case)["argmax"], case)


@of("unpool_max")
def test_unpooled_maxima_are_tensorflows(case):
    given, expected, args = inputs(case), outputs(case), case["args"]
    counted = args["include_batch_in_index"]
    pooled, argmax = ops.max_pool_with_argmax(given["input"], **args["pool"], include_batch_in_index=counted)
    signal = given.get("signal", pooled)
    same(signal, expected["value"], case)
    same(argmax, expected["argmax"], case)
    for duplicates, key in (("sum", "output"), ("overwrite", "output_overwrite")):
        same(ops.unpool_max(signal, argmax, given["input"].shape, counted, duplicates), expected[key], case)


@of("unpool_avg")
def test_copied_averages_are_where_tensorflows_windows_lie(case):
    expected = outputs(case)
    for duplicates, key in (("sum", "output"), ("overwrite", "output_overwrite"), ("mean", "output_mean")):
        if key in expected:
            same(ops.unpool_avg(inputs(case)["value"], **case["args"], duplicates=duplicates), expected[key], case)


@of("conv2d_grads", "conv2d_transpose_grads")
def test_gradients_of_convolutions_are_tensorflows(case):
    given = inputs(case)
    sources = [given["input"].requires_grad_(), given["filters"].requires_grad_()]
    result = getattr(ops, case["op"].removesuffix("_grads"))(*sources, **case["args"])
    for actual, key in zip(torch.autograd.grad(result, sources, given["grad"]), ("grad_input", "grad_filters"), strict=True):
        same(actual, outputs(case)[key], case)


@of("max_pool_grad", "avg_pool_grad")
def test_gradients_of_pools_are_tensorflows(case):
    given = inputs(case)
    source = given["input"].requires_grad_()
    result = ops.avg_pool2d(source, **case["args"]) if case["op"] == "avg_pool_grad" else None
    result = ops.max_pool_with_argmax(source, **case["args"])[0] if result is None else result
    same(torch.autograd.grad(result, source, given["grad"])[0], outputs(case)["grad_input"], case)


@of("explain_conv2d_transpose")
def test_every_step_of_the_explanation_leads_to_tensorflows_result(case):
    explanation = ops.explain_conv2d_transpose(**inputs(case), **case["args"])
    for step, expected in outputs(case).items():
        same(getattr(explanation, step), expected, case)
    facts = case["facts"]
    assert [list(pads) for pads in explanation.forward_padding] == facts["forward_padding"]
    assert [list(pads) for pads in explanation.transposed_padding] == facts["transposed_padding"]
    assert [[sizes[0], sizes[-1]] for sizes in explanation.legal_output_sizes] == facts["valid_output_sizes"]


sized = [case for case in ANSWERS if "valid_output_sizes" in case["facts"]]


@pytest.mark.parametrize("case", sized, ids=names(sized))
def test_the_legal_sizes_are_those_that_tensorflow_takes(case):
    given, args = inputs(case), case["args"]
    first = args["data_format"] in ("NCW", "NCHW", "NCDHW")
    spatial = slice(2, None) if first else slice(1, -1)
    settings = (args["strides"][spatial], args["padding"], args["dilations"][spatial])
    if not isinstance(args["padding"], str):
        settings = (settings[0], args["padding"][spatial], settings[2])
    legal = ops.legal_output_sizes(given["input"].shape[spatial], given["filters"].shape[:-2], *settings)
    assert [[sizes[0], sizes[-1]] for sizes in legal] == case["facts"]["valid_output_sizes"]


# TensorFlow refuses these, we take them: lower-case padding, a channels-first pool, explicit padding of it, two strides.
LENIENT = {"error/T_padding_lowercase", "error/M_nchw", "error/M_explicit_padding", "error/D_strides_len2"}


@pytest.mark.parametrize("case", REFUSALS, ids=names(REFUSALS))
def test_what_tensorflow_refuses_is_refused_in_words(case):
    given, args = inputs(case), dict(case["args"])
    if case["name"] in LENIENT:
        assert case["facts"]["lenient_ok"]
        getattr(ops, case["op"])(**given, **args)
        return
    operation = case["op"]
    if operation == "scatter_nd":
        pooled, argmax = (given[name].reshape(1, 2, 1) for name in ("updates", "indices"))
        operation, given, args = "unpool_max", {"pooled": pooled, "argmax": argmax}, {"output_shape": (1, *args["shape"], 1)}
    with pytest.raises(UnconvError) as caught:
        getattr(ops, operation)(**given, **args)
    assert isinstance(caught.value, ValueError | TypeError | IndexError)
    words = str(caught.value)
    assert words.startswith(f"{operation}: ")
    for needed in case["facts"].get("must_mention", []):
        assert needed in words
    for low, high in case["facts"].get("valid_output_sizes", []):
        assert all(str(size) in words for size in range(low, high + 1))
