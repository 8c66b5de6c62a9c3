"""Find a burst in a recording: the samples that hold symbols, between stretches of noise."""

from __future__ import annotations

import torch
from torch import Tensor

_MIN_RATIO = 4.0  # of the burst's power to that of the quiet part: fading and noise cause less
_MIN_SYMBOLS = 32  # in a burst, and in a quiet part
_MIN_REACHES = 4  # channel lengths in a quiet part: the channel's own tail is none
_MIN_GAIN = 20.0  # log-likelihood ratio at which a change of power is accepted


def loud_part(observed: Tensor, reach: int) -> slice:
    """Return which samples of (B, P, n), one per symbol, hold a burst: all of them where neither end is far quieter.

    Each end of the burst is the most likely change point of the power. A part of k Gaussian samples with the estimated variance
    v has the likelihood exp(-k (1 + ln v) / 2).
    """
    n = observed.shape[-1]
    least = max(_MIN_SYMBOLS, _MIN_REACHES * reach)
    power = observed.abs().square().mean((0, 1)).double()
    first, end = 0, n
    # The first search for the end still includes the quiet front, which lowers the power there; the second one does not.
    for _ in range(2):
        end = first + _last_loud(power[first:], least)
        first = end - _last_loud(power[:end].flip(0), least)
    return slice(first or None, end if end < n else None)


def _last_loud(power: Tensor, least: int) -> int:
    """Return the length of the leading part after which a far quieter one follows, or the full length if none does."""
    n = len(power)
    if n < 2 * least:
        return n
    sums = power.cumsum(0)
    lengths = torch.arange(least, n - least + 1, device=power.device)
    loud = sums[lengths - 1] / lengths
    quiet = ((sums[-1] - sums[lengths - 1]) / (n - lengths)).clamp(min=1e-12 * float(sums[-1]) / n)
    # Log-likelihood ratio of two variances to one, for all change points at once.
    gain = n * (sums[-1] / n).log() - lengths * loud.log() - (n - lengths) * quiet.log()
    gain = torch.where(loud > _MIN_RATIO * quiet, gain / 2, -torch.inf)
    best = int(gain.argmax())
    return int(lengths[best]) if float(gain[best]) > _MIN_GAIN else n
