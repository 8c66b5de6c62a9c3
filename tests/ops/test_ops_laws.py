"""What must hold of every convolution, pool and way back, whatever the settings: float64, 1 to 3 axes, all layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from torch.testing import assert_close

from cases.ops import AVERAGES, CONVS, TRANSPOSED, calls, exactly, inner, law, randn, settings_of
from oracles.reverse import slow_conv, slow_windows
from unconv import ops
from unconv.axis import Axis
from unconv.ops import adjoint as choice


@pytest.mark.slow
@law
@given(calls(), some.integers(1, 2), some.integers(1, 2), some.integers(1, 2))
def test_a_convolution_is_its_definition(call, batch, inside, out):
    layout, axes, size, padding = call
    x, filters = randn(batch, *size, inside), randn(*(axis.kernel for axis in axes), inside, out)
    strides, dilations = settings_of(axes)
    given_x = layout.back(x.movedim(-1, 1))
    result = CONVS[layout.axes](given_x, filters, strides, padding, layout.name, dilations)
    exactly(result, layout.back(slow_conv(x, filters, axes).movedim(-1, 1)))


@pytest.mark.slow
@law
@given(calls(), some.integers(1, 2), some.integers(1, 3), some.integers(1, 3))
def test_a_transposed_convolution_passes_the_dot_test_with_the_convolution(call, batch, inside, out):
    layout, axes, size, padding = call
    strides, dilations = settings_of(axes)
    x = layout.back(randn(batch, inside, *size))
    filters = randn(*(axis.kernel for axis in axes), inside, out, seed=1)
    small = CONVS[layout.axes](x, filters, strides, padding, layout.name, dilations)
    y = randn(*small.shape, seed=2)
    back = TRANSPOSED[layout.axes](y, filters, x.shape, strides, padding, layout.name, dilations)
    assert back.shape == x.shape
    exactly(inner(small, y), inner(x, back))


@pytest.mark.slow
@law
@given(calls(most=2), some.integers(1, 3))
def test_a_depthwise_convolution_passes_the_dot_test_with_its_way_back(call, multiplier):
    layout, axes, size, padding = call
    assume(layout.axes == 2)
    strides, dilations = settings_of(axes)
    x, filters = layout.back(randn(2, 3, *size)), randn(*(axis.kernel for axis in axes), 3, multiplier)
    small = ops.depthwise_conv2d(x, filters, strides, padding, layout.name, dilations)
    y = randn(*small.shape, seed=2)
    back = ops.depthwise_conv2d_backprop_input(x.shape, filters, y, strides, padding, layout.name, dilations)
    exactly(inner(small, y), inner(x, back))
    channel = layout.channels_first(x)[:, 1:2]
    alone = ops.conv2d(layout.back(channel), filters[:, :, 1:2], strides, padding, layout.name, dilations)
    exactly(layout.channels_first(small)[:, multiplier : 2 * multiplier], layout.channels_first(alone))


@pytest.mark.slow
@settings(law, max_examples=400)
@given(calls(), some.sampled_from([1, 2, 16, 33]), some.sampled_from([1, 3, 16]), some.booleans())
def test_single_precision_gives_the_same_with_its_gradients(call, inside, out, back):
    """On one window, one channel or a kernel longer than the map, oneDNN's own convolutions have written beside theirs."""
    layout, axes, size, padding = call
    strides, dilations = settings_of(axes)
    x, filters = layout.back(randn(2, inside, *size)), randn(*(axis.kernel for axis in axes), inside, out, seed=1)
    rest = (strides, padding, layout.name, dilations)
    small = CONVS[layout.axes](x, filters, *rest)

    def results(dtype):
        given = small if back else x
        leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in (given, filters)]
        result = TRANSPOSED[layout.axes](*leaves, x.shape, *rest) if back else CONVS[layout.axes](*leaves, *rest)
        return [result, *torch.autograd.grad(result, leaves, randn(*result.shape, seed=2).to(dtype))]

    for actual, expected in zip(results(torch.float32), results(torch.float64), strict=True):
        assert_close(actual.double(), expected, rtol=0, atol=1e-5 * max(expected.abs().max().item(), 1))


