"""The same results in every number type, without values, compiled, and under transforms; and nothing copied for it."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from unconv import DtypeError, ops
from unconv.ops.pool import traced
from unconv.reverse.tape.precision import full_precision


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def pooled(n=2, counted=False):
    return ops.max_pool_with_argmax(randn(n, 6, 6, 3), 3, 2, "SAME", include_batch_in_index=counted)


def first(shape):
    """The tensor of a shape that begins with the batch, for `n` images, and tensors of the other shapes as they are."""
    return lambda *others: lambda n=2: (randn(n, *shape), *(randn(*other) for other in others))


row, image, small, cube = first((5, 3)), first((5, 6, 3)), first((3, 3, 3)), first((2, 2, 3, 3))

# A function of tensors for each path through the ops, and the tensors for a batch. The first has the batch; so have all of
# those that are alone or come from a pool.
PATHS = {
    "conv1d": (lambda x, w: ops.conv1d(x, w, 2, "SAME"), row((3, 3, 4))),
    "conv2d": (lambda x, w: ops.conv2d(x, w, 2, "SAME"), image((3, 3, 3, 4))),
    "conv2d nchw": (lambda x, w: ops.conv2d(x, w, 2, "SAME", "NCHW"), first((3, 5, 6))((3, 3, 3, 4))),
    "conv2d of nothing": (lambda x, w: ops.conv2d(x, w, 2, "VALID"), image((6, 6, 3, 4))),
    "conv3d": (lambda x, w: ops.conv3d(x, w, 1, "SAME"), first((2, 3, 3, 2))((2, 2, 2, 2, 4))),
    "depthwise": (lambda x, w: ops.depthwise_conv2d(x, w, 2, "SAME"), image((3, 3, 3, 2))),
    "depthwise back": (
        lambda y, w: ops.depthwise_conv2d_backprop_input((y.shape[0], 5, 6, 3), w, y, 2, "SAME"),
        first((3, 3, 6))((3, 3, 3, 2)),
    ),
    "transposed 1d": (lambda x, w: ops.conv1d_transpose(x, w, (x.shape[0], 10, 4), 2), row((3, 4, 3))),
    "transposed 2d": (lambda x, w: ops.conv2d_transpose(x, w, (x.shape[0], 9, 12, 5), 2), image((3, 3, 5, 3))),
    "transposed 2d by products": (
        lambda x, w: ops.conv2d_transpose(x, w, (x.shape[0], 4, 3, 5), 2),
        first((2, 2, 19))((3, 3, 5, 19)),
    ),
    "transposed 2d by flipping": (lambda x, w: ops.conv2d_transpose(x, w, (x.shape[0], 5, 6, 5), 1), image((3, 3, 5, 3))),
    "transposed 2d by phases": (lambda x, w: ops.conv2d_transpose(x, w, (x.shape[0], 9, 12, 3), 2), image((4, 4, 3, 3))),
    "transposed 3d": (lambda x, w: ops.conv3d_transpose(x, w, (x.shape[0], 4, 4, 6, 4), 2), cube((3, 3, 3, 4, 3))),
    "keras": (lambda x, w: ops.keras_conv_transpose(x, w, 2, "same"), image((3, 3, 5, 3))),
    "maxima": (lambda x: ops.max_pool_with_argmax(x, 3, 2, "SAME"), image()),
    "maxima, batch counted": (lambda x: ops.max_pool_with_argmax(x, 3, 2, "SAME", include_batch_in_index=True), image()),
    "maxima, padded by hand": (lambda x: ops.max_pool_with_argmax(x, 2, 1, "SAME"), image()),
    "maxima, one axis": (lambda x: ops.max_pool_with_argmax(x, 3, 2, "SAME", "NWC"), row()),
    "averages": (lambda x: ops.avg_pool2d(x, 3, 2, "SAME"), image()),
    "averages, padded by hand": (lambda x: ops.avg_pool2d(x, 2, 1, "SAME"), image()),
    "averages, three axes": (lambda x: ops.avg_pool3d(x, 2, 2, "SAME"), cube()),
    "unpooled": (lambda p, a: ops.unpool_max(p, a, (p.shape[0], 6, 6, 3)), pooled),
    "unpooled, batch counted": (
        lambda p, a: ops.unpool_max(p, a, (p.shape[0], 6, 6, 3), include_batch_in_index=True),
        lambda n=2: pooled(n, counted=True),
    ),
    "unpooled, last": (lambda p, a: ops.unpool_max(p, a, (p.shape[0], 6, 6, 3), duplicates="overwrite"), pooled),
    "copied": (lambda p: ops.unpool_avg(p, (p.shape[0], 5, 6, 3), 2, 2, "SAME"), small()),
    "copied, overlapping": (lambda p: ops.unpool_avg(p, (p.shape[0], 6, 6, 3), 3, 2, "SAME", "mean"), small()),
}

every = pytest.mark.parametrize("name", PATHS)


def run(name, change=lambda tensor: tensor):
    function, tensors = PATHS[name]
    return tupled(function(*(change(tensor) for tensor in tensors())))


def tupled(result):
    return result if isinstance(result, tuple) else (result,)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_types_differ_by_rounding_only(name, dtype):
    def narrowed(tensor):
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def rounded(tensor):
        return narrowed(tensor).double() if tensor.is_floating_point() else tensor

    digits = torch.finfo(dtype).eps * 8 if dtype != torch.float64 else 0
    for actual, expected in zip(run(name, narrowed), run(name, rounded), strict=True):
        assert actual.dtype == (dtype if expected.is_floating_point() else torch.int64)
        assert_close(actual.double(), expected.double(), rtol=digits, atol=digits * 4)


@every
def test_tensors_without_values_have_the_right_shapes_and_strides(name):
    for actual, expected in zip(run(name, lambda tensor: tensor.to("meta")), run(name), strict=True):
        assert (actual.shape, actual.dtype, actual.device.type) == (expected.shape, expected.dtype, "meta")
    with FakeTensorMode() as mode:
        for actual, expected in zip(run(name, mode.from_tensor), run(name), strict=True):
            assert (actual.shape, actual.stride()) == (expected.shape, expected.stride())


class OneArgument(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, a):
        return self.function(a)


class TwoArguments(OneArgument):
    def forward(self, a, b):
        return self.function(a, b)


def agrees_at_two_batches(program, name):
    """On 7 images before 4: a limit that the 3 of the example met may be one above, too."""
    function, tensors = PATHS[name]
    for images in (7, 4):
        for actual, expected in zip(tupled(program(*tensors(images))), tupled(function(*tensors(images))), strict=True):
            assert_close(actual, expected)


def batched(name, tensors):
    """Say of each tensor whether it has the batch."""
    return [index == 0 or name.startswith("unpooled") for index in range(len(tensors))]


def exported(name, batch, strict=False):
    function, tensors = PATHS[name]
    example = tensors(3)
    module = (OneArgument if len(example) == 1 else TwoArguments)(function)
    shapes = tuple({0: batch} if has else None for has in batched(name, example))
    return torch.export.export(module, example, dynamic_shapes=shapes, strict=strict).module()


@every
def test_a_program_exported_with_an_open_batch_takes_every_batch(name):
    """A batch without a maximum is the hardest to have: nothing that was looked at may limit it."""
    agrees_at_two_batches(exported(name, torch.export.Dim("batch")), name)


FEW = ["conv1d", "transposed 2d by products", "transposed 2d by phases", "maxima, batch counted", "unpooled, last", "copied"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("way", ["with a maximum", "automatic", "strict"])
def test_so_does_one_exported_in_another_way(name, way):
    batch = {
        "with a maximum": torch.export.Dim("batch", max=64),
        "automatic": torch.export.Dim.AUTO,
        "strict": torch.export.Dim("batch"),
    }[way]
    agrees_at_two_batches(exported(name, batch, strict=way == "strict"), name)


@pytest.mark.slow
@every
def test_it_compiles_in_one_graph_for_every_batch(name):
    torch._dynamo.reset()
    function, _ = PATHS[name]
    compiled = torch.compile(function, fullgraph=True, backend="eager")

    def program(*tensors):
        for tensor, has in zip(tensors, batched(name, tensors), strict=True):
            if has:
                torch._dynamo.mark_dynamic(tensor, 0)  # an error where the batch becomes a number
        return compiled(*tensors)

    agrees_at_two_batches(program, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transposed 2d by phases", "maxima, batch counted", "unpooled, last", "copied"])
def test_it_compiles_where_every_length_is_open(name):
    torch._dynamo.reset()
    function, _ = PATHS[name]
    agrees_at_two_batches(torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager"), name)


@pytest.mark.parametrize("name", [name for name in PATHS if name.startswith(("conv", "depth", "trans", "keras"))])
@pytest.mark.parametrize("types", [(torch.float32,) * 2, (torch.bfloat16, torch.float32), (torch.float32, torch.float16)])
def test_under_autocast_mixed_types_are_taken_as_torch_takes_them(name, types):
    function, tensors = PATHS[name]
    mixed = [tensor.to(dtype) for tensor, dtype in zip(tensors(), types, strict=True)]
    for images in (2, 5):
        mixed[0] = tensors(images)[0].to(types[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = function(*mixed)
        assert result.dtype == torch.bfloat16
        assert torch.equal(result, function(*(tensor.bfloat16() for tensor in mixed)))


def test_autocast_leaves_double_precision_alone():
    function, tensors = PATHS["transposed 2d"]
    doubles = [tensor.double() for tensor in tensors()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(*doubles), function(*doubles))
        assert function(*doubles).dtype == torch.float64
        with pytest.raises(DtypeError, match=r"input is torch.float64 but filters is torch.bfloat16"):
            function(doubles[0], tensors()[1])


@pytest.mark.parametrize("name", ["averages", "maxima", "unpooled", "copied"])
def test_autocast_leaves_pools_alone_as_it_leaves_torch_s(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = run(name)
    for actual, expected in zip(under, run(name), strict=True):
        assert torch.equal(actual, expected)


@every
def test_a_mapped_call_is_a_call_for_each(name):
    function, tensors = PATHS[name]
    one = tensors()
    other = tuple(tensor if tensor.dtype == torch.int64 else tensor.flip(-1) for tensor in one)
    result = torch.func.vmap(function)(*(torch.stack(pair) for pair in zip(one, other, strict=True)))
    for index, each in enumerate((one, other)):
        for actual, expected in zip(tupled(result), tupled(function(*each)), strict=True):
            assert_close(actual[index], expected)


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
    for actual, expected in zip(compiled, eager, strict=True):
        assert_close(actual, expected, equal_nan=True)


def test_half_averages_do_not_overflow():
    image = torch.full((1, 4, 4, 1), 60000.0, dtype=torch.float16)
    assert ops.avg_pool2d(image, 2, 1, "SAME").isfinite().all()
    assert ops.avg_pool2d(image, 4, 4, "VALID").isfinite().all()


@pytest.mark.parametrize("name", ["conv2d", "transposed 2d", "averages", "maxima", "copied", "transposed 1d"])
def test_results_with_channels_last_lie_so_in_memory(name):
    for result in run(name):
        whole = result if result.is_contiguous() else result._base
        assert whole is not None
        assert result.stride(-1) == 1


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
        result = run(name, lambda tensor: tensor.cuda())
    for actual, expected in zip(result, run(name), strict=True):
        assert actual.is_cuda
        assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_index_outside_is_refused_on_cuda_too():
    from unconv import NoSuchUnit

    with pytest.raises(NoSuchUnit):
        ops.unpool_max(torch.ones(1, 1, 1, device="cuda"), torch.full((1, 1, 1), 9, device="cuda"), (1, 4, 1))
