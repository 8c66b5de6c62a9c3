"""An ONNX graph as a torch module: a child for each node, under the node's name.

A name from the file is only data. It never becomes an attribute that torch or Python could mistake for their own, and no
code is generated: the graph is a list of lines that run from first to last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unconv.errors import ModelError
from unconv.networks.onnx.operators import OPERATORS


@dataclass(frozen=True)
class Input:
    """An argument that comes from another node, or the image.

    Args:
        moves: whether it is moved to the device of the node's other tensors; a setting stays where it is.
    """

    moves: bool = True


@dataclass(frozen=True)
class OwnTensor:
    """An argument that is one of the node's own tensors, by its name."""

    name: str


class OnnxNode(nn.Module):
    """One node: an operator, its weights and its attributes.

    Args:
        operator: its row, by name.
        arguments: for each input an `Input`, an `OwnTensor` or a value.
        options: the operator's keyword arguments: an `OwnTensor` or a value.
        tensors: the node's own tensors, by name: parameters are learned, other tensors become buffers.
    """

    def __init__(
        self,
        operator: str,
        arguments: Sequence[Input | OwnTensor | Any],
        options: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ):
        super().__init__()
        self._operator, self._options = operator, dict(options)
        self._arguments = [None if isinstance(a, Input | OwnTensor) else a for a in arguments]
        self._input_positions = [k for k, a in enumerate(arguments) if isinstance(a, Input)]
        self._tensor_positions = [(k, a.name) for k, a in enumerate(arguments) if isinstance(a, OwnTensor)]
        self._tensor_options = [(name, option.name) for name, option in options.items() if isinstance(option, OwnTensor)]
        self._setting_positions = {k for k, a in enumerate(arguments) if isinstance(a, Input) and not a.moves}
        # Into torch's own dictionaries: `register_buffer` refuses a name that is an attribute already, such as Cast's `to`.
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self._parameters[name] = tensor
            else:
                self._buffers[name] = tensor
        self._non_persistent_buffers_set.update(name for _, name in self._tensor_options)

    def forward(self, *inputs: Tensor | None) -> Any:
        """Return the operator's result for its inputs and the node's own tensors."""
        # This runs for every node of every picture, so the positions to fill in were computed once, in `__init__`.
        arguments = self._arguments.copy()
        for k, value in zip(self._input_positions, inputs, strict=True):
            arguments[k] = value
        for k, name in self._tensor_positions:
            arguments[k] = self._tensor(name)
        options = self._options
        if self._tensor_options:
            options = {**options, **{key: self._tensor(name) for key, name in self._tensor_options}}
        if len(arguments) > 1:
            self._move_to_one_device(arguments)
        return OPERATORS[self._operator].function(*arguments, **options)

    def _tensor(self, name: str) -> Tensor | None:
        return self._parameters[name] if name in self._parameters else self._buffers[name]

    def _move_to_one_device(self, arguments: list[Any]) -> None:
        """Move tensors that were computed from shapes, on the CPU, to the signals' device; settings stay on the CPU."""
        first: torch.device | None = None
        for k, argument in enumerate(arguments):
            if isinstance(argument, Tensor) and k not in self._setting_positions:
                if first is None:
                    first = argument.device
                elif argument.device != first:
                    target = argument.device if first.type == "cpu" else first
                    arguments[:] = [
                        a.to(target) if isinstance(a, Tensor) and i not in self._setting_positions else a
                        for i, a in enumerate(arguments)
                    ]
                    return

    def extra_repr(self) -> str:
        """Return the operator's name."""
        return self._operator


class Branch(nn.Module):
    """An If whose branch was chosen for the file's input size; each picture is checked to take the same branch."""

    def __init__(self, expected: bool, title: str):
        super().__init__()
        self._expected, self._title = expected, title

    def forward(self, condition: Tensor) -> tuple[()]:
        """Return nothing.

        Raises:
            ModelError: a picture of this size takes the other branch.
        """
        if not condition.is_meta and bool(condition.reshape(()).item()) != self._expected:
            raise ModelError(
                f"onnx: {self._title} takes another branch for a picture of this size than for the file's input size. "
                "Pass a picture of the network's input_size."
            )
        return ()


@dataclass(frozen=True)
class Line:
    """One node in the list.

    Args:
        inputs: the names of its arguments; "" for None.
        outputs: the names of its results.
        last: the names of values that no later line reads, which are freed after it.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]


class OnnxGraph(nn.Module):
    """The graph of an ONNX file, for one image (1, C, samples..).

    `get_submodule(name)` returns a node of any name. Only nodes whose names do not begin with `_`, and are not those of
    other attributes, are attributes as well.

    Args:
        nodes: the nodes, by name.
        image: the name of its input.
        channels_last: whether the graph itself takes (1, samples.., C).
        constants: outputs that do not depend on the image.
    """

    def __init__(
        self,
        nodes: Mapping[str, nn.Module],
        lines: Sequence[Line],
        image: str,
        outputs: Sequence[str],
        channels_last: bool,
        constants: Mapping[str, Tensor],
    ):
        super().__init__()
        self._modules.update(nodes)
        self._lines, self._image, self._outputs = tuple(lines), image, tuple(outputs)
        self._channels_last = channels_last
        self._constants = dict(constants)

    def forward(self, image: Tensor) -> Any:
        """Return the graph's result; several results are returned as a list."""
        if self._channels_last:
            image = image.permute(0, *range(2, image.ndim), 1)
        values: dict[str, Tensor | None] = {"": None, **self._constants, self._image: image}
        for line in self._lines:
            node = self._modules[line.name]
            assert node is not None
            result = node(*[values[name] for name in line.inputs])
            values.update(zip(line.outputs, result if isinstance(result, tuple) else (result,), strict=False))
            del result  # otherwise this name would keep a value alive that is freed below
            for name in line.last:
                del values[name]
        results = [values[name] for name in self._outputs]
        return results[0] if len(results) == 1 else results

    def get_submodule(self, target: str) -> nn.Module:
        """Return the node `target`, or the graph itself for "".

        Raises:
            AttributeError: there is no such node.
        """
        # torch's own method uses `getattr`, which would find the attribute `training` and not a node of that name.
        node = self._modules.get(target) if target else self
        if node is None:
            raise AttributeError(f"the graph has no node {target!r}")
        return node

    def __setattr__(self, name: str, value: Any) -> None:
        # As for any object: a node named like an attribute, such as `training`, must not be replaced by it.
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Python, torch and notebooks look for optional methods by names with `_`: a node must not be returned for one.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return "\n".join(["OnnxGraph(", *(f"  ({name!r}): {node!r}" for name, node in self._modules.items()), ")"])
