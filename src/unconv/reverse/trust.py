"""How far a projection is to be trusted: what of it is the unit's own, and does hiding it silence the unit.

Three questions. Do other channels at the same place, and a random seed there, give the same picture? Does
the picture change when the weights are shuffled, layer by layer from the unit down? And where a grey square
hides what the projection shows, does the activation drop?

Source:
    Adebayo et al., "Sanity Checks for Saliency Maps" (2018), sec. 3; Zeiler & Fergus (2014), fig. 7;
    Nie et al., "A Theoretical Explanation for Perplexing Behaviors" (2018).
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.modules.module as hooks
from torch import Tensor, nn

from unconv.errors import ModelError, ShapeError
from unconv.pictures.boxes import cut
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.seed import Name
from unconv.reverse.walking.stream import Units
from unconv.reverse.walking.walk import Route, walk_apart
from unconv.reverse.window import Window

if TYPE_CHECKING:
    from unconv.reverse.network import Network, Recording

_OTHERS, _STAGES = 16, 5  # channels compared; recordings with shuffled weights
_SQUARES = {1: 40, 2: 7, 3: 3}  # squares along each axis of a field
_ROOM = 32 * 2**20


@dataclass(frozen=True)
class Occlusion:
    """A grey square slid over the receptive field.

    Args:
        corners: (n, axes), each square's first sample in the image; `side`: its lengths.
        drops: (n,), how much of the unit's activation each took away, as a share of it.
        energies: (n,), the share of the projection's squared samples that lies in it.
        agreement: the rank correlation of the two (Spearman); None where one of them never varies.
    """

    corners: Tensor
    side: tuple[int, ...]
    drops: Tensor
    energies: Tensor
    agreement: float | None

    def maps(self) -> tuple[Tensor, Tensor]:
        """Drops and energies as maps, one sample a square."""
        shape = [len(self.corners[:, axis].unique()) for axis in range(self.corners.shape[1])]
        return self.drops.view(shape), self.energies.view(shape)


@dataclass(frozen=True)
class Trust:
    """How far the projection of one unit is to be trusted.

    Args:
        unit: (channel, y, x).
        others: the mean cosine of the angle between this projection and those of other channels at the same
            place; 1: the same picture. NaN if there are none.
        compared: how many.
        seeded: the same for a random seed over all channels there.
        shuffled: from the top down, each (layer, cosine) with the weights of all layers from the unit's own
            down to it shuffled.
        occlusion: what hiding parts of the receptive field does; None if the unit is not active.
    """

    unit: Name
    others: float
    compared: int
    seeded: float
    shuffled: tuple[tuple[str, float], ...]
    occlusion: Occlusion | None

    def words(self) -> list[str]:
        """What this says, in sentences."""
        return list(_sentences(self))

    def numbers(self) -> dict[str, Any]:
        """Ready for JSON."""
        occlusion = self.occlusion
        return {
            "other_channels": self.others if self.compared else None,
            "compared": self.compared,
            "random_seed": self.seeded,
            "shuffled_weights": [{"down_to": layer, "similarity": cosine} for layer, cosine in self.shuffled],
            "occlusion_agreement": occlusion.agreement if occlusion else None,
            "squares": len(occlusion.drops) if occlusion else 0,
            "words": self.words(),
        }


def _sentences(found: Trust) -> Iterator[str]:
    if found.compared:
        yield (
            f"Projections of {found.compared} other channels at the same place are like this one by {found.others:.2f} on "
            f"average, that of a random seed by {found.seeded:.2f} (cosine; 1 is the same picture). "
            + _graded(
                found.others,
                "It depends little on the unit chosen: do not read it as what this channel looks for.",
                "Part of it is what any unit here would show.",
                "It is the unit's own.",
            )
        )
    if found.shuffled:
        (top, first), (bottom, last) = found.shuffled[0], found.shuffled[-1]
        further = f", with those of all layers down to {bottom} by {last:.2f}" if bottom != top else ""
        yield f"With the weights of {top} shuffled, the picture is like this one by {first:.2f}{further}. " + _graded(
            first,
            "What that layer learned hardly shows in it.",
            "What that layer learned is a part of it.",
            "What that layer learned makes it.",
        )
    if found.occlusion is None:
        yield "The unit is not active, so that hiding parts of the picture tells nothing."
    elif found.occlusion.agreement is None:
        yield "Hiding parts of the picture changes the activation nowhere, or everywhere alike."
    else:
        agreement, count = found.occlusion.agreement, len(found.occlusion.drops)
        yield (
            f"A grey square at {count} places: where it hides what the projection shows, the activation "
            + _graded(agreement, "drops", "tends to drop", "does not reliably drop")
            + f" (rank correlation {agreement:.2f})."
        )


def _graded(value: float, high: str, middle: str, low: str) -> str:
    return high if value > 0.6 else middle if value > 0.3 else low


def trust(recording: Recording, units: Units, found: Reconstructions) -> Iterator[Trust]:
    """Of each projection of a place, how far it is to be trusted.

    Args:
        units: what was projected; `found`: what came back.
    """
    refuse_regions(units)
    if not len(found):
        return
    seeded = [_others(units, index, found) for index in range(len(found))]
    stages = list(_shuffled(recording, units, found))
    occluded = _occluded(recording, units, found)
    for index, ((others, compared, random), occlusion) in enumerate(zip(seeded, occluded, strict=True)):
        shuffled = tuple((layer, cosines[index]) for layer, cosines in stages)
        yield Trust(units.seeds.units[index], others, compared, random, shuffled, occlusion)


def refuse_regions(units: Units) -> None:
    """Trust is a matter of single units."""
    if units.seeds.positions is None:
        raise ShapeError("trust: maps and regions are no single units. Pass unit='strongest' or a position.")


# -- other units ------------------------------------------------------------------------------------


def _others(units: Units, index: int, found: Reconstructions) -> tuple[float, int, float]:
    """The mean likeness to other channels' projections at a unit's place, of how many, and to a random seed's."""
    count = len(units.seeds.activation)
    chosen = torch.linspace(0, count - 1, min(count, _OTHERS + 1)).round().long().unique()
    chosen = chosen[chosen != units.seeds.channels[index]][:_OTHERS]
    seeds = torch.zeros(len(chosen) + 1, count, dtype=units.route.dtype)
    seeds[torch.arange(len(chosen)), chosen] = 1.0
    seeds[-1] = torch.rand(count, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
    if float(units.seeds.values[index]) < 0:  # a negative seed goes back another way than a positive one
        seeds = -seeds
    arrived = _sent(units.route, seeds, _position(units, index), units.boxes[index])
    *likenesses, random = [_cosine(signal, found.windows[index]) for signal in arrived]
    mean = sum(likenesses) / len(likenesses) if likenesses else float("nan")
    return mean, len(likenesses), random


def _positions(units: Units) -> Tensor:
    assert units.seeds.positions is not None
    return units.seeds.positions


def _position(units: Units, index: int) -> Tensor:
    return _positions(units)[index : index + 1]


def _sent(route: Route, seeds: Tensor, position: Tensor, box: Sequence[int]) -> list[Tensor]:
    """What seeds (n, C) at one position send to the image, each in `box`."""
    axes = position.shape[1]
    values = seeds.to(route.tape.image.device).view(*seeds.shape, *[1] * axes)
    window = Window(values, position.expand(len(seeds), -1) if axes else None)
    spans = len(box) // 2
    lengths = [end - start for start, end in zip(box[:spans], box[spans:], strict=True)]
    found = [torch.zeros(0)] * len(seeds)
    with torch.inference_mode():
        for numbers, arrived in walk_apart(route, window, _ROOM):
            for at, number in enumerate(numbers.tolist()):
                if arrived is None:
                    found[number] = values.new_zeros(route.tape.image.shape[1], *lengths)
                else:
                    found[number] = arrived.units(slice(at, at + 1)).framed(torch.tensor([box[:spans]]), lengths).values[0]
    return found


def _cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the angle between two signals; 0 where one is nothing."""
    a, b = a.double().flatten(), b.double().flatten()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 0.0


# -- shuffled weights -------------------------------------------------------------------------------


def _shuffled(recording: Recording, units: Units, found: Reconstructions) -> Iterator[tuple[str, list[float]]]:
    """Of some layers, from the top down: its name, and each projection's likeness with all weights down to it shuffled."""
    network = recording.network
    layers = _layers(network.module, units.route)
    if not layers:
        return
    twin = copy.copy(network)
    try:
        twin.module = copy.deepcopy(network.module)
    except Exception as error:  # whatever a module of the user's has against being copied
        raise ModelError(f"trust: {network.name} cannot be copied, to have its weights shuffled: {error}.") from error
    stops = torch.linspace(0, len(layers) - 1, min(_STAGES, len(layers))).round().long().unique().tolist()
    generator = torch.Generator().manual_seed(0)
    for number, layer in enumerate(layers):
        for weight in twin.module.get_submodule(layer).parameters():
            if weight.ndim > 1:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.data = weight.data.flatten()[order].view(weight.shape)
        if number in stops:
            yield layer, _likenesses(twin, recording, units, found)


def _layers(module: nn.Module, route: Route) -> list[str]:
    """The layers with weights on the way, from the unit down."""
    modules = dict(module.named_modules())
    places = dict.fromkeys(step.place for step in route.steps if step.kind in ("conv", "linear"))
    return [name for name in dict.fromkeys(_owner(place, modules) for place in places) if name is not None]


def _owner(place: str, modules: Mapping[str, nn.Module]) -> str | None:
    """The module that a place belongs to and that has weights: `conv`, for `conv`, `conv_1` and `conv.linear`."""
    for name in (place, re.sub(r"_\d+$", "", place), place.rpartition(".")[0]):
        if name in modules and any(weight.ndim > 1 for weight in modules[name].parameters(recurse=len(name) > 0)):
            return name or None
    return None


def _likenesses(twin: Network, recording: Recording, units: Units, found: Reconstructions) -> list[float]:
    place = units.place.name
    image = recording.tape.image
    other = twin.record(image, [place], units.route.method).units(place, [0], (0,) * len(units.place.size), units.route.method)
    route = Route(other.route.tape, other.route.value, units.route.method, units.route.dtype)
    likenesses = []
    for index, window in enumerate(found.windows):
        seed = torch.zeros(1, len(units.seeds.activation), dtype=units.route.dtype)
        seed[0, units.seeds.channels[index]] = float(units.seeds.values[index]) or 1.0
        (signal,) = _sent(route, seed, _position(units, index), units.boxes[index])
        likenesses.append(_cosine(signal, window))
    return likenesses


# -- occlusion --------------------------------------------------------------------------------------


def _occluded(recording: Recording, units: Units, found: Reconstructions) -> list[Occlusion | None]:
    """Of each unit, what a grey square does at places on one lattice, which units share."""
    image = units.image
    sizes = image.shape[1:]
    seen = [_visible(box, sizes) for box in units.boxes]
    spans = [max(max(end - start for start, end in (spans[axis] for spans in seen)), 1) for axis in range(len(sizes))]
    steps = [max(1, -(-span // _SQUARES[len(spans)])) for span in spans]
    side = tuple(2 * step for step in steps)
    grey = image.flatten(1).mean(1).view(-1, *[1] * len(sizes))
    known: dict[tuple[int, ...], Tensor] = {}  # of each square, the activations of the units
    units_at = (units.seeds.channels, *_positions(units).unbind(1))
    results: list[Occlusion | None] = []
    for index, visible in enumerate(seen):
        value = float(units.seeds.values[index])
        corners = list(product(*[_starts(start, end, step) for (start, end), step in zip(visible, steps, strict=True)]))
        if value == 0 or not corners:
            results.append(None)
            continue
        for corner in corners:
            if corner not in known:
                known[corner] = _activation(recording, _hidden(image, corner, side, grey), units)[units_at].cpu()
        drops = torch.tensor([1 - float(known[corner][index]) / value for corner in corners], dtype=torch.float64)
        energies = torch.tensor([_energy(found, index, corner, side) for corner in corners], dtype=torch.float64)
        total = float(found.windows[index].double().square().sum()) or 1.0
        results.append(Occlusion(torch.tensor(corners), side, drops, energies / total, _spearman(drops, energies)))
    return results


def _visible(box: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    axes = len(sizes)
    return [(max(a, 0), min(b, n)) for a, b, n in zip(box[:axes], box[axes:], sizes, strict=True)]


def _starts(start: int, end: int, step: int) -> list[int]:
    """Where squares of two steps begin that reach into start..end, on the lattice of `step`."""
    return list(range((start // step - 1) * step, end, step)) if end > start else []


def _hidden(image: Tensor, corner: Sequence[int], side: Sequence[int], grey: Tensor) -> Tensor:
    hidden = image.clone()
    hidden[(slice(None), *(slice(max(c, 0), max(c + n, 0)) for c, n in zip(corner, side, strict=True)))] = grey
    return hidden


def _energy(found: Reconstructions, index: int, corner: Sequence[int], side: Sequence[int]) -> float:
    box = found.boxes[index].tolist()
    shifts = box[: len(side)] * 2
    square = [*corner, *(c + n for c, n in zip(corner, side, strict=True))]
    inside = cut(found.windows[index], [edge - shift for edge, shift in zip(square, shifts, strict=True)])
    return float(inside.double().square().sum())


def _spearman(a: Tensor, b: Tensor) -> float | None:
    """The correlation of ranks; equal values share the mean of theirs."""
    first, second = (_ranks(values) - (len(values) - 1) / 2 for values in (a, b))
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size else None


def _ranks(values: Tensor) -> Tensor:
    _, groups, counts = values.unique(return_inverse=True, return_counts=True)
    means = counts.cumsum(0).double() - (counts.double() + 1) / 2
    ranks: Tensor = means[groups]
    return ranks


class _Enough(Exception):
    """The place was reached; what comes after does not matter."""


def _activation(recording: Recording, image: Tensor, units: Units) -> Tensor:
    """(C, samples..): a place's output for another image; the network stops there, if the place is a module."""
    network, place = recording.network, units.place.name
    module, here = dict(network.module.named_modules()).get(place), threading.get_ident()
    kept: list[Tensor] = []

    def stop(ran: nn.Module, _args: Any, out: Any) -> None:
        if ran is module and threading.get_ident() == here and isinstance(out, Tensor):
            kept.append(out.detach().clone())
            raise _Enough

    if module is None or recording.tape.modules.get(place) != units.route.value:
        return network.record(image, [place]).activation(place)
    handle = hooks.register_module_forward_hook(stop)
    try:
        with torch.no_grad():
            network._call(image[None].clone())
    except _Enough:
        pass
    finally:
        handle.remove()
    if not kept:
        return network.record(image, [place]).activation(place)
    return (kept[0].movedim(-1, 1) if place in recording.tape.turned else kept[0])[0]
