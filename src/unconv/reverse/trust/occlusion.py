"""Where a grey square hides what the projection shows, does the activation drop?

Source:
    Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (2014), fig. 7.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn

from unconv.pictures.boxes import cut
from unconv.reverse.model import Recording
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.tape.naming import named_modules
from unconv.reverse.tape.untouched import watched
from unconv.reverse.trust.sending import positions
from unconv.reverse.walking.stream import Units

_SQUARES = {1: 40, 2: 7, 3: 3}  # squares along each axis of a receptive field


@dataclass(frozen=True)
class Occlusion:
    """The effect of a grey square at positions all over the receptive field.

    Args:
        corners: (n, axes), each square's first sample in the image; `side`: its lengths.
        drops: (n,), how much the unit's activation drops for each square, as a share of it.
        energies: (n,), the share of the projection's energy (squared samples) that lies in each square.
        agreement: the rank correlation of the two (Spearman); None where one of them never varies.
    """

    corners: Tensor
    side: tuple[int, ...]
    drops: Tensor
    energies: Tensor
    agreement: float | None

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return drops and energies as maps with one sample for each square."""
        shape = [len(self.corners[:, axis].unique()) for axis in range(self.corners.shape[1])]
        return self.drops.view(shape), self.energies.view(shape)


def occlusions(recording: Recording, units: Units, projections: Reconstructions) -> list[Occlusion | None]:
    """Return the effect of a grey square on each unit, at positions on one lattice."""
    # The units share the lattice, so that the network runs once for each square and not for each unit.
    image = units.image
    sizes = image.shape[1:]
    visible_spans = [_visible(box, sizes) for box in units.boxes]
    spans = [max(max(end - start for start, end in (spans[axis] for spans in visible_spans)), 1) for axis in range(len(sizes))]
    steps = [max(1, -(-span // _SQUARES[len(spans)])) for span in spans]
    side = tuple(2 * step for step in steps)
    grey = image.flatten(1).mean(1).view(-1, *[1] * len(sizes))
    cache: dict[tuple[int, ...], Tensor] = {}  # of each square, the activations of the units
    units_at = (units.seeds.channels, *positions(units).unbind(1))
    results: list[Occlusion | None] = []
    for index, visible in enumerate(visible_spans):
        value = float(units.seeds.values[index])
        corners = list(product(*[_starts(start, end, step) for (start, end), step in zip(visible, steps, strict=True)]))
        if value == 0 or not corners:
            results.append(None)
            continue
        for corner in corners:
            if corner not in cache:
                cache[corner] = _activation(recording, _hidden(image, corner, side, grey), units)[units_at].cpu()
        drops = torch.tensor([1 - float(cache[corner][index]) / value for corner in corners], dtype=torch.float64)
        energies = torch.tensor([_energy(projections, index, corner, side) for corner in corners], dtype=torch.float64)
        total = float(projections.windows[index].double().square().sum()) or 1.0
        results.append(Occlusion(torch.tensor(corners), side, drops, energies / total, spearman(drops, energies)))
    return results


def _visible(box: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    axes = len(sizes)
    return [(max(a, 0), min(b, n)) for a, b, n in zip(box[:axes], box[axes:], sizes, strict=True)]


def _starts(start: int, end: int, step: int) -> list[int]:
    """Return the starts, on the lattice of `step`, of the squares two steps long that reach into start..end."""
    return list(range((start // step - 1) * step, end, step)) if end > start else []


def _hidden(image: Tensor, corner: Sequence[int], side: Sequence[int], grey: Tensor) -> Tensor:
    hidden = image.clone()
    hidden[(slice(None), *(slice(max(c, 0), max(c + n, 0)) for c, n in zip(corner, side, strict=True)))] = grey
    return hidden


def _energy(projections: Reconstructions, index: int, corner: Sequence[int], side: Sequence[int]) -> float:
    box = projections.boxes[index].tolist()
    shifts = box[: len(side)] * 2
    square = [*corner, *(c + n for c, n in zip(corner, side, strict=True))]
    inside = cut(projections.windows[index], [edge - shift for edge, shift in zip(square, shifts, strict=True)])
    return float(inside.double().square().sum())


def spearman(a: Tensor, b: Tensor) -> float | None:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    first, second = (_ranks(values) - (len(values) - 1) / 2 for values in (a, b))
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size else None


def _ranks(values: Tensor) -> Tensor:
    _, groups, counts = values.unique(return_inverse=True, return_counts=True)
    means = counts.cumsum(0).double() - (counts.double() + 1) / 2
    ranks: Tensor = means[groups]
    return ranks


class _Enough(Exception):
    """Ends the forward pass once the place is reached."""


def _activation(recording: Recording, image: Tensor, units: Units) -> Tensor:
    """Return a place's output (C, samples..) for another image; stop the network there if the place is a module."""
    model, place = recording.model, units.place.name
    module, here = dict(named_modules(model.module)).get(place), threading.get_ident()
    outputs: list[Tensor] = []

    def stop(ran: nn.Module, _args: Any, out: Any) -> None:
        if ran is module and threading.get_ident() == here and isinstance(out, Tensor):
            outputs.append(out.detach().clone())
            raise _Enough

    # A place that no module returns, or that a module returned again later, needs the whole recording.
    tape = recording.tape
    if module is None or place not in tape.modules or tape.as_map(tape.modules[place]) != units.route.value:
        return model.record(image, [place]).activation(place)
    handle = hooks.register_module_forward_hook(stop)
    try:
        with watched(model.module, model.others), torch.no_grad():
            model.call(image[None].clone())
    except _Enough:
        pass
    finally:
        handle.remove()
    if not outputs:
        return model.record(image, [place]).activation(place)
    return tape.arranged_output(place, outputs[0])[0]