# (height, width), kernel, stride of the width, its padding on both sides: one window along the width
@pytest.mark.parametrize(
    "size, kernel, stride, pad, out", [((5, 1), (3, 2), 2, 1, 4), ((17, 2), (1, 2), 3, 0, 16), ((8, 2), (2, 3), 2, 1, 16)]
)
@pytest.mark.parametrize("back", [False, True])
def test_one_channel_last_in_memory_and_one_window_along_the_width(size, kernel, stride, pad, out, back):
    """Within oneDNN such a convolution reads beside its tensors, as does the gradient of the way back."""
    x, filters = randn(2, *size, 1), randn(*kernel, 1, out, seed=1)
    rest = ((1, stride), [(0, 0), (0, 0), (pad, pad), (0, 0)])
    small = ops.conv2d(x, filters, *rest)
    if back:
        given = torch.zeros_like(small, dtype=torch.float32, requires_grad=True)
        result = ops.conv2d_transpose(given, filters.float(), x.shape, *rest)
        (actual,) = torch.autograd.grad(result, given, x.float())
    else:
        actual = ops.conv2d(x.float(), filters.float(), *rest)
    assert_close(actual.double(), small, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@law
@given(calls(), some.integers(1, 12), some.integers(1, 5))
def test_every_way_to_compute_a_transposed_convolution_gives_the_same(call, inside, out):
    layout, axes, size, _ = call
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    planes, weight = randn(2, inside, *small), randn(inside, out, *(axis.kernel for axis in axes), seed=1)
    if layout.axes == 1:
        planes, weight, axes, size = planes.unsqueeze(2), weight.unsqueeze(2), [Axis(1), *axes], [1, *size]
    first = [axis.pads(n)[0] for axis, n in zip(axes, size, strict=True)]
    strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
    usual = choice.conv_transpose(planes, weight, strides, dilations, first, size)
    exactly(choice.adjoint(planes, weight, axes, size), usual)
    exactly(choice.gemm_col2im(planes, weight, strides, dilations, first, size), usual)
    if set(dilations) == {1}:  # also where phases are uneven: these samples are finite
        exactly(choice.sub_pixel(planes, choice.sub_pixel_kernels(weight, strides), strides, first, size), usual)
    pads = [axis.transposed_pads(n) for axis, n in zip(axes, size, strict=True)]
    if set(strides) == {1} and all(0 <= before == after for before, after in pads):
        exactly(choice.flipped(planes, weight, dilations, first, size), usual)


def test_a_large_weight_is_the_same_in_another_order():
    filters = randn(16, 16, 64, 64).movedim((-1, -2), (0, 1))
    ordered = choice.input_first(filters)
    assert torch.equal(ordered, filters)
    assert ordered.stride(0) == 16 * 16 * 64
    assert choice.input_first(filters[:, :, :2]).data_ptr() == filters.data_ptr()


def test_each_way_is_taken_somewhere(monkeypatch):
    taken = []
    for name in ("gemm_col2im", "flipped", "sub_pixel", "conv_transpose"):
        way = getattr(choice, name)
        monkeypatch.setattr(choice, name, lambda *a, name=name, way=way: taken.append(name) or way(*a))
    ops.conv2d_transpose(randn(1, 2, 2, 9), randn(3, 3, 5, 9), (1, 4, 4, 5), 2)
    ops.conv2d_transpose(randn(1, 3, 4, 9), randn(3, 3, 3, 9), (1, 3, 4, 3), 1)
    ops.conv2d_transpose(randn(1, 3, 4, 9), randn(4, 4, 3, 9), (1, 6, 8, 3), 2)
    ops.conv2d_transpose(randn(1, 3, 4, 9), randn(3, 3, 3, 9), (1, 6, 8, 3), 2)
    assert taken == ["gemm_col2im", "flipped", "sub_pixel", "conv_transpose"]


@pytest.mark.parametrize("shape", [(1, 2, 2, 9), (1, 5, 6, 9), (1, 5, 6, 2)])
@pytest.mark.parametrize("lost", [torch.inf, torch.nan])
@pytest.mark.parametrize("out", [3, 7])
def test_what_is_not_finite_spoils_what_it_reaches_and_nothing_else(shape, lost, out):
    x, filters = randn(*shape), randn(4, 4, out, shape[-1])
    size = (1, shape[1] * 2, shape[2] * 2, out)
    whole = ops.conv2d_transpose(x, filters, size, 2)
    reached = ops.conv2d_transpose(torch.zeros_like(x).index_fill_(1, torch.tensor(0), 1), filters * 0 + 1, size, 2) != 0
    spoilt = ops.conv2d_transpose(x.index_fill(1, torch.tensor(0), lost), filters, size, 2)
    assert not spoilt[reached].isfinite().any()
    exactly(spoilt[~reached], whole[~reached])


@pytest.mark.slow
@law
@given(calls(dilated=False), some.integers(1, 3), some.booleans(), some.booleans(), some.booleans())
def test_maxima_are_the_first_largest_of_their_windows(call, channels, tied, lost, counted):
    layout, axes, size, padding = call
    x = randn(2, *size, channels)
    x = x.round() if tied else x
    x = x.masked_fill(randn(*x.shape, seed=5) > 0.7, torch.nan if lost else -torch.inf)
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    given_x = layout.back(x.movedim(-1, 1))
    output, argmax = ops.max_pool_with_argmax(given_x, kernel, strides, padding, layout.name, include_batch_in_index=counted)
    output, argmax = layout.channels_first(output), layout.channels_first(argmax)
    for window, places in slow_windows(size, axes):
        for n, c in ((n, c) for n in range(2) for c in range(channels)):
            best = places[0]
            for place in places[1:]:  # as TensorFlow: NaN is never larger, and nothing is larger than NaN
                best = place if x[(n, *place, c)] > x[(n, *best, c)] else best
            flat = 0
            for length, spot in zip((2, *size, channels), (n if counted else 0, *best, c), strict=True):
                flat = flat * length + spot
            assert argmax[(n, c, *window)] == flat
            assert_close(output[(n, c, *window)], x[(n, *best, c)], rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
@law
@given(calls(dilated=False))
def test_averages_count_no_padding(call):
    layout, axes, size, padding = call
    x = randn(2, *size, 3)
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    result = AVERAGES[layout.axes](layout.back(x.movedim(-1, 1)), kernel, strides, padding, layout.name)
    result = layout.channels_first(result).movedim(1, -1)
    for window, places in slow_windows(size, axes):
        samples = torch.stack([x[(slice(None), *place)] for place in places])
        exactly(result[(slice(None), *window)], samples.mean(0))


@pytest.mark.slow
@law
@given(calls(dilated=False), some.booleans())
def test_unpooling_maxima_is_the_adjoint_of_pooling_with_the_indices_held(call, counted):
    layout, axes, size, padding = call
    x = layout.back(randn(2, 3, *size)).requires_grad_()
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    pooled, argmax = ops.max_pool_with_argmax(x, kernel, strides, padding, layout.name, include_batch_in_index=counted)
    signal = randn(*pooled.shape, seed=3)
    back = ops.unpool_max(signal, argmax, x.shape, counted, "sum", layout.name)
    exactly(back, torch.autograd.grad(pooled, x, signal)[0])


@pytest.mark.slow
@law
@given(calls(dilated=False))
def test_overwriting_brings_the_maxima_back_unchanged(call):
    layout, axes, size, padding = call
    x = layout.back(randn(2, 3, *size))
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    pooled, argmax = ops.max_pool_with_argmax(x, kernel, strides, padding, layout.name)
    back = ops.unpool_max(pooled, argmax, x.shape, False, "overwrite", layout.name)
    assert torch.equal(back, torch.where(back != 0, x, 0))
    again, _ = ops.max_pool_with_argmax(torch.where(back != 0, back, -torch.inf), kernel, strides, padding, layout.name)
    assert torch.equal(again, pooled)


@pytest.mark.parametrize("counted", [False, True])
def test_of_values_that_share_a_place_the_last_one_stays(counted):
    pooled = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]).reshape(2, 4, 1).requires_grad_()
    argmax = torch.tensor([[2, 0, 2, 0], [3, 3, 3, 1]]).reshape(2, 4, 1)
    argmax = argmax + torch.tensor([0, 4]).reshape(2, 1, 1) * counted
    back = ops.unpool_max(pooled, argmax, (2, 4, 1), counted, "overwrite")
    assert back.flatten().tolist() == [4, 0, 3, 0, 0, 8, 0, 7]
    (gradient,) = torch.autograd.grad(back.sum(), pooled)
    assert gradient.flatten().tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_the_mean_of_large_copies_in_half_precision_is_no_infinity():
    pooled = torch.full((1, 4, 1), 30000.0, dtype=torch.float16)
    assert torch.equal(ops.unpool_avg(pooled, (1, 4, 1), 3, 1, "SAME", "mean"), pooled)


