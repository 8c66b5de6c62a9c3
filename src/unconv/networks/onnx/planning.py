"""From an ONNX file to a module: its nodes gone through once on an image that has a shape and no samples.

That shows, before any memory is taken, how large each value will be and whether the graph can be run at all; what
comes out without the image is reckoned once and for all, as weights are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import ModelError, ShapeError, UnconvError, WeightsError
from unconv.networks.onnx.branches import branch_nodes
from unconv.networks.onnx.graph import Branch, Given, Line, OnnxGraph, OnnxNode, Stored
from unconv.networks.onnx.image import ImageInput
from unconv.networks.onnx.operators import LARGEST, Operator, Unknown
from unconv.networks.onnx.reading import OnnxFile
from unconv.networks.onnx.steps import OnnxStep, constant_of, live_nodes, step_of

_LARGEST_TOGETHER = 2**30  # samples of all values that are needed at one time
_LONGEST_SETTING = 2**16  # numbers of a constant that is passed as a list
_FEW = 64  # whole numbers

# What torch raises of a shape or a type that does not fit.
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, LookupError, ArithmeticError, AssertionError)


class Misfit(Exception):
    """An image of this shape cannot go through the graph; in words."""


@dataclass(frozen=True)
class _Nothing:
    """A value whose shape hangs on the picture's samples."""


_UNKNOWN = _Nothing()


@dataclass(frozen=True)
class Plan:
    """A graph made for images of one shape, by itself or among others."""

    nodes: Mapping[str, nn.Module]
    lines: Sequence[Line]
    constants: Mapping[str, Tensor]

    def module(self, image: ImageInput, outputs: Sequence[str]) -> OnnxGraph:
        """The module."""
        return OnnxGraph(self.nodes, self.lines, image.name, outputs, image.channels_last, self.constants)


def plan(file: OnnxFile, image: ImageInput, shape: tuple[int, ...]) -> Plan:
    """The graph of a file for images of `shape`.

    Raises:
        Misfit: it does not go together with that shape.
        UnconvError: it has an operator that nobody wrote, or asks for too much memory.
    """
    planner = _Planner(file, image, shape)
    planner.go()
    return planner.plan()


