"""Resolution of echoes in A-scans that overlap: delays, depths and amplitudes, with their uncertainties."""

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
from unconv.inverse.fields.pulse import pulse as checked_pulse
from unconv.inverse.fields.ultrasonic.reference import gate_samples, pulse_of_echo
from unconv.inverse.solvers.delays import Correlations, Fitted, cramer_rao
from unconv.inverse.solvers.echo_count import counted
from unconv.kinds import checks_kinds_but
from unconv.progress import Progress

_BATCH = 64  # scans that are processed at a time
# The misfit of each round of expectation-maximisation, in which clipped samples are filled from the echoes and echoes are found
# again. The first rounds find only separate echoes: others beside them would explain the clipped shape, and stay.
_CLIPPED_MISFITS = (0.7, 0.7, 0.3, 0.1, *(0.0,) * 14)
_END_MISFITS = (0.0,) * 8  # of the rounds if no sample is clipped, but echoes are cut off by the scan's ends
_MISFIT, _MIN_SCANS = 0.05, 5  # of a pulse whose misfit is not measured; scans that a measurement needs
_SEPARATE_MISFIT = 0.7  # with which only separate echoes are found
_MAX_ECHOES, _OUTSIDE_GATE = 64, 8  # of a scan; outside a gate, whose pulses reach into it
_CUT_OFF = 0.95  # of an echo's energy: an echo with less of it inside the scan counts as cut off

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Echoes:
    """The echoes of A-scans, in the order of their delays.

    Attributes:
        delays: (..., K), seconds, in the type of the scans; NaN beyond the number of echoes of a scan.
        amplitudes: (..., K), in units of the pulse; negative for an echo of reversed polarity.
        deviations: (..., K), standard deviations of the delays in seconds, by the Cramér-Rao bound.
        amplitude_deviations: (..., K), standard deviations of the amplitudes, by the same bound.
        depths: (..., K), metres, velocity * delay / 2; None without a velocity.
        order: (...), number of echoes in the gate.
        fitted: (...), number of echoes that were fitted, including those outside the gate.
        criterion: (..., m + 1), n log(sum of squares) + 3 log n for each echo, by the number of echoes; the number that was
            chosen has the lowest value.
        noise: (...), standard deviation of the residual.
        refit: (..., n), sum of the echoes in the gate.
        pulse: (k,), the pulse that was used.
        misfit: the misfit that was used.
        rate, start, gate: the arguments.
        kept: indices of the scans in which no echo was searched for.
        notes: anything unusual about the scans, and what was done about it.
        observed: the input scans.
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
        """Return in words why a scan has this number of echoes."""
        inside, order = int(_array(self.order)[scan]), int(_array(self.fitted)[scan])
        criterion = _array(self.criterion)[scan]
        parts = [f"{order} {'echo' if order == 1 else 'echoes'}{'' if inside == order else f', {inside} in the gate'}"]
        if order and np.isfinite(criterion[order - 1]):
            parts.append(f"the criterion falls by {criterion[order - 1] - criterion[order]:.1f} from {order - 1}")
        if order + 1 < len(criterion) and np.isfinite(criterion[order + 1]):
            parts.append(f"and rises by {criterion[order + 1] - criterion[order]:.1f} to {order + 1}")
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
    """Return the echoes of A-scans by maximum likelihood, also those closer together than the pulse is long.

    The model is y(t) = sum of amplitude pulse(t - delay) + noise; delays may lie between samples. Echoes are added, split,
    moved and removed as long as the criterion n log(sum of squares) + 3 log n for each echo falls. Each time, delays and
    amplitudes are fitted by least squares. An offset is removed and clipped samples count as missing; `notes` reports both.

    Args:
        ascan: (..., n), an A-scan, a B- or C-scan or a full matrix capture: a NumPy array or a tensor. Dead and broken (NaN)
            scans get no echoes and are listed in the result.
        pulse: (k,), the echo of a single reflector at the same sampling rate, or "estimate" for the strongest echo in the gate.
        rate: samples a second.
        velocity: of sound, in metres a second, for depths; a delay is the time there and back.
        gate: range of times in seconds in which echoes are searched for. By default the entire scan.
        most: largest number of echoes in a scan.
        misfit: how much the shapes of echoes differ from the pulse, as a share of their amplitude. An echo beside a stronger
            one must explain more than that. By default 0.05; for an estimated pulse it is measured on separate echoes if there
            are five scans or more.
        centre: index of the pulse's sample at an echo's delay. By default the middle, k // 2.
        start: seconds of the first sample.
        progress: called with ("finding echoes", scans done, all scans).

    Raises:
        ShapeError: a pulse longer than the scans; a gate outside them; a rate or velocity that is not above zero; a negative
            misfit.
        DtypeError, NonFinite: samples that are not real numbers; a pulse with NaN or infinite samples.

    Source:
        Demirli & Saniie, "Model-based estimation of ultrasonic echoes" (2001); Djurić (1996) for the criterion.
    """
    _check(velocity, most, misfit, start)
    scans = gather("resolve_echoes", ascan, "use")
    first, last = gate_samples("resolve_echoes", gate, rate, start, scans.samples.shape[1])
    estimated = isinstance(pulse, str)
    if estimated and pulse != "estimate":
        raise ShapeError(f"resolve_echoes: pulse is {pulse!r}, but an array (k,) or 'estimate' was needed.")
    own_pulse = pulse_of_echo(scans.samples, rate, gate, start) if estimated else pulse
    samples, middle = checked_pulse("resolve_echoes", own_pulse, centre)
    n = scans.samples.shape[1]
    if len(samples) > n:
        raise ShapeError(
            f"resolve_echoes: the pulse has {len(samples)} samples, but the scans only {n}. Cut off the ends of the pulse "
            "where it is close to zero."
        )
    # Echoes outside the gate reach into it. They are fitted too, but do not appear in the result or count against `most`.
    low, high = max(0, first - len(samples)), min(n, last + len(samples))
    y, offset_note = without_offset(scans.sound.double(), small=True)
    missing, template = flat(scans.sound)[:, low:high], samples.to(y)
    measured = _misfit(y[:, low:high], missing, template, middle) if estimated and misfit is None else misfit
    allowed = most if gate is None else min(_MAX_ECHOES, most + _OUTSIDE_GATE)
    settings = _Settings(template, middle, allowed, _MISFIT if measured is None else measured, (low == 0, high == n))
    batches = _resolved_in_batches(y[:, low:high], missing, settings, progress or (lambda *_: None))
    result = _Result(scans, batches, low, first, last, settings)
    arrays = result.arrays(rate, start)
    notes = [*scans.notes, *([offset_note] if offset_note else [])]
    notes += _notes(missing, arrays["order"], most, result.cut_off())
    if estimated:
        notes.append(_pulse_note(samples, rate, measured))
    arrays["depths"] = None if velocity is None else arrays["delays"] * (velocity / 2)
    arguments: dict[str, Any] = {
        "pulse": own_pulse,
        "misfit": settings.misfit,
        "rate": rate,
        "start": start,
        "gate": gate,
        "kept": scans.kept,
    }
    return Echoes(notes=tuple(notes), observed=ascan, **arguments, **arrays)


def _check(velocity: float | None, most: int, misfit: float | None, start: float) -> None:
    if velocity is not None and not 0 < velocity < float("inf"):
        raise ShapeError(f"resolve_echoes: velocity is {velocity}, but a number of metres a second above zero was needed.")
    if not 1 <= most <= _MAX_ECHOES:
        raise ShapeError(f"resolve_echoes: most is {most}, but 1 to {_MAX_ECHOES} was needed.")
    if not abs(start) < float("inf"):
        raise ShapeError(f"resolve_echoes: start is {start}, but a finite number of seconds was needed.")
    if misfit is not None and not 0 <= misfit < float("inf"):
        raise ShapeError(f"resolve_echoes: misfit is {misfit}, but a share of an echo's amplitude of 0 or more was needed.")


@dataclass(frozen=True)
class _Batch:
    """Echoes of some scans: fits, Cramér-Rao bounds, noise, criterion, and which echoes are cut off."""

    fit: Fitted
    delay_bounds: Tensor
    amplitude_bounds: Tensor
    noise: Tensor
    criterion: Tensor
    cut: Tensor

    def with_rows(self, rows: Tensor, by: _Batch) -> _Batch:
        """Return this batch with some rows replaced by those of another."""
        # The batches may have different numbers of echo slots: both are padded to the larger one.
        slots = max(self.cut.shape[1], by.cut.shape[1])

        def joined(ours: Tensor, theirs: Tensor, by_slot: bool = True) -> Tensor:
            values = F.pad(ours, (0, slots - ours.shape[1])) if by_slot else ours.clone()
            values[rows] = F.pad(theirs, (0, slots - theirs.shape[1])) if by_slot else theirs
            return values

        one, other = self.fit, by.fit
        slotwise = (joined(one.delays, other.delays), joined(one.amplitudes, other.amplitudes), joined(one.real, other.real))
        return _Batch(
            Fitted(one.rows, *slotwise, joined(one.residual, other.residual, by_slot=False)),
            joined(self.delay_bounds, by.delay_bounds),
            joined(self.amplitude_bounds, by.amplitude_bounds),
            joined(self.noise, by.noise, by_slot=False),
            joined(self.criterion, by.criterion, by_slot=False),
            joined(self.cut, by.cut),
        )


@dataclass(frozen=True)
class _Settings:
    """The pulse, the largest number of echoes and their misfit; `ends`: whether the samples reach the scan's start and end."""

    pulse: Tensor
    centre: int
    most: int
    misfit: float
    ends: tuple[bool, bool]


