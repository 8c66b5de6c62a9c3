"""The forward view: the convolution beside its transpose, on the same windows, with the arrows reversed."""

from __future__ import annotations

from torch import Tensor

from unconv.explain.story import Frame, Frames, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import canvas_first, canvas_kinds, channel_output, padding_of
from unconv.explain.views.words import channel_words, facts_of
from unconv.ops.conv import conv1d, conv2d


def forward_story(explanation: Transposed) -> Story:
    """Return the story of both operations, with a frame for each sample of the input, which is a window of the output."""
    say, (_, inside, out) = explanation.say, explanation.shown
    input, kernel = explanation.plane(explanation.input, inside), explanation.kernel(inside)
    sheet, output = explanation.stamped(input, kernel), channel_output(explanation, inside)
    explanation.agree(explanation.uncropped(sheet), output)
    convolved = forward_output(explanation)
    # The same canvas for both operations: what the transpose crops is where the convolution pads.
    picture = sheet.new_zeros(explanation.canvas)
    explanation.uncropped(picture)[:] = output
    height, width = explanation.canvas
    full = [["output"] * width for _ in range(height)]
    sizes = {"output": size_words(output), "input": size_words(input)}
    panels = [
        grid(
            say("Transposed: output, {size}", size=sizes["output"]) + channel_words(explanation, -2, out),
            sheet,
            canvas_kinds(explanation, full, "cropped"),
            first=canvas_first(explanation),
        ),
        grid(
            say("Input, {size}", size=sizes["input"]) + channel_words(explanation, -1, inside),
            input,
            "value",
            first=explanation.first,
            sign="←",
        ),
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, "kernel"),
        grid(
            say("Forward: the same picture"),
            picture,
            canvas_kinds(explanation, full, "padding"),
            first=canvas_first(explanation),
            line=True,
        ),
        grid(say("Its convolution, {size}", size=sizes["input"]), convolved, "value", first=explanation.first, sign="→"),
    ]
    columns = input.shape[1]
    frames = Frames(input.numel(), lambda n: _frame(explanation, *divmod(n, columns), input, kernel, picture, convolved))
    title = say("{title}: both ways", title=explanation.title())
    return Story(title, panels, frames, _facts(explanation), len(panels), False, explanation.language)


def forward_output(explanation: Transposed) -> Tensor:
    """Return the convolution of the shown channel of the output with the same kernel, (rows, columns)."""
    _, inside, out = explanation.shown
    layout, is_1d = explanation.layout, len(explanation.axes) == 1
    output = channel_output(explanation, inside).to(explanation.filters)
    picture = layout.back((output[0] if is_1d else output)[None, None])
    # The same tensor is [.., out, in] to the transposed convolution and [.., in, out] to the convolution.
    filters = explanation.filters[..., out : out + 1, inside : inside + 1]
    strides, dilations = ([getattr(axis, name) for axis in explanation.axes] for name in ("stride", "dilation"))
    convolved = (conv1d if is_1d else conv2d)(picture, filters, strides, padding_of(explanation), layout.name, dilations)
    plane = layout.channels_first(convolved)[0, 0].detach().double().cpu()
    return plane[None] if is_1d else plane


def _frame(
    explanation: Transposed, row: int, column: int, input: Tensor, kernel: Tensor, picture: Tensor, convolved: Tensor
) -> Frame:
    say, (high, wide) = explanation.say, explanation.plane_axes
    top, left = row * high.stride, column * wide.stride
    window = picture[top : top + high.extent : high.dilation, left : left + wide.extent : wide.dilation]
    # The value went through the kernel twice, there and back, so rounding may be larger: `passes`.
    explanation.agree((window * kernel).sum(), convolved[row, column], passes=2)
    marks = [(panel, *box) for panel in (0, 3) for box in explanation.footprint(row, column)]
    caption = say(
        "Transposed: the input at {place}, {value}, times the kernel is added to the marked window. "
        "Forward: the {count} samples of the same window, times the kernel, add up to {total} at {place}.",
        place=explanation.position_words(row, column),
        value=cell(input[row, column].item()),
        count=kernel.numel(),
        total=cell(convolved[row, column].item()),
    )
    return Frame([*marks, (4, row, column, 1, 1), (1, row, column, 1, 1)], [], [], caption)


def _facts(explanation: Transposed) -> list[tuple[str, str]]:
    say = explanation.say
    words = say("the same windows with the arrows reversed: where the convolution reads, its transpose writes")
    return facts_of(explanation, (say("Both ways"), words))
