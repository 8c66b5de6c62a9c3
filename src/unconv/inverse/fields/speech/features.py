"""What recognisers are fed: log-mel spectra and mel cepstra, and how far those of two recordings are apart."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.fields.speech.frames import framed
from unconv.inverse.fields.speech.signal import check_rate, taken
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.kinds import checks_kinds_but

_LENGTH, _HOP = 0.025, 0.01  # seconds of a frame, and between two
_EMPHASIS, _LIFTER = 0.97, 22
_FLOOR = 1e-10  # of a band's energy, of a signal with full scale ±1: what is softer counts as so much
_ORDER, _FURTHEST = 24, 10.0  # coefficients of the cepstral distance, and dB that a frame counts at most
_FLOOR_OF_FRAMES = 1e-5  # of the largest amplitude: below, a frame's spectrum is rounding or dither


@checks_kinds_but("signal")
def log_mel(
    signal: Any, rate: float, bands: int = 80, lowest: float = 20.0, highest: float | None = None, emphasis: float = 0.97
) -> Any:
    """Return log-mel spectra, as HTK and Kaldi compute them: 25 ms every 10 ms.

    Each frame x, whole ones only, becomes x[i] - 0.97 x[i - 1] (x[0] for the one before the first), is weighted by a Hamming
    window 0.54 - 0.46 cos(2 pi i / (k - 1)), filled up with zeros to a power of two, and transformed. A band has the sum of
    |X|^2 under a triangle whose corners are evenly spaced in mel(f) = 1127 ln(1 + f / 700), straight in mel. Its natural
    logarithm is told, of 1e-10 where less came. That is HTK with USEPOWER = T; Kaldi with --window-type=hamming, --dither=0 and
    --remove-dc-offset=false. Kaldi's samples are 32768 times as large, and its bands 20.794 higher.

    Args:
        signal: (..., n), full scale ±1, a NumPy array or a tensor.
        rate: samples a second.
        bands: 80, or 40, 23 and what else a recogniser takes.
        lowest, highest: Hz of the first and the last corner; None: half the rate.
        emphasis: 0.97, or 0 for none.

    Returns:
        (..., T, bands), in the kind of the signal.

    Raises:
        ShapeError: less than a frame; bands or frequencies that do not fit, or so many bands that one has no frequency in it.
        DtypeError, NonFinite: no real numbers; NaN or infinite samples.

    Source:
        Young et al., "The HTK Book" (3.4, 2006), sec. 5.4 and 5.6; Kaldi, feature-window.cc and mel-computations.cc.
    """
    given = taken("log_mel", signal)
    made = _bands(given.double(), rate, bands, lowest, highest, emphasis, "log_mel")
    return given.like(made.to(given.samples.dtype))


def _bands(
    samples: Tensor, rate: float, bands: int, lowest: float, highest: float | None, emphasis: float, where: str
) -> Tensor:
    check_rate(where, rate)
    frames, _ = framed(where, samples, rate, _LENGTH, _HOP)
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    window = torch.hamming_window(frames.shape[-1], periodic=False, dtype=torch.float64, device=samples.device)
    grid = 1 << (frames.shape[-1] - 1).bit_length()
    power = torch.fft.rfft((frames - emphasis * before) * window, grid).abs().square()
    triangles = mel_triangles(where, rate, grid, bands, lowest, rate / 2 if highest is None else highest)
    made: Tensor = (power @ triangles.to(power)).clamp(min=_FLOOR).log()
    return made


def mel_triangles(where: str, rate: float, grid: int, bands: int, lowest: float, highest: float) -> Tensor:
    """Return the weights (grid / 2 + 1, bands) of frequencies in mel bands, each a triangle in mel of height 1."""
    if bands < 1 or not 0 <= lowest < highest <= rate / 2:
        raise ShapeError(
            f"{where}: {bands} bands from {lowest:g} to {highest:g} Hz came, but one or more between ascending frequencies up "
            f"to {rate / 2:g} Hz were needed."
        )
    frequency = torch.arange(grid // 2 + 1, dtype=torch.float64) * (rate / grid)
    mel = 1127 * torch.log1p(frequency / 700)
    ends = 1127 * torch.log1p(torch.tensor([lowest, highest], dtype=torch.float64) / 700)
    corner = torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64)
    up = (mel[:, None] - corner[:-2]) / (corner[1:-1] - corner[:-2])
    down = (corner[2:] - mel[:, None]) / (corner[2:] - corner[1:-1])
    weights = torch.minimum(up, down).clamp(min=0)
    if not bool((weights > 0).any(0).all()):
        raise ShapeError(
            f"{where}: {bands} bands from {lowest:g} to {highest:g} Hz are so narrow that one has none of the {grid // 2 + 1} "
            f"frequencies of a frame in it. Ask for fewer, or a higher lowest frequency."
        )
    return weights


@checks_kinds_but("signal")
def mfcc(
    signal: Any, rate: float, coefficients: int = 13, bands: int = 40, lowest: float = 20.0, highest: float | None = None
) -> Any:
    """Return mel-frequency cepstral coefficients, as HTK and Kaldi compute them.

    c[i] = sqrt(2 / bands) sum over j = 0 ... bands - 1 of m[j] cos(pi i (j + 1/2) / bands), m the bands of `log_mel`, and c[0]
    sqrt(1 / bands) sum of m[j] as in Kaldi, times the lifter 1 + 11 sin(pi i / 22).

    Args:
        signal, rate, bands, lowest, highest: as of `log_mel`.
        coefficients: c[0] counts as one.

    Returns:
        (..., T, coefficients).

    Raises:
        ShapeError: more coefficients than bands; else as `log_mel`.

    Source:
        Young et al., "The HTK Book" (3.4, 2006), eq. 5.14 and 5.15; Kaldi, feature-mfcc.cc, for c[0].
    """
    if not 1 <= coefficients <= bands:
        raise ShapeError(f"mfcc: {coefficients} coefficients of {bands} bands were asked for, but 1 to {bands} were needed.")
    given = taken("mfcc", signal)
    mel = _bands(given.double(), rate, bands, lowest, highest, _EMPHASIS, "mfcc")
    i = torch.arange(coefficients, dtype=torch.float64, device=mel.device)
    j = torch.arange(bands, dtype=torch.float64, device=mel.device)
    cosines = torch.cos(pi * (j[:, None] + 0.5) * i / bands) * (2 / bands) ** 0.5
    cosines[:, 0] /= 2**0.5
    lifter = 1 + _LIFTER / 2 * torch.sin(pi * i / _LIFTER)
    return given.like(((mel @ cosines) * lifter).to(given.samples.dtype))


@dataclass(frozen=True)
class FeatureDistance:
    """How far recordings are from a clean one, before and after: less is nearer.

    Attributes:
        cepstral_before, cepstral_after: dB, the cepstral distance, up to 10.
        log_mel_before, log_mel_after: dB, the root mean square difference of log-mel bands.
    """

    cepstral_before: float
    cepstral_after: float
    log_mel_before: float
    log_mel_after: float


@checks_kinds_but("before", "after", "clean")
def feature_distance(before: Any, after: Any, clean: Any, rate: float) -> FeatureDistance:
    """Return how far the features of a recording are from those of the clean one, before and after dereverberation.

    Each frame of 25 ms that has sound in the clean recording counts 10 / ln 10 sqrt((c0 - c0')^2 + 2 sum over k = 1 ... 24 of
    (c[k] - c'[k])^2), but at most 10 dB, c its real cepstrum under a Hann window, less the mean over all frames: so constant
    filters and gains count for nothing. The recordings have to begin at the same time, which is not looked for.

    Args:
        before, after, clean: (n,), one channel each.
        rate: samples a second.

    Raises:
        ShapeError: lengths differ, or silence. DtypeError, NonFinite: no real numbers; NaN or infinite samples.

    Source:
        Kinoshita et al., "The REVERB challenge" (2013), for the cepstral distance, its 24 coefficients, mean and limit.
    """
    check_rate("feature_distance", rate)
    given = {"before": before, "after": after, "clean": clean}
    held = {name: taken("feature_distance", each, name).double().cpu() for name, each in given.items()}
    shapes = {name: tuple(each.shape) for name, each in held.items()}
    if len({*shapes.values()}) != 1 or held["clean"].ndim != 1:
        raise ShapeError(f"feature_distance: shapes are {shapes}, but (n,) of one length was needed. Cut them to one.")
    if not bool((held["clean"] != 0).any()):
        raise ShapeError("feature_distance: the clean recording is silent, but sound was needed.")
    cepstra = {name: _cepstra(each, rate) for name, each in held.items()}
    mels = {name: _bands(each, rate, 40, 20.0, None, 0.0, "feature_distance") for name, each in held.items()}
    energy, _ = framed("feature_distance", held["clean"], rate, _LENGTH, _HOP)
    counts = energy.square().sum(-1)
    some = counts > 1e-5 * counts.max()
    told = [_cepstral(cepstra[name][some], cepstra["clean"][some]) for name in ("before", "after")]
    told += [_of_bands(mels[name][some], mels["clean"][some]) for name in ("before", "after")]
    return FeatureDistance(*told)


def _cepstra(samples: Tensor, rate: float) -> Tensor:
    frames, _ = framed("feature_distance", samples, rate, _LENGTH, _HOP)
    window = torch.hann_window(frames.shape[-1], dtype=torch.float64)
    # Frames of silence, and those whose spectrum is next to none, have a floor of the recording's own level.
    level = _FLOOR_OF_FRAMES * samples.abs().max().clamp(min=1e-300)
    spike = torch.zeros_like(window)
    spike[0] = level
    grid = 1 << (frames.shape[-1] - 1).bit_length()
    found: Tensor = real_cepstrum(frames * window + spike, grid)[..., : _ORDER + 1]
    return found


def _cepstral(one: Tensor, other: Tensor) -> float:
    apart = (one - one.mean(0)) - (other - other.mean(0))
    weights = torch.full((_ORDER + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1
    each = (10 / log(10)) * (apart.square() * weights).sum(-1).sqrt()
    return float(each.clamp(max=_FURTHEST).mean())


def _of_bands(one: Tensor, other: Tensor) -> float:
    apart = (one - one.mean(0)) - (other - other.mean(0))
    return float((10 / log(10)) * apart.square().mean().sqrt())
