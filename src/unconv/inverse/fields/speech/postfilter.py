"""What is left of the noise is taken down where and when the voice is soft: Wiener's filter on short frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError

_SECONDS = 0.032
_AROUND = 3  # frames and bands over which the power of a voice is taken to be one
_FAINT = 1e-3  # of the noise, that the power of a voice has at least


def short_time_wiener(samples: Tensor, noise: Tensor, rate: float) -> tuple[Tensor, float]:
    """Return samples (n,) with stationary noise of known power taken down, and the mean square error that is expected.

    Args:
        noise: (m,), power of the noise at evenly spaced frequencies, 0 to half the rate; white noise of variance v has v.

    Source:
        Lim & Oppenheim, "Enhancement and bandwidth compression of noisy speech" (1979), for the iterated gain.
    """
    length = 1 << max(4, round(_SECONDS * rate)).bit_length() - 1
    if len(samples) < length:
        raise ShapeError(f"short_time_wiener: {len(samples)} samples came, but a frame of {length} or more was needed.")
    window = torch.hann_window(length, dtype=samples.dtype, device=samples.device)
    frames = torch.stft(samples, length, length // 4, window=window, return_complex=True)
    level = _in_bands(noise, length // 2 + 1)[:, None] * window.square().sum()
    seen = frames.abs().square()
    power = torch.maximum(_smooth(seen) - level, _FAINT * level)
    # Once more, with the power of what the first gain leaves and of what it is not sure of.
    gain = power / (power + level).clamp(min=torch.finfo(power.dtype).tiny)
    power = _smooth(gain.square() * seen + gain * level)
    gain = power / (power + level).clamp(min=torch.finfo(power.dtype).tiny)
    made = torch.istft(frames * gain, length, length // 4, window=window, length=len(samples))
    weights = torch.full((length // 2 + 1, 1), 2.0, dtype=gain.dtype, device=gain.device)
    weights[0] = weights[-1] = 1
    error = (weights * gain * level).sum(0).mean() / (length * window.square().sum())
    return made, float(error)


def _in_bands(noise: Tensor, count: int) -> Tensor:
    """Return the mean of a spectrum around each of `count` frequencies."""
    wide = 2 * max(1, len(noise) // (2 * count)) + 1
    padded = F.pad(noise[None, None], (wide // 2, wide // 2), mode="replicate")
    mean = F.avg_pool1d(padded, wide, stride=1)[0, 0]
    place = torch.linspace(0, len(noise) - 1, count, device=noise.device).round().long()
    return mean[place]


def _smooth(power: Tensor) -> Tensor:
    side = _AROUND // 2
    padded = F.pad(power[None, None], (side, side, side, side), mode="replicate")
    return F.avg_pool2d(padded, _AROUND, stride=1)[0, 0]
