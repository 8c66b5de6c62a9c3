"""The name of `custom_operations` before 0.2; its functions warn."""

from __future__ import annotations

import warnings
from typing import Any

from unconv.reverse.tape import custom_operations


def __getattr__(name: str) -> Any:
    """Return `define` or `replaces` from `custom_operations`, with a warning."""
    if name not in ("define", "replaces"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "unconv.reverse.tape.whole is now called unconv.reverse.tape.custom_operations, and will go. Import that.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(custom_operations, name)
