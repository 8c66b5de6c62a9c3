"""The scatter view: each sample of the input stamps the kernel into the output, and overlaps add up."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.words import channel_words, facts_of
from unconv.ops.conv_transpose import conv1d_transpose, conv2d_transpose


def scatter_story(explanation: Transposed) -> Story:
    """Return the story of the stamps: a frame for each sample of the input, with its stamp and the output so far."""
    say, (_, inside, _out) = explanation.say, explanation.shown
    input, kernel = explanation.plane(explanation.input, inside), explanation.kernel(inside)
    explanation.agree(explanation.uncropped(explanation.stamped(input, kernel)), channel_output(explanation, inside))
    title = say("Input, {size}", size=size_words(input)) + channel_words(explanation, -1, inside)
    panels = [grid(title, input, "value", first=explanation.first)]
    columns = input.shape[1]
    frames = Frames(input.numel(), lambda n: _frame(explanation, n, *divmod(n, columns), input, kernel))
    facts = facts_of(explanation, (say("Cut off"), _cut_words(explanation)))
    return Story(say("{title}: stamps", title=explanation.title()), panels, frames, facts, 1, False, explanation.language)


def channel_output(explanation: Transposed, inside: int) -> Tensor:
    """Return the operation's result for one channel of the input alone, (rows, columns)."""
    image, _, out = explanation.shown
    channels, layout = explanation.layout.channels_first(explanation.input), explanation.layout
    part = layout.back(channels[image : image + 1, inside : inside + 1])
    filters = explanation.filters[..., out : out + 1, inside : inside + 1]
    conv_transpose = conv1d_transpose if len(explanation.axes) == 1 else conv2d_transpose
    shape = layout.shape(1, layout.size(explanation.output.shape), 1)
    strides, dilations = ([getattr(axis, name) for axis in explanation.axes] for name in ("stride", "dilation"))
    output = conv_transpose(part, filters, shape, strides, padding_of(explanation), layout.name, dilations)
    plane = layout.channels_first(output)[0, 0].detach().double().cpu()
    return plane if plane.ndim == 2 else plane[None]


def padding_of(explanation: Transposed) -> str | list[tuple[int, int]]:
    """Return the padding as the operations take it."""
    return "SAME" if explanation.axes[0].padding is None else [axis.padding or (0, 0) for axis in explanation.axes]


def canvas_kinds(explanation: Transposed, inside: list[list[str]], outside: str) -> list[list[str]]:
    """Return the kinds of the canvas's cells: those of `inside` within the output, `outside` around it."""
    (above, _), (before, _) = explanation.pads
    (rows, columns), (height, width) = explanation.canvas, explanation.output_size
    kinds = [[outside] * columns for _ in range(rows)]
    for y in range(above, above + height):
        kinds[y][before : before + width] = inside[y][before : before + width]
    return kinds


def canvas_first(explanation: Transposed) -> tuple[int | None, int]:
    """Return the numbers of the canvas's first row and column, counted such that the output begins with 0."""
    (above, _), (before, _) = explanation.pads
    return (-above if len(explanation.axes) == 2 else None, -before)


def _frame(explanation: Transposed, number: int, row: int, column: int, input: Tensor, kernel: Tensor) -> Frame:
    say, sample = explanation.say, input[row, column]
    done = (torch.arange(input.numel()) <= number).double().reshape(input.shape)
    # Stamps of ones on the same canvas count how many stamps reach each cell, also where values cancel to 0.
    sheet, counts = explanation.stamped(input * done, kernel), explanation.stamped(done, torch.ones_like(kernel))
    output_kinds = [["overlap" if n > 1 else "output" if n else "nothing" for n in line] for line in counts.tolist()]
    count_kinds = [["count" if n else "nothing" for n in line] for line in counts.tolist()]
    first = canvas_first(explanation)
    cards = [
        grid(say("Sample"), sample.reshape(1, 1), "value"),
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, "kernel"),
        grid(say("Its stamp"), kernel * sample, "output"),
        grid(say("Output so far"), sheet, canvas_kinds(explanation, output_kinds, "cropped"), first=first, line=True),
        grid(say("Stamps that reach it"), counts, canvas_kinds(explanation, count_kinds, "cropped"), first=first),
    ]
    canvases = [4, 5]
    if len(explanation.axes) == 1:
        cards.insert(3, _stamps(explanation, number, input, kernel))
        canvases = [5, 6]
    marks = [(panel, *box) for panel in canvases for box in explanation.footprint(row, column)]
    if len(explanation.axes) == 1:
        marks += [(4, row + column, left, high, wide) for row, left, high, wide in explanation.footprint(row, column)]
    signs = ["", "×", "=", *[""] * (len(cards) - 3)]
    return Frame([*marks, (0, row, column, 1, 1)], cards, signs, _caption(explanation, number, row, column, input, counts))


def _stamps(explanation: Transposed, number: int, input: Tensor, kernel: Tensor) -> Panel:
    """Return, for one axis, the panel of the stamps below each other, each at its position: they add up column by column."""
    columns, axis = explanation.canvas[1], explanation.plane_axes[1]
    lines, words, kinds = input.shape[1], [], []
    for sample in range(lines):
        taps = {sample * axis.stride + tap * axis.dilation: tap for tap in range(axis.kernel)} if sample <= number else {}
        words.append([cell((input[0, sample] * kernel[0, taps[x]]).item()) if x in taps else "" for x in range(columns)])
        kinds.append(["output" if x in taps else "blank" for x in range(columns)])
    return Panel(explanation.say("The stamps"), words, kinds, first=(None, -explanation.pads[1][0]), line=True)


def _caption(explanation: Transposed, number: int, row: int, column: int, input: Tensor, counts: Tensor) -> str:
    say, kernel = explanation.say, explanation.kernel(explanation.shown[1])
    # The stamp of a single 1, compared with the canvas: its cells may overlap earlier stamps, or lie outside the output.
    impulse = torch.zeros_like(input)
    impulse[row, column] = 1
    own = explanation.stamped(impulse, torch.ones_like(kernel)) > 0
    inside = torch.zeros_like(own)
    explanation.uncropped(inside)[:] = True
    overlaps, outside = int((own & inside & (counts > 1)).sum()), int((own & ~inside).sum())
    place, value = explanation.position_words(row, column), cell(input[row, column].item())
    words = [say("Input at {place}: {value} times the kernel is added to the output.", place=place, value=value)]
    if overlaps:
        sentence = "It overlaps earlier stamps in {count} of {all} cells, where values add up."
        words.append(say(sentence, count=overlaps, all=kernel.numel()))
    if outside:
        words.append(say("It falls outside in {count} of {all} cells, which are cut off.", count=outside, all=kernel.numel()))
    if number == input.numel() - 1:
        several = explanation.filters.shape[-1] > 1
        last = (
            "The last stamp: this is what input channel {channel} gives." if several else "The last stamp: this is the result."
        )
        words.append(say(last, channel=explanation.shown[1]))
    return say(" ").join(words)


def _cut_words(explanation: Transposed) -> str:
    if not any(map(any, explanation.forward_padding)):
        return explanation.say("nothing: the stamps fill the output exactly, or leave zeros after them")
    return explanation.say("the part that the forward convolution pads, where its windows reach outside the picture")
