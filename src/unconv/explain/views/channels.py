"""The channels view: each input channel is taken through its own kernel, and the results add up."""

from __future__ import annotations

from torch import Tensor

from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import channel_output
from unconv.explain.views.words import channel_words, facts_of, source_marks, sum_words

_MOST = 6  # channels that are drawn; the others stand together


def channels_story(told: Transposed) -> Story:
    """The input channels, their kernels, what each gives, the sum, and a frame for each sample of the output."""
    say, out, channels = told.say, told.shown[2], told.filters.shape[-1]
    drawn = range(channels if channels <= _MOST else _MOST - 1)
    inputs = [told.plane(told.input, channel) for channel in drawn]
    output = told.plane(told.output, out)
    parts = [channel_output(told, channel) for channel in drawn]
    for channel, part in zip(drawn, parts, strict=True):
        told.agree(told.uncropped(told.stamped(inputs[channel], told.kernel(channel))), part)
    others = channels - len(drawn)
    if others:
        parts.append(sum(channel_output(told, channel) for channel in range(len(drawn), channels)))  # type: ignore[arg-type]
    told.agree(sum(parts), output)  # type: ignore[arg-type]
    panels = [*_inputs(told, inputs), *_kernels(told, drawn), *_parts(told, parts, others)]
    title = say("Output, {size}", size=size_words(output)) + channel_words(told, -2, out)
    panels.append(grid(title, output, "output", first=told.first, sign="="))
    columns = told.output_size[1]
    frames = Frames(output.numel(), lambda n: _frame(told, *divmod(n, columns), len(drawn), parts, output))
    words = say("each input channel has a kernel of its own, and what they give is added up")
    facts = facts_of(told, (say("Channels"), words))
    return Story(say("{title}: channels", title=told.title()), panels, frames, facts, len(panels), False, told.language)


def _inputs(told: Transposed, inputs: list[Tensor]) -> list[Panel]:
    return [grid(told.say("Input channel {channel}", channel=channel), plane, "value") for channel, plane in enumerate(inputs)]


def _kernels(told: Transposed, drawn: range) -> list[Panel]:
    return [
        grid(told.say("Kernel {channel}", channel=channel), told.kernel(channel), "kernel", line=not channel)
        for channel in drawn
    ]


def _parts(told: Transposed, parts: list[Tensor], others: int) -> list[Panel]:
    titles = [told.say("From channel {channel}", channel=channel) for channel in range(len(parts))]
    if others:
        titles[-1] = told.say("From the {count} others", count=others)
    return [
        grid(title, part, "part", first=told.first, sign="+" if number else "", line=not number)
        for number, (title, part) in enumerate(zip(titles, parts, strict=True))
    ]


def _frame(told: Transposed, row: int, column: int, drawn: int, parts: list[Tensor], output: Tensor) -> Frame:
    samples, taps = source_marks(told, row, column)
    marks = [(panel, *place) for panel in range(drawn) for place in samples]
    marks += [(drawn + panel, *place) for panel in range(drawn) for place in taps]
    marks += [(panel, row, column, 1, 1) for panel in range(2 * drawn, 2 * drawn + len(parts) + 1)]
    caption = told.say(
        "Output at {place}: {words} = {total}, a part from each channel.",
        place=told.place_words(row, column),
        words=sum_words([part[row, column].item() for part in parts]),
        total=cell(output[row, column].item()),
    )
    return Frame(marks, [], [], caption)
