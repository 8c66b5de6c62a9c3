"""Every length is what torch makes of it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn import functional as F

from unconv.axis import adaptive_windows, kernel_extent, pool_divisor

few = some.integers(1, 4)
law = settings(deadline=None, derandomize=True)


@law
@given(kernel=few, dilation=few)
def test_a_kernel_reaches_from_its_first_tap_to_its_last(kernel, dilation):
    reach = F.conv_transpose1d(torch.ones(1, 1, 1), torch.ones(1, 1, kernel), dilation=dilation)
    assert reach.shape[-1] == kernel_extent(kernel, dilation)


@law
@given(n=some.integers(4, 12), kernel=some.integers(2, 4), stride=few, ceil=some.booleans(), counted=some.booleans())
def test_an_average_pool_divides_by_what_torch_divides_by(n, kernel, stride, ceil, counted):
    padding = kernel // 2
    ones = torch.ones(1, 1, n, dtype=torch.float64)
    averages = F.avg_pool1d(ones, kernel, stride, padding, ceil, counted).flatten()
    sums = [min(i * stride - padding + kernel, n) - max(i * stride - padding, 0) for i in range(len(averages))]
    divisors = pool_divisor(len(averages), n, kernel, stride, padding, counted)
    torch.testing.assert_close(averages, torch.tensor(sums) / torch.tensor(divisors, dtype=torch.float64))


@law
@given(n=some.integers(1, 12), out=some.integers(1, 12))
def test_adaptive_windows_are_even_only_where_the_lengths_divide(n, out):
    windows = adaptive_windows(n, out)
    samples = torch.rand(1, 1, n, dtype=torch.float64)
    if windows is None:
        assert n % out
    else:
        torch.testing.assert_close(F.avg_pool1d(samples, *windows), F.adaptive_avg_pool1d(samples, out))
