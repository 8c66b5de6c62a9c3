"""The forward view: the convolution beside its transpose, on the same windows, with the arrows the other way."""

from __future__ import annotations

from torch import Tensor

from unconv.explain.story import Frame, Frames, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import canvas_first, canvas_kinds, channel_output, padding_of
from unconv.explain.views.words import channel_words, facts_of
from unconv.ops.conv import conv1d, conv2d


def forward_story(told: Transposed) -> Story:
    """Both operations and a frame for each sample of the input, which is a window of the output."""
    say, (_, inside, out) = told.say, told.shown
    input, kernel = told.plane(told.input, inside), told.kernel(inside)
    sheet, output = told.stamped(input, kernel), channel_output(told, inside)
    told.agree(told.uncropped(sheet), output)
    convolved = forward_output(told)
    padded = sheet.new_zeros(told.canvas)
    told.uncropped(padded)[:] = output
    height, width = told.canvas
    full = [["output"] * width for _ in range(height)]
    sizes = {"output": size_words(output), "input": size_words(input)}
    panels = [
        grid(
            say("Transposed: output, {size}", size=sizes["output"]) + channel_words(told, -2, out),
            sheet,
            canvas_kinds(told, full, "cropped"),
            first=canvas_first(told),
        ),
        grid(
            say("Input, {size}", size=sizes["input"]) + channel_words(told, -1, inside),
            input,
            "value",
            first=told.first,
            sign="←",
        ),
        grid(say("Kernel, {size}", size=size_words(kernel)), kernel, "kernel"),
        grid(
            say("Forward: the same picture"),
            padded,
            canvas_kinds(told, full, "padding"),
            first=canvas_first(told),
            line=True,
        ),
        grid(say("Its convolution, {size}", size=sizes["input"]), convolved, "value", first=told.first, sign="→"),
    ]
    columns = input.shape[1]
    frames = Frames(input.numel(), lambda n: _frame(told, *divmod(n, columns), input, kernel, padded, convolved))
    title = say("{title}: both ways", title=told.title())
    return Story(title, panels, frames, _facts(told), len(panels), False, told.language)


def forward_output(told: Transposed) -> Tensor:
    """Return (rows, columns): the convolution of the output (of the channel that is shown) with the same kernel."""
    _, inside, out = told.shown
    layout, one = told.layout, len(told.axes) == 1
    made = channel_output(told, inside).to(told.filters)
    picture = layout.back((made[0] if one else made)[None, None])
    # The same tensor reads [.., out, in] for the transposed convolution and [.., in, out] for the convolution.
    filters = told.filters[..., out : out + 1, inside : inside + 1]
    strides, dilations = ([getattr(axis, name) for axis in told.axes] for name in ("stride", "dilation"))
    back = (conv1d if one else conv2d)(picture, filters, strides, padding_of(told), layout.name, dilations)
    plane = layout.channels_first(back)[0, 0].detach().double().cpu()
    return plane[None] if one else plane


def _frame(told: Transposed, row: int, column: int, input: Tensor, kernel: Tensor, padded: Tensor, convolved: Tensor) -> Frame:
    say, (high, wide) = told.say, told.plane_axes
    top, left = row * high.stride, column * wide.stride
    window = padded[top : top + high.extent : high.dilation, left : left + wide.extent : wide.dilation]
    told.agree((window * kernel).sum(), convolved[row, column], passes=2)
    marks = [(panel, *place) for panel in (0, 3) for place in told.footprint(row, column)]
    caption = say(
        "Transposed: the input at {place}, {value}, times the kernel is added to the marked window. "
        "Forward: the {count} samples of the same window, times the kernel, add up to {total} at {place}.",
        place=told.place_words(row, column),
        value=cell(input[row, column].item()),
        count=kernel.numel(),
        total=cell(convolved[row, column].item()),
    )
    return Frame([*marks, (4, row, column, 1, 1), (1, row, column, 1, 1)], [], [], caption)


def _facts(told: Transposed) -> list[tuple[str, str]]:
    say = told.say
    words = say(
        "the same windows, the arrows the other way: what the convolution reads together, its transpose writes together"
    )
    return facts_of(told, (say("Both ways"), words))
