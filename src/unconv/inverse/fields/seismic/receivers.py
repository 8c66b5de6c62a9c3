"""Receiver functions: the radial component deconvolved by the vertical one, which leaves the conversions under a station."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, nearest
from unconv.inverse.fields.gather import Gather, gather
from unconv.inverse.fields.seismic.tapers import slepian
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.greedy import pursue
from unconv.kinds import checks_kinds

Deconvolution = Literal["iterative", "waterlevel", "multitaper"]

_TAIL = 8.0  # standard deviations of the low-pass's impulse response after which nothing is left of it
_ODD = 1e-6  # of a sample: a window's ends are rounded to samples


@dataclass(frozen=True)
class ReceiverFunctions:
    """Receiver functions, and how far they explain the radial component.

    Attributes:
        trace: (..., m), in the kind and shape that the radial component came in; NaN where there is none.
        times: (m,) in seconds after the direct wave, float64; below zero before it.
        fit: (...), the share of the low-passed radial component's energy that is explained; NaN where there is none.
        kept: the numbers of the pairs without a receiver function. notes: why.
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
    """Deconvolve radial components by vertical ones; the vertical one by itself gives 1 at time 0.

    Args:
        radial, vertical: (..., n), arrays or tensors of one shape, both from the same time on.
        rate: samples a second.
        method: "iterative" puts one spike after the other, by matching pursuit, and is the least troubled by noise;
            "waterlevel" divides the spectra; "multitaper" divides spectra averaged over Slepian tapers of the whole length,
            which weigh late conversions less.
        start, end: the window of the result, in seconds, rounded to samples; by default as many samples as came.
        gauss: the low-pass exp(-f^2 / (2 gauss^2)): its standard deviation in Hz, at which 0.607 passes, as in rf 1.1.2.
            Ligorria & Ammon's exp(-w^2 / (4 a^2)) is the same for a = 2^(1/2) pi gauss, 2.2 for 0.5 Hz. None: no low-pass.
        spikes: of "iterative", at most; from the window's start or time 0 on, also after the window's end.
        min_gain: "iterative" is done where a spike explains less than this share of the radial component's energy.
        water: of "waterlevel", the least power that is divided by, as a share of the largest; of "multitaper" without noise,
            the share that is added.
        noise: of "multitaper", the vertical component before the wave arrives: (..., p).
        bandwidth, tapers: of "multitaper", half the time-bandwidth product, and how many tapers.
        clipped: "keep" clipped traces out, or "use" them as others.

    Raises:
        ShapeError: shapes that differ; a rate that is not above zero; a window beyond the traces; silent or broken traces only.
        DtypeError: complex or other samples; components on different devices.

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
    # In units of their own peaks, so that displacements of nanometres have powers in float32.
    high, size = r.abs().amax(1, keepdim=True), v.abs().amax(1, keepdim=True)
    pair = _Pair.of(r / high, v / size, settings)
    response, own = _METHODS[method](pair, settings, None if quiet is None else quiet / size)
    passed = response * pair.low_pass
    traces = torch.fft.irfft(passed, settings.grid).roll(-settings.first, -1)[:, : settings.samples]
    height = pair.integral(own * pair.low_pass) / settings.grid
    wanted = pair.radial * pair.low_pass
    left, energy = (pair.integral(x.abs().square()) for x in (wanted - passed * pair.vertical, wanted))
    fit = torch.where(energy > 0, 1 - left / energy, 0)
    times = (settings.first + torch.arange(settings.samples, dtype=torch.double)) / rate
    nothing = float("nan")
    return ReceiverFunctions(
        pairs.like_given(traces / height * (high / size), nothing),
        times if isinstance(radial, Tensor) else times.numpy(),
        pairs.like_given(fit, nothing)[..., 0],
        pairs.kept,
        tuple(note.replace("kept as they are", "no receiver function (NaN)") for note in pairs.notes),
    )


def _pairs(radial: Any, vertical: Any, clipped: str) -> tuple[Gather, Tensor]:
    """Return the radial components, of which those count whose vertical one is sound too, and the vertical ones: (count, n)."""
    r, v = gather("receiver_function: radial", radial, clipped), gather("receiver_function: vertical", vertical, clipped)
    shapes = tuple(getattr(radial, "shape", r.samples.shape)), tuple(getattr(vertical, "shape", v.samples.shape))
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"receiver_function: radial is {shapes[0]} but vertical is {shapes[1]}; one shape was needed. Cut both to one "
            "window; expand a vertical component that belongs to several radial ones."
        )
    if r.samples.device != v.samples.device:
        raise DtypeError(
            f"receiver_function: radial lies on {r.samples.device} and vertical on {v.samples.device}, but one device was "
            "needed. Move one of them."
        )
    kind = torch.promote_types(r.samples.dtype, v.samples.dtype)
    broken, dead, cut = r.broken | v.broken, r.dead | v.dead, r.clipped | v.clipped
    pairs = replace(r, samples=r.samples.to(kind), dead=dead & ~broken, broken=broken, clipped=cut & ~dead & ~broken)
    if not bool(pairs.used.any()):
        raise ShapeError(
            f"receiver_function: no pair of traces can be used ({'; '.join(pairs.notes)}), but one was needed. Leave dead "
            "and broken traces out; pass clipped='use' to take clipped ones."
        )
    return pairs, v.samples


def _noise(noise: Any, pairs: Gather) -> Tensor:
    """Return the noise of the pairs that count: (used, p)."""
    came = gather("receiver_function: noise", noise, "use")
    if len(came.samples) != len(pairs.samples):
        raise ShapeError(
            f"receiver_function: {len(came.samples)} traces of noise came for {len(pairs.samples)} pairs, but one for each was "
            "needed. Pass the vertical components before the wave arrives."
        )
    if bool(came.broken[pairs.used.to(came.broken.device)].any()):
        raise ShapeError("receiver_function: the noise holds NaN or infinite samples, but numbers were needed. Replace them.")
    return came.samples.to(pairs.samples.device)[pairs.used]


@dataclass(frozen=True)
class _Settings:
    """What was asked for, and the lengths that follow from it."""

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
        """The window's first sample, counted from time 0."""
        return round(self.start * self.rate)

    @property
    def samples(self) -> int:
        """How many samples the window has."""
        return min(self.n, self.n - self.first) if self.end is None else round(self.end * self.rate) - self.first + 1

    @property
    def grid(self) -> int:
        """The FFT's length, even: what two spikes explain, and the low-pass's tail, do not meet by going round."""
        tail = 0.0 if self.gauss is None else _TAIL * self.rate / (2 * torch.pi * self.gauss)
        return fast_length(2 * self.n + max(0, -self.first) + min(round(2 * tail), 2 * self.n))

    def check(self, method: str) -> None:
        """Refuse what cannot be computed."""
        methods = get_args(Deconvolution)
        if method not in methods:
            raise ShapeError(
                f"receiver_function: there is no method {method!r}; {', '.join(methods)} there are. "
                f"Nearest: {nearest(method, methods)}."
            )
        for name, least in {"rate": self.rate, "gauss": self.gauss}.items():
            if least is not None and not 0 < least < torch.inf:
                raise ShapeError(f"receiver_function: {name} is {least}, but a number above zero was needed, in Hz.")
        seconds = (self.n - 1) / self.rate
        if not -seconds - _ODD <= self.start <= (seconds if self.end is None else self.end) or (self.end or 0) > seconds + _ODD:
            raise ShapeError(
                f"receiver_function: the window is {self.start} to {self.end} s, but one that begins before it ends, within "
                f"-{seconds:g} to {seconds:g} s, was needed: so long are the traces. Pass start and end."
            )
        if not 0 < self.water < 1 or self.spikes < 1 or not 0 <= self.min_gain < 1:
            raise ShapeError(
                f"receiver_function: water is {self.water}, spikes {self.spikes} and min_gain {self.min_gain}, but a share "
                "between 0 and 1, 1 or more spikes and a share from 0 to 1 were needed."
            )
        if method == "multitaper" and not (1 <= self.tapers <= self.n and 0 < self.bandwidth < self.n / 2):
            raise ShapeError(
                f"receiver_function: {self.tapers} tapers of bandwidth {self.bandwidth} came for {self.n} samples, but 1 or "
                "more, and a bandwidth above zero and below half the samples, were needed. Take longer traces."
            )


