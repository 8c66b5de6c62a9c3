"""Decision-feedback equalisers of least mean squared error, run in blocks side by side as one symbol after another."""

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

_NEAR, _SLOW = 0.01, 0.001  # of an endless equaliser's error; of the error, below which doubling the length is not worth it
_LONGEST = 512  # forward taps of all sub-channels together that are chosen without being asked for
_FLOOR = 1e-6  # of the channel's norm: noise below it counts as so much
_OVERLAP = 16  # steps before a block for each symbol fed back, and one
_ROOM = 2**22  # symbols that are worked on at a time


@dataclass(frozen=True, eq=False)
class DecisionFeedbackEqualizer:
    """Taps forward and back: z[t] = sum_p sum_f forward[p, f] y[p, t - f] - sum_q feedback[q] d[t - delay - 1 - q].

    Attributes:
        forward: (P, F). feedback: (Q,), for decisions d of the symbols before s[t - delay].
        delay: symbols.
        error: the mean squared error E|z[t] - s[t - delay]|^2 of symbols of power 1, where the decisions fed back are right.
        gain: 1 - error, what is left of the symbol itself.
    """

    forward: Any
    feedback: Any
    delay: int
    error: float
    gain: float

    @checks_kinds_but("observed", "points")
    def equalized(self, observed: Any, points: Any, count: int | None = None) -> tuple[Any, Any]:
        """Return unbiased soft symbols and the indices of the points decided for, both (..., count).

        Number i is symbol i, the one that first comes in sample i. Before the first symbol nothing is fed back. Long signals
        are run in blocks that begin early; one that comes to other decisions than its neighbour ended with is run again from
        those, so that the result is that of one symbol after another.

        Args:
            observed: (..., P, N); samples outside are taken for zero. points: (M,), of mean power 1. count: 1 to N; None: N.

        Raises:
            ShapeError: other sub-channels, or a count outside; points that are less than two or alike.
            DtypeError, NonFinite: no numbers, or NaN.
        """
        forward = as_samples("equalized", "forward", self.forward, "(P, F)", 2)
        y = as_samples("equalized", "observed", observed, "(..., P, N)", 2)
        wanted = y.shape[-1] if count is None else count
        y = sub_channels_of("equalized", y, len(forward), wanted)
        alphabet = admitted_points("equalized", points)
        # Both filters are divided by the gain: what is decided on, and fed back from, is unbiased.
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
    """Design the decision-feedback equaliser of least mean squared error of a known channel, for white symbols of power 1.

    Args:
        taps: (P, L), real or complex, of sub-channels at one sample a symbol.
        noise: standard deviation of a sample, E|noise|^2 = noise^2; one, or (P,).
        forward: taps F of each sub-channel. None: twice the channel's, and doubled until the error is within 1 % of an endless
            equaliser's (Salz), no longer falls by a thousandth, or all sub-channels together have 512.
        feedback: taps Q, 0 or more; None: L - 1, all that a channel leaves behind, zero taps at its end not counted.
        delay: "best", of all 0 ... F + L - 2, or one of them.

    Raises:
        ShapeError: taps that are all zero; no noise; a length or a delay outside. DtypeError, NonFinite: no numbers, or NaN.

    Source:
        Al-Dhahir & Cioffi, "MMSE decision-feedback equalizers: finite-length results" (1995); Salz (1973).

    Example:
        >>> found = decision_feedback_equalizer([[0.407, 0.815, 0.407]], 0.28, 24)
        >>> found.delay, round(found.error, 4)
        (23, 0.1417)
    """
    where = "decision_feedback_equalizer"
    h = admitted_taps(where, taps)
    level = admitted_noise(where, noise, len(h))
    if not bool((level > 0).all()):
        raise ShapeError(f"{where}: noise is {noise!r}, but more than 0 was needed. Pass a small one.")
    admitted_length(where, "forward", forward, 1)
    admitted_length(where, "feedback", feedback, 0)
    # Noise that is next to none would leave a matrix that cannot be factored.
    level = level.clamp(min=_FLOOR * float(h.norm()))
    back = int(torch.nonzero((h != 0).any(0)).max()) if feedback is None else feedback
    if forward is None:
        found = _long_enough(h, level, back, delay)
    else:
        found = _design(h, level, forward, back, admitted_delay(where, delay, forward + h.shape[1] - 1))
    made = (like(taps, found.forward), like(taps, found.feedback))
    return DecisionFeedbackEqualizer(*made, found.delay, found.error, found.gain)


def _long_enough(h: Tensor, level: Tensor, back: int, delay: Any) -> DecisionFeedbackEqualizer:
    wanted, before = (1 + _NEAR) * infinite_length(h, level).feedback, torch.inf
    length = max(2 * h.shape[1], 4)
    while True:
        among = admitted_delay("decision_feedback_equalizer", delay, length + h.shape[1] - 1)
        found = _design(h, level, length, back, among)
        done = found.error <= wanted or found.error > (1 - _SLOW) * before
        if done or 2 * length * len(h) > _LONGEST:
            return found
        length, before = 2 * length, found.error


