"""Whole numbers, as TensorFlow has them: the last 32 bits of a sum, and maxima of every type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from golden.write_integers import CALLS, FILE, POOLS, TYPES
from unconv import DtypeError, ShapeError, ops
from unconv.ops.whole_numbers import by_parts, in_order

ARRAYS = np.load(FILE)


@pytest.mark.parametrize("name", CALLS)
def test_a_convolution_of_int32_is_tensorflow_s_where_its_sums_overflow(name):
    operation, shapes, rest = CALLS[name]
    given = [torch.from_numpy(ARRAYS[f"{name}/{index}"]) for index in range(len(shapes))]
    result = getattr(ops, operation)(*given, strides=2, **rest)
    np.testing.assert_array_equal(result.numpy(), ARRAYS[f"{name}/made"], strict=True)


@pytest.mark.parametrize("name", CALLS)
def test_small_numbers_take_one_convolution_instead_of_three_and_give_the_same(name):
    operation, shapes, rest = CALLS[name]
    generator = torch.Generator().manual_seed(0)
    given = [torch.randint(-99, 99, shape, generator=generator, dtype=torch.int32) for shape in shapes]
    result = getattr(ops, operation)(*given, strides=2, **rest)
    assert result.dtype == torch.int32
    assert torch.equal(result.double(), getattr(ops, operation)(*(tensor.double() for tensor in given), strides=2, **rest))
    mapped = torch.func.vmap(lambda x: getattr(ops, operation)(x, given[1], strides=2, **rest))(given[0][None])
    assert torch.equal(mapped[0], result)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", TYPES)
def test_maxima_of_every_type_are_tensorflow_s_and_go_back(dtype, name):
    image = torch.from_numpy(ARRAYS[f"{dtype}/image"])
    pooled, argmax = ops.max_pool_with_argmax(image, **POOLS[name])
    np.testing.assert_array_equal(pooled.numpy(), ARRAYS[f"{dtype}/{name}/pooled"], strict=True)
    np.testing.assert_array_equal(argmax.numpy(), ARRAYS[f"{dtype}/{name}/argmax"], strict=True)
    counted = POOLS[name]["include_batch_in_index"]
    back = ops.unpool_max(pooled, argmax, image.shape, counted)
    if counted:
        np.testing.assert_array_equal(back.numpy(), ARRAYS[f"{dtype}/{name}/back"], strict=True)
    restored = ops.unpool_max(pooled, argmax, image.shape, counted, "overwrite").numpy()
    assert ((restored == image.numpy()) | (restored == 0)).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_numbers_that_float64_cannot_tell_apart_keep_their_order(dtype):
    large = np.array([2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53, 2**53 + 1, 0, 7], dtype)
    ranks = in_order(torch.from_numpy(large))
    assert ranks.tolist() == [5, 4, 3, 2, 3, 0, 1]


def test_numbers_that_float64_has_are_themselves():
    assert in_order(torch.tensor([3, -(2**53), 2**53])).tolist() == [3, -(2**53), 2**53]


def test_what_tensorflow_has_no_whole_numbers_for_is_refused():
    numbers = torch.ones(1, 4, 4, 1, dtype=torch.int64)
    with pytest.raises(DtypeError, match=r"input is torch.int64, but a dense .*float64 or int32 was needed"):
        ops.conv2d(numbers, torch.ones(2, 2, 1, 1, dtype=torch.int64), 1, "SAME")
    with pytest.raises(DtypeError, match=r"input is torch.int32, but a dense .*float32 or float64 was needed"):
        ops.avg_pool2d(numbers.int(), 2, 2, "SAME")
    with pytest.raises(DtypeError, match=r"input is torch.bool, but"):
        ops.max_pool_with_argmax(numbers.bool(), 2, 2, "SAME")


def test_more_products_than_are_exact_are_refused():
    one = torch.ones(1, dtype=torch.int32)
    with pytest.raises(ShapeError, match=r"4194305 products are added up for a sample, but int32 is exact for 4194304 at most"):
        by_parts("conv2d", torch.mul, one, one, 2**22 + 1)
