"""What the views say alike: sums of products, channels, facts."""

from __future__ import annotations

from collections.abc import Sequence

from unconv.explain.language import Say, before_and_after, by_axis, sizes_words
from unconv.explain.story import cell
from unconv.explain.transposed import Transposed

Box = tuple[int, int, int, int]
_UNBROKEN = "\u00a0"  # a space at which no line ends
_TERMS = 25  # products that a caption writes out; of more it writes the first ones


def product_words(say: Say, factors: Sequence[tuple[float, float]]) -> str:
    """Write a sum of products: 1·4 + 2·(-3)."""
    terms = [f"{_UNBROKEN}·{_UNBROKEN}".join(f"({cell(n)})" if n < 0 else cell(n) for n in pair) for pair in factors]
    if len(terms) <= _TERMS:
        return " + ".join(terms)
    return say("{terms} + … ({count} products)", terms=" + ".join(terms[:6]), count=len(terms))


def sum_words(values: Sequence[float]) -> str:
    """Write a sum: 4 + (-3)."""
    return " + ".join(f"({cell(value)})" if value < 0 else cell(value) for value in values)


def channel_words(told: Transposed, axis: int, channel: int) -> str:
    """Say which channel a panel shows, where there are several."""
    count = told.filters.shape[axis]
    return told.say(", channel {channel} of {count}", channel=channel, count=count) if count > 1 else ""


def pads_words(told: Transposed) -> str:
    """Say how step 3 pads; a padding below zero is a crop."""
    say = told.say

    def words(before: int, after: int, rest: int) -> str:
        edges = {"before": _crop(say, before), "after": _crop(say, after)}
        if rest:
            return say("{before} before, {after} after (r = {rest})", **edges, rest=rest)
        return say("{before} before, {after} after", **edges)

    pads = zip(told.transposed_padding, told.residual, strict=True)
    return by_axis(say, told.names, (words(before, after, rest) for (before, after), rest in pads))


def _crop(say: Say, pad: int) -> str:
    return f"{pad}" if pad >= 0 else say("crop {samples}", samples=-pad)


def source_marks(told: Transposed, row: int, column: int) -> tuple[list[Box], list[Box]]:
    """Return the rectangles (row, column, rows, columns) of what reaches a sample: in the input, and in the kernel.

    Samples of the input that stand side by side have one rectangle.
    """
    sources = told.sources(row, column)
    samples, taps = ([(*source[side], 1, 1) for source in sources] for side in (0, 1))
    if samples:
        rows, columns = ({sample[axis] for sample in samples} for axis in (0, 1))
        high, wide = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
        if high * wide == len(samples):
            samples = [(min(rows), min(columns), high, wide)]
    if len(taps) == told.plane_axes[0].kernel * told.plane_axes[1].kernel:
        taps = [(0, 0, told.plane_axes[0].kernel, told.plane_axes[1].kernel)]
    return samples, taps


def padding_fact(told: Transposed) -> tuple[str, str]:
    """Say how step 3 pads, and why so."""
    say = told.say
    span = say("kernel − 1") if all(axis.dilation == 1 for axis in told.axes) else say("(kernel − 1) · dilation")
    sentence = "{pads}: {span} less the forward convolution's"
    if any(told.residual):
        sentence = "{pads}: {span} less the forward convolution's, and r more after"
    return say("Padding in step 3"), say(sentence, pads=pads_words(told), span=span)


def facts_of(told: Transposed, *more: tuple[str, str], last: tuple[str, str] | None = None) -> list[tuple[str, str]]:
    """List what holds throughout, `more` after the sizes, and `last` after the padding."""
    say = told.say
    return [
        (
            say("Possible output sizes"),
            by_axis(say, told.names, (sizes_words(say, sizes) for sizes in told.legal_output_sizes)),
        ),
        *more,
        (say("Padding of the forward convolution"), before_and_after(say, told.names, told.forward_padding)),
        *([last] if last else []),
        (say("Checkerboard"), told.checkerboard or say("no: every sample away from the border is reached alike")),
        (say("Note"), say("the shape comes back, not the values: this is the adjoint of the convolution, not its inverse")),
    ]
