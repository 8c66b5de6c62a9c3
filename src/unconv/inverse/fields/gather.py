"""Traces of any kind and shape: a check which of them can be used, and results in the same kind and shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError

_NAMED = 8  # traces that a note lists
_OFFSET = 0.02  # of a trace's largest sample: a larger median counts as an offset


@dataclass(frozen=True)
class Gather:
    """Traces side by side, and which of them are sound.

    Args:
        given: the caller's array.
        samples: (count, n), floating, all traces.
        dead: (count,), all samples equal. broken: some samples are NaN or infinite. clipped: flat at an extreme.
        clipped_counts: whether to use clipped traces.
    """

    given: Any
    samples: Tensor
    dead: Tensor
    broken: Tensor
    clipped: Tensor
    clipped_counts: bool = False

    @cached_property
    def used(self) -> Tensor:
        """Which traces are used: (count,)."""
        left_out = self.dead | self.broken | (False if self.clipped_counts else self.clipped)
        return ~left_out

    @property
    def sound(self) -> Tensor:
        """The traces that are used: (used, n)."""
        return self.samples[self.used]

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the traces that are not used and stay as they are, in order."""
        return tuple(torch.nonzero(~self.used).flatten().tolist())

    @property
    def notes(self) -> tuple[str, ...]:
        """Which traces stay as they are, and why."""
        reasons = {
            "dead (all samples alike)": self.dead,
            "broken (NaN or infinite samples)": self.broken,
            "clipped (flat at the largest or smallest value)": self.clipped & ~self.dead & ~self.broken,
        }
        if self.clipped_counts:
            reasons.popitem()
        return tuple(f"kept as they are, {why}: {_listed(which)}" for why, which in reasons.items() if bool(which.any()))

    def using(self, values: Tensor) -> Gather:
        """Return a gather with other samples in place of the sound ones: (used, n)."""
        samples = self.samples.clone()
        samples[self.used] = values.to(samples)
        return replace(self, samples=samples)

    def like_given(self, values: Tensor, rest: float | None = None) -> Any:
        """Return results of the sound traces, (used, m), in the kind and shape of the caller's array.

        Args:
            rest: the value of the other traces; None: their own samples, which needs m = n.
        """
        count = len(self.samples)
        if rest is None:
            results = self.samples.to(values.dtype, copy=True)
        else:
            results = values.new_full((count, *values.shape[1:]), rest)
        results[self.used.to(results.device)] = values.to(results.device)
        shape = (*np.shape(self.given)[:-1], *values.shape[1:])
        results = results.reshape(shape)
        return results if isinstance(self.given, Tensor) else results.cpu().numpy()


def gather(where: str, traces: Any, clipped: str = "keep") -> Gather:
    """Return traces (..., n), a NumPy array or a tensor, as a gather; integers become floats.

    Args:
        clipped: "keep" traces that are flat at an extreme as they are, or "use" them like others.

    Raises:
        DtypeError: the samples are not real numbers. ShapeError: there is no trace, or fewer than two samples; `clipped` is
            another word.
    """
    if clipped not in ("keep", "use"):
        raise ShapeError(f"{where}: clipped is {clipped!r}, but 'keep' or 'use' was needed.")
    array = traces if isinstance(traces, Tensor) else np.asarray(traces)
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "fiu":
            raise DtypeError(f"{where}: the traces are {array.dtype}, but real numbers were needed. Pass a numeric array.")
        # float32 holds integers of up to 24 bits only.
        wide = array.dtype.itemsize > (2 if array.dtype.kind in "iu" else 4)
        array = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64 if wide else np.float32))
    elif array.is_complex() or array.dtype == torch.bool:
        raise DtypeError(f"{where}: the traces are {array.dtype}, but real numbers were needed. Pass x.real or x.float().")
    if array.ndim < 1 or array.numel() == 0 or array.shape[-1] < 2:
        raise ShapeError(
            f"{where}: the traces are {tuple(array.shape)}, but (..., n) with at least two samples each was needed. "
            "The last axis is time."
        )
    samples = array.detach().reshape(-1, array.shape[-1])
    samples = samples if samples.dtype in (torch.float32, torch.float64) else samples.float()
    broken = ~torch.isfinite(samples).all(1)
    finite = torch.where(broken[:, None], 0, samples)
    dead = (finite == finite[:, :1]).all(1) & ~broken
    return Gather(traces, samples, dead, broken, flat(finite).any(1) & ~dead & ~broken, clipped == "use")


def flat(samples: Tensor) -> Tensor:
    """Tell which samples of clipped traces are at the limit: (count, n).

    A trace is clipped where three samples in a row have its largest or smallest value, and a step of more than three of its
    quanta leads to them. A peak that is flat only because samples are coarsely quantised has smaller steps beside it.
    """
    clipped = torch.zeros_like(samples, dtype=torch.bool)
    if samples.shape[1] < 3:
        return clipped
    for extreme in (samples.amax(1, keepdim=True), samples.amin(1, keepdim=True)):
        # Zeros are those of a muted or padded trace, not the limit of an instrument.
        extreme_samples = (samples == extreme) & (samples != 0)
        runs = extreme_samples[:, 2:] & extreme_samples[:, 1:-1] & extreme_samples[:, :-2]
        if not bool(runs.any()):
            continue
        steps = samples.diff(dim=1).abs()
        quantum = torch.where(steps > 0, steps, torch.inf).amin(1, keepdim=True)
        edge = extreme_samples[:, 1:] != extreme_samples[:, :-1]
        steep = (edge & (steps > 3.5 * quantum)).any(1)
        for shift in range(3):
            clipped[:, shift : shift + runs.shape[1]] |= runs & steep[:, None]
    return clipped


def without_offset(samples: Tensor, small: bool = False) -> tuple[Tensor, str]:
    """Return traces (count, n) without their medians, and a note; the note is "" if no median counts as an offset.

    Args:
        small: subtract also medians that are too small for a note.
    """
    if not samples.numel():
        return samples, ""
    offset = samples.median(-1, keepdim=True).values
    size = (samples - offset).abs().amax(1, keepdim=True)
    loud = offset.abs() > _OFFSET * size
    note = f"an offset was subtracted, the largest {float(offset.abs().max()):.4g} ({int(loud.sum())} of {len(samples)})"
    return torch.where(loud | small, samples - offset, samples), note if bool(loud.any()) else ""


def _listed(which: Tensor) -> str:
    numbers = torch.nonzero(which).flatten().tolist()
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    noun = "trace" if len(numbers) == 1 else "traces"
    return f"{noun} {', '.join(map(str, numbers[:_NAMED]))}{more}"
