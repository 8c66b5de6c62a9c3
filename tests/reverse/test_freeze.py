"""Frozen gates and statistics; several inputs and outputs; methods and their choices."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv
from cases.rules import Calls, bent, ramp
from oracles.reverse import Replaced
from unconv.reverse.methods import METHODS
from unconv.reverse.rewriting.channels_first import channels_first
from unconv.reverse.rewriting.freeze import freeze
from unconv.reverse.rules import KEEPERS, local
from unconv.reverse.tape.record import record
from unconv.reverse.tape.step import Tape


def recorded(function, *shape, **layers) -> Tape:
    torch.manual_seed(0)
    model = Calls(lambda m, x: function(m, x), **layers).double().eval().requires_grad_(False)
    image = torch.randn(1, *(shape or (4, 6, 5)), dtype=torch.float64)
    return channels_first(record(model, image, KEEPERS))


GATED = {
    "spread over positions": lambda m, x: x * x.mean((2, 3), keepdim=True),
    "spread over channels": lambda m, x: x.mean(1, keepdim=True).abs() * x,
    "out of a sigmoid": lambda m, x: torch.sigmoid(x.flip(1)) * x,
    "out of a sigmoid, enlarged": lambda m, x: x * F.interpolate(torch.sigmoid(F.avg_pool2d(x, 2))[:, :, :3], size=(6, 5)),
    "out of a softmax, split": lambda m, x: x[:, :2] * x.softmax(1).split(2, 1)[0],
    "sigmoid before tanh": lambda m, x: torch.tanh(x) * torch.sigmoid(x.flip(2)),
    "an activation": lambda m, x: F.gelu(x) * x.flip(3),
    "a mask": lambda m, x: x * (x > 0),
    "a divisor": lambda m, x: x / (x.abs() + 1).flip(1),
    "a gated linear unit": lambda m, x: F.glu(x, 1),
    "context by attention": lambda m, x: torch.matmul(x.flatten(2), x[:, :1].flatten(2).softmax(2).transpose(1, 2)),
}
SIGNALS = {  # what a gate lets through, with the gate a constant
    "spread over positions": lambda x: x * x.mean((2, 3), keepdim=True).detach(),
    "spread over channels": lambda x: x.mean(1, keepdim=True).abs().detach() * x,
    "out of a sigmoid": lambda x: torch.sigmoid(x.flip(1)).detach() * x,
    "out of a sigmoid, enlarged": lambda x: (
        x * F.interpolate(torch.sigmoid(F.avg_pool2d(x, 2))[:, :, :3], size=(6, 5)).detach()
    ),
    "out of a softmax, split": lambda x: x[:, :2] * x.softmax(1).split(2, 1)[0].detach(),
    "sigmoid before tanh": lambda x: torch.tanh(x) * torch.sigmoid(x.flip(2)).detach(),
    "an activation": lambda x: F.gelu(x).detach() * x.flip(3),
    "a mask": lambda x: x * (x > 0),
    "a divisor": lambda x: x / (x.abs() + 1).flip(1).detach(),
    "a gated linear unit": lambda x: x[:, :2] * torch.sigmoid(x[:, 2:]).detach(),
    "context by attention": lambda x: torch.matmul(x.flatten(2), x[:, :1].flatten(2).softmax(2).transpose(1, 2).detach()),
}


@pytest.mark.parametrize("name", GATED)
def test_a_gate_is_frozen_and_the_signal_passes(name):
    from unconv.reverse.walking.walk import walk
    from unconv.reverse.window import Window

    tape = recorded(GATED[name])
    frozen = freeze(tape)
    assert len(frozen.gates) == 1
    value = tape.modules[""]
    seed = torch.randn(1, *value.shape[1:], dtype=torch.float64)
    (mine,) = walk(frozen.tape, value, Window(seed), unconv.Rules("gradient", freeze=True)).full_map(tape.image.shape).values
    x = tape.image.clone().requires_grad_(True)
    (right,) = torch.autograd.grad(SIGNALS[name](x), x, seed)
    assert torch.allclose(mine, right[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "name, norm",
    {
        "layer norm": lambda x: F.layer_norm(x, x.shape[1:], ramp(*x.shape[1:])),
        "over channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), ramp(4)).permute(0, 3, 1, 2),
        "group norm": lambda x: F.group_norm(x, 2, ramp(4), ramp(4)),
        "instance norm": lambda x: F.instance_norm(x, weight=ramp(4), bias=ramp(4)),
        "local response norm": lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
    }.items(),
)
def test_a_norm_is_frozen_at_the_scale_it_had(name, norm):
    tape = recorded(lambda m, x: norm(x))
    frozen = freeze(tape, skip=False)
    assert len(frozen.norms) == 1
    (step,) = [step for step in frozen.tape.steps if step.operation is torch.ops.aten.mul.Tensor]
    x, seed = tape.image.clone().requires_grad_(True), torch.randn_like(tape.image)
    with Replaced("guided"):  # autograd with the statistics detached
        (right,) = torch.autograd.grad(norm(x), x, seed)
    assert float((seed * step.args[1] - right).abs().max()) < 1e-12


def test_local_response_norms_are_skipped_in_the_paper_s_methods_alone():
    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 6, 3), nn.LocalResponseNorm(3, 0.9, k=4.0)), input_size=(3, 9, 9))
    image = torch.rand(3, 9, 9)
    found = {name: network.project(image, "1", 2, unit=(3, 3), method=name) for name in METHODS}
    (kernel,) = [m.weight[2].detach() for m in network.module.modules() if isinstance(m, nn.Conv2d)]
    for name in ("deconvnet", "desalinet", "switch-centre"):
        assert torch.allclose(found[name].windows[0], kernel * found[name].values[0])
        assert found[name].notes == ("1 local response norm skipped, as in the paper",)
    assert float((found["guided"].windows[0] / (kernel * found["guided"].values[0])).mean()) < 0.5


def test_switches_to_the_centre():
    pool = nn.MaxPool2d(3, 2, 1)
    image = torch.rand(1, 1, 7, 7)
    network = unconv.Network(pool, input_size=(1, 7, 7))
    found = network.project(image, "output", method="switch-centre", unit=(1, 2))
    (pixels,) = found.pixels()
    assert pixels.nonzero().tolist() == [[0, 2, 4]]
    edge = network.project(image, "output", method="switch-centre", unit=(0, 0)).pixels()[0]
    assert edge.nonzero().tolist() == [[0, 0, 0]]
    even = unconv.Network(nn.MaxPool2d(2), input_size=(1, 4, 4)).project(
        image[..., :4, :4], "output", unit=(1, 1), method="switch-centre"
    )
    assert even.pixels()[0].nonzero().tolist() == [[0, 2, 2]]


@pytest.mark.parametrize("choice", ["rectify", "gradient", "pass"])
def test_what_happens_at_other_rectifiers_is_a_choice_and_said(choice):
    network = unconv.Network(bent(F.silu).build(), input_size=(2, 7, 6))
    image = torch.randn(2, 7, 6)
    found = network.project(image, "silu", 0, unit=(2, 2), method=unconv.Rules("deconvnet", choice))
    value = float(found.values[0])
    x = image[0, 2, 2].double()
    slope = float(torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))))
    right = {"rectify": max(value, 0.0), "gradient": value * slope, "pass": value}[choice]
    assert float(found.pixels()[0, 0, 2, 2]) == pytest.approx(right, rel=1e-5)
    done = {"rectify": "rectified", "gradient": "multiplied by the slope", "pass": "passed"}[choice]
    assert found.notes == (f"1 silu {done}; the paper defines ReLU only",)


def test_an_error_for_other_rectifiers_names_them():
    network = unconv.Network(bent(F.silu).build(), input_size=(2, 7, 6))
    with pytest.raises(unconv.NoRule, match=r"the paper defines the rectifier ReLU, and silu is a silu\. Pass activations="):
        network.project(torch.rand(2, 7, 6), "silu", method=unconv.Rules(activations="error"))
    assert network.project(torch.rand(2, 7, 6), "silu", method="gradient").notes == ()


@pytest.mark.parametrize("given", [{"method": "deconv"}, {"activations": "relu"}])
def test_methods_and_choices_that_there_are_not_are_refused(given):
    with pytest.raises(unconv.UnconvError, match=r"is not a (method|choice). Pass one of"):
        unconv.Rules(**given)


def test_a_method_of_another_kind_is_refused():
    with pytest.raises(
        unconv.DtypeError, match=r"method: 3 \(int\) came, but a name or Rules was needed\. Pass one of deconvnet"
    ):
        unconv.Rules(method=3)


def test_rules_start_from_rules():
    first = unconv.Rules("guided", activations="pass", freeze=False)
    first.rule(torch.ops.aten.relu.default)(lambda step, r: r)
    second = unconv.Rules(first, activations="gradient")
    assert (second.name, second.activations, second.freeze) == ("guided", "gradient", False)
    assert second[torch.ops.aten.relu.default] is first[torch.ops.aten.relu.default]
    assert repr(second) == "Rules('guided', activations='gradient', freeze=False, 1 rule of its own)"
    assert len(second) == len(list(second))


# -- several inputs and outputs ---------------------------------------------------------------------


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, picture, depth, scale=1.0):
        both = F.relu(self.left(picture) + self.right(depth)) * scale
        return {"map": both, "more": [both.mean((2, 3)), depth]}


def test_of_several_inputs_one_is_the_image_and_the_others_stay():
    torch.manual_seed(0)
    model = Pair().eval()
    picture, depth = torch.rand(3, 9, 8), torch.rand(1, 1, 9, 8)
    by_first = unconv.Network(model, input_size=(3, 9, 8), others={"depth": depth, "scale": 2.0})
    found = by_first.project(picture, "output.map", "top:1", method="gradient")
    x = picture[None].clone().requires_grad_(True)
    (right,) = torch.autograd.grad(model(x, depth, 2.0)["map"][(0, *found.units[0])], x)
    assert torch.allclose(found.pixels()[0], right[0] * found.values[0], atol=1e-6)
    by_name = unconv.Network(model, input_size=(1, 9, 8), argument="depth", others={"picture": picture[None]})
    assert by_name.project(depth[0], "output.map", "top:1").windows[0].shape[0] == 1
    assert by_first.check().reversible


def test_of_several_outputs_each_has_a_name():
    network = unconv.Network(Pair().eval(), input_size=(3, 9, 8), others={"depth": torch.rand(1, 1, 9, 8)})
    assert len(network.project(torch.rand(3, 9, 8), "output.more.0")) == 4
    with pytest.raises(unconv.NoSuchLayer, match=r"output\.more\.0"):
        network.project(torch.rand(3, 9, 8), "output.more.1")  # the image did not reach it


# -- channels last ----------------------------------------------------------------------------------


def test_places_with_their_channels_last_are_listed_with_their_channels_first():
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.linear(F.gelu(m.norm(m.conv(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2),
        conv=nn.Conv2d(3, 6, 3, 2),
        norm=nn.LayerNorm(6),
        linear=nn.Linear(6, 5),
    ).eval()
    network = unconv.Network(model, input_size=(3, 21, 17))
    found = {place.name: place for place in network.places()}
    assert {name: (p.channels, p.size) for name, p in found.items()} == {
        "conv": (6, (10, 8)),
        "norm": (6, (10, 8)),
        "gelu": (6, (10, 8)),
        "linear": (5, (10, 8)),
    }
    assert all(place.receptive_field == (3, 3) and place.stride == (2, 2) for place in found.values())
    image = torch.rand(3, 21, 17)
    recording = network.record(image, ["linear"])
    assert recording.activation("linear").shape == (5, 10, 8)
    assert network.project(image, "linear", "top:1").windows[0].shape == (3, 3, 3)
    assert network.check().reversible


# -- half precision, complex numbers, rules of one's own ---------------------------------------------


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 6), nn.InstanceNorm2d(6)], ids=["group", "instance"])
def test_a_norm_in_half_precision_is_frozen_at_its_scale_though_its_squares_overflow(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU()).eval()
    model[0].weight.data *= 1000
    image = torch.randn(3, 9, 11)
    right = unconv.Network(model, input_size=(3, 9, 11)).project(image, "2", unit=(4, 4)).pixels()
    found = unconv.Network(copy.deepcopy(model).half(), input_size=(3, 9, 11)).project(image, "2", unit=(4, 4)).pixels()
    assert float((found - right).abs().max()) < 0.02 * float(right.abs().max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_local_response_norms_go_back_in_half_precision(dtype):
    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 6, 3), nn.LocalResponseNorm(3, 0.5)), input_size=(3, 9, 9))
    found = network.project(torch.rand(3, 9, 9), "1", "top:2", method="gradient", dtype=dtype)
    assert 0 < found.error < 0.05


def test_complex_numbers_go_back_where_a_rule_is_known_and_are_refused_elsewhere():
    model = Calls(lambda m, x: torch.fft.rfft2(m.conv(x)).abs(), conv=nn.Conv2d(3, 4, 3)).eval()
    network, image = unconv.Network(model, input_size=(3, 9, 11)), torch.rand(3, 9, 11)
    found = network.project(image, "output", "top:3", method="gradient")
    x = image[None].clone().requires_grad_(True)
    (right,) = torch.autograd.grad(model(x)[(0, *found.units[0])] * found.values[0], x)
    torch.testing.assert_close(found.pixels()[:1], right, rtol=1e-4, atol=1e-5)
    model = Calls(lambda m, x: torch.fft.rfft2(m.conv(x)).log().real, conv=nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(unconv.NoRule, match=r"on complex numbers \(at log\)"):
        unconv.Network(model, input_size=(3, 9, 11)).project(image, "output", method="gradient")


def test_a_norm_with_weights_of_the_picture_is_the_gradient_s_alone():
    model = Calls(lambda m, x: F.instance_norm(m.conv(x), weight=x.mean((0, 2, 3))), conv=nn.Conv2d(3, 3, 3)).eval()
    network, image = unconv.Network(model, input_size=(3, 9, 11)), torch.rand(3, 9, 11)
    found = network.project(image, "output", 1, unit=(3, 3), method="gradient")
    x = image[None].clone().requires_grad_(True)
    (right,) = torch.autograd.grad(model(x)[0, 1, 3, 3], x)
    assert torch.allclose(found.pixels(), right * found.values, atol=1e-5)
    with pytest.raises(unconv.NoRule, match="a norm whose weights depend on the picture"):
        network.project(image, "output")


def test_a_rule_of_one_s_own_is_taken_where_ours_would_be_frozen():
    rules, calls = unconv.Rules("deconvnet"), []

    @rules.rule(torch.ops.aten.native_group_norm.default, keep=lambda args, results: results[2])
    def nothing(step, r, *_):
        calls.append(step.kept.shape)
        return r.map(lambda values: values * 0)

    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU()), input_size=(3, 9, 11))
    found = network.project(torch.rand(3, 9, 11), "2", "top:2", method=rules)
    assert calls and calls[0] == (1, 2) and not found.pixels().any()


def test_what_one_s_own_rule_keeps_leaves_other_methods_alone_and_is_asked_for_where_it_is_missing():
    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), input_size=(3, 9, 11))
    rules, image = unconv.Rules(), torch.rand(3, 9, 11)

    @rules.rule(torch.ops.aten.relu.default, keep=lambda args, results: results[0] * 2)
    def doubled(step, r):
        return r.times(step.kept)

    recording = network.record(image, ["2"], rules)
    usual = network.project(image, "2", method="gradient").pixels()
    assert torch.equal(recording.project("2", method="gradient").pixels(), usual)
    assert not torch.equal(recording.project("2", method=rules).pixels(), usual)
    with pytest.raises(unconv.UnconvError, match=r"which this recording did not keep\. Pass the same Rules to record"):
        network.record(image, ["2"]).project("2", method=rules)


def test_rectifiers_written_as_choices_are_said_to_be_taken_by_their_slope():
    model = Calls(lambda m, x: torch.where(m.conv(x) > 0, m.conv(x), 0.1 * m.conv(x)), conv=nn.Conv2d(3, 3, 3)).eval()
    found = unconv.Network(model, input_size=(3, 9, 9)).project(torch.rand(3, 9, 9), "output")
    assert found.notes == ("1 where multiplied by the slope",)


def test_outputs_of_a_named_tuple_have_its_names():
    from collections import namedtuple

    Two = namedtuple("Two", "left right")
    tape = recorded(lambda m, x: Two(x * 2, x * 3))
    assert {"output.left", "output.right"} <= set(tape.modules)


def test_an_operation_in_place_is_recorded_as_the_one_of_the_same_arguments():
    tape = recorded(lambda m, x: (x * 2).pow_(2))
    assert [str(step.operation) for step in tape.steps] == ["aten.mul.Tensor", "aten.pow.Tensor_Scalar"]


def test_what_one_s_own_rule_keeps_of_a_value_with_its_channels_last_is_told_channels_first():
    model = Calls(lambda m, x: (m.conv(x).permute(0, 2, 3, 1) * 2).relu(), conv=nn.Conv2d(3, 4, 3)).eval()
    network, kept = unconv.Network(model, input_size=(3, 9, 7)), []
    rules = unconv.Rules()

    @rules.rule(torch.ops.aten.relu.default, reach=local, keep=lambda args, results: results[0] > 0)
    def gradient(step, r):
        kept.append(step.kept.shape)
        return r.times(step.kept)

    found, usual = (network.project(torch.ones(3, 9, 7), "output", method=m).pixels() for m in (rules, "gradient"))
    assert kept[0] == (1, 4, 7, 5) and torch.equal(found, usual)


def test_an_unknown_method_is_answered_with_every_method_there_is():
    with pytest.raises(unconv.UnconvError, match="'deconv' is not a method. Pass one of " + ", ".join(METHODS)):
        unconv.Rules("deconv")


def test_the_former_names_of_freezing_still_work_and_warn():
    with pytest.warns(DeprecationWarning, match="Rules: hold is now called freeze"):
        rules = unconv.Rules("guided", hold=False)
    assert rules.freeze is False
    with pytest.warns(DeprecationWarning, match="Rules: hold is now called freeze"):
        assert rules.hold is False
    network = unconv.Network(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.ReLU()).eval(), input_size=(1, 9, 9))
    coverage = network.check()
    with pytest.warns(DeprecationWarning, match="Coverage: held is now called frozen"):
        assert coverage.held == coverage.frozen != {}
    assert coverage.numbers()["held"] == coverage.numbers()["frozen"]
