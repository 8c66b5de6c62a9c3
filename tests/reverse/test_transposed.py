"""The ways a convolution is reversed, against torch's own transposed convolution in float64."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unconv.ops.kernels.gemm_col2im import gemm_col2im_by_rows
from unconv.ops.kernels.sub_pixel import sub_pixel
from unconv.ops.kernels.winograd import winograd
from unconv.reverse import transposed as choice
from unconv.reverse.transposed import Filters, from_one_channel, transposed
from unconv.reverse.window import cropped

law = settings(deadline=None, max_examples=60, derandomize=True)
PLAIN = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d


def randn(*shape: int, dtype=torch.float64, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def right(values, filters, cut):
    """torch's answer, grown by zeros or cropped."""
    setting = (None, filters.stride, 0, 0, filters.groups, filters.dilation)
    whole = PLAIN[values.ndim - 3](values.double(), filters.weight.double(), *setting)
    grown = F.pad(whole, [edge for _, after in reversed(cut) for edge in (0, max(-after, 0))])
    return cropped(grown, [(before, max(after, 0)) for before, after in cut])


def assert_close(mine, wanted, tolerance):
    assert mine.shape == wanted.shape
    assert float((mine - wanted).abs().max()) <= tolerance * float(wanted.abs().max().clamp(min=1e-30))


def asked(values, filters, cut):
    """(first, size): what the kernels are asked for, in place of what is cut."""
    axes = zip(values.shape[2:], filters.extent, filters.stride, cut, strict=True)
    sizes = [(n - 1) * stride + extent - before - after for n, extent, stride, (before, after) in axes]
    return [before for before, _ in cut], sizes


@st.composite
def cases(draw):
    axes = draw(st.integers(1, 3))
    lengths, kernel, strides, dilations = (
        draw(st.lists(st.integers(1, high), min_size=axes, max_size=axes)) for high in (6, 4, 3, 2)
    )
    groups = draw(st.sampled_from([1, 1, 2]))
    values = randn(draw(st.integers(1, 3)), 2 * groups, *lengths, seed=draw(st.integers(0, 9)))
    filters = Filters(randn(2 * groups, draw(st.integers(1, 3)), *kernel, seed=5), torch.float64, strides, dilations, groups)
    cut = []
    for n, stride, extent in zip(lengths, strides, filters.extent, strict=True):
        full = (n - 1) * stride + extent
        before = draw(st.integers(0, full - 1))
        cut.append((before, draw(st.integers(1 - stride if before == 0 else 0, full - 1 - before))))
    return values, filters, cut


@pytest.mark.slow
@law
@given(cases())
def test_it_is_the_transposed_convolution_without_what_is_cut(case):
    assert_close(transposed(*case), right(*case), 1e-12)


@law
@given(cases(), st.integers(0, 9))
def test_from_one_channel_is_the_same_as_from_all_with_the_others_zero(case, seed):
    values, filters, cut = case
    single = values[:, :1]
    channel = torch.randint(0, values.shape[1], (len(values),), generator=torch.Generator().manual_seed(seed))
    made = from_one_channel(single, channel, filters, cut)
    if made is None:
        assert filters.groups > 1 or set(filters.dilation) != {1} or set(filters.stride) != {1}
        return
    full = torch.zeros_like(values)
    for row, one, number in zip(full, single, channel.tolist(), strict=True):
        row[number] = one[0]
    assert_close(made, right(full, filters, cut), 1e-12)


CUTS = [[(0, 0), (0, 0)], [(1, 1), (1, 1)], [(1, 0), (0, 2)], [(3, 2), (0, 5)], [(0, -1), (2, -2)]]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize(
    "size", [(1, 5, 5, 4, 4), (3, 4, 6, 9, 14), (2, 3, 2, 30, 7), (1, 2, 3, 4, 1100), (70, 1, 1, 6, 6)], ids=str
)
def test_winograd_is_exact_whatever_the_size(size, cut):
    units, above, below, height, width = size
    values = randn(units, above, height, width)
    filters = Filters(randn(above, below, 3, 3, seed=1), torch.float64, (1, 1), (1, 1), 1)
    assert_close(winograd(values, filters.winograd, *asked(values, filters, cut)), right(values, filters, cut), 1e-12)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (2, 5)], ids=str)
def test_gemm_and_col2im_by_rows_are_exact(kernel, cut):
    values = randn(3, 4, 9, 12)
    filters = Filters(randn(4, 3, *kernel, seed=1), torch.float64, (1, 1), (1, 1), 1)
    if all(n + k - 1 - before - after > 0 for n, k, (before, after) in zip((9, 12), kernel, cut, strict=True)):
        assert_close(
            gemm_col2im_by_rows(values, filters.taps, kernel, *asked(values, filters, cut)), right(values, filters, cut), 1e-12
        )


@pytest.mark.parametrize("cut", [*CUTS[:3], [(3, 3), (2, 3)], [(3, -1), (0, -1)]], ids=str)
@pytest.mark.parametrize("kernel, stride", [((7, 7), (2, 2)), ((4, 3), (2, 1)), ((3, 5), (3, 2)), ((1, 2), (2, 3))], ids=str)
def test_sub_pixel_convolution_is_exact(kernel, stride, cut):
    values = randn(2, 4, 6, 7)
    filters = Filters(randn(4, 3, *kernel, seed=1), torch.float64, stride, (1, 1), 1)
    full = [(n - 1) * s + k for n, s, k in zip((6, 7), stride, kernel, strict=True)]
    if all(n - before - after > 0 for n, (before, after) in zip(full, cut, strict=True)):
        assert_close(
            sub_pixel(values, filters.sub_pixel, stride, *asked(values, filters, cut)), right(values, filters, cut), 1e-12
        )


def test_winograd_loses_no_more_digits_than_the_convolution_itself():
    """With the usual points, 2 and -2 for 1/2 and -2, the error is three times as large."""
    values = randn(1, 512, 28, 28, dtype=torch.float32).clamp(min=0).contiguous(memory_format=torch.channels_last)
    filters = Filters(randn(512, 64, 3, 3, seed=1), torch.float32, (1, 1), (1, 1), 1)
    cut = [(1, 1), (1, 1)]
    wanted = right(values, filters, cut)
    assert_close(winograd(values, filters.winograd, *asked(values, filters, cut)), wanted, 5e-6)


@pytest.mark.slow
def test_each_way_is_taken_where_it_pays(monkeypatch):
    taken = []
    for name in ("winograd", "gemm_col2im_by_rows"):
        way = getattr(choice, name)
        monkeypatch.setattr(choice, name, lambda *a, name=name, way=way: taken.append(name) or way(*a))
    none = [(1, 1), (1, 1)]
    for above, below, width, dtype in product((64, 512), (3, 512), (4, 70), (torch.float32, torch.bfloat16)):
        values = torch.ones(1, above, 4, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
        filters = Filters(torch.ones(above, below, 3, 3), dtype, (1, 1), (1, 1), 1)
        taken.clear()
        transposed(values, filters, none)
        tiled = above == 512 and below == 512 and width == 70 and dtype == torch.float32
        assert taken == (["gemm_col2im_by_rows"] if below == 3 and width == 70 else ["winograd"] if tiled else [])
