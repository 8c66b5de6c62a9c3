"""Resolve echoes in A-scans, closer together than the pulse is long: delays, depths, amplitudes, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.fields.gather import Gather, flat, gather, without_offset
from unconv.inverse.fields.pulse import pulse as taken_pulse
from unconv.inverse.fields.ultrasonic.reference import gate_samples, pulse_of_echo
from unconv.inverse.solvers.delays import Correlations, Fitted, cramer_rao
from unconv.inverse.solvers.echo_count import counted
from unconv.kinds import checks_kinds_but
from unconv.progress import Progress

_TOGETHER = 64  # scans that are worked on at a time
# Misfits of the rounds in which clipped samples are filled with what the echoes say, and echoes are found again: at first only
# echoes that stand apart, since others beside them would mend the clipped shape and come to stay.
_REFILLS = (0.7, 0.7, 0.3, 0.1, *(0.0,) * 14)
_ENDS = (0.0,) * 8  # where the scan's ends alone cut echoes off
_MISFIT, _SCANS = 0.05, 5  # of a pulse whose fit is not known; scans from which it is measured
_APART = 0.7  # misfit with which only echoes that stand apart are found
_MOST, _BESIDE = 64, 8  # echoes of a scan, and those beside a gate that reach into it
_CUT = 0.95  # of an echo's energy: one of which less was observed is said to be cut off

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Echoes:
    """The echoes of A-scans, in the order of their delays.

    Attributes:
        delays: (..., K), seconds, in the kind the scans came in; NaN beyond a scan's own number of echoes.
        amplitudes: (..., K), in units of the pulse: negative where the echo is upside down.
        deviations: (..., K), standard deviations of the delays, in seconds: the Cramér-Rao bound.
        amplitude_deviations: (..., K).
        depths: (..., K), metres, velocity * delay / 2; None without a velocity.
        order: (...), how many echoes.
        fitted: (...), how many were fitted, those beside the gate among them.
        criterion: (..., m + 1), n log(sum of squares) + 3 log n for each echo fitted, lowest for as many as were chosen.
        noise: (...), standard deviation of what is left.
        refit: (..., n), the sum of the echoes, zero outside the gate.
        pulse, misfit: those that were used, (k,) and a share. `rate`, `start`, `gate`: as given.
        kept: numbers of the scans in which no echo was looked for.
        notes: what was odd about the scans, and what was done about it.
    """

    delays: Any
    amplitudes: Any
    deviations: Any
    amplitude_deviations: Any
    depths: Any
    order: Any
    fitted: Any
    criterion: Any
    noise: Any
    refit: Any
    pulse: Any
    misfit: float
    rate: float
    start: float = 0.0
    gate: tuple[float, float] | None = None
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    observed: Any = field(default=None, repr=False)

    def why(self, *scan: int) -> str:
        """Say in words why a scan has as many echoes as were found."""
        inside, order = int(_array(self.order)[scan]), int(_array(self.fitted)[scan])
        compared = _array(self.criterion)[scan]
        parts = [f"{order} {'echo' if order == 1 else 'echoes'}{'' if inside == order else f', {inside} in the gate'}"]
        if order and np.isfinite(compared[order - 1]):
            parts.append(f"the criterion falls by {compared[order - 1] - compared[order]:.1f} from {order - 1}")
        if order + 1 < len(compared) and np.isfinite(compared[order + 1]):
            parts.append(f"and rises by {compared[order + 1] - compared[order]:.1f} to {order + 1}")
        return ", ".join(parts)


@checks_kinds_but("ascan", "pulse")
def resolve_echoes(
    ascan: Any,
    pulse: Any = "estimate",
    rate: float = 1.0,
    velocity: float | None = None,
    *,
    gate: tuple[float, float] | None = None,
    most: int = 8,
    misfit: float | None = None,
    centre: int | None = None,
    start: float = 0.0,
    progress: Progress | None = None,
) -> Echoes:
    """Find the echoes in A-scans: y(t) = sum of amplitude pulse(t - delay) + noise, delays between samples included.

    Echoes are added, split, moved and taken away while n log(sum of squares) + 3 log n for each echo falls; delays and
    amplitudes are fitted by least squares each time. An offset is taken away, and clipped samples count as missing; both
    are said.

    Args:
        ascan: (..., n), an A-scan, a B- or C-scan or a full matrix capture: a NumPy array or a tensor. Dead and broken (NaN)
            scans have no echoes, and are listed.
        pulse: (k,), the echo of a single reflector, sampled as the scans are; or "estimate": the strongest echo in the gate.
        rate: samples a second. `velocity`: metres a second, for depths: there and back.
        gate: seconds between which echoes are looked for; by default the whole scan.
        most: echoes of a scan, at most.
        misfit: how far echoes' shapes are from the pulse's, as a share of their size, which is what an echo beside a stronger
            one must explain; by default 0.05, and for an estimated pulse measured, if five scans allow it, on echoes that
            stand apart.
        centre: the sample of the pulse that stands at an echo's delay; by default its middle, k // 2, of an even one
            the later of two.
        start: seconds of the first sample.

    Raises:
        ShapeError, DtypeError, NonFinite: a pulse that is longer than the scans, a gate outside them, a rate or velocity
            that is not above zero, a misfit below it.

    Source:
        Demirli & Saniie, "Model-based estimation of ultrasonic echoes" (2001); Djurić (1996) for the criterion.
    """
    _refuse(velocity, most, misfit, start)
    given = gather("resolve_echoes", ascan, "use")
    first, last = gate_samples("resolve_echoes", gate, rate, start, given.samples.shape[1])
    estimated = isinstance(pulse, str)
    if estimated and pulse != "estimate":
        raise ShapeError(f"resolve_echoes: pulse is {pulse!r}, but 'estimate' or an array (k,) was needed.")
    made = pulse_of_echo(given.samples, rate, gate, start) if estimated else pulse
    samples, at = taken_pulse("resolve_echoes", made, centre)
    n = given.samples.shape[1]
    if len(samples) > n:
        raise ShapeError(
            f"resolve_echoes: the pulse has {len(samples)} samples, but the scans only {n}. Cut the pulse to where it is not "
            "zero."
        )
    # Echoes beside the gate reach into it: they are fitted, too, and not told; nor do they use up what is allowed.
    low, high = max(0, first - len(samples)), min(n, last + len(samples))
    y, offset = without_offset(given.sound.double(), small=True)
    missing, template = flat(given.sound)[:, low:high], samples.to(y)
    measured = _misfit(y[:, low:high], missing, template, at) if estimated and misfit is None else misfit
    allowed = most if gate is None else min(_MOST, most + _BESIDE)
    asked = _Asked(template, at, allowed, _MISFIT if measured is None else measured, (low == 0, high == n))
    found = _found(y[:, low:high], missing, asked, progress or (lambda *_: None))
    told = _Told(given, found, low, first, last, asked)
    arrays = told.arrays(rate, start)
    notes = [*given.notes, *([offset] if offset else []), *_notes(missing, arrays["order"], most, told.cut())]
    if estimated:
        notes.append(_of_pulse(samples, rate, measured))
    arrays["depths"] = None if velocity is None else arrays["delays"] * (velocity / 2)
    known: dict[str, Any] = {
        "pulse": made,
        "misfit": asked.misfit,
        "rate": rate,
        "start": start,
        "gate": gate,
        "kept": given.kept,
    }
    return Echoes(notes=tuple(notes), observed=ascan, **known, **arrays)


def _refuse(velocity: float | None, most: int, misfit: float | None, start: float) -> None:
    if velocity is not None and not 0 < velocity < float("inf"):
        raise ShapeError(f"resolve_echoes: velocity is {velocity}, but metres a second, above zero, were needed.")
    if not 1 <= most <= _MOST:
        raise ShapeError(f"resolve_echoes: most is {most}, but 1 to {_MOST} echoes were needed.")
    if not abs(start) < float("inf"):
        raise ShapeError(f"resolve_echoes: start is {start}, but seconds were needed.")
    if misfit is not None and not 0 <= misfit < float("inf"):
        raise ShapeError(f"resolve_echoes: misfit is {misfit}, but a share of an echo's size, 0 or more, was needed.")


@dataclass(frozen=True)
class _Part:
    """What was found in some scans: fits, bounds, what is left and what was compared."""

    fit: Fitted
    delay_bounds: Tensor
    amplitude_bounds: Tensor
    noise: Tensor
    criterion: Tensor
    cut: Tensor

    def replaced(self, rows: Tensor, by: _Part) -> _Part:
        """Return this with some rows as another part has them."""
        slots = max(self.cut.shape[1], by.cut.shape[1])

        def joined(ours: Tensor, theirs: Tensor, by_slot: bool = True) -> Tensor:
            made = F.pad(ours, (0, slots - ours.shape[1])) if by_slot else ours.clone()
            made[rows] = F.pad(theirs, (0, slots - theirs.shape[1])) if by_slot else theirs
            return made

        one, other = self.fit, by.fit
        slotwise = (joined(one.delays, other.delays), joined(one.amplitudes, other.amplitudes), joined(one.real, other.real))
        return _Part(
            Fitted(one.rows, *slotwise, joined(one.residual, other.residual, by_slot=False)),
            joined(self.delay_bounds, by.delay_bounds),
            joined(self.amplitude_bounds, by.amplitude_bounds),
            joined(self.noise, by.noise, by_slot=False),
            joined(self.criterion, by.criterion, by_slot=False),
            joined(self.cut, by.cut),
        )


@dataclass(frozen=True)
class _Asked:
    """What is looked for: pulses, how many at most, how like; `ends`: whether the scan itself ends before and after."""

    pulse: Tensor
    centre: int
    most: int
    misfit: float
    ends: tuple[bool, bool]


def _misfit(y: Tensor, missing: Tensor, pulse: Tensor, centre: int) -> float | None:
    """Measure how far echoes that stand apart are from the pulse, as a share of their size: three of four are nearer.

    None: there are too few scans that are not clipped to measure it.
    """
    whole = ~missing.any(1)
    if int(whole.sum()) < _SCANS:
        return None
    some = y[whole][:: max(1, int(whole.sum()) // _TOGETHER)]
    found = counted(Correlations(some, pulse, centre), 4, _APART).found
    left = some - sum_of_pulses(found, pulse, centre, y.shape[-1])
    half, shares = len(pulse) // 2, list[float]()
    loud = found.real & (found.amplitudes.abs() > found.amplitudes.abs().max() / 4)
    for row, slot in loud.nonzero().tolist():
        at = round(float(found.delays[row, slot]))
        near = slice(max(0, at - half), at + half + 1)
        shares.append(float(left[row, near].norm() / some[row, near].norm().clamp(min=1e-300)))
    return max(_MISFIT, float(np.quantile(shares, 0.75))) if shares else None


def _found(y: Tensor, missing: Tensor, asked: _Asked, progress: Progress) -> list[_Part]:
    parts = []
    for begin in range(0, len(y), _TOGETHER):
        progress("finding echoes", begin, len(y))
        some = slice(begin, begin + _TOGETHER)
        parts.append(_resolved(y[some], missing[some], asked))
    progress("finding echoes", len(y), len(y))
    return parts


def _resolved(y: Tensor, missing: Tensor, asked: _Asked) -> _Part:
    """Find the echoes of some scans (B, n), clipped samples missing; beyond the ends of the scan all samples are."""
    found = _looked(y, missing, asked, (0.0,))
    again = (missing.any(1) | found.cut.any(1)).nonzero()[:, 0]
    if not len(again):
        return found
    rounds = _REFILLS if bool(missing.any()) else _ENDS
    return found.replaced(again, _looked(y[again], missing[again], asked, rounds))


def _looked(y: Tensor, missing: Tensor, asked: _Asked, misfits: Sequence[float]) -> _Part:
    """Find echoes as often as there are misfits, each time with the missing samples as the echoes found before say they are."""
    k, centre = len(asked.pulse), asked.centre
    ends = tuple(k * end for end in asked.ends)
    filled, clipped, lost = F.pad(y, ends), F.pad(missing, ends), F.pad(missing, ends, value=True)
    for least in misfits:
        table = Correlations(filled, asked.pulse, centre, (~lost).sum(1))
        choice = counted(table, asked.most, max(asked.misfit, least))
        # Expectation-maximisation; what is clipped is no smaller than its limit.
        said = sum_of_pulses(choice.found, asked.pulse, centre, filled.shape[-1])
        beyond = torch.where(filled > 0, torch.maximum(said, filled), torch.minimum(said, filled))
        filled = torch.where(clipped, beyond, torch.where(lost, said, filled))
    fit = choice.found
    seen = (~lost).sum(1) - 2 * fit.real.sum(1)
    variance = fit.residual / seen.clamp(min=1)
    share = _observed(fit.delays - ends[0], asked.pulse, centre, y.shape[1], asked.ends)
    delay, amplitude = (bound / share.sqrt() for bound in cramer_rao(table, fit, variance))
    moved = replace(fit, delays=fit.delays - ends[0])
    return _Part(moved, delay, amplitude, variance.sqrt(), choice.criterion, fit.real & (share < _CUT))


def _observed(delays: Tensor, pulse: Tensor, centre: int, n: int, ends: tuple[bool, bool]) -> Tensor:
    """Return which share of a pulse's energy lies within a scan of n samples, at each delay."""
    energy = F.pad(pulse.square().cumsum(0), (1, 0))
    first = (centre - delays).ceil().long() if ends[0] else torch.zeros_like(delays, dtype=torch.long)
    last = (n + centre - delays).ceil().long() if ends[1] else torch.full_like(first, len(pulse))
    within = energy[last.clamp(0, len(pulse))] - energy[first.clamp(0, len(pulse))]
    return (within / energy[-1]).clamp(min=1e-6)