@pytest.mark.slow
@law
@given(calls(dilated=False), some.sampled_from(["sum", "overwrite", "mean"]))
def test_averages_are_copied_into_their_windows(call, duplicates):
    layout, axes, size, padding = call
    kernel, strides = [axis.kernel for axis in axes], [axis.stride for axis in axes]
    small = [axis.small(n) for axis, n in zip(axes, size, strict=True)]
    pooled = randn(2, *small, 3)
    shape = layout.shape(2, size, 3)
    result = ops.unpool_avg(layout.back(pooled.movedim(-1, 1)), shape, kernel, strides, padding, duplicates, layout.name)
    copies = {}
    for window, places in slow_windows(size, axes):
        for place in places:
            copies.setdefault(place, []).append(pooled[(slice(None), *window)])
    expected = pooled.new_zeros(2, *size, 3)
    for place, actual in copies.items():
        stack = torch.stack(actual)
        expected[(slice(None), *place)] = {"sum": stack.sum(0), "overwrite": stack[-1], "mean": stack.mean(0)}[duplicates]
    exactly(layout.channels_first(result).movedim(1, -1), expected)


@pytest.mark.slow
@law
@given(
    n=some.integers(1, 9),
    kernel=some.integers(1, 6),
    stride=some.integers(1, 5),
    dilation=some.integers(1, 3),
    pads=some.one_of(some.none(), some.tuples(some.integers(0, 4), some.integers(0, 4))),
)
def test_a_size_is_legal_where_the_convolution_leads_back(n, kernel, stride, dilation, pads):
    axis = Axis(kernel, stride, pads, dilation)
    assert (
        list(axis.legal(n)) == [large for large in range(1, 80) if axis.small(large) == n and (n > 0)] or axis.legal(n)[0] == 0
    )
    for large in axis.legal(n):
        assert axis.small(large) == n
        before, after = axis.pads(large)
        assert 0 <= axis.rest(large) < stride
        assert axis.rest(large) == (large + before + after - axis.extent) % stride


