"""Sentences that several views share: sums of products, channels, facts."""

from __future__ import annotations

from collections.abc import Sequence

from unconv.explain.language import Say, before_and_after, by_axis, sizes_words
from unconv.explain.story import cell
from unconv.explain.transposed import Transposed

Box = tuple[int, int, int, int]
_UNBROKEN = "\u00a0"  # a space at which no line ends
_TERMS = 25  # the most products that a caption writes out in full; of a longer sum it shows the beginning


def product_words(say: Say, factors: Sequence[tuple[float, float]]) -> str:
    """Return a sum of products in words: 1·4 + 2·(-3)."""
    terms = [f"{_UNBROKEN}·{_UNBROKEN}".join(f"({cell(n)})" if n < 0 else cell(n) for n in pair) for pair in factors]
    if len(terms) <= _TERMS:
        return " + ".join(terms)
    return say("{terms} + … ({count} products)", terms=" + ".join(terms[:6]), count=len(terms))


def sum_words(values: Sequence[float]) -> str:
    """Return a sum in words: 4 + (-3)."""
    return " + ".join(f"({cell(value)})" if value < 0 else cell(value) for value in values)


def channel_words(explanation: Transposed, axis: int, channel: int) -> str:
    """Return which channel a panel shows, or "" where there is only one."""
    count = explanation.filters.shape[axis]
    return explanation.say(", channel {channel} of {count}", channel=channel, count=count) if count > 1 else ""


def pads_words(explanation: Transposed) -> str:
    """Return how step 3 pads; a padding below zero is a crop."""
    say = explanation.say

    def words(before: int, after: int, rest: int) -> str:
        edges = {"before": _crop(say, before), "after": _crop(say, after)}
        if rest:
            return say("{before} before, {after} after (r = {rest})", **edges, rest=rest)
        return say("{before} before, {after} after", **edges)

    pads = zip(explanation.transposed_padding, explanation.residual, strict=True)
    return by_axis(say, explanation.names, (words(before, after, rest) for (before, after), rest in pads))


def _crop(say: Say, pad: int) -> str:
    return f"{pad}" if pad >= 0 else say("crop {samples}", samples=-pad)


def source_marks(explanation: Transposed, row: int, column: int) -> tuple[list[Box], list[Box]]:
    """Return rectangles (row, column, rows, columns) around what reaches an output sample, in the input and in the kernel.

    Adjacent samples of the input share one rectangle.
    """
    sources = explanation.sources(row, column)
    samples, taps = ([(*source[side], 1, 1) for source in sources] for side in (0, 1))
    if samples:
        rows, columns = ({sample[axis] for sample in samples} for axis in (0, 1))
        high, wide = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
        if high * wide == len(samples):
            samples = [(min(rows), min(columns), high, wide)]
    if len(taps) == explanation.plane_axes[0].kernel * explanation.plane_axes[1].kernel:
        taps = [(0, 0, explanation.plane_axes[0].kernel, explanation.plane_axes[1].kernel)]
    return samples, taps


def padding_fact(explanation: Transposed) -> tuple[str, str]:
    """Return the fact on step 3: how it pads, and the formula behind it."""
    say = explanation.say
    span = say("kernel − 1") if all(axis.dilation == 1 for axis in explanation.axes) else say("(kernel − 1) · dilation")
    sentence = "{pads} ({span}, minus the forward padding)"
    if any(explanation.residual):
        sentence = "{pads} ({span}, minus the forward padding, plus r after)"
    return say("Padding in step 3"), say(sentence, pads=pads_words(explanation), span=span)


def facts_of(explanation: Transposed, *more: tuple[str, str], last: tuple[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the facts that hold for every frame: `more` comes after the sizes, and `last` after the padding."""
    say = explanation.say
    return [
        (
            say("Possible output sizes"),
            by_axis(say, explanation.names, (sizes_words(say, sizes) for sizes in explanation.legal_output_sizes)),
        ),
        *more,
        (say("Padding of the forward convolution"), before_and_after(say, explanation.names, explanation.forward_padding)),
        *([last] if last else []),
        (
            say("Checkerboard"),
            explanation.checkerboard
            or say("none, because away from the border every sample receives the same number of values"),
        ),
        (say("Note"), say("the shape is restored, not the values: this is the adjoint of the convolution, not its inverse")),
    ]
