"""Get the maps of some places for batches of images while the network runs, without recording each image.

One recording shows which operation computes a place, and how its result is laid out as (N, channels, samples..). Before this is
used for batches it is tested on one; a network that fails the test is recorded picture by picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from unconv.errors import NonFinite, ShapeError, UnconvError
from unconv.reverse.model import Model, Recording
from unconv.reverse.places import Place, find, looked_at, place_of
from unconv.reverse.receptive_field import ReceptiveField
from unconv.reverse.rules.table import is_rectifier
from unconv.reverse.tape.untouched import Guard, untouched
from unconv.reverse.tape.watcher import Look as Watch
from unconv.reverse.tape.watcher import watch

Look = Callable[[int, Tensor, Tensor | None], None]
"""Called with a place's number, its maps (N, C, samples..), and the maps before a clip; None if the place does not clip."""
Run = Callable[..., None]
"""Runs the network on a batch (N, C, samples..) and calls a `Look` for each place."""

_CLOSE = 1e-4  # a share of a map's largest value: how much rounding may change a picture's maps in a batch
_CLIPS = ("clamp", "clamp_max", "hardsigmoid", "hardtanh", "relu6")


@dataclass(frozen=True)
class Seen:
    """A place in a forward pass.

    Args:
        place: its entry in `places()`.
        call: the operation that computes it, as `Step.call`.
        shape: (C, samples..) of its maps.
        last: whether the operation has its channels last.
        order: the order of the result's axes that makes it maps; None if it is maps already.
        rectified: whether it is a rectifier's output, maps or a vector: values at or below zero are no response.
        receptive_field: that of its units.
    """

    place: Place
    call: tuple[str, int] | None
    shape: tuple[int, ...]
    last: bool
    order: tuple[int, ...] | None
    rectified: bool
    receptive_field: ReceptiveField

    def maps(self, result: Tensor, count: int) -> Tensor:
        """Return the operation's result for `count` images as (N, C, samples..)."""
        if self.order is None and result.shape == (count, *self.shape):
            return result
        parts: Tensor = result.unflatten(0, (count, -1))  # the batch may also contain frames, or be left out for one image
        parts = parts.movedim(-1, 2) if self.last else parts
        parts = parts if self.order is None else parts.permute(0, *(axis + 1 for axis in self.order))
        return parts.reshape(count, *self.shape)


