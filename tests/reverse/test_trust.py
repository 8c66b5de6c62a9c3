"""How far a projection is to be trusted: known answers on networks made for them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import unconv
from unconv import box
from unconv.reverse.trust import Occlusion, Trust
from unconv.reverse.trust.occlusion import spearman


def network(*layers: nn.Module, size=(3, 24, 20)) -> unconv.Network:
    torch.manual_seed(0)
    return unconv.Network(nn.Sequential(*layers).eval(), input_size=size)


@pytest.mark.parametrize("bias", [9.0, -9.0], ids=["active", "negative"])
def test_channels_with_one_filter_give_one_picture(bias):
    torch.manual_seed(1)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3)
    second.weight.data = second.weight.data[:1].repeat(8, 1, 1, 1)
    second.bias.data.fill_(bias)
    net = network(first, nn.ReLU(), second)
    (found,) = net.trust(torch.rand(3, 24, 20), "2", channels=3, unit=(8, 8))
    assert found.compared == 7
    assert found.others == pytest.approx(1)
    assert found.seeded == pytest.approx(1)
    assert "It depends little on the unit chosen" in " ".join(found.words())


def test_channels_that_see_other_samples_give_pictures_with_nothing_in_common():
    conv = nn.Conv2d(1, 9, 3, bias=False)
    conv.weight.data = torch.eye(9).view(9, 1, 3, 3)
    (found,) = network(conv, size=(1, 12, 12)).trust(torch.rand(1, 12, 12) + 1, "0", channels=4)
    assert found.others == 0
    assert "It is the unit's own." in " ".join(found.words())


def test_shuffled_weights_are_those_of_a_copy_from_the_unit_down():
    net = network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3))
    before = copy.deepcopy(net.module.state_dict())
    image, random = torch.rand(3, 24, 20), torch.get_rng_state()
    found = net.trust(image, "4", channels=[0, 1])
    assert [layer for layer, _ in found[0].shuffled] == ["2", "0"]
    assert all(-1 <= cosine <= 1 for one in found for _, cosine in one.shuffled)
    assert all(torch.equal(before[key], value) for key, value in net.module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_weights_that_shuffling_cannot_change_leave_the_picture_as_it_was():
    conv = nn.Conv2d(1, 2, 3)
    conv.weight.data.fill_(0.5)
    (found,) = network(conv, nn.ReLU(), size=(1, 9, 9)).trust(torch.rand(1, 9, 9), "1", channels=0)
    assert found.shuffled == (("0", pytest.approx(1)),)


def test_the_square_that_hides_what_the_unit_sees_takes_the_activation_away():
    conv = nn.Conv2d(1, 1, 7, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 3, 3] = 1  # it sees the middle of its field alone
    image = torch.zeros(1, 15, 15)
    image[0, 7, 7] = 1
    (found,) = network(conv, size=(1, 15, 15)).trust(image, "0", unit=(4, 4))
    occlusion = found.occlusion
    assert occlusion.side == (2, 2)
    hides = ((occlusion.corners <= 7) & (occlusion.corners + 2 > 7)).all(1)
    assert hides.any() and bool((occlusion.drops[hides] > 0.9).all()) and not occlusion.drops[~hides].any()
    assert torch.equal(occlusion.energies > 0, hides)
    assert occlusion.agreement == pytest.approx(1)
    drops, energies = occlusion.maps()
    assert drops.shape == energies.shape == (8, 8)


def test_the_whole_network_runs_where_the_place_is_no_module():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x) * 2

    torch.manual_seed(0)
    model = Doubled().eval()
    (by_place,) = unconv.Network(model, input_size=(3, 9, 9)).trust(torch.rand(3, 9, 9), "mul", channels=1)
    assert by_place.occlusion.agreement is not None


def test_a_unit_that_is_not_active_has_no_occlusion():
    net = network(nn.Conv2d(1, 1, 3), nn.ReLU(), size=(1, 9, 9))
    net.module[0].bias.data.fill_(-9)
    (found,) = net.trust(torch.rand(1, 9, 9), "1")
    assert found.occlusion is None and math.isnan(found.others) and found.compared == 0
    assert any("not active" in words for words in found.words())


def test_maps_and_regions_are_refused():
    with pytest.raises(unconv.ShapeError, match="trust: a map, a region or all channels together came"):
        network(nn.Conv2d(3, 2, 3)).trust(torch.rand(3, 24, 20), "0", unit="map")


def test_a_vector_s_entry_is_a_unit():
    found = network(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 22 * 18, 5)).trust(
        torch.rand(3, 24, 20), "3", "top:2"
    )
    assert len(found) == 2 and found[0].compared == 4


@pytest.mark.parametrize(
    "a, b, right", [([1, 2, 3], [2, 4, 9], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 1, 2], [5, 5, 9], 1), ([1, 1], [2, 3], None)]
)
def test_rank_correlations(a, b, right):
    found = spearman(torch.tensor(a).double(), torch.tensor(b).double())
    assert found == (right if right is None else pytest.approx(right))


def test_words_grade_what_was_measured():
    occlusion = Occlusion(torch.zeros(4, 2), (2, 2), torch.zeros(4), torch.zeros(4), 0.1)
    words = " ".join(Trust((0, 1, 1), 0.5, 16, 0.5, (("b", 0.9), ("a", 0.1)), occlusion).words())
    assert "Part of it is what any unit here would show." in words
    assert "What that layer learned hardly shows in it." in words
    assert "does not reliably drop (rank correlation 0.10)" in words


@pytest.mark.slow
@pytest.mark.skipif(not box.WEIGHTS.is_file(), reason="the network in the box is not trained yet")
def test_deep_pictures_depend_less_on_the_unit_than_early_ones():
    from unconv.box import demo_pictures

    net = unconv.load("unconv:caltech")
    early, deep = (net.trust(demo_pictures()[1], place, "top:2") for place in ("features.1", "features.23"))
    assert max(one.others for one in early) < 0.4 < min(one.others for one in deep)


def test_layers_with_other_names_than_their_operations_are_shuffled_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1))

        def forward(self, x):
            return self.normed(self.normed(x).relu())

    torch.manual_seed(0)
    (found,) = unconv.Network(Named().eval(), input_size=(3, 9, 9)).trust(torch.rand(3, 9, 9), "output", channels=1)
    assert [layer for layer, _ in found.shuffled] == ["normed"]


def test_numbers_of_a_single_channel_are_json():
    (found,) = network(nn.Conv2d(3, 1, 3)).trust(torch.rand(3, 24, 20), "0")
    assert found.numbers()["other_channels"] is None


def test_a_model_that_cannot_be_copied_is_refused():
    class Single(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise AssertionError("one of a kind")

    with pytest.raises(unconv.ModelError, match="cannot be copied, to have its weights shuffled: one of a kind"):
        network(Single(3, 2, 3)).trust(torch.rand(3, 24, 20), "0")
