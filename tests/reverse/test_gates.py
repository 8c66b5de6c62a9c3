"""Gates: of a product of two signals the right factor is frozen, or the product is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv
from cases.gates import FORMS, OPEN

FROZEN = unconv.Rules("gradient", freeze=True)


class Net(nn.Module):
    """Features out of a ReLU, and two signals, from one image; what `form` makes of them."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.first, self.second = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
        self.form = form

    def forward(self, x):
        return self.form(F.relu(self.features(x)), self.first(x), self.second(x))


def image():
    return 2 * torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def projected(module, rules=FROZEN):
    network = unconv.Network(module.double().eval(), input_size=(3, 8, 8))
    return network.project(image(), "output", "all", "strongest", method=rules)


def oracle(module, found):
    """The gradient of the same units of a network in which the gate is a constant by construction."""
    x = image()[None].requires_grad_(True)
    out = module.double()(x)
    scaled = [out[(0, *unit)] * float(out[(0, *unit)].detach()) for unit in found.units]
    return torch.cat([torch.autograd.grad(one, x, retain_graph=True)[0] for one in scaled])


@pytest.mark.parametrize("name", FORMS)
def test_the_right_factor_is_frozen(name):
    form = FORMS[name]
    found = projected(Net(lambda x, a, b: form(lambda gate: gate, x, a, b)))
    right = oracle(Net(lambda x, a, b: form(lambda gate: gate.detach(), x, a, b)), found)
    assert float((found.pixels() - right).abs().max()) <= 1e-12 * float(right.abs().max())


@pytest.mark.parametrize("name", OPEN)
def test_what_is_open_is_refused(name):
    with pytest.raises(unconv.NoRule, match=r"neither is a gate.*Rules\(gates="):
        projected(Net(OPEN[name]))


@pytest.mark.parametrize("name", OPEN)
def test_the_gradient_differentiates_what_is_open(name):
    module = Net(OPEN[name])
    found = projected(module, "gradient")
    right = oracle(module, found)
    assert float((found.pixels() - right).abs().max()) <= 1e-12 * float(right.abs().max())


class Told(nn.Module):
    def __init__(self, held):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.attention = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(2))
        self.held = held

    def forward(self, x):
        gate = torch.tanh(self.attention(x))
        return self.features(x).tanh() * (gate.detach() if self.held else gate)


def test_the_user_says_which_factor_is_the_gate():
    module = Told(False)
    with pytest.raises(unconv.NoRule, match="neither is a gate"):
        projected(module)
    names = [place.name for place in unconv.Network(module, input_size=(3, 8, 8)).places() if place.operation == "tanh"]
    rules = unconv.Rules("gradient", freeze=True, gates=names[:1])
    found = projected(module, unconv.Rules(rules))
    right = oracle(Told(True), found)
    assert float((found.pixels() - right).abs().max()) <= 1e-12 * float(right.abs().max())


def test_the_user_says_which_kind_of_operation_makes_gates():
    class Tanh(Told):
        def forward(self, x):
            gate = torch.tanh(self.attention(x))
            return F.gelu(self.features(x)) * (1 - (gate.detach() if self.held else gate))

    rules = unconv.Rules("gradient", freeze=True, gates=["tanh"])
    module = Tanh(False)
    found = projected(module, rules)
    right = oracle(Tanh(True), found)
    assert float((found.pixels() - right).abs().max()) <= 1e-12 * float(right.abs().max())


def test_a_gate_that_is_not_there_is_named():
    with pytest.raises(unconv.NoSuchLayer, match=r"gates: 'attenton' is not a place.*attention"):
        projected(Told(False), unconv.Rules("deconvnet", gates=["attenton"]))
