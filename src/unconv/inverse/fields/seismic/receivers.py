"""Receiver functions: the radial component deconvolved by the vertical one, which leaves the conversions below a station."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted, nearest
from unconv.inverse.fields.gather import Gather, gather
from unconv.inverse.fields.seismic.tapers import slepian
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.greedy import pursue
from unconv.kinds import checks_kinds

Deconvolution = Literal["iterative", "waterlevel", "multitaper"]

_TAIL = 8.0  # standard deviations of the low-pass's impulse response that are kept
_TOLERANCE = 1e-6  # seconds by which a window may exceed the traces, since its ends are rounded to samples


@dataclass(frozen=True)
class ReceiverFunctions:
    """Receiver functions, and the share of the radial components that they explain.

    Attributes:
        trace: (..., m), in the type and shape of the radial components; NaN for pairs without a receiver function.
        times: (m,), seconds after the direct wave, float64; negative before it.
        fit: (...), explained share of the energy of the low-passed radial component; NaN for pairs without one.
        kept: indices of the pairs without a receiver function.
        notes: the reasons.
    """

    trace: Any
    times: Any
    fit: Any
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@checks_kinds
def receiver_function(
    radial: Any,
    vertical: Any,
    rate: float,
    method: str = "iterative",
    *,
    start: float = -5.0,
    end: float | None = None,
    gauss: float | None = 0.5,
    spikes: int = 400,
    min_gain: float = 1e-5,
    water: float = 0.01,
    noise: Any = None,
    bandwidth: float = 2.5,
    tapers: int = 3,
    clipped: str = "keep",
) -> ReceiverFunctions:
    """Return receiver functions: radial components deconvolved by vertical ones.

    Amplitudes are relative to the direct wave: the vertical component deconvolved by itself is 1 at time 0.

    Args:
        radial, vertical: (..., n), arrays or tensors of one shape that begin at the same time.
        rate: samples a second.
        method: "iterative" adds one spike after another by matching pursuit and is the least sensitive to noise. "waterlevel"
            divides the spectra. "multitaper" divides spectra that are averaged over Slepian tapers of the traces' length,
            which weight late conversions less.
        start, end: window of the result in seconds, rounded to samples. By default it has as many samples as the traces.
        gauss: standard deviation in Hz of the low-pass exp(-f^2 / (2 gauss^2)), at which 0.607 passes, as in rf 1.1.2.
            Ligorria & Ammon's exp(-w^2 / (4 a^2)) is the same for a = 2^(1/2) pi gauss, 2.2 for 0.5 Hz. None: no low-pass.
        spikes: largest number of spikes, for "iterative". They may lie from the window's start or time 0 on, and after the
            window's end.
        min_gain: "iterative" stops when a spike explains less than this share of the radial component's energy.
        water: for "waterlevel", the smallest power to divide by, as a share of the largest. For "multitaper" without noise,
            the share of the largest power that is added.
        noise: (..., p), the vertical components before the wave arrives, for "multitaper".
        bandwidth, tapers: half the time-bandwidth product, and the number of tapers, for "multitaper".
        clipped: "keep" leaves clipped traces out; "use" treats them like the others.

    Raises:
        ShapeError: shapes that differ; a rate that is not above zero; a window beyond the traces; no usable pair of traces; an
            unknown method or a setting out of its range.
        DtypeError: samples that are not real numbers; components on different devices.

    Source:
        Ligorria & Ammon, "Iterative deconvolution and receiver-function estimation" (1999); Langston, "Structure under Mount
        Rainier, Washington, inferred from teleseismic body waves" (1979) and Clayton & Wiggins, "Source shape estimation and
        deconvolution of teleseismic bodywaves" (1976) for the water level; Park & Levin, "Receiver functions from
        multiple-taper spectral correlation estimates" (2000).
    """
    pairs, other = _pairs(radial, vertical, clipped)
    settings = _Settings(rate, start, end, gauss, spikes, min_gain, water, bandwidth, tapers, pairs.samples.shape[-1])
    settings.check(method)
    quiet = None if noise is None else _noise(noise, pairs).to(pairs.samples)
    r, v = pairs.sound, other[pairs.used].to(pairs.sound)
    # Scaled to their peaks, so that the squares of displacements of nanometres do not vanish in float32.
    radial_peak, vertical_peak = r.abs().amax(1, keepdim=True), v.abs().amax(1, keepdim=True)
    pair = _Pair.of(r / radial_peak, v / vertical_peak, settings)
    response, own = _METHODS[method](pair, settings, None if quiet is None else quiet / vertical_peak)
    passed = response * pair.low_pass
    traces = torch.fft.irfft(passed, settings.grid).roll(-settings.first, -1)[:, : settings.samples]
    # `own` is the vertical component's receiver function of itself; dividing by its height makes the direct wave 1.
    height = pair.integral(own * pair.low_pass) / settings.grid
    target = pair.radial * pair.low_pass
    residual, energy = (pair.integral(x.abs().square()) for x in (target - passed * pair.vertical, target))
    fit = torch.where(energy > 0, 1 - residual / energy, 0)
    times = (settings.first + torch.arange(settings.samples, dtype=torch.double)) / rate
    nan = float("nan")
    return ReceiverFunctions(
        pairs.like_given(traces / height * (radial_peak / vertical_peak), nan),
        times if isinstance(radial, Tensor) else times.numpy(),
        pairs.like_given(fit, nan)[..., 0],
        pairs.kept,
        tuple(note.replace("kept as they are", "no receiver function (NaN)") for note in pairs.notes),
    )


def _pairs(radial: Any, vertical: Any, clipped: str) -> tuple[Gather, Tensor]:
    """Return the radial components, with a pair left out if either trace is bad, and the vertical components (count, n)."""
    r, v = gather("receiver_function: radial", radial, clipped), gather("receiver_function: vertical", vertical, clipped)
    shapes = tuple(getattr(radial, "shape", r.samples.shape)), tuple(getattr(vertical, "shape", v.samples.shape))
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"receiver_function: radial is {shapes[0]} but vertical is {shapes[1]}, but one shape was needed. Cut both to the "
            "same window; expand a vertical component that belongs to several radial ones."
        )
    if r.samples.device != v.samples.device:
        raise DtypeError(
            f"receiver_function: radial is on {r.samples.device} and vertical on {v.samples.device}, but one device was "
            "needed. Move one of them."
        )
    kind = torch.promote_types(r.samples.dtype, v.samples.dtype)
    broken, dead, either_clipped = r.broken | v.broken, r.dead | v.dead, r.clipped | v.clipped
    # One reason for each pair: broken before dead before clipped.
    clips = either_clipped & ~dead & ~broken
    pairs = replace(r, samples=r.samples.to(kind), dead=dead & ~broken, broken=broken, clipped=clips)
    if not bool(pairs.used.any()):
        raise ShapeError(
            f"receiver_function: no pair of traces can be used ({'; '.join(pairs.notes)}), but one was needed. Leave dead "
            "and broken traces out; pass clipped='use' to include clipped ones."
        )
    return pairs, v.samples


def _noise(noise: Any, pairs: Gather) -> Tensor:
    """Return the noise of the usable pairs: (used, p)."""
    before = gather("receiver_function: noise", noise, "use")
    if len(before.samples) != len(pairs.samples):
        raise ShapeError(
            f"receiver_function: {counted(len(before.samples), 'trace')} of noise came for "
            f"{counted(len(pairs.samples), 'pair')} of traces, but one for each was needed. Pass the vertical components "
            "before the wave arrives."
        )
    if bool(before.broken[pairs.used.to(before.broken.device)].any()):
        raise ShapeError("receiver_function: noise has NaN or infinite samples, but finite ones were needed. Replace them.")
    return before.samples.to(pairs.samples.device)[pairs.used]


@dataclass(frozen=True)
class _Settings:
    """The arguments, and the lengths that follow from them."""

    rate: float
    start: float
    end: float | None
    gauss: float | None
    spikes: int
    min_gain: float
    water: float
    bandwidth: float
    tapers: int
    n: int

    @property
    def first(self) -> int:
        """Index of the window's first sample, relative to time 0."""
        return round(self.start * self.rate)

    @property
    def samples(self) -> int:
        """Number of samples in the window."""
        return min(self.n, self.n - self.first) if self.end is None else round(self.end * self.rate) - self.first + 1

    @property
    def grid(self) -> int:
        """An even FFT length for which neither the correlations at all lags nor the low-pass's tail wrap around."""
        tail = 0.0 if self.gauss is None else _TAIL * self.rate / (2 * torch.pi * self.gauss)
        return fast_length(2 * self.n + max(0, -self.first) + min(round(2 * tail), 2 * self.n))

    def check(self, method: str) -> None:
        """Refuse settings that cannot be used."""
        methods = get_args(Deconvolution)
        if method not in methods:
            raise ShapeError(
                f"receiver_function: method is {method!r}, but one of {', '.join(methods)} was needed. "
                f"Nearest: {nearest(method, methods)}."
            )
        for name, value in {"rate": self.rate, "gauss": self.gauss}.items():
            if value is not None and not 0 < value < torch.inf:
                raise ShapeError(f"receiver_function: {name} is {value}, but a number above zero was needed, in Hz.")
        # Both components begin at the same time, so lags reach from minus to plus the traces' length.
        seconds = (self.n - 1) / self.rate
        if (
            not -seconds - _TOLERANCE <= self.start <= (seconds if self.end is None else self.end)
            or (self.end or 0) > seconds + _TOLERANCE
        ):
            raise ShapeError(
                f"receiver_function: the window is {self.start} to {self.end} s, but one within -{seconds:g} to {seconds:g} s, "
                "the length of the traces, that begins before it ends was needed. Pass start and end."
            )
        if not 0 < self.water < 1 or self.spikes < 1 or not 0 <= self.min_gain < 1:
            raise ShapeError(
                f"receiver_function: water is {self.water}, spikes is {self.spikes} and min_gain is {self.min_gain}, but water "
                "between 0 and 1, spikes of 1 or more, and min_gain from 0 to below 1 were needed."
            )
        if method == "multitaper" and not (1 <= self.tapers <= self.n and 0 < self.bandwidth < self.n / 2):
            raise ShapeError(
                f"receiver_function: tapers is {self.tapers} and bandwidth is {self.bandwidth}, but for {self.n} samples 1 to "
                f"{self.n} tapers and a bandwidth above 0 and below {self.n / 2:g} were needed. Pass such "
                "numbers, or longer traces."
            )


