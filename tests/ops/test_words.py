"""What people who come from TensorFlow 1, Keras and ONNX write is taken, or answered with the line to write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unconv import DtypeError, ShapeError, ops

ONES = np.ones((1, 4, 4, 1), np.float32)
KERNEL = [[1.0, 0.0], [-1.0, -2.0]]
BACK = [[-2, 0, -2, 0], [2, 4, 2, 4]] * 2


def test_the_tutorial_s_arrays_lists_and_keywords_give_its_numbers():
    kernel = np.reshape(KERNEL, (2, 2, 1, 1))
    small = ops.conv2d(ONES, filter=kernel.astype(np.float32), strides=[1, 2, 2, 1], padding="VALID", name="conv")
    assert small.flatten().tolist() == [-2.0] * 4
    large = ops.conv2d_transpose(
        value=small, filter=kernel, output_shape=ONES.shape, strides=[1, 2, 2, 1], padding="SAME", name="back"
    )
    assert large[0, :, :, 0].tolist() == BACK
    pooled, argmax = ops.max_pool_with_argmax(large.numpy(), ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    back = ops.unpool_max(pooled.numpy(), argmax.numpy(), list(ONES.shape))
    assert back.sum() == 4 * 4
    assert ops.avg_pool2d(value=ONES.tolist(), ksize=2, strides=2, padding="SAME").flatten().tolist() == [1.0] * 4
    assert torch.equal(ops.unpool_avg(ONES[:, ::2, ::-2], ONES.shape, 2, 2, "SAME"), torch.from_numpy(ONES))


def test_arrays_and_lists_take_the_type_of_a_floating_tensor_beside_them():
    double = torch.ones(1, 4, 4, 1, dtype=torch.float64)
    assert ops.conv2d(double, np.ones((2, 2, 1, 1), np.float32), 1, "SAME").dtype == torch.float64
    assert ops.conv2d(double.half(), [[[[1]]]], 1, "SAME").dtype == torch.float16
    assert ops.conv2d(ONES.astype(np.int32), double[:, :2, :2].reshape(2, 2, 1, 1), 1, "SAME").dtype == torch.float64
    assert ops.conv2d([[[[1.0]]]], [[[[1.0]]]], 1, "SAME").dtype == torch.float32
    assert ops.conv2d([[[[1]]]], [[[[1]]]], 1, "SAME").dtype == torch.int32
    assert ops.max_pool_with_argmax([[[[2**40], [1]]]], 2, 2, "SAME")[0].item() == 2**40


def test_an_array_that_cannot_be_shared_is_read():
    frozen = np.arange(16.0).reshape(1, 4, 4, 1)
    frozen.flags.writeable = False
    swapped = frozen.astype(">f8")
    for array in (frozen, swapped, frozen[:, ::-1][:, ::-1]):
        result = ops.conv2d(array, np.ones((1, 1, 1, 1)), 1, "SAME")
        assert torch.equal(result, torch.arange(16.0, dtype=torch.float64).reshape(1, 4, 4, 1))


@pytest.mark.parametrize(
    "value, words",
    [
        (np.array([["a"]]), r"input holds <U1, but numbers were needed"),
        ([[1.0], [1.0, 2.0]], r"input is not an array of numbers: .* Pass nested lists of equal lengths"),
        (3.0, r"input is a float, but a torch.Tensor was needed, or an array or list of numbers"),
        (ONES[0], r"input has 3 axes, \(4, 4, 1\), but 4 were needed"),
        (ONES.astype(np.complex64), r"input holds complex64, but numbers were needed"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(value, words):
    with pytest.raises((DtypeError, ShapeError), match=words):
        ops.conv2d(value, torch.ones(1, 1, 1, 1), 1, "SAME")


def test_an_old_name_beside_its_new_one_is_refused():
    with pytest.raises(DtypeError, match="conv2d: filter is TensorFlow 1's name for filters, and both came"):
        ops.conv2d(ONES, filter=KERNEL, filters=KERNEL, strides=1, padding="SAME")


def test_a_function_under_its_old_names_keeps_its_signature():
    with pytest.raises(TypeError, match="unexpected keyword argument 'kernel'"):
        ops.conv2d(ONES, kernel=KERNEL, strides=1, padding="SAME")


OPEN = [((None, 4, 4, 3), (None, 8, 8, 5)), ((-1, 4, 4, 3), (7, 8, 8, 5)), ((2, 4, 4, 3), ("N", 8, 8, 5))]


@pytest.mark.parametrize("bridge", [ops.torch_arguments, ops.keras_arguments, ops.onnx_arguments])
@pytest.mark.parametrize("small, large", OPEN)
def test_a_bridge_takes_a_batch_that_is_left_open(bridge, small, large):
    assert bridge(small, (3, 3, 5, 3), large, 2) == bridge((1, 4, 4, 3), (3, 3, 5, 3), (1, 8, 8, 5), 2)


def test_only_the_batch_may_be_left_open():
    with pytest.raises(ShapeError, match="-1 is below 0, and no length is inferred"):
        ops.torch_arguments((None, 4, 4, 3), (3, 3, 5, 3), (None, -1, 8, 5), 2)
    with pytest.raises(DtypeError, match=r"input is \(1, None, 4, 3\); None is a NoneType"):
        ops.torch_arguments((None, None, 4, 3), (3, 3, 5, 3), (None, 8, 8, 5), 2)
    with pytest.raises(ShapeError, match="a batch of 2"):
        ops.torch_arguments((3, 4, 4, 3), (3, 3, 5, 3), (2, 8, 8, 5), 2)


def test_groups_are_refused_with_the_reason_and_the_way_out_is_right():
    generator = torch.Generator().manual_seed(0)
    x, filters = torch.randn(2, 4, 4, 8, generator=generator), torch.randn(3, 3, 2, 8, generator=generator)
    with pytest.raises(
        ShapeError, match=r"if 4 groups are meant, .* input.chunk\(4, 3\) and filters.chunk\(4, -1\) along axis 3"
    ):
        ops.conv2d_transpose(x, filters, (2, 9, 9, 8), 2, "VALID")
    pairs = zip(x.chunk(4, 3), filters.chunk(4, -1), strict=True)
    result = torch.cat([ops.conv2d_transpose(part, kernel, (2, 9, 9, 2), 2, "VALID") for part, kernel in pairs], 3)
    expected = F.conv_transpose2d(x.movedim(-1, 1), filters.permute(3, 2, 0, 1), stride=2, groups=4)
    torch.testing.assert_close(result.movedim(-1, 1), expected)


@pytest.mark.parametrize(
    "size, padding, words",
    [
        ((89, 89), "SAME", r'Pass one of these, or padding="VALID", which 89 by 89 needs\.'),
        ((88, 87), "VALID", r'Pass one of these, or padding="SAME", which 88 by 87 needs\.'),
        ((88, 89), "SAME", r"Pass one of these\.$"),
        ((91, 91), "SAME", r"Pass one of these\.$"),
    ],
)
def test_a_size_that_the_other_padding_leads_to_says_so(size, padding, words):
    """U-Net's upward steps: 44 to 89 is VALID's."""
    with pytest.raises(ShapeError, match=words):
        ops.conv2d_transpose(torch.ones(1, 44, 44, 1), torch.ones(3, 3, 1, 1), (1, *size, 1), 2, padding)


def test_unpool_is_no_module_that_looks_like_a_function():
    with pytest.raises(AttributeError, match=r"unconv.ops has no 'unpool'. Nearest: unpool_max"):
        _ = ops.unpool


@pytest.mark.parametrize("kernel, padding, possible", [(3, "same", [0, 1]), (4, "same", [1, 2]), (3, "valid", [0, 1])])
def test_keras_output_padding_is_possible_as_its_docstring_says(kernel, padding, possible):
    x, w = torch.ones(1, 3, 1), torch.ones(kernel, 1, 1)
    base = 2 * 2 + (kernel if padding == "valid" else kernel % 2)
    for extra in range(4):
        if extra in possible:
            assert ops.keras_conv_transpose(x, w, 2, padding, extra).shape[1] == base + extra
        else:
            with pytest.raises(ShapeError, match=rf"output_padding is {extra};.* Pass None, or one of \{possible}"):
                ops.keras_conv_transpose(x, w, 2, padding, extra)
