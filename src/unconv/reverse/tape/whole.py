"""The name of `custom_operations` before 0.2; it warns."""

import warnings

from unconv.reverse.tape.custom_operations import define, replaces

__all__ = ["define", "replaces"]

warnings.warn(
    "unconv.reverse.tape.whole is now called unconv.reverse.tape.custom_operations, and will go. Import that.",
    DeprecationWarning,
    stacklevel=2,
)
