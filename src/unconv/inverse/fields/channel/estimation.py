"""Estimate channels from training symbols by least squares: the taps, their number, the noise, and the training's offset."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError, counted
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but, shown

_LONGEST = 64  # symbols that a channel of unknown length may span
_SINGULAR = 1e-8  # ratio of the training matrix's singular values below which some taps are undetermined
_ILL = 1e-2  # ratio of the singular values below which the training sequence is ill-conditioned
_BY_CHANCE = 1e-3  # probability that noise alone is explained as well, above which the training may not be there


@dataclass(frozen=True, eq=False)
class ChannelEstimate:
    """A channel that was estimated from training symbols.

    Attributes:
        taps: (..., k), at the rate of `received`: received[offset + t] = sum of taps[j] sent[t - j], where `sent` has zeros
            between the symbols.
        noise: (...), standard deviation of a sample's noise, E|noise|^2 = noise^2.
        offset: the sample at which the first training symbol meets the first tap; negative if that precedes sample 0.
        deviation: (..., k), standard deviation of the estimate of each tap, sqrt(E|error|^2).
        notes: warnings about the estimate.
    """

    taps: Any
    noise: Any
    offset: int
    deviation: Any
    notes: tuple[str, ...] = ()


@checks_kinds_but("received", "training", "length", "offset")
def estimate_channel(
    received: Any,
    training: Any,
    length: int | str = "estimate",
    samples_per_symbol: int = 1,
    offset: int | str = "estimate",
) -> ChannelEstimate:
    """Estimate a channel's taps by least squares from training symbols, which are searched for in the received samples.

    Only samples that depend on training symbols alone are used, so that anything may precede and follow the training.

    Args:
        received: (..., n). All signals share offset and length, as those of several antennas do.
        training: (T,), the symbols sent, or (..., T).
        length: k, the number of taps at the rate of `received`; "estimate": by the Bayesian information criterion (BIC), up to
            a third of the training or 64 symbols. It drops insignificant taps at both ends.
        samples_per_symbol: the rate of `received`.
        offset: sample of the first training symbol; "estimate": where the training explains the largest share of the energy.

    Raises:
        ShapeError: more training than was received, more taps than the training determines, as when it repeats itself; silence.
            DtypeError: complex training for a real signal. NonFinite: NaN.

    Source:
        Crozier, Falconer & Mahmoud, "Least sum of squared errors (LSSE) channel estimation" (1991); Schwarz, "Estimating the
        dimension of a model" (1978), for the length.
    """
    where, rate = "estimate_channel", samples_per_symbol
    signal, known, kind = _admitted(where, received, training, rate)
    plain = signal.reshape(-1, signal.shape[-1])
    most = _most(where, known, length, rate)
    sent = F.pad(known[..., None], (0, rate - 1)).flatten(-2)  # a symbol, then zeros up to the next
    design, notes = _design(where, sent, most, rate, length)
    begin = _begin(where, offset, plain, design, sent.shape[-1])
    taps, end = design.shape[-1], sent.shape[-1]
    rows = plain[:, begin + taps - 1 : begin + end]
    if isinstance(length, str):
        # The offset was searched for with the largest length; now its taps are trimmed, and the offset moves with the first.
        first, last = _ends(design, rows, fixed=not isinstance(offset, str))
        design, begin, taps = design[..., first:last], begin + first, last - first
        # With fewer taps, more samples depend on training symbols alone.
        cut = max(1 - taps - begin, 0)  # rows before sample 0, if the training begins earlier
        design = _toeplitz(sent, taps)[..., cut:, :]
        rows = plain[:, begin + taps - 1 + cut : begin + end]
    offsets = plain.shape[-1] - rows.shape[-1] + 1 if isinstance(offset, str) else 1
    notes += _detection_note(_explained(design, rows), taps, rows.shape[-1], offsets, not plain.is_complex())
    return _estimate(received, signal.shape[:-1], kind, design, rows, begin, notes)


def _admitted(where: str, received: Any, training: Any, rate: int) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return the signals in double precision, the training (1 or signals, T), and the dtype of the signals."""
    signal, known = as_samples(where, "received", received, "(..., n)"), as_samples(where, "training", training, "(..., n)")
    if rate < 1:
        raise ShapeError(f"{where}: samples_per_symbol is {rate}, but 1 or more was needed.")
    if known.is_complex() and not signal.is_complex():
        raise DtypeError(
            f"{where}: training is complex and received is real, but complex samples were needed. Pass the complex baseband."
        )
    if known.ndim > 1 and known.shape[:-1] != signal.shape[:-1]:
        raise ShapeError(
            f"{where}: training is {tuple(known.shape)}, but (T,) or {(*signal.shape[:-1], 'T')} was needed to match received."
        )
    if known.shape[-1] * rate > signal.shape[-1]:
        raise ShapeError(
            f"{where}: {counted(known.shape[-1], 'training symbol')} at {counted(rate, 'sample')} each cannot fit, since "
            f"received has {counted(signal.shape[-1], 'sample')}. Pass the part of the training that was received."
        )
    # A silent training leaves the least squares singular; a silent signal would come out as a channel of zeros.
    refuse_silence(where, "received", signal)
    refuse_silence(where, "training", known)
    kind = torch.complex128 if signal.is_complex() else torch.float64
    return signal.to(kind), known.to(signal.device, kind).reshape(-1, known.shape[-1]), signal.dtype


