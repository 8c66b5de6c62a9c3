"""Norms that a network writes out by hand: `(x - x.mean(1)) / x.std(1)`.

A method freezes a norm at the scale that it took from the picture, mean and all. In a norm that is written out, the quotient
would be frozen as a gate, and the mean would flow. As with activations, what a formula is, is found by running it: it is
a norm if its result is the input less its mean over some axes, times what is the same along them, changes neither
with a constant that is added to the input nor (except for its epsilon) with the input's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unconv.reverse.rewriting.written_out import Formula, compact, formulas, is_part, marked
from unconv.reverse.rules.norm import SCALED
from unconv.reverse.tape.step import Step, Tape

aten = torch.ops.aten

STATISTICS = {
    aten.mean.dim,
    aten.mean.default,
    aten.std.correction,
    aten.sum.dim_IntList,
    aten.var.correction,
    aten.var_mean.correction,
}
_QUOTIENTS = {aten.div.Tensor, aten.mul.Tensor}
_SHORT = 4  # samples along an axis, of what a formula is tried on


def written_norms(tape: Tape) -> Tape:
    """Return the tape with each norm that is written out as a product with the scale that it took from the picture.

    Such a step has the place, and the value, of the formula's quotient, which it keeps as `written`.
    """
    made: dict[int, tuple[int, Step]] = {}
    steps, parts = list[Step](), dict[int, str]()
    for number, step in enumerate(tape.steps):
        found = _recognised(step, made)
        if found is not None:
            formula, step = found
            parts |= {id(part): step.place for part in formula.steps[:-1]}
        steps.append(step)
        made |= {value.index: (number, step) for value in step.outputs if value}
    if not parts:
        return tape
    return replace(tape, steps=tuple(marked(steps, parts, tape)))


def _recognised(step: Step, made: Mapping[int, tuple[int, Step]]) -> tuple[Formula, Step] | None:
    if step.operation not in _QUOTIENTS or len(step.inputs) != 2 or not isinstance(step.kept, tuple):
        return None
    for formula in formulas(step, made, lambda part: is_part(part) or part.operation in STATISTICS):
        if any(part.operation in STATISTICS for part in formula.steps):
            scale = _scale(formula)
            if scale is not None:
                root = formula.root
                args = (root, scale.to(root.dtype))
                return formula, Step(SCALED, args, (root,), step.outputs[:1], step.place, written=step)
    return None


def _scale(formula: Formula) -> Tensor | None:
    """Return what a norm multiplied each sample with, less its mean, at the recorded values; None if it is no norm."""
    found = compact(formula)
    if found is None:
        return None
    small, extents = found
    size = [1, *(max(extent, n if axis == 1 else min(n, _SHORT)) for axis, (extent, n) in _axes(formula, extents))]
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(size, dtype=torch.float64, generator=draw) for _ in range(2))
    first, second = first.to(formula.steps[-1].kept[0].device), second.to(formula.steps[-1].kept[0].device)
    try:
        with torch.inference_mode(False), torch.no_grad():
            # A norm does not change with a constant added to its input, nor, except for epsilon, with the input's scale.
            runs = [small.run(x) for x in (first, second, first + 5, 8 * first)]
    except (RuntimeError, IndexError, TypeError, ValueError):
        return None
    last = formula.steps[-1]
    y = [run[_index(last)] for run in runs]
    same = torch.allclose(y[0], y[2], atol=1e-8) and torch.allclose(y[0], y[3], rtol=1e-2, atol=1e-4)
    if y[0].shape != first.shape or not same or float(y[0].abs().max()) == 0:
        return None
    # Over channels, over samples, over both, or over the last axis: the output over the centred input is the scale, and
    # the quotient of two inputs' scales is constant along the norm's own axes alone, whatever gain a channel has.
    for axes in ([1], list(range(2, len(size))), list(range(1, len(size))), [len(size) - 1]):
        if not axes or all(size[axis] == 1 for axis in axes):
            continue
        ratios = [(out / (x - x.mean(axes, keepdim=True))) for out, x in zip(y, (first, second), strict=False)]
        if _same_along(ratios[0] / ratios[1], axes):
            return _recorded(last, runs[0], ratios[0], axes)
    return None


def _axes(formula: Formula, extents: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(extents, formula.root.shape, strict=True)))[1:]


def _index(step: Step) -> int:
    assert step.outputs[0] is not None
    return step.outputs[0].index


def _same_along(values: Tensor, axes: Sequence[int]) -> bool:
    mean = values.mean(list(axes), keepdim=True)
    return bool(((values - mean).abs() <= 1e-9 * mean.abs()).all())


def _recorded(last: Step, run: Mapping[int, Tensor], ratio: Tensor, axes: Sequence[int]) -> Tensor | None:
    """Return the scale at the recorded values: the statistic that was recorded, times what the probes show stands beside it."""
    for value, entered in zip(last.inputs, last.kept, strict=True):
        statistic = run[value.index]
        if not _same_along(statistic.expand_as(ratio), axes):
            continue
        inverted = last.operation is aten.div.Tensor
        if inverted and value is not last.args[1]:
            continue
        weights = ratio * statistic if inverted else ratio / statistic
        # What stands beside the statistic is a constant: one number, or one for each channel.
        for axis in range(2, weights.ndim):
            weights = weights.narrow(axis, 0, 1)
        wide = entered.to(torch.float64)
        scale: Tensor = weights / wide if inverted else weights * wide
        return scale
    return None
