"""Several pictures recorded in one batch, so that units of different pictures walk back together.

The steps are the same for every picture; what rules keep of the forward pass, switches and slopes, has a row for each.
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

_MOST = 96  # pictures together: with more, one place's units gain little
_ROOM = 256 * 2**20  # bytes of what rules keep of them


@dataclass(frozen=True)
class Chosen:
    """A unit of one of several pictures.

    Args:
        row: the picture's, in the batch.
    """

    row: int
    channel: int
    position: tuple[int, ...]


@dataclass(frozen=True)
class _Seeds(Seeds):
    """As `Seeds`, of units of several pictures.

    Args:
        rows: (n,) the picture of each.
        maps: (samples..) of each, the whole map of its channel in its picture.
    """

    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    maps: Sequence[Tensor] = ()

    def feature_map(self, index: int) -> Tensor:
        return self.maps[index].clone()

    def some(self, chosen: Tensor) -> Seeds:
        maps = [self.maps[at] for at in chosen.tolist()]
        positions = None if self.positions is None else self.positions[chosen]
        return replace(
            self,
            channels=self.channels[chosen],
            positions=positions,
            values=self.values[chosen.to(self.values.device)],
            rows=self.rows[chosen],
            maps=maps,
        )

    def window(self, dtype: torch.dtype) -> Window:
        return replace(super().window(dtype), picture=self.rows)


class BatchRecording:
    """Records batches of pictures for the units of some places.

    Args:
        model: a network; it is never changed.
        places: their names.
        batch: pictures that run through the network together.

    Attributes:
        refusal: why pictures have to be recorded one by one; "" if they do not.
        most: pictures that `units` takes without keeping too much of them.
    """

    def __init__(self, model: Model, places: Sequence[str], method: Method | Rules = "deconvnet", batch: int = 8) -> None:
        self.model, self.rules, self.batch = model, method_named(method), batch
        self._maps = Maps(model, places, batch)
        recording = model.record(model.noise(), places)
        frozen = recording.frozen(self.rules)
        self._tape = frozen.tape
        self._values = {name: find(recording.tape, name)[1] for name in places}
        on_the_way = {id(step): step for value in self._values.values() for step in path(self._tape, value)}
        self._looking = [step for step in on_the_way.values() if step.kept is not None and looks_at_kept(self._rule(step))]
        self.refusal = self._maps.one_by_one or self._why_not(bool(frozen.gates or frozen.norms), on_the_way.values())
        kept = sum(tensor.nbytes for step in self._looking for tensor in tree_leaves(step.kept))
        self.most = max(batch, min(_MOST, _ROOM // max(1, kept)))
        self._shared: dict[int, Step] = {}
        if not self.refusal:
            self._alike = {name: recording.units(name, [0], "strongest", self.rules) for name in places}
            self._fields = recording.receptive_fields(self.rules)

    def _rule(self, step: Step) -> Any:
        return self.rules[step.operation]

    def _why_not(self, holds: bool, steps: Any) -> str:
        """Return why what is kept of a picture cannot be kept of several, or ""."""
        if holds or self.rules.keepers:
            return "gates or statistics of a picture are frozen"
        for step in steps:
            if step.written or step.within:
                return f"{step.place} is a written-out activation"
            if step.kept is not None and not takes_many_pictures(self._rule(step)):
                return f"the rule for {step.place} looks at one picture"
        for step in self._looking:
            alone = isinstance(step.args[0], Value) and len(step.inputs) == 1 and step.inputs[0].shape[0] == 1
            if not alone or step.call is None:
                return f"{step.place} does not keep a row for each picture"
        return ""

    def units(self, images: Tensor, wanted: Mapping[str, Sequence[Chosen]]) -> dict[str, Units]:
        """Return the units of each place that are to be projected, before they are.

        Args:
            images: (N, C, samples..), prepared.
            wanted: of each place, units of its maps.
        """
        kept, maps = self._run(images, wanted)
        steps = tuple(replace(step, kept=kept[id(step)]) if id(step) in kept else step for step in self._tape.steps)
        tape, prepared = replace(self._tape, steps=steps), dict(self._shared)
        found = {}
        for name, those in wanted.items():
            alike, value = self._alike[name], self._values[name]
            with torch.inference_mode(False), own_types(images.device):
                route = Route(tape, value, self.rules, alike.route.dtype, prepared)
            seeds = _seeds(alike.seeds.activation, those, maps[name])
            boxes = boxes_of(seeds, self._fields[value.index], images.shape[2:])
            found[name] = replace(alike, seeds=seeds, boxes=boxes, route=route)
        own = {step.outputs[0].index for step in self._looking if step.outputs[0]}
        self._shared |= {index: step for index, step in prepared.items() if index not in own}
        return found

    def _run(self, images: Tensor, wanted: Mapping[str, Sequence[Chosen]]) -> tuple[dict[int, Any], dict[str, list[Tensor]]]:
        """Return what rules keep, by the step, a row a picture; and of each place the maps of the channels that are wanted."""
        kept = defaultdict[int, list[Any]](list)
        maps = {name: [torch.zeros(0)] * len(those) for name, those in wanted.items()}
        also = {step.call: _keeping(step, kept[id(step)]) for step in self._looking if step.call}
        first = 0

        def look(number: int, found: Tensor, _before: Tensor | None) -> None:
            name = self._maps.names[number]
            for at, chosen in enumerate(wanted.get(name, ())):
                if 0 <= chosen.row - first < len(found):
                    maps[name][at] = found[chosen.row - first, chosen.channel].clone()

        with self._maps.running() as run:
            for part in images.split(self.batch):
                run(part, look, also=also)
                first += len(part)
        return {key: _joined(parts) for key, parts in kept.items()}, maps


def _keeping(step: Step, found: list[Any]) -> Callable[[OpOverload, tuple[Any, ...], Callable[[], Any]], Any]:
    """Return what keeps of a batch what the step's rule keeps of a picture."""
    keeper = KEEPERS[step.operation]

    def around(_func: OpOverload, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        if isinstance(keeper, Before):
            found.append(keeper.keep(step, (args[0], *step.args[1:])))
            return run()
        result = run()
        found.append(keeper(args, tuple(result) if isinstance(result, tuple | list) else (result,)))
        return result

    return around


def _joined(parts: list[Any]) -> Any:
    """Return what was kept of several batches, one behind the other."""
    return tree_map(lambda *tensors: torch.cat(tensors), *parts)


def _seeds(activation: Tensor, those: Sequence[Chosen], maps: Sequence[Tensor]) -> _Seeds:
    positions = torch.tensor([chosen.position for chosen in those], dtype=torch.int64).reshape(len(those), -1)
    values = torch.stack([found[chosen.position] for found, chosen in zip(maps, those, strict=True)])
    channels, rows = (torch.tensor([getattr(chosen, name) for chosen in those]) for name in ("channel", "row"))
    return _Seeds(activation, channels, positions, None, values, rows=rows, maps=maps)
