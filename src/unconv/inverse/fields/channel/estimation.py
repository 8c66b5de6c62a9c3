"""Channels from known training symbols: where they stand in what was received, the taps, and the noise."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, ShapeError
from unconv.inverse.operators.fourier import fast_length
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.loudness import refuse_silence
from unconv.kinds import checks_kinds_but, shown

_LONGEST = 64  # symbols that a channel of unknown length may reach over
_SINGULAR = 1e-8  # of the training's largest singular value, below which it says nothing of a combination of taps
_ILL = 1e-2  # above which it says as much as noise allows
_BY_CHANCE = 1e-3  # chance at which noise alone would be explained as well: training is then not found for sure


@dataclass(frozen=True, eq=False)
class ChannelEstimate:
    """A channel as training symbols show it.

    Attributes:
        taps: (..., k), at the rate received, so that received[offset + t] = sum of taps[j] sent[t - j], where sent holds zeros
            between symbols.
        noise: (...), standard deviation of a sample, E|noise|^2 = noise^2.
        offset: the sample at which the first training symbol meets the first tap; it is below zero where that came too early.
        deviation: (..., k), standard deviation of each tap, sqrt(E|error|^2).
        notes: what was odd.
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
    """Estimate a channel's taps by least squares from training symbols, wherever those stand in what was received.

    Only samples to which no other than training symbols contribute are used: what was sent before and after may be anything.

    Args:
        received: (..., n). Signals in front share offset and length, as those of several antennas do.
        training: (T,), the symbols sent, or (..., T).
        length: k, taps at the rate received; "estimate": by the Bayesian information criterion (BIC), up to a third of the
            training or 64 symbols. Taps at both ends that the criterion does without are left out.
        samples_per_symbol: of `received`.
        offset: of the first training symbol, in samples; "estimate": where the training explains the largest share of
            the samples.

    Raises:
        ShapeError: more training than was received, more taps than it determines, or training that repeats itself so that it
            does not determine them; silence. DtypeError: complex training of a real signal. NonFinite: NaN.

    Source:
        Crozier, Falconer & Mahmoud, "Least sum of squared errors (LSSE) channel estimation" (1991); Schwarz, "Estimating the
        dimension of a model" (1978), for the length.
    """
    where, rate = "estimate_channel", samples_per_symbol
    signal, known, kind = _admitted(where, received, training, rate)
    plain = signal.reshape(-1, signal.shape[-1])
    most = _most(where, known, length, rate)
    sent = F.pad(known[..., None], (0, rate - 1)).flatten(-2)  # a symbol, then zeros up to the next
    design, told = _design(where, sent, most, rate, length)
    begin = _begin(where, offset, plain, design, sent.shape[-1])
    taps, end = design.shape[-1], sent.shape[-1]
    rows = plain[:, begin + taps - 1 : begin + end]
    if isinstance(length, str):
        first, last = _ends(design, rows, fixed=not isinstance(offset, str))
        design, begin, taps = design[..., first:last], begin + first, last - first
        # Fewer taps need fewer samples before the first that only training reaches.
        cut = max(1 - taps - begin, 0)  # rows before the first sample received, where training came too early
        design = _toeplitz(sent, taps)[..., cut:, :]
        rows = plain[:, begin + taps - 1 + cut : begin + end]
    offsets = plain.shape[-1] - rows.shape[-1] + 1 if isinstance(offset, str) else 1
    told += _doubts(_explained(design, rows), taps, rows.shape[-1], offsets, not plain.is_complex())
    return _estimate(received, signal.shape[:-1], kind, design, rows, begin, told)


