"""Receptive fields: known tables, and what the gradient of all-positive networks reaches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unconv
from unconv.reverse.places import Place, find, place_of
from unconv.reverse.places import places as listed_places
from unconv.reverse.receptive_field import ReceptiveField, receptive_fields
from unconv.reverse.rewriting.freeze import freeze
from unconv.reverse.rules import KEEPERS
from unconv.reverse.tape.record import record
from unconv.reverse.tape.step import Tape


def all_ones(model: nn.Module) -> nn.Module:
    """No weight cancels another, so that the gradient shows all that a unit sees."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return model.double().eval().requires_grad_(False)


def recorded(model: nn.Module, *size: int, channels: int = 1) -> Tape:
    return record(model.double().eval(), torch.ones(1, channels, *size, dtype=torch.float64), KEEPERS)


def fields(tape: Tape) -> dict[int, ReceptiveField]:
    return receptive_fields(freeze(tape).tape)


def field_of(tape: Tape, name: str) -> ReceptiveField:
    return fields(tape)[tape.modules[""].index if not name else find(tape, name)[1].index]


def places(tape: Tape) -> list[Place]:
    return listed_places(tape, fields(tape))


def listed(model: nn.Module, *size: int) -> dict[str, Place]:
    return {place.name: place for place in places(recorded(model, *size))}


def sides(model: nn.Module, *size: int) -> dict[str, tuple[int, int]]:
    """(receptive field, stride) of each convolution, pool and sum: the same along both axes."""
    found = {}
    for name, place in listed(model, *size).items():
        assert len(set(place.receptive_field)) == len(set(place.stride)) == 1
        if place.operation != "relu":
            found[name] = (place.receptive_field[0], place.stride[0])
    return found


# -- known tables ---------------------------------------------------------------------------------


def vgg16() -> nn.Module:
    layers = nn.Sequential()
    for stage, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convs + 1):
            layers.add_module(f"c{stage}_{number}", nn.Conv2d(1, 1, 3, padding=1))
            layers.add_module(f"r{stage}_{number}", nn.ReLU(inplace=True))
        layers.add_module(f"p{stage}", nn.MaxPool2d(2))
    return layers


VGG16 = {
    "c1_1": (3, 1),
    "c1_2": (5, 1),
    "p1": (6, 2),
    "c2_1": (10, 2),
    "c2_2": (14, 2),
    "p2": (16, 4),
    "c3_1": (24, 4),
    "c3_2": (32, 4),
    "c3_3": (40, 4),
    "p3": (44, 8),
    "c4_1": (60, 8),
    "c4_2": (76, 8),
    "c4_3": (92, 8),
    "p4": (100, 16),
    "c5_1": (132, 16),
    "c5_2": (164, 16),
    "c5_3": (196, 16),
    "p5": (212, 32),
}


def alexnet() -> nn.Module:
    return nn.Sequential(
        *[nn.Conv2d(1, 1, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(3, 2)],
    )


ALEXNET = {
    "0": (11, 4),
    "2": (19, 8),
    "3": (51, 8),
    "5": (67, 16),
    "6": (99, 16),
    "7": (131, 16),
    "8": (163, 16),
    "9": (195, 32),
}


class Block(nn.Module):
    """Two convolutions and a skip around them."""

    def __init__(self, stride: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 1, 3, stride, 1), nn.Conv2d(1, 1, 3, 1, 1)
        self.skip = nn.Conv2d(1, 1, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(F.relu(self.a(x))) + self.skip(x))


def resnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Block(1), Block(2))


RESNET = {
    "0": (7, 2),
    "1": (11, 4),
    "2.a": (19, 4),
    "2.b": (27, 4),
    "2.add": (27, 4),
    "3.a": (35, 8),
    "3.b": (51, 8),
    "3.skip": (27, 8),
    "3.add": (51, 8),
}


KNOWN = {"vgg16": (vgg16, VGG16), "alexnet": (alexnet, ALEXNET), "resnet": (resnet, RESNET)}


@pytest.mark.parametrize("name", KNOWN)
def test_fields_and_strides_are_those_of_the_literature(name):
    build, table = KNOWN[name]
    assert sides(build(), 96, 128) == table


def test_a_rectifier_sees_what_its_input_sees():
    found = listed(vgg16(), 32, 32)
    for name, place in found.items():
        if name.startswith("r"):
            before = found["c" + name[1:]]
            assert (place.receptive_field, place.stride) == (before.receptive_field, before.stride)


def test_a_field_begins_and_ends_where_the_padding_puts_it():
    tape = recorded(resnet(), 64, 64)
    assert field_of(tape, "0") == ReceptiveField((2, 2), (-3, -3), (3, 3))
    assert field_of(tape, "1") == ReceptiveField((4, 4), (-5, -5), (5, 5))
    assert field_of(tape, "3.skip") == ReceptiveField((8, 8), (-13, -13), (13, 13))


