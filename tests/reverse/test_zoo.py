"""The laws on every family of networks: the gradient is autograd, the deconvnet the oracle, windows the whole walk."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import unconv
from cases import zoo
from cases.zoo import FAMILIES, Family
from oracles.reverse import one_unit, projections
from unconv.reverse.methods import METHODS
from unconv.reverse.places import find
from unconv.reverse.walking.walk import walk
from unconv.reverse.window import Window

pytestmark = pytest.mark.slow


@dataclass
class Met:
    """A family's network, and a recording of all its places."""

    family: Family
    model: nn.Module
    image: Tensor
    recording: unconv.Recording
    projected: dict[tuple[str, str], unconv.Reconstructions] = field(default_factory=dict)

    def strongest(self, place: str, method: str) -> unconv.Reconstructions:
        """The two strongest units of a place, run backwards once for all laws that ask for them."""
        if (place, method) not in self.projected:
            self.projected[place, method] = self.recording.project(place, "top:2", method=method)
        return self.projected[place, method]

    def right(self, method: str) -> dict[str, Tensor]:
        """What autograd sends back from the strongest unit of each place."""
        places = self.family.places
        asked = [(place, one_unit(self.strongest(place, method).units[0])) for place in places]
        return dict(zip(places, projections(self.model, self.image, asked, method), strict=True))


@pytest.fixture(scope="module", params=FAMILIES)  # one network at a time is in memory
def met(request):
    family = FAMILIES[request.param]
    if isinstance(family.build, str) and family.build.startswith("timm:"):
        pytest.importorskip("timm", reason='timm is an extra: pip install "unconv[timm]"')
    model, image = zoo.network(family), zoo.image(family)
    return Met(family, model, image, unconv.Network(model, input_size=family.size).record(image, family.places))


def assert_equal_elements(mine: Tensor, right: Tensor, tolerance: float) -> None:
    assert mine.shape == right.shape
    assert right.any()
    assert float((mine - right).abs().max()) <= tolerance * float(right.abs().max())


def test_the_gradient_is_autograd(met):
    for place, right in met.right("gradient").items():
        assert_equal_elements(met.strongest(place, "gradient").pixels()[0], right, met.family.tolerance)


@pytest.mark.parametrize("method", ["deconvnet", "guided", "desalinet"])
def test_a_method_is_autograd_with_that_backward(met, method):
    if not met.family.exact:
        pytest.skip("the oracle does not know which factor is the gate")
    for place, right in met.right(method).items():
        assert_equal_elements(met.strongest(place, method).pixels()[0], right, 1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_windows_are_the_whole_walk(met, method):
    rules = METHODS[method]
    tape = met.recording.frozen(rules).tape
    for place in met.family.places:
        found = met.strongest(place, method)
        _, value = find(met.recording.tape, place)
        seed = torch.zeros(len(found), *value.shape[1:], dtype=torch.float64)
        for row, unit, activation in zip(seed, found.units, found.values, strict=True):
            row[unit] = activation
        assert_equal_elements(found.pixels(), walk(tape, value, Window(seed), rules).values, 1e-10)
