"""A picture is decoded once, a network run once, a receptive field computed once."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn

import unconv
from unconv.box import demo_pictures
from unconv.report import Request, report
from unconv.reverse import model as models


class Counts(dict[str, int]):
    """How often something happened."""

    def of(self, what, function):
        def counted(*args, **kwargs):
            self[what] = self.get(what, 0) + 1
            return function(*args, **kwargs)

        return counted


@pytest.fixture
def counts(monkeypatch):
    """Counts decodes, forward passes, receptive-field passes and freezings from now on."""
    found = Counts()
    monkeypatch.setattr(Image, "open", found.of("decodes", Image.open))
    monkeypatch.setattr(models, "record", found.of("forward passes", models.record))
    monkeypatch.setattr(models, "receptive_fields", found.of("receptive fields", models.receptive_fields))
    monkeypatch.setattr(models, "freeze", found.of("freezings", models.freeze))
    return found


@pytest.fixture(scope="module")
def network():
    return unconv.load("unconv:caltech")


ONCE = {"decodes": 1, "forward passes": 1, "receptive fields": 1, "freezings": 1}


@pytest.mark.slow
@pytest.mark.parametrize("places", [(), ("features.1", "features.6", "features.13")])
def test_a_report_reads_its_picture_and_runs_its_network_once(network, counts, tmp_path, places):
    report(network, demo_pictures()[1], tmp_path, Request(places, "top:2"), lambda *_: None)
    assert counts == ONCE


@pytest.mark.slow
def test_the_command_does_too(unconv_command, counts, tmp_path):
    arguments = ("project", "unconv:caltech", demo_pictures()[1], "--channels", "top:1", "-o", tmp_path / "out", "--json")
    assert unconv_command(*arguments)[0] == 0
    assert counts == ONCE


@pytest.mark.slow
@pytest.mark.parametrize("places", [None, ["features.1", "features.6"]])
def test_a_stream_records_each_picture_once(network, counts, places):
    pictures = demo_pictures()[:2]
    assert len(list(network.stream(pictures, places, channels="top:1"))) > 3
    assert counts == dict.fromkeys(ONCE, 2)


@pytest.mark.slow
def test_the_gradient_costs_one_pass_more_as_it_freezes_nothing(network, counts):
    recording = network.record(demo_pictures()[1], None)
    for place in recording.rectified():
        recording.project(place, "top:1", method="gradient")
    assert counts == {**ONCE, "receptive fields": 2}


def test_places_of_a_recording_cost_nothing_after_the_first_call(network, counts):
    recording = network.record(demo_pictures()[1])
    first = recording.places()
    assert all(recording.places() == first for _ in range(5))
    assert counts == ONCE
    first.clear()
    assert recording.places()


def test_rectified_maps_are_kept_by_the_pass_that_finds_them():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.SiLU(inplace=True), nn.Flatten(), nn.ReLU()
    )
    network, image = unconv.Network(net.eval(), input_size=(3, 8, 8)), torch.randn(3, 8, 8)
    recording = network.record(image, None)
    assert recording.rectified() == network.rectified(image) == ["1", "3"]
    again = network.record(image, ["1", "3"])
    for name in ("1", "3"):
        assert torch.equal(recording.activation(name), again.activation(name))