def test_the_axes_are_height_then_width():
    model = nn.Sequential(nn.Conv2d(1, 1, (3, 1), (2, 1), (1, 0)), nn.AvgPool2d((1, 5), (1, 3)), nn.Conv2d(1, 1, (2, 2)))
    tape = recorded(model, 12, 30)
    place, field = places(tape)[-1], field_of(tape, "2")
    assert (place.receptive_field, place.stride, place.size) == ((5, 8), (2, 3), (5, 8))
    assert field.box((1, 2), (3, 4)) == (1, 6, 1 + 2 * 2 + 5, 6 + 2 * 3 + 8)


# -- the gradient of all-positive networks --------------------------------------------------------


class Calls(nn.Module):
    """A function as a module; what `layers` names is called as `m.name`."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def supports(model: nn.Module, *size: int) -> tuple[Tensor, Tensor]:
    """(units.., samples..) of bool: what each unit's gradient reaches, and its field cut at the picture."""
    x = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    result = all_ones(model)(x)
    tape = recorded(model, *size)
    field = field_of(tape, "")
    axes, shape = len(size), result.shape[2:]
    reached, seen = torch.zeros(*shape, *size, dtype=torch.bool), torch.zeros(*shape, *size, dtype=torch.bool)
    for unit in torch.ones(shape).nonzero().tolist():
        only = result[(0, slice(None), *unit)].sum()
        reached[tuple(unit)] = torch.autograd.grad(only, x, retain_graph=True)[0][0, 0] > 0
        position = unit or [0] * axes
        box = field.box(position, position)
        seen[(*unit, *(slice(max(a, 0), max(b, 0)) for a, b in zip(box[:axes], box[axes:], strict=True)))] = True
    return reached, seen


def conv(kernel: int, stride: int = 1, padding: int = 0, out: int = 1, **settings: int) -> nn.Module:
    return nn.Conv2d(1, out, kernel, stride, padding, **settings)


def inception(m: nn.Module, x: Tensor) -> Tensor:
    parts = [m.a(x), m.b(F.relu(x)), m.c(m.b(x)), F.avg_pool2d(x, 3, 1, 1)]
    return torch.cat(parts, 1).sum(1, keepdim=True)


EXACT = {
    "conv": lambda: conv(3, padding=1),
    "conv stride": lambda: conv(4, 2, 1),
    "conv after average pool": lambda: nn.Sequential(conv(3, 1, 1), nn.ReLU(), nn.AvgPool2d(2), conv(3, 1, 1)),
    "overlapping pool": lambda: nn.Sequential(conv(3, 1, 1), nn.AvgPool2d(4, 2, 1), conv(3, 1, 1)),
    "skip": lambda: Calls(lambda m, x: F.relu(m.b(m.a(x)) + x), a=conv(3, 1, 1), b=conv(3, 1, 1)),
    "skip with stride": lambda: Calls(lambda m, x: m.a(x) + m.b(x), a=conv(4, 2, 1), b=conv(2, 2)),
    "parallel branches": lambda: Calls(inception, a=conv(1), b=conv(3, 1, 1), c=conv(5, 1, 2)),
    "padded on one side": lambda: Calls(lambda m, x: m.a(F.pad(x, (2, 0, 0, 1))), a=conv(3)),
    "cut on one side": lambda: Calls(lambda m, x: m.a(F.pad(x, (-2, 0, 0, -1))), a=conv(3)),
    "padding wider than the kernel": lambda: nn.Sequential(conv(2, padding=2)),
    "same, even kernel": lambda: nn.Conv2d(1, 1, 4, padding="same"),
    "adaptive pool, even": lambda: nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool2d((4, 2))),
    "adaptive pool, uneven": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), conv(1)),
    "global mean": lambda: Calls(lambda m, x: m.a(x).mean((2, 3)), a=conv(3, 1, 1)),
    "global pool and a layer": lambda: nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3)),
    "flatten and a layer": lambda: nn.Sequential(conv(3, 1, 1), nn.Flatten(), nn.Linear(96, 2)),
    "global context added": lambda: Calls(lambda m, x: m.a(x) + x.mean((2, 3), keepdim=True), a=conv(3, 1, 1)),
    "channels apart and together": lambda: Calls(lambda m, x: m.a(x).flip(1).chunk(2, 1)[0], a=conv(3, 1, 1, out=4)),
    "batch norm between": lambda: nn.Sequential(conv(3, 1, 1), nn.BatchNorm2d(1), conv(2, 2)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", EXACT)
def test_a_units_gradient_reaches_its_field_and_nothing_else(name):
    reached, seen = supports(EXACT[name](), 12, 8)
    assert torch.equal(reached, seen)


COVERED = {
    "dilation": lambda: conv(3, 1, 2, dilation=2),
    "gaps between windows": lambda: nn.Sequential(conv(1, 3), conv(2)),
    "adaptive pool, uneven": lambda: nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool2d((5, 3))),
    "conv transposed": lambda: nn.ConvTranspose2d(1, 1, 3, 2),
    "reflected": lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
    "turned": lambda: Calls(lambda m, x: m.a(x.transpose(2, 3)), a=conv(3)),
    "mirrored": lambda: Calls(lambda m, x: m.a(x) + m.a(x).flip(3), a=conv(3)),
    "every second": lambda: Calls(lambda m, x: m.a(x[:, :, ::2, 1:]), a=conv(3)),
    "max pool": lambda: nn.Sequential(conv(3, 1, 1), nn.MaxPool2d(3, 2, 1)),
    "branch cut to the other's size": lambda: Calls(lambda m, x: m.a(x) + m.b(x)[..., 1:-1, 1:-1], a=conv(5), b=conv(3)),
    "other strides meet": lambda: Calls(lambda m, x: m.a(x) + m.b(x)[..., :6, :4], a=conv(2, 2), b=conv(3, 1, 1)),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_units_gradient_reaches_nothing_outside_its_field(name):
    reached, seen = supports(COVERED[name](), 12, 8)
    assert reached.any()
    assert not (reached & ~seen).any()


def test_dilation_and_gaps_count_from_the_first_to_the_last_sample():
    model = nn.Sequential(conv(3, 1, 0, dilation=3), conv(1, 4), conv(2, dilation=2))
    assert sides(model, 40, 40) == {"0": (7, 1), "1": (7, 4), "2": (15, 4)}


def test_units_that_all_see_everything_have_no_stride():
    model = nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 5))
    for place in list(listed(model, 9, 6).values())[1:]:
        assert (place.receptive_field, place.stride) == ((11, 8), (0, 0))  # with the padding


