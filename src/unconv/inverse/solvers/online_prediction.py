"""Weighted prediction error frame by frame: recursive least squares that follow a room as it changes."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.headway import tell
from unconv.inverse.solvers.weighted_prediction import admit_spectra
from unconv.kinds import checks_kinds

_FLOOR = 1e-6  # of the largest power so far in a frequency
_CHECKED = 32  # frames between looks at the inverse covariances
_MOST = 1e12  # an inverse covariance above that is no longer one: it begins below 1


class OnlineWpe:
    """Take late reverberation out of frames as they come, by recursive weighted prediction error.

    After each frame the prediction filters of all frequencies are moved by one step of recursive least squares. Frames come
    out at once: none of those after is needed. It takes some seconds of sound until the filters fit the room.

    Args:
        taps, delay: as in `wpe`.
        forgetting: what an older frame counts against the next, up to 1: 0.9999 of frames 8 ms apart halves in 55 s.
        prior: how many frames the belief counts, at the start, that nothing is reverberant. With 1, as nara_wpe has it, the
            first seconds are worse than what came; 30 does better from the first.

    Raises:
        ShapeError: taps or delay below 1; a forgetting that is not above 0 and at most 1; a prior that is not above 0.

    Source:
        Yoshioka & Nakatani (2012), sec. IV; Caroselli et al., "Adaptive multichannel dereverberation for automatic speech
        recognition" (2017). With a prior of 1 as `nara_wpe.wpe.online_wpe_step` 0.0.11, whose delay counts one less, except
        that inverse covariances stay Hermitian, silence changes nothing, and one that degenerates begins anew (nara_wpe's
        issue 68).
    """

    @checks_kinds
    def __init__(self, taps: int = 10, delay: int = 3, forgetting: float = 0.9999, prior: float = 30.0) -> None:
        if taps < 1 or delay < 1:
            raise ShapeError(f"OnlineWpe: taps is {taps} and delay is {delay}, but 1 or more was needed of each.")
        if not 0 < forgetting <= 1:
            raise ShapeError(f"OnlineWpe: forgetting is {forgetting}, but more than 0, up to 1, was needed. Pass 0.9999.")
        if not 0 < prior < float("inf"):
            raise ShapeError(f"OnlineWpe: prior is {prior}, but a number of frames, above zero, was needed. Pass 30.")
        self.taps, self.delay, self.forgetting, self.prior = taps, delay, forgetting, prior
        self.restarts = 0
        self._past: Tensor | None = None

    @checks_kinds
    def push(self, frames: Tensor) -> Tensor:
        """Take the next frames, (F, D, T), and return them without late reverberation, in their dtype.

        Raises:
            ShapeError: not (F, D, T), or another F or D than before. DtypeError, NonFinite: as in `wpe`. What is refused
                changes nothing.
        """
        admit_spectra("OnlineWpe.push", frames)
        if frames.ndim != 3 or (self._past is not None and frames.shape[:2] != self._past.shape[::2]):
            before = "(F, D, T)" if self._past is None else f"({self._past.shape[0]}, {self._past.shape[2]}, T), as before,"
            raise ShapeError(f"OnlineWpe.push: frames are {tuple(frames.shape)}, but {before} was needed.")
        new = frames.detach().mT.to(torch.complex128)
        if self._past is None:
            self._begin(new)
        assert self._past is not None
        held = self._past.shape[1]
        line = torch.cat([self._past, new], 1).contiguous()
        early = [self._step(line, number) for number in range(held, line.shape[1])]
        self._past = line[:, line.shape[1] - held :].clone()
        return torch.stack(early, -1).to(frames.dtype)

    def _begin(self, new: Tensor) -> None:
        count, _, channels = new.shape
        unknowns = self.taps * channels
        self._past = new.new_zeros(count, self.taps + self.delay, channels)
        self._start = torch.eye(unknowns, dtype=new.dtype, device=new.device) / self.prior
        self._inverse = self._start.repeat(count, 1, 1)
        self._filters = new.new_zeros(count, unknowns, channels)
        self._loudest = new.real.new_zeros(count)
        self._count = 0

    def _step(self, line: Tensor, number: int) -> Tensor:
        """Return frame `number` of a line (F, T, D) without its late part, (F, D), and learn from it."""
        first = number - self.delay - self.taps + 1
        past = line[:, first : first + self.taps].flatten(1)
        early: Tensor = line[:, number] - (past[:, None] @ self._filters.conj())[:, 0]
        near = line[:, number - self.delay - self.taps : number + 1]
        power = (near.real.square() + near.imag.square()).mean((1, 2))
        self._loudest = torch.maximum(self._loudest, power)
        # A frequency in which nothing was heard yet, or whose past is silent, has nothing to learn and forgets nothing.
        heard = (past.abs().amax(1) > 0) & (power > _FLOOR * self._loudest)
        towards = (self._inverse @ past[..., None])[..., 0]
        scale = self.forgetting * power + (past.conj() * towards).sum(-1).real
        gain = torch.where(heard, 1 / scale, 0)[:, None] * towards
        # gain towards^H is real times a Hermitian matrix: the inverse covariance stays Hermitian but for rounding.
        self._inverse.baddbmm_(gain[..., None], towards.conj()[:, None], alpha=-1)
        self._inverse /= torch.where(heard, self.forgetting, torch.ones_like(power))[:, None, None]
        self._filters.baddbmm_(gain[..., None], early.conj()[:, None])
        self._count += 1
        if self._count % _CHECKED == 0:
            self._mend()
        return early

    def _mend(self) -> None:
        """Keep the inverse covariances Hermitian, and begin anew where one is no longer positive or has outgrown all bounds."""
        self._inverse = (self._inverse + self._inverse.mH) / 2
        diagonal = self._inverse.diagonal(dim1=-2, dim2=-1).real
        sound = (diagonal > 0).all(-1) & (diagonal < _MOST).all(-1) & torch.isfinite(self._filters.abs().sum((1, 2)))
        if bool(sound.all()):
            return
        self.restarts += int((~sound).sum())
        self._inverse[~sound] = self._start
        self._filters[~sound] = 0


@checks_kinds
def online_wpe(spectra: Tensor, taps: int = 10, delay: int = 3, forgetting: float = 0.9999, prior: float = 30.0) -> Tensor:
    """Take late reverberation out of spectra (F, D, T) frame by frame, each from those before it alone: `OnlineWpe` in one go.

    Raises:
        ShapeError, DtypeError, NonFinite: as `OnlineWpe` and its `push`.
    """
    made = OnlineWpe(taps, delay, forgetting, prior)
    admit_spectra("online_wpe", spectra)
    parts = []
    for part in spectra.split(_CHECKED, -1):
        parts.append(made.push(part))
        tell(sum(p.shape[-1] for p in parts) / spectra.shape[-1])
    return torch.cat(parts, -1)
