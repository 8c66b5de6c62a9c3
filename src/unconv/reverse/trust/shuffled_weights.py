"""Does the picture change when the weights are shuffled, layer by layer from the unit down?

Source:
    Adebayo et al., "Sanity Checks for Saliency Maps" (2018), sec. 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from unconv.reverse.model import Model, Recording
from unconv.reverse.reconstruction import Reconstructions
from unconv.reverse.tape.naming import named_modules
from unconv.reverse.trust.sending import cosine, position, send
from unconv.reverse.walking.stream import Units
from unconv.reverse.walking.walk import Route

_STAGES = 5  # recordings with shuffled weights


def under_shuffled_weights(
    recording: Recording, units: Units, projections: Reconstructions
) -> Iterator[tuple[str, list[float]]]:
    """Yield some layers from the top down, each with the projections' cosines after all weights down to it are shuffled."""
    model = recording.model
    layers = _layers(model.module, units.route)
    if not layers:
        return
    twin = model.copied("trust", "to have its weights shuffled")
    stops = torch.linspace(0, len(layers) - 1, min(_STAGES, len(layers))).round().long().unique().tolist()
    generator = torch.Generator().manual_seed(0)
    for number, layer in enumerate(layers):
        for weight in twin.module.get_submodule(layer).parameters():
            if weight.ndim > 1:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.data = weight.data.flatten()[order].view(weight.shape)
        if number in stops:
            yield layer, _likenesses(twin, recording, units, projections)


def _layers(module: nn.Module, route: Route) -> list[str]:
    """Return the layers with weights on the way, from the unit down."""
    modules = dict(named_modules(module))
    places = dict.fromkeys(step.place for step in route.steps if step.kind in ("conv", "linear"))
    return [name for name in dict.fromkeys(_owner(place, modules) for place in places) if name is not None]


def _owner(place: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Return the module with weights that a place belongs to: `conv`, for `conv`, `conv_1` and `conv.linear`."""
    for name in (place, re.sub(r"_\d+$", "", place), place.rpartition(".")[0]):
        if name in modules and any(weight.ndim > 1 for weight in modules[name].parameters(recurse=len(name) > 0)):
            return name or None
    return None


def _likenesses(twin: Model, recording: Recording, units: Units, projections: Reconstructions) -> list[float]:
    place = units.place.name
    image = recording.tape.image
    other = twin.record(image, [place], units.route.method).units(place, [0], (0,) * len(units.place.size), units.route.method)
    route = Route(other.route.tape, other.route.value, units.route.method, units.route.dtype)
    likenesses = []
    for index, window in enumerate(projections.windows):
        seed = torch.zeros(1, len(units.seeds.activation), dtype=units.route.dtype)
        seed[0, units.seeds.channels[index]] = float(units.seeds.values[index]) or 1.0
        (signal,) = send(route, seed, position(units, index), units.boxes[index])
        likenesses.append(cosine(signal, window))
    return likenesses
