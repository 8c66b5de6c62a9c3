"""An ONNX graph as a module of torch: a child for each node, under the node's name.

A name is data here. It is never an attribute that torch or Python could take for one of theirs, it is in no code, and
there is no code made: the graph is a list, gone through from its first line to its last.
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
class Given:
    """An argument that another node makes, or the image.

    Args:
        moves: whether it goes where the node's other tensors are; a setting stays where it is.
    """

    moves: bool = True


@dataclass(frozen=True)
class Stored:
    """An argument that is a weight of the node's own, by its name."""

    name: str


class OnnxNode(nn.Module):
    """One node: an operator, its weights and its attributes.

    Args:
        operator: its row, by name.
        arguments: for each input `Given`, `Stored` or a value.
        options: what the operator gets by keyword: `Stored` or a value.
        tensors: what is stored, by name: parameters are learned, other tensors are buffers.
    """

    def __init__(
        self,
        operator: str,
        arguments: Sequence[Given | Stored | Any],
        options: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ):
        super().__init__()
        self._operator, self._options = operator, dict(options)
        self._arguments = [None if isinstance(a, Given | Stored) else a for a in arguments]
        self._given = [k for k, a in enumerate(arguments) if isinstance(a, Given)]
        self._stored = [(k, a.name) for k, a in enumerate(arguments) if isinstance(a, Stored)]
        self._kept = [(name, option.name) for name, option in options.items() if isinstance(option, Stored)]
        self._still = {k for k, a in enumerate(arguments) if isinstance(a, Given) and not a.moves}
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self._parameters[name] = tensor
            else:
                self._buffers[name] = tensor
        self._non_persistent_buffers_set.update(name for _, name in self._kept)

    def forward(self, *given: Tensor | None) -> Any:
        """What the operator makes of its inputs, of which the constants are the node's own."""
        # This runs for every node of every picture: lists are filled, nothing is looked up that is known beforehand.
        arguments = self._arguments.copy()
        for k, value in zip(self._given, given, strict=True):
            arguments[k] = value
        for k, name in self._stored:
            arguments[k] = self._tensor(name)
        options = self._options
        if self._kept:
            options = {**options, **{key: self._tensor(name) for key, name in self._kept}}
        if len(arguments) > 1:
            self._bring_together(arguments)
        return OPERATORS[self._operator].function(*arguments, **options)

    def _tensor(self, name: str) -> Tensor | None:
        return self._parameters[name] if name in self._parameters else self._buffers[name]

    def _bring_together(self, arguments: list[Any]) -> None:
        """Move what was reckoned from shapes, on the processor, to where the signals are; settings stay."""
        first: torch.device | None = None
        for k, argument in enumerate(arguments):
            if isinstance(argument, Tensor) and k not in self._still:
                if first is None:
                    first = argument.device
                elif argument.device != first:
                    target = argument.device if first.type == "cpu" else first
                    arguments[:] = [
                        a.to(target) if isinstance(a, Tensor) and i not in self._still else a for i, a in enumerate(arguments)
                    ]
                    return

    def extra_repr(self) -> str:
        """The operator's name."""
        return self._operator


class Branch(nn.Module):
    """An If whose way was chosen for the size of picture that the file was opened for: checked for each picture."""

    def __init__(self, taken: bool, title: str):
        super().__init__()
        self._taken, self._title = taken, title

    def forward(self, condition: Tensor) -> tuple[()]:
        """Nothing.

        Raises:
            ModelError: a picture of this size would go the other way.
        """
        if not condition.is_meta and bool(condition.reshape(()).item()) != self._taken:
            raise ModelError(
                f"onnx: {self._title} goes another way for a picture of this size than for the file's input size. "
                "Pass a picture of the network's input_size."
            )
        return ()


@dataclass(frozen=True)
class Line:
    """One node in the list.

    Args:
        inputs: the names of the values that are passed to it; "" for None.
        outputs: the names of what it returns.
        last: the names of values that no later line reads: they are let go.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...]


class OnnxGraph(nn.Module):
    """The graph of an ONNX file, for one image (1, C, samples..).

    Its nodes are `get_submodule(name)`, whatever they are called; as attributes only those whose names are no one
    else's and do not begin with `_`.

    Args:
        nodes: by name.
        image: the name of its input.
        channels_last: whether the graph itself wants (1, samples.., C).
        constants: what it returns that does not come from the image.
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
        """What the graph returns; several results come as a list."""
        if self._channels_last:
            image = image.permute(0, *range(2, image.ndim), 1)
        values: dict[str, Tensor | None] = {"": None, **self._constants, self._image: image}
        for line in self._lines:
            node = self._modules[line.name]
            assert node is not None
            made = node(*[values[name] for name in line.inputs])
            values.update(zip(line.outputs, made if isinstance(made, tuple) else (made,), strict=False))
            del made
            for name in line.last:
                del values[name]
        results = [values[name] for name in self._outputs]
        return results[0] if len(results) == 1 else results

    def get_submodule(self, target: str) -> nn.Module:
        """The node called `target`; the graph itself for "".

        Raises:
            AttributeError: there is none.
        """
        found = self._modules.get(target) if target else self
        if found is None:
            raise AttributeError(f"the graph has no node {target!r}")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        # As of any object: a node that is called like an attribute, `training`, is not in its way.
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Python, torch and notebooks look for methods by names with `_`: none of them is a node's to answer.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return "\n".join(["OnnxGraph(", *(f"  ({name!r}): {node!r}" for name, node in self._modules.items()), ")"])
