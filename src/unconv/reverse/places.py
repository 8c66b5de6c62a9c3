"""Places: what a recorded value is called, and what its units see."""

from __future__ import annotations

from dataclasses import dataclass

from unconv.errors import NoSuchLayer, ShapeError, nearest
from unconv.reverse.receptive_field import Field, fields
from unconv.reverse.rewriting.freeze import hold
from unconv.reverse.rules.pointwise import OTHER_RECTIFIERS, RELU
from unconv.reverse.rules.shape import SHAPES
from unconv.reverse.tape.record import Step, Tape, Value


@dataclass(frozen=True)
class Place:
    """An output in a network that can be looked at.

    Args:
        name: as `named_modules()` has it, `_1`, `_2` for repeats; outside a module of its own, the
            enclosing module's name and the operation's: `layer1.0.add`.
        operation: what computed it: `conv`, `relu`, `max_pool2d`, `batch_norm`, `add`, `linear`.
        channels: feature maps, or entries of a vector.
        size: samples of one map, (height, width); () for a vector.
        receptive_field: samples of the image that one unit sees, (height, width). It counts the
            padding, and so may be larger than the image. Gates (squeeze-excitation) and a norm's statistics,
            which may depend on the whole image, are not counted.
        stride: image samples from one unit to the next, (y, x); 0 where every unit may see everything:
            after a global pool, and, more than need be, after a reflecting pad or a transposed convolution.
        rectified: whether it is the output of a rectifier, ReLU or another, and has maps, not a vector.
    """

    name: str
    operation: str
    channels: int
    size: tuple[int, ...]
    receptive_field: tuple[int, ...]
    stride: tuple[int, ...]
    rectified: bool = False


def places(tape: Tape) -> list[Place]:
    """The tape's places in the order they were computed; what only moves samples about is left out."""
    known = fields(hold(tape).tape)
    axes = tape.image.ndim - 2
    found = []
    for step in tape.steps:
        value = step.outputs[0]
        if value is not None and step.operation not in SHAPES and _can_be_seen(value, axes):
            found.append(_place(step, value, known[value.index], axes))
    return found


def find(tape: Tape, name: str, held: Tape | None = None) -> tuple[Place, Value, Field]:
    """The place called `name`; the name of a module stands for what the module returned.

    Args:
        held: the same tape with its gates held, if it is at hand.

    Raises:
        NoSuchLayer: there is none; the nearest three are named.
        ShapeError: it has no channels to choose from.
    """
    by_name = {step.place: step.outputs[0] for step in tape.steps}
    value = by_name.get(name) or tape.modules.get(name)
    made = {output.index: step for step in tape.steps for output in step.outputs if output}
    if value is None or value.index not in made:
        names = dict.fromkeys(name for name in (*by_name, *tape.modules) if name)
        raise NoSuchLayer(f"place: the network has no place {name!r}. Did you mean {nearest(name, names)}?")
    axes = tape.image.ndim - 2
    if not _can_be_seen(value, axes):
        raise ShapeError(f"place: {name} holds {value.shape} of {value.dtype}, not channels. Take the place before it.")
    step, field = made[value.index], fields(held or hold(tape).tape)[value.index]
    return _place(step, value, field, axes), value, field


def _can_be_seen(value: Value, axes: int) -> bool:
    shaped = len(value.shape) in (2, 2 + axes) and value.shape[0] == 1
    return shaped and value.dtype.is_floating_point


def _place(step: Step, value: Value, field: Field, axes: int) -> Place:
    size = value.shape[2:]
    rectified = step.operation in (RELU, *OTHER_RECTIFIERS) and len(size) == axes
    return Place(step.place, step.kind, value.shape[1], size, field.size, field.stride, rectified)
