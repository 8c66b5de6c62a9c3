"""Projections one by one, what they cost, and half precision with its error."""

from __future__ import annotations

import copy
from itertools import islice

import pytest
import torch
from PIL import Image
from torch import nn

import unconv
from cases import networks as cases
from cases.networks import NETWORKS
from unconv.errors import NoSuchLayer, PictureError, ShapeError
from unconv.reverse.bench import bench
from unconv.reverse.methods import DECONVNET
from unconv.reverse.places import find
from unconv.reverse.rules import KEEPERS
from unconv.reverse.rules.pool import max_pool
from unconv.reverse.seed import choose
from unconv.reverse.walking.cost import convolution_rate, operations


def small(size=(20, 26)):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()]
    return unconv.Network(nn.Sequential(*layers).eval(), input_size=(3, *size))


def image(seed=1, size=(20, 26)):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def test_a_stream_gives_what_project_gives():
    network, found = small(), {}
    stream = network.stream(image(), ["1", "4"])
    assert len(stream) == 20
    for projection in stream:
        found[projection.place.name, projection.unit] = projection
    assert len(found) == 20
    for place in ("1", "4"):
        for right in network.project(image(), place):
            mine = found[place, right.unit]
            assert (mine.value, mine.box) == (right.value, right.box)
            assert torch.allclose(mine.window, right.window, atol=1e-6 * float(right.window.abs().max()))


def test_without_places_it_takes_every_rectified_map():
    assert {projection.place.name for projection in small().stream(image())} == {"1", "4"}
    with pytest.raises(NoSuchLayer, match="no rectified convolution"):
        unconv.Network(nn.Conv2d(3, 2, 3), input_size=(3, 9, 9)).stream(torch.rand(3, 9, 9))


def test_several_pictures_give_the_same_as_one_at_a_time():
    network, images = small(), [image(seed) for seed in range(3)]
    together = network.stream(images, "4", "top:5")
    assert len(together) == 15
    apart = [projection for one in images for projection in network.stream(one, "4", "top:5")]
    for a, b in zip(together, apart, strict=True):
        assert a.unit == b.unit and torch.equal(a.window, b.window) and torch.equal(a.image, b.image)


def test_each_projection_knows_its_picture(tmp_path):
    names = [str(tmp_path / f"{number}.png") for number in range(2)]
    for name in names:
        Image.new("RGB", (26, 20), "navy").save(name)
    found = list(small().stream([names[0], image(), names[1]], "4", "top:2"))
    assert [one.picture for one in found] == [0, 0, 1, 1, 2, 2]
    assert [one.key for one in found] == [names[0]] * 2 + [""] * 2 + [names[1]] * 2


DAMAGED = [[0], [2], [0, 1, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("which", DAMAGED, ids=str)
def test_damaged_pictures_are_left_out_on_request_and_listed(tmp_path, which):
    pictures = []
    for number in range(4):
        pictures.append(tmp_path / f"{number}.png")
        Image.new("RGB", (26, 20), (60 * number, 90, 30)).save(pictures[-1])
        if number in which:
            pictures[-1].write_bytes(pictures[-1].read_bytes()[:60])
    stream = small().stream(pictures, "4", "top:2", skip_damaged=True)
    for _ in range(2):  # it can be gone through again
        found = list(stream)
        assert [one.picture for one in found] == [number for number in range(4) if number not in which for _ in range(2)]
        assert [picture for picture, _ in stream.damaged] == [pictures[number] for number in which]
        assert all(isinstance(error, PictureError) for _, error in stream.damaged)
        assert len(stream) == len(found) and stream.progress == 1
    with pytest.raises(PictureError, match=f"{which[0]}.png"):
        list(small().stream(pictures, "4", "top:2"))


def test_what_is_wrong_with_the_request_is_no_damage():
    with pytest.raises(NoSuchLayer):
        small().stream([image(), image()], "9", skip_damaged=True)


def test_progress_runs_from_nothing_to_all():
    stream = small().stream([image(), image(2)], ["1", "4"])
    seen = [stream.progress]
    for _ in stream:
        seen.append(stream.progress)
    assert seen == sorted(seen) and seen[0] == 0 and stream.progress == pytest.approx(1)


def test_a_stream_can_be_left_and_gone_through_again():
    stream = small().stream(image(), "4")
    first = [projection.unit for projection in islice(stream, 3)]
    assert [projection.unit for projection in islice(stream, 3)] == first
    assert not torch.is_inference_mode_enabled()
    assert len(list(small().stream([]))) == 0


def test_what_is_wrong_is_said_before_the_first_projection():
    with pytest.raises(NoSuchLayer):
        small().stream(image(), "9")
    with pytest.raises(ShapeError, match="memory"):
        small().project(image(), "4", memory=0)


def test_what_comes_back_is_the_users_own_to_change():
    window = small().project(image(), "4").windows[0]
    window.mul_(2)
    window.clone().requires_grad_(True).sum().backward()


def counted(layers, image, channel, position, place):
    """Multiplications and additions along the way of one unit, sample by sample."""
    network = unconv.Network(nn.Sequential(*layers).eval(), input_size=tuple(image.shape))
    outputs = [image[None]]
    for layer in layers:
        outputs.append(layer(outputs[-1]))
    sizes = [output.shape[2:] for output in outputs]
    alive, total, single = {tuple(position)}, 0, True
    for index in reversed(range(place + 1)):
        layer, size = layers[index], sizes[index]
        if isinstance(layer, nn.ReLU):
            continue
        kernel, stride = (n if isinstance(n, int) else n[0] for n in (layer.kernel_size, layer.stride))
        pad = layer.padding if isinstance(layer.padding, int) else layer.padding[0]
        if isinstance(layer, nn.Conv2d):
            total += 2 * len(alive) * layer.weight.numel() / (layer.out_channels if single else 1)
            single = False
        taps = [(a, b) for a in range(kernel) for b in range(kernel)]
        below = {(y * stride - pad + a, x * stride - pad + b) for y, x in alive for a, b in taps}
        alive = {(y, x) for y, x in below if 0 <= y < size[0] and 0 <= x < size[1]}
    tape = network.record(image, [str(place)]).tape
    return network, tape, total


@pytest.mark.parametrize("position", [(0, 0), (2, 3), (4, 6), (3, 0)])
def test_operations_are_those_of_the_samples_on_the_map(position):
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 5, 3, 1, 1)]
    layers = [*convs, nn.ReLU()]
    _, tape, right = counted(layers, image(3, (11, 14)), 2, position, 5)
    _, value = find(tape, "5")
    seeds = choose(tape.kept[value.index][0], [2], position)
    assert operations(tape, value, DECONVNET, seeds).tolist() == [right]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_cost(name):
    case = NETWORKS[name]
    network = unconv.Network(cases.network(name), input_size=(case.channels, *case.size))
    recording = network.record(cases.image(name), case.modules)
    costs = [float(recording.units(module, "top:1").operations.sum()) for module in case.modules]
    assert 0 <= costs[0] <= costs[1] <= costs[2] and costs[2] > 0
    whole = recording.units(case.modules[2], "top:1", "map").operations
    assert float(whole.sum()) >= costs[2]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_says_what_it_cost(dtype):
    network, picture = small(), image()
    full, half = network.project(picture, "4"), network.project(picture, "4", dtype=dtype)
    assert full.error is None and 0 < half.error < 0.02
    assert half.units == full.units and half.windows[0].dtype == torch.float32
    largest = 0.0
    for a, b in zip(half, full, strict=True):
        assert a.error == half.error
        largest = max(largest, float((a.window - b.window).abs().max() / b.window.abs().max()))
    assert half.error <= largest * 1.0001
    assert half[:2].error == half.error and half.numbers()["error"] == half.error


