"""The same results in every number type, without values, compiled, and under transforms; and nothing copied for it."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from unconv import ops
from unconv.ops.pool import traced
from unconv.reverse.tape.precision import full_precision


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def pooled():
    return ops.max_pool_with_argmax(randn(2, 6, 6, 3), 3, 2, "SAME")


# A function of tensors for each path through the ops, and the tensors.
PATHS = {
    "conv1d": (lambda x, w: ops.conv1d(x, w, 2, "SAME"), lambda: (randn(2, 5, 3), randn(3, 3, 4))),
    "conv2d": (lambda x, w: ops.conv2d(x, w, 2, "SAME"), lambda: (randn(2, 5, 6, 3), randn(3, 3, 3, 4))),
    "conv2d nchw": (lambda x, w: ops.conv2d(x, w, 2, "SAME", "NCHW"), lambda: (randn(2, 3, 5, 6), randn(3, 3, 3, 4))),
    "conv2d of nothing": (lambda x, w: ops.conv2d(x, w, 2, "VALID"), lambda: (randn(2, 5, 6, 3), randn(6, 6, 3, 4))),
    "conv3d": (lambda x, w: ops.conv3d(x, w, 1, "SAME"), lambda: (randn(1, 2, 3, 3, 2), randn(2, 2, 2, 2, 4))),
    "depthwise": (lambda x, w: ops.depthwise_conv2d(x, w, 2, "SAME"), lambda: (randn(2, 5, 6, 3), randn(3, 3, 3, 2))),
    "depthwise back": (
        lambda w, y: ops.depthwise_conv2d_backprop_input((2, 5, 6, 3), w, y, 2, "SAME"),
        lambda: (randn(3, 3, 3, 2), randn(2, 3, 3, 6)),
    ),
    "transposed 1d": (lambda x, w: ops.conv1d_transpose(x, w, (2, 10, 4), 2), lambda: (randn(2, 5, 3), randn(3, 4, 3))),
    "transposed 2d": (
        lambda x, w: ops.conv2d_transpose(x, w, (2, 9, 12, 5), 2),
        lambda: (randn(2, 5, 6, 3), randn(3, 3, 5, 3)),
    ),
    "transposed 2d by products": (
        lambda x, w: ops.conv2d_transpose(x, w, (1, 4, 3, 5), 2),
        lambda: (randn(1, 2, 2, 9), randn(3, 3, 5, 9)),
    ),
    "transposed 2d by flipping": (
        lambda x, w: ops.conv2d_transpose(x, w, (2, 5, 6, 5), 1),
        lambda: (randn(2, 5, 6, 3), randn(3, 3, 5, 3)),
    ),
    "transposed 2d by phases": (
        lambda x, w: ops.conv2d_transpose(x, w, (2, 9, 12, 3), 2),
        lambda: (randn(2, 5, 6, 3), randn(4, 4, 3, 3)),
    ),
    "transposed 3d": (
        lambda x, w: ops.conv3d_transpose(x, w, (2, 4, 4, 6, 4), 2),
        lambda: (randn(2, 2, 2, 3, 3), randn(3, 3, 3, 4, 3)),
    ),
    "keras": (lambda x, w: ops.keras_conv_transpose(x, w, 2, "same"), lambda: (randn(2, 5, 6, 3), randn(3, 3, 5, 3))),
    "maxima": (lambda x: ops.max_pool_with_argmax(x, 3, 2, "SAME"), lambda: (randn(2, 5, 6, 3),)),
    "maxima, padded by hand": (lambda x: ops.max_pool_with_argmax(x, 2, 1, "SAME"), lambda: (randn(2, 5, 6, 3),)),
    "maxima, one axis": (lambda x: ops.max_pool_with_argmax(x, 3, 2, "SAME", "NWC"), lambda: (randn(2, 6, 3),)),
    "averages": (lambda x: ops.avg_pool2d(x, 3, 2, "SAME"), lambda: (randn(2, 5, 6, 3),)),
    "averages, padded by hand": (lambda x: ops.avg_pool2d(x, 2, 1, "SAME"), lambda: (randn(2, 5, 6, 3),)),
    "averages, three axes": (lambda x: ops.avg_pool3d(x, 2, 2, "SAME"), lambda: (randn(2, 3, 4, 4, 3),)),
    "unpooled": (lambda p, a: ops.unpool_max(p, a, (2, 6, 6, 3)), pooled),
    "unpooled, last": (lambda p, a: ops.unpool_max(p, a, (2, 6, 6, 3), duplicates="overwrite"), pooled),
    "copied": (lambda p: ops.unpool_avg(p, (2, 5, 6, 3), 2, 2, "SAME"), lambda: (randn(2, 3, 3, 3),)),
    "copied, overlapping": (lambda p: ops.unpool_avg(p, (2, 6, 6, 3), 3, 2, "SAME", "mean"), lambda: (randn(2, 3, 3, 3),)),
}

every = pytest.mark.parametrize("name", PATHS)


def run(name, change=lambda tensor: tensor):
    function, tensors = PATHS[name]
    made = function(*(change(tensor) for tensor in tensors()))
    return made if isinstance(made, tuple) else (made,)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_types_differ_by_rounding_only(name, dtype):
    def narrowed(tensor):
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def rounded(tensor):
        return narrowed(tensor).double() if tensor.is_floating_point() else tensor

    digits = torch.finfo(dtype).eps * 8 if dtype != torch.float64 else 0
    for found, expected in zip(run(name, narrowed), run(name, rounded), strict=True):
        assert found.dtype == (dtype if expected.is_floating_point() else torch.int64)
        assert_close(found.double(), expected.double(), rtol=digits, atol=digits * 4)


@every
def test_tensors_without_values_have_the_right_shapes_and_strides(name):
    for found, expected in zip(run(name, lambda tensor: tensor.to("meta")), run(name), strict=True):
        assert (found.shape, found.dtype, found.device.type) == (expected.shape, expected.dtype, "meta")
    with FakeTensorMode() as mode:
        for found, expected in zip(run(name, mode.from_tensor), run(name), strict=True):
            assert (found.shape, found.stride()) == (expected.shape, expected.stride())


@pytest.mark.slow
@every
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_in_one_graph(name, dynamic):
    torch._dynamo.reset()
    function, tensors = PATHS[name]
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    made = compiled(*tensors())
    for found, expected in zip(made if isinstance(made, tuple) else (made,), run(name), strict=True):
        assert_close(found, expected)


@every
def test_a_mapped_call_is_a_call_for_each(name):
    function, tensors = PATHS[name]
    first = tensors()
    second = tuple(tensor.flip(0) for tensor in first)
    made = torch.func.vmap(function)(*(torch.stack(pair) for pair in zip(first, second, strict=True)))
    for index, each in enumerate((first, second)):
        expected = function(*each)
        for found, wanted in zip(made if isinstance(made, tuple) else (made,), run_or_tuple(expected), strict=True):
            assert_close(found[index], wanted)


def run_or_tuple(made):
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.slow
def test_an_exported_program_gives_the_same():
    class Decoder(torch.nn.Module):
        def forward(self, image, filters):
            pooled, argmax = ops.max_pool_with_argmax(image, 2, 2, "SAME")
            return ops.conv2d_transpose(ops.unpool_max(pooled, argmax, image.shape), filters, (2, 12, 12, 4), 2)

    arguments = (randn(2, 6, 6, 3), randn(3, 3, 4, 3))
    assert_close(torch.export.export(Decoder(), arguments).module()(*arguments), Decoder()(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize("lost", [torch.nan, -torch.inf])
def test_values_that_are_not_finite_compile_to_the_same(lost):
    image = randn(2, 6, 6, 3)
    image[:, :4] = lost
    eager = ops.max_pool_with_argmax(image, 3, 2, "SAME")
    torch._dynamo.reset()
    compiled = torch.compile(ops.max_pool_with_argmax, fullgraph=True, backend="aot_eager")(image, 3, 2, "SAME")
    for found, expected in zip(compiled, eager, strict=True):
        assert_close(found, expected, equal_nan=True)


def test_half_averages_do_not_overflow():
    image = torch.full((1, 4, 4, 1), 60000.0, dtype=torch.float16)
    assert ops.avg_pool2d(image, 2, 1, "SAME").isfinite().all()
    assert ops.avg_pool2d(image, 4, 4, "VALID").isfinite().all()


@pytest.mark.parametrize("name", ["conv2d", "transposed 2d", "averages", "maxima", "copied", "transposed 1d"])
def test_results_with_channels_last_lie_so_in_memory(name):
    for made in run(name):
        whole = made if made.is_contiguous() else made._base
        assert whole is not None
        assert made.stride(-1) == 1


def test_channels_first_and_last_are_views_of_each_other(monkeypatch):
    seen = []
    original = torch.convolution
    monkeypatch.setattr(torch, "convolution", lambda x, *rest: seen.append(x.data_ptr()) or original(x, *rest))
    image, filters = randn(1, 5, 6, 3), randn(3, 3, 5, 3)
    ops.conv2d_transpose(image, filters, (1, 10, 12, 5), 2)
    ops.conv2d_transpose(image.movedim(-1, 1), filters, (1, 5, 10, 12), 2, data_format="NCHW")
    ops.conv1d_transpose(image[0], filters[0], (5, 12, 5), 2)
    assert seen == [image.data_ptr()] * 3


def test_inputs_are_not_changed():
    for name, (function, tensors) in PATHS.items():
        given = tensors()
        before = [tensor.clone() for tensor in given]
        function(*given)
        for tensor, kept in zip(given, before, strict=True):
            assert torch.equal(tensor, kept), name


def test_traced_tells_where_there_are_no_values():
    tensor = randn(2)
    assert not traced(tensor)
    assert traced(tensor.to("meta"))
    with FakeTensorMode() as mode:
        assert traced(mode.from_tensor(tensor))
    seen = []
    torch.func.vmap(lambda row: seen.append(traced(row)) or row)(randn(2, 3))
    assert seen == [True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every
def test_cuda_gives_the_same(name):
    with full_precision(torch.device("cuda")):
        made = run(name, lambda tensor: tensor.cuda())
    for found, expected in zip(made, run(name), strict=True):
        assert found.is_cuda
        assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_index_outside_is_refused_on_cuda_too():
    from unconv import NoSuchUnit

    with pytest.raises(NoSuchUnit):
        ops.unpool_max(torch.ones(1, 1, 1, device="cuda"), torch.full((1, 1, 1), 9, device="cuda"), (1, 4, 1))
