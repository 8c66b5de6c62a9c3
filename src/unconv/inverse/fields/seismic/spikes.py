"""Find the spikes in seismic traces: reflection coefficients behind a known wavelet."""

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

_BALANCED = 0.05  # the share of a wavelet's absolute sum below which its own sum counts as none


@dataclass(frozen=True, eq=False)
class Spikes:
    """Spikes of traces, and how sure they are.

    Attributes:
        spikes: (..., n), amplitudes in the units of the traces over those of the wavelet, in the kind the traces came in.
        deviation: (..., n), their posterior standard deviations, given where the spikes are; NaN by methods without.
        noise: (...), the standard deviation of each trace's noise, NaN of a trace that was kept as it is.
        refit: (..., n), the spikes behind the wavelet: what of the traces they explain.
        converged: every trace met its solver's rule for stopping.
        method: the method used.
        kept: numbers of the traces that were left as they are.
        notes: what was odd about the traces, and what was done about it.
        rate, start: samples a second, and seconds of the first sample, as they were given.
        observed: the traces, as they came.
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
    """Find the spikes r of traces y = wavelet * r + noise.

    Args:
        traces: (..., n), one trace, a gather or a volume: a NumPy array or a tensor. Dead, clipped and broken (NaN) traces are
            kept as they are and listed.
        wavelet: (k,), no longer than the traces.
        noise: "estimate", from each trace; or its standard deviation, in the traces' units: a number, or one for each trace,
            (...). One that is far too small lets noise be taken for spikes.
        method: "sbl": sparse Bayesian learning, then the most probable choice among its spikes; "sbl-only"; "l1";
            "reweighted-l1". See docs/spikes.md.
        centre: the sample of the wavelet at a spike's time; by default its middle, k // 2, of an even one the
            later of two; 0 of a minimum-phase one. Spikes are not looked for where less than a hundredth of the
            wavelet's energy would be observed.
        rate: samples a second; `start`: seconds of the first one. They travel with the result.
        misfit: how far the wavelet is from the true one, as a share of the traces: as much is no longer explained by spikes and
            counts as noise. About 0.1 for an estimated wavelet, without which its errors become spikes.
        clipped: "keep" clipped traces as they are, or "use" them as others.

    Raises:
        ShapeError, DtypeError, NonFinite: a wavelet that is longer than the traces, or no wavelet; traces of no numbers; an
            unknown method; a noise or a rate that is not above zero.

    Source:
        Tipping (2001); Kormylo & Mendel (1982); see `sparse_bayesian` and `bernoulli_gaussian` of `unconv.inverse`.
    """
    if method not in SPIKES:
        raise ShapeError(
            f"sparse_spikes: method is {method!r}; there are {', '.join(SPIKES)}. Nearest: {nearest(method, SPIKES)}."
        )
    if not 0 <= misfit < float("inf"):
        raise ShapeError(f"sparse_spikes: misfit is {misfit}, but a share of the traces, 0 or more, was needed.")
    if not 0 < rate < float("inf"):
        raise ShapeError(f"sparse_spikes: rate is {rate}, but samples a second, above zero, were needed.")
    given = gather("sparse_spikes", traces, clipped)
    samples, at = pulse("sparse_spikes", wavelet, centre)
    operator = on_traces("sparse_spikes", samples, at, given.samples.shape[1])
    told = list(given.notes)
    if float(samples.sum().abs()) < _BALANCED * float(samples.abs().sum()):
        # Spikes behind a wavelet without a mean have none either: what of one there is, is the instrument's.
        sound, said = without_offset(given.sound)
        given, told = given.using(sound), [*told, *([said] if said else [])]
    level_told = _level(noise, np.shape(traces)[:-1])
    known = None if level_told is None else level_told.to(given.samples)[given.used]
    parts = _solved(given, operator, SOLVERS[method], known, misfit, progress or (lambda *_: None))
    spikes, deviation, level, refit, converged = parts
    whole = given.samples.new_full((len(given.samples),), torch.nan)
    whole[given.used] = level
    shape = np.shape(traces)[:-1]
    noises: Any = whole.reshape(shape) if isinstance(traces, Tensor) else whole.reshape(shape).cpu().numpy()
    return Spikes(
        given.like_given(spikes),
        given.like_given(deviation, torch.nan),
        noises,
        given.like_given(refit),
        converged,
        method,
        given.kept,
        tuple(told),
        rate,
        start,
        traces,
    )


def _level(noise: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Return the noise of each trace, (count,), or None where it is to be estimated."""
    if isinstance(noise, str):
        if noise != "estimate":
            raise ShapeError(f"sparse_spikes: noise is {noise!r}, but 'estimate' or a standard deviation was needed.")
        return None
    try:
        level = torch.as_tensor(
            np.asarray(noise, dtype=np.float64) if not isinstance(noise, Tensor) else noise.detach()
        ).double()
    except (TypeError, ValueError):
        raise DtypeError(f"sparse_spikes: noise is {noise!r}, but 'estimate' or a number was needed.") from None
    if level.ndim and tuple(level.shape) != shape:
        raise ShapeError(
            f"sparse_spikes: noise is {tuple(level.shape)}, but one number, or one for each trace, {shape}, was needed."
        )
    every = level.expand(shape).reshape(-1)
    if not bool(((every > 0) & torch.isfinite(every)).all()):
        raise ShapeError(f"sparse_spikes: noise is {noise}, but a number above zero was needed. Or pass 'estimate'.")
    return every


def _solved(
    given: Gather, operator: Any, method: Solve, noise: Tensor | None, misfit: float, progress: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    """Solve block by block: spikes, deviations, noise, refit, and whether all converged."""
    y = given.sound
    # Traces and wavelet are brought to size 1: squares of small numbers would vanish in float32.
    peak = y.double().abs().amax(1).clamp(min=torch.finfo(torch.float64).tiny)
    size = peak * (y.double() / peak[:, None]).square().mean(1).sqrt()
    high = operator.kernel.abs().max()
    loud = float(high * (operator.kernel / high).norm())
    unit = on_traces("sparse_spikes", operator.kernel / loud, operator.centre[0], y.shape[1])
    back = size / loud
    found = [torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y[:, 0]), torch.zeros_like(y)]
    converged = True
    for some in blocks(len(y), y.shape[1], len(operator.kernel)):
        progress("finding spikes", some.start, len(y))
        scaled = (y[some].double() / size[some, None]).to(y.dtype)
        level = None if noise is None else (noise[some] / size[some]).to(y.dtype)
        spikes, deviation, noises, done = method(unit, scaled, level)
        if misfit:
            # The traces have size 1 here. What is told is the noise without the misfit.
            spikes, deviation, _, done = method(unit, scaled, (noises.square() + misfit**2).sqrt().to(y.dtype))
        converged &= done
        refit = unit.forward(spikes)
        scales = (back[some, None], back[some, None], size[some], size[some, None])
        for whole, part, scale in zip(found, (spikes, deviation, noises, refit), scales, strict=True):
            whole[some] = (part.double() * scale).to(y.dtype)
    progress("finding spikes", len(y), len(y))
    return (*found, converged)  # type: ignore[return-value]