@dataclass(frozen=True)
class _Pair:
    """Traces (B, n), half spectra of both on the FFT's grid (B, grid // 2 + 1), and the low-pass there."""

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
        """Sum over the whole spectrum of an even grid, of which half came; its first and last value stand alone: (B, 1)."""
        return 2 * values.sum(1, keepdim=True) - values[:, :1] - values[:, -1:]


def _iterative(pair: _Pair, settings: _Settings, _quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Put spikes so that the vertical component, convolved with them, is the radial one (Ligorria & Ammon 1999)."""
    grid, first = settings.grid, min(settings.first, 0)
    wanted, source = pair.radial * pair.low_pass, pair.vertical * pair.low_pass
    lags = settings.n - first
    # Spikes stand from the window's start on, but no later than time 0, to the last lag that the traces have.
    toward = torch.fft.irfft(wanted * source.conj(), grid).roll(-first, -1)[:, :lags]
    own = torch.fft.irfft(source.abs().square(), grid)[:, : grid // 2]
    energy = pair.integral(wanted.abs().square())[:, 0] / grid
    amplitudes, _ = pursue(toward, own, energy, settings.spikes, settings.min_gain)
    response = torch.fft.rfft(F.pad(amplitudes, (0, grid - lags)).roll(first, -1))
    return response, torch.ones_like(response.real)


def _waterlevel(pair: _Pair, settings: _Settings, _quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide the spectra, where the denominator is no less than a share of its largest (Clayton & Wiggins 1976)."""
    power = pair.vertical.abs().square()
    filled = power.maximum(settings.water * power.amax(1, keepdim=True))
    return pair.radial * pair.vertical.conj() / filled, power / filled


def _multitaper(pair: _Pair, settings: _Settings, quiet: Tensor | None) -> tuple[Tensor, Tensor]:
    """Divide the cross-spectrum, summed over tapers, by the source's and the noise's (Park & Levin 2000)."""
    tapers = slepian(settings.n, settings.bandwidth, settings.tapers).to(pair.r)
    wanted, source = (torch.fft.rfft(x[:, None] * tapers, settings.grid) for x in (pair.r, pair.v))
    power = source.abs().square().sum(1)
    if quiet is None:
        least = settings.water * power.amax(1, keepdim=True)
    else:
        # Tapers have energy 1 at any length, so that both are power densities.
        short = slepian(quiet.shape[-1], settings.bandwidth, settings.tapers).to(pair.r)
        least = torch.fft.rfft(quiet[:, None] * short, settings.grid).abs().square().sum(1)
    return (wanted * source.conj()).sum(1) / (power + least), power / (power + least)


_METHODS: dict[str, Callable[[_Pair, _Settings, Tensor | None], tuple[Tensor, Tensor]]] = {
    "iterative": _iterative,
    "waterlevel": _waterlevel,
    "multitaper": _multitaper,
}
