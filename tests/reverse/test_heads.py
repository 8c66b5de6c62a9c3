"""What stands after the asked place does not matter, and what people's images and networks are like."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unconv


class Head(nn.Module):
    """Features, and a head by name that no rule runs backwards."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.kind = kind
        self.recurrent = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}.get(kind, lambda *_, **__: nn.Identity())(
            4, 5, batch_first=True
        )

    def forward(self, x):
        x = self.relu(self.conv(x))
        if self.kind in ("gru", "lstm", "rnn"):
            return self.recurrent(x.flatten(2).transpose(1, 2))[0]
        return getattr(self, self.kind)(x)

    def slices(self, x):
        y = x * 1
        y[:, :2] = y[:, :2].sigmoid() * 2
        y[..., 0] += 3
        return y.flatten(1)

    def masked(self, x):
        return x.masked_fill(x < 0.1, float("-inf")).flatten(1).softmax(1)

    def best(self, x):
        values, places = x.flatten(1).topk(5)
        return values, places, x.flatten(1).argsort(1)

    def grid(self, x):
        return x.flatten(1).gather(1, x.flatten(1).long().clamp(0, 3))


KINDS = ["gru", "lstm", "rnn", "slices", "masked", "best", "grid"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_before_the_head_is_that_of_the_network_without_it(kind):
    network = unconv.Network(Head(kind).eval(), input_size=(3, 12, 11))
    plain = Head(kind).eval()
    bare = unconv.Network(nn.Sequential(plain.conv, plain.relu).eval(), input_size=(3, 12, 11))
    image = torch.rand(3, 12, 11)
    for method in ("deconvnet", "gradient"):
        mine, right = network.project(image, "relu", method=method), bare.project(image, "1", method=method)
        assert torch.equal(mine.pixels(), right.pixels())
    assert network.check().verdict


def test_an_image_of_a_subclass_is_its_values():
    class Tagged(torch.Tensor):
        pass

    network = unconv.Network(Head("masked").eval(), input_size=(3, 12, 11))
    image = torch.rand(3, 12, 11)
    mine, right = (network.project(one, "relu").pixels() for one in (image.as_subclass(Tagged), image))
    assert type(mine) is torch.Tensor and torch.equal(mine, right)


def test_a_network_without_places_is_not_reversible():
    found = unconv.Network(nn.Flatten(0), input_size=(3, 12, 11)).check()
    assert not found.reversible and found.verdict.startswith("Not reversible")


def test_a_network_that_autograd_cannot_run_is_checked_without_that_law():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.last(F.relu(F.relu(self.conv(x)), inplace=True)).sigmoid().mul_(2)

    assert unconv.Network(Overwrites().eval(), input_size=(3, 12, 11)).check().reversible


def test_a_grid_that_the_image_made_is_held():
    class Transformer(nn.Module):
        def __init__(self, held):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.offsets, self.held = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), held

        def forward(self, x):
            x = F.relu(self.conv(x))
            grid = self.offsets(x).tanh().permute(0, 2, 3, 1)
            return F.grid_sample(x, grid.detach() if self.held else grid, align_corners=False)

    image = torch.rand(3, 12, 11, dtype=torch.float64)
    module = Transformer(False).double().eval()
    network = unconv.Network(module, input_size=(3, 12, 11))
    found = network.project(image, "output", "all", method=unconv.Rules("gradient", freeze=True))
    x = image[None].clone().requires_grad_(True)
    out = Transformer(True).double()(x)
    right = [
        torch.autograd.grad(out[(0, *u)] * v, x, retain_graph=True)[0] for u, v in zip(found.units, found.values, strict=True)
    ]
    assert torch.allclose(found.pixels(), torch.cat(right), rtol=0, atol=1e-12)


def test_colours_of_a_network_that_takes_blue_first_are_drawn_as_they_look():
    from unconv import Preprocess

    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    other = nn.Conv2d(3, 4, 3)
    other.weight.data, other.bias.data = conv.weight.data.flip(1), conv.bias.data
    picture = (torch.rand(12, 12, 3) * 255).to(torch.uint8).numpy()
    drawn = []
    for layer, bgr in ((conv, False), (other, True)):
        prepared = Preprocess((12, 12), mean=(0.0,) * 3, std=(1.0,) * 3, bgr=bgr)
        found = unconv.Network(layer.eval(), prepared, (3, 12, 12)).project(picture, "output", "all")
        drawn.append(found.picture())
    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_a_write_into_memory_that_overlaps_itself_is_refused():
    class Frames(nn.Module):
        def forward(self, x):
            y = (x * 2).as_strided((1, 2, 2, 2), (1, 12, 1, 1))
            return y.copy_(y.flip(3).clone())

    with pytest.raises(unconv.ModelError, match=r"copy writes in place into a tensor whose samples share memory"):
        unconv.Network(Frames(), input_size=(2, 4, 4)).places()