class _Planner:
    """The known facts about a graph's values on the way through it."""

    def __init__(self, file: OnnxFile, image: ImageInput, shape: tuple[int, ...]):
        self.file, self.image = file, image
        self.values: dict[str, Any] = {
            "": None,
            **file.weights,
            image.name: torch.empty(shape, dtype=image.dtype, device="meta"),
        }
        self.settled = {"", *file.weights}  # the names of values that are the same for every image
        self.stored: dict[tuple[int, bool], Tensor] = {}
        self.nodes: dict[str, nn.Module] = {}
        self.lines: list[Line] = []
        self.left = LARGEST  # samples that may be reckoned beforehand
        self.doublets: dict[str, int] = {}

    def go(self) -> None:
        """Go through the nodes that the outputs come from."""
        queue = deque(live_nodes(self.file.nodes, self.file.outputs))
        while queue:
            node = queue.popleft()
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self.values[node.output[0]] = constant_of(node, self.file)
                self.settled.add(node.output[0])
                continue
            step = step_of(node, self.file)
            absent = next((name for name in step.inputs if name not in self.values), None)
            if absent is not None:
                raise WeightsError(
                    f"load: {self.file.path}: {step.title} reads {absent!r}, which nothing makes. Export it again."
                )
            if step.branches is not None:  # the chosen branch's nodes come next, in their order, before the rest
                queue.extendleft(reversed(self._branch(step)))
            else:
                self._take(step)
        for name in self.file.outputs:
            if name not in self.values:
                raise WeightsError(f"load: {self.file.path} returns {name!r}, which nothing makes. Export it again.")

    def _branch(self, step: OnnxStep) -> list[Any]:
        """The nodes that stand for an If: those of the branch that it takes."""
        condition = self.values[step.inputs[0]]
        if not isinstance(condition, Tensor) or condition.is_meta or condition.numel() != 1:
            raise UnconvError(
                f"load: {self.file.path} has {step.title}, whose condition hangs on what is in the picture. "
                "Export it without, or for a fixed input size."
            )
        taken = bool(condition.reshape(()).item())
        if step.inputs[0] not in self.settled:
            name = self._name(step)
            self.nodes[name] = Branch(taken, step.title)
            self.lines.append(Line(name, step.inputs, (), ()))
        assert step.branches is not None
        weights, nodes = branch_nodes(step.branches[str(taken)], step, len(self.values), self.file)
        self.values.update(weights)
        self.settled.update(weights)
        return nodes

    def _take(self, step: OnnxStep) -> None:
        """Run the step on what is known, and write a line for it unless it is the same for every image."""
        assert step.row is not None
        try:
            if self.settled.issuperset(step.inputs):
                made: Sequence[Any] = self._settled(step, step.row)
                self.settled.update(step.outputs)
            else:
                made = self._written(step, step.row)
        except (UnconvError, *_MISFITS) as error:
            if isinstance(error, UnconvError) and not isinstance(error, ShapeError):
                raise type(error)(f"load: {self.file.path} has {step.title}: {error}.") from error
            what = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise Misfit(f"{step.title}: {what}") from error
        if len(made) < sum(1 for name in step.outputs if name):
            raise Misfit(f"{step.title}: it makes {len(made)} values, but {len(step.outputs)} are named")
        for name, value in zip(step.outputs, made, strict=False):
            if name:
                self.values[name] = value

    def _settled(self, step: OnnxStep, row: Operator) -> tuple[Any, ...]:
        """What comes of constants alone: first without samples, which shows how many there will be."""
        arguments = [self._argument(step, row, k) for k in range(len(step.inputs))]
        options = {**step.options, **({"constant": True} if "constant" in row.asks else {})}
        try:
            bare = [a.to("meta") if isinstance(a, Tensor) and k not in self._still(row) else a for k, a in enumerate(arguments)]
            size = sum(value.numel() for value in _tuple(row.function(*bare, **options)))
        except (Unknown, NotImplementedError):
            size = 0
        self.left -= size
        if self.left < 0:
            raise UnconvError(f"it makes {size:,} samples that no picture is needed for, but at most {LARGEST:,} were expected")
        with torch.no_grad():
            return _tuple(row.function(*arguments, **options))

    def _written(self, step: OnnxStep, row: Operator) -> Sequence[Any]:
        node, given = self._node(step, row)
        values = [self.values[name] for name in given]
        made: Sequence[Any] = [_UNKNOWN] * len(step.outputs)
        if _UNKNOWN not in values:
            try:
                with torch.no_grad():
                    made = _tuple(node(*values))
            except (Unknown, NotImplementedError):  # torch has no shapes without samples for some operations
                pass
        large = next((v for v in made if isinstance(v, Tensor) and v.numel() > LARGEST), None)
        if large is not None:
            raise ShapeError(f"it makes a value of {tuple(large.shape)}, but at most {LARGEST:,} samples were expected")
        if self.image.fixed and all(isinstance(value, Tensor) and not value.is_meta for value in made):
            self.settled.update(step.outputs)
            return made
        name = self._name(step)
        self.nodes[name] = node
        self.lines.append(Line(name, tuple(given), step.outputs, ()))
        return made

    def _node(self, step: OnnxStep, row: Operator) -> tuple[OnnxNode, list[str]]:
        """The node's module, and the names of the values that it is given."""
        arguments: list[Any] = []
        tensors: dict[str, Tensor] = {}
        given = []
        for k, name in enumerate(step.inputs):
            role = row.name_of_input(k)
            if name not in self.settled:
                arguments.append(Given(moves=k not in self._still(row)))
                given.append(name)
                continue
            argument = self._argument(step, row, k)
            # A few whole numbers are most often lengths: they stay on the processor, where they are reckoned with.
            if isinstance(argument, Tensor) and (argument.is_floating_point() or argument.numel() > _FEW):
                tensors[role] = self._store(argument, role in row.statistics)
                argument = Stored(role)
            arguments.append(argument)
        options = {}
        for key, option in step.options.items():
            if isinstance(option, Tensor):
                tensors[key] = option
                option = Stored(key)
            options[key] = option
        return OnnxNode(step.operator, arguments, options, tensors), given

    @staticmethod
    def _still(row: Operator) -> set[int]:
        """Which inputs are settings, that stay on the processor."""
        return {k for k, name in enumerate(row.inputs) if name in row.settings}

    def _argument(self, step: OnnxStep, row: Operator, position: int) -> Any:
        """A constant as the function takes it: a number, a list or a tensor."""
        value, role = self.values[step.inputs[position]], row.name_of_input(position)
        if isinstance(value, Tensor) and (
            (role in row.settings and value.ndim < 2 and value.numel() <= _LONGEST_SETTING)
            or (role in row.scalars and value.ndim < 2 and value.numel() == 1)
        ):
            return value.tolist()
        return value

    def _store(self, tensor: Tensor, statistic: bool) -> Tensor:
        """A constant as a parameter, if it can have been learned; one that several nodes read stays one."""
        key = (id(tensor), statistic)
        if key not in self.stored:
            whole = tensor.contiguous()
            self.stored[key] = nn.Parameter(whole) if whole.is_floating_point() and not statistic else whole
        return self.stored[key]

    def _name(self, step: OnnxStep) -> str:
        """A name for the step's node that no other has, as near its own as that is possible."""
        base = name = step.name.lstrip("/").replace(".", "_") or step.operator
        while name in self.nodes:
            count = self.doublets[base] = self.doublets.get(base, 0) + 1
            name = base + "_" * count if count < 10 else f"{base}_{count}"
        return name

    def plan(self) -> Plan:
        """The lines, each with the values that nobody reads after it.

        Raises:
            ShapeError: the values that are needed at one time are too large.
        """
        outputs = set(self.file.outputs)
        needed, lines = set(outputs), []
        for line in reversed(self.lines):
            names = {*line.inputs, *line.outputs} - needed - self.settled
            needed |= names
            lines.append(replace(line, last=tuple(sorted(names))))
        lines.reverse()
        self._bound(lines)
        constants = {name: self.values[name] for name in outputs & self.settled}
        return Plan(self.nodes, lines, constants)

    def _bound(self, lines: Sequence[Line]) -> None:
        live = self._size(self.image.name)
        for line in lines:
            live += sum(self._size(name) for name in line.outputs if name)
            if live > _LARGEST_TOGETHER:
                raise ShapeError(
                    f"load: {self.file.path} needs {live:,} samples at one time, but at most {_LARGEST_TOGETHER:,} were "
                    "expected. Export it for a smaller image."
                )
            live -= sum(self._size(name) for name in line.last)

    def _size(self, name: str) -> int:
        value = self.values.get(name)
        return value.numel() if isinstance(value, Tensor) else 0


def _tuple(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def refusal(file: OnnxFile, image: ImageInput, shape: tuple[int, ...], misfit: Misfit) -> ModelError:
    """The error of a graph that no image goes through."""
    leaves = "leaves lengths open, but not even" if None in image.lengths else "is made for"
    return ModelError(f"load: {file.path} cannot be run: {misfit}. It {leaves} an image of {shape}. Export the model again.")
