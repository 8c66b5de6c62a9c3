"""The network in the box: it is what the docs say, and knows its pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

import unconv
from unconv import box

ROOT = Path(__file__).parents[2]


def test_it_is_small_and_made_of_convolutions_rectifiers_and_pools():
    network = unconv.load("unconv:caltech")
    parameters = sum(p.numel() for p in network.module.parameters())
    assert 1_000_000 < parameters < 2_000_000
    assert box.WEIGHTS.stat().st_size <= 4_000_000
    assert {place.operation for place in network.places()} == {"conv", "relu", "max_pool2d", "mean", "linear"}


def test_loading_a_network_leaves_torch_s_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    unconv.load("unconv:caltech").places()
    assert torch.equal(torch.rand(3), expected)


def test_every_photograph_that_ships_opens_and_has_its_licence():
    licences = (box.PICTURES / "LICENCES.md").read_text()
    assert len(box.demo_pictures()) >= 3
    for picture in box.demo_pictures():
        with Image.open(picture) as opened:
            assert min(opened.size) >= 200
        assert f"| {picture.name} |" in licences