def test_switches_are_those_of_the_full_forward_pass():
    network, picture = small(), image()
    before = copy.deepcopy(network.record(picture, ["4"]).tape.steps[2].kept)
    recording = network.record(picture, ["4"])
    recording.project("4", dtype="bfloat16")
    assert torch.equal(recording.tape.steps[2].kept, before)


@pytest.mark.slow
def test_the_convolution_rate_is_a_rate():
    assert 1e8 < convolution_rate(torch.float32, torch.device("cpu"), rounds=1) < 1e14


@pytest.mark.slow
def test_bench_adds_up():
    numbers = bench(small(), image())
    assert [row["place"] for row in numbers["places"]] == ["1", "4"]
    assert numbers["total"]["units"] == 20 and numbers["dtype"] == "float32"
    assert all(row["error"] is None for row in numbers["places"])
    for key in ("seconds", "gflop"):
        assert numbers["total"][key] == pytest.approx(sum(row[key] for row in numbers["places"]))


@pytest.mark.slow
def test_no_channels_are_no_projections():
    network = small()
    assert list(network.stream(image(), "4", channels=[])) == []
    assert bench(network, image(), ["4"], [])["total"]["units"] == 0


@pytest.mark.parametrize("memory", [0, -1, 1e6, "much"])
def test_memory_is_a_whole_number_of_bytes(memory):
    with pytest.raises(ShapeError, match="memory"):
        small().project(image(), "4", memory=memory)


def test_a_type_of_one_byte_is_refused():
    with pytest.raises(ShapeError, match="dtype"):
        small().project(image(), "4", dtype="float8_e5m2")


@pytest.mark.parametrize("trace", [False, True])
def test_a_place_before_the_first_convolution_keeps_its_channel(trace):
    network = unconv.Network(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)).eval(), input_size=(3, 9, 9))
    (pixels,) = network.project(image(2, (9, 9)), "0", [1], trace=trace).pixels()
    assert pixels[1].any() and not pixels[0].any() and not pixels[2].any()


def test_a_pool_with_another_rule_is_not_taken_for_ours():
    operation, kept = torch.ops.aten.max_pool2d_with_indices.default, []

    def negated(step, r, _switches):
        kept.append(step.kept)
        return max_pool(step, r, None).map(torch.neg)

    mine = unconv.Rules("deconvnet")
    mine.rule(operation, keep=KEEPERS[operation])(negated)
    found = small().project(image(), "4", "top:3", method=mine)
    traced = small().project(image(), "4", "top:3", method=mine, trace=True)
    usual = small().project(image(), "4", "top:3")
    assert all(isinstance(switches, torch.Tensor) for switches in kept)
    for a, b, c in zip(found.windows, traced.windows, usual.windows, strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)


def test_half_precision_of_what_lies_in_the_padding_has_no_error():
    network = unconv.Network(nn.Sequential(nn.Conv2d(3, 8, 1, padding=1)).eval(), input_size=(3, 9, 9))
    mask = torch.zeros(11, 11, dtype=torch.bool)
    mask[0, 0] = True
    assert network.project(image(2, (9, 9)), "0", [1], mask, dtype="bfloat16").error == 0


def test_a_request_gives_what_its_arguments_give_one_by_one():
    recording = small().record(image(), ["4"])
    request = unconv.Request(channels="top:2", unit="map", method="guided", trace=True)
    once, each = recording.requested("4", request).all(), recording.project("4", "top:2", "map", "guided", trace=True)
    assert once.units == each.units and torch.equal(once.pixels(), each.pixels())
    assert [len(one.signals) for one in once] == [len(one.signals) for one in each] != [0, 0]
