"""Record several pictures in one batch, so that units of different pictures go backwards together.

The steps are the same for every picture. What rules keep of the forward pass, such as switches, has a row for each picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

from unconv.reverse.maps import Maps
from unconv.reverse.method_table import Method
from unconv.reverse.methods import Rules, method_named
from unconv.reverse.model import Model, boxes_of
from unconv.reverse.places import find
from unconv.reverse.rules.table import KEEPERS, looks_at_kept, takes_many_pictures
from unconv.reverse.seed import Seeds
from unconv.reverse.tape.precision import own_types
from unconv.reverse.tape.step import Before, Step, Value
from unconv.reverse.walking.stream import Units
from unconv.reverse.walking.walk import Route, path
from unconv.reverse.window import Window

_MOST = 96  # pictures together; more hardly speed up the units of one place
_ROOM = 256 * 2**20  # bytes that rules keep of these pictures


@dataclass(frozen=True)
class Chosen:
    """A unit of one of several pictures.

    Args:
        row: the row of the picture in the batch.
    """

    row: int
    channel: int
    position: tuple[int, ...]


@dataclass(frozen=True)
class _Seeds(Seeds):
    """Seeds of units of several pictures.

    Args:
        rows: (n,), the picture of each unit.
        maps: for each unit (samples..), the map of its channel in its picture.
    """

    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    maps: Sequence[Tensor] = ()

    def feature_map(self, index: int) -> Tensor:
        return self.maps[index].clone()

    def subset(self, indices: Tensor) -> Seeds:
        maps = [self.maps[index] for index in indices.tolist()]
        positions = None if self.positions is None else self.positions[indices]
        return replace(
            self,
            channels=self.channels[indices],
            positions=positions,
            values=self.values[indices.to(self.values.device)],
            rows=self.rows[indices],
            maps=maps,
        )

    def window(self, dtype: torch.dtype) -> Window:
        return replace(super().window(dtype), picture=self.rows)


class BatchRecording:
    """Records batches of pictures for the units of some places.

    Args:
        model: a network; it is never changed.
        places: the names of the places.
        batch: pictures that run through the network together.

    Attributes:
        refusal: why pictures have to be recorded one by one; "" if they do not.
        most: the number of pictures that `units` can keep in memory.
    """

    def __init__(self, model: Model, places: Sequence[str], method: Method | Rules = "deconvnet", batch: int = 8) -> None:
        self.model, self.rules, self.batch = model, method_named(method), batch
        self._maps = Maps(model, places, batch)
        recording = model.record(model.noise(), places)
        frozen = recording.frozen(self.rules)
        self._tape = frozen.tape
        self._values = {name: find(recording.tape, name)[1] for name in places}
        on_the_way = {id(step): step for value in self._values.values() for step in path(self._tape, value)}
        self._reading = [step for step in on_the_way.values() if step.kept is not None and looks_at_kept(self._rule(step))]
        self.refusal = self._maps.one_by_one or self._refusal(bool(frozen.gates or frozen.norms), on_the_way.values())
        size = sum(tensor.nbytes for step in self._reading for tensor in tree_leaves(step.kept))
        self.most = max(batch, min(_MOST, _ROOM // max(1, size)))
        self._shared: dict[int, Step] = {}
        if not self.refusal:
            self._templates = {name: recording.units(name, [0], "strongest", self.rules) for name in places}
            self._receptive_fields = recording.receptive_fields(self.rules)

    def _rule(self, step: Step) -> Any:
        return self.rules[step.operation]

    def _refusal(self, freezes: bool, steps: Any) -> str:
        """Return why several pictures cannot be recorded together, or ""."""
        if freezes or self.rules.keepers:
            return "gates or statistics of a picture are frozen"
        for step in steps:
            if step.written or step.within:
                return f"{step.place} is a written-out activation"
            if step.kept is not None and not takes_many_pictures(self._rule(step)):
                return f"the rule for {step.place} works on one picture"
        for step in self._reading:
            single = isinstance(step.args[0], Value) and len(step.inputs) == 1 and step.inputs[0].shape[0] == 1
            if not single or step.call is None:
                return f"{step.place} does not keep a row for each picture"
        return ""

    def units(self, images: Tensor, requested: Mapping[str, Sequence[Chosen]]) -> dict[str, Units]:
        """Return the requested units of each place, ready to be projected.

        Args:
            images: (N, C, samples..), prepared.
            requested: for each place, units of its maps.
        """
        # Routes of all batches share what rules compute of the weights; what they compute of these pictures is left out again.
        kept, maps = self._run(images, requested)
        steps = tuple(replace(step, kept=kept[id(step)]) if id(step) in kept else step for step in self._tape.steps)
        tape, prepared = replace(self._tape, steps=steps), dict(self._shared)
        units = {}
        for name, chosen in requested.items():
            template, value = self._templates[name], self._values[name]
            with torch.inference_mode(False), own_types(images.device):
                route = Route(tape, value, self.rules, template.route.dtype, prepared)
            seeds = _seeds(template.seeds.activation, chosen, maps[name])
            boxes = boxes_of(seeds, self._receptive_fields[value.index], images.shape[2:])
            units[name] = replace(template, seeds=seeds, boxes=boxes, route=route)
        of_pictures = {step.outputs[0].index for step in self._reading if step.outputs[0]}
        self._shared |= {index: step for index, step in prepared.items() if index not in of_pictures}
        return units

    def _run(self, images: Tensor, requested: Mapping[str, Sequence[Chosen]]) -> tuple[dict[int, Any], dict[str, list[Tensor]]]:
        """Return what rules keep, by step, with a row for each picture; and for each place the maps of the chosen channels."""
        kept = defaultdict[int, list[Any]](list)
        maps = {name: [torch.zeros(0)] * len(chosen) for name, chosen in requested.items()}
        also = {step.call: _keeping(step, kept[id(step)]) for step in self._reading if step.call}
        first = 0

        def look(number: int, result: Tensor, _before: Tensor | None) -> None:
            name = self._maps.names[number]
            for index, unit in enumerate(requested.get(name, ())):
                if 0 <= unit.row - first < len(result):
                    maps[name][index] = result[unit.row - first, unit.channel].clone()

        with self._maps.running() as run:
            for part in images.split(self.batch):
                run(part, look, also=also)
                first += len(part)
        return {key: _joined(parts) for key, parts in kept.items()}, maps


def _keeping(step: Step, kept: list[Any]) -> Callable[[OpOverload, tuple[Any, ...], Callable[[], Any]], Any]:
    """Return a watcher that appends to `kept` what the step's rule keeps of a batch."""
    keeper = KEEPERS[step.operation]

    def around(_func: OpOverload, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        if isinstance(keeper, Before):
            kept.append(keeper.keep(step, (args[0], *step.args[1:])))
            return run()
        result = run()
        kept.append(keeper(args, tuple(result) if isinstance(result, tuple | list) else (result,)))
        return result

    return around


def _joined(parts: list[Any]) -> Any:
    """Return what rules kept of several batches, concatenated."""
    return tree_map(lambda *tensors: torch.cat(tensors), *parts)


def _seeds(activation: Tensor, chosen: Sequence[Chosen], maps: Sequence[Tensor]) -> _Seeds:
    positions = torch.tensor([unit.position for unit in chosen], dtype=torch.int64).reshape(len(chosen), -1)
    values = torch.stack([feature_map[unit.position] for feature_map, unit in zip(maps, chosen, strict=True)])
    channels, rows = (torch.tensor([getattr(unit, name) for unit in chosen]) for name in ("channel", "row"))
    return _Seeds(activation, channels, positions, None, values, rows=rows, maps=maps)
