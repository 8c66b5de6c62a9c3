"""A norm that is written out is frozen as the norm it is: scale and mean."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv


def of_channels(x, weight, bias):
    """As ConvNeXt's own code has it."""
    u = x.mean(1, keepdim=True)
    s = (x - u).pow(2).mean(1, keepdim=True)
    x = (x - u) / torch.sqrt(s + 1e-6)
    return weight[:, None, None] * x + bias[:, None, None]


def by_rsqrt(x, weight, bias):
    mean = x.mean(1, keepdim=True)
    variance = x.var(1, keepdim=True, unbiased=False)
    return (x - mean) * torch.rsqrt(variance + 1e-6) * weight[:, None, None] + bias[:, None, None]


def by_pair(x, weight, bias):
    variance, mean = torch.var_mean(x, 1, keepdim=True, correction=0)
    return weight[:, None, None] * (x - mean) / (variance + 1e-6).sqrt() + bias[:, None, None]


def by_squares(x, weight, bias):
    mean = x.mean(1, keepdim=True)
    variance = (x * x).mean(1, keepdim=True) - mean**2
    return weight[:, None, None] * ((x - mean) * (variance + 1e-6) ** -0.5) + bias[:, None, None]


def named_of_channels(x, weight, bias):
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2)


def of_maps(x, weight, bias):
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def named_of_maps(x, weight, bias):
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, 1e-5)


def of_groups(x, weight, bias):
    grouped = x.reshape(1, 2, -1)
    mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, keepdim=True, unbiased=False)
    normed = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    return normed * weight[:, None, None] + bias[:, None, None]


def named_of_groups(x, weight, bias):
    return F.group_norm(x, 2, weight, bias, 1e-5)


def of_all(x, weight, bias):
    normed = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    return normed * weight[:, None, None] + bias[:, None, None]


def named_of_all(x, weight, bias):
    return F.group_norm(x, 1, weight, bias, 1e-5)


WAYS = {
    "channels, ConvNeXt": (of_channels, named_of_channels),
    "channels, rsqrt": (by_rsqrt, named_of_channels),
    "channels, var_mean": (by_pair, named_of_channels),
    "channels, squares": (by_squares, named_of_channels),
    "maps": (of_maps, named_of_maps),
    "groups": (of_groups, named_of_groups),
    "all": (of_all, named_of_all),
}


class Net(nn.Module):
    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.weight, self.bias = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.randn(6))
        self.norm = norm

    def forward(self, x):
        return self.second(F.relu(self.norm(self.first(x), self.weight, self.bias)))


def opened(norm):
    return unconv.Network(Net(norm).double().eval(), input_size=(3, 10, 9))


def projected(norm, method):
    network = opened(norm)
    image = torch.randn(3, 10, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return network.project(image, "second", method=method).pixels()


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient", unconv.Rules("guided", freeze=False)], ids=repr)
@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_that_of_the_named_norm(way, method):
    mine, right = (projected(norm, method) for norm in WAYS[way])
    assert float((mine - right).abs().max()) < 1e-7 * float(right.abs().max())


@pytest.mark.parametrize("way", WAYS)
def test_check_lists_it_as_a_norm_and_every_law_holds(way):
    found = opened(WAYS[way][0]).check()
    assert found.reversible
    ((heading, places),) = found.frozen.items()
    assert heading.startswith("norms") and len(places) == 1


OTHER = {
    "root mean square": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
    "gate of the mean": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "less the mean, gated": lambda x: (x - x.mean(1, keepdim=True)) * torch.sigmoid(x.mean(1, keepdim=True)),
    "less the mean, by the mean": lambda x: (x - x.mean(1, keepdim=True)) / (1 + x.mean(1, keepdim=True) ** 2),
    "deviation alone": lambda x: x / (x.std(1, keepdim=True) + 1e-6),
    "less the mean, times the deviation": lambda x: (x - x.mean(1, keepdim=True)) * x.std(1, keepdim=True),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_quotient_is_no_norm(name):
    network = opened(lambda x, weight, bias: OTHER[name](x))
    steps = network.record(network.noise().double()).tape.steps
    assert not any(step.written for step in steps)