def _misfit(y: Tensor, missing: Tensor, pulse: Tensor, centre: int) -> float | None:
    """Return how much separate echoes differ from the pulse, as a share of their amplitude: the upper quartile.

    None if there are too few scans without clipped samples.
    """
    unclipped = ~missing.any(1)
    if int(unclipped.sum()) < _MIN_SCANS:
        return None
    some = y[unclipped][:: max(1, int(unclipped.sum()) // _BATCH)]
    fit = counted(Correlations(some, pulse, centre), 4, _SEPARATE_MISFIT).found
    residual = some - sum_of_pulses(fit, pulse, centre, y.shape[-1])
    half, shares = len(pulse) // 2, list[float]()
    loud = fit.real & (fit.amplitudes.abs() > fit.amplitudes.abs().max() / 4)
    for row, slot in loud.nonzero().tolist():
        sample = round(float(fit.delays[row, slot]))
        near = slice(max(0, sample - half), sample + half + 1)
        shares.append(float(residual[row, near].norm() / some[row, near].norm().clamp(min=1e-300)))
    return max(_MISFIT, float(np.quantile(shares, 0.75))) if shares else None


def _resolved_in_batches(y: Tensor, missing: Tensor, settings: _Settings, progress: Progress) -> list[_Batch]:
    batches = []
    for begin in range(0, len(y), _BATCH):
        progress("finding echoes", begin, len(y))
        some = slice(begin, begin + _BATCH)
        batches.append(_resolved(y[some], missing[some], settings))
    progress("finding echoes", len(y), len(y))
    return batches


def _resolved(y: Tensor, missing: Tensor, settings: _Settings) -> _Batch:
    """Return the echoes of some scans (B, n); clipped samples are missing, as are all beyond the ends of a scan."""
    batch = _by_em(y, missing, settings, (0.0,))
    # Most scans are complete, and one round suffices for them.
    incomplete = (missing.any(1) | batch.cut.any(1)).nonzero()[:, 0]
    if not len(incomplete):
        return batch
    rounds = _CLIPPED_MISFITS if bool(missing.any()) else _END_MISFITS
    return batch.with_rows(incomplete, _by_em(y[incomplete], missing[incomplete], settings, rounds))


def _by_em(y: Tensor, missing: Tensor, settings: _Settings, misfits: Sequence[float]) -> _Batch:
    """Return the echoes after one round of expectation-maximisation for each misfit: find echoes, fill missing samples."""
    k, centre = len(settings.pulse), settings.centre
    ends = tuple(k * end for end in settings.ends)
    filled, clipped, unknown = F.pad(y, ends), F.pad(missing, ends), F.pad(missing, ends, value=True)
    for least in misfits:
        table = Correlations(filled, settings.pulse, centre, (~unknown).sum(1))
        choice = counted(table, settings.most, max(settings.misfit, least))
        # A clipped sample is at least as large as the limit at which it was clipped.
        expected = sum_of_pulses(choice.found, settings.pulse, centre, filled.shape[-1])
        beyond = torch.where(filled > 0, torch.maximum(expected, filled), torch.minimum(expected, filled))
        filled = torch.where(clipped, beyond, torch.where(unknown, expected, filled))
    fit = choice.found
    # Each echo uses up two degrees of freedom, its delay and its amplitude.
    degrees = (~unknown).sum(1) - 2 * fit.real.sum(1)
    variance = fit.residual / degrees.clamp(min=1)
    share = _share_inside(fit.delays - ends[0], settings.pulse, centre, y.shape[1], settings.ends)
    delay, amplitude = (bound / share.sqrt() for bound in cramer_rao(table, fit, variance))
    shifted = replace(fit, delays=fit.delays - ends[0])
    return _Batch(shifted, delay, amplitude, variance.sqrt(), choice.criterion, fit.real & (share < _CUT_OFF))


def _share_inside(delays: Tensor, pulse: Tensor, centre: int, n: int, ends: tuple[bool, bool]) -> Tensor:
    """Return the share of a pulse's energy that lies inside a scan of n samples, for each delay."""
    energy = F.pad(pulse.square().cumsum(0), (1, 0))
    first = (centre - delays).ceil().long() if ends[0] else torch.zeros_like(delays, dtype=torch.long)
    last = (n + centre - delays).ceil().long() if ends[1] else torch.full_like(first, len(pulse))
    within = energy[last.clamp(0, len(pulse))] - energy[first.clamp(0, len(pulse))]
    return (within / energy[-1]).clamp(min=1e-6)


def sum_of_pulses(fit: Fitted, pulse: Tensor, centre: int, n: int) -> Tensor:
    """Return the sum of the shifted pulses, (B, n)."""
    # Shifts between samples are phase factors; the padding keeps pulses from wrapping around.
    length = n + 2 * len(pulse)
    frequencies = 2j * torch.pi * torch.fft.rfftfreq(length, dtype=torch.float64, device=pulse.device)
    shifts = (-frequencies * (fit.delays[..., None] - centre)).exp() * fit.amplitudes[..., None]
    total: Tensor = torch.fft.irfft(torch.fft.rfft(pulse, length) * shifts.sum(1), length)[:, :n]
    return total


@dataclass(frozen=True)
class _Result:
    """Converts the echoes of the usable scans to the order, units, type and shape of the public result."""

    scans: Gather
    batches: list[_Batch]
    low: int
    first: int
    last: int
    settings: _Settings

    def arrays(self, rate: float, start: float) -> dict[str, Any]:
        """Return the arrays of `Echoes` by name."""
        inside = [self.inside(batch.fit) for batch in self.batches]
        # All scans get as many columns as the one with the most echoes has; sorting by delay moves unused slots to the end.
        widest = max((int(each.sum(1).max()) for each in inside if len(each)), default=0)
        count = int(self.scans.used.sum())
        rows: dict[str, list[Tensor]] = {name: [] for name in ("delays", "amplitudes", "deviations", "amplitude_deviations")}
        for batch, shown in zip(self.batches, inside, strict=True):
            by_delay = torch.where(shown, batch.fit.delays, torch.inf).argsort(1)[:, :widest]
            real = shown.gather(1, by_delay)
            values = {
                "delays": start + (batch.fit.delays + self.low) / rate,
                "amplitudes": batch.fit.amplitudes,
                "deviations": batch.delay_bounds / rate,
                "amplitude_deviations": batch.amplitude_bounds,
            }
            for name, value in values.items():
                shown_values = torch.where(real, value.gather(1, by_delay), torch.nan)
                rows[name].append(F.pad(shown_values, (0, widest - shown_values.shape[1]), value=torch.nan))
        arrays = {
            name: self._for_all_scans(torch.cat(some) if some else torch.zeros(0, widest), torch.nan)
            for name, some in rows.items()
        }
        order = torch.cat([each.sum(1) for each in inside]) if inside else torch.zeros(0, dtype=torch.long)
        criterion = (
            torch.cat([batch.criterion for batch in self.batches]) if self.batches else torch.zeros(0, self.settings.most + 1)
        )
        noise = torch.cat([batch.noise for batch in self.batches]) if self.batches else torch.zeros(0)
        fitted = torch.cat([batch.fit.real.sum(1) for batch in self.batches]) if self.batches else order
        arrays["fitted"] = self._for_all_scans(fitted[:, None], 0)[..., 0]
        arrays["criterion"] = self._for_all_scans(criterion, torch.nan)
        arrays["order"] = self._for_all_scans(order[:, None], 0)[..., 0]
        arrays["noise"] = self._for_all_scans(noise[:, None], torch.nan)[..., 0]
        arrays["refit"] = self._refit(inside, count)
        return arrays

    def cut_off(self) -> int:
        """Return the number of echoes in the result that the scan's ends cut off."""
        return sum(int((batch.cut & self.inside(batch.fit)).sum()) for batch in self.batches)

    def inside(self, fit: Fitted) -> Tensor:
        """Return which echoes lie in the gate, (B, K)."""
        delays = fit.delays + self.low
        return fit.real & (delays >= self.first - 0.5) & (delays <= self.last - 0.5)

    def _refit(self, inside: list[Tensor], count: int) -> Any:
        n = self.scans.samples.shape[1]
        refit = torch.zeros((count, n), dtype=torch.float64, device=self.scans.samples.device)
        row = 0
        for batch, shown in zip(self.batches, inside, strict=True):
            fit = Fitted(batch.fit.rows, batch.fit.delays, batch.fit.amplitudes * shown, shown, batch.fit.residual)
            span = n - self.low
            refit[row : row + len(shown), self.low :] = sum_of_pulses(fit, self.settings.pulse, self.settings.centre, span)
            row += len(shown)
        return self.scans.like_given(refit, 0.0)

    def _for_all_scans(self, values: Tensor, rest: float) -> Any:
        return self.scans.like_given(values.to(self.scans.samples.device), rest)


def _notes(missing: Tensor, order: Any, most: int, cut_off: int) -> list[str]:
    notes = list[str]()
    if count := int(missing.sum()):
        scans = int(missing.any(1).sum())
        notes.append(
            f"treated {_number(count, 'clipped sample', 'clipped samples')} in {scans} of "
            f"{_number(len(missing), 'scan', 'scans')} as missing; the delay of an echo that is mostly clipped may be off by "
            "one period"
        )
    if cut_off:
        ends = _number(cut_off, "echo", "echoes")
        notes.append(f"the start or end of a scan cuts off {ends}; the standard deviations are larger there")
    limited = int((_array(order) >= most).sum())
    if limited:
        notes.append(
            f"the largest number of echoes ({most}) was reached in {_number(limited, 'scan', 'scans')}: the pulse may not "
            "match them. Pass the pulse of a single reflector, a gate, or a larger number"
        )
    return notes


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _pulse_note(pulse: Tensor, rate: float, measured: float | None) -> str:
    misfit = "" if measured is None else f"; the echoes differ from it by {100 * measured:.0f} %"
    return (
        f"the pulse is the strongest echo, {len(pulse)} samples or {len(pulse) / rate:.3g} s long{misfit}; all delays share "
        "the error of its middle, which the standard deviations do not include"
    )


def _array(values: Any) -> Array:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)
