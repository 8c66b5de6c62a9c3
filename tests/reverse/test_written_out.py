"""The same network gives the same picture, however its activations are written: told by what they compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv
from cases.written_out import NONE, UNNAMED, WAYS, Slopes

FORMS = {f"{name}: {way}": (named, form) for name, (named, ways) in WAYS.items() for way, form in ways.items()}


class Net(nn.Module):
    def __init__(self, activation, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3, stride=2)
        self.third = nn.Conv2d(channels, 5, 3)
        self.activation = activation

    def forward(self, x):
        return self.third(self.activation(self.second(self.activation(self.first(x)))))


def opened(activation):
    return unconv.Network(Net(activation).eval(), input_size=(3, 20, 18))


def projected(activation, method, place="third"):
    network = opened(activation)
    image = 3 * torch.randn(3, 20, 18, generator=torch.Generator().manual_seed(1))
    return network.project(image, place, method=method).pixels()


def apart(mine, right):
    return float((mine - right).abs().max() / right.abs().max())


@pytest.mark.parametrize(
    "method", ["deconvnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("guided", "desalinet", "gradient"))]
)
@pytest.mark.parametrize("form", FORMS)
def test_a_picture_is_that_of_the_named_activation(form, method):
    named, written = FORMS[form]
    if (form, method) == ("relu: step", "gradient"):
        pytest.skip("torch has no derivative of heaviside")
    assert apart(projected(written, method), projected(named, method)) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["pass", "gradient"])
@pytest.mark.parametrize("form", FORMS)
def test_so_it_is_with_every_choice_of_what_happens_at_other_rectifiers(form, choice):
    named, written = FORMS[form]
    rules = unconv.Rules("deconvnet", activations=choice)
    assert apart(projected(written, rules), projected(named, rules)) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_check_counts_it_and_every_law_holds(form):
    named, written = FORMS[form]
    found, right = opened(written).check(), opened(named).check()
    assert found.reversible and found.unnamed == ()
    if form != "relu: step":  # torch has no derivative of heaviside
        assert opened(written).check(method="gradient").reversible
    assert sum(found.rectifiers.values()) == sum(right.rectifiers.values()) == 2
    assert found.written == {} or set(found.written) == set(found.rectifiers)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_places_are_those_of_the_named_activation(form):
    named, written = FORMS[form]
    fields = [
        [(place.operation, place.size, place.receptive_field) for place in opened(each).places() if place.rectified]
        for each in (written, named)
    ]
    assert [row[1:] for row in fields[0]] == [row[1:] for row in fields[1]]


@pytest.mark.parametrize("name", NONE)
def test_another_function_is_left_alone(name):
    network = opened(NONE[name])
    recording = network.record(network.noise())
    assert not any(step.written or step.within for step in recording.tape.steps)
    assert recording.tape.unnamed == ()


@pytest.mark.parametrize("name", UNNAMED)
def test_what_looks_like_a_rectifier_is_warned_of(name):
    network = opened(UNNAMED[name])
    found = network.check()
    assert len(found.unnamed) == 2 and "none that unconv knows" in found.verdict
    assert found.numbers()["unnamed"] == list(found.unnamed) or found.numbers()["unnamed"] == found.unnamed


def test_a_formula_s_parts_can_still_be_asked_for():
    network = opened(FORMS["silu: sigmoid"][1])
    listed = [place.name for place in network.places()]
    assert "sigmoid" not in listed
    found = network.project(network.noise(), "sigmoid", "top:2", method="gradient")
    assert len(found) == 2 and float(found.pixels().abs().max()) > 0


def test_all_rectified_maps_are_kept_without_their_names():
    network = opened(FORMS["hardswish: relu6"][1])
    recording = network.record(network.noise(), None)
    assert len(recording.rectified()) == 2
    for place in recording.rectified():
        assert len(recording.project(place, "top:1")) == 1


def test_a_gate_made_from_the_whole_map_is_no_activation():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.conv(x)
            return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True))), x * torch.sigmoid(self.fc(x))

    network = unconv.Network(Gated().eval(), input_size=(3, 12, 12))
    recording = network.record(network.noise())
    assert not any(step.written for step in recording.tape.steps) and not recording.tape.unnamed
    assert len(recording.frozen().gates) == 2


def test_the_gradient_is_that_of_the_formula_where_a_slope_jumps():
    class Kinks(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.activation, self.weight = activation, nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.activation(F.relu(x * self.weight))

    image = torch.tensor([[[-1.0, 2.0], [0.0, 3.0]]])
    for form in ("relu: times what is positive", "relu: sign", "leaky_relu: maximum", "relu: absolute value"):
        module = Kinks(FORMS[form][1]).eval()
        asked = image[None].clone().requires_grad_(True)
        (right,) = torch.autograd.grad(module(asked)[0, 0, 1, 1], asked)
        network = unconv.Network(module, input_size=(1, 2, 2))
        found = network.project(image, network.places()[-1].name, 0, (1, 1), method="gradient")
        assert torch.equal(found.pixels()[0] / 3, right[0]), form


def test_a_rule_of_the_user_s_own_for_a_part_is_followed():
    seen = []
    rules = unconv.Rules("deconvnet")

    @rules.rule(torch.ops.aten.sigmoid.default)
    def nothing(step, r):
        seen.append(step.place)
        return r.map(lambda values: values * 0)

    projected(lambda x: torch.sigmoid(x) + 0.1 * (x * torch.sigmoid(x)), rules)
    assert seen


def test_channels_last_and_vectors_are_recognised():
    class Last(nn.Module):
        def __init__(self, activation):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.line, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 3)
            self.activation = activation

        def forward(self, x):
            x = self.activation(self.line(self.conv(x).permute(0, 2, 3, 1)))
            return self.head(self.activation(x.mean((1, 2))))

    def pixels(activation):
        network = unconv.Network(Last(activation).eval(), input_size=(3, 12, 12))
        return network.project(network.noise(), "head").pixels()

    for form in ("silu: sigmoid", "gelu: erf", "hardswish: relu6"):
        named, written = FORMS[form]
        assert apart(pixels(written), pixels(named)) < 2e-5


def test_slopes_of_channels_keep_their_channels():
    found = opened(Slopes(False))
    steps = [step for step in found.record(found.noise()).tape.steps if step.written]
    assert len(steps) == 2 and torch.equal(steps[0].args[1].flatten().float(), Slopes(True).weight.detach())


def test_a_file_of_onnx_in_which_it_is_written_out_gives_the_same_picture(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    twin = Net(F.silu).eval()
    nodes, tensors, at = [], [], "image"
    for name, layer in (("first", twin.first), ("second", twin.second), ("third", twin.third)):
        tensors += [
            numpy_helper.from_array(tensor.detach().numpy(), f"{name}.{kind}") for kind, tensor in layer.named_parameters()
        ]
        sizes = {"kernel_shape": [3, 3], "strides": list(layer.stride)}
        nodes.append(helper.make_node("Conv", [at, f"{name}.weight", f"{name}.bias"], [name], name=name, **sizes))
        if name != "third":
            nodes.append(helper.make_node("Sigmoid", [name], [f"{name}/s"], name=f"{name}/s"))
            nodes.append(helper.make_node("Mul", [name, f"{name}/s"], [f"{name}/a"], name=f"{name}/a"))
        at = f"{name}/a"
    ports = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 20, 18])]
    ends = [helper.make_tensor_value_info("third", TensorProto.FLOAT, [1, 5, 7 - 1, 7 - 2])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", ports, ends, tensors)), tmp_path / "net.onnx")
    network = unconv.load(f"onnx:{tmp_path / 'net.onnx'}")
    image = 3 * torch.randn(3, 20, 18, generator=torch.Generator().manual_seed(1))
    assert apart(network.project(image, "third").pixels(), projected(F.silu, "deconvnet")) < 1e-5
    assert [place.operation for place in network.places() if place.rectified] == ["silu", "silu"]


def test_a_factor_of_one_after_an_activation_changes_nothing():
    network = opened(lambda x: F.silu(x) * 1.0)
    assert [place.operation for place in network.places()].count("silu") == 2
    assert not any(step.written or step.within for step in network.record(network.noise()).tape.steps)
