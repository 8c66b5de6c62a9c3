"""How a long run reports what it does."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, int], None]
"""Called with what is being done, in words, how much is done, and how much there is in all."""
