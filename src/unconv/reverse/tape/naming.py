"""What modules are called: as torch names them, without what compiling a part of a network puts in between."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_COMPILED = "_orig_mod"


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's modules with their names; a part that is compiled is called as if it were not."""
    for name, module in model.named_modules():
        yield ".".join(part for part in name.split(".") if part != _COMPILED), module
