"""Online weighted prediction error: recursive least squares, frame by frame, for rooms that change."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.headway import tell
from unconv.inverse.solvers.weighted_prediction import admit_spectra
from unconv.kinds import checks_kinds

_FLOOR = 1e-6  # of the largest power so far in a frequency
_CHECKED = 32  # frames between checks of the inverse covariances
_MOST = 1e12  # a larger inverse covariance has degenerated: it begins below 1


class OnlineWpe:
    """Remove late reverberation from frames as they arrive, by recursive weighted prediction error (online WPE).

    After each frame, one step of recursive least squares updates the prediction filters of all frequencies. Frames are
    returned at once, since no later frame is needed. The filters take some seconds of sound to fit the room.

    Args:
        taps, delay: as in `wpe`.
        forgetting: the weight of a frame relative to the next one, up to 1: with 0.9999, and frames 8 ms apart, it halves in
            55 s.
        prior: the weight, in frames, of the first assumption that there is no reverberation. With 1, as in nara_wpe, the first
            seconds are worse than the input; 30 is better from the start.

    Raises:
        ShapeError: taps or delay is below 1; forgetting is not above 0 and at most 1; prior is not above 0.

    Source:
        Yoshioka & Nakatani (2012), sec. IV; Caroselli et al., "Adaptive multichannel dereverberation for automatic speech
        recognition" (2017). With a prior of 1, as `nara_wpe.wpe.online_wpe_step` 0.0.11, whose delay counts one less. Three
        things differ: inverse covariances stay Hermitian, silence changes nothing, and a degenerate covariance is reset
        (nara_wpe's issue 68).
    """

    @checks_kinds
    def __init__(self, taps: int = 10, delay: int = 3, forgetting: float = 0.9999, prior: float = 30.0) -> None:
        if taps < 1 or delay < 1:
            raise ShapeError(f"OnlineWpe: taps is {taps} and delay is {delay}, but 1 or more was needed for each.")
        if not 0 < forgetting <= 1:
            raise ShapeError(f"OnlineWpe: forgetting is {forgetting}, but more than 0 and at most 1 was needed. Pass 0.9999.")
        if not 0 < prior < float("inf"):
            raise ShapeError(f"OnlineWpe: prior is {prior}, but a number of frames above zero was needed. Pass 30.")
        self.taps, self.delay, self.forgetting, self.prior = taps, delay, forgetting, prior
        self.restarts = 0
        self._past: Tensor | None = None

    @checks_kinds
    def push(self, frames: Tensor) -> Tensor:
        """Return the next frames, (F, D, T), without late reverberation, in their dtype, and learn from them.

        Raises:
            ShapeError: the frames are not (F, D, T), or F or D differs from before. DtypeError, NonFinite: as in `wpe`. After
                an error the filters are as before.
        """
        admit_spectra("OnlineWpe.push", frames)
        if frames.ndim != 3 or (self._past is not None and frames.shape[:2] != self._past.shape[::2]):
            before = "(F, D, T)" if self._past is None else f"({self._past.shape[0]}, {self._past.shape[2]}, T), as before,"
            raise ShapeError(f"OnlineWpe.push: frames are {tuple(frames.shape)}, but {before} was needed.")
        new = frames.detach().mT.to(torch.complex128)
        if self._past is None:
            self._reset(new)
        assert self._past is not None
        history = self._past.shape[1]
        sequence = torch.cat([self._past, new], 1).contiguous()
        early = [self._step(sequence, number) for number in range(history, sequence.shape[1])]
        self._past = sequence[:, sequence.shape[1] - history :].clone()
        return torch.stack(early, -1).to(frames.dtype)

    def _reset(self, new: Tensor) -> None:
        count, _, channels = new.shape
        unknowns = self.taps * channels
        self._past = new.new_zeros(count, self.taps + self.delay, channels)
        self._start = torch.eye(unknowns, dtype=new.dtype, device=new.device) / self.prior
        self._inverse = self._start.repeat(count, 1, 1)
        self._filters = new.new_zeros(count, unknowns, channels)
        self._loudest = new.real.new_zeros(count)
        self._count = 0

    def _step(self, sequence: Tensor, number: int) -> Tensor:
        """Return frame `number` of a sequence (F, T, D) without its late part, (F, D), and update the filters by it."""
        first = number - self.delay - self.taps + 1
        past = sequence[:, first : first + self.taps].flatten(1)
        early: Tensor = sequence[:, number] - (past[:, None] @ self._filters.conj())[:, 0]
        window = sequence[:, number - self.delay - self.taps : number + 1]
        power = (window.real.square() + window.imag.square()).mean((1, 2))
        self._loudest = torch.maximum(self._loudest, power)
        # A frequency that is silent, or was silent in the past, neither learns nor forgets.
        heard = (past.abs().amax(1) > 0) & (power > _FLOOR * self._loudest)
        filtered = (self._inverse @ past[..., None])[..., 0]
        scale = self.forgetting * power + (past.conj() * filtered).sum(-1).real
        gain = torch.where(heard, 1 / scale, 0)[:, None] * filtered
        # The matrix inversion lemma: gain * filtered^H is a real number times a Hermitian matrix, so the inverse covariance
        # stays Hermitian, except for rounding, which `_repair` removes.
        self._inverse.baddbmm_(gain[..., None], filtered.conj()[:, None], alpha=-1)
        self._inverse /= torch.where(heard, self.forgetting, torch.ones_like(power))[:, None, None]
        self._filters.baddbmm_(gain[..., None], early.conj()[:, None])
        self._count += 1
        if self._count % _CHECKED == 0:
            self._repair()
        return early

    def _repair(self) -> None:
        """Make the inverse covariances Hermitian again, and reset those that are not positive or exceed `_MOST`."""
        self._inverse = (self._inverse + self._inverse.mH) / 2
        diagonal = self._inverse.diagonal(dim1=-2, dim2=-1).real
        valid = (diagonal > 0).all(-1) & (diagonal < _MOST).all(-1) & torch.isfinite(self._filters.abs().sum((1, 2)))
        if bool(valid.all()):
            return
        self.restarts += int((~valid).sum())
        self._inverse[~valid] = self._start
        self._filters[~valid] = 0


@checks_kinds
def online_wpe(spectra: Tensor, taps: int = 10, delay: int = 3, forgetting: float = 0.9999, prior: float = 30.0) -> Tensor:
    """Remove late reverberation from spectra (F, D, T) by `OnlineWpe`, each frame from earlier ones only.

    Raises:
        ShapeError, DtypeError, NonFinite: as `OnlineWpe` and its `push`.
    """
    filter = OnlineWpe(taps, delay, forgetting, prior)
    admit_spectra("online_wpe", spectra)
    parts = []
    for part in spectra.split(_CHECKED, -1):
        parts.append(filter.push(part))
        tell(sum(each.shape[-1] for each in parts) / spectra.shape[-1])
    return torch.cat(parts, -1)