def of_axes(axes: int) -> Tape:
    conv_n, max_n, avg_n = (getattr(nn, f"{kind}{axes}d") for kind in ("Conv", "MaxPool", "AvgPool"))
    return recorded(nn.Sequential(conv_n(1, 1, 3, padding=1), max_n(2), conv_n(1, 1, 3), avg_n(3, 2)), *[20] * axes)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_networks_of_any_number_of_axes_have_fields(axes):
    tape = of_axes(axes)
    rows = [
        (place.receptive_field[-1], place.stride[-1])
        for place in (place_of(tape, *find(tape, name), fields(tape)) for name in "0123")
    ]
    assert rows == [(3, 1), (4, 2), (8, 2), (12, 4)]


ONE = pytest.param(1, marks=pytest.mark.xfail(strict=True, reason="torch pools along one axis as a picture of one row"))


@pytest.mark.parametrize("axes", [ONE, 2, 3])
def test_networks_of_any_number_of_axes_list_their_pools(axes):
    assert [place.name for place in places(of_axes(axes))] == ["0", "1", "2", "3"]


# -- chains ---------------------------------------------------------------------------------------

LAYER = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.booleans()).filter(lambda s: s[0] >= s[1])


@pytest.mark.slow
@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(LAYER, min_size=1, max_size=4), st.integers(14, 22))
def test_a_chains_field_is_what_plain_counting_gives_and_the_gradient_reaches(layers, size):
    pools = [(k, s, min(p, k // 2), pool) for k, s, p, pool in layers]
    n = size
    for k, s, p, _ in pools:
        n = (n + 2 * p - k) // s + 1
        assume(n >= 1)
    model = nn.Sequential(
        *[nn.AvgPool2d((k, 1), (s, 1), (p, 0)) if pool else nn.Conv2d(1, 1, (k, 1), (s, 1), (p, 0)) for k, s, p, pool in pools]
    )
    reached, seen = supports(model, size, 1)
    tape = recorded(model, size, 1)
    field = field_of(tape, "")
    for unit in range(len(reached)):
        first = last = unit
        for k, s, p, _ in reversed(pools):
            first, last = first * s - p, last * s - p + k - 1
        assert field.box((unit, 0), (unit, 0)) == (first, 0, last + 1, 1)
        assert not (reached[unit] & ~seen[unit]).any()
        if first >= 0 and last < size:
            assert torch.equal(reached[unit], seen[unit])


SPREADING = {
    "a pool of everything, stride one": lambda y: y + F.avg_pool2d(y, y.shape[2:], stride=1),
    "a row's maximum": lambda y: y + F.max_pool2d(y, (1, y.shape[3]), 1),
    "less the mean": lambda y: y - F.avg_pool2d(y, y.shape[2:], 1),
}


@pytest.mark.parametrize("name", SPREADING)
def test_what_is_broadcast_over_the_map_may_come_from_everywhere(name):
    """A branch of one sample is seen by every unit above it, whatever its stride was."""
    model = Calls(lambda m, x: SPREADING[name](m.a(x)), a=conv(3, 1, 1)).double()
    image = torch.randn(1, 1, 13, 17, dtype=torch.float64)
    network = unconv.Network(model, input_size=(1, 13, 17))
    place = network.record(image).places()[-1].name
    (ours,) = network.project(image, place, 0, (9, 9), "gradient").pixels()
    x = image.clone().requires_grad_(True)
    y = model(x)[0, 0, 9, 9]
    (right,) = torch.autograd.grad(y, x, y.detach())
    torch.testing.assert_close(ours, right[0])
