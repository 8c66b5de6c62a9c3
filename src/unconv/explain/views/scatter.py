"""The scatter view: each sample of the input stamps the kernel into the output, and overlaps add up."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.words import channel_words, facts_of
from unconv.ops.conv_transpose import conv1d_transpose, conv2d_transpose


def scatter_story(told: Transposed) -> Story:
    """A frame for each sample of the input: its stamp, and the output as far as it is made."""
    say, (_, inside, _out) = told.say, told.shown
    input, kernel = told.plane(told.input, inside), told.kernel(inside)
    told.agree(told.uncropped(told.stamped(input, kernel)), channel_output(told, inside))
    title = say("Input, {size}", size=size_words(input)) + channel_words(told, -1, inside)
    panels = [grid(title, input, "value", first=told.first)]
    columns = input.shape[1]
    frames = Frames(input.numel(), lambda n: _frame(told, n, *divmod(n, columns), input, kernel))
    facts = facts_of(told, (say("Cut off"), _cut_words(told)))
    return Story(say("{title}: stamps", title=told.title()), panels, frames, facts, 1, False, told.language)


def channel_output(told: Transposed, inside: int) -> Tensor:
    """Return (rows, columns): what the operation makes of one channel of the input alone."""
    image, _, out = told.shown
    channels, layout = told.layout.channels_first(told.input), told.layout
    part = layout.back(channels[image : image + 1, inside : inside + 1])
    filters = told.filters[..., out : out + 1, inside : inside + 1]
    operation = conv1d_transpose if len(told.axes) == 1 else conv2d_transpose
    shape = layout.shape(1, layout.size(told.output.shape), 1)
    strides, dilations = ([getattr(axis, name) for axis in told.axes] for name in ("stride", "dilation"))
    made = operation(part, filters, shape, strides, padding_of(told), layout.name, dilations)
    plane = layout.channels_first(made)[0, 0].detach().double().cpu()
    return plane if plane.ndim == 2 else plane[None]


def padding_of(told: Transposed) -> str | list[tuple[int, int]]:
    """Return the padding as the operations take it."""
    return "SAME" if told.axes[0].padding is None else [axis.padding or (0, 0) for axis in told.axes]


def canvas_kinds(told: Transposed, inside: list[list[str]], outside: str) -> list[list[str]]:
    """The kinds of the canvas's cells: those of `inside` within the output, `outside` around it."""
    (above, _), (before, _) = told.pads
    (rows, columns), (height, width) = told.canvas, told.output_size
    kinds = [[outside] * columns for _ in range(rows)]
    for y in range(above, above + height):
        kinds[y][before : before + width] = inside[y][before : before + width]
    return kinds


def canvas_first(told: Transposed) -> tuple[int | None, int]:
    """The number of the canvas's first row and column: the output's begin with 0."""
    (above, _), (before, _) = told.pads
    return (-above if len(told.axes) == 2 else None, -before)


def _frame(told: Transposed, number: int, row: int, column: int, input: Tensor, kernel: Tensor) -> Frame:
    say, sample = told.say, input[row, column]
    stamped = (torch.arange(input.numel()) <= number).double().reshape(input.shape)
    sheet, counts = told.stamped(input * stamped, kernel), told.stamped(stamped, torch.ones_like(kernel))
    reached = [["overlap" if n > 1 else "output" if n else "nothing" for n in line] for line in counts.tolist()]
    counted = [["count" if n else "nothing" for n in line] for line in counts.tolist()]
    first = canvas_first(told)
    cards = [
        grid(say("Sample"), sample.reshape(1, 1), "value"),
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, "kernel"),
        grid(say("Its stamp"), kernel * sample, "output"),
        grid(say("Output so far"), sheet, canvas_kinds(told, reached, "cropped"), first=first, line=True),
        grid(say("Stamps that reach it"), counts, canvas_kinds(told, counted, "cropped"), first=first),
    ]
    lying = [4, 5]
    if len(told.axes) == 1:
        cards.insert(3, _stamps(told, number, input, kernel))
        lying = [5, 6]
    marks = [(panel, *place) for panel in lying for place in told.footprint(row, column)]
    if len(told.axes) == 1:
        marks += [(4, row + column, left, high, wide) for row, left, high, wide in told.footprint(row, column)]
    signs = ["", "×", "=", *[""] * (len(cards) - 3)]
    return Frame([*marks, (0, row, column, 1, 1)], cards, signs, _caption(told, number, row, column, input, counts))


def _stamps(told: Transposed, number: int, input: Tensor, kernel: Tensor) -> Panel:
    """Along a single axis: the stamps below each other, each at its place; they add up column by column."""
    columns, axis = told.canvas[1], told.plane_axes[1]
    lines, words, kinds = input.shape[1], [], []
    for sample in range(lines):
        at = {sample * axis.stride + tap * axis.dilation: tap for tap in range(axis.kernel)} if sample <= number else {}
        words.append([cell((input[0, sample] * kernel[0, at[x]]).item()) if x in at else "" for x in range(columns)])
        kinds.append(["output" if x in at else "blank" for x in range(columns)])
    return Panel(told.say("The stamps"), words, kinds, first=(None, -told.pads[1][0]), line=True)


def _caption(told: Transposed, number: int, row: int, column: int, input: Tensor, counts: Tensor) -> str:
    say, kernel = told.say, told.kernel(told.shown[1])
    one = torch.zeros_like(input)
    one[row, column] = 1
    mine = told.stamped(one, torch.ones_like(kernel)) > 0
    inside = torch.zeros_like(mine)
    told.uncropped(inside)[:] = True
    overlaps, outside = int((mine & inside & (counts > 1)).sum()), int((mine & ~inside).sum())
    place, value = told.place_words(row, column), cell(input[row, column].item())
    words = [say("Input at {place}: {value} times the kernel is added to the output.", place=place, value=value)]
    if overlaps:
        words.append(
            say(
                "It overlaps earlier stamps in {count} of {all} cells, where values add up.", count=overlaps, all=kernel.numel()
            )
        )
    if outside:
        words.append(say("It falls outside in {count} of {all} cells, which are cut off.", count=outside, all=kernel.numel()))
    if number == input.numel() - 1:
        several = told.filters.shape[-1] > 1
        last = (
            "The last stamp: this is what input channel {channel} gives." if several else "The last stamp: this is the result."
        )
        words.append(say(last, channel=told.shown[1]))
    return say(" ").join(words)


def _cut_words(told: Transposed) -> str:
    if not any(map(any, told.forward_padding)):
        return told.say("nothing: the stamps fill the output exactly, or leave zeros after them")
    return told.say("what the forward convolution pads: there its windows see no picture")