def _design(h: Tensor, level: Tensor, length: int, back: int, delay: int | None) -> DecisionFeedbackEqualizer:
    matrix = convolution_matrix(h, length)
    power = level.square().repeat_interleave(length).to(matrix.dtype)
    if delay is None:
        delay = int(_errors(matrix, power, back).argmin())
    # Symbols that are fed back are taken away from what comes: their columns fall out.
    fed = slice(delay + 1, min(delay + 1 + back, matrix.shape[1]))
    rest = torch.cat([matrix[:, : fed.start], matrix[:, fed.stop :]], 1)
    factor = torch.linalg.cholesky(rest @ rest.mH + power.diag())
    weights = torch.cholesky_solve(matrix[:, delay : delay + 1], factor)[:, 0].conj().resolve_conj()
    gain = float((weights @ matrix[:, delay]).real)
    feedback = F.pad(weights @ matrix[:, fed], (0, back - (fed.stop - fed.start)))
    return DecisionFeedbackEqualizer(weights.reshape(-1, length), feedback, delay, 1 - gain, gain)


def _errors(matrix: Tensor, power: Tensor, back: int) -> Tensor:
    """Return the errors at all delays: the variance of symbol D, of what comes and of the `back` symbols before it known."""
    count = matrix.shape[1]
    eye = torch.eye(count, dtype=matrix.dtype)
    information = eye + matrix.mH @ (matrix / power[:, None])
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(information))
    # Symbols beyond the last that comes in are not known from it: of power 1, and nobody's neighbours.
    whole = torch.eye(count + back, dtype=matrix.dtype)
    whole[:count, :count] = covariance
    windows = whole.unfold(0, back + 1, 1).unfold(1, back + 1, 1).diagonal(0, 0, 1).movedim(-1, 0)
    # The last pivot is what is left of the variance when all others are known.
    factor: Tensor = torch.linalg.cholesky(windows.flip(1, 2))
    return factor[:, -1, -1].real.square()


def _decided(ahead: Tensor, feedback: Tensor, points: Tensor, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Feed decisions back over (B, count): soft symbols, and the numbers of the points."""
    rows, count = ahead.shape
    soft, indices = torch.empty_like(ahead), torch.empty(ahead.shape, dtype=torch.int64, device=ahead.device)
    how = _cut(rows, count, len(feedback), block)
    together = max(1, how.most // how.blocks)
    for first in range(0, rows, together):
        some = slice(first, first + together)
        values = ahead.new_zeros(len(feedback), len(ahead[some]))
        for begin in range(0, how.blocks, how.most):
            blocks = _Blocks(ahead[some], feedback, points, how, begin, min(begin + how.most, how.blocks), values)
            values = blocks.values[blocks.values.shape[0] - len(feedback) :, blocks.blocks - 1 :: blocks.blocks]
            blocks.write(soft[some], indices[some])
    return soft, indices


def _cut(rows: int, count: int, back: int, block: int | None = None) -> Cut:
    # Wrong decisions die out after some right ones in a row: sooner at low error rates, so that this is only a guess.
    overlap = _OVERLAP * (back + 1)
    length = 8 * max(overlap, 48) if block is None else block
    if count <= 2 * length and block is None:
        length = count
    blocks = -(-count // length)
    return Cut(length, 0 if blocks == 1 else overlap, blocks, blocks * length - count, max(1, _ROOM // (length + overlap)))


class _Blocks:
    """Neighbouring blocks run side by side: columns (B * blocks).

    Attributes:
        values: (back + length, columns), the points decided for, first those that were before each block.
    """

    def __init__(
        self, ahead: Tensor, feedback: Tensor, points: Tensor, how: Cut, first: int, last: int, before: Tensor
    ) -> None:
        self.how, self.first, self.last, self.blocks, self.count = how, first, last, last - first, len(ahead)
        # Rows of values are multiplied oldest first.
        self.feedback, self.points, self.decide = feedback.flip(0)[None], points, Lookup(points).nearest
        samples = cut(ahead[None], how, first, last)[:, 0].contiguous()
        columns, back = samples.shape[1], len(feedback)
        warm = ahead.new_zeros(back + how.overlap, columns)
        self._run(samples[: how.overlap], warm, None, None)
        self.samples = samples[how.overlap :]
        self.values = torch.cat([warm[how.overlap :], ahead.new_zeros(how.length, columns)])
        self.soft, self.indices = torch.zeros_like(self.samples), torch.zeros(self.samples.shape, dtype=torch.int64)
        self.indices = self.indices.to(ahead.device)
        self.begins = self.values[:back].clone()
        pad = how.pad if first == 0 else 0
        self._run(self.samples[:pad], self.values[: back + pad], self.soft, self.indices)
        self.values[pad : pad + back, :: self.blocks] = before
        self._run(self.samples[pad:], self.values[pad:], self.soft[pad:], self.indices[pad:])
        self._mend(torch.arange(columns, device=ahead.device) % self.blocks != 0)

    def _run(self, ahead: Tensor, values: Tensor, soft: Tensor | None, indices: Tensor | None) -> None:
        """Decide (steps, columns) one step after another; values (back + steps, columns) begin with those fed back first."""
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
        """Run blocks again that began with other decisions than those with which the block before them ended."""
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
        """Put what was found where it belongs in (B, count)."""
        begin = self.first * self.how.length - self.how.pad
        skipped = max(-begin, 0)
        for made, whole in ((self.soft, soft), (self.indices, indices)):
            in_rows = made.unflatten(1, (self.count, self.blocks)).permute(1, 2, 0).flatten(1)
            whole[:, begin + skipped : self.last * self.how.length - self.how.pad] = in_rows[:, skipped:]
