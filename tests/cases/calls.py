"""A function as a module, with its constants as buffers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Calls(nn.Module):
    """A function as a module; what `layers` names is called as `m.name`."""

    def __init__(self, function: Callable[..., object], **layers: nn.Module | Tensor):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            (self.register_buffer if isinstance(layer, Tensor) else self.add_module)(name, layer)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)
