"""The four steps: flip the kernel, insert zeros, pad, convolve."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.language import by_axis
from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words, uniform
from unconv.explain.transposed import Transposed
from unconv.explain.views.words import channel_words, facts_of, padding_fact, pads_words, product_words, source_marks


def steps_story(told: Transposed) -> Story:
    """The four steps and a frame for each sample of the output."""
    say, (_, inside, out) = told.say, told.shown
    input, inserted, padded = (told.plane(tensor, inside) for tensor in (told.input, told.zero_inserted, told.padded))
    output, kernel, first = told.plane(told.output, out), told.kernel(inside), told.first
    hits = told.hits.reshape(told.output_size)
    around = _padded_kinds(told)
    size = {
        name: size_words(plane) for name, plane in (("i", input), ("k", kernel), ("z", inserted), ("p", padded), ("o", output))
    }
    panels = [
        grid(say("Input, {size}", size=size["i"]) + channel_words(told, -1, inside), input, "value", rank=1),
        grid(say("Kernel, {size}", size=size["k"]), kernel, "kernel", rank=1),
        grid(say("1. Flip the kernel"), kernel.flip(0, 1), "kernel", rank=2),
        grid(say("2. Insert zeros, {size}", size=size["z"]), inserted, _inserted_kinds(told), note=_gaps(told), rank=2),
        grid(say("3. Pad, {size}", size=size["p"]), padded, around, note=pads_words(told)),
        grid(
            say("4. Convolve, {size}", size=size["o"]) + channel_words(told, -2, out),
            output,
            "output",
            note=say("stride 1, no padding"),
            first=first,
        ),
        grid(say("Input samples that reach it"), hits, "count", first=first, rank=2),
    ]
    columns = told.output_size[1]
    frames = Frames(
        output.numel(), lambda n: _frame(told, *divmod(n, columns), padded, kernel.flip(0, 1), input, output, around)
    )
    return Story(
        told.title(), panels, frames, facts_of(told, last=padding_fact(told)), cards_at=5, breaks=True, language=told.language
    )


def _gaps(told: Transposed) -> str:
    return by_axis(told.say, told.names, (told.say("{count} between", count=axis.stride - 1) for axis in told.axes))


def _inserted_kinds(told: Transposed) -> list[list[str]]:
    """The kinds of the cells of step 2: a value, an inserted zero, or a sample that step 3 cuts off."""
    (high, wide), (rows, columns) = told.plane_axes, told.plane(told.zero_inserted, 0).shape
    keeps = [
        range(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip((rows, columns), _pads(told), strict=True)
    ]

    def kind(row: int, column: int) -> str:
        if row not in keeps[0] or column not in keeps[1]:
            return "cropped"
        return "inserted" if row % high.stride or column % wide.stride else "value"

    return [[kind(row, column) for column in range(columns)] for row in range(rows)]


def _padded_kinds(told: Transposed) -> list[list[str]]:
    """The kinds of the cells of step 3: as in step 2, or padding."""
    inside, pads = _inserted_kinds(told), _pads(told)
    (top, _), (left, _) = pads
    rows, columns = told.plane(told.padded, 0).shape
    residual = (*[0] * (2 - len(told.axes)), *told.residual)
    rests = [min(r, max(after, 0)) for r, (_, after) in zip(residual, pads, strict=True)]

    def kind(row: int, column: int) -> str:
        if row >= rows - rests[0] or column >= columns - rests[1]:
            return "rest"
        y, x = row - top, column - left
        return inside[y][x] if 0 <= y < len(inside) and 0 <= x < len(inside[0]) else "padding"

    return [[kind(row, column) for column in range(columns)] for row in range(rows)]


def _pads(told: Transposed) -> list[tuple[int, int]]:
    """((above, below), (before, after)) of step 3."""
    return [axis.transposed_pads(n) for axis, n in zip(told.plane_axes, told.output_size, strict=True)]


def _frame(
    told: Transposed,
    row: int,
    column: int,
    padded: Tensor,
    kernel: Tensor,
    input: Tensor,
    output: Tensor,
    kinds: list[list[str]],
) -> Frame:
    """Show the window of step 4 that makes one sample of the output, and what of the input and the kernel meets in it."""
    say, (high, wide) = told.say, (axis.dilation for axis in told.plane_axes)
    at = [[(row + y * high, column + x * wide) for x in range(kernel.shape[1])] for y in range(len(kernel))]
    window = torch.tensor([[padded[place].item() for place in line] for line in at], dtype=torch.float64)
    found = [[kinds[y][x] for y, x in line] for line in at]
    # A dilated window has gaps: its cells are marked one by one.
    marks = [(4, row, column, *kernel.shape)] if high == wide == 1 else [(4, *place, 1, 1) for line in at for place in line]
    cards: list[Panel] = [
        grid(say("Window"), window, found),
        grid(say("Flipped kernel"), kernel, uniform(kernel, "kernel")),
        grid(say("Products"), window * kernel, [["output" if k == "value" else k for k in line] for line in found]),
    ]
    met = [(panel, *place) for panel, places in enumerate(source_marks(told, row, column)) for place in places]
    flipped = kernel.flip(0, 1)
    factors = [(input[sample].item(), flipped[tap].item()) for sample, tap in told.sources(row, column)]
    caption = _caption(told, row, column, factors, output)
    return Frame([*met, *marks, (6, row, column, 1, 1), (5, row, column, 1, 1)], cards, ["", "×", "="], caption)


def _caption(told: Transposed, row: int, column: int, factors: list[tuple[float, float]], output: Tensor) -> str:
    """Write out the sum that makes one sample, as far as it comes from the channel that is shown."""
    say, whole, part = told.say, output[row, column].item(), sum(a * b for a, b in factors)
    channels, inside = told.filters.shape[-1], told.shown[1]
    words = say("0: only zeros lie under the kernel")
    if factors:
        words = f"{product_words(say, factors)} = {cell(whole if channels == 1 else part)}"
    place = told.place_words(row, column)
    if channels == 1:
        return say("Output at {place}: {words}.", place=place, words=words)
    sentence = "Output at {place}: {words} from input channel {channel}; the other input channels add {rest}: {whole}."
    if channels == 2:
        sentence = "Output at {place}: {words} from input channel {channel}; the other input channel adds {rest}: {whole}."
    return say(sentence, place=place, words=words, channel=inside, rest=cell(whole - part), whole=cell(whole))
