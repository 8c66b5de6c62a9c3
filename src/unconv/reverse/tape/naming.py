"""Names of modules: as torch gives them, without the `_orig_mod` that compiling a part of a network inserts."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_COMPILED = "_orig_mod"


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's modules with their names; a compiled part has the name it would have if it were not compiled."""
    for name, module in model.named_modules():
        yield ".".join(part for part in name.split(".") if part != _COMPILED), module
