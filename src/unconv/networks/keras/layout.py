"""The layout of a Keras model, and one of its layers as a module of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where a Keras model has its channels. Between the layers of ours they always come first."""

    last: bool

    @classmethod
    def of(cls, model: Any) -> Layout:
        """Read the layout from the model's first layer that has maps; channels last if there is none."""
        named = (layer.data_format for layer in _layers(model) if getattr(layer, "data_format", None))
        return cls(next(named, "channels_last") == "channels_last")

    def fits(self, layer: Any) -> bool:
        """Say whether a layer has its channels where the model has them."""
        named = getattr(layer, "data_format", None)
        return named is None or (named == "channels_last") == self.last

    def keras(self, value: Any) -> Any:
        """Turn a tensor to the model's layout."""
        turn = self.last and isinstance(value, Tensor) and value.ndim > 2
        return value.movedim(1, -1) if turn else value

    def ours(self, value: Any) -> Any:
        """Turn a tensor of the model's layout to channels first."""
        turn = self.last and isinstance(value, Tensor) and value.ndim > 2
        return value.movedim(-1, 1) if turn else value

    def axis(self, axis: int, rank: int) -> int:
        """Return the axis that is Keras' `axis` once the channels come first."""
        axis %= rank
        if not self.last or rank < 3 or axis == 0:
            return axis
        return 1 if axis == rank - 1 else axis + 1


def _layers(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


class Layer(nn.Module):
    """A layer of Keras: the function that runs it, and its weights, which share the memory of Keras' own."""

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
    """The facts that a row gets besides the layer: how many axes its inputs have, and where the channels are."""

    ranks: tuple[int, ...]
    layout: Layout

    @property
    def channels(self) -> int:
        """Keras' own axis of the channels of the first input."""
        return self.ranks[0] - 1 if self.layout.last or self.ranks[0] < 3 else 1

    def over_channels(self, axis: Any) -> bool:
        """Say whether Keras' `axis` is that of the channels alone."""
        axes = list(axis) if isinstance(axis, list | tuple) else [axis]
        return len(axes) == 1 and axes[0] is not None and axes[0] % self.ranks[0] == self.channels
