"""Recordings of any type and layout: which channels can be used, and results in the same type and layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unconv.errors import DtypeError, NonFinite, ShapeError, counted
from unconv.inverse.fields.gather import flat
from unconv.inverse.fields.speech.signal import floats, real_tensor

_MAX_CHANNELS = 64  # a longer second axis is read as time, not as channels
_OFFSET = 0.02  # of a channel's largest sample: a mean above that counts as an offset
_CLIPPED_FROM = 3  # samples at full scale; fewer may be chance
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_EXACT_INTEGERS = 2**53  # float64 holds every integer up to here
# Recordings whose largest sample is between 2^-40 and 2^40 are used unscaled; others are divided by 2^-1000 at least.
_EXPONENTS, _MIN_EXPONENT = 40, -1000


@dataclass(frozen=True, eq=False)
class Waveform:
    """A recording of one or more channels.

    Attributes:
        original: the input.
        samples: (channels, n), floating, without the offsets, divided by `scale`; unsigned 8-bit PCM without its 128.
        offset: (channels, 1), the mean of each channel that has an offset, divided by `scale`; 0 for other channels.
        scale: 1 except for extremely large or small recordings.
        used: (channels,), whether a channel is processed: silent ones and copies of others are not.
        copies: (channels,), index of the channel that this one is a copy of, or its own index.
        transposed: whether the input is (n, channels).
        notes: anything unusual about the recording.
    """

    original: Any
    samples: Tensor
    offset: Tensor
    scale: float
    used: Tensor
    copies: Tensor
    transposed: bool
    notes: tuple[str, ...]

    def like_original(self, sound: Tensor | None) -> tuple[Any, int]:
        """Return the results (used, n) in the type and layout of the input, and the number of clipped samples.

        Channels that are not used keep their samples to the bit; a copy gets the result of the channel that it copies. Without
        a result, all channels stay as they are.
        """
        result, clipped = real_tensor("dereverb", self.original).clone(), 0
        if sound is not None:
            rows = result.T if self.transposed else result.reshape(-1, result.shape[-1])
            rows[self.used], clipped = _as_type(result.dtype, (sound.double() + self.offset[self.used]) * self.scale)
            if len(self.copies) > 1:
                rows.copy_(rows[self.copies])
        if isinstance(self.original, Tensor):
            return result, clipped
        return result.numpy().astype(np.asarray(self.original).dtype, copy=False), clipped


def _as_type(dtype: torch.dtype, values: Tensor) -> tuple[Tensor, int]:
    """Return float64 samples as `dtype`, and how many were clipped to its range."""
    if dtype.is_floating_point:
        low, high = torch.finfo(dtype).min, torch.finfo(dtype).max
        bounded = values.clamp(low, high)
    else:
        middle = 128 if dtype is torch.uint8 else 0
        values = values.round() + middle
        # The largest int64 is not a float64: clamping to it would round up, and the conversion would wrap to the smallest.
        bounded = values.clamp(max(torch.iinfo(dtype).min, -_EXACT_INTEGERS), min(torch.iinfo(dtype).max, _EXACT_INTEGERS))
    return bounded.to(dtype), int((bounded != values).sum())


def waveform(where: str, signal: Any) -> Waveform:
    """Return a recording (n,), (channels, n), or (n, channels) of up to 64 channels, with its channels checked.

    Args:
        where: the function that errors are about.
        signal: an array, a tensor or a list.

    Raises:
        DtypeError: samples that are neither floats nor signed or 8-bit integers.
        ShapeError: another rank, or no samples.
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
    # soundfile returns (n, channels): the longer axis is time, unless it would leave too many channels.
    transposed = array.ndim == 2 and array.shape[1] < array.shape[0] and array.shape[1] <= _MAX_CHANNELS
    samples = floats(array.T if transposed else array.reshape(-1, array.shape[-1])).clone(memory_format=torch.contiguous_format)
    samples -= 128 if array.dtype is torch.uint8 else 0
    _refuse_nonfinite(where, samples)
    dead = (samples == samples[:, :1]).all(1)
    copies = _copies(samples)
    scale = _scale(samples)
    scaled = samples if scale == 1 else (samples.double() / scale).to(samples)
    mean = scaled.double().mean(1, keepdim=True).to(samples)
    offset = torch.where(mean.abs() > _OFFSET * (scaled - mean).abs().amax(1, keepdim=True), mean, 0)
    used = ~dead & (copies == torch.arange(len(samples), device=copies.device))
    words = f"{counted(len(samples), 'channel')} of {counted(samples.shape[1], 'sample')}"
    notes = [f"the signal was read as (n, channels): {words}"] if transposed else []
    notes += _notes(samples, offset, dead, copies, _full_scale(array))
    return Waveform(signal, scaled - offset, offset, scale, used, copies, transposed, tuple(notes))