@dataclass(frozen=True)
class _Pair:
    """Radial and vertical traces (B, n), the spectra of both (B, grid // 2 + 1), and the low-pass at their frequencies."""

    r: Tensor
    v: Tensor
    radial: Tensor
    vertical: Tensor
    low_pass: Tensor

    @classmethod
    def of(cls, r: Tensor, v: Tensor, settings: _Settings) -> _Pair:
        f = torch.fft.rfftfreq(settings.grid, 1 / settings.rate, dtype=r.dtype, device=r.device)
        gauss = torch.ones_like(f) if settings.gauss is None else torch.exp(-((f / settings.gauss) ** 2) / 2)
        return cls(r, v, torch.fft.rfft(r, settings.grid), torch.fft.rfft(v, settings.grid), gauss)

    def integral(self, values: Tensor) -> Tensor:
        """Return the sum over the full spectrum of an even grid, given its real half, (B, 1)."""
        # All frequencies have a negative twin except the first and the last.
        return 2 * values.sum(1, keepdim=True) - values[:, :1] - values[:, -1:]


def _iterative(pair: _Pair, settings: _Settings, _quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return spikes that give the radial component when convolved with the vertical one (Ligorria & Ammon 1999)."""
    grid, first = settings.grid, min(settings.first, 0)
    target, source = pair.radial * pair.low_pass, pair.vertical * pair.low_pass
    lags = settings.n - first
    # Spikes may lie from the window's start, or time 0 if that is earlier, to the last lag of the traces.
    cross = torch.fft.irfft(target * source.conj(), grid).roll(-first, -1)[:, :lags]
    autocorrelation = torch.fft.irfft(source.abs().square(), grid)[:, : grid // 2]
    energy = pair.integral(target.abs().square())[:, 0] / grid
    # Matching pursuit needs only these correlations, not the traces.
    amplitudes, _ = pursue(cross, autocorrelation, energy, settings.spikes, settings.min_gain)
    response = torch.fft.rfft(F.pad(amplitudes, (0, grid - lags)).roll(first, -1))
    return response, torch.ones_like(response.real)


def _waterlevel(pair: _Pair, settings: _Settings, _quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide the spectra, with the denominator raised to a share of its maximum (Clayton & Wiggins 1976)."""
    power = pair.vertical.abs().square()
    filled = power.maximum(settings.water * power.amax(1, keepdim=True))
    return pair.radial * pair.vertical.conj() / filled, power / filled


def _multitaper(pair: _Pair, settings: _Settings, quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide the cross-spectrum by the spectra of source and noise, each summed over tapers (Park & Levin 2000)."""
    tapers = slepian(settings.n, settings.bandwidth, settings.tapers).to(pair.r)
    target, source = (torch.fft.rfft(x[:, None] * tapers, settings.grid) for x in (pair.r, pair.v))
    power = source.abs().square().sum(1)
    if quiet is None:
        noise = settings.water * power.amax(1, keepdim=True)
    else:
        # Tapers have energy 1 at any length, so both are power densities although the noise may be shorter.
        short = slepian(quiet.shape[-1], settings.bandwidth, settings.tapers).to(pair.r)
        noise = torch.fft.rfft(quiet[:, None] * short, settings.grid).abs().square().sum(1)
    return (target * source.conj()).sum(1) / (power + noise), power / (power + noise)


_METHODS: dict[str, Callable[[_Pair, _Settings, Tensor | None], tuple[Tensor, Tensor]]] = {
    "iterative": _iterative,
    "waterlevel": _waterlevel,
    "multitaper": _multitaper,
}
