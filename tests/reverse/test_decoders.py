"""What each unit of a decoder or a wrapped network sees, against autograd: at the map's border as in its middle."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import unconv
from cases.decoders import DECODERS, picture, positive
from unconv.reverse.methods import GRADIENT
from unconv.reverse.model import Recording
from unconv.reverse.receptive_field import ReceptiveField
from unconv.reverse.tape.step import Value
from unconv.reverse.walking.walk import Route, walk_apart
from unconv.reverse.window import Window

every_decoder = pytest.mark.parametrize("name", DECODERS)


@cache
def jacobian(name: str) -> tuple[Tensor, Tensor]:
    """(units, axes) of positions, and (units, C, samples..): what autograd sends from each unit of the first channel."""
    network, x = positive(DECODERS[name].build()), picture(DECODERS[name].shape).requires_grad_(True)
    units = network(x)[0, 0]
    rows = [torch.autograd.grad(unit, x, retain_graph=True)[0][0] for unit in units.flatten()]
    return torch.ones_like(units).nonzero(), torch.stack(rows)


@cache
def recorded(name: str) -> tuple[Recording, Value]:
    shape = DECODERS[name].shape
    recording = unconv.Network(positive(DECODERS[name].build()), input_size=shape).record(picture(shape)[0])
    return recording, recording.tape.modules[""]


def field(name: str) -> ReceptiveField:
    recording, value = recorded(name)
    return recording.receptive_fields("gradient")[value.index]


def hulls(name: str) -> tuple[Tensor, Tensor]:
    """(units, axes): the first sample that each unit reaches, and the end."""
    _, rows = jacobian(name)
    reached = rows.abs().sum(1) > 0
    axes = range(1, reached.ndim)
    lines = [reached.amax([k for k in axes if k != axis]) if reached.ndim > 2 else reached for axis in axes]
    firsts = [line.int().argmax(1) for line in lines]
    ends = [line.shape[1] - line.flip(1).int().argmax(1) for line in lines]
    none = ~reached.flatten(1).any(1)
    return tuple(torch.stack([part.masked_fill(none, 0) for part in side], 1) for side in (firsts, ends))


@every_decoder
def test_a_box_holds_all_that_its_unit_sees_and_in_the_middle_no_more(name):
    first, end = hulls(name)
    sizes = torch.tensor(DECODERS[name].shape[1:])
    positions, sees, inner = jacobian(name)[0], field(name), 0
    for position, a, b in zip(positions.tolist(), first, end, strict=True):
        box = torch.tensor(sees.box(position, position)).view(2, -1)
        cut = box.clamp(min=0).minimum(sizes)
        if (a < b).all():
            assert ((cut[0] <= a) & (b <= cut[1])).all(), (position, a, b, box)
        if ((a > 0) & (b < sizes) & (box[0] > 0) & (box[1] < sizes)).all():
            inner += 1
            assert (box[0] == a).all() and (box[1] == b).all(), (position, a, b, box)
    assert inner or "vector" in name


@every_decoder
def test_windows_of_all_units_are_what_autograd_sends(name):
    recording, value = recorded(name)
    positions, right = jacobian(name)
    one = torch.zeros(len(positions), value.shape[1], *[1] * positions.shape[1], dtype=torch.float64)
    one[:, 0] = 1
    route = Route(recording.frozen("gradient").tape, value, GRADIENT, torch.float64)
    for room in (None, 2**14, 2**30):
        found = torch.zeros_like(right)
        for units, arrived in walk_apart(route, Window(one, positions), room):
            if arrived is not None:
                found[units] = arrived.full_map(recording.tape.image.shape).values
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12 * float(right.abs().max()))
