"""A limit on the memory that Keras may allocate while it builds a model from a file, set by the file's own weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unconv.networks.model_files import Unfit

# Initial values are drawn in float32 even for weights of 8 or 16 bits, and some are drawn again or decomposed.
_TIMES, _MORE = 4, 1 << 26
_TIMES_ALL, _MORE_ALL = 16, 1 << 28


class Allowance(TorchDispatchMode):
    """Refuse a tensor before its allocation if it, or the sum of all so far, exceeds what the file's weights could fill.

    This applies only to the current thread, and only while the mode is active.

    Args:
        stored: the bytes of weights in the file.
    """

    def __init__(self, stored: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.stored, self.allocated = stored, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, after checking the size if it creates a tensor from lengths alone."""
        kwargs = kwargs or {}
        name, device = func.overloadpacket.__name__, kwargs.get("device") or "cpu"
        creates = name.startswith("new_") or not any(isinstance(arg, torch.Tensor) for arg in args)
        if creates and torch.device(device).type != "meta":
            size = _samples(name, args) * (kwargs.get("dtype") or torch.float32).itemsize
            self.allocated += size
            if size > _TIMES * self.stored + _MORE or self.allocated > _TIMES_ALL * self.stored + _MORE_ALL:
                raise Unfit(f"its layers need weights of {self.allocated:,} bytes or more, but it contains {self.stored:,}")
        return func(*args, **kwargs)


def _samples(name: str, args: tuple[Any, ...]) -> int:
    """Return the number of samples that an operation creates, from the lengths in its arguments."""
    shapes = [math.prod(arg) for arg in args if isinstance(arg, list | tuple) and all(isinstance(n, int) for n in arg)]
    numbers = [arg for arg in args if isinstance(arg, int | float) and math.isfinite(arg)]
    if shapes or not numbers:
        return max(shapes, default=0)
    if name == "eye":
        return int(numbers[0] * numbers[-1])
    if name == "arange":
        first, last, step = [0, *numbers, 1][-3:] if len(numbers) < 3 else numbers
        return int(abs((last - first) / step)) if step else 0
    return int(numbers[-1]) if name in ("linspace", "logspace", "randperm") else 0