def _most(where: str, known: Tensor, length: Any, rate: int) -> int:
    """Return the number of taps to begin with: the length that was passed, or the longest that may be chosen."""
    count = known.shape[-1]
    if isinstance(length, str):
        if length != "estimate":
            raise ShapeError(f"{where}: length is {length!r}, but 'estimate' or a number of taps was needed.")
        if count < 3:
            raise ShapeError(
                f"{where}: training has {counted(count, 'symbol')}, but 3 or more were needed to choose a length. Pass length."
            )
        return min(count // 3, _LONGEST) * rate
    if not isinstance(length, int) or isinstance(length, bool):
        raise DtypeError(f"{where}: length is {shown(length)}, but 'estimate' or an integer was needed.")
    reach = -(-length // rate)
    # More samples than taps are needed: the noise is estimated from what the taps leave.
    if length < 1 or count - reach + 1 < reach + 1:
        raise ShapeError(
            f"{where}: length is {length}, but from {counted(count, 'training symbol')} at {counted(rate, 'sample')} each, 1 "
            f"to {count // 2 * rate} taps can be estimated. Use a longer training sequence, or fewer taps."
        )
    return length


def _toeplitz(sent: Tensor, taps: int) -> Tensor:
    """Return the Toeplitz matrix (signals, N, taps): row t holds sent[t + taps - 1 - j], the first that is all training."""
    return sent.unfold(-1, taps, 1).flip(-1)


def _design(where: str, sent: Tensor, most: int, rate: int, length: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Return the Toeplitz matrix for up to `most` taps that the training determines, with notes on its condition."""
    values = torch.linalg.svdvals(_toeplitz(sent, most))
    share = float((values[..., -1] / values[..., 0]).min())
    if share < _SINGULAR:
        rank = int((values > _SINGULAR * values[..., :1]).sum(-1).min())
        fewer = rank // rate * rate
        if isinstance(length, str) and fewer > rate:
            # A periodic sequence determines as many taps as its period has samples.
            note = f"the training sequence repeats itself and determines only {fewer} taps; longer channels were not considered"
            return _toeplitz(sent, fewer), (note,)
        raise ShapeError(
            f"{where}: {counted(most, 'tap')} are to be estimated, but the training sequence determines only {rank}: it is "
            "constant or repeats itself. Use symbols that look random, or pass a smaller length."
        )
    ill = share < _ILL
    note = f"the training sequence is ill-conditioned (condition number {1 / share:.2g}): see `deviation` of `estimate_channel`"
    return _toeplitz(sent, most), (note,) if ill else ()


def _begin(where: str, offset: Any, plain: Tensor, design: Tensor, end: int) -> int:
    """Return the sample of the first training symbol: the offset that was passed, or where the training explains most."""
    taps, last = design.shape[-1], plain.shape[-1] - end
    if isinstance(offset, str):
        if offset != "estimate":
            raise ShapeError(f"{where}: offset is {offset!r}, but 'estimate' or the number of a sample was needed.")
        return _best(plain, design) - (taps - 1)
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise DtypeError(f"{where}: offset is {shown(offset)}, but 'estimate' or an integer was needed.")
    if not 1 - taps <= offset <= last:
        raise ShapeError(
            f"{where}: offset is {offset}, but {1 - taps} to {last} was needed, so that the training of "
            f"{counted(end, 'sample')} ends within the {plain.shape[-1]} received. Pass 'estimate' to have it found."
        )
    return offset


def _best(plain: Tensor, design: Tensor) -> int:
    """Return the sample at which the training explains the samples best, by the log-likelihoods summed over signals."""
    count, n = design.shape[-2], plain.shape[-1]
    basis = torch.linalg.qr(design)[0]
    # In blocks of a few windows: transforms of the entire signal, one for each tap, would not fit the processor's cache.
    size, room = fast_length(max(8 * count, 1024)), n - count + 1
    hop = size - count + 1
    blocks = -(-room // hop)
    spectrum = torch.fft.fft(F.pad(plain, (0, blocks * hop + count - 1 - n)).unfold(-1, size, hop))
    explained = plain.new_zeros((len(plain), blocks, hop)).real
    for column in basis.unbind(-1):
        # Correlations with the columns of an orthonormal basis: their squares sum to the explained energy at each offset.
        product = torch.fft.ifft(spectrum * torch.fft.fft(column, size).conj()[:, None])[..., :hop]
        explained = explained + product.abs().square()
    explained = explained.flatten(1)[:, :room]
    energy = F.pad(plain.abs().square().cumsum(-1), (1, 0))
    window = energy[:, count:] - energy[:, :-count]
    # A nearly silent window could be explained by rounding: every window gets noise of a billionth of the strongest.
    least = 1e-9 * window.amax(-1, keepdim=True)
    left = (window - explained).clamp(min=0) + least
    return int(((window + least) / left).log().sum(0).argmax())


def _explained(design: Tensor, rows: Tensor) -> Tensor:
    """Return the shares (signals,) of the samples' energy that all taps together explain."""
    basis = torch.linalg.qr(design)[0]
    explained = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows).abs().square().sum(-1)
    return explained / rows.abs().square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)


def _ends(design: Tensor, rows: Tensor, fixed: bool) -> tuple[int, int]:
    """Return the range of taps that BIC keeps, as first and one past the last; with a fixed offset the first one stays."""
    taps = design.shape[-1]
    last = 1 + _order(design, rows)
    if fixed:
        return 0, last
    # The same from the other end, among the taps that remain.
    return last - 1 - _order(design[..., :last].flip(-1), rows), min(last, taps)


def _order(design: Tensor, rows: Tensor) -> int:
    """Return the index of the last column that BIC keeps, comparing the models that end at each column."""
    basis = torch.linalg.qr(design)[0]
    explained = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows).abs().square()
    energy = rows.abs().square().sum(-1, keepdim=True)
    # The models are nested, so that one QR factorisation gives the residual energy of each as a cumulative sum.
    left = (energy - explained.cumsum(-1)).clamp(min=1e-15 * energy)
    parts = 2 if rows.is_complex() else 1
    count = parts * rows.shape[-1]
    parameters = parts * torch.arange(1, design.shape[-1] + 1, device=rows.device)
    return int((count * (left / count).log() + parameters * log(count)).sum(0).argmin())


