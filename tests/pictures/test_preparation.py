"""What is done to a picture is said, and transforms of other libraries are taken as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

import unconv
from unconv import Preprocess
from unconv.pictures.draw import picture_of
from unconv.pictures.preparation import preparation
from unconv.pictures.preprocess import shown

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
TENSOR = (v2.ToImage(), v2.ToDtype(torch.float32, scale=True))


def noise(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def network(channels, axes=2):
    torch.manual_seed(0)
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    return nn.Sequential(convolution(channels, 4, 3, padding=1), nn.ReLU()).eval()


@pytest.mark.parametrize(
    "preprocess",
    [
        ImageClassification(crop_size=20, resize_size=24, mean=MEAN, std=STD),
        v2.Compose([v2.Resize(24), v2.CenterCrop(20), *TENSOR, v2.Normalize(MEAN, STD)]),
        nn.Sequential(v2.Resize(24), v2.CenterCrop(20), *TENSOR, v2.Normalize(MEAN, STD)),
    ],
)
def test_a_transform_is_described_by_a_preprocess_that_does_the_same(preprocess):
    found = preparation(preprocess, (3, 20, 20), "as given", False)
    assert (found.resize, found.crop, found.order, found.mean, found.std) == (24, (20, 20), "RGB", MEAN, STD)
    assert torch.allclose(found.like((1, 1), 3)(noise(40, 60)), torch.as_tensor(preprocess(noise(40, 60))), atol=1e-5)


def test_what_becomes_of_colours_is_found_whatever_a_function_says():
    def caffe(picture):
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().flip(0)
        return values - torch.tensor([104.0, 117.0, 123.0])[:, None, None]

    found = preparation(caffe, (3, 9, 9), "as given", False)
    assert (found.order, found.scale) == ("BGR", 255)
    assert found.mean == pytest.approx((104, 117, 123), abs=1e-3)
    assert np.array_equal(picture_of(shown(caffe(noise(5, 7)), found)), np.asarray(noise(5, 7)))
    assert unconv.Network(network(3), preprocess=caffe).blue_first


def test_a_step_that_undoes_what_the_fields_say_is_not_overlooked():
    turned = v2.Compose([v2.Resize((20, 20)), *TENSOR, v2.Lambda(lambda image: image.rot90(1, (1, 2)))])
    found = preparation(turned, (3, 20, 20), "as given", False)
    assert (found.resize, "Lambda" in found.steps) == (None, True)


@pytest.mark.parametrize("step", [v2.RandomCrop(8), v2.RandomHorizontalFlip(), v2.ColorJitter(0.5)])
def test_a_transform_for_training_is_refused_and_draws_nothing(step):
    module, before = network(3), torch.random.get_rng_state()
    with pytest.raises(unconv.ModelError, match="draws random numbers, as transforms for training do"):
        unconv.Network(module, preprocess=v2.Compose([step, *TENSOR]))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image[None],
        lambda image: {"pixel_values": image[None], "pixel_mask": torch.ones(1)},
        lambda image: [image.numpy()],
        lambda image: image.permute(1, 2, 0).numpy(),
        lambda image: {"anything": image},
    ],
)
def test_one_image_is_found_in_what_a_preprocessing_returns(make):
    whole = v2.Compose(list(TENSOR))
    made = unconv.Network(network(3), preprocess=lambda picture: make(whole(picture))).record(noise(6, 8))
    assert torch.equal(made.tape.image[0], torch.as_tensor(whole(noise(6, 8))))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda picture: picture, "returned a picture, but one floating tensor"),
        (lambda picture: torch.zeros(2, 3, 4, 4), "a batch of 2"),
        (lambda picture: torch.zeros(3, 4, 4, dtype=torch.uint8), "samples of torch.uint8"),
        (lambda picture: torch.zeros(1, 4, 4), "takes 3 channels"),
        (lambda picture: {"a": torch.zeros(3), "b": torch.zeros(3)}, "returned a dictionary of a, b"),
        (lambda picture: picture.no_such, "failed on a picture"),
    ],
)
def test_what_is_no_image_is_refused_in_words(make, words):
    with pytest.raises(unconv.UnconvError, match=words):
        unconv.Network(network(3), preprocess=make).record(noise(6, 8))


def test_a_live_modules_preprocessing_is_assumed_and_a_given_one_is_not():
    found = unconv.Network(network(3)).preparation
    assert (found.assumed, "ASSUMED" in str(found), found.numbers()["crop"]) == (True, True, [224, 224])
    assert not unconv.Network(network(3), preprocess=Preprocess((8, 8))).preparation.assumed
    assert not unconv.load("unconv:caltech").preparation.assumed
    assert unconv.load("torchvision:squeezenet1_1").preparation.assumed
    assert "ASSUMED" in repr(unconv.Network(network(3)))


def test_the_size_is_what_a_preprocessing_makes_of_every_picture():
    made = unconv.Network(network(3), preprocess=v2.Compose([v2.Resize((40, 50)), *TENSOR]))
    assert made.input_size == (3, 40, 50)


@pytest.mark.parametrize("channels, axes, size", [(1, 2, (1, 224, 224)), (13, 2, (13, 224, 224)), (2, 3, (2, 64, 64, 64))])
def test_the_channels_are_those_of_the_first_convolution(channels, axes, size):
    assert unconv.Network(network(channels, axes)).input_size == size


def test_a_colour_picture_becomes_grey_for_one_channel_and_that_is_said():
    recording = unconv.Network(network(1)).record(noise(30, 40))
    assert recording.tape.image.shape == (1, 1, 224, 224)
    assert recording.preparation.picture == "colour picture converted to grey"


@pytest.mark.parametrize("channels", [4, 13])
def test_a_picture_for_other_channels_is_answered_with_what_to_pass(channels):
    with pytest.raises(unconv.ShapeError, match=rf"a picture of 3 channels came.*Pass an array \({channels}, H, W\)"):
        unconv.Network(network(channels)).record(noise(30, 40))


@pytest.mark.parametrize("last", [False, True])
def test_an_array_of_many_channels_is_taken_first_or_last(tmp_path, last):
    array = np.random.default_rng(0).standard_normal((13, 6, 7)).astype(np.float32)
    np.save(tmp_path / "array.npy", np.moveaxis(array, 0, -1) if last else array)
    model = unconv.Network(network(13))
    model.preprocess = Preprocess(mean=(1.0,) * 13, std=(2.0,) * 13)
    recording = model.record(tmp_path / "array.npy")
    assert torch.equal(recording.tape.image[0], (torch.from_numpy(array) - 1) / 2)
    assert recording.preparation.picture.endswith("channels last" if last else "channels first")


@pytest.mark.parametrize("axes, shape", [(1, (50,)), (3, (5, 6, 7))])
def test_signals_and_volumes_are_taken_from_arrays(axes, shape):
    array = np.random.default_rng(0).standard_normal(shape)
    recording = unconv.Network(network(1, axes)).record(array)
    assert torch.equal(recording.tape.image[0, 0], torch.from_numpy(array).float())
    with pytest.raises(unconv.ShapeError, match="takes no pictures"):
        unconv.Network(network(1, axes)).record(noise(6, 7))


@pytest.mark.slow
def test_hugging_faces_processors_are_taken_as_they_are():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 40})
    model = unconv.Network(network(3), preprocess=processor)
    assert (model.input_size, model.preparation.resize, model.preparation.std) == ((3, 32, 40), (32, 40), (0.5,) * 3)
    theirs = processor(images=noise(50, 60), return_tensors="pt")["pixel_values"]
    assert torch.equal(model.record(noise(50, 60)).tape.image, theirs)
