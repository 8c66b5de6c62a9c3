"""Images in lists and dictionaries, and networks that take them: the message says how to call or wrap, and that works."""

from __future__ import annotations

import re
from collections import UserDict
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import unconv
from unconv.errors import DtypeError, ModelError

SIZE = (3, 16, 16)


class Taking(nn.Module):
    """A small network, called in several ways."""

    def __init__(self, ndim=4):
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()


class OfDictionaries(Taking):
    def forward(self, batch):
        """Look for the image."""
        return self.net(batch["image"])


class OfItems(Taking):
    def forward(self, batch):
        """Look at all there is."""
        return {key: self.net(value) for key, value in batch.items()}


class OfFields(Taking):
    def forward(self, batch: dict[str, Any]):
        """Fail in its own words."""
        if not isinstance(batch, dict):
            raise TypeError("no batch")
        return self.net(batch["image"])


class OfLists(Taking):
    def forward(self, images):
        """Put images together."""
        return self.net(torch.stack(images))


class OfTypedLists(Taking):
    def forward(self, images: list[Tensor]):
        """Fail in its own words."""
        assert isinstance(images, list)
        return self.net(torch.stack(images))


def wrapped(message, model):
    """The network that the Python in a message makes of a model."""
    code = message[message.index("\nclass Wrapped") :]
    names = {"torch": torch, "unconv": unconv, "model": model}
    exec(code, names)
    names["network"].input_size = SIZE
    return names["network"]


def image():
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("make", [OfDictionaries, OfItems, OfFields, OfLists, OfTypedLists], ids=lambda make: make.__name__)
def test_a_network_of_lists_or_dictionaries_is_wrapped_as_the_message_says(make):
    with pytest.raises(ModelError, match="wrap it") as refused:
        unconv.Network(make(), input_size=SIZE).places()
    network = wrapped(str(refused.value), make())
    right = unconv.Network(make().net, input_size=SIZE).project(image(), "1", "top:2").pixels()
    assert torch.equal(network.project(image(), "model.net.1", "top:2").pixels(), right)
    assert network.check().reversible


IMAGES = {
    "a list": ([image(), image()], "a list of 2 came"),
    "a list of pictures": ([Image.new("RGB", (20, 20))], "a list of 1 came"),
    "a list of files": (["a.png", "b.png", "c.png"], "a list of 3 came"),
    "a tuple": ((image(),), "a tuple of 1 came"),
    "a set": ({"a.png"}, "a set of 1 came"),
    "a generator": ((x for x in [image()]), "a generator came"),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("ask", ["project", "record", "check"])
def test_several_images_are_refused_with_what_takes_them(name, ask):
    came, words = IMAGES[name]
    network = unconv.Network(Taking().net, input_size=SIZE)
    asked = (lambda: network.project(came, "1")) if ask == "project" else lambda: getattr(network, ask)(came)
    with pytest.raises(DtypeError, match=rf"image: {words}, but one image was needed.*network\.stream\(images, places\)"):
        asked()


@pytest.mark.parametrize("kind", [dict, UserDict])
def test_an_image_among_other_inputs_is_refused_with_how_to_pass_it(kind):
    came = kind({"pixel_values": image()[None], "mask": torch.ones(1)})
    with pytest.raises(DtypeError, match=rf"image: a {kind.__name__} of pixel_values, mask came") as refused:
        unconv.Network(Taking().net, input_size=SIZE).project(came, "1")
    assert "Pass image['pixel_values'] alone." in str(refused.value)
    assert 'unconv.Network(model, argument="pixel_values", others={..})' in str(refused.value)
    model = OfDictionaries()
    model.forward = lambda batch: model.net(batch["pixel_values"])
    assert wrapped(str(refused.value), model).project(image(), "model.net.1").pixels().shape == (4, *SIZE)


class OfTwo(Taking):
    def forward(self, image, mask):
        """Weigh by a mask."""
        return self.net(image) * mask


class OfNames(Taking):
    def forward(self, **inputs):
        """Look for the image."""
        return self.net(inputs["pixel_values"])


class OfOneName(Taking):
    def forward(self, *, pixel_values):
        """Take it by name alone."""
        return self.net(pixel_values)


def test_a_network_of_several_arguments_is_told_which_are_missing():
    with pytest.raises(ModelError, match=r"Pass its other arguments by name: unconv.Network\(model, others=.*, here 'mask'"):
        unconv.Network(OfTwo(), input_size=SIZE).places()
    assert len(unconv.Network(OfTwo(), input_size=SIZE, others={"mask": torch.tensor(2.0)}).places()) == 3


@pytest.mark.parametrize("make", [OfNames, OfOneName], ids=lambda make: make.__name__)
def test_a_network_that_takes_the_image_by_name_says_so(make):
    with pytest.raises(ModelError, match=r'Say which argument of its forward is the image: .*argument="pixel_values"\)'):
        unconv.Network(make(), input_size=SIZE).places()
    assert len(unconv.Network(make(), input_size=SIZE, argument="pixel_values").places()) == 2
    if make is OfNames:
        with pytest.raises(ModelError, match="Say which argument"):
            unconv.Network(make(), input_size=SIZE, argument="image").places()


@pytest.mark.parametrize("make", [nn.ModuleList, nn.Module], ids=lambda make: make.__name__)
def test_a_module_without_a_forward_asks_for_what_is_in_it(make):
    model = make()
    model.net = Taking().net
    with pytest.raises(ModelError, match="It has no forward: pass the module in it that takes the image"):
        unconv.Network(model, input_size=SIZE).places()


def test_another_size_is_still_another_size():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2, 2)).eval()
    with pytest.raises(ModelError, match=re.escape("Is that the size it was made for? (input_size is (3, 16, 16))")):
        unconv.Network(model, input_size=SIZE).places()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_detector_of_torchvisions_runs_as_it_is_or_wrapped(name, listed):
    # torchvision enlarges the picture to `min_size`: 800 by default, which takes half a minute and shows no more.
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, min_size=96, max_size=96).eval()
    if listed:
        with pytest.raises(DtypeError) as refused:
            unconv.Network(model).project([image()], "backbone")
        model = wrapped(str(refused.value), model).module
    whole = unconv.Network(model, input_size=(3, 64, 64))
    place = [place for place in whole.places() if place.rectified][5]
    assert whole.project(torch.rand(3, 64, 64), place, "top:2").pixels().any()
    backbone = unconv.Network((model.model if listed else model).backbone, input_size=(3, 64, 64))
    first = next(place for place in backbone.places() if place.rectified)
    assert backbone.project(torch.rand(3, 64, 64), first, "top:2").pixels().shape == (2, 3, 64, 64)
