"""What a pool keeps and what unpooling gives back, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import Tensor

from unconv.axis import Axis
from unconv.errors import NoSuchUnit
from unconv.explain.explanation import Illustration, before_and_after, by_axis, cells, refuse_not_finite, uniform
from unconv.explain.story import Frame, Frames, Panel, Story, cell
from unconv.kinds import checks_kinds
from unconv.ops.arguments import Layout, axes_of, axis_words, floats, layout_of, per_axis
from unconv.ops.pool import avg_pool2d, max_pool_with_argmax
from unconv.ops.unpool import unpool_avg, unpool_max

_NAMES = ("height", "width")


@dataclass(frozen=True, eq=False, repr=False)
class PoolExplanation(Illustration):
    """A pool and the unpooling of its result, each a tensor. It prints, draws and saves itself.

    Args:
        input: as given.
        pooled: the maxima or averages.
        argmax: where the maxima were; None for averages.
        output: `pooled` put back by `unpool_max` or `unpool_avg`.
        axes: how the windows lie along height and width.
        duplicates: what happens where two values come to one place.
        layout: the order of the axes.
        shown: the image and channel that pictures show; see `select`.
    """

    input: Tensor
    pooled: Tensor
    argmax: Tensor | None
    output: Tensor
    axes: tuple[Axis, ...]
    duplicates: str
    layout: Layout
    shown: tuple[int, int] = (0, 0)

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)) of height and width."""
        size = self.layout.size(self.input.shape)
        return tuple(axis.pads(n) for axis, n in zip(self.axes, size, strict=True))

    @property
    def places(self) -> tuple[int, int]:
        """(height, width) of the pooled map: one frame a window."""
        height, width = self.layout.size(self.pooled.shape)
        return height, width

    @property
    def start(self) -> tuple[int, int]:
        """The first window."""
        return 0, 0

    @checks_kinds
    def select(self, image: int = 0, channel: int = 0) -> PoolExplanation:
        """The same explanation, with pictures of another channel, or of another image of the batch."""
        shown = (image, channel)
        sides = (len(self.input), self.input.shape[self.layout.channel])
        for name, index, n in zip(("image", "channel"), shown, sides, strict=True):
            if not 0 <= index < n:
                raise NoSuchUnit(f"select: {name} is {index}, but there are {n}. Pass 0 to {n - 1}.")
        return replace(self, shown=shown)

    def numbers(self) -> dict[str, Any]:
        """Every tensor as nested lists, and the padding, ready for JSON."""
        tensors = {"input": self.input, "pooled": self.pooled, "argmax": self.argmax, "output": self.output}
        values = {name: tensor.tolist() for name, tensor in tensors.items() if tensor is not None}
        return {**values, "padding": self.padding, "duplicates": self.duplicates}

    def story(self) -> Story:
        """The pool, its result put back, and a frame for each window."""
        input, pooled, output = (self._plane(tensor) for tensor in (self.input, self.pooled, self.output))
        padded, kinds = self._padded(input)
        # For each sample of the result, the windows whose values come there: several where windows overlap.
        sources: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for place in self._windows():
            for target in self._targets(*place):
                sources.setdefault(target, []).append(place)
        height, width = output.shape
        back = [["output" if (row, column) in sources else "nothing" for column in range(width)] for row in range(height)]
        (above, _), (before, _) = self.padding
        result = "maxima" if self.argmax is not None else "averages"
        panels = [
            Panel(f"Input, {_size(input)}{self._more()}", padded, kinds, self._pads(), (-above, -before)),
            Panel(f"{result.capitalize()}, {_size(pooled)}", cells(pooled), uniform(pooled, "value"), "", (0, 0)),
            Panel(f"Unpooled, {_size(output)}", cells(output), back, "", (0, 0)),
        ]
        if self.argmax is not None:
            index = self._plane(self.argmax)
            panels.insert(2, Panel("Their indices", cells(index), uniform(index, "count")))
        rows, columns = self.places

        def frame_at(number: int) -> Frame:
            frame = self._frame(divmod(number, columns), padded, kinds, pooled)
            return replace(
                frame, caption=frame.caption + self._overlap(self._targets(*divmod(number, columns)), sources, pooled, output)
            )

        frames = Frames(rows * columns, frame_at)
        return Story(self.title(), panels, frames, self._facts(), cards_at=1, breaks=False)

    def title(self) -> str:
        """The kind of pool and its settings."""
        kind = "Max" if self.argmax is not None else "Average"
        return f"{kind} pooling and back: {by_axis(_NAMES, map(axis_words, self.axes))}"

    def _more(self) -> str:
        """Say what else the input's panel shows: padding, and which channel, where there are several."""
        channels = self.input.shape[self.layout.channel]
        padded = ", padded" if any(map(any, self.padding)) else ""
        return padded + (f", channel {self.shown[1]} of {channels}" if channels > 1 else "")

    def _windows(self) -> Iterator[tuple[int, int]]:
        rows, columns = self.places
        return product(range(rows), range(columns))

    def _plane(self, tensor: Tensor) -> Tensor:
        return self.layout.channels_first(tensor)[self.shown].detach().double().cpu()

    def _padded(self, input: Tensor) -> tuple[list[list[str]], list[list[str]]]:
        """The words and the kinds of the input's cells and of the padding around them."""
        (top, bottom), (left, right) = self.padding
        height, width = input.shape
        words, kinds = cells(input), []
        grid = []
        for row in range(-top, height + bottom):
            inside = [0 <= row < height and 0 <= column < width for column in range(-left, width + right)]
            kinds.append(["value" if known else "padding" for known in inside])
            grid.append([words[row][column - left] if known else "" for column, known in enumerate(inside)])
        return grid, kinds

    def _spans(self, row: int, column: int) -> list[range]:
        """The rows and columns of the input in one window, without padding."""
        size = self.layout.size(self.input.shape)
        starts = [i * axis.stride - pad[0] for i, axis, pad in zip((row, column), self.axes, self.padding, strict=True)]
        return [range(max(s, 0), min(s + axis.kernel, n)) for s, axis, n in zip(starts, self.axes, size, strict=True)]

    def _targets(self, row: int, column: int) -> list[tuple[int, int]]:
        """The samples that the value of one window goes back to, row by row."""
        if self.argmax is None:
            rows, columns = self._spans(row, column)
            return list(product(rows, columns))
        index = int(self.layout.channels_first(self.argmax)[self.shown][row, column])
        return [divmod(index // self.input.shape[self.layout.channel], self.layout.size(self.input.shape)[1])]

    def _frame(self, place: tuple[int, int], padded: list[list[str]], kinds: list[list[str]], pooled: Tensor) -> Frame:
        """Show one window, its value, and where that goes back to."""
        row, column = place
        high, wide = (axis.kernel for axis in self.axes)
        top, left = (i * axis.stride for i, axis in zip(place, self.axes, strict=True))
        rows, columns = range(top, top + high), range(left, left + wide)
        window = [[padded[y][x] for x in columns] for y in rows]
        found = [[kinds[y][x] for x in columns] for y in rows]
        targets = self._targets(row, column)
        (y, x), (last_y, last_x) = targets[0], targets[-1]
        marks = [(0, top, left, high, wide)]
        if self.argmax is None:
            marks.append((2, y, x, last_y - y + 1, last_x - x + 1))
        else:
            marks += [(2, row, column, 1, 1), (3, y, x, 1, 1)]
            (above, _), (before, _) = self.padding
            found[y + above - top][x + before - left] = "largest"
        marks.append((1, row, column, 1, 1))
        return Frame(marks, [Panel("Window", window, found)], [""], self._caption(row, column, pooled[row, column].item()))

    def _overlap(
        self,
        targets: list[tuple[int, int]],
        sources: dict[tuple[int, int], list[tuple[int, int]]],
        pooled: Tensor,
        output: Tensor,
    ) -> str:
        """Say what happens at the first of `targets` where other windows' values come too; "" where there is none."""
        for target in targets:
            if len(sources[target]) > 1:
                values, result = [cell(pooled[place].item()) for place in sources[target]], cell(output[target].item())
                sentence = {
                    "sum": f"{' + '.join(values)} = {result}",
                    "mean": f"the mean of {', '.join(values)} is {result}",
                    "overwrite": f"of {', '.join(values)} the last one stays",
                }[self.duplicates]
                return f" At row {target[0]}, column {target[1]}, {len(values)} windows meet: {sentence}."
        return ""

    def _caption(self, row: int, column: int, value: float) -> str:
        height, width = self._spans(row, column)
        plane = self._plane(self.input)
        samples = ", ".join(cell(plane[place].item()) for place in product(height, width))
        if self.argmax is None:
            return (
                f"Window at row {row}, column {column}: the average of {samples}, without padding, is {cell(value)}. "
                "Back: it is copied, undivided, to each of them."
            )
        equal = sum(plane[place].item() == value for place in product(height, width))
        first = f", the first of {equal} equal ones," if equal > 1 else ","
        ((y, x),), channels, channel = self._targets(row, column), self.input.shape[self.layout.channel], self.shown[1]
        index = (y * plane.shape[1] + x) * channels + channel
        index_words = f"({y}\u00a0·\u00a0{plane.shape[1]} + {x})\u00a0·\u00a0{channels} + {channel} = {index}"
        return (
            f"Window at row {row}, column {column}: the largest of {samples} is {cell(value)}{first} at row {y}, column {x}: "
            f"index {index_words}. Back: it goes to where it came from."
        )

    def _facts(self) -> list[tuple[str, str]]:
        lost = "which samples were smaller is" if self.argmax is not None else "how the samples of a window differed is"
        facts = [("Padding", self._pads()), ("Note", f"{lost} lost: unpooling gives back the shape, not the values")]
        if self.argmax is not None:
            facts.insert(1, ("Index", "(row · width + column) · channels + channel, of the input without its padding"))
        if any(axis.kernel > axis.stride for axis in self.axes):
            words = {"sum": "add up", "overwrite": "overwrite each other, the last one stays", "mean": "are averaged"}
            facts.insert(1, ("Overlapping windows", f"values that come to one place {words[self.duplicates]}"))
        return facts

    def _pads(self) -> str:
        return before_and_after(_NAMES, self.padding)


def explain_unpool_max(
    input: Tensor, ksize: Any, strides: Any, padding: Any, duplicates: str = "sum", data_format: str = "NHWC"
) -> PoolExplanation:
    """Show `max_pool_with_argmax`, and how `unpool_max` puts its result back.

    Args:
        As for `max_pool_with_argmax` and `unpool_max`.

    Raises:
        ShapeError, DtypeError: as these two.
        NonFinite: NaN or infinity.

    Example:
        >>> explanation = explain_unpool_max(torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1), 2, 2, "VALID")
        >>> explanation.output.flatten()
        tensor([0., 4., 0., 0.])
    """
    layout, axes = _axes("explain_unpool_max", input, ksize, strides, padding, data_format)
    pooled, argmax = max_pool_with_argmax(input, ksize, strides, padding, data_format)
    output = unpool_max(pooled, argmax, input.shape, False, duplicates, data_format)
    return PoolExplanation(input, pooled, argmax, output, axes, duplicates, layout)


def explain_unpool_avg(
    input: Tensor, ksize: Any, strides: Any, padding: Any, duplicates: str = "sum", data_format: str = "NHWC"
) -> PoolExplanation:
    """Show `avg_pool2d`, and how `unpool_avg` copies its result back.

    Args:
        As for `avg_pool2d` and `unpool_avg`.

    Raises:
        ShapeError, DtypeError: as these two.
        NonFinite: NaN or infinity.

    Example:
        >>> explain_unpool_avg(torch.tensor([1., 4., 3., 2.]).reshape(1, 2, 2, 1), 2, 2, "VALID").output.flatten()
        tensor([2.5000, 2.5000, 2.5000, 2.5000])
    """
    layout, axes = _axes("explain_unpool_avg", input, ksize, strides, padding, data_format)
    pooled = avg_pool2d(input, ksize, strides, padding, data_format)
    output = unpool_avg(pooled, input.shape, ksize, strides, padding, duplicates, data_format)
    return PoolExplanation(input, pooled, None, output, axes, duplicates, layout)


def _axes(
    where: str, input: Tensor, ksize: Any, strides: Any, padding: Any, data_format: str
) -> tuple[Layout, tuple[Axis, ...]]:
    layout = layout_of(where, data_format, 2)
    floats(where, layout, input=input)
    refuse_not_finite(where, input=input)
    return layout, axes_of(where, layout, per_axis(where, "ksize", ksize, layout), strides, padding)


def _size(plane: Tensor) -> str:
    return " × ".join(map(str, plane.shape))
