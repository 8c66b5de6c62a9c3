"""Recognise norms that a network writes out as formulas: `(x - x.mean(1)) / x.std(1)`.

A method freezes a norm at the scale that it took from the picture, and its mean too. In a norm that is written out, only the
quotient would be frozen, as a gate, and signals would pass through the mean. As for activations, we run the formula. It is a
norm if its result is the input less its mean over some axes, times a factor that is the same along those axes, and if the
result changes neither with a constant added to the input nor (except for its epsilon) with the input's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unconv.reverse.rewriting.written_out import Formula, compact, formulas, is_part, mark_parts
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
_SHORT = 4  # samples along an axis of the probes


def written_norms(tape: Tape) -> Tape:
    """Return the tape with each norm that is written out as one step: a product with the scale it took from the picture.

    That step has the place and the value of the formula's quotient, which it keeps as `written`.
    """
    producers: dict[int, tuple[int, Step]] = {}
    steps, parts = list[Step](), dict[int, str]()
    for number, step in enumerate(tape.steps):
        norm = _recognise(step, producers)
        if norm is not None:
            formula, step = norm
            parts |= {id(part): step.place for part in formula.steps[:-1]}
        steps.append(step)
        producers |= {value.index: (number, step) for value in step.outputs if value}
    if not parts:
        return tape
    return replace(tape, steps=tuple(mark_parts(steps, parts, tape)))


def _recognise(step: Step, producers: Mapping[int, tuple[int, Step]]) -> tuple[Formula, Step] | None:
    if step.operation not in _QUOTIENTS or len(step.inputs) != 2 or not isinstance(step.kept, tuple):
        return None
    for formula in formulas(step, producers, lambda part: is_part(part) or part.operation in STATISTICS):
        if any(part.operation in STATISTICS for part in formula.steps):
            scale = _scale(formula)
            if scale is not None:
                root = formula.root
                args = (root, scale.to(root.dtype))
                return formula, Step(SCALED, args, (root,), step.outputs[:1], step.place, written=step)
    return None


def _scale(formula: Formula) -> Tensor | None:
    """Return the factor of each centred sample at the recorded values; None if the formula is no norm."""
    compacted = compact(formula)
    if compacted is None:
        return None
    small, extents = compacted
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
    # Try the axes of a norm: channels, samples, both, or the last axis. The output divided by the centred input is the scale.
    # Gains of channels cancel in the quotient of two inputs' scales, so for the right axes it is constant along them.
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
    """Return the scale at the recorded values: the recorded statistic, times the constant that the probes show beside it."""
    for value, tensor in zip(last.inputs, last.kept, strict=True):
        statistic = run[value.index]
        if not _same_along(statistic.expand_as(ratio), axes):
            continue
        inverted = last.operation is aten.div.Tensor
        if inverted and value is not last.args[1]:
            continue
        weights = ratio * statistic if inverted else ratio / statistic
        # The factor beside the statistic is a constant: one number, or one for each channel.
        for axis in range(2, weights.ndim):
            weights = weights.narrow(axis, 0, 1)
        wide = tensor.to(torch.float64)
        scale: Tensor = weights / wide if inverted else weights * wide
        return scale
    return None
