"""Design MMSE decision-feedback equalisers and run them in parallel blocks, with the result of a sequential run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.errors import ShapeError
from unconv.inverse.fields.channel.limits import admitted_noise, admitted_taps, infinite_length
from unconv.inverse.fields.channel.linear import admitted_delay, admitted_length, convolution_matrix, in_precision
from unconv.inverse.fields.channel.lookup import Lookup
from unconv.inverse.fields.channel.overlap_save import filtered, sub_channels_of
from unconv.inverse.solvers.arrays import as_samples, like
from unconv.inverse.solvers.trellis_blocks import Cut, admitted_points, cut, mend
from unconv.kinds import checks_kinds_but

_NEAR = 0.01  # relative excess over the error of infinite length that a chosen length may leave
_SLOW = 0.001  # relative fall of the error below which doubling the length is not worth it
_LONGEST = 512  # forward taps of all sub-channels together that may be chosen automatically
_FLOOR = 1e-6  # of the channel's norm: lower noise is raised to it
_OVERLAP = 16  # steps of warm-up before a block, times the symbols fed back plus one
_ROOM = 2**22  # symbols that are decided at a time


@dataclass(frozen=True, eq=False)
class DecisionFeedbackEqualizer:
    """A decision-feedback equaliser, as `decision_feedback_equalizer` designs it.

    Its output is z[t] = sum_p sum_f forward[p, f] y[p, t - f] - sum_q feedback[q] d[t - delay - 1 - q].

    Attributes:
        forward: (P, F). feedback: (Q,), for decisions d of the symbols before s[t - delay].
        delay: the decision delay, in symbols.
        error: mean squared error E|z[t] - s[t - delay]|^2 for symbols of power 1, if the decisions fed back are right.
        gain: 1 - error, the factor of the symbol itself in z.
    """

    forward: Any
    feedback: Any
    delay: int
    error: float
    gain: float

    @checks_kinds_but("observed", "points")
    def equalized(self, observed: Any, points: Any, count: int | None = None) -> tuple[Any, Any]:
        """Equalise observations: return unbiased soft symbols and the indices of the decided points, both (..., count).

        The i-th is for the symbol that meets tap 0 in sample i. Nothing is fed back before the first symbol. Long signals are
        run in blocks in parallel, each with a warm-up before it. A block whose warm-up ended with other decisions than the
        previous block is run again from those decisions, so that the result is that of a sequential run.

        Args:
            observed: (..., P, N); samples outside count as zero. points: (M,), of mean power 1. count: 1 to N; None: N.

        Raises:
            ShapeError: another number of sub-channels, or a count out of range; fewer than two points, or equal ones.
            DtypeError, NonFinite: not finite numbers.
        """
        forward = as_samples("equalized", "forward", self.forward, "(P, F)", 2)
        y = as_samples("equalized", "observed", observed, "(..., P, N)", 2)
        wanted = y.shape[-1] if count is None else count
        y = sub_channels_of("equalized", y, len(forward), wanted)
        alphabet = admitted_points("equalized", points)
        # Both filters are divided by the gain, so that decisions are made on unbiased values.
        ahead = filtered(y, in_precision(forward / self.gain, y).to(y.device), self.delay, wanted)
        feedback = torch.as_tensor(self.feedback) / self.gain
        is_complex = any(each.is_complex() for each in (ahead, alphabet, feedback))
        kind = torch.promote_types(ahead.dtype, torch.complex64) if is_complex else ahead.dtype
        values = alphabet.to(y.device, kind if alphabet.is_complex() else ahead.real.dtype)
        soft, indices = _decided(ahead.reshape(-1, wanted).to(kind), feedback.to(y.device, kind), values)
        shape = (*y.shape[:-2], wanted)
        return like(observed, soft.reshape(shape)), like(observed, indices.reshape(shape))


@checks_kinds_but("taps", "noise", "forward", "feedback", "delay")
def decision_feedback_equalizer(
    taps: Any, noise: Any, forward: int | None = None, feedback: int | None = None, delay: int | str = "best"
) -> DecisionFeedbackEqualizer:
    """Design the MMSE decision-feedback equaliser for a known channel and white symbols of power 1.

    Args:
        taps: (P, L), real or complex, of sub-channels at one sample per symbol.
        noise: standard deviation of a sample's noise, E|noise|^2 = noise^2; one number, or (P,).
        forward: taps F of each sub-channel. None: twice the channel's length, doubled until the error is within 1 % of that of
            infinite length (Salz) or falls by less than a thousandth, with at most 512 taps in all sub-channels together.
        feedback: taps Q, 0 or more; None: L - 1, all postcursor interference, zero taps at the channel's end not counted.
        delay: decision delay in symbols, 0 to F + L - 2; "best": the one of least error.

    Raises:
        ShapeError: taps that are all zero; no noise; a length or a delay out of range. DtypeError, NonFinite: not finite
            numbers.

    Source:
        Al-Dhahir & Cioffi, "MMSE decision-feedback equalizers: finite-length results" (1995); Salz (1973).

    Example:
        >>> equalizer = decision_feedback_equalizer([[0.407, 0.815, 0.407]], 0.28, 24)
        >>> equalizer.delay, round(equalizer.error, 4)
        (23, 0.1417)
    """
    where = "decision_feedback_equalizer"
    h = admitted_taps(where, taps)
    level = admitted_noise(where, noise, len(h))
    if not bool((level > 0).all()):
        raise ShapeError(f"{where}: noise is {noise!r}, but more than 0 was needed. Pass a small number.")
    admitted_length(where, "forward", forward, 1)
    admitted_length(where, "feedback", feedback, 0)
    # Next to no noise would leave a covariance matrix that cannot be factored.
    level = level.clamp(min=_FLOOR * float(h.norm()))
    back = int(torch.nonzero((h != 0).any(0)).max()) if feedback is None else feedback
    if forward is None:
        designed = _long_enough(h, level, back, delay)
    else:
        designed = _design(h, level, forward, back, admitted_delay(where, delay, forward + h.shape[1] - 1))
    filters = (like(taps, designed.forward), like(taps, designed.feedback))
    return DecisionFeedbackEqualizer(*filters, designed.delay, designed.error, designed.gain)


def _long_enough(h: Tensor, level: Tensor, back: int, delay: Any) -> DecisionFeedbackEqualizer:
    """Double the forward length until the error is near that of infinite length, or falls no more."""
    wanted, before = (1 + _NEAR) * infinite_length(h, level).feedback, torch.inf
    length = max(2 * h.shape[1], 4)
    while True:
        chosen = admitted_delay("decision_feedback_equalizer", delay, length + h.shape[1] - 1)
        designed = _design(h, level, length, back, chosen)
        done = designed.error <= wanted or designed.error > (1 - _SLOW) * before
        if done or 2 * length * len(h) > _LONGEST:
            return designed
        length, before = 2 * length, designed.error


def _design(h: Tensor, level: Tensor, length: int, back: int, delay: int | None) -> DecisionFeedbackEqualizer:
    matrix = convolution_matrix(h, length)
    power = level.square().repeat_interleave(length).to(matrix.dtype)
    if delay is None:
        delay = int(_errors(matrix, power, back).argmin())
    # Correct feedback cancels the symbols it covers: the forward filter is designed without their columns.
    fed = slice(delay + 1, min(delay + 1 + back, matrix.shape[1]))
    rest = torch.cat([matrix[:, : fed.start], matrix[:, fed.stop :]], 1)
    factor = torch.linalg.cholesky(rest @ rest.mH + power.diag())
    weights = torch.cholesky_solve(matrix[:, delay : delay + 1], factor)[:, 0].conj().resolve_conj()
    gain = float((weights @ matrix[:, delay]).real)
    feedback = F.pad(weights @ matrix[:, fed], (0, back - (fed.stop - fed.start)))
    return DecisionFeedbackEqualizer(weights.reshape(-1, length), feedback, delay, 1 - gain, gain)


def _errors(matrix: Tensor, power: Tensor, back: int) -> Tensor:
    """Return the errors at all delays: the variance of symbol D given the observation and the `back` symbols before it."""
    count = matrix.shape[1]
    eye = torch.eye(count, dtype=matrix.dtype)
    information = eye + matrix.mH @ (matrix / power[:, None])
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(information))
    # Symbols too old for the filter's samples keep their variance of 1, and are uncorrelated with the others.
    extended = torch.eye(count + back, dtype=matrix.dtype)
    extended[:count, :count] = covariance
    windows = extended.unfold(0, back + 1, 1).unfold(1, back + 1, 1).diagonal(0, 0, 1).movedim(-1, 0)
    # The square of a Cholesky factor's last pivot is the variance of the last symbol given all others.
    factor: Tensor = torch.linalg.cholesky(windows.flip(1, 2))
    return factor[:, -1, -1].real.square()


def _decided(ahead: Tensor, feedback: Tensor, points: Tensor, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Run the feedback loop over forward-filtered symbols (B, count): return soft symbols and indices of points."""
    rows, count = ahead.shape
    soft, indices = torch.empty_like(ahead), torch.empty(ahead.shape, dtype=torch.int64, device=ahead.device)
    layout = _cut(rows, count, len(feedback), block)
    # As many signals and blocks at a time as memory allows; each group of blocks starts from the last decisions before it.
    together = max(1, layout.most // layout.blocks)
    for first in range(0, rows, together):
        group = slice(first, first + together)
        values = ahead.new_zeros(len(feedback), len(ahead[group]))
        for begin in range(0, layout.blocks, layout.most):
            end = min(begin + layout.most, layout.blocks)
            blocks = _Blocks(ahead[group], feedback, points, layout, begin, end, values)
            values = blocks.values[blocks.values.shape[0] - len(feedback) :, blocks.blocks - 1 :: blocks.blocks]
            blocks.write(soft[group], indices[group])
    return soft, indices


def _cut(rows: int, count: int, back: int, block: int | None = None) -> Cut:
    # A wrong start is forgotten after a run of right decisions: sooner at low error rates, so that this overlap is a guess.
    overlap = _OVERLAP * (back + 1)
    length = 8 * max(overlap, 48) if block is None else block
    if count <= 2 * length and block is None:
        length = count
    blocks = -(-count // length)
    return Cut(length, 0 if blocks == 1 else overlap, blocks, blocks * length - count, max(1, _ROOM // (length + overlap)))


class _Blocks:
    """Neighbouring blocks that run in parallel, as columns (B * blocks).

    Attributes:
        values: (back + length, columns), the decided points, preceded by those before each block.
    """

    def __init__(
        self, ahead: Tensor, feedback: Tensor, points: Tensor, layout: Cut, first: int, last: int, before: Tensor
    ) -> None:
        self.layout, self.first, self.last, self.blocks, self.count = layout, first, last, last - first, len(ahead)
        # Reversed, since rows of `values` are in the order of time.
        self.feedback, self.points, self.decide = feedback.flip(0)[None], points, Lookup(points).nearest
        samples = cut(ahead[None], layout, first, last)[:, 0].contiguous()
        columns, back = samples.shape[1], len(feedback)
        warm = ahead.new_zeros(back + layout.overlap, columns)
        self._run(samples[: layout.overlap], warm, None, None)
        self.samples = samples[layout.overlap :]
        self.values = torch.cat([warm[layout.overlap :], ahead.new_zeros(layout.length, columns)])
        self.soft, self.indices = torch.zeros_like(self.samples), torch.zeros(self.samples.shape, dtype=torch.int64)
        self.indices = self.indices.to(ahead.device)
        self.begins = self.values[:back].clone()
        pad = layout.pad if first == 0 else 0
        self._run(self.samples[:pad], self.values[: back + pad], self.soft, self.indices)
        self.values[pad : pad + back, :: self.blocks] = before
        self._run(self.samples[pad:], self.values[pad:], self.soft[pad:], self.indices[pad:])
        self._mend(torch.arange(columns, device=ahead.device) % self.blocks != 0)

    def _run(self, ahead: Tensor, values: Tensor, soft: Tensor | None, indices: Tensor | None) -> None:
        """Decide (steps, columns) step by step; values (back + steps, columns) begin with the decisions before the first."""
        back = self.feedback.shape[1]
        for step in range(len(ahead)):
            now = ahead[step]
            if back:
                now = torch.addmm(ahead[step : step + 1], self.feedback, values[step : step + back], alpha=-1)[0]
            number = self.decide(now)
            values[back + step] = self.points[number]
            if soft is not None and indices is not None:
                soft[step], indices[step] = now, number

    def _mend(self, inner: Tensor) -> None:
        """Run those blocks again that started from other decisions than the previous block ended with."""
        back = self.feedback.shape[1]
        if not back:
            return

        def failing() -> Tensor:
            return (self.values[-back:].roll(1, 1) != self.begins).any(0) & inner

        def again(which: Tensor) -> None:
            values, soft = self.values[:, which], self.soft[:, which]
            indices = self.indices[:, which]
            values[:back] = self.values[-back:, which - 1]
            self.begins[:, which] = values[:back]
            self._run(self.samples[:, which].contiguous(), values, soft, indices)
            self.values[:, which], self.soft[:, which], self.indices[:, which] = values, soft, indices

        mend(self.count, failing, again)

    def write(self, soft: Tensor, indices: Tensor) -> None:
        """Write soft symbols and indices to their positions in (B, count)."""
        begin = self.first * self.layout.length - self.layout.pad
        skipped = max(-begin, 0)
        for columns, target in ((self.soft, soft), (self.indices, indices)):
            in_rows = columns.unflatten(1, (self.count, self.blocks)).permute(1, 2, 0).flatten(1)
            target[:, begin + skipped : self.last * self.layout.length - self.layout.pad] = in_rows[:, skipped:]
