"""What an addition costs: one function, said in one place. CONTRIBUTING.md walks through each."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv
from cases.rules import Calls
from unconv.reverse import method_table
from unconv.reverse.method_table import Row
from unconv.reverse.rules import rule, table
from unconv.reverse.rules.norm import norm
from unconv.reverse.rules.pointwise import by_slope
from unconv.reverse.rules.shape import moved
from unconv.reverse.rules.table import point
from unconv.reverse.tape import Before, custom_operations

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def tables_as_they_were():
    tables = (
        *(table.RULES, table.REACHES, table.KEEPERS, table.ROLES, table.GATES, table.FREEZERS, table.TURNERS),
        *(custom_operations.IMPLEMENTATIONS, custom_operations.REPLACEMENTS, method_table.METHODS),
    )
    before = [dict(rows) for rows in tables]
    yield
    for rows, old in zip(tables, before, strict=True):
        rows.clear()
        rows.update(old)


def network(function, **layers):
    torch.manual_seed(0)
    return unconv.Network(Calls(function, **layers).double().eval(), input_size=(4, 6, 5))


def image():
    return torch.randn(4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def slope(function, found):
    """What autograd makes of the unit's own activation, as the seed is."""
    x = image().requires_grad_(True)
    unit = function(x[None])[(0, *found.units[0])]
    return torch.autograd.grad(unit, x)[0] * unit.detach()


def test_a_norm_is_one_function_its_scale():
    operation = custom_operations.define("rms_norm_of_channels(Tensor x, float eps) -> Tensor", lambda x, eps: rms(x, eps))

    def rms(x, eps):
        return x / (x.square().mean(1, keepdim=True) + eps).sqrt()

    @norm(operation, per_position=True)
    def rms_norm_of_channels(step, x):
        """One root mean square for each position."""
        return (x.square().mean(1, keepdim=True) + step.args[1]).rsqrt()

    net = network(lambda m, x: operation(m.conv(x), 1e-3).relu(), conv=nn.Conv2d(4, 3, 3, bias=False))
    found = net.project(image(), "relu", channels=1)
    assert found.notes == ("1 norm frozen at the scale it took from the picture",)
    assert found.place.receptive_field == (3, 3)
    gradient = net.project(image(), "relu", channels=1, method="gradient")
    assert torch.allclose(gradient.pixels()[0], slope(lambda x: rms(net.module.conv(x), 1e-3).relu(), gradient), atol=1e-12)
    # With the scale a constant the network is linear, so that the projection of a unit gives back its activation.
    projected = float((found.pixels() * image()).sum() / found.values)
    assert projected == pytest.approx(float(found.values), rel=1e-12)


def test_a_gate_is_one_word_with_the_rule_that_makes_it():
    rule(aten.sin.default, reach=table.local, keep=Before(point), role="slope", gate="made")(by_slope)
    net = network(lambda m, x: torch.sin(x.flip(2)) * x)
    found = net.project(image(), "mul", channels=2, unit=(4, 3))
    assert found.notes == ("1 gate frozen at its recorded value",)
    (pixels,) = found.pixels()
    assert pixels.nonzero().tolist() == [[2, 4, 3]]
    assert float(pixels[2, 4, 3] / found.values) == pytest.approx(float(image().flip(1)[2, 4, 3].sin()), rel=1e-12)


def test_the_old_name_of_custom_operations_works_and_warns():
    with pytest.warns(DeprecationWarning, match=r"tape\.whole is now called unconv\.reverse\.tape\.custom_operations"):
        from unconv.reverse.tape.whole import define
    assert define is custom_operations.define


def test_a_shape_operation_is_one_function():
    operation = custom_operations.define("every_second(Tensor x) -> Tensor", lambda x: x[..., ::2].clone())
    net = network(lambda m, x: operation(m.conv(x)).relu(), conv=nn.Conv2d(4, 3, 1))
    with pytest.raises(unconv.NoRule, match="every_second"):
        net.project(image(), "relu", 0)
    rule(operation, role="move")(moved)
    assert [place.name for place in net.places()] == ["conv", "relu"]
    gradient = net.project(image(), "relu", channels=0, unit=(2, 1), method="gradient")
    assert torch.allclose(gradient.pixels()[0], slope(lambda x: net.module.conv(x)[..., ::2].relu(), gradient), atol=1e-12)


def test_a_rectifier_is_known_to_every_method():
    operation = custom_operations.define("relu_to_the_fourth(Tensor x) -> Tensor", lambda x: F.relu(x).square().square())
    rule(operation, reach=table.local, keep=Before(point), role="rectifier")(by_slope)
    net = network(lambda m, x: operation(m.conv(x)), conv=nn.Conv2d(4, 3, 1))
    assert net.rectified(image()) == ["relu_to_the_fourth"]
    found = net.project(image(), "relu_to_the_fourth", 1)
    assert found.notes == ("1 relu_to_the_fourth rectified; the paper defines ReLU only",)
    with pytest.raises(unconv.NoRule, match="the paper defines the rectifier ReLU"):
        net.project(image(), "relu_to_the_fourth", 1, method=unconv.Rules("deconvnet", activations="error"))


def test_a_method_is_one_row():
    method_table.METHODS["passing"] = Row("rectifiers pass everything", {"relu": "pointwise:pass_on"}, freeze=False)
    net = network(lambda m, x: F.relu(m.conv(x)), conv=nn.Conv2d(4, 3, 1, bias=False))
    (pixels,) = net.project(image(), "relu", channels=2, unit=(3, 1), method="passing").pixels()
    (kernel,) = [weight[2, :, 0, 0].detach() for weight in net.module.parameters()]
    value = float(net.record(image(), ["relu"]).activation("relu")[2, 3, 1])
    assert torch.allclose(pixels[:, 3, 1], kernel * value)
    assert "passing" in method_table.method_help()
