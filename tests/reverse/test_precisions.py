"""Half precision and autocast, as a network runs in real life: the same walk, in the tensors' own types."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

import unconv

SIZE = (3, 24, 24)
_CLOSE = {torch.bfloat16: 3e-2, torch.float16: 4e-3}  # of the largest value; a rounding is 2^-8 and 2^-11, some ten follow


def small():
    torch.manual_seed(5)
    first = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 16, 3, groups=2), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(16, 8, 3), nn.ReLU()]
    return nn.Sequential(*first, *second).eval()


class Autocast(nn.Module):
    """A network that asks for autocast itself."""

    def __init__(self, net, dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x):
        with torch.autocast("cpu", self.dtype):
            return self.net(x)


class Mixed(nn.Module):
    """A network whose second half is in another type."""

    def __init__(self, net, dtype):
        super().__init__()
        self.net, self.dtype = net, dtype
        net[4:].to(dtype)

    def forward(self, x):
        return self.net[4:](self.net[:4](x).to(self.dtype))


class Alone(nn.Module):
    """A network that cannot be copied, and so not be tried in another precision."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def __deepcopy__(self, memo):
        raise RuntimeError("there is one of me")

    def forward(self, x):
        return self.net(x)


def image():
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(6))


def outside(dtype):
    return torch.autocast("cpu", dtype)


FORMS = {
    "half": (lambda dtype: small().to(dtype), lambda dtype: nullcontext(), ""),
    "autocast inside": (lambda dtype: Autocast(small(), dtype), lambda dtype: nullcontext(), "net."),
    "under autocast": (lambda dtype: small(), outside, ""),
    "mixed": (lambda dtype: Mixed(small(), dtype), lambda dtype: nullcontext(), "net."),
}
EACH = [(form, dtype) for form in FORMS for dtype in _CLOSE]


def by_autograd(model, module, seed):
    """What torch's own backward pass makes of a seed at a module's output."""
    kept = []
    handle = module.register_forward_hook(lambda _module, _args, out: kept.append(out))
    x = image()[None].to(next(model.parameters()).dtype).requires_grad_(True)
    model(x)
    handle.remove()
    return torch.autograd.grad(kept[0], x, seed.to(kept[0].dtype)[None])[0][0]


@pytest.mark.parametrize(("form", "dtype"), EACH, ids=str)
def test_the_gradient_is_that_of_autograd_in_the_networks_own_precision(form, dtype):
    make, context, prefix = FORMS[form]
    model = make(dtype)
    with context(dtype):
        recording = unconv.Network(model, input_size=SIZE).record(image(), [f"{prefix}8"])
        found = recording.project(f"{prefix}8", "top:3", method="gradient")
        activation = recording.activation(f"{prefix}8")
        for unit, pixels in zip(found.units, found.pixels(), strict=True):
            seed = torch.zeros_like(activation)
            seed[tuple(unit)] = activation[tuple(unit)]
            right = by_autograd(model, model.get_submodule(f"{prefix}8"), seed).float()
            assert float((pixels - right).abs().max()) < _CLOSE[dtype] * float(right.abs().max())
    assert (activation.dtype, found.pixels().dtype) == (dtype, torch.float32)


@pytest.mark.parametrize(("form", "dtype"), EACH, ids=str)
def test_a_projection_in_half_precision_is_nearly_that_in_float32(form, dtype):
    make, context, prefix = FORMS[form]
    whole = unconv.Network(small(), input_size=SIZE).project(image(), "8", "top:1")
    channel, *unit = whole.units[0]
    with context(dtype):
        found = unconv.Network(make(dtype), input_size=SIZE).project(image(), f"{prefix}8", channel, tuple(unit))
    # Where two samples of a pool are nearly alike, another one may win: single pixels differ, the picture does not.
    assert float(cosine_similarity(found.pixels().flatten(1), whole.pixels().flatten(1))[0]) > 0.97


@pytest.mark.parametrize(("form", "dtype"), EACH, ids=str)
def test_places_and_check_say_the_precision(form, dtype):
    make, context, prefix = FORMS[form]
    network = unconv.Network(make(dtype), input_size=SIZE)
    with context(dtype):
        assert [place.name for place in network.places()] == [f"{prefix}{number}" for number in range(9)]
        found = network.check()
    name = str(dtype).removeprefix("torch.")
    own = name if form == "half" else f"{name} and float32"
    laws = name if form == "mixed" else "float64"
    assert (found.about["precision"], found.reversible) == (f"{own} (laws: {laws})", True)


def test_a_network_that_cannot_be_copied_is_tried_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        found = unconv.Network(Alone(small()), input_size=SIZE).check()
    assert (found.about["precision"], found.reversible) == ("bfloat16 and float32 (laws: bfloat16)", True)


@pytest.mark.parametrize("dtype", [*_CLOSE, torch.float32, torch.float64])
def test_a_network_that_is_tried_in_its_own_precision_is_not_told_to_be_wrong(dtype):
    found = unconv.Network(Alone(small().to(dtype)), input_size=SIZE).check()
    name = str(dtype).removeprefix("torch.")
    assert (found.about["precision"], found.reversible) == (f"{name} (laws: {name})", True)


@pytest.mark.parametrize("method", ["deconvnet", "gradient", "guided"])
def test_autocast_around_a_projection_rounds_nothing_of_it(method):
    model = nn.Sequential(*small(), nn.Flatten(), nn.Linear(8 * 3 * 3, 6), nn.ReLU()).eval()
    recording = unconv.Network(model, input_size=SIZE).record(image(), ["11"])
    right = recording.project("11", "top:3", method=method).pixels()
    with torch.autocast("cpu", torch.bfloat16):
        again = unconv.Network(model, input_size=SIZE).record(image(), ["11"])
        assert torch.equal(recording.project("11", "top:3", method=method).pixels(), right)
    assert again.activation("11").dtype == torch.bfloat16


def test_autocast_is_as_it_was_afterwards():
    network = unconv.Network(Autocast(small(), torch.float16), input_size=SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        network.project(image(), "net.8")
        network.check()
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
