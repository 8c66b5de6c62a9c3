"""Sparse-spike deconvolution of seismic traces: reflection coefficients, given the wavelet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, ShapeError, nearest
from unconv.inverse.fields.gather import Gather, gather, without_offset
from unconv.inverse.fields.pulse import blocks, on_traces, pulse
from unconv.inverse.fields.seismic.method_table import SPIKES
from unconv.inverse.fields.seismic.methods import SOLVERS, Solve
from unconv.kinds import checks_kinds_but
from unconv.progress import Progress

_ZERO_MEAN = 0.05  # of a wavelet's absolute sum: with a smaller sum it counts as a wavelet without a mean


@dataclass(frozen=True, eq=False)
class Spikes:
    """Spikes of traces and their uncertainties.

    Attributes:
        spikes: (..., n), amplitudes in the units of the traces over those of the wavelet, in the type of the traces.
        deviation: (..., n), posterior standard deviations of the amplitudes, conditional on the positions of the spikes; NaN
            for methods that have none.
        noise: (...), standard deviation of each trace's noise; NaN for traces that were left unchanged.
        refit: (..., n), the spikes convolved with the wavelet: the part of the traces that they explain.
        converged: whether the solver met its stopping rule for every trace.
        method: the method used.
        kept: indices of the traces that were not deconvolved and are returned unchanged.
        notes: anything unusual about the traces, and what was done about it.
        rate: samples a second, as passed.
        start: seconds of the first sample, as passed.
        observed: the input traces.
    """

    spikes: Any
    deviation: Any
    noise: Any
    refit: Any
    converged: bool
    method: str
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    rate: float = 1.0
    start: float = 0.0
    observed: Any = field(default=None, repr=False)

    @property
    def times(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n,), seconds of each sample."""
        return self.start + np.arange(np.shape(self.spikes)[-1]) / self.rate


@checks_kinds_but("traces", "wavelet", "noise")
def sparse_spikes(
    traces: Any,
    wavelet: Any,
    noise: float | str | Tensor = "estimate",
    method: str = "sbl",
    *,
    centre: int | None = None,
    rate: float = 1.0,
    start: float = 0.0,
    misfit: float = 0.0,
    clipped: str = "keep",
    progress: Progress | None = None,
) -> Spikes:
    """Return the spikes r of traces y = wavelet * r + noise, by sparse Bayesian or l1 deconvolution.

    Args:
        traces: (..., n), one trace, a gather or a volume: a NumPy array or a tensor. Dead, clipped and broken (NaN) traces are
            returned unchanged and listed in the result.
        wavelet: (k,), no longer than the traces.
        noise: "estimate", for each trace, or a standard deviation in the traces' units: one number, or one for each trace,
            (...). A value that is far too small turns noise into spikes.
        method: "sbl" is sparse Bayesian learning, followed by the most probable choice of its spikes. "sbl-only" is sparse
            Bayesian learning alone. "l1" and "reweighted-l1" minimise the l1 norm. See docs/spikes.md.
        centre: index of the wavelet's sample at a spike's time. By default the middle, k // 2; pass 0 for a minimum-phase
            wavelet. There are no spikes at times where less than a hundredth of the wavelet's energy would be recorded.
        rate: samples a second; part of the result.
        start: seconds of the first sample; part of the result.
        misfit: error of the wavelet as a share of the traces. That much counts as noise and is not explained by spikes. About
            0.1 suits an estimated wavelet; with 0, its errors become spikes.
        clipped: "keep" returns clipped traces unchanged; "use" deconvolves them like the others.
        progress: called with ("finding spikes", traces done, all traces).

    Raises:
        ShapeError: a wavelet longer than the traces, or of zeros only; traces of another shape; an unknown method; a noise or
            rate that is not above zero.
        DtypeError, NonFinite: samples that are not real numbers; a wavelet with NaN or infinite samples.

    Source:
        Tipping (2001); Kormylo & Mendel (1982); see `sparse_bayesian` and `bernoulli_gaussian` of `unconv.inverse`.
    """
    if method not in SPIKES:
        raise ShapeError(
            f"sparse_spikes: method is {method!r}, but one of {', '.join(SPIKES)} was needed. "
            f"Nearest: {nearest(method, SPIKES)}."
        )
    if not 0 <= misfit < float("inf"):
        raise ShapeError(f"sparse_spikes: misfit is {misfit}, but a share of the traces of 0 or more was needed.")
    if not 0 < rate < float("inf"):
        raise ShapeError(f"sparse_spikes: rate is {rate}, but a number of samples a second above zero was needed.")
    section = gather("sparse_spikes", traces, clipped)
    samples, middle = pulse("sparse_spikes", wavelet, centre)
    operator = on_traces("sparse_spikes", samples, middle, section.samples.shape[1])
    notes = list(section.notes)
    if float(samples.sum().abs()) < _ZERO_MEAN * float(samples.abs().sum()):
        # Spikes convolved with a wavelet of zero mean have zero mean too: an offset of the traces comes from the instrument.
        sound, offset_note = without_offset(section.sound)
        section, notes = section.using(sound), [*notes, *([offset_note] if offset_note else [])]
    levels = _levels(noise, np.shape(traces)[:-1])
    known = None if levels is None else levels.to(section.samples)[section.used]
    solution = _solved(section, operator, SOLVERS[method], known, misfit, progress or (lambda *_: None))
    spikes, deviation, level, refit, converged = solution
    all_levels = section.samples.new_full((len(section.samples),), torch.nan)
    all_levels[section.used] = level
    shape = np.shape(traces)[:-1]
    noises: Any = all_levels.reshape(shape) if isinstance(traces, Tensor) else all_levels.reshape(shape).cpu().numpy()
    return Spikes(
        section.like_given(spikes),
        section.like_given(deviation, torch.nan),
        noises,
        section.like_given(refit),
        converged,
        method,
        section.kept,
        tuple(notes),
        rate,
        start,
        traces,
    )


