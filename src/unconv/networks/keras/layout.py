"""The layout of a Keras model, and a torch module for one of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Whether a Keras model keeps its channels last. Between the rewritten layers they always come first."""

    last: bool

    @classmethod
    def of(cls, model: Any) -> Layout:
        """Read the layout from the model's first layer that has maps; channels last if there is none."""
        formats = (layer.data_format for layer in _layers(model) if getattr(layer, "data_format", None))
        return cls(next(formats, "channels_last") == "channels_last")

    def fits(self, layer: Any) -> bool:
        """Say whether a layer has the same layout as the model."""
        data_format = getattr(layer, "data_format", None)
        return data_format is None or (data_format == "channels_last") == self.last

    def keras(self, value: Any) -> Any:
        """Return a tensor with channels first in the model's layout."""
        moves = self.last and isinstance(value, Tensor) and value.ndim > 2
        return value.movedim(1, -1) if moves else value

    def ours(self, value: Any) -> Any:
        """Return a tensor in the model's layout with channels first."""
        moves = self.last and isinstance(value, Tensor) and value.ndim > 2
        return value.movedim(-1, 1) if moves else value

    def axis(self, axis: int, rank: int) -> int:
        """Return the position of Keras' `axis` once the channels come first."""
        axis %= rank
        if not self.last or rank < 3 or axis == 0:
            return axis
        return 1 if axis == rank - 1 else axis + 1


def _layers(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


class Layer(nn.Module):
    """A layer of Keras: the function that runs it, and its weights, which share memory with Keras' own."""

    def __init__(self, run: Callable[..., Any], weights: dict[str, Any]):
        super().__init__()
        self.run = run
        for name, variable in weights.items():
            value = (
                None if variable is None else nn.Parameter(getattr(variable, "value", variable).detach(), requires_grad=False)
            )
            self.register_parameter(name, value)

    def forward(self, *args: Any, **_options: Any) -> Any:
        """Run the layer."""
        return self.run(self, *args)


@dataclass(frozen=True)
class Facts:
    """What a row gets besides the layer: the number of axes of each input, and the layout."""

    ranks: tuple[int, ...]
    layout: Layout

    @property
    def channels(self) -> int:
        """Keras' channel axis of the first input."""
        return self.ranks[0] - 1 if self.layout.last or self.ranks[0] < 3 else 1

    def over_channels(self, axis: Any) -> bool:
        """Say whether Keras' `axis` is the channel axis alone."""
        axes = list(axis) if isinstance(axis, list | tuple) else [axis]
        return len(axes) == 1 and axes[0] is not None and axes[0] % self.ranks[0] == self.channels