def _scale(samples: Tensor) -> float:
    """Return 1, or a power of two near the largest sample where that sample's own powers would overflow or underflow."""
    exponent = int(torch.frexp(samples.abs().amax().double()).exponent)
    return 1.0 if abs(exponent) <= _EXPONENTS else 2.0 ** max(exponent, _MIN_EXPONENT)


def _refuse_nonfinite(where: str, samples: Tensor) -> None:
    broken = ~torch.isfinite(samples)
    if bool(broken.any()):
        channel, sample = torch.nonzero(broken)[0].tolist()
        raise NonFinite(
            f"{where}: NaN or infinite samples came ({int(broken.sum())} of {samples.numel()}, the first at sample {sample} of "
            f"channel {channel}), but finite numbers were needed. Replace them, or leave that channel out."
        )


def _copies(samples: Tensor) -> Tensor:
    """Return for each channel the index of the first channel with the same samples: (channels,)."""
    first = []
    for number, channel in enumerate(samples):
        alike = (other for other in range(number) if torch.equal(samples[other], channel))
        first.append(next(alike, number))
    return torch.tensor(first, device=samples.device)


def _full_scale(array: Tensor) -> float:
    """Return the largest sample of the input's type: 1 for floats, as in sound files."""
    if array.is_floating_point():
        return 1.0
    return 127.0 if array.dtype is torch.uint8 else float(torch.iinfo(array.dtype).max)


def _notes(samples: Tensor, offset: Tensor, dead: Tensor, copies: Tensor, full: float) -> list[str]:
    notes = []
    if bool(dead.any()):
        notes.append(f"{_listed(dead)}: silent (all samples are equal), left unchanged")
    copied = ~dead & (copies != torch.arange(len(samples), device=copies.device))
    if bool(copied.any()):
        notes.append(f"{_listed(copied)}: copies of earlier channels, processed once")
    biased = ~dead & (offset != 0)[:, 0]
    if bool(biased.any()):
        notes.append(f"{_listed(biased)}: a constant offset was removed for processing and put back")
    # Floats may be in any units: 1 is a limit only where nothing is beyond it. Integers reach one further below.
    limit = (samples.abs() == full) | (samples == -full - (full > 1))
    limit &= samples.abs().amax(1, keepdim=True) <= full + (full > 1)
    clipped = (flat(samples) | (limit & (limit.sum(1, keepdim=True) >= _CLIPPED_FROM))) & ~dead[:, None]
    if bool(clipped.any()):
        count = int(clipped.sum())
        share = f"{counted(count, 'sample')}, {count / samples.numel():.2g} of all"
        notes.append(f"{_listed(clipped.any(1))}: clipped ({share})")
    return notes


def _listed(which: Tensor) -> str:
    """Return "channel 3", or "channels 0, 2" of at most eight numbers."""
    numbers = torch.nonzero(which).flatten().tolist()
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"{'channel' if len(numbers) == 1 else 'channels'} {', '.join(map(str, numbers[:8]))}{more}"
