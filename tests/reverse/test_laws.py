"""The laws that make a projection right, on every network of `cases.py`, in float64."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

import unconv
from cases import networks as cases
from cases.networks import NETWORKS
from oracles.reverse import one_unit, projection, projections
from unconv.reverse.methods import METHODS
from unconv.reverse.places import find
from unconv.reverse.walking.walk import walk
from unconv.reverse.window import Window

pytestmark = pytest.mark.slow

PLACES = [(name, module) for name, case in NETWORKS.items() for module in case.modules]


@functools.cache
def recorded(name: str) -> unconv.Recording:
    """The case's network, recorded once for all the laws."""
    return record(name)


def record(name: str) -> unconv.Recording:
    case = NETWORKS[name]
    network = unconv.Network(cases.network(name), input_size=(case.channels, *case.size))
    return network.record(cases.image(name), case.modules)


def assert_equal_elements(mine, right, tolerance):
    scale = right.abs().max().clamp(min=1e-300)
    assert mine.shape == right.shape
    assert float((mine - right).abs().max() / scale) < tolerance


@pytest.mark.parametrize("method, tolerance", [("gradient", 1e-10), ("deconvnet", 1e-8), ("guided", 1e-8)])
@pytest.mark.parametrize("name, module", PLACES)
def test_a_projection_equals_autograd_with_that_backward_rule(name, module, method, tolerance):
    found = recorded(name).project(module, "top:2", method=method)
    asked = [(module, one_unit(unit)) for unit in found.units]
    rights = projections(cases.network(name), cases.image(name), asked, method)
    for mine, right in zip(found.pixels(), rights, strict=True):
        assert_equal_elements(mine, right, tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_deep_in_a_network_the_deconvnet_is_not_the_gradient(name):
    module = NETWORKS[name].modules[2]
    recording = recorded(name)
    ours, gradient = (recording.project(module, "top:1", method=m).pixels() for m in ("deconvnet", "gradient"))
    assert float((ours - gradient).norm() / gradient.norm()) > 0.1


@pytest.mark.parametrize("name, module", PLACES)
def test_windows_equal_the_walk_over_whole_maps(name, module):
    recording = recorded(name)
    _, value = find(recording.tape, module)
    found = recording.project(module, "top:3")
    seed = torch.zeros(len(found), *value.shape[1:], dtype=torch.float64)
    for row, unit, activation in zip(seed, found.units, found.values, strict=True):
        row[unit] = activation
    whole = walk(recording.tape, value, Window(seed), METHODS["deconvnet"])
    assert_equal_elements(found.pixels(), whole.values, 1e-10)


@pytest.mark.parametrize("name, module", PLACES)
def test_no_seed_gives_nothing_and_a_double_seed_double(name, module):
    recording = recorded(name)
    _, value = find(recording.tape, module)
    seed = recording.project(module, "top:1")
    start = torch.zeros(1, *value.shape[1:], dtype=torch.float64)
    nothing = walk(recording.tape, value, Window(start), METHODS["deconvnet"])
    assert not nothing.values.any()
    start[(0, *seed.units[0])] = 2 * seed.values[0]
    double = walk(recording.tape, value, Window(start), METHODS["deconvnet"])
    assert_equal_elements(double.values, 2 * seed.pixels(), 1e-12)


@pytest.mark.parametrize("name, module", PLACES)
def test_nothing_arrives_outside_the_receptive_field(name, module):
    recording = recorded(name)
    found = recording.project(module, "top:2")
    right = projection(cases.network(name), cases.image(name), module, one_unit(found.units[0]))
    y0, x0, y1, x1 = found.boxes[0].tolist()
    outside = torch.ones(right.shape[1:], dtype=torch.bool)
    outside[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = False
    assert not right[:, outside].any()
    for length, field, n in zip((y1 - y0, x1 - x0), found.place.receptive_field, right.shape[1:], strict=True):
        assert length == field or (field > 2 * n and length <= n)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_is_as_it_was(name):
    model, module = cases.network(name), NETWORKS[name].modules[1]
    before = copy.deepcopy(model.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    record(name).project(module, "top:1")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["vgg", "resnet18", "squeezenet11"])
def test_a_whole_map_is_the_sum_of_its_units_for_the_gradient(name):
    module = NETWORKS[name].modules[1]
    recording = recorded(name)
    (whole,) = recording.project(module, 3, unit="map", method="gradient").pixels()
    right = projection(
        cases.network(name), cases.image(name), module, lambda a: a * (torch.arange(a.shape[1]) == 3)[:, None, None]
    )
    assert_equal_elements(whole, right, 1e-10)
    mask = torch.zeros(recording.activation(module).shape[1:], dtype=torch.bool)
    mask[: mask.shape[0] // 2] = True
    halves = (recording.project(module, 3, unit=half, method="gradient").pixels()[0] for half in (mask, ~mask))
    assert_equal_elements(sum(halves), whole, 1e-10)


@pytest.mark.parametrize("name", ["vgg", "googlenet"])
def test_half_precision_of_the_network_still_goes_back_in_float32(name):
    module = NETWORKS[name].modules[0]
    model = copy.deepcopy(cases.network(name)).bfloat16()
    network = unconv.Network(model, input_size=(3, *NETWORKS[name].size))
    found = network.project(cases.image(name), module, "top:1")
    assert found.windows[0].dtype == torch.float32
    assert network.project(cases.image(name), module, "top:1", dtype="float64").windows[0].dtype == torch.float64