class Maps:
    """Gives the maps of some places of a network, batch by batch.

    Args:
        model: a network; it is never changed.
        names: the places; None: all rectified outputs, also of fully connected layers, and the scores at the end.
        batch: how many images run together; or a function of the bytes of an image's largest map that returns this number.
        rectified_too: whether to give the input of a rectifier too, as for a clip.

    Attributes:
        seen: the places.
        as_recorded: whether the network has to run in the recording's modes to run the same operations.
        one_by_one: why pictures are recorded one by one; "" if they are not.
    """

    def __init__(
        self,
        model: Model,
        names: Sequence[str] | None,
        batch: int | Callable[[int], int],
        rectified_too: bool = False,
    ) -> None:
        # Noise will do: the operations of a place do not depend on the image, and `_try` compares with this recording.
        self.model = model
        recording = model.record(model.noise(), () if names is None else names)
        if names is None:
            names = default_places(recording)
            recording = model.record(model.noise(), names)
        if len(set(names)) < len(names) or not names:
            raise ShapeError(f"places: {', '.join(names)[:200] or 'none'} came; some were needed, each once. Name each once.")
        self.names = list(names)
        self.seen = [_place_in(recording, name) for name in self.names]
        largest = max(recording.activation(name).nbytes for name in names)
        self.batch = batch if isinstance(batch, int) else batch(largest)
        rectifiers = ("relu", "threshold") if rectified_too else ()
        self._before = {f"aten::{name}{end}" for name in (*_CLIPS, *rectifiers) for end in ("", "_")}
        self.as_recorded = True
        self._calls: dict[str, int] = {}
        self.one_by_one = self._try(recording)

    @contextmanager
    def running(self) -> Iterator[Run]:
        """Yield a function that runs the network, which is restored at the end."""
        if self.one_by_one:
            yield self._record_each
            return
        with torch.inference_mode(False), untouched(self.model.module, self.model.others) as guard:

            def run(batch: Tensor, look: Look, raw: bool = False, also: Mapping[tuple[str, int], Watch] | None = None) -> None:
                self._run_watched(batch, look, guard, raw, also)
                if guard.written:
                    guard.restore()  # so that one batch does not change the next

            yield run

    def _run_watched(
        self, batch: Tensor, look: Look, guard: Guard, raw: bool = False, also: Mapping[tuple[str, int], Watch] | None = None
    ) -> None:
        numbers = defaultdict[tuple[str, int], list[int]](list)
        for number, seen in enumerate(self.seen):
            if seen.call is not None:
                numbers[seen.call].append(number)

        def see(
            places: list[int], around: Watch | None, func: OpOverload, args: tuple[Any, ...], run: Callable[[], Any]
        ) -> Any:
            entered = None
            # Before the call: an in-place rectifier overwrites what entered it.
            if func._schema.name in self._before:
                entered = args[0].clone() if func._schema.is_mutable else args[0]
            result = around(func, args, run) if around else run()
            first = result[0] if isinstance(result, tuple | list) else result
            for number in places:
                if raw:
                    look(number, first, None)
                    continue
                maps = self.seen[number].maps
                look(number, maps(first, len(batch)), None if entered is None else maps(entered, len(batch)))
            return result

        looks: dict[tuple[str, int], Watch] = dict(also or {})
        looks |= {call: partial(see, places, looks.get(call)) for call, places in numbers.items()}
        with torch.no_grad():
            self._calls = watch(self.model.call, batch, looks, guard, self.as_recorded)

    def _record_each(self, batch: Tensor, look: Look, _raw: bool = False) -> None:
        maps = [self._record_one(image) for image in batch]
        for number in range(len(self.names)):
            look(number, torch.stack([of_one[number] for of_one in maps]), None)

    def _record_one(self, image: Tensor) -> list[Tensor]:
        """Return the maps of one image; NaN if the network computes values that are not finite."""
        try:
            recording = self.model.record(image, self.names)
        except NonFinite:
            return [image.new_full(seen.shape, torch.nan) for seen in self.seen]
        return [recording.activation(name) for name in self.names]

    def _try(self, recording: Recording) -> str:
        """Find out how results are laid out, and compare a batch with the recording; return why none can be used, or ""."""
        missing = [seen.place.name for seen in self.seen if seen.call is None]
        if missing:
            return f"{missing[0]} is computed by a function of the network's own"
        image, recorded = recording.tape.image, [recording.activation(name) for name in self.names]
        raw: dict[int, Tensor] = {}

        def note(number: int, result: Tensor, _before: Tensor | None) -> None:
            raw[number] = result.clone()

        problem = self._run_once(image, note, raw=True)
        if problem:
            return problem
        # A result does not show whether its channels are last: take the layout that gives the recorded activation.
        for number, seen in enumerate(self.seen):
            layouts = [replace(seen, last=last) for last in (False, True)]
            fitting = [layout for layout in layouts if _fits(layout, raw[number], 1, recorded[number])]
            if not fitting:
                return f"a second run gave other values at {seen.place.name}"
            self.seen[number] = fitting[0]
        self.as_recorded = not self._same_by_itself(image)
        return self._try_batch(image, recorded)

    def _same_by_itself(self, image: Tensor) -> bool:
        """Whether the network runs the same operations without the recording's modes."""
        calls, self.as_recorded = self._calls, False
        return not self._run_once(image, lambda *_: None) and self._calls == calls

    def _try_batch(self, image: Tensor, recorded: Sequence[Tensor]) -> str:
        # The other pictures of the batch differ from the image, so that an influence of theirs would show.
        others = [image.flip(tuple(range(2, image.ndim))), image * 0.5, torch.zeros_like(image)] * self.batch
        beside = dict[int, bool]()

        def compare(number: int, maps: Tensor, _before: Tensor | None) -> None:
            beside[number] = _close(maps[0], recorded[number])

        problem = self._run_once(torch.cat([image, *others[: self.batch - 1]]), compare)
        different = [seen.place.name for number, seen in enumerate(self.seen) if not beside.get(number)]
        if not problem and different:
            return f"what {different[0]} gives for a picture depends on the pictures beside it"
        return problem

    def _run_once(self, batch: Tensor, look: Look, raw: bool = False) -> str:
        """Run the network on a batch; return what went wrong, or ""."""
        self.one_by_one = ""
        try:
            with self.running() as run:
                run(batch, look, raw)
        except (UnconvError, RuntimeError, LookupError, TypeError, ValueError, AssertionError) as error:
            return f"it does not take {len(batch)} pictures at once: {str(error)[:200]}"
        return ""


def default_places(recording: Recording) -> list[str]:
    """Return all rectified outputs, vectors too, and the scores if the network ends in some.

    Raises:
        NoSuchLayer: the network has neither.
    """
    places = [(step, value) for step, value in looked_at(recording.tape)]
    names = [step.place for step, _ in places if is_rectifier(step.operation)]
    if places and len(places[-1][1].shape) == 2 and places[-1][1].shape[1] > 1:
        names.append(places[-1][0].place)
    return list(dict.fromkeys(names)) or recording.rectified()


def _place_in(recording: Recording, name: str) -> Seen:
    tape, receptive_fields = recording.tape, recording.receptive_fields("deconvnet")
    step, value = find(tape, name)
    place = replace(place_of(tape, step, value, receptive_fields), name=name)
    order = next((maps.order for maps in tape.arranged.values() if maps.value.index == value.index), None)
    call = step.written.call if step.written else step.call
    return Seen(place, call, value.shape[1:], False, order, is_rectifier(step.operation), receptive_fields[value.index])


def _fits(layout: Seen, result: Tensor, count: int, recorded: Tensor) -> bool:
    try:
        return _close(layout.maps(result, count)[0], recorded)
    except RuntimeError:  # the result does not have this layout
        return False


def _close(maps: Tensor, recorded: Tensor) -> bool:
    if maps.shape != recorded.shape:
        return False
    size = float(recorded.abs().max()) if recorded.numel() else 0.0
    return bool(((maps.float() - recorded.float()).abs() <= _CLOSE * size).all())
