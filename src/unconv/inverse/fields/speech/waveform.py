"""Recordings as they come, of any kind and layout: which channels can be used, and results in the same kind and layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError
from unconv.inverse.fields.gather import flat
from unconv.inverse.fields.speech.signal import floats, real_tensor

_CHANNELS = 64  # the most that a second axis is taken for channels with
_OFFSET = 0.02  # of a channel's largest sample: a mean above that is an offset
_FEW = 3  # samples at full scale that may be chance
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_WHOLE = 2**53  # the largest number up to which float64 holds every integer
_EXPONENTS, _SMALLEST = 40, -1000  # of two: how large or small samples may be as they are; the least by which they are divided


@dataclass(frozen=True, eq=False)
class Waveform:
    """A recording of one or more channels.

    Attributes:
        given: as it came.
        samples: (channels, n), floating, without the offsets, divided by `scale`; unsigned 8-bit PCM without its 128.
        offset: (channels, 1), the mean of each channel where it is one, divided by `scale`; else 0.
        scale: 1 for all recordings but extremely large or small ones.
        used: (channels,), which are worked on: not those of silence, nor copies of others.
        copies: (channels,), the number of the channel of which this one is a copy; else its own.
        turned: whether (n, channels) came.
        notes: what is odd about it.
    """

    given: Any
    samples: Tensor
    offset: Tensor
    scale: float
    used: Tensor
    copies: Tensor
    turned: bool
    notes: tuple[str, ...]

    def like_given(self, sound: Tensor | None) -> tuple[Any, int]:
        """Return the used channels' results (used, n) in the kind and layout that came, and how many samples were clipped.

        Channels that are not used come out as they are, bit by bit, copies as what they are copies of; all of them without a
        result.
        """
        whole, cut = real_tensor("dereverb", self.given).clone(), 0
        if sound is not None:
            rows = whole.T if self.turned else whole.reshape(-1, whole.shape[-1])
            made, cut = _of_type(whole.dtype, (sound.double() + self.offset[self.used]) * self.scale)
            rows[self.used] = made
            if len(self.copies) > 1:
                rows.copy_(rows[self.copies])
        if isinstance(self.given, Tensor):
            return whole, cut
        return whole.numpy().astype(np.asarray(self.given).dtype, copy=False), cut


def _of_type(dtype: torch.dtype, made: Tensor) -> tuple[Tensor, int]:
    """Return float64 samples as `dtype`, and how many were beyond its range, and set to its largest or smallest value."""
    if dtype.is_floating_point:
        low, high = torch.finfo(dtype).min, torch.finfo(dtype).max
        bounded = made.clamp(low, high)
    else:
        middle = 128 if dtype is torch.uint8 else 0
        made = made.round() + middle
        # Not beyond what float64 holds, or the conversion would wrap.
        bounded = made.clamp(max(torch.iinfo(dtype).min, -_WHOLE), min(torch.iinfo(dtype).max, _WHOLE))
    return bounded.to(dtype), int((bounded != made).sum())


def waveform(where: str, signal: Any) -> Waveform:
    """Take a recording (n,), (channels, n), or (n, channels) with up to 64 channels: an array, a tensor or a list.

    Raises:
        DtypeError: neither floating nor integer samples. ShapeError: another rank, or no samples.
        NonFinite: NaN or infinite samples.
    """
    array = real_tensor(where, signal, "the signal")
    if not array.is_floating_point() and array.dtype not in _INTEGERS:
        raise DtypeError(
            f"{where}: the samples are {str(array.dtype).removeprefix('torch.')}, but floats or PCM integers (signed, or "
            "unsigned 8-bit) were needed. Convert them to float."
        )
    if array.ndim not in (1, 2) or not array.numel():
        raise ShapeError(
            f"{where}: the signal is {tuple(array.shape)}, but (n,) or (channels, n) with samples was needed. "
            "Pass one recording at a time."
        )
    turned = array.ndim == 2 and array.shape[1] < array.shape[0] and array.shape[1] <= _CHANNELS
    samples = floats(array.T if turned else array.reshape(-1, array.shape[-1])).clone(memory_format=torch.contiguous_format)
    samples -= 128 if array.dtype is torch.uint8 else 0
    _refuse_broken(where, samples)
    dead = (samples == samples[:, :1]).all(1)
    copies = _copies(samples)
    scale = _scale(samples)
    even = samples if scale == 1 else (samples.double() / scale).to(samples)
    mean = even.double().mean(1, keepdim=True).to(samples)
    offset = torch.where(mean.abs() > _OFFSET * (even - mean).abs().amax(1, keepdim=True), mean, 0)
    used = ~dead & (copies == torch.arange(len(samples), device=copies.device))
    words = "1 channel" if len(samples) == 1 else f"{len(samples)} channels"
    notes = [f"taken as {words} of {samples.shape[1]} samples, one beside the other"] if turned else []
    notes += _told(samples, offset, dead, copies, _full_scale(array))
    return Waveform(signal, even - offset, offset, scale, used, copies, turned, tuple(notes))


def _scale(samples: Tensor) -> float:
    """Return 1, or the power of two near the largest sample where powers of it would leave the range of numbers."""
    exponent = int(torch.frexp(samples.abs().amax().double()).exponent)
    return 1.0 if abs(exponent) <= _EXPONENTS else 2.0 ** max(exponent, _SMALLEST)


def _refuse_broken(where: str, samples: Tensor) -> None:
    broken = ~torch.isfinite(samples)
    if bool(broken.any()):
        channel, sample = torch.nonzero(broken)[0].tolist()
        raise NonFinite(
            f"{where}: {int(broken.sum())} of {samples.numel()} samples are NaN or infinite, the first at sample {sample} of "
            f"channel {channel}, but numbers were needed. Replace them, or leave that channel out."
        )


def _copies(samples: Tensor) -> Tensor:
    """Return, for each channel, the number of the first that holds the same samples: (channels,)."""
    first = []
    for number, channel in enumerate(samples):
        alike = (other for other in range(number) if torch.equal(samples[other], channel))
        first.append(next(alike, number))
    return torch.tensor(first, device=samples.device)


def _full_scale(array: Tensor) -> float:
    """Return the largest sample that can be told of the kind that came: 1 for floats, as sound files have it."""
    if array.is_floating_point():
        return 1.0
    return 127.0 if array.dtype is torch.uint8 else float(torch.iinfo(array.dtype).max)


def _told(samples: Tensor, offset: Tensor, dead: Tensor, copies: Tensor, full: float) -> list[str]:
    told = []
    if bool(dead.any()):
        told.append(f"silent, all samples alike, and kept as they are: channels {_numbers(dead)}")
    copied = ~dead & (copies != torch.arange(len(samples), device=copies.device))
    if bool(copied.any()):
        told.append(f"copies of channels before them, and worked on once: channels {_numbers(copied)}")
    loud = ~dead & (offset != 0)[:, 0]
    if bool(loud.any()):
        told.append(f"a constant offset was left out of the work and put back: channels {_numbers(loud)}")
    # Floats may be in any units: 1 is a limit only where nothing is beyond it. Integers reach one further below.
    limit = (samples.abs() == full) | (samples == -full - (full > 1))
    limit &= samples.abs().amax(1, keepdim=True) <= full + (full > 1)
    clipped = (flat(samples) | (limit & (limit.sum(1, keepdim=True) >= _FEW))) & ~dead[:, None]
    if bool(clipped.any()):
        share = float(clipped.sum()) / samples.numel()
        told.append(f"clipped: {int(clipped.sum())} samples ({share:.2g} of all), of channels {_numbers(clipped.any(1))}")
    return told


def _numbers(which: Tensor) -> str:
    numbers = torch.nonzero(which).flatten().tolist()
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return ", ".join(map(str, numbers[:8])) + more
