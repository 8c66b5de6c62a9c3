"""A transposed convolution with the numbers that its views show: steps, stamps, a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import gcd

import torch
from torch import Tensor

from unconv.axis import Axis
from unconv.errors import ShapeError
from unconv.explain.choices import Language, View
from unconv.explain.language import Say, by_axis, saying, settings_words
from unconv.explain.story import size_words
from unconv.ops.arguments import Layout

_NAMES = {1: ("width",), 2: ("height", "width")}
_MOST = 200_000  # the most entries of a matrix, each of which becomes a word on a page


@dataclass(frozen=True, eq=False, repr=False)
class Transposed:
    """A transposed convolution in four steps, each a tensor, along one or two axes. See `Explanation` for the attributes."""

    input: Tensor
    filters: Tensor
    flipped_filters: Tensor
    zero_inserted: Tensor
    padded: Tensor
    output: Tensor
    axes: tuple[Axis, ...]
    layout: Layout
    shown: tuple[int, int, int] = (0, 0, 0)
    view: View = "steps"
    language: Language = "en"

    @property
    def forward_padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)) along height and width: the padding of the convolution this is the adjoint of.

        Under SAME it follows from the output's size.
        """
        return tuple(axis.pads(n) for axis, n in zip(self.axes, self.layout.size(self.output.shape), strict=True))

    @property
    def transposed_padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)): step 3's padding, kernel - 1 - forward padding, plus `residual` after."""
        return tuple(axis.transposed_pads(n) for axis, n in zip(self.axes, self.layout.size(self.output.shape), strict=True))

    @property
    def residual(self) -> tuple[int, ...]:
        """r along height and width: the zeros after all other padding, by which the legal output sizes differ."""
        return tuple(axis.rest(n) for axis, n in zip(self.axes, self.layout.size(self.output.shape), strict=True))

    @property
    def legal_output_sizes(self) -> tuple[range, ...]:
        """Every length that height and width of the output may have."""
        return tuple(axis.legal(n) for axis, n in zip(self.axes, self.layout.size(self.input.shape), strict=True))

    @property
    def hits(self) -> Tensor:
        """(H, W), or (W,) along one axis, int64: the number of input samples that reach each output sample."""
        rows, columns = (
            torch.tensor([len(_sources(axis, position, n, size)) for position in range(size)], dtype=torch.int64)
            for axis, n, size in zip(self.plane_axes, self.input_size, self.output_size, strict=True)
        )
        counts = rows[:, None] * columns
        return counts if len(self.axes) == 2 else counts[0]

    @property
    def checkerboard(self) -> str | None:
        """A warning where neighbouring output samples receive different numbers of values, otherwise None."""
        # Away from the border, sample p of the output is reached by the taps t with t · dilation = p modulo the stride.
        counts = []
        for axis, n in zip(self.axes, self.layout.size(self.input.shape), strict=True):
            phases = [tap * axis.dilation % axis.stride for tap in range(axis.kernel)]
            counts.append(
                [phases.count(phase) for phase in range(axis.stride)] if n > 1 else [1]
            )  # a single sample meets no other
        if all(len(set(taps)) == 1 for taps in counts):
            return None
        say, uneven = self.say, [axis for axis, taps in zip(self.axes, counts, strict=True) if len(set(taps)) > 1]
        in_turn = "{others} and {last} in turn"
        words = by_axis(
            say,
            self.names,
            (
                say(in_turn, others=say(", ").join(map(str, taps[:-1])), last=taps[-1])
                if len(set(taps)) > 1
                else say("the same number")
                for taps in counts
            ),
            "along the {name} {words}",
        )
        shared = next((axis for axis in uneven if gcd(axis.stride, axis.dilation) > 1), None)
        remedy = (
            say("With a kernel length that is a multiple of the stride, all receive the same number")
            if shared is None
            else say(
                "Stride {stride} and dilation {dilation} have a common divisor, so no kernel length avoids this",
                stride=shared.stride,
                dilation=shared.dilation,
            )
        )
        return say("neighbouring samples receive different numbers of values: {words}. {remedy}", words=words, remedy=remedy)

    @property
    def say(self) -> Say:
        """The function `say(sentence, **values)` for the language of the explanation."""
        return saying(self.language)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the spatial axes."""
        return _NAMES[len(self.axes)]

    @property
    def plane_axes(self) -> tuple[Axis, Axis]:
        """The two axes of the drawing: a single axis is drawn as one row."""
        return (self.axes[0], self.axes[1]) if len(self.axes) == 2 else (Axis(1), self.axes[0])

    @property
    def input_size(self) -> tuple[int, int]:
        """(rows, columns) of the input."""
        return self._plane_size(self.input)

    @property
    def output_size(self) -> tuple[int, int]:
        """(rows, columns) of the output."""
        return self._plane_size(self.output)

    def _plane_size(self, tensor: Tensor) -> tuple[int, int]:
        rows, columns = (1, *self.layout.size(tensor.shape))[-2:]
        return rows, columns

    @property
    def first(self) -> tuple[int | None, int]:
        """The numbers of the first row and column in a panel; a single row has no number."""
        return (0, 0) if len(self.axes) == 2 else (None, 0)

    def plane(self, tensor: Tensor, channel: int) -> Tensor:
        """Return one channel of the image that is shown, (rows, columns), float64."""
        plane = self.layout.channels_first(tensor)[self.shown[0], channel].detach().double().cpu()
        return plane if plane.ndim == 2 else plane[None]

    def kernel(self, inside: int) -> Tensor:
        """Return the kernel from an input channel to the output channel that is shown, (rows, columns), float64."""
        kernel = self.filters[..., self.shown[2], inside].detach().double().cpu()
        return kernel if kernel.ndim == 2 else kernel[None]

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The padding of the forward convolution, ((above, below), (before, after))."""
        rows, columns = (axis.pads(n) for axis, n in zip(self.plane_axes, self.output_size, strict=True))
        return rows, columns

    @property
    def canvas(self) -> tuple[int, int]:
        """(rows, columns) of the canvas for all stamps: the output, and around it the part that is cut off."""
        rows, columns = (
            max(axis.span(n), size + pad[0])
            for axis, n, size, pad in zip(self.plane_axes, self.input_size, self.output_size, self.pads, strict=True)
        )
        return rows, columns

    def stamped(self, values: Tensor, kernel: Tensor) -> Tensor:
        """Return the canvas with the stamps of all samples (rows, columns) added up: each is the kernel times a sample."""
        (high, wide), sheet = self.plane_axes, values.new_zeros(self.canvas)
        for y, x in product(*map(range, kernel.shape)):
            rows = slice(y * high.dilation, y * high.dilation + (len(values) - 1) * high.stride + 1, high.stride)
            columns = slice(x * wide.dilation, x * wide.dilation + (values.shape[1] - 1) * wide.stride + 1, wide.stride)
            sheet[rows, columns] += kernel[y, x] * values
        return sheet

    def uncropped(self, sheet: Tensor) -> Tensor:
        """Return the output's part of a canvas, as a view."""
        (above, _), (before, _) = self.pads
        rows, columns = self.output_size
        return sheet[above : above + rows, before : before + columns]

    def footprint(self, row: int, column: int) -> list[tuple[int, int, int, int]]:
        """Return the rectangles (row, column, rows, columns) on the canvas under the stamp of an input sample."""
        high, wide = self.plane_axes
        top, left = row * high.stride, column * wide.stride
        if high.dilation == wide.dilation == 1:
            return [(top, left, high.kernel, wide.kernel)]
        # A dilated stamp has gaps: its cells are marked one by one.
        return [
            (top + y * high.dilation, left + x * wide.dilation, 1, 1)
            for y, x in product(range(high.kernel), range(wide.kernel))
        ]

    def sources(self, row: int, column: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Return what reaches an output sample: (input sample, kernel entry) pairs, row by row of the input."""
        (rows, columns) = (
            _sources(axis, place, n, size)
            for axis, place, n, size in zip(self.plane_axes, (row, column), self.input_size, self.output_size, strict=True)
        )
        return [((i, j), (y, x)) for (i, y), (j, x) in product(rows, columns)]

    @property
    def taps(self) -> Tensor:
        """(input samples, output samples), int64: the kernel entry that connects the two, counted row by row; -1 for none."""
        count = [rows * columns for rows, columns in (self.input_size, self.output_size)]
        if count[0] * count[1] > _MOST:
            raise ShapeError(
                f"explain: the matrix is {count[0]} × {count[1]}, more than {_MOST} entries. Explain a smaller input, or "
                "choose another view."
            )
        matrix = torch.full(count, -1, dtype=torch.int64)
        wide, width = self.input_size[1], self.plane_axes[1].kernel
        for number, sample in enumerate(self.output_positions()):
            for (i, j), (y, x) in self.sources(*sample):
                matrix[i * wide + j, number] = y * width + x
        return matrix

    @property
    def matrix(self) -> Tensor:
        """(input samples, output samples), float64: the convolution's matrix, for the channels that are shown.

        The convolution takes a flattened output to a flattened input, and its transpose an input to an output.
        """
        taps, kernel = self.taps, self.kernel(self.shown[1]).flatten()
        return torch.where(taps >= 0, kernel[taps.clamp(min=0)], 0.0)

    def output_positions(self) -> Iterator[tuple[int, int]]:
        """Iterate over the positions of the output's samples, row by row."""
        rows, columns = self.output_size
        return product(range(rows), range(columns))

    def position_words(self, row: int, column: int) -> str:
        """Return a sample's position in words: row and column, or a number along a single axis."""
        if len(self.axes) == 1:
            return self.say("sample {column}", column=column)
        return self.say("row {row}, column {column}", row=row, column=column)

    def title(self) -> str:
        """Return the title: the operation with its sizes and settings."""
        settings = by_axis(self.say, self.names, (settings_words(self.say, axis) for axis in self.axes))
        sizes = {"before": size_words(self.input_size), "after": size_words(self.output_size)}
        if len(self.axes) == 2:  # also where there is one row: both lengths count
            sizes = {"before": " × ".join(map(str, self.input_size)), "after": " × ".join(map(str, self.output_size))}
        return self.say("Transposed convolution, {before} to {after}: {settings}", **sizes, settings=settings)

    def agree(self, shown: Tensor, true: Tensor, passes: int = 1) -> None:
        """Compare what a view shows with what the operation gives; `passes` is how often values went through the kernel.

        A difference beyond rounding is a bug in unconv, and the picture is not drawn.
        """
        reach = float(self.filters.detach().double().abs().sum()) ** passes
        # No sum of products is larger than this, so rounding errors are relative to it.
        scale = float(self.input.detach().double().abs().max()) * reach
        if not bool(((shown - true).abs() <= 64 * torch.finfo(self.input.dtype).eps * scale).all()):
            raise AssertionError(f"explain: the view {self.view!r} shows {shown}, but the operation gives {true}")


def _sources(axis: Axis, position: int, n: int, size: int) -> list[tuple[int, int]]:
    """Return, along one axis, the input samples that reach a position of the output, each with its kernel entry."""
    target = position + axis.pads(size)[0]
    sources = []
    for tap in reversed(range(axis.kernel)):
        sample, rest = divmod(target - tap * axis.dilation, axis.stride)
        if rest == 0 and 0 <= sample < n:
            sources.append((sample, tap))
    return sources
