"""captum and zennit, on networks of modules where they are right: they agree with us. docs/peers.md has where they are not."""

from __future__ import annotations

from copy import deepcopy

import pytest
from torch import Tensor, nn

import unconv
from cases.networks import NETWORKS, image, network
from oracles.reverse import one_unit, projection

pytestmark = pytest.mark.slow

captum = pytest.importorskip("captum.attr", reason="captum is absent: pip install captum zennit")
zennit = pytest.importorskip("zennit.composites", reason="zennit is absent: pip install captum zennit")

OF_MODULES = ["vgg", "alexnet", "resnet18", "densenet", "squeezenet10", "mnasnet", "shufflenet"]
HOOKED = {
    "deconvnet": (captum.NeuronDeconvolution, zennit.DeconvNet),
    "guided": (captum.NeuronGuidedBackprop, zennit.GuidedBackprop),
}


def by_captum(model: nn.Module, picture: Tensor, place: str, found: unconv.Reconstructions, method: str) -> Tensor:
    """captum's seed is 1 where ours is the activation, which is positive and so only a factor."""
    attribution = HOOKED[method][0](model, model.get_submodule(place))
    assert found.values[0] > 0
    return found.values[0] * attribution.attribute(picture.clone().requires_grad_(True), tuple(found.units[0]))[0]


def by_zennit(model: nn.Module, picture: Tensor, place: str, found: unconv.Reconstructions, method: str) -> Tensor:
    """zennit turns autograd itself into the method, while its hooks are there; the seed is the caller's."""
    with HOOKED[method][1]().context(model):
        return projection(model, picture, place, one_unit(found.units[0]))


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize("method", HOOKED)
@pytest.mark.parametrize("name", OF_MODULES)
def test_captum_and_zennit_agree_where_every_rectifier_is_a_module(name, method):
    case, picture = NETWORKS[name], image(name)
    recording = unconv.Network(network(name), input_size=(case.channels, *case.size)).record(picture, case.modules)
    theirs = deepcopy(network(name))
    for place in case.modules:
        found = recording.project(place, "top:1", method=method)
        mine = found.pixels()[0]
        assert mine.any()
        for peer in (by_captum, by_zennit):
            apart = (mine - peer(theirs, picture, place, found, method)).abs().max()
            assert float(apart) <= 1e-8 * float(mine.abs().max()), f"{peer.__name__} at {place}"