def sum_of_pulses(fit: Fitted, pulse: Tensor, centre: int, n: int) -> Tensor:
    """Return the sum of shifted pulses: (B, n)."""
    length = n + 2 * len(pulse)
    turns = 2j * torch.pi * torch.fft.rfftfreq(length, dtype=torch.float64, device=pulse.device)
    shifts = (-turns * (fit.delays[..., None] - centre)).exp() * fit.amplitudes[..., None]
    made: Tensor = torch.fft.irfft(torch.fft.rfft(pulse, length) * shifts.sum(1), length)[:, :n]
    return made


@dataclass(frozen=True)
class _Told:
    """Brings what was found in the sound scans into the order, units, kind and shape that a user reads."""

    given: Gather
    parts: list[_Part]
    low: int
    first: int
    last: int
    asked: _Asked

    def arrays(self, rate: float, start: float) -> dict[str, Any]:
        inside = [self.inside(part.fit) for part in self.parts]
        widest = max((int(each.sum(1).max()) for each in inside if len(each)), default=0)
        count = int(self.given.used.sum())
        rows: dict[str, list[Tensor]] = {name: [] for name in ("delays", "amplitudes", "deviations", "amplitude_deviations")}
        for part, shown in zip(self.parts, inside, strict=True):
            when = torch.where(shown, part.fit.delays, torch.inf)
            order = when.argsort(1)[:, :widest]
            real = shown.gather(1, order)
            values = {
                "delays": start + (part.fit.delays + self.low) / rate,
                "amplitudes": part.fit.amplitudes,
                "deviations": part.delay_bounds / rate,
                "amplitude_deviations": part.amplitude_bounds,
            }
            for name, value in values.items():
                shown_values = torch.where(real, value.gather(1, order), torch.nan)
                rows[name].append(F.pad(shown_values, (0, widest - shown_values.shape[1]), value=torch.nan))
        found = {
            name: self._whole(torch.cat(some) if some else torch.zeros(0, widest), torch.nan) for name, some in rows.items()
        }
        order = torch.cat([each.sum(1) for each in inside]) if inside else torch.zeros(0, dtype=torch.long)
        criterion = torch.cat([part.criterion for part in self.parts]) if self.parts else torch.zeros(0, self.asked.most + 1)
        noise = torch.cat([part.noise for part in self.parts]) if self.parts else torch.zeros(0)
        fitted = torch.cat([part.fit.real.sum(1) for part in self.parts]) if self.parts else order
        found["fitted"] = self._whole(fitted[:, None], 0)[..., 0]
        found["criterion"] = self._whole(criterion, torch.nan)
        found["order"] = self._whole(order[:, None], 0)[..., 0]
        found["noise"] = self._whole(noise[:, None], torch.nan)[..., 0]
        found["refit"] = self._refit(inside, count)
        return found

    def cut(self) -> int:
        """Count the echoes told that the scan's ends cut off."""
        return sum(int((part.cut & self.inside(part.fit)).sum()) for part in self.parts)

    def inside(self, fit: Fitted) -> Tensor:
        when = fit.delays + self.low
        return fit.real & (when >= self.first - 0.5) & (when <= self.last - 0.5)

    def _refit(self, inside: list[Tensor], count: int) -> Any:
        n = self.given.samples.shape[1]
        whole = torch.zeros((count, n), dtype=torch.float64, device=self.given.samples.device)
        at = 0
        for part, shown in zip(self.parts, inside, strict=True):
            fit = Fitted(part.fit.rows, part.fit.delays, part.fit.amplitudes * shown, shown, part.fit.residual)
            span = n - self.low
            whole[at : at + len(shown), self.low :] = sum_of_pulses(fit, self.asked.pulse, self.asked.centre, span)
            at += len(shown)
        return self.given.like_given(whole, 0.0)

    def _whole(self, values: Tensor, rest: float) -> Any:
        return self.given.like_given(values.to(self.given.samples.device), rest)


def _notes(missing: Tensor, order: Any, most: int, cut: int) -> list[str]:
    notes = list[str]()
    if count := int(missing.sum()):
        scans = int(missing.any(1).sum())
        notes.append(
            f"{count} clipped samples in {scans} of {_many(len(missing), 'scan', 'scans')} count as missing; where most of an "
            "echo is clipped, its delay may be off by an oscillation"
        )
    if cut:
        ends = _many(cut, "echo", "echoes")
        notes.append(f"the scan's ends cut off {ends}: less is known of what is cut off, and its deviation is larger")
    full = int((_array(order) >= most).sum())
    if full:
        notes.append(
            f"as many echoes as were allowed ({most}) are in {_many(full, 'scan', 'scans')}: the pulse may not be theirs. Pass "
            "the pulse of a single reflector, a gate, or a larger number"
        )
    return notes


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _of_pulse(pulse: Tensor, rate: float, measured: float | None) -> str:
    told = "" if measured is None else f"; echoes differ from it by {100 * measured:.0f} %"
    return (
        f"the pulse is the strongest echo, {len(pulse)} samples, {len(pulse) / rate:.3g} s{told}; all delays share the error "
        "of where its middle was taken, which the deviations leave out"
    )


def _array(values: Any) -> Array:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)
