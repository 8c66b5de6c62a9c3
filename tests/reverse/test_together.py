"""All feature maps of a layer together, back to the pixels, and the maps of the forward pass beside them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unconv
from cases import networks as cases
from cases.networks import NETWORKS
from oracles.reverse import outputs, projection
from unconv.errors import NoSuchUnit, ShapeError

SIZE = (18, 26)
IMAGE = torch.rand(3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def module():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).double().eval()


def network():
    return unconv.Network(module(), input_size=(3, *SIZE))


REGION = torch.zeros(9, 13, dtype=torch.bool)
REGION[2:5, 6:13] = True


@pytest.mark.parametrize("unit", ["map", (2, 3), REGION], ids=["map", "position", "region"])
@pytest.mark.parametrize("place", ["1", "3", "4"])
def test_the_gradient_of_all_together_is_the_sum_of_each_channels(place, unit):
    if place == "1" and unit is REGION:
        unit = torch.zeros(SIZE, dtype=torch.bool)
        unit[3:9, 20:] = True
    found = network()
    together = found.project(IMAGE, place, "together", unit, "gradient")
    apart = found.project(IMAGE, place, "all", unit, "gradient").pixels().sum(0)
    assert len(together) == 1 and apart.any()
    assert torch.allclose(together.pixels()[0], apart, rtol=0, atol=1e-12 * float(apart.abs().max()))


def test_without_a_unit_the_whole_maps_go_back():
    found = network()
    assert torch.equal(found.project(IMAGE, "4", "together").pixels(), found.project(IMAGE, "4", "together", "map").pixels())


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("place", ["1", "4", "7"])
def test_all_together_agree_with_the_oracle(place, method):
    right = projection(module(), IMAGE[None], place, lambda activation: activation, method)
    (mine,) = network().project(IMAGE, place, "together", method=method).pixels()
    assert right.any()
    assert torch.allclose(mine, right, rtol=0, atol=1e-12 * float(right.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_layers_of_real_networks_agree_with_the_oracle(name):
    case, model = NETWORKS[name], cases.network(name).double()
    picture = cases.image(name).double()
    found = unconv.Network(model, input_size=(case.channels, *case.size)).record(picture, case.modules)
    for place in case.modules:
        right = projection(model, picture, place, lambda activation: activation, "deconvnet")
        (mine,) = found.project(place, "together").pixels()
        assert torch.allclose(mine, right, rtol=0, atol=1e-10 * float(right.abs().max()))


def test_twice_the_activations_give_twice_the_projection():
    twice = module()
    with torch.no_grad():
        twice[3].weight.mul_(2)
        twice[3].bias.mul_(2)
    one, two = (
        unconv.Network(each, input_size=(3, *SIZE)).project(IMAGE, "4", "together").pixels() for each in (module(), twice)
    )
    assert torch.allclose(two, 4 * one, rtol=1e-12)  # once for the seed, once for the weights on the way


def test_a_vector_and_an_empty_region_go_together_too():
    found = network()
    assert found.project(IMAGE, "7", "together").pixels().any()
    nothing = found.project(IMAGE, "4", "together", torch.zeros(9, 13, dtype=torch.bool))
    assert nothing.values.tolist() == [0.0] and not nothing.pixels().any()


def test_all_together_have_no_channel_and_the_largest_activation():
    found = network().project(IMAGE, "4", "together")
    activation = outputs(module(), IMAGE[None], ["4"])["4"][0].detach()
    assert found.units == [(None, None, None)]
    assert found.values.tolist() == [float(activation.max())]
    at = network().project(IMAGE, "4", "together", (2, 3))
    assert at.units == [(None, 2, 3)] and at.values.tolist() == [float(activation[:, 2, 3].max())]
    assert at.boxes.tolist() == network().project(IMAGE, "4", 0, (2, 3)).boxes.tolist()


def test_what_cannot_go_together_is_refused():
    with pytest.raises(NoSuchUnit, match=r"\(9, 0\) is outside the map"):
        network().project(IMAGE, "4", "together", (9, 0))
    with pytest.raises(ShapeError, match="trust: a map, a region or all channels together came"):
        network().trust(IMAGE, "4", "together", (2, 3))


@pytest.mark.parametrize("channels", ["all", [5, 0, 5], "top:2"])
def test_each_projection_has_the_feature_map_of_its_channel(channels):
    found = network().project(IMAGE, "4", channels)
    activation = outputs(module(), IMAGE[None], ["4"])["4"][0].detach()
    rows = [unit[0] for unit in found.units]
    assert torch.equal(found.activations, activation[rows])
    for one, (_, y, x) in zip(found, found.units, strict=True):
        assert one.feature_map[y, x].item() == one.value
    assert torch.equal(found[1:].activations, activation[rows[1:]])


def test_all_together_have_all_feature_maps():
    found = network().project(IMAGE, "4", "together")
    assert torch.equal(found.activations[0], outputs(module(), IMAGE[None], ["4"])["4"][0].detach())


def test_feature_maps_are_the_users_own_to_change():
    recording = network().record(IMAGE, ["4"])
    before = recording.activation("4").clone()
    for channels in ("together", "all"):
        for feature_map in recording.project("4", channels).feature_maps:
            feature_map.fill_(-1)
    assert torch.equal(recording.activation("4"), before)


def test_a_stream_gives_each_layer_together():
    found = {one.place.name: one for one in network().stream(IMAGE, None, "together")}
    assert list(found) == ["1", "4"]
    for place, one in found.items():
        right = network().project(IMAGE, place, "together")
        assert torch.equal(one.window, right.windows[0]) and one.feature_map.ndim == 3


def test_of_all_together_no_part_is_left_out_of_the_cost():
    recording = network().record(IMAGE, ["4"])
    one, all_ = (float(recording.units("4", channels, "map").operations[0]) for channels in (0, "together"))
    # 9 x 13 samples of 6 channels, back to 4 channels through 3 x 3 kernels; one channel alone takes a sixth there
    assert all_ - one == pytest.approx(2 * 9 * 13 * 4 * 9 * (6 - 1))
