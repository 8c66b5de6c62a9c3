"""The matrix view: the convolution is a matrix, and its transpose acts on the flattened input."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.kinds_of_cells import TAPS
from unconv.explain.story import Frame, Frames, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import channel_output
from unconv.explain.views.words import channel_words, facts_of, product_words


def matrix_story(told: Transposed) -> Story:
    """The convolution's matrix, its transpose times the input, and a frame for each sample of the output."""
    say, (_, inside, _out) = told.say, told.shown
    input, kernel, matrix, taps = told.plane(told.input, inside), told.kernel(inside), told.matrix, told.taps
    flat = matrix.T @ input.flatten()
    output = flat.reshape(told.output_size)
    told.agree(output, channel_output(told, inside))
    kinds = _tap_kinds(taps)
    high, wide = matrix.shape
    entries = _tap_kinds(torch.arange(kernel.numel()).reshape(kernel.shape))
    name = {"size": f"{high} × {wide}"}
    panels = [
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, entries, rank=2),
        grid(say("The convolution's matrix, {size}", **name), matrix, kinds, first=(0, 0)),
        grid(
            say("Transposed, {size}", size=f"{wide} × {high}"),
            matrix.T,
            [list(line) for line in zip(*kinds, strict=True)],
            first=(0, 0),
            line=wide > 2 * high + 8,
        ),
        grid(say("Input, flat") + channel_words(told, -1, inside), input.reshape(-1, 1), "value", first=(0, None), sign="×"),
        grid(say("Output, flat"), flat.reshape(-1, 1), "output", first=(0, None), sign="="),
        grid(say("Output, {size}", size=size_words(output)), output, "output", first=told.first),
    ]
    columns = told.output_size[1]
    frames = Frames(wide, lambda n: _frame(told, n, *divmod(n, columns), input, matrix, taps))
    return Story(say("{title}: matrices", title=told.title()), panels, frames, _facts(told), len(panels), False, told.language)


def _tap_kinds(taps: Tensor) -> list[list[str]]:
    return [["zero" if tap < 0 else f"tap{tap % TAPS}" for tap in line] for line in taps.tolist()]


def _frame(told: Transposed, number: int, row: int, column: int, input: Tensor, matrix: Tensor, taps: Tensor) -> Frame:
    (high, _), say = matrix.shape, told.say
    samples = [i for i in range(high) if taps[i, number] >= 0]
    factors = [(matrix[i, number].item(), input.flatten()[i].item()) for i in samples]
    total = sum(a * b for a, b in factors)
    words = f"{product_words(say, factors)} = {cell(total)}" if factors else say("0: nothing but zeros stands in it")
    width = told.kernel(0).shape[1]
    met = [(0, *divmod(int(taps[i, number]), width), 1, 1) for i in samples]
    marks = [(1, 0, number, high, 1), (2, number, 0, 1, high), (3, 0, 0, high, 1), (4, number, 0, 1, 1), (5, row, column, 1, 1)]
    one = len(told.axes) == 1
    caption = say(
        "Output at {place}: row {number} of the transposed matrix, which is column {number} of the convolution's, times the "
        "input: {words}."
        if one
        else "Output at {place}, number {number}: row {number} of the transposed matrix, which is column {number} of the "
        "convolution's, times the input: {words}.",
        place=told.place_words(row, column),
        number=number,
        words=words,
    )
    first, span = (samples[0], samples[-1] - samples[0] + 1) if samples else (0, 1)
    focus = {1: (first, number, span, 1), 2: (number, first, 1, span), 3: (first, 0, span, 1)}
    return Frame([*met, *marks], [], [], caption, focus)


def _facts(told: Transposed) -> list[tuple[str, str]]:
    say = told.say
    return facts_of(
        told,
        (
            say("Why transposed"),
            say(
                "written as one long column, a picture is convolved by a matrix: one row for each window, the kernel's entries "
                "where it lies and zeros elsewhere. The transposed convolution is that matrix transposed"
            ),
        ),
        (say("Colours"), say("one for each entry of the kernel, so that it is found again in both matrices")),
    )
