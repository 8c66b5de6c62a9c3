"""The short-time Fourier transform of recordings and its exact inverse: frames of 32 ms every 8 ms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.inverse.operators.fourier import fast_length

_STEP, _OVERLAP = 0.008, 4  # seconds from frame to frame; frames that contain a sample


@dataclass(frozen=True)
class Stft:
    """A short-time Fourier transform with a Blackman window, and the dual window that inverts it exactly.

    `torch.istft` divides by the sum of squared windows, which is zero at the ends because the window begins with zero. Here the
    signal is padded, so that every sample lies in as many frames, including the first and the last.

    Attributes:
        size: samples of a frame, four times the step.
        step: samples from one frame to the next.
    """

    size: int
    step: int

    @staticmethod
    def at(rate: float) -> Stft:
        """Return the transform for a rate in samples a second: frames of about 32 ms every 8 ms, of lengths fast in the FFT."""
        step = fast_length(max(2, round(_STEP * rate)))
        return Stft(_OVERLAP * step, step)

    def frames(self, samples: int) -> int:
        """Return how many frames a recording has."""
        return -(-(samples + self.size - self.step) // self.step)

    def analysed(self, signal: Tensor) -> Tensor:
        """Return the spectra (size / 2 + 1, channels, frames) of a signal (channels, n)."""
        before = self.size - self.step
        after = (self.frames(signal.shape[-1]) - 1) * self.step + self.size - before - signal.shape[-1]
        framed = F.pad(signal, (before, after)).unfold(-1, self.size, self.step)
        spectra: Tensor = torch.fft.rfft(framed * self._window(signal))
        return spectra.movedim(-1, 0).contiguous()

    def synthesised(self, spectra: Tensor, samples: int) -> Tensor:
        """Return the signal (channels, samples) of spectra (size / 2 + 1, channels, frames), by overlap-add."""
        framed: Tensor = torch.fft.irfft(spectra.movedim(0, -1), self.size)
        window = self._window(framed)
        # The dual window: the window over the sum of its squared shifts, so that analysis and synthesis are the identity.
        shifts = window.reshape(-1, self.step)
        dual = (shifts / shifts.square().sum(0)).reshape(-1)
        pieces = (framed * dual).unflatten(-1, (-1, self.step))  # (channels, frames, overlap, step)
        count = self.size // self.step
        padded = framed.new_zeros(framed.shape[0], framed.shape[1] + count - 1, self.step)
        for number in range(count):
            padded[:, number : number + framed.shape[1]] += pieces[:, :, number]
        before = self.size - self.step
        return padded.reshape(framed.shape[0], -1)[:, before : before + samples]

    def _window(self, like: Tensor) -> Tensor:
        return torch.blackman_window(self.size, dtype=like.dtype, device=like.device)