GRADIENTS = {
    "conv2d": lambda x, w: ops.conv2d(x, w, 2, "SAME"),
    "conv1d": lambda x, w: ops.conv1d(x[:, 0], w[0], 2, "SAME"),
    "transposed by torch": lambda x, w: ops.conv2d_transpose(x, w.transpose(2, 3), (1, 7, 10, 2), 2),
    "transposed by flipping": lambda x, w: ops.conv2d_transpose(x, w.transpose(2, 3), (1, 4, 5, 2), 1),
    "transposed by products": lambda x, w: ops.conv2d_transpose(x[:, :1, :1], w.transpose(2, 3), (1, 2, 2, 2), 2),
    "transposed by phases": lambda x, w: ops.conv2d_transpose(x, w[:2, :2].transpose(2, 3), (1, 8, 10, 2), 2),
    "depthwise": lambda x, w: ops.depthwise_conv2d(x, w, 2, "SAME"),
    "depthwise back": lambda x, w: ops.depthwise_conv2d_backprop_input((1, 7, 9, 3), w[..., :1], x, 2, "SAME"),
    "maxima": lambda x, w: ops.max_pool_with_argmax(x, 3, 2, "SAME")[0],
    "averages": lambda x, w: ops.avg_pool2d(x, 2, 1, "SAME"),
    "unpooled": lambda x, w: ops.unpool_max(x, ops.max_pool_with_argmax(randn(1, 8, 10, 3), 3, 2, "SAME")[1], (1, 8, 10, 3)),
    "unpooled, last": lambda x, w: ops.unpool_max(x, torch.arange(3, 6).expand(x.shape), (1, 8, 10, 3), False, "overwrite"),
    "copied": lambda x, w: ops.unpool_avg(x, (1, 8, 10, 3), 3, 2, "SAME", "mean"),
    "keras": lambda x, w: ops.keras_conv_transpose(x, w.transpose(2, 3), 2, "same"),
    "explained": lambda x, w: ops.explain_conv2d_transpose(x, w.transpose(2, 3), (1, 7, 10, 2), 2).output,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_first_and_second_order_are_right(name):
    sources = (randn(1, 4, 5, 3).requires_grad_(), randn(3, 3, 3, 2).requires_grad_())
    assert torch.autograd.gradcheck(GRADIENTS[name], sources)
    assert torch.autograd.gradgradcheck(GRADIENTS[name], sources)


@pytest.mark.parametrize("lost", [torch.inf, torch.nan])
@pytest.mark.parametrize(
    "shape, out, kernel, stride", [((2, 3), 5, 3, 1), ((9, 8), 3, 4, 2), ((2, 2), 2, 2, 1), ((3, 4), 7, 3, 2)]
)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_weight_that_is_not_finite_spoils_what_it_reaches_and_nothing_else(lost, shape, out, kernel, stride, padding):
    """Zeros that are padded or inserted are no samples: TensorFlow and torch multiply none of them."""
    x, filters = randn(2, *shape, 9), randn(kernel, kernel, out, 9)
    size = tuple(sizes[0] for sizes in ops.legal_output_sizes(shape, kernel, stride, padding))
    spoilt = filters.index_fill(0, torch.tensor(0), lost)
    reached = ops.conv2d_transpose(torch.ones_like(x), (spoilt != filters).double(), (2, *size, out), stride, padding) != 0
    whole = ops.conv2d_transpose(x, filters, (2, *size, out), stride, padding)
    result = ops.conv2d_transpose(x, spoilt, (2, *size, out), stride, padding)
    assert torch.equal(result.isfinite(), ~reached)
    exactly(result[~reached], whole[~reached])


def test_it_is_tensorflow_s_result_for_an_infinite_tap():
    row, taps = torch.tensor([1.0, 0, 2]).reshape(1, 1, 3, 1), torch.tensor([1, torch.inf, 3, 4]).reshape(1, 4, 1, 1)
    result = [ops.conv2d_transpose(row, taps, (1, 1, n, 1), (1, s), "VALID").flatten() for n, s in ((6, 1), (8, 2))]
    inf, nan = torch.inf, torch.nan  # TensorFlow 2.21; the NaN is 0 times infinity, where both are samples
    assert_close(result[0], torch.tensor([1, inf, nan, inf, 6, 8]), equal_nan=True)
    assert_close(result[1], torch.tensor([1, inf, 3, nan, 2, inf, 6, 8]), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel, stride", [(1, 1), (1, 3), (2, 2), (3, 3), (3, 2)])
def test_no_zero_is_below_zero(dtype, channels, kernel, stride):
    """The tutorial's own two results would print -0 where TensorFlow's print 0."""
    x = torch.full((1, 6, 6, channels), -2.0, dtype=dtype)
    zeros = torch.zeros(kernel, kernel, channels, channels, dtype=dtype)
    back = ops.conv2d_transpose(x, zeros, (1, 6 * stride, 6 * stride, channels), stride)
    for result in (back, ops.conv2d(x, zeros, stride, "SAME"), ops.depthwise_conv2d(x, zeros[..., :1], stride, "SAME")):
        assert not result.signbit().any()
