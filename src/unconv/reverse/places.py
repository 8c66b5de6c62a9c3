"""Places: the named outputs of a network, and what their units see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unconv.errors import ModelError, NoSuchLayer, ShapeError, nearest
from unconv.reverse.receptive_field import ReceptiveField
from unconv.reverse.rules.table import ROLES, is_rectifier
from unconv.reverse.tape.step import Step, Tape, Value


@dataclass(frozen=True)
class Place:
    """A named output of a network, whose units can be projected.

    Args:
        name: as in `named_modules()`, with `_1`, `_2` for repeats. An operation without a module of its own has the
            enclosing module's name and its own: `layer1.0.add`.
        operation: the operation that computed it: `conv`, `relu`, `max_pool2d`, `batch_norm`, `add`, `linear`.
        channels: the number of feature maps, or of entries of a vector; 1 if the network has no channel axis any more.
        size: samples of one map, (height, width); () for a vector. Frames or instances that a network puts into
            its batch are the first axis of the map.
        receptive_field: samples of the image that a unit in the middle of the map sees, (height, width); the largest
            where neighbours differ, as after a transposed convolution. It includes padding, and so may be
            larger than the image. Gates (squeeze-excitation) and a norm's statistics, which may depend on the entire
            image, do not count.
        stride: image samples from one unit to the next, (y, x); a half after the map was enlarged twofold; 0 where
            every unit may see everything, as after a global pool.
        rectified: whether it is the output of a rectifier, ReLU or another, and has maps, not a vector.
    """

    name: str
    operation: str
    channels: int
    size: tuple[int, ...]
    receptive_field: tuple[int, ...]
    stride: tuple[int | float, ...]
    rectified: bool = False


def places(tape: Tape, receptive_fields: Mapping[int, ReceptiveField]) -> list[Place]:
    """Return the tape's places in the order they were computed.

    Args:
        receptive_fields: those of the tape with its gates frozen, by index of the value.
    """
    return [place_of(tape, step, value, receptive_fields) for step, value in looked_at(tape)]


def looked_at(tape: Tape) -> Iterator[tuple[Step, Value]]:
    """Yield the steps that are places, each with its value.

    Steps that only move samples are not places, nor are parts of an activation that is written out.
    """
    for step in tape.steps:
        value = step.outputs[0]
        if value is not None and not step.within and ROLES.get(step.operation) != "move" and _can_be_shown(tape.as_map(value)):
            yield step, tape.as_map(value)


def find(tape: Tape, name: str) -> tuple[Step, Value]:
    """Return the step that computed the place called `name`, and its value; a module's name means its output.

    Raises:
        NoSuchLayer: there is no such place; the message names the nearest three.
        ShapeError: it has no channels to choose from.
        ModelError: the module returned a tensor that was written through a view.
    """
    # Steps first: of a module that ran several times, the step of its name is the first run, while `modules` has the last.
    by_name = {step.place: step.outputs[0] for step in tape.steps}
    value = by_name.get(name) or tape.modules.get(name)
    if value is None and name in tape.stale:
        raise ModelError(
            f"place: {name} returned a tensor that {tape.stale[name]} had written in place through a view; which values the "
            "image reached is no longer known. Have it write to a new tensor (torch.cat, torch.where, clone()) instead."
        )
    producers = {output.index: step for step in tape.steps for output in step.outputs if output}
    if value is None or value.index not in producers:
        names = dict.fromkeys(name for name in (*by_name, *tape.modules) if name)
        raise NoSuchLayer(f"place: the network has no place {name!r}. Did you mean {nearest(name, names)}?")
    if not _can_be_shown(tape.as_map(value)):
        raise ShapeError(f"place: {name} holds {value.shape} of {value.dtype}, not channels. Choose a place before it.")
    return producers[value.index], tape.as_map(value)


def place_of(tape: Tape, step: Step, value: Value, receptive_fields: Mapping[int, ReceptiveField]) -> Place:
    """Return the place of a step and its value."""
    size, receptive_field = value.shape[2:], receptive_fields[value.index]
    rectified = is_rectified(step, value)
    return Place(step.place, step.kind, value.shape[1], size, receptive_field.size, receptive_field.steps, rectified)


def is_rectified(step: Step, value: Value) -> bool:
    """Whether a value is the output of a rectifier and has maps, not a vector."""
    return is_rectifier(step.operation) and len(value.shape) > 2


def _can_be_shown(value: Value) -> bool:
    """Whether a value, arranged as maps, can be shown; integers and truth values cannot."""
    return value.dtype.is_floating_point and len(value.shape) >= 2 and value.shape[0] == 1 and 0 not in value.shape
