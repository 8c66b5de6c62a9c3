"""The steps view: flip the kernel, insert zeros, pad, convolve."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.language import by_axis
from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words, uniform
from unconv.explain.transposed import Transposed
from unconv.explain.views.words import channel_words, facts_of, padding_fact, pads_words, product_words, source_marks


def steps_story(explanation: Transposed) -> Story:
    """Return the story of the four steps, with a frame for each sample of the output."""
    say, (_, inside, out) = explanation.say, explanation.shown
    input, inserted, padded = (
        explanation.plane(tensor, inside) for tensor in (explanation.input, explanation.zero_inserted, explanation.padded)
    )
    output, kernel, first = explanation.plane(explanation.output, out), explanation.kernel(inside), explanation.first
    hits = explanation.hits.reshape(explanation.output_size)
    around = _padded_kinds(explanation)
    size = {
        name: size_words(plane) for name, plane in (("i", input), ("k", kernel), ("z", inserted), ("p", padded), ("o", output))
    }
    # Higher ranks are left out first on small screens: step 3, step 4 and a frame's cards are enough to follow a window.
    panels = [
        grid(say("Input, {size}", size=size["i"]) + channel_words(explanation, -1, inside), input, "value", rank=1),
        grid(say("Kernel, {size}", size=size["k"]), kernel, "kernel", rank=1),
        grid(say("1. Flip the kernel"), kernel.flip(0, 1), "kernel", rank=2),
        grid(
            say("2. Insert zeros, {size}", size=size["z"]),
            inserted,
            _inserted_kinds(explanation),
            note=_gaps(explanation),
            rank=2,
        ),
        grid(say("3. Pad, {size}", size=size["p"]), padded, around, note=pads_words(explanation)),
        grid(
            say("4. Convolve, {size}", size=size["o"]) + channel_words(explanation, -2, out),
            output,
            "output",
            note=say("stride 1, no padding"),
            first=first,
        ),
        grid(say("Input samples that reach it"), hits, "count", first=first, rank=2),
    ]
    columns = explanation.output_size[1]
    frames = Frames(
        output.numel(), lambda n: _frame(explanation, *divmod(n, columns), padded, kernel.flip(0, 1), input, output, around)
    )
    facts = facts_of(explanation, last=padding_fact(explanation))
    return Story(explanation.title(), panels, frames, facts, cards_at=5, breaks=True, language=explanation.language)


def _gaps(explanation: Transposed) -> str:
    say = explanation.say
    words = (say("{count} between samples", count=axis.stride - 1) for axis in explanation.axes)
    return by_axis(say, explanation.names, words)


def _inserted_kinds(explanation: Transposed) -> list[list[str]]:
    """Return the kinds of step 2's cells: a value, an inserted zero, or a sample that step 3 cuts off."""
    (high, wide), (rows, columns) = explanation.plane_axes, explanation.plane(explanation.zero_inserted, 0).shape
    kept_ranges = [
        range(max(-before, 0), n - max(-after, 0))
        for n, (before, after) in zip((rows, columns), _pads(explanation), strict=True)
    ]

    def kind(row: int, column: int) -> str:
        if row not in kept_ranges[0] or column not in kept_ranges[1]:
            return "cropped"
        return "inserted" if row % high.stride or column % wide.stride else "value"

    return [[kind(row, column) for column in range(columns)] for row in range(rows)]


def _padded_kinds(explanation: Transposed) -> list[list[str]]:
    """Return the kinds of step 3's cells: as in step 2, or padding."""
    inside, pads = _inserted_kinds(explanation), _pads(explanation)
    (top, _), (left, _) = pads
    rows, columns = explanation.plane(explanation.padded, 0).shape
    residual = (*[0] * (2 - len(explanation.axes)), *explanation.residual)
    rests = [min(r, max(after, 0)) for r, (_, after) in zip(residual, pads, strict=True)]

    def kind(row: int, column: int) -> str:
        if row >= rows - rests[0] or column >= columns - rests[1]:
            return "rest"
        y, x = row - top, column - left
        return inside[y][x] if 0 <= y < len(inside) and 0 <= x < len(inside[0]) else "padding"

    return [[kind(row, column) for column in range(columns)] for row in range(rows)]


def _pads(explanation: Transposed) -> list[tuple[int, int]]:
    """Return step 3's padding, ((above, below), (before, after))."""
    return [axis.transposed_pads(n) for axis, n in zip(explanation.plane_axes, explanation.output_size, strict=True)]


def _frame(
    explanation: Transposed,
    row: int,
    column: int,
    padded: Tensor,
    kernel: Tensor,
    input: Tensor,
    output: Tensor,
    kinds: list[list[str]],
) -> Frame:
    """Return the frame of one output sample: its window in step 4, and the input samples and kernel entries in it."""
    say, (high, wide) = explanation.say, (axis.dilation for axis in explanation.plane_axes)
    positions = [[(row + y * high, column + x * wide) for x in range(kernel.shape[1])] for y in range(len(kernel))]
    window = torch.tensor([[padded[position].item() for position in line] for line in positions], dtype=torch.float64)
    window_kinds = [[kinds[y][x] for y, x in line] for line in positions]
    # A dilated window has gaps: its cells are marked one by one.
    marks = (
        [(4, row, column, *kernel.shape)]
        if high == wide == 1
        else [(4, *position, 1, 1) for line in positions for position in line]
    )
    cards: list[Panel] = [
        grid(say("Window"), window, window_kinds),
        grid(say("Flipped kernel"), kernel, uniform(kernel, "kernel")),
        grid(say("Products"), window * kernel, [["output" if k == "value" else k for k in line] for line in window_kinds]),
    ]
    sources = [(panel, *position) for panel, boxes in enumerate(source_marks(explanation, row, column)) for position in boxes]
    flipped = kernel.flip(0, 1)
    factors = [(input[sample].item(), flipped[tap].item()) for sample, tap in explanation.sources(row, column)]
    caption = _caption(explanation, row, column, factors, output)
    return Frame([*sources, *marks, (6, row, column, 1, 1), (5, row, column, 1, 1)], cards, ["", "×", "="], caption)


def _caption(explanation: Transposed, row: int, column: int, factors: list[tuple[float, float]], output: Tensor) -> str:
    """Return the sum behind one output sample in words, written out for the channel that is shown."""
    say, total, share = explanation.say, output[row, column].item(), sum(a * b for a, b in factors)
    channels, inside = explanation.filters.shape[-1], explanation.shown[1]
    words = say("0: only zeros lie under the kernel")
    if factors:
        words = f"{product_words(say, factors)} = {cell(total if channels == 1 else share)}"
    place = explanation.position_words(row, column)
    if channels == 1:
        return say("Output at {place}: {words}.", place=place, words=words)
    sentence = "Output at {place}: {words} from input channel {channel}; the other input channels add {rest}: {total}."
    if channels == 2:
        sentence = "Output at {place}: {words} from input channel {channel}; the other input channel adds {rest}: {total}."
    return say(sentence, place=place, words=words, channel=inside, rest=cell(total - share), total=cell(total))
