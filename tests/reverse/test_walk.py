"""Batches that are cut on their way: the same numbers, in the room there is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unconv
from cases import networks as cases
from cases.networks import NETWORKS
from oracles.reverse import one_unit, projection
from unconv.errors import UnconvError
from unconv.reverse.methods import METHODS
from unconv.reverse.places import find
from unconv.reverse.walking import journey
from unconv.reverse.walking.cutting import best_cut, cut
from unconv.reverse.walking.walk import Route, walk_apart
from unconv.reverse.window import Window

law = settings(deadline=None, max_examples=100, derandomize=True)


@st.composite
def windows(draw):
    """What units have inside their windows: first and end along one to three axes."""
    axes, count = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    first = torch.tensor(
        draw(st.lists(st.lists(st.integers(0, 8), min_size=axes, max_size=axes), min_size=count, max_size=count))
    )
    more = torch.tensor(
        draw(st.lists(st.lists(st.integers(1, 9), min_size=axes, max_size=axes), min_size=count, max_size=count))
    )
    return first, first + more


def hull(first, end):
    return int((end.amax(0) - first.amin(0)).prod())


@pytest.mark.slow
@law
@given(windows(), st.integers(1, 4000), st.integers(0, 40), st.sampled_from([None, 1, 30, 1000]))
def test_parts_hold_every_unit_once_and_fit_the_room(case, room, standing, price):
    first, end = case
    parts = list(cut(torch.arange(len(first)), first, end, room, standing, 4, price))
    assert sorted(unit for part in parts for unit in part.tolist()) == list(range(len(first)))
    for part in parts:
        assert len(part) == 1 or len(part) * (standing + 4 * hull(first[part], end[part])) <= room


@pytest.mark.slow
@law
@given(windows())
def test_a_cut_saves_what_it_says(case):
    first, end = case
    order, at, gain = best_cut(first, end)
    assert sorted(order.tolist()) == list(range(len(first)))
    if gain:
        apart = sum(len(part) * hull(first[part], end[part]) for part in (order[:at], order[at:]))
        assert len(first) * hull(first, end) - apart == gain


def test_with_room_units_that_stand_alike_stay_together_and_others_part():
    first = torch.tensor([[0, 0], [0, 0], [5, 0], [5, 0]])
    end = first + 4
    parts = list(cut(torch.arange(4), first, end, 10**9, 0, 4, 10))
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3]]
    assert len(list(cut(torch.arange(4), first, end, 10**9, 0, 4, 10**6))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["strongest", "map"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_memory_gives_the_same_numbers(name, unit):
    case = NETWORKS[name]
    network = unconv.Network(cases.network(name), input_size=(case.channels, *case.size))
    module = case.modules[1]
    recording = network.record(cases.image(name), [module])
    much, little = (recording.project(module, "top:9", unit, memory=memory) for memory in (None, 1))
    assert much.units == little.units
    for a, b in zip(much.pixels(), little.pixels(), strict=True):
        assert float((a - b).abs().max()) <= 1e-11 * float(a.abs().max().clamp(min=1e-300))


def test_rectifying_before_unpooling_is_the_same_and_is_only_done_where_it_is_allowed():
    def order(method, *layers):
        network = unconv.Network(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), *layers).eval().double(), input_size=(3, 24, 31))
        tape = network.record(torch.randn(3, 24, 31, generator=torch.Generator().manual_seed(3)), ["3"]).tape
        route = Route(tape, find(tape, "3")[1], METHODS[method], torch.float64)
        return route, [step.kind for step in route.quick_steps]

    relu, last = torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)
    changed = ["conv", "relu", "max_pool2d", "conv"]
    route, kinds = order("deconvnet", relu, torch.nn.MaxPool2d(2), last)
    assert kinds == changed and [step.kind for step in route.steps] == ["conv", "max_pool2d", "relu", "conv"]
    assert order("gradient", relu, torch.nn.MaxPool2d(2), last)[1] != changed
    assert order("deconvnet", relu, torch.nn.MaxPool2d(3, 2), last)[1] != changed
    seed = torch.zeros(1, *route.value.shape[1:], dtype=torch.float64)
    seed[0, 1, 2, 3] = 1
    ((_, quick),) = walk_apart(route, Window(seed), None)
    ((_, slow),) = walk_apart(route, Window(seed), None, lambda *_: None)
    assert torch.equal(quick.values, slow.values) and quick.values.any()


class Twice(torch.nn.Module):
    """What is pooled is used a second time, so that the rectifier must wait for both."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 4, 3)

    def forward(self, x):
        y = self.first(x).relu()
        return self.last(torch.nn.functional.max_pool2d(y, 2) + torch.nn.functional.avg_pool2d(y, 2))


def test_a_rectifier_waits_for_what_joins_before_it():
    model = Twice().double().eval()
    network = unconv.Network(model, input_size=(3, 18, 22))
    image = torch.randn(1, 3, 18, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = network.project(image, "last", "top:3")
    for unit, mine in zip(found.units, found.pixels(), strict=True):
        right = projection(model, image, "last", one_unit(unit), "deconvnet")
        assert float((mine - right).abs().max()) < 1e-12 * float(right.abs().max())


@pytest.mark.slow
def test_the_signal_on_the_way_is_the_same_in_parts():
    case = NETWORKS["vgg"]
    network = unconv.Network(cases.network("vgg"), input_size=(3, *case.size))
    recording = network.record(cases.image("vgg"), [case.modules[2]])
    much, little = (recording.project(case.modules[2], "top:7", trace=True, memory=memory) for memory in (None, 1))
    for a, b in zip(much.signals, little.signals, strict=True):
        assert [signal.place for signal in a] == [signal.place for signal in b]
        for one, other in zip(a, b, strict=True):
            assert torch.allclose(one.energy, other.energy, rtol=1e-5)


def small():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 12, 3)]
    return unconv.Network(torch.nn.Sequential(*layers).eval(), input_size=(3, 30, 30))


def failing(monkeypatch, times, after=5):
    """The walk runs out of memory `times` times, each after some parts."""
    walk, left = journey.walk_apart, [times]

    def short(*arguments):
        for count, part in enumerate(walk(*arguments)):
            if count == after and left[0]:
                left[0] -= 1
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            yield part

    monkeypatch.setattr(journey, "walk_apart", short)


def test_memory_that_runs_out_once_makes_the_parts_smaller_with_a_note(monkeypatch):
    network, image = small(), torch.randn(3, 30, 30, generator=torch.Generator().manual_seed(1))
    whole = network.project(image, "3")
    failing(monkeypatch, 1)
    with pytest.warns(UserWarning, match="memory ran out; continuing in parts"):
        again = network.project(image, "3", memory=8)
    assert torch.allclose(again.pixels(), whole.pixels(), atol=1e-6)


def test_memory_that_runs_out_twice_is_said_and_so_is_what_to_do(monkeypatch):
    failing(monkeypatch, 2, after=1)
    with pytest.warns(UserWarning), pytest.raises(UnconvError, match=r"also in smaller parts.*smaller picture"):
        small().project(torch.randn(3, 30, 30), "3", memory=8)


def test_other_errors_are_not_taken_for_it(monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")
        yield

    monkeypatch.setattr(journey, "walk_apart", broken)
    with pytest.raises(RuntimeError, match="something else"):
        small().project(torch.randn(3, 30, 30), "3")
