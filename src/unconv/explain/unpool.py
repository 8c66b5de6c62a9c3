"""Explanations of pooling and unpooling: what a pool keeps and what comes back, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import NoSuchUnit, counted
from unconv.explain.choices import Language
from unconv.explain.explanation import Illustration, refuse_not_finite
from unconv.explain.language import Say, before_and_after, by_axis, refuse_language, saying, window_words
from unconv.explain.story import Frame, Frames, Panel, Story, cell, cells, grid, uniform
from unconv.kinds import checks_kinds
from unconv.ops.arguments import Layout, axes_of, floats, layout_of, per_axis
from unconv.ops.pool import avg_pool2d, max_pool_with_argmax
from unconv.ops.unpool import unpool_avg, unpool_max

_NAMES = ("height", "width")


@dataclass(frozen=True, eq=False, repr=False)
class PoolExplanation(Illustration):
    """A pool and the unpooling of its result, each a tensor. It prints, draws and saves itself.

    Args:
        input: the pool's input.
        pooled: the maxima or averages.
        argmax: the indices of the maxima; None for averages.
        output: `pooled`, unpooled by `unpool_max` or `unpool_avg`.
        axes: how the windows lie along height and width.
        duplicates: what happens where several values reach the same sample.
        layout: the order of the axes.
        shown: the image and channel that pictures show; see `select`.
        language: the language of the words; see `in_language`.
    """

    input: Tensor
    pooled: Tensor
    argmax: Tensor | None
    output: Tensor
    axes: tuple[Axis, ...]
    duplicates: str
    layout: Layout
    shown: tuple[int, int] = (0, 0)
    language: Language = "en"

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)) along height and width."""
        size = self.layout.size(self.input.shape)
        return tuple(axis.pads(n) for axis, n in zip(self.axes, size, strict=True))

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the pooled map: there is one frame for each window."""
        height, width = self.layout.size(self.pooled.shape)
        return height, width

    @property
    def start(self) -> tuple[int, int]:
        """(0, 0), the first window."""
        return 0, 0

    @checks_kinds
    def select(self, image: int = 0, channel: int = 0) -> PoolExplanation:
        """Return the same explanation, with pictures of another channel, or of another image of the batch."""
        shown = (image, channel)
        sides = (len(self.input), self.input.shape[self.layout.channel])
        for name, index, n in zip(("image", "channel"), shown, sides, strict=True):
            if not 0 <= index < n:
                count, last = counted(n, name.replace("_", " ")), "" if n == 1 else f" to {n - 1}"
                raise NoSuchUnit(f"select: {name} is {index}, but the explanation has {count}. Pass 0{last}.")
        return replace(self, shown=shown)

    def numbers(self) -> dict[str, Any]:
        """Return every tensor as nested lists, and the settings, ready for JSON."""
        tensors = {"input": self.input, "pooled": self.pooled, "argmax": self.argmax, "output": self.output}
        values = {name: tensor.tolist() for name, tensor in tensors.items() if tensor is not None}
        return {**values, "padding": self.padding, "duplicates": self.duplicates}

    def story(self) -> Story:
        """Return the story of the pool and its unpooled result, with a frame for each window."""
        input, pooled, output = (self._plane(tensor) for tensor in (self.input, self.pooled, self.output))
        padded, kinds = self._padded(input)
        # For each sample of the result, the windows whose values reach it: several where windows overlap.
        sources: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for window in self._windows():
            for target in self._targets(*window):
                sources.setdefault(target, []).append(window)
        height, width = output.shape
        output_kinds = [
            ["output" if (row, column) in sources else "nothing" for column in range(width)] for row in range(height)
        ]
        (above, _), (before, _) = self.padding
        say, maxima = self._say, self.argmax is not None
        panels = [
            Panel(
                self._titled("Input, {size}", input) + self._more(),
                padded,
                kinds,
                self._pads(),
                (-above, -before),
                exact=self._around(grid("", input, "value").exact or [[""] * input.shape[1]] * len(input)),
            ),
            grid(self._titled("Maxima, {size}" if maxima else "Averages, {size}", pooled), pooled, "value", first=(0, 0)),
            grid(self._titled("Unpooled, {size}", output), output, output_kinds, first=(0, 0)),
        ]
        if self.argmax is not None:
            panels.insert(2, grid(say("Their indices"), self._plane(self.argmax), "count"))
        rows, columns = self.grid

        def frame_at(number: int) -> Frame:
            frame = self._frame(divmod(number, columns), padded, kinds, pooled)
            return replace(
                frame, caption=frame.caption + self._overlap(self._targets(*divmod(number, columns)), sources, pooled, output)
            )

        frames = Frames(rows * columns, frame_at)
        return Story(self.title(), panels, frames, self._facts(), cards_at=1, breaks=False, language=self.language)

    @property
    def _say(self) -> Say:
        return saying(self.language)

    def _titled(self, sentence: str, plane: Tensor) -> str:
        return self._say(sentence, size=f"{plane.shape[0]} × {plane.shape[1]}")

    def title(self) -> str:
        """Return the title: the kind of pool and its settings."""
        kind = "Max pooling and back: {settings}" if self.argmax is not None else "Average pooling and back: {settings}"
        return self._say(kind, settings=by_axis(self._say, _NAMES, (window_words(self._say, axis) for axis in self.axes)))

    def _more(self) -> str:
        """Return the rest of the input panel's title: whether there is padding, and which of several channels is shown."""
        channels = self.input.shape[self.layout.channel]
        padded = self._say(", padded") if any(map(any, self.padding)) else ""
        channel = self._say(", channel {channel} of {count}", channel=self.shown[1], count=channels)
        return padded + (channel if channels > 1 else "")

    def _windows(self) -> Iterator[tuple[int, int]]:
        rows, columns = self.grid
        return product(range(rows), range(columns))

    def _plane(self, tensor: Tensor) -> Tensor:
        return self.layout.channels_first(tensor)[self.shown].detach().double().cpu()

    def _padded(self, input: Tensor) -> tuple[list[list[str]], list[list[str]]]:
        """Return the words and the kinds of the input's cells, with padding around them."""
        return self._around(cells(input)), self._around(uniform(input, "value"), "padding")

    def _around(self, cells: Sequence[Sequence[str]], outside: str = "") -> list[list[str]]:
        """Return the input's cells with the padding's cells around them."""
        (top, bottom), (left, right) = self.padding
        lines = [[*[outside] * left, *row, *[outside] * right] for row in cells]
        empty = [outside] * len(lines[0])
        return [*[empty] * top, *lines, *[empty] * bottom]

    def _spans(self, row: int, column: int) -> list[range]:
        """Return the rows and the columns of the input in one window, without padding."""
        size = self.layout.size(self.input.shape)
        starts = [i * axis.stride - pad[0] for i, axis, pad in zip((row, column), self.axes, self.padding, strict=True)]
        return [range(max(s, 0), min(s + axis.kernel, n)) for s, axis, n in zip(starts, self.axes, size, strict=True)]

    def _targets(self, row: int, column: int) -> list[tuple[int, int]]:
        """Return the samples that one window's value goes back to, row by row."""
        if self.argmax is None:
            rows, columns = self._spans(row, column)
            return list(product(rows, columns))
        index = int(self.layout.channels_first(self.argmax)[self.shown][row, column])
        return [divmod(index // self.input.shape[self.layout.channel], self.layout.size(self.input.shape)[1])]

    def _frame(self, position: tuple[int, int], padded: list[list[str]], kinds: list[list[str]], pooled: Tensor) -> Frame:
        """Return the frame of one window: its samples, its value, and where the value goes back to."""
        row, column = position
        high, wide = (axis.kernel for axis in self.axes)
        top, left = (i * axis.stride for i, axis in zip(position, self.axes, strict=True))
        # The card shows the window with its padding, so rows and columns count on the padded input.
        rows, columns = range(top, top + high), range(left, left + wide)
        window = [[padded[y][x] for x in columns] for y in rows]
        window_kinds = [[kinds[y][x] for x in columns] for y in rows]
        targets = self._targets(row, column)
        (y, x), (last_y, last_x) = targets[0], targets[-1]
        marks = [(0, top, left, high, wide)]
        if self.argmax is None:
            marks.append((2, y, x, last_y - y + 1, last_x - x + 1))
        else:
            marks += [(2, row, column, 1, 1), (3, y, x, 1, 1)]
            (above, _), (before, _) = self.padding
            window_kinds[y + above - top][x + before - left] = "largest"
        marks.append((1, row, column, 1, 1))
        return Frame(
            marks,
            [Panel(self._say("Window"), window, window_kinds)],
            [""],
            self._caption(row, column, pooled[row, column].item()),
        )

    def _overlap(
        self,
        targets: list[tuple[int, int]],
        sources: dict[tuple[int, int], list[tuple[int, int]]],
        pooled: Tensor,
        output: Tensor,
    ) -> str:
        """Return what happens at the first target that other windows' values reach too, or "" where there is none."""
        for target in targets:
            if len(sources[target]) > 1:
                say, values = self._say, [cell(pooled[window].item()) for window in sources[target]]
                sentence = {
                    "sum": "At row {row}, column {column}, {count} windows meet: {sum} = {result}.",
                    "mean": "At row {row}, column {column}, {count} windows meet: the mean of {values} is {result}.",
                    "overwrite": "At row {row}, column {column}, {count} windows meet: the last of {values} stays.",
                }[self.duplicates]
                numbers = {"row": target[0], "column": target[1], "count": len(values)}
                words = {"sum": " + ".join(values), "values": say(", ").join(values), "result": cell(output[target].item())}
                return say(" ") + say(sentence, **numbers, **words)
        return ""

    def _caption(self, row: int, column: int, value: float) -> str:
        say, (height, width) = self._say, self._spans(row, column)
        plane = self._plane(self.input)
        samples = say(", ").join(cell(plane[sample].item()) for sample in product(height, width))
        common = {"row": row, "column": column, "samples": samples, "value": cell(value)}
        if self.argmax is None:
            return say(
                "Window at row {row}, column {column}: the average of {samples}, without padding, is {value}. "
                "Back: it is copied, undivided, to each of them.",
                **common,
            )
        equal = sum(plane[sample].item() == value for sample in product(height, width))
        first = say(", the first of {count} equal ones,", count=equal) if equal > 1 else say(",")
        ((y, x),), channels, channel = self._targets(row, column), self.input.shape[self.layout.channel], self.shown[1]
        # TensorFlow's index, written out: it counts the unpadded image with its channels last, whatever the layout.
        index = (y * plane.shape[1] + x) * channels + channel
        index_words = f"({y}\u00a0·\u00a0{plane.shape[1]} + {x})\u00a0·\u00a0{channels} + {channel} = {index}"
        return say(
            "Window at row {row}, column {column}: the largest of {samples} is {value}{first} at row {y}, column {x}: "
            "index {index}. Back: it goes to the sample that it came from.",
            **common,
            first=first,
            y=y,
            x=x,
            index=index_words,
        )

    def _facts(self) -> list[tuple[str, str]]:
        say = self._say
        lost = "the smaller samples are lost: unpooling restores the shape, not the values"
        if self.argmax is None:
            lost = "the differences within a window are lost: unpooling restores the shape, not the values"
        facts = [(say("Padding"), self._pads()), (say("Note"), say(lost))]
        if self.argmax is not None:
            words = say("(row · width + column) · channels + channel, of the input without its padding")
            facts.insert(1, (say("Index"), words))
        if any(axis.kernel > axis.stride for axis in self.axes):
            sentence = {
                "sum": "values that reach the same sample add up",
                "overwrite": "values that reach the same sample overwrite each other, and the last one stays",
                "mean": "values that reach the same sample are averaged",
            }[self.duplicates]
            facts.insert(1, (say("Overlapping windows"), say(sentence)))
        return facts

    def _pads(self) -> str:
        return before_and_after(self._say, _NAMES, self.padding)


def explain_unpool_max(
    input: Tensor,
    ksize: Any,
    strides: Any,
    padding: Any,
    duplicates: str = "sum",
    data_format: str = "NHWC",
    language: Language = "en",
) -> PoolExplanation:
    """Return the explanation of max pooling by `max_pool_with_argmax` and of unpooling its result by `unpool_max`.

    Args:
        As for `max_pool_with_argmax` and `unpool_max`; `language` is that of the words, "en" or "zh".

    Raises:
        ShapeError, DtypeError: as these two.
        NonFinite: NaN or infinity.

    Example:
        >>> explanation = explain_unpool_max(torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1), 2, 2, "VALID")
        >>> explanation.output.flatten()
        tensor([0., 4., 0., 0.])
    """
    layout, axes = _axes("explain_unpool_max", language, input, ksize, strides, padding, data_format)
    pooled, argmax = max_pool_with_argmax(input, ksize, strides, padding, data_format)
    output = unpool_max(pooled, argmax, input.shape, False, duplicates, data_format)
    return PoolExplanation(input, pooled, argmax, output, axes, duplicates, layout, language=language)


def explain_unpool_avg(
    input: Tensor,
    ksize: Any,
    strides: Any,
    padding: Any,
    duplicates: str = "sum",
    data_format: str = "NHWC",
    language: Language = "en",
) -> PoolExplanation:
    """Return the explanation of average pooling by `avg_pool2d` and of unpooling its result by `unpool_avg`.

    Args:
        As for `avg_pool2d` and `unpool_avg`; `language` is that of the words, "en" or "zh".

    Raises:
        ShapeError, DtypeError: as these two.
        NonFinite: NaN or infinity.

    Example:
        >>> explain_unpool_avg(torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1), 2, 2, "VALID").output.flatten()
        tensor([2.5000, 2.5000, 2.5000, 2.5000])
    """
    layout, axes = _axes("explain_unpool_avg", language, input, ksize, strides, padding, data_format)
    pooled = avg_pool2d(input, ksize, strides, padding, data_format)
    output = unpool_avg(pooled, input.shape, ksize, strides, padding, duplicates, data_format)
    return PoolExplanation(input, pooled, None, output, axes, duplicates, layout, language=language)


def _axes(
    where: str, language: Language, input: Tensor, ksize: Any, strides: Any, padding: Any, data_format: str
) -> tuple[Layout, tuple[Axis, ...]]:
    refuse_language(where, language)
    layout = layout_of(where, data_format, 2)
    floats(where, layout, input=input)
    refuse_not_finite(where, input=input)
    return layout, axes_of(where, layout, per_axis(where, "ksize", ksize, layout), strides, padding)