def _detection_note(explained: Tensor, taps: int, count: int, offsets: int, real: bool) -> tuple[str, ...]:
    """Say that the training may not be there, if noise alone would be explained as well at one of so many offsets.

    The share of white noise that `taps` of `count` complex dimensions explain has the distribution Beta(taps, count - taps),
    whose tail is a sum of binomial terms; real dimensions count half.
    """
    share = min(max(float(explained.min()), 1e-12), 1 - 1e-12)
    trials, number = (count - 1, taps) if not real else ((count - 1) // 2, -(-taps // 2))
    terms = torch.arange(min(number, trials + 1), dtype=torch.float64)
    total = torch.tensor(float(trials), dtype=torch.float64)
    # In logarithms, since the binomial coefficients overflow. Times the number of offsets: a union bound.
    chances = torch.lgamma(total + 1) - torch.lgamma(terms + 1) - torch.lgamma(total - terms + 1)
    tail = float(torch.logsumexp(chances + terms * log(share) + (trials - terms) * log(1 - share), 0))
    if tail + log(offsets) < log(_BY_CHANCE):
        return ()
    return (
        f"the training sequence explains {100 * share:.3g} % of the energy, but it might explain as much of noise alone: it "
        "may not be in the signal",
    )


def _estimate(
    received: Any, shape: torch.Size, kind: torch.dtype, design: Tensor, rows: Tensor, begin: int, notes: tuple[str, ...]
) -> ChannelEstimate:
    """Solve for the taps by QR factorisation: normal equations would square the condition number of the training."""
    taps, count = design.shape[-1], rows.shape[-1]
    basis, triangle = torch.linalg.qr(design)
    right = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows)
    solution = torch.linalg.solve_triangular(triangle.expand(len(rows), -1, -1), right[..., None], upper=True)[..., 0]
    residual = rows - torch.einsum("snk,sk->sn", design.expand(len(rows), -1, -1), solution)
    variance = residual.abs().square().sum(-1) / (count - taps)
    eye = torch.eye(taps, dtype=design.dtype, device=design.device).expand_as(triangle)
    inverse = torch.linalg.solve_triangular(triangle, eye, upper=True)
    # The covariance of the taps is variance * (R* R)^-1: its diagonal from the rows of R^-1.
    deviation = (variance[:, None] * inverse.abs().square().sum(-1)).sqrt()
    noise = variance.sqrt().to(kind.to_real()).reshape(shape)
    return ChannelEstimate(
        like(received, solution.to(kind).reshape(*shape, taps)),
        like(received, noise) if shape else float(noise),
        begin,
        like(received, deviation.to(kind.to_real()).reshape(*shape, taps)),
        notes,
    )
