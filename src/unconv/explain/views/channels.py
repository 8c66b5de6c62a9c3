"""The channels view: each input channel is convolved with its own kernel, and the results are added up."""

from __future__ import annotations

from torch import Tensor

from unconv.explain.story import Frame, Frames, Panel, Story, cell, grid, size_words
from unconv.explain.transposed import Transposed
from unconv.explain.views.scatter import channel_output
from unconv.explain.views.words import channel_words, facts_of, source_marks, sum_words

_MOST = 6  # channels that are drawn one by one; if there are more, the rest share one panel


def channels_story(explanation: Transposed) -> Story:
    """Return the story of the channels: inputs, kernels, partial results, their sum; a frame for each output sample."""
    say, out, channels = explanation.say, explanation.shown[2], explanation.filters.shape[-1]
    shown_channels = range(channels if channels <= _MOST else _MOST - 1)
    inputs = [explanation.plane(explanation.input, channel) for channel in shown_channels]
    output = explanation.plane(explanation.output, out)
    parts = [channel_output(explanation, channel) for channel in shown_channels]
    for channel, part in zip(shown_channels, parts, strict=True):
        # Each part is computed twice, from stamps and by the operation, so that a wrong picture is never drawn.
        explanation.agree(explanation.uncropped(explanation.stamped(inputs[channel], explanation.kernel(channel))), part)
    others = channels - len(shown_channels)
    if others:
        parts.append(sum(channel_output(explanation, channel) for channel in range(len(shown_channels), channels)))  # type: ignore[arg-type]
    explanation.agree(sum(parts), output)  # type: ignore[arg-type]
    panels = [*_inputs(explanation, inputs), *_kernels(explanation, shown_channels), *_parts(explanation, parts, others)]
    title = say("Output, {size}", size=size_words(output)) + channel_words(explanation, -2, out)
    panels.append(grid(title, output, "output", first=explanation.first, sign="="))
    columns = explanation.output_size[1]
    frames = Frames(output.numel(), lambda n: _frame(explanation, *divmod(n, columns), len(shown_channels), parts, output))
    words = say("each input channel has its own kernel, and the results are added up")
    facts = facts_of(explanation, (say("Channels"), words))
    return Story(
        say("{title}: channels", title=explanation.title()), panels, frames, facts, len(panels), False, explanation.language
    )


def _inputs(explanation: Transposed, inputs: list[Tensor]) -> list[Panel]:
    return [
        grid(explanation.say("Input channel {channel}", channel=channel), plane, "value")
        for channel, plane in enumerate(inputs)
    ]


def _kernels(explanation: Transposed, shown_channels: range) -> list[Panel]:
    return [
        grid(explanation.say("Kernel {channel}", channel=channel), explanation.kernel(channel), "kernel", line=not channel)
        for channel in shown_channels
    ]


def _parts(explanation: Transposed, parts: list[Tensor], others: int) -> list[Panel]:
    titles = [explanation.say("From channel {channel}", channel=channel) for channel in range(len(parts))]
    if others:
        titles[-1] = explanation.say("From the {count} others", count=others)
    return [
        grid(title, part, "part", first=explanation.first, sign="+" if number else "", line=not number)
        for number, (title, part) in enumerate(zip(titles, parts, strict=True))
    ]


def _frame(explanation: Transposed, row: int, column: int, count: int, parts: list[Tensor], output: Tensor) -> Frame:
    samples, taps = source_marks(explanation, row, column)
    marks = [(panel, *box) for panel in range(count) for box in samples]
    marks += [(count + panel, *box) for panel in range(count) for box in taps]
    marks += [(panel, row, column, 1, 1) for panel in range(2 * count, 2 * count + len(parts) + 1)]
    caption = explanation.say(
        "Output at {place}: {words} = {total}, a part from each channel.",
        place=explanation.position_words(row, column),
        words=sum_words([part[row, column].item() for part in parts]),
        total=cell(output[row, column].item()),
    )
    return Frame(marks, [], [], caption)
