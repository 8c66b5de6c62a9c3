"""Values that lost, merged or moved axes have channels and maps all the same, and every unit goes back as autograd says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.calls import Calls
from unconv.reverse.rewriting.axes import axes_of
from unconv.reverse.tape.record import record


def body(axes: int, channels: int = 3) -> nn.Module:
    torch.manual_seed(axes)
    conv, pool = getattr(nn, f"Conv{axes}d"), getattr(nn, f"MaxPool{axes}d")
    return nn.Sequential(conv(channels, 5, 3, padding=1), nn.ReLU(), pool(2), conv(5, 4, 3, padding=1), nn.ReLU())


LINE, PLANE, SPACE = (3, 16), (3, 8, 10), (3, 4, 6, 8)

# The head, the image, and what its output is: channels, map, and whether units see less than the whole image.
HEADS = {
    "squeeze the only channel, 1-D": (lambda y: y[:, :1].squeeze(1) * 2, LINE, 1, (8,), True),
    "mean of channels, 1-D": (lambda y: y.mean(1), LINE, 1, (8,), True),
    "select a channel, 1-D": (lambda y: y[:, 2] * 2, LINE, 1, (8,), True),
    "flatten, 1-D": (lambda y: y.flatten(1) * 2, LINE, 32, (), False),
    "flatten channels last, 1-D": (lambda y: y.transpose(1, 2).flatten(1) * 2, LINE, 32, (), False),
    "channels last, 1-D": (lambda y: y.transpose(1, 2) * 2, LINE, 4, (8,), True),
    "without a batch, 1-D": (lambda y: y[0] * 2, LINE, 4, (8,), False),
    "one sample, 1-D": (lambda y: y[..., 3] * 2, LINE, 4, (), False),
    "to a plane": (lambda y: y.view(1, 4, 2, 4) * 2, LINE, 4, (2, 4), False),
    "squeeze the only channel": (lambda y: y[:, :1].squeeze(1).sigmoid(), PLANE, 1, (4, 5), True),
    "squeeze all": (lambda y: y[:, :1].squeeze() * 2, PLANE, 1, (4, 5), False),
    "without a batch": (lambda y: y.squeeze(0) * 2, PLANE, 4, (4, 5), False),
    "mean of rows": (lambda y: y.mean(2), PLANE, 4, (5,), False),
    "largest of rows": (lambda y: y.amax(2), PLANE, 4, (5,), False),
    "mean of channels and rows": (lambda y: y.mean((1, 2)), PLANE, 1, (5,), False),
    "columns first": (lambda y: y.mean(2).transpose(1, 2) * 2, PLANE, 4, (5,), False),
    "one number": (lambda y: y.mean(), PLANE, 1, (), False),
    "a sum": (lambda y: y.sum() * 0.1, PLANE, 1, (), False),
    "one number of a batch": (lambda y: y.mean((1, 2, 3)), PLANE, 1, (), False),
    "groups": (lambda y: y.view(1, 2, 2, 4, 5) * 2, PLANE, 2, (2, 4, 5), True),
    "groups as a batch": (lambda y: y.view(2, 2, 4, 5) * 2, PLANE, 2, (2, 4, 5), False),
    "pixels shuffled": (lambda y: F.pixel_shuffle(y, 2) * 2, PLANE, 1, (8, 10), True),
    "tokens": (lambda y: y.flatten(2).transpose(1, 2) * 2, PLANE, 4, (20,), False),
    "mean of depth": (lambda y: y.mean(2), SPACE, 4, (3, 4), False),
    "slices as a batch": (lambda y: y[0].transpose(0, 1) * 2, SPACE, 4, (2, 3, 4), False),
    "slices flattened": (lambda y: y.transpose(1, 2).flatten(0, 1) * 2, SPACE, 4, (2, 3, 4), False),
}


def network(head, size) -> unconv.Network:
    return unconv.Network(Calls(lambda m, x: head(m.body(x)), body=body(len(size) - 1)).eval().double(), input_size=size)


def assert_every_unit_is_autograd_s(net, size, place="output"):
    image = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = net.record(image, [place])
    fed = image[None].clone().requires_grad_(True)
    out = net.module(fed)
    activation = found.activation(place)
    assert activation.numel() == out.numel()
    for unit in (activation != 0).nonzero()[::3].tolist():
        mine = found.project(place, unit[0], tuple(unit[1:]) or "strongest", "gradient")
        value = activation[tuple(unit)]
        same = (out - value).abs().argmin()  # values differ, so that they tell which unit of the output this is
        (right,) = torch.autograd.grad(out.flatten()[same] * value, fed, retain_graph=True)
        assert float(mine.values[0]) == pytest.approx(float(value))
        assert (mine.pixels() - right).abs().max() <= 1e-10 * right.abs().max()


@pytest.mark.parametrize("name", HEADS)
def test_units_of_any_output_are_autograd_s(name):
    head, size, *_ = HEADS[name]
    assert_every_unit_is_autograd_s(network(head, size), size)


@pytest.mark.parametrize("name", HEADS)
def test_an_output_has_its_channels_and_maps(name):
    head, size, channels, maps, sees_less = HEADS[name]
    net = network(head, size)
    found = net.project(torch.rand(size, dtype=torch.float64), "output", method="gradient")
    assert (found.place.channels, found.place.size) == (channels, maps)
    assert len(found) == channels
    assert any(found.place.stride) == sees_less


@pytest.mark.parametrize("name", HEADS)
def test_every_law_holds_whatever_the_output_is(name):
    head, size, *_ = HEADS[name]
    found = network(head, size).check()
    assert found.reversible, found.text()


class Clip(nn.Module):
    """Frames are folded into the batch, as in most networks for video."""

    def __init__(self):
        super().__init__()
        self.frames, self.head = body(2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frames(x.transpose(1, 2).flatten(0, 1))
        return self.head(y.mean((2, 3)).view(len(x), x.shape[2], -1).mean(1))


class Bag(nn.Module):
    """Several pictures are one instance, as in multiple-instance learning: they come in as channels."""

    def __init__(self):
        super().__init__()
        self.frames = body(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frames(x.view(-1, 3, *x.shape[-2:])).amax((2, 3))
        return y.mean(0, keepdim=True)


class Electrodes(nn.Module):
    """Electrodes come in as channels and become rows, as in EEGNet."""

    def __init__(self):
        super().__init__()
        self.time, self.space = nn.Conv2d(1, 4, (1, 5), padding=(0, 2)), nn.Conv2d(4, 6, (3, 1), groups=2)
        self.act, self.pool = nn.ELU(), nn.AvgPool2d((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.act(self.space(self.time(x.unsqueeze(1))))).flatten(1)


@pytest.mark.parametrize(
    ("build", "size", "known"),
    [
        (Clip, (3, 4, 6, 6), {"frames.1": (5, (4, 6, 6)), "frames.2": (5, (4, 3, 3)), "head": (2, ())}),
        (Bag, (6, 6, 8), {"frames.1": (5, (2, 6, 8)), "frames.4": (4, (2, 3, 4))}),
        (Electrodes, (3, 20), {"time": (4, (3, 20)), "space": (6, (20,)), "pool": (6, (10,))}),
    ],
)
def test_maps_of_another_rank_or_batch_are_named_and_go_back(build, size, known):
    torch.manual_seed(0)
    net = unconv.Network(build().eval().double(), input_size=size)
    places = {place.name: (place.channels, place.size) for place in net.places()}
    assert known.items() <= places.items()
    assert_every_unit_is_autograd_s(net, size)
    found = net.check()
    assert found.reversible, found.text()
    image = torch.rand(size, dtype=torch.float64)
    for place in known:
        assert net.project(image, place, "all", "map").pixels().isfinite().all()


def test_one_unit_of_a_folded_frame_reaches_its_frame_alone():
    torch.manual_seed(0)
    net = unconv.Network(Clip().eval(), input_size=(3, 4, 6, 6))
    found = net.project(torch.rand(3, 4, 6, 6), "frames.3", 1, (2, 1, 1)).pixels()[0]
    assert found[:, 2].abs().max() > 0
    assert not found[:, [0, 1, 3]].any()


def test_axes_follow_what_a_network_does_with_them():
    def forward(_m, x):
        x = x * 1  # batch, channels, 0, 1
        y = x.flatten(2)  # batch, channels, other
        z = x.permute(2, 0, 3, 1)  # 0, batch, 1, channels
        return y, z, z.squeeze(1), x.mean(3), x.view(1, 2, 2, 6, 4).transpose(1, 2)

    tape = record(Calls(forward), torch.rand(1, 4, 6, 4), {})
    known = axes_of(tape)
    found = [known[tape.modules[f"output.{k}"].index] for k in range(5)]
    assert found == [
        ("batch", "channels", "other"),
        (0, "batch", 1, "channels"),
        (0, 1, "channels"),
        ("batch", "channels", 0),
        ("batch", "channels", "channels", 0, 1),
    ]


def test_a_weight_that_a_number_of_the_picture_is_added_to_has_axes():
    class Moving(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mean = nn.Conv2d(3, 4, 3), torch.ones(4)

        def forward(self, x):
            return self.conv(x) * (self.mean + x.mean()).mean()

    assert "conv" in [place.name for place in unconv.Network(Moving().eval(), input_size=(3, 8, 8)).places()]


def test_what_arranges_maps_is_not_counted_among_the_network_s_operations():
    found = network(lambda y: y.mean(2), PLANE).check()
    assert {row.name: row.count for row in found.operations} == {"conv": 2, "relu": 2, "max_pool2d": 1, "mean": 1}
