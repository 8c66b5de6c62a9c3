"""Features of speech recognisers: log-mel spectra and mel cepstra, and distances between those of two recordings."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Any

import torch
from torch import Tensor

from unconv.errors import ShapeError, counted
from unconv.inverse.fields.speech.frames import framed
from unconv.inverse.fields.speech.signal import as_signal, check_rate
from unconv.inverse.solvers.homomorphic import real_cepstrum
from unconv.kinds import checks_kinds_but

_LENGTH, _HOP = 0.025, 0.01  # seconds of a frame, and from one to the next
_EMPHASIS, _LIFTER = 0.97, 22
_MIN_ENERGY = 1e-10  # of a band, for a signal of full scale ±1: lower energies are raised to it
_ORDER, _MAX_DISTANCE = 24, 10.0  # coefficients of the cepstral distance, and the largest distance of a frame in dB
_MIN_AMPLITUDE = 1e-5  # of the largest amplitude: below, a frame's spectrum is rounding or dither


@checks_kinds_but("signal")
def log_mel(
    signal: Any, rate: float, bands: int = 80, lowest: float = 20.0, highest: float | None = None, emphasis: float = 0.97
) -> Any:
    """Return log-mel spectra as HTK and Kaldi compute them, for frames of 25 ms every 10 ms.

    Each complete frame x becomes x[i] - 0.97 x[i - 1], with x[0] for the sample before the first. It is weighted by a Hamming
    window 0.54 - 0.46 cos(2 pi i / (k - 1)), padded with zeros to a power of two, and transformed. A band is the sum of |X|^2
    under a triangle that is linear in mel(f) = 1127 ln(1 + f / 700), with corners evenly spaced there. The result is its
    natural logarithm; energies below 1e-10 are raised to 1e-10 first. This is HTK with USEPOWER = T, and Kaldi with
    --window-type=hamming, --dither=0 and --remove-dc-offset=false. Kaldi's samples are 32768 times as large, so its bands are
    20.794 higher.

    Args:
        signal: (..., n), full scale ±1, a NumPy array or a tensor.
        rate: samples a second.
        bands: number of mel bands, such as 80, 40 or 23.
        lowest, highest: Hz of the first and the last corner. By default `highest` is half the rate.
        emphasis: the factor 0.97 above; 0 for no pre-emphasis.

    Returns:
        (..., T, bands), in the type of the signal.

    Raises:
        ShapeError: a recording shorter than a frame; frequencies that are not ascending up to half the rate; so many bands
            that one contains no frequency of the transform.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Young et al., "The HTK Book" (3.4, 2006), sec. 5.4 and 5.6; Kaldi, feature-window.cc and mel-computations.cc.
    """
    recording = as_signal("log_mel", signal)
    spectra = _log_bands(recording.double(), rate, bands, lowest, highest, emphasis, "log_mel")
    return recording.like(spectra.to(recording.samples.dtype))


def _log_bands(
    samples: Tensor, rate: float, bands: int, lowest: float, highest: float | None, emphasis: float, where: str
) -> Tensor:
    check_rate(where, rate)
    frames, _ = framed(where, samples, rate, _LENGTH, _HOP)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    window = torch.hamming_window(frames.shape[-1], periodic=False, dtype=torch.float64, device=samples.device)
    grid = 1 << (frames.shape[-1] - 1).bit_length()
    power = torch.fft.rfft((frames - emphasis * previous) * window, grid).abs().square()
    triangles = mel_triangles(where, rate, grid, bands, lowest, rate / 2 if highest is None else highest)
    logarithms: Tensor = (power @ triangles.to(power)).clamp(min=_MIN_ENERGY).log()
    return logarithms


def mel_triangles(where: str, rate: float, grid: int, bands: int, lowest: float, highest: float) -> Tensor:
    """Return the weights of frequencies in mel bands, (grid / 2 + 1, bands): triangles in mel, of height 1."""
    if bands < 1 or not 0 <= lowest < highest <= rate / 2:
        raise ShapeError(
            f"{where}: {counted(bands, 'band')} from {lowest:g} to {highest:g} Hz came, but at least one, between ascending "
            f"frequencies up to {rate / 2:g} Hz, was needed."
        )
    frequency = torch.arange(grid // 2 + 1, dtype=torch.float64) * (rate / grid)
    mel = 1127 * torch.log1p(frequency / 700)
    ends = 1127 * torch.log1p(torch.tensor([lowest, highest], dtype=torch.float64) / 700)
    corner = torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64)
    # Linear in mel, not in Hz, as HTK and Kaldi have it.
    up = (mel[:, None] - corner[:-2]) / (corner[1:-1] - corner[:-2])
    down = (corner[2:] - mel[:, None]) / (corner[2:] - corner[1:-1])
    weights = torch.minimum(up, down).clamp(min=0)
    # A band without any frequency would have an energy of 0 in every frame.
    if not bool((weights > 0).any(0).all()):
        raise ShapeError(
            f"{where}: {counted(bands, 'band')} from {lowest:g} to {highest:g} Hz came, so narrow that one contains none of "
            f"the {grid // 2 + 1} frequencies of a frame. Pass fewer bands or a higher lowest frequency."
        )
    return weights


@checks_kinds_but("signal")
def mfcc(
    signal: Any, rate: float, coefficients: int = 13, bands: int = 40, lowest: float = 20.0, highest: float | None = None
) -> Any:
    """Return mel-frequency cepstral coefficients (MFCC) as HTK and Kaldi compute them.

    With the bands m of `log_mel`, c[i] = sqrt(2 / bands) sum over j = 0 ... bands - 1 of m[j] cos(pi i (j + 1/2) / bands), and
    c[0] = sqrt(1 / bands) sum of m[j] as in Kaldi. Each is multiplied by the lifter 1 + 11 sin(pi i / 22).

    Args:
        signal, rate, bands, lowest, highest: as in `log_mel`.
        coefficients: their number, including c[0].

    Returns:
        (..., T, coefficients).

    Raises:
        ShapeError: more coefficients than bands; otherwise as `log_mel`.

    Source:
        Young et al., "The HTK Book" (3.4, 2006), eq. 5.14 and 5.15; Kaldi, feature-mfcc.cc, for c[0].
    """
    if not 1 <= coefficients <= bands:
        raise ShapeError(f"mfcc: coefficients is {coefficients}, but 1 to {bands} was needed, the number of bands.")
    recording = as_signal("mfcc", signal)
    mel = _log_bands(recording.double(), rate, bands, lowest, highest, _EMPHASIS, "mfcc")
    i = torch.arange(coefficients, dtype=torch.float64, device=mel.device)
    j = torch.arange(bands, dtype=torch.float64, device=mel.device)
    cosines = torch.cos(pi * (j[:, None] + 0.5) * i / bands) * (2 / bands) ** 0.5
    cosines[:, 0] /= 2**0.5
    lifter = 1 + _LIFTER / 2 * torch.sin(pi * i / _LIFTER)
    return recording.like(((mel @ cosines) * lifter).to(recording.samples.dtype))


@dataclass(frozen=True)
class FeatureDistance:
    """Distances of the features of a recording from those of the clean one, before and after processing; 0 is best.

    Attributes:
        cepstral_before, cepstral_after: cepstral distance in dB, at most 10.
        log_mel_before, log_mel_after: root mean square difference of the log-mel bands in dB.
    """

    cepstral_before: float
    cepstral_after: float
    log_mel_before: float
    log_mel_after: float


@checks_kinds_but("before", "after", "clean")
def feature_distance(before: Any, after: Any, clean: Any, rate: float) -> FeatureDistance:
    """Return the cepstral and log-mel distances of a recording from the clean one, before and after dereverberation.

    The cepstral distance is a mean over the frames of 25 ms that are not silent in the clean recording. A frame counts
    10 / ln 10 sqrt((c0 - c0')^2 + 2 sum over k = 1 ... 24 of (c[k] - c'[k])^2), at most 10 dB. c is the real cepstrum of the
    frame under a Hann window, minus its mean over all frames, so that constant gains and filters make no difference. The
    recordings must begin at the same time; they are not aligned.

    Args:
        before, after, clean: (n,), one channel each.
        rate: samples a second.

    Raises:
        ShapeError: lengths that differ; a clean recording that is silent.
        DtypeError, NonFinite: samples that are not real numbers; NaN or infinite samples.

    Source:
        Kinoshita et al., "The REVERB challenge" (2013), for the cepstral distance, its 24 coefficients, mean and limit.
    """
    check_rate("feature_distance", rate)
    signals = {"before": before, "after": after, "clean": clean}
    samples = {name: as_signal("feature_distance", each, name).double().cpu() for name, each in signals.items()}
    shapes = {name: tuple(each.shape) for name, each in samples.items()}
    if len({*shapes.values()}) != 1 or samples["clean"].ndim != 1:
        raise ShapeError(f"feature_distance: shapes are {shapes}, but (n,) of one length was needed. Cut them to one length.")
    if not bool((samples["clean"] != 0).any()):
        raise ShapeError("feature_distance: clean is silent, but a recording with sound was needed.")
    cepstra = {name: _cepstra(each, rate) for name, each in samples.items()}
    mels = {name: _log_bands(each, rate, 40, 20.0, None, 0.0, "feature_distance") for name, each in samples.items()}
    # Only frames with sound in the clean recording count, whatever the others have in them.
    frames, _ = framed("feature_distance", samples["clean"], rate, _LENGTH, _HOP)
    energy = frames.square().sum(-1)
    loud = energy > 1e-5 * energy.max()
    distances = [_cepstral_distance(cepstra[name][loud], cepstra["clean"][loud]) for name in ("before", "after")]
    distances += [_log_mel_distance(mels[name][loud], mels["clean"][loud]) for name in ("before", "after")]
    return FeatureDistance(*distances)


def _cepstra(samples: Tensor, rate: float) -> Tensor:
    frames, _ = framed("feature_distance", samples, rate, _LENGTH, _HOP)
    window = torch.hann_window(frames.shape[-1], dtype=torch.float64)
    # An impulse has a flat spectrum: it is the floor of frames that are silent or almost silent, relative to the recording.
    level = _MIN_AMPLITUDE * samples.abs().max().clamp(min=1e-300)
    impulse = torch.zeros_like(window)
    impulse[0] = level
    grid = 1 << (frames.shape[-1] - 1).bit_length()
    cepstra: Tensor = real_cepstrum(frames * window + impulse, grid)[..., : _ORDER + 1]
    return cepstra


def _cepstral_distance(one: Tensor, other: Tensor) -> float:
    difference = (one - one.mean(0)) - (other - other.mean(0))
    # A real cepstrum is even: every coefficient but the first counts twice.
    weights = torch.full((_ORDER + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1
    distances = (10 / log(10)) * (difference.square() * weights).sum(-1).sqrt()
    return float(distances.clamp(max=_MAX_DISTANCE).mean())


def _log_mel_distance(one: Tensor, other: Tensor) -> float:
    difference = (one - one.mean(0)) - (other - other.mean(0))
    return float((10 / log(10)) * difference.square().mean().sqrt())
