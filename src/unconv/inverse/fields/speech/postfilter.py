"""A Wiener filter on short frames, which reduces the remaining noise at times and frequencies where the voice is soft."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError

_SECONDS = 0.032
_NEIGHBOURS = 3  # frames and bands over which the power of a voice is averaged
_MIN_POWER = 1e-3  # of the noise: the least power that a voice is taken to have


def short_time_wiener(samples: Tensor, noise: Tensor, rate: float) -> tuple[Tensor, float]:
    """Reduce stationary noise of known power by a short-time Wiener filter; return the samples (n,) and the expected MSE.

    Args:
        noise: (m,), power of the noise at evenly spaced frequencies from 0 to half the rate; v for white noise of variance v.

    Source:
        Lim & Oppenheim, "Enhancement and bandwidth compression of noisy speech" (1979), for the iterated gain.
    """
    length = 1 << max(4, round(_SECONDS * rate)).bit_length() - 1
    if len(samples) < length:
        raise ShapeError(f"short_time_wiener: {len(samples)} samples came, but at least one frame of {length} was needed.")
    window = torch.hann_window(length, dtype=samples.dtype, device=samples.device)
    frames = torch.stft(samples, length, length // 4, window=window, return_complex=True)
    level = _in_bands(noise, length // 2 + 1)[:, None] * window.square().sum()
    observed = frames.abs().square()
    power = torch.maximum(_smooth(observed) - level, _MIN_POWER * level)
    # One iteration of the gain: the voice's power is that of the first estimate plus its posterior variance, gain * level.
    gain = power / (power + level).clamp(min=torch.finfo(power.dtype).tiny)
    power = _smooth(gain.square() * observed + gain * level)
    gain = power / (power + level).clamp(min=torch.finfo(power.dtype).tiny)
    filtered = torch.istft(frames * gain, length, length // 4, window=window, length=len(samples))
    # A real signal's spectrum: every frequency counts twice except the first and the last.
    weights = torch.full((length // 2 + 1, 1), 2.0, dtype=gain.dtype, device=gain.device)
    weights[0] = weights[-1] = 1
    error = (weights * gain * level).sum(0).mean() / (length * window.square().sum())
    return filtered, float(error)


def _in_bands(noise: Tensor, count: int) -> Tensor:
    """Return a spectrum's mean around each of `count` frequencies."""
    width = 2 * max(1, len(noise) // (2 * count)) + 1
    padded = F.pad(noise[None, None], (width // 2, width // 2), mode="replicate")
    mean = F.avg_pool1d(padded, width, stride=1)[0, 0]
    middles = torch.linspace(0, len(noise) - 1, count, device=noise.device).round().long()
    return mean[middles]


def _smooth(power: Tensor) -> Tensor:
    side = _NEIGHBOURS // 2
    padded = F.pad(power[None, None], (side, side, side, side), mode="replicate")
    return F.avg_pool2d(padded, _NEIGHBOURS, stride=1)[0, 0]
