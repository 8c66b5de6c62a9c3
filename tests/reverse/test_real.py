"""Real weights and real pictures: what a projection shows is where and what it should be."""

from __future__ import annotations

import pytest
import torch

import unconv
from cases.networks import DATA, needs_data

pytestmark = needs_data
PUMA = DATA / "imagenet_sample" / "0290_n02128925.jpg"


@pytest.fixture(scope="module")
def squeezenet():
    return unconv.load("torchvision:squeezenet1_1", DATA / "weights" / "squeezenet1_1_imagenet.fp32.safetensors")


def test_the_weights_file_brings_torchvision_s_preprocessing_and_the_right_class(squeezenet):
    recording = squeezenet.record(PUMA, ["flatten", "view"])
    scores = recording.activation("view")
    assert squeezenet.classes[int(scores.argmax())] in ("cougar", "jaguar", "leopard", "lion", "cheetah")
    assert tuple(recording.tape.image.shape) == (1, 3, 224, 224)


@pytest.mark.parametrize("place", ["features.1", "features.6.expand3x3_activation", "features.12.expand3x3_activation"])
def test_projections_lie_within_their_patch_and_are_not_empty(squeezenet, place):
    found = squeezenet.project(PUMA, place, "top:9")
    for one in found:
        assert one.window.shape == one.patch.shape
        assert one.window.abs().max() > 0
    outside = found.pixels().clone()
    for row, (y0, x0, y1, x1) in zip(outside, found.boxes.clamp(min=0).tolist(), strict=True):
        row[:, y0:y1, x0:x1] = 0
    assert not outside.any()


@pytest.mark.slow
def test_deep_projections_stand_on_structure_and_not_on_flat_ground(squeezenet):
    """The energy of a deep unit's projection lies where the picture changes, more than chance would have it."""
    found = squeezenet.project(PUMA, "features.12.expand3x3_activation", "top:9")
    energy = found.pixels().square().sum(1)
    picture = found.shown.mean(0)
    edges = torch.zeros_like(picture)
    edges[1:, 1:] = (picture[1:, 1:] - picture[:-1, 1:]).abs() + (picture[1:, 1:] - picture[1:, :-1]).abs()
    reached = energy.sum(0) > 0
    weighted = (energy.sum(0) * edges).sum() / energy.sum()
    assert weighted > 1.2 * edges[reached].mean()


def test_the_switches_come_from_this_picture(squeezenet):
    """The same unit, projected from another picture, gives another projection."""
    other = DATA / "imagenet_sample" / "0340_n02391049.jpg"
    place, unit = "features.7.expand3x3_activation", {"channels": 61, "unit": (13, 13)}
    one, two = (squeezenet.project(picture, place, **unit).windows[0] for picture in (PUMA, other))
    cosine = float((one * two).sum() / (one.norm() * two.norm()).clamp(min=1e-30))
    assert cosine < 0.9


@pytest.mark.slow
def test_a_network_from_a_file_with_caffe_weights(tmp_path):
    """The first blocks of the Oxford VGG19: BGR, 0 to 255, weights in float16."""
    weights = DATA / "weights" / "vgg19_blocks123_caffe_bgr.fp16.safetensors"
    factory = tmp_path / "vgg19.py"
    factory.write_text(
        "import collections, torch, torchvision\n"
        "def blocks123():\n"
        "    features = torchvision.models.vgg19(weights=None).features[:18]\n"
        "    return torch.nn.Sequential(collections.OrderedDict(features=features))\n"
    )
    preprocess = unconv.Preprocess((224, 224), 256, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), 255.0, True)
    network = unconv.load(f"{factory}:blocks123", weights, preprocess=preprocess)
    found = network.project(PUMA, "features.17", "top:4")
    assert found.place.receptive_field == (48, 48)
    assert abs(float(found.image.mean())) < 60 and float(found.image.abs().max()) > 60
    assert found.shown.min() >= 0 and found.shown.max() <= 1
