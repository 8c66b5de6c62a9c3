"""Units of several pictures walk back together as each does alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unconv
from unconv.reverse.batch_recording import BatchRecording, Chosen


class Branching(nn.Module):
    """Overlapping and other pools, branches that meet by a sum and by putting together, and a vector at the end."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU6())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1), nn.LeakyReLU(0.1))
        self.down = nn.MaxPool2d(2)
        self.second = nn.Sequential(nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(12 * 3 * 3, 10), nn.ReLU())

    def forward(self, x):
        x = self.first(x)
        left, right = self.left(x), self.right(x)
        return self.last(self.second(self.down(torch.cat([left, left + right], 1))))


class Gated(Branching):
    def forward(self, x):
        x = self.first(x)
        return self.second(self.down(torch.cat([x * torch.sigmoid(self.left(x)), x], 1)))


def network(kind):
    torch.manual_seed(0)
    module = kind().double().eval()
    found = unconv.Network(module, input_size=(3, 48, 48))
    return found


def images(count):
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("method", ["deconvnet", "gradient", "guided", "desalinet", "switch-centre"])
def test_units_of_many_pictures_are_those_of_each(method):
    net, pictures, places = network(Branching), images(5), ["first.2", "left.1", "second.1", "last.2"]
    alone = [net.record(picture, places, method) for picture in pictures]
    batches = BatchRecording(net, places, method, batch=2)
    assert not batches.refusal
    wanted = {}
    for place in places:
        wanted[place] = []
        for k in range(8):
            row, channel = 3 * k % 5, 7 * k % len(alone[0].activation(place))
            positions = alone[row].activation(place)[channel].flatten()
            at = torch.unravel_index(positions.argmax(), alone[row].activation(place).shape[1:])
            wanted[place].append(Chosen(row, channel, tuple(map(int, at))))
    for place, made in batches.units(pictures, wanted).items():
        arrivals = list(made.arrivals())
        assert sorted(arrival.index for arrival in arrivals) == list(range(8))
        for arrival in arrivals:
            chosen, one = wanted[place][arrival.index], made.one(arrival)
            where = torch.tensor([chosen.position], dtype=torch.int64).reshape(1, -1)
            (told,) = alone[chosen.row].units(place, [chosen.channel], where, method).all()
            assert one.box == told.box
            assert one.value == pytest.approx(told.value, rel=1e-12)
            torch.testing.assert_close(one.window, told.window, rtol=0, atol=1e-12 * float(told.window.abs().max() + 1e-9))
            torch.testing.assert_close(one.feature_map, told.feature_map, rtol=0, atol=1e-12)


def test_some_projections_are_not_empty():
    net, pictures = network(Branching), images(3)
    chosen = [Chosen(row, channel, (2, 2)) for row in range(3) for channel in range(12)]
    made = BatchRecording(net, ["second.1"], "gradient").units(pictures, {"second.1": chosen})["second.1"]
    assert sum(float(arrival.window.abs().max()) > 0 for arrival in made.arrivals()) > 9


def test_gates_of_one_picture_are_refused():
    assert "frozen" in BatchRecording(network(Gated), ["second.1"]).refusal


def test_networks_that_mix_pictures_are_refused():
    class Mixing(Branching):
        def forward(self, x):
            return super().forward(x - x.mean(0, keepdim=True) * 0.5)

    assert BatchRecording(network(Mixing), ["second.1"]).refusal
