"""A name means what the module of that name returned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import unconv


class Named(nn.Module):
    """A network with a child of the name that an operation would get."""

    def __init__(self, name, child, forward):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.add_module(name, child)
        self.steps = forward

    def forward(self, x):
        return self.steps(self, self.conv(x))


class Second(nn.Module):
    def forward(self, x):
        return x.chunk(2, 1)[1]


def named(name, child, forward):
    torch.manual_seed(0)
    return Named(name, child, forward).eval()


def returned(model, image, name):
    found = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, a, out: found.append(out.detach().clone()))
    model(image)
    handle.remove()
    return found[-1][0]


def assert_the_name_is_the_module_s(model, name):
    image = torch.randn(1, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    kept = unconv.Network(model, input_size=(1, 6, 5)).record(image, [name]).activation(name)
    assert torch.equal(kept, returned(model, image, name))


def test_a_function_before_does_not_take_a_module_s_name():
    model = named("relu", nn.ReLU(), lambda m, y: m.relu(F.relu(y) * 2 - 0.1))
    assert_the_name_is_the_module_s(model, "relu")
    assert [p.name for p in unconv.Network(model, input_size=(1, 6, 5)).places()] == ["conv", "relu_1", "mul", "sub", "relu"]


def test_a_sum_before_does_not_take_a_module_s_name():
    assert_the_name_is_the_module_s(named("add", nn.Conv2d(4, 2, 1), lambda m, y: m.add(y + 1)), "add")


def test_a_module_that_returns_the_second_part_of_a_split_is_that_part():
    assert_the_name_is_the_module_s(named("split", Second(), lambda m, y: m.split(y)), "split")


def test_a_place_may_be_given_as_listed():
    network = unconv.Network(named("relu", nn.ReLU(), lambda m, y: m.relu(y)), input_size=(1, 6, 5))
    place = network.places()[0]
    image = torch.rand(1, 6, 5)
    assert torch.equal(network.project(image, place).values, network.project(image, place.name).values)