def _levels(noise: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Return the noise of each trace, (count,), or None if it is to be estimated."""
    if isinstance(noise, str):
        if noise != "estimate":
            raise ShapeError(f"sparse_spikes: noise is {noise!r}, but a standard deviation or 'estimate' was needed.")
        return None
    try:
        level = torch.as_tensor(
            np.asarray(noise, dtype=np.float64) if not isinstance(noise, Tensor) else noise.detach()
        ).double()
    except (TypeError, ValueError):
        raise DtypeError(f"sparse_spikes: noise is {noise!r}, but a number or 'estimate' was needed.") from None
    if level.ndim and tuple(level.shape) != shape:
        raise ShapeError(
            f"sparse_spikes: noise has shape {tuple(level.shape)}, but one number, or one for each trace with shape {shape}, "
            "was needed."
        )
    levels = level.expand(shape).reshape(-1)
    if not bool(((levels > 0) & torch.isfinite(levels)).all()):
        raise ShapeError(f"sparse_spikes: noise is {noise}, but a number above zero was needed. Pass one or 'estimate'.")
    return levels


def _solved(
    section: Gather, operator: Any, method: Solve, noise: Tensor | None, misfit: float, progress: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    """Return spikes, deviations, noise and refit, solved block by block, and whether all traces converged."""
    y = section.sound
    # Traces are scaled to a root mean square of 1 and the wavelet to a norm of 1: squares of small numbers would vanish in
    # float32. Dividing by the peak first keeps the squares in range even in float64.
    peak = y.double().abs().amax(1).clamp(min=torch.finfo(torch.float64).tiny)
    size = peak * (y.double() / peak[:, None]).square().mean(1).sqrt()
    largest = operator.kernel.abs().max()
    norm = float(largest * (operator.kernel / largest).norm())
    unit = on_traces("sparse_spikes", operator.kernel / norm, operator.centre[0], y.shape[1])
    unscale = size / norm
    results = [torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y[:, 0]), torch.zeros_like(y)]
    converged = True
    for some in blocks(len(y), y.shape[1], len(operator.kernel)):
        progress("finding spikes", some.start, len(y))
        scaled = (y[some].double() / size[some, None]).to(y.dtype)
        level = None if noise is None else (noise[some] / size[some]).to(y.dtype)
        spikes, deviation, noises, done = method(unit, scaled, level)
        if misfit:
            # The scaled traces have size 1, so misfit is an amplitude here. The noise in the result does not include it.
            spikes, deviation, _, done = method(unit, scaled, (noises.square() + misfit**2).sqrt().to(y.dtype))
        converged &= done
        refit = unit.forward(spikes)
        scales = (unscale[some, None], unscale[some, None], size[some], size[some, None])
        for result, part, scale in zip(results, (spikes, deviation, noises, refit), scales, strict=True):
            result[some] = (part.double() * scale).to(y.dtype)
    progress("finding spikes", len(y), len(y))
    return (*results, converged)  # type: ignore[return-value]
