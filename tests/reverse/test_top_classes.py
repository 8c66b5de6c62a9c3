"""What the network says the picture shows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unconv
from unconv.box import demo_pictures
from unconv.networks.opened import Opened

IMAGE = torch.rand(3, 12, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def head(*ends, classes=()):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)]
    module = nn.Sequential(*body, *ends).double().eval()
    return unconv.Network(module, input_size=(3, 12, 14), opened=Opened(module, "mine", "as given", None, (3, 12, 14), classes))


def test_logits_are_shown_by_softmax_largest_first():
    network = head()
    scores = network.module(IMAGE[None])[0].softmax(0)
    found = network.top_classes(IMAGE, 3)
    assert [each.index for each in found] == scores.topk(3).indices.tolist()
    assert [each.score for each in found] == pytest.approx(scores.topk(3).values.tolist(), abs=1e-12)
    assert found.score == "softmax of the network's output"
    assert found[0].name == "" and found[0].label == f"class {found[0].index}"


@pytest.mark.parametrize(
    "end, words",
    [
        (nn.Softmax(1), "as the network gives them"),
        (nn.Sigmoid(), "as the network gives them"),
        (nn.LogSoftmax(1), "log-probabilities"),
    ],
)
def test_what_is_no_logits_is_not_taken_through_softmax(end, words):
    network = head(end)
    out = network.module(IMAGE[None])[0]
    found = network.top_classes(IMAGE, 6)
    right = (out.exp() if isinstance(end, nn.LogSoftmax) else out).sort(descending=True)
    assert [each.score for each in found] == pytest.approx(right.values.tolist(), abs=1e-12)
    assert words in found.score


def test_names_stand_where_there_is_one_for_each_score():
    assert head(classes=tuple("abcdef")).top_classes(IMAGE)[0].name in "abcdef"
    assert head(classes=tuple("abc")).top_classes(IMAGE)[0].name == ""


def test_scores_as_maps_of_one_sample_are_scores():
    network = head(nn.Unflatten(1, (6, 1, 1)))
    assert [each.index for each in network.top_classes(IMAGE)] == [each.index for each in head().top_classes(IMAGE)]


class Ends(nn.Module):
    def __init__(self, ending):
        super().__init__()
        self.body, self.ending = head().module, ending

    def forward(self, x):
        return self.ending(self.body(x), x)


@pytest.mark.parametrize(
    "ending, place",
    [
        (lambda scores, x: x[:, :2], None),  # maps
        (lambda scores, x: scores[:, :1], None),  # one number
        (lambda scores, x: {"logits": scores, "features": scores[:, :3]}, "output.logits"),
        (lambda scores, x: (scores, x), "output.0"),
        (lambda scores, x: (scores[:, :3], scores), None),  # which of them nobody says
        (lambda scores, x: scores.argmax(1, keepdim=True), None),
    ],
    ids=["maps", "number", "logits", "pair", "two vectors", "integers"],
)
def test_only_a_vector_of_scores_is_a_verdict(ending, place):
    network = unconv.Network(Ends(ending).double().eval(), input_size=(3, 12, 14))
    found = network.top_classes(IMAGE)
    assert (found and found.place) == place


def test_the_number_of_classes_is_at_least_one():
    with pytest.raises(unconv.ShapeError, match="n is 0, but at least 1"):
        head().top_classes(IMAGE, 0)


def test_the_network_in_the_box_knows_its_pictures():
    network = unconv.load("unconv:caltech")
    assert len(network.classes) == 101
    found = network.top_classes(demo_pictures()[0])
    assert found.numbers()["classes"][0]["name"] == found[0].name != ""
    assert found.text().startswith(f"{found[0].name} ") and repr(found).startswith("TopClasses(")