def _admitted(where: str, received: Any, training: Any, rate: int) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return what was received, in double precision, the training (1 or signals, T), and the precision that came."""
    signal, known = as_samples(where, "received", received, "(..., n)"), as_samples(where, "training", training, "(..., n)")
    if rate < 1:
        raise ShapeError(f"{where}: samples_per_symbol is {rate}, but 1 or more was needed.")
    if known.is_complex() and not signal.is_complex():
        raise DtypeError(f"{where}: training is complex, but what was received is real. Pass the complex baseband.")
    if known.ndim > 1 and known.shape[:-1] != signal.shape[:-1]:
        raise ShapeError(
            f"{where}: training is {tuple(known.shape)}, but (T,) or {(*signal.shape[:-1], 'T')} was needed, as `received` is."
        )
    if known.shape[-1] * rate > signal.shape[-1]:
        raise ShapeError(
            f"{where}: {known.shape[-1]} training symbols are {known.shape[-1] * rate} samples, but {signal.shape[-1]} were "
            "received. Pass the part of the training that was received."
        )
    refuse_silence(where, "received", signal)
    refuse_silence(where, "training", known)
    kind = torch.complex128 if signal.is_complex() else torch.float64
    return signal.to(kind), known.to(signal.device, kind).reshape(-1, known.shape[-1]), signal.dtype


def _most(where: str, known: Tensor, length: Any, rate: int) -> int:
    """Return the taps to begin with: as many as were asked for, or as many as may be looked for."""
    count = known.shape[-1]
    if isinstance(length, str):
        if length != "estimate":
            raise ShapeError(f"{where}: length is {length!r}, but 'estimate' or a number of taps was needed.")
        if count < 3:
            raise ShapeError(f"{where}: {count} training symbols came, but 3 or more were needed to choose a length. Give it.")
        return min(count // 3, _LONGEST) * rate
    if not isinstance(length, int) or isinstance(length, bool):
        raise DtypeError(f"{where}: length is {shown(length)}, but 'estimate' or a whole number was needed.")
    reach = -(-length // rate)
    if length < 1 or count - reach + 1 < reach + 1:
        raise ShapeError(
            f"{where}: length is {length}, but from {count} training symbols at {rate} samples each, 1 to "
            f"{count // 2 * rate} taps can be estimated. Send more training, or ask for fewer taps."
        )
    return length


def _toeplitz(sent: Tensor, taps: int) -> Tensor:
    """Return rows (signals, N, taps) of the samples that only training reaches: row t holds sent[t + taps - 1 - j]."""
    return sent.unfold(-1, taps, 1).flip(-1)


def _design(where: str, sent: Tensor, most: int, rate: int, length: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Return the rows for up to `most` taps that the training tells apart, and what is said of it."""
    values = torch.linalg.svdvals(_toeplitz(sent, most))
    share = float((values[..., -1] / values[..., 0]).min())
    if share < _SINGULAR:
        rank = int((values > _SINGULAR * values[..., :1]).sum(-1).min())
        fewer = rank // rate * rate
        if isinstance(length, str) and fewer > rate:
            # A sequence that repeats itself tells as many taps apart as its period has.
            said = f"training tells only {fewer} taps apart: it repeats itself; longer channels were not looked for"
            return _toeplitz(sent, fewer), (said,)
        raise ShapeError(
            f"{where}: the training determines only {rank} of {most} taps: it is constant or repeats itself. Send symbols that "
            "look random, or ask for fewer taps."
        )
    ill = share < _ILL
    return _toeplitz(sent, most), (f"training is ill-conditioned (1 to {1 / share:.2g}): see `deviation`",) if ill else ()


def _begin(where: str, offset: Any, plain: Tensor, design: Tensor, end: int) -> int:
    """Return the sample of the first training symbol: as it came, or where the training explains most."""
    taps, last = design.shape[-1], plain.shape[-1] - end
    if isinstance(offset, str):
        if offset != "estimate":
            raise ShapeError(f"{where}: offset is {offset!r}, but 'estimate' or a sample was needed.")
        return _best(plain, design) - (taps - 1)
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise DtypeError(f"{where}: offset is {shown(offset)}, but 'estimate' or a whole number was needed.")
    if not 1 - taps <= offset <= last:
        raise ShapeError(
            f"{where}: offset is {offset}, but one from {1 - taps} to {last} was needed: training of {end} samples ends within "
            f"the {plain.shape[-1]} received."
        )
    return offset


def _best(plain: Tensor, design: Tensor) -> int:
    """Return the sample at which rows of the design explain the largest share, summed over signals as log-likelihoods."""
    count, n = design.shape[-2], plain.shape[-1]
    basis = torch.linalg.qr(design)[0]
    # Blocks of a few windows each: transforms of the whole signal, one for each tap, would be far from the processor's cache.
    size, room = fast_length(max(8 * count, 1024)), n - count + 1
    hop = size - count + 1
    blocks = -(-room // hop)
    spectrum = torch.fft.fft(F.pad(plain, (0, blocks * hop + count - 1 - n)).unfold(-1, size, hop))
    caught = plain.new_zeros((len(plain), blocks, hop)).real
    for column in basis.unbind(-1):
        # Correlation with one column of an orthonormal basis: the squares of all of them are the energy explained.
        product = torch.fft.ifft(spectrum * torch.fft.fft(column, size).conj()[:, None])[..., :hop]
        caught = caught + product.abs().square()
    caught = caught.flatten(1)[:, :room]
    energy = F.pad(plain.abs().square().cumsum(-1), (1, 0))
    window = energy[:, count:] - energy[:, :-count]
    # A window of next to nothing can be explained by rounding: it counts as noise of a billionth of the loudest.
    least = 1e-9 * window.amax(-1, keepdim=True)
    left = (window - caught).clamp(min=0) + least
    return int(((window + least) / left).log().sum(0).argmax())


def _explained(design: Tensor, rows: Tensor) -> Tensor:
    """Return the shares (signals,) of the samples' energy that all taps together explain."""
    basis = torch.linalg.qr(design)[0]
    caught = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows).abs().square().sum(-1)
    return caught / rows.abs().square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)


