"""How much memory Keras may take while it makes a model that a file describes: no more than fits the numbers in the file."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unconv.networks.model_files import Unfit

# Initial values are drawn in float32, also for weights of 8 or 16 bits, and some are drawn anew or decomposed.
_TIMES, _MORE = 4, 1 << 26
_TIMES_ALL, _MORE_ALL = 16, 1 << 28


class Allowance(TorchDispatchMode):
    """Refuses a tensor before it is made if it is larger than any that the file's numbers could fill, or all of them are.

    Only this thread is watched, and only while the mode is entered.

    Args:
        held: how many bytes of numbers the file holds.
    """

    def __init__(self, held: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.held, self.taken = held, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; one that makes a tensor from lengths alone is looked at first."""
        kwargs = kwargs or {}
        name, device = func.overloadpacket.__name__, kwargs.get("device") or "cpu"
        drawn = name.startswith("new_") or not any(isinstance(arg, torch.Tensor) for arg in args)
        if drawn and torch.device(device).type != "meta":
            size = _samples(name, args) * (kwargs.get("dtype") or torch.float32).itemsize
            self.taken += size
            if size > _TIMES * self.held + _MORE or self.taken > _TIMES_ALL * self.held + _MORE_ALL:
                raise Unfit(f"its layers need weights of {self.taken:,} bytes and more, but it holds {self.held:,}")
        return func(*args, **kwargs)


def _samples(name: str, args: tuple[Any, ...]) -> int:
    """Return how many samples an operation makes, from the lengths that it is called with."""
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
