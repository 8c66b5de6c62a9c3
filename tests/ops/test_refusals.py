"""Whatever is passed: a result, or a refusal in words. Never another error, never the end of the process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from unconv import UnconvError, ops

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool, torch.complex64]
lengths = some.integers(0, 4)
odd = some.sampled_from([None, 0, -1, 1.0, 2.5, True, "SAME", "2", float("nan"), 2**31, 2**70, [], [[]], {}, object(), b"1"])
numbers = some.one_of(
    some.integers(-2, 5), some.lists(some.integers(-1, 4), max_size=6), some.just(1), some.just(2), some.just([1, 2, 2, 1]), odd
)
paddings = some.one_of(
    some.sampled_from(["SAME", "VALID", "same", "EXPLICIT", "", [[0, 0], [1, 1], [1, 0], [0, 0]], [[1, 2]] * 2, [[0, 0]] * 3]),
    some.lists(some.lists(some.integers(-1, 3), max_size=3), max_size=5),
    odd,
)
formats = some.sampled_from(["NHWC", "NCHW", "NWC", "NCW", "NDHWC", "NCDHW", "NHCW", "nhwc", "", None, 4, ["NHWC"]])


@some.composite
def tensors(draw, integers=False):
    """Tensors of any rank, type and layout, with values that are not finite; and what is no tensor."""
    if draw(some.integers(0, 19)) == 0:
        return draw(some.one_of(odd, some.just(np.zeros((1, 2, 2, 1), np.float32)), some.just([[1.0]])))
    shape = draw(some.one_of(some.lists(lengths, max_size=6), some.tuples(*[some.integers(1, 4)] * 4), some.just((1, 3, 3, 2))))
    dtype = draw(some.sampled_from([torch.int64, torch.int32] if integers else [torch.float32] * 8 + DTYPES))
    tensor = torch.randint(-2, 20, tuple(shape)).to(dtype)
    if tensor.numel() and dtype.is_floating_point and draw(some.booleans()):
        tensor.view(-1)[0] = draw(some.sampled_from([torch.nan, torch.inf, -torch.inf]))
    if tensor.ndim > 1 and draw(some.booleans()):
        tensor = tensor.transpose(0, -1)
    return tensor.to_sparse() if draw(some.integers(0, 29)) == 0 else tensor


shapes = some.one_of(some.lists(some.integers(-1, 7), min_size=2, max_size=6), some.tuples(*[some.integers(1, 6)] * 4), odd)
words = some.one_of(some.sampled_from(["ones", "digits", "scatter", "matrix", "zh", "en", "zhs", ""]), odd)
flags = some.one_of(some.booleans(), some.sampled_from(["sum", "overwrite", "mean", "max", None]))

x, w, y = torch.rand(1, 3, 3, 2), torch.rand(3, 3, 2, 2), torch.rand(1, 6, 6, 4)
settings_of = (numbers, paddings, formats, numbers)
index_types = some.sampled_from([torch.int64, torch.int32, "int64", 8, torch.float32])
keras_formats = some.sampled_from(["channels_last", "channels_first", None, "NHWC"])
tensors_or_shapes = some.one_of(tensors(), shapes)

# Of each function: arguments that fit, and what may stand in their places.
CALLS = {
    "conv1d": ((x[0], w[0], 2, "SAME", "NWC", 1), (tensors(), tensors(), *settings_of)),
    "conv2d": ((x, w, 2, "SAME", "NHWC", 1), (tensors(), tensors(), *settings_of)),
    "conv3d": ((x[None], w[None], 2, "SAME", "NDHWC", 1), (tensors(), tensors(), *settings_of)),
    "depthwise_conv2d": ((x, w, 2, "SAME", "NHWC", 1), (tensors(), tensors(), *settings_of)),
    "depthwise_conv2d_backprop_input": (
        ((1, 6, 6, 2), w, y[:, :3, :3], 2, "SAME", "NHWC", 1),
        (shapes, tensors(), tensors(), *settings_of),
    ),
    "conv1d_transpose": ((x[0], w[0], (3, 6, 2), 2, "SAME", "NWC", 1), (tensors(), tensors(), shapes, *settings_of)),
    "conv2d_transpose": ((x, w, (1, 6, 6, 2), 2, "SAME", "NHWC", 1), (tensors(), tensors(), shapes, *settings_of)),
    "conv3d_transpose": (
        (x[None], w[None], (1, 2, 6, 6, 2), 2, "SAME", "NDHWC", 1),
        (tensors(), tensors(), shapes, *settings_of),
    ),
    "keras_conv_transpose": (
        (x, w, 2, "same", None, "channels_last", 1),
        (tensors(), tensors(), numbers, paddings, numbers, keras_formats, numbers),
    ),
    "max_pool_with_argmax": (
        (x, 2, 2, "SAME", "NHWC", torch.int64, False),
        (tensors(), numbers, numbers, paddings, formats, index_types, some.booleans()),
    ),
    "avg_pool1d": ((x[0], 2, 2, "SAME", "NWC"), (tensors(), numbers, numbers, paddings, formats)),
    "avg_pool2d": ((x, 2, 2, "SAME", "NHWC"), (tensors(), numbers, numbers, paddings, formats)),
    "avg_pool3d": ((x[None], 2, 2, "SAME", "NDHWC"), (tensors(), numbers, numbers, paddings, formats)),
    "unpool_max": (
        (x, x.argsort(1) * 2 + torch.arange(2), (1, 6, 6, 2), False, "sum", "NHWC"),
        (tensors(), tensors(True), shapes, some.booleans(), flags, formats),
    ),
    "from_torch_indices": (
        (x.argsort(1), (1, 6, 6, 3), False, "NHWC"),
        (tensors(True), shapes, flags, formats),
    ),
    "to_torch_indices": (
        (x.argsort(1) * 2 + torch.arange(2), (1, 6, 6, 2), True, "NHWC"),
        (tensors(True), shapes, flags, formats),
    ),
    "unpool_avg": (
        (x, (1, 6, 6, 2), 2, 2, "SAME", "sum", "NHWC"),
        (tensors(), shapes, numbers, numbers, paddings, flags, formats),
    ),
    "explain_conv2d_transpose": ((x, w, (1, 6, 6, 2), 2, "SAME", "NHWC", 1), (tensors(), tensors(), shapes, *settings_of)),
    "explain_conv1d_transpose": ((x[0], w[0], (3, 6, 2), 2, "SAME", "NWC", 1), (tensors(), tensors(), shapes, *settings_of)),
    "explain_exercise": (("digits", "scatter", "zh"), (words, words, words)),
    "explain_unpool_max": ((x, 2, 2, "SAME", "sum", "NHWC"), (tensors(), numbers, numbers, paddings, flags, formats)),
    "explain_unpool_avg": ((x, 2, 2, "SAME", "sum", "NHWC"), (tensors(), numbers, numbers, paddings, flags, formats)),
    "legal_output_sizes": (((3, 3), 3, 2, "SAME", 1), (numbers, numbers, numbers, paddings, numbers)),
    "output_sizes": (((3, 3), 3, 2, "SAME", 1), (numbers, numbers, numbers, paddings, numbers)),
    **{
        f"{library}_arguments": (
            ((1, 3, 3, 2), (3, 3, 2, 2), (1, 6, 6, 2), 2, "SAME", "NHWC", 1),
            (tensors_or_shapes, tensors_or_shapes, shapes, *settings_of),
        )
        for library in ("torch", "keras", "onnx")
    },
}


@some.composite
def arguments(draw, name):
    """Arguments that fit, some of which are replaced."""
    fitting, instead = CALLS[name]
    return [draw(strange) if draw(some.integers(0, 3)) == 0 else good for good, strange in zip(fitting, instead, strict=True)]


def test_every_function_is_thrown_at():
    kinds = {"Explanation", "PoolExplanation", "TorchArguments", "KerasArguments", "OnnxArguments", "OutputSize"}
    assert set(CALLS) == set(ops.__all__) - kinds


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_fit_are_taken(name):
    getattr(ops, name)(*CALLS[name][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_any_arguments_give_a_result_or_a_refusal(name):
    @settings(deadline=None, derandomize=True, max_examples=200, suppress_health_check=list(HealthCheck))
    @given(arguments(name))
    def throw(given_arguments):
        try:
            result = getattr(ops, name)(*given_arguments)
        except UnconvError as refusal:
            assert isinstance(refusal, ValueError | TypeError | IndexError | ArithmeticError)
            assert len(str(refusal).split()) > 8
            return
        if isinstance(result, ops.Explanation | ops.PoolExplanation) and 0 not in result.grid:
            assert result.text()

    throw()


PICTURE = torch.zeros(1, 8, 8, 3)


@pytest.mark.parametrize(
    "call, hint",
    [
        (
            lambda: ops.conv2d(PICTURE, torch.zeros(16, 3, 5, 5), 1, "SAME"),
            "They look like torch's, [out, in, kernel..]: pass fil",
        ),
        (lambda: ops.conv2d(PICTURE, torch.zeros(3, 3, 64, 32), 1, "SAME"), "pass filters [kernel.., in, out] with in = 3"),
        (lambda: ops.conv2d(PICTURE.movedim(-1, 1), torch.zeros(3, 3, 3, 5), 1, "SAME"), "axis 1: pass data_format='NCHW'"),
        (
            lambda: ops.conv2d_transpose(PICTURE, torch.zeros(3, 16, 4, 4), (1, 16, 16, 16), 2),
            "they look like torch's, [in, out, kernel..]: pass filters.permute(2, 3, 1, 0)",
        ),
        (
            lambda: ops.conv2d_transpose(PICTURE, torch.zeros(4, 4, 3, 16), (1, 16, 16, 16), 2),
            "pass filters.transpose(-1, -2)",
        ),
        (
            lambda: ops.conv2d_transpose(PICTURE, torch.zeros(4, 4, 16, 3), (1, 16, 16, 8), 2),
            "pass an output_shape with 16 channels (axis 3 in NHWC)",
        ),
        (
            lambda: ops.conv2d_transpose(PICTURE.movedim(-1, 1), torch.zeros(4, 4, 16, 3), (1, 16, 16, 16), 2),
            "the channels seem to be axis 1: pass data_format='NCHW'",
        ),
        (
            lambda: ops.keras_conv_transpose(PICTURE, torch.zeros(4, 4, 2, 3), 2, "same", output_padding=0),
            "output_padding is 0; 0 for the height is not possible with kernel 4, stride 2",
        ),
        (lambda: ops.unpool_max(PICTURE, PICTURE.numpy(), (1, 16, 16, 3)), "argmax is torch.float32, but an int64"),
    ],
)
def test_the_likeliest_mistake_is_named(call, hint):
    with pytest.raises(UnconvError) as refusal:
        call()
    assert hint in str(refusal.value)
