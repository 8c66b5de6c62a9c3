"""Where in a recording a burst is: symbols between stretches of noise."""

from __future__ import annotations

import torch
from torch import Tensor

_STRONGER = 4.0  # times the power of the quiet part, at least: fading and noise do less
_FEWEST = 32  # symbols of a burst and of a quiet part
_REACHES = 4  # of the channel: its own tail is no quiet part
_MORE_LIKELY = 20.0  # logarithm of likelihoods, as the change of power must be


def loud_part(observed: Tensor, reach: int) -> slice:
    """Return which samples of (B, P, n), one a symbol, hold a burst: all of them where no end is far quieter than the rest.

    The most likely places at which the power changes, once: of samples whose variance is v in a part of length k, the
    likelihood is exp(-k (1 + ln v) / 2).
    """
    n = observed.shape[-1]
    least = max(_FEWEST, _REACHES * reach)
    power = observed.abs().square().mean((0, 1)).double()
    first, end = 0, n
    # The front is quiet in what the first look takes for loud; a second look at the end then has less of it.
    for _ in range(2):
        end = first + _last_loud(power[first:], least)
        first = end - _last_loud(power[:end].flip(0), least)
    return slice(first or None, end if end < n else None)


def _last_loud(power: Tensor, least: int) -> int:
    """Return the length of the part in front from which a quieter one differs, or that of all."""
    n = len(power)
    if n < 2 * least:
        return n
    sums = power.cumsum(0)
    at = torch.arange(least, n - least + 1, device=power.device)
    loud = sums[at - 1] / at
    quiet = ((sums[-1] - sums[at - 1]) / (n - at)).clamp(min=1e-12 * float(sums[-1]) / n)
    gain = n * (sums[-1] / n).log() - at * loud.log() - (n - at) * quiet.log()
    gain = torch.where(loud > _STRONGER * quiet, gain / 2, -torch.inf)
    best = int(gain.argmax())
    return int(at[best]) if float(gain[best]) > _MORE_LIKELY else n
