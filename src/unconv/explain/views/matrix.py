"""The matrix view: a convolution is a matrix, and its transpose multiplies the flattened input."""

from __future__ import annotations

import torch
from torch import Tensor

from unconv.explain.kinds_of_cells import TAPS
from unconv.explain.story import Frame, Frames, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import channel_output
from unconv.explain.views.words import channel_words, facts_of, product_words


def matrix_story(explanation: Transposed) -> Story:
    """Return the story of the convolution's matrix and its transpose times the input; a frame for each output sample."""
    say, (_, inside, _out) = explanation.say, explanation.shown
    input, kernel = explanation.plane(explanation.input, inside), explanation.kernel(inside)
    matrix, taps = explanation.matrix, explanation.taps
    flat = matrix.T @ input.flatten()
    output = flat.reshape(explanation.output_size)
    explanation.agree(output, channel_output(explanation, inside))
    kinds = _tap_kinds(taps)
    high, wide = matrix.shape
    # Each kernel entry has its own colour, so that it can be followed from the kernel into both matrices.
    entries = _tap_kinds(torch.arange(kernel.numel()).reshape(kernel.shape))
    panels = [
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, entries, rank=2),
        grid(say("The convolution's matrix, {size}", size=f"{high} × {wide}"), matrix, kinds, first=(0, 0)),
        grid(
            say("Transposed, {size}", size=f"{wide} × {high}"),
            matrix.T,
            [list(line) for line in zip(*kinds, strict=True)],
            first=(0, 0),
            line=wide > 2 * high + 8,
        ),
        grid(
            say("Input, flat") + channel_words(explanation, -1, inside),
            input.reshape(-1, 1),
            "value",
            first=(0, None),
            sign="×",
        ),
        grid(say("Output, flat"), flat.reshape(-1, 1), "output", first=(0, None), sign="="),
        grid(say("Output, {size}", size=size_words(output)), output, "output", first=explanation.first),
    ]
    columns = explanation.output_size[1]
    frames = Frames(wide, lambda n: _frame(explanation, n, *divmod(n, columns), input, matrix, taps))
    title = say("{title}: matrices", title=explanation.title())
    return Story(title, panels, frames, _facts(explanation), len(panels), False, explanation.language)


def _tap_kinds(taps: Tensor) -> list[list[str]]:
    return [["zero" if tap < 0 else f"tap{tap % TAPS}" for tap in line] for line in taps.tolist()]


def _frame(explanation: Transposed, number: int, row: int, column: int, input: Tensor, matrix: Tensor, taps: Tensor) -> Frame:
    (high, _), say = matrix.shape, explanation.say
    samples = [i for i in range(high) if taps[i, number] >= 0]
    factors = [(matrix[i, number].item(), input.flatten()[i].item()) for i in samples]
    total = sum(a * b for a, b in factors)
    words = f"{product_words(say, factors)} = {cell(total)}" if factors else say("0: this row holds only zeros")
    width = explanation.kernel(0).shape[1]
    kernel_marks = [(0, *divmod(int(taps[i, number]), width), 1, 1) for i in samples]
    marks = [(1, 0, number, high, 1), (2, number, 0, 1, high), (3, 0, 0, high, 1), (4, number, 0, 1, 1), (5, row, column, 1, 1)]
    is_1d = len(explanation.axes) == 1
    caption = say(
        "Output at {place}: row {number} of the transposed matrix, which is column {number} of the convolution's, times the "
        "input: {words}."
        if is_1d
        else "Output at {place}, number {number}: row {number} of the transposed matrix, which is column {number} of the "
        "convolution's, times the input: {words}.",
        place=explanation.position_words(row, column),
        number=number,
        words=words,
    )
    # If a matrix is too large to be shown, its nonzero entries for this frame are in focus.
    first, span = (samples[0], samples[-1] - samples[0] + 1) if samples else (0, 1)
    focus = {1: (first, number, span, 1), 2: (number, first, 1, span), 3: (first, 0, span, 1)}
    return Frame([*kernel_marks, *marks], [], [], caption, focus)


def _facts(explanation: Transposed) -> list[tuple[str, str]]:
    say = explanation.say
    return facts_of(
        explanation,
        (
            say("Why transposed"),
            say(
                "a picture written as one long column is convolved by a matrix: one row for each window, with the kernel's "
                "entries where the window lies and zeros elsewhere. The transposed convolution is that matrix transposed"
            ),
        ),
        (say("Colours"), say("one for each entry of the kernel, so that it can be recognised in both matrices")),
    )
