"""Maps of batches without recordings: those of a recording, of every network, and nothing of the model changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv
from cases.networks import NETWORKS, image
from cases.networks import network as module_of
from unconv.reverse.maps import Maps


def maps_of(network, batch, names=None):
    maps, found = Maps(network, names, len(batch)), {}

    def look(number, shown, before):
        found[number] = (shown.clone(), None if before is None else before.clone())

    with maps.running() as run:
        run(batch, look)
    return maps, found


def compare(network, size=(3, 32, 32)):
    dtype = next(network.module.parameters()).dtype
    batch = torch.randn(3, *size, generator=torch.Generator().manual_seed(1)).to(dtype)
    maps, found = maps_of(network, batch)
    for at in range(3):
        recording = network.record(batch[at], maps.names)
        for number, name in enumerate(maps.names):
            told = recording.activation(name)
            torch.testing.assert_close(found[number][0][at], told, rtol=1e-4, atol=1e-5 * float(told.abs().max() + 1e-9))
    return maps


class Mixed(nn.Module):
    """Functional, in-place and written-out rectifiers, channels last for a while, and frames in the batch."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 6), nn.Conv2d(6, 5, 3, stride=2)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(self.a(x), inplace=True)
        x = self.b(x.permute(0, 2, 3, 1))
        x = (x * torch.sigmoid(x)).permute(0, 3, 1, 2)
        x = torch.clamp(self.c(x), 0, 0.2)
        return self.head(x.mean((2, 3)))


def test_functional_written_out_and_turned_layers_are_seen():
    torch.manual_seed(0)
    network = unconv.Network(Mixed().eval(), input_size=(3, 32, 32))
    maps = compare(network)
    assert not maps.one_by_one
    assert len(maps.names) >= 3


def test_what_stood_before_a_clip_is_shown():
    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU6(inplace=True)).eval(), input_size=(3, 8, 8))
    batch = 30 * torch.randn(2, 3, 8, 8)
    _, found = maps_of(network, batch)
    shown, before = found[0]
    torch.testing.assert_close(before, network.module[0](batch))
    torch.testing.assert_close(shown, before.clamp(0, 6))


class Counts(nn.Module):
    """Changes a buffer of its own in each run, and computes with it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x):
        self.runs += 1
        return torch.relu(self.conv(x) * self.runs)


def test_what_a_model_writes_does_not_change_the_next_batch():
    network = unconv.Network(Counts().eval(), input_size=(3, 8, 8))
    batch = torch.randn(2, 3, 8, 8)
    maps, results = Maps(network, None, 2), []
    with maps.running() as run:
        for _ in range(2):
            run(batch, lambda _number, shown, _before: results.append(shown.clone()))
    assert not maps.one_by_one
    assert torch.equal(results[0], results[1])
    assert float(network.module.runs) == 0


class Beside(nn.Module):
    """Shows a picture less the mean of those beside it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return torch.relu(self.conv(x - x.mean(0, keepdim=True) / 2))


def test_a_network_whose_pictures_depend_on_each_other_is_run_one_by_one():
    network = unconv.Network(Beside().eval(), input_size=(3, 8, 8))
    maps = compare(network, (3, 8, 8))
    assert "depends on the pictures beside it" in maps.one_by_one


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_recordings(name):
    size = tuple(image(name).shape[1:])
    compare(unconv.Network(module_of(name), input_size=size), size)