def _ends(design: Tensor, rows: Tensor, fixed: bool) -> tuple[int, int]:
    """Return the first tap and the one after the last that BIC keeps; with a fixed offset the first one stays."""
    taps = design.shape[-1]
    last = 1 + _order(design, rows)
    if fixed:
        return 0, last
    # Now from the other end, among the taps that are left.
    return last - 1 - _order(design[..., :last].flip(-1), rows), min(last, taps)


def _order(design: Tensor, rows: Tensor) -> int:
    """Return the number of the last column that BIC keeps, of models that end at each column."""
    basis = torch.linalg.qr(design)[0]
    caught = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows).abs().square()
    energy = rows.abs().square().sum(-1, keepdim=True)
    # Nested models: each column's part of the energy is taken away from what is left by those before it.
    left = (energy - caught.cumsum(-1)).clamp(min=1e-15 * energy)
    parts = 2 if rows.is_complex() else 1
    count = parts * rows.shape[-1]
    sizes = parts * torch.arange(1, design.shape[-1] + 1, device=rows.device)
    return int((count * (left / count).log() + sizes * log(count)).sum(0).argmin())


def _doubts(explained: Tensor, taps: int, count: int, offsets: int, real: bool) -> tuple[str, ...]:
    """Say that the training was not found, if noise alone would be explained as well at one of so many offsets.

    The share that `taps` of `count` complex dimensions explain of white noise has the distribution Beta(taps, count - taps),
    whose tail is a sum of binomial terms; real dimensions count half.
    """
    share = min(max(float(explained.min()), 1e-12), 1 - 1e-12)
    trials, some = (count - 1, taps) if not real else ((count - 1) // 2, -(-taps // 2))
    terms = torch.arange(min(some, trials + 1), dtype=torch.float64)
    whole = torch.tensor(float(trials), dtype=torch.float64)
    chances = torch.lgamma(whole + 1) - torch.lgamma(terms + 1) - torch.lgamma(whole - terms + 1)
    tail = float(torch.logsumexp(chances + terms * log(share) + (trials - terms) * log(1 - share), 0))
    if tail + log(offsets) < log(_BY_CHANCE):
        return ()
    return (f"the training explains {share:.2g} of the energy, as it may of noise alone: it may not be there",)


def _estimate(
    received: Any, shape: torch.Size, kind: torch.dtype, design: Tensor, rows: Tensor, begin: int, told: tuple[str, ...]
) -> ChannelEstimate:
    """Solve for the taps by a QR factorisation: normal equations would square the training's condition."""
    taps, count = design.shape[-1], rows.shape[-1]
    basis, triangle = torch.linalg.qr(design)
    right = torch.einsum("snk,sn->sk", basis.conj().expand(len(rows), -1, -1), rows)
    solved = torch.linalg.solve_triangular(triangle.expand(len(rows), -1, -1), right[..., None], upper=True)[..., 0]
    residual = rows - torch.einsum("snk,sk->sn", design.expand(len(rows), -1, -1), solved)
    variance = residual.abs().square().sum(-1) / (count - taps)
    eye = torch.eye(taps, dtype=design.dtype, device=design.device).expand_as(triangle)
    inverse = torch.linalg.solve_triangular(triangle, eye, upper=True)
    deviation = (variance[:, None] * inverse.abs().square().sum(-1)).sqrt()
    noise = variance.sqrt().to(kind.to_real()).reshape(shape)
    return ChannelEstimate(
        like(received, solved.to(kind).reshape(*shape, taps)),
        like(received, noise) if shape else float(noise),
        begin,
        like(received, deviation.to(kind.to_real()).reshape(*shape, taps)),
        told,
    )
