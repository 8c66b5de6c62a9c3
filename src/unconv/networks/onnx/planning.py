"""From an ONNX file to a module: its nodes run once on an image that has a shape but no samples (torch's meta device).

This shows, before any memory is allocated, how large each value will be and whether the graph can run at all. Values
that do not depend on the image are computed once and kept, like weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import ModelError, ShapeError, UnconvError, WeightsError, counted
from unconv.networks.onnx.branches import branch_nodes
from unconv.networks.onnx.graph import Branch, Input, Line, OnnxGraph, OnnxNode, OwnTensor
from unconv.networks.onnx.image import ImageInput
from unconv.networks.onnx.operators import LARGEST, Operator, Unknown
from unconv.networks.onnx.reading import OnnxFile
from unconv.networks.onnx.steps import OnnxStep, constant_of, live_nodes, step_of

_LARGEST_TOGETHER = 2**30  # samples of all values that are needed at one time
_LONGEST_SETTING = 2**16  # numbers in a constant that is passed as a list
_FEW = 64  # integers in a constant that stays on the CPU

# What torch raises for a shape or a number type that does not fit.
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, LookupError, ArithmeticError, AssertionError)


class Misfit(Exception):
    """The graph cannot run on an image of this shape; the message says why."""


@dataclass(frozen=True)
class _UnknownShape:
    """A value whose shape depends on the values of the picture."""


_UNKNOWN = _UnknownShape()


@dataclass(frozen=True)
class Plan:
    """The nodes and lines of a graph for images of one shape."""

    nodes: Mapping[str, nn.Module]
    lines: Sequence[Line]
    constants: Mapping[str, Tensor]

    def module(self, image: ImageInput, outputs: Sequence[str]) -> OnnxGraph:
        """Return the plan as a module."""
        return OnnxGraph(self.nodes, self.lines, image.name, outputs, image.channels_last, self.constants)


def plan(file: OnnxFile, image: ImageInput, shape: tuple[int, ...]) -> Plan:
    """Return the plan of a file's graph for images of `shape`.

    Raises:
        Misfit: the graph cannot run at that shape.
        UnconvError: it has an operator that unconv does not run, or needs too much memory.
    """
    planner = _Planner(file, image, shape)
    planner.run()
    return planner.plan()


class _Planner:
    """The values of a graph, as far as they are known, and its lines so far."""

    def __init__(self, file: OnnxFile, image: ImageInput, shape: tuple[int, ...]):
        self.file, self.image = file, image
        self.values: dict[str, Any] = {
            "": None,
            **file.weights,
            image.name: torch.empty(shape, dtype=image.dtype, device="meta"),
        }
        self.constant_names = {"", *file.weights}  # of values that are the same for every image
        self.weights: dict[tuple[int, bool], Tensor] = {}
        self.nodes: dict[str, nn.Module] = {}
        self.lines: list[Line] = []
        self.constant_budget = LARGEST  # samples that may still be computed without the image
        self.duplicates: dict[str, int] = {}

    def run(self) -> None:
        """Run the nodes that the outputs depend on."""
        queue = deque(live_nodes(self.file.nodes, self.file.outputs))
        while queue:
            node = queue.popleft()
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self.values[node.output[0]] = constant_of(node, self.file)
                self.constant_names.add(node.output[0])
                continue
            step = step_of(node, self.file)
            missing = next((name for name in step.inputs if name not in self.values), None)
            if missing is not None:
                raise WeightsError(
                    f"load: {self.file.path}: {step.title} reads {missing!r}, which no node returns. Export the model again."
                )
            if step.branches is not None:  # the nodes of the chosen branch run next, in their order
                queue.extendleft(reversed(self._branch(step)))
            else:
                self._run_step(step)
        for name in self.file.outputs:
            if name not in self.values:
                raise WeightsError(f"load: {self.file.path} returns {name!r}, but no node does. Export the model again.")

    def _branch(self, step: OnnxStep) -> list[Any]:
        """Return the nodes that replace an If: those of the branch that it takes at this shape."""
        condition = self.values[step.inputs[0]]
        if not isinstance(condition, Tensor) or condition.is_meta or condition.numel() != 1:
            raise UnconvError(
                f"load: {self.file.path} has {step.title}, whose condition depends on the values of the picture. "
                "Export the model without it, or for a fixed input size."
            )
        branch = bool(condition.reshape(()).item())
        if step.inputs[0] not in self.constant_names:
            name = self._name(step)
            self.nodes[name] = Branch(branch, step.title)
            self.lines.append(Line(name, step.inputs, (), ()))
        assert step.branches is not None
        weights, nodes = branch_nodes(step.branches[str(branch)], step, len(self.values), self.file)
        self.values.update(weights)
        self.constant_names.update(weights)
        return nodes

    def _run_step(self, step: OnnxStep) -> None:
        """Run the step on the known values, and add a line for it unless its result is the same for every image."""
        assert step.row is not None
        try:
            if self.constant_names.issuperset(step.inputs):
                results: Sequence[Any] = self._run_constant(step, step.row)
                self.constant_names.update(step.outputs)
            else:
                results = self._add_line(step, step.row)
        except (UnconvError, *_MISFITS) as error:
            if isinstance(error, UnconvError) and not isinstance(error, ShapeError):
                raise type(error)(f"load: {self.file.path} has {step.title}: {error}.") from error
            reason = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise Misfit(f"{step.title}: {reason}") from error
        if len(results) < sum(1 for name in step.outputs if name):
            raise Misfit(f"{step.title}: it returns {counted(len(results), 'value')}, but names {len(step.outputs)}")
        for name, value in zip(step.outputs, results, strict=False):
            if name:
                self.values[name] = value

    def _run_constant(self, step: OnnxStep, row: Operator) -> tuple[Any, ...]:
        """Return the step's results from constants alone: first without samples, to learn how large they will be."""
        arguments = [self._argument(step, row, k) for k in range(len(step.inputs))]
        options = {**step.options, **({"constant": True} if "constant" in row.asks else {})}
        try:
            settings = self._setting_positions(row)
            shapes = [a.to("meta") if isinstance(a, Tensor) and k not in settings else a for k, a in enumerate(arguments)]
            size = sum(value.numel() for value in _tuple(row.function(*shapes, **options)))
        except (Unknown, NotImplementedError):
            size = 0
        self.constant_budget -= size
        if self.constant_budget < 0:
            raise UnconvError(f"it computes {size:,} samples from constants, but at most {LARGEST:,} were expected in all")
        with torch.no_grad():
            return _tuple(row.function(*arguments, **options))

    def _add_line(self, step: OnnxStep, row: Operator) -> Sequence[Any]:
        """Return the step's results, as far as the image's shape decides them, and add its node and line."""
        node, inputs = self._node(step, row)
        values = [self.values[name] for name in inputs]
        results: Sequence[Any] = [_UNKNOWN] * len(step.outputs)
        if _UNKNOWN not in values:
            try:
                with torch.no_grad():
                    results = _tuple(node(*values))
            except (Unknown, NotImplementedError):  # torch has no meta kernel for some operations
                pass
        large = next((v for v in results if isinstance(v, Tensor) and v.numel() > LARGEST), None)
        if large is not None:
            raise ShapeError(f"it returns a value of {tuple(large.shape)}, but at most {LARGEST:,} samples were expected")
        # Computed from the image's shape alone, which the file fixes: a constant after all.
        if self.image.fixed and all(isinstance(value, Tensor) and not value.is_meta for value in results):
            self.constant_names.update(step.outputs)
            return results
        name = self._name(step)
        self.nodes[name] = node
        self.lines.append(Line(name, tuple(inputs), step.outputs, ()))
        return results

    def _node(self, step: OnnxStep, row: Operator) -> tuple[OnnxNode, list[str]]:
        """Return the node's module, and the names of its inputs."""
        arguments: list[Any] = []
        tensors: dict[str, Tensor] = {}
        inputs = []
        for k, name in enumerate(step.inputs):
            role = row.name_of_input(k)
            if name not in self.constant_names:
                arguments.append(Input(moves=k not in self._setting_positions(row)))
                inputs.append(name)
                continue
            argument = self._argument(step, row, k)
            # A few integers are most often lengths: they stay on the CPU, where shapes are computed.
            if isinstance(argument, Tensor) and (argument.is_floating_point() or argument.numel() > _FEW):
                tensors[role] = self._weight(argument, role in row.statistics)
                argument = OwnTensor(role)
            arguments.append(argument)
        options = {}
        for key, option in step.options.items():
            if isinstance(option, Tensor):
                tensors[key] = option
                option = OwnTensor(key)
            options[key] = option
        return OnnxNode(step.operator, arguments, options, tensors), inputs

    @staticmethod
    def _setting_positions(row: Operator) -> set[int]:
        """Return the positions of the inputs that are settings, which stay on the CPU."""
        return {k for k, name in enumerate(row.inputs) if name in row.settings}

    def _argument(self, step: OnnxStep, row: Operator, position: int) -> Any:
        """Return a constant as the function takes it: a number, a list or a tensor."""
        value, role = self.values[step.inputs[position]], row.name_of_input(position)
        if isinstance(value, Tensor) and (
            (role in row.settings and value.ndim < 2 and value.numel() <= _LONGEST_SETTING)
            or (role in row.scalars and value.ndim < 2 and value.numel() == 1)
        ):
            return value.tolist()
        return value

    def _weight(self, tensor: Tensor, statistic: bool) -> Tensor:
        """Return a constant as a parameter if it may have been learned; nodes that read the same one share it."""
        key = (id(tensor), statistic)
        if key not in self.weights:
            dense = tensor.contiguous()
            self.weights[key] = nn.Parameter(dense) if dense.is_floating_point() and not statistic else dense
        return self.weights[key]

    def _name(self, step: OnnxStep) -> str:
        """Return a unique name for the step's node, as close to its own as possible."""
        base = name = step.name.lstrip("/").replace(".", "_") or step.operator
        while name in self.nodes:
            count = self.duplicates[base] = self.duplicates.get(base, 0) + 1
            name = base + "_" * count if count < 10 else f"{base}_{count}"
        return name

    def plan(self) -> Plan:
        """Return the plan, each line with the values that no later line reads.

        Raises:
            ShapeError: the values needed at one time are too large.
        """
        # From the last line back: the first line that mentions a value in this order is the last that reads it.
        outputs = set(self.file.outputs)
        needed, lines = set(outputs), []
        for line in reversed(self.lines):
            names = {*line.inputs, *line.outputs} - needed - self.constant_names
            needed |= names
            lines.append(replace(line, last=tuple(sorted(names))))
        lines.reverse()
        self._bound(lines)
        constants = {name: self.values[name] for name in outputs & self.constant_names}
        return Plan(self.nodes, lines, constants)

    def _bound(self, lines: Sequence[Line]) -> None:
        live = self._size(self.image.name)
        for line in lines:
            live += sum(self._size(name) for name in line.outputs if name)
            if live > _LARGEST_TOGETHER:
                raise ShapeError(
                    f"load: {self.file.path} needs {live:,} samples at one time, but at most {_LARGEST_TOGETHER:,} were "
                    "expected. Export the model for a smaller image."
                )
            live -= sum(self._size(name) for name in line.last)

    def _size(self, name: str) -> int:
        value = self.values.get(name)
        return value.numel() if isinstance(value, Tensor) else 0


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def refusal(file: OnnxFile, image: ImageInput, shape: tuple[int, ...], misfit: Misfit) -> ModelError:
    """Return the error for a graph that cannot run at any of the tried shapes."""
    hint = f"It is made for an image of {shape}."
    if None in image.lengths:
        hint = f"Some lengths of its input are open, but none of the usual ones fit, not even {shape}."
    return ModelError(f"load: {file.path} cannot be run: {misfit}. {hint} Export the model again.")
