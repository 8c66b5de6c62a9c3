"""A transposed convolution in four steps, as tensors and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unconv.axis import Axis
from unconv.errors import NoSuchUnit
from unconv.explain.explanation import Illustration, before_and_after, by_axis, cells, product_words, refuse_not_finite, uniform
from unconv.explain.story import Frame, Frames, Panel, Story, cell
from unconv.kinds import checks_kinds
from unconv.ops.arguments import (
    Layout,
    axes_of,
    axis_words,
    floats,
    layout_of,
    listed,
    refuse_large,
    shape_argument,
    transposed_size,
)
from unconv.ops.conv import conv2d, refuse_empty_filters
from unconv.ops.spatial import cut

_NAMES = ("height", "width")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Illustration):
    """A transposed convolution in four steps, each a tensor. It prints, draws and saves itself.

    Args:
        input, filters: as given.
        flipped_filters: step 1, [kernel height, kernel width, in, out]: turned by 180 degrees, channels swapped.
        zero_inserted: step 2: stride - 1 zeros between the samples of the input; in its layout, as are
            `padded` and `output`.
        padded: step 3: zeros around that; samples cut off where `transposed_padding` is negative.
        output: step 4: the convolution of `padded` with `flipped_filters`, stride 1, no padding.
        axes: how the kernel lies along height and width.
        layout: the order of the axes.
        shown: the image, input channel and output channel that pictures show; see `select`.
    """

    input: Tensor
    filters: Tensor
    flipped_filters: Tensor
    zero_inserted: Tensor
    padded: Tensor
    output: Tensor
    axes: tuple[Axis, ...]
    layout: Layout
    shown: tuple[int, int, int] = (0, 0, 0)

    @property
    def forward_padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)) of height and width, of the convolution that this is the adjoint of.

        Under SAME it is computed from the output's size.
        """
        return tuple(axis.pads(n) for axis, n in zip(self.axes, self.places, strict=True))

    @property
    def transposed_padding(self) -> tuple[tuple[int, int], ...]:
        """((before, after), (before, after)) of step 3: kernel - 1 - forward padding, and `residual` more after."""
        return tuple(axis.transposed_pads(n) for axis, n in zip(self.axes, self.places, strict=True))

    @property
    def residual(self) -> tuple[int, ...]:
        """r of height and width: the zeros after all others, which tell the legal output sizes apart."""
        return tuple(axis.rest(n) for axis, n in zip(self.axes, self.places, strict=True))

    @property
    def legal_output_sizes(self) -> tuple[range, ...]:
        """Every size that height and width of the output may have."""
        return tuple(axis.legal(n) for axis, n in zip(self.axes, self.layout.size(self.input.shape), strict=True))

    @property
    def hits(self) -> Tensor:
        """(H, W) int64: how many samples of the input reach each sample of the output."""
        counts = []
        for axis, n, size in zip(self.axes, self.layout.size(self.input.shape), self.places, strict=True):
            count = torch.zeros(size, dtype=torch.int64)
            for i, tap in product(range(n), range(axis.kernel)):
                place = i * axis.stride + tap * axis.dilation - axis.pads(size)[0]
                if 0 <= place < size:
                    count[place] += 1
            counts.append(count)
        return counts[0][:, None] * counts[1]

    @property
    def checkerboard(self) -> str | None:
        """Warn where neighbouring samples of the output are reached unevenly; None where all are reached alike."""
        # Away from the border, sample p of the output is reached by the taps t with t · dilation = p modulo the stride.
        turns = []
        for axis, n in zip(self.axes, self.layout.size(self.input.shape), strict=True):
            phases = [tap * axis.dilation % axis.stride for tap in range(axis.kernel)]
            turns.append([phases.count(phase) for phase in range(axis.stride)] if n > 1 else [1])  # one meets no other
        if all(len(set(taps)) == 1 for taps in turns):
            return None
        uneven = [axis for axis, taps in zip(self.axes, turns, strict=True) if len(set(taps)) > 1]
        words = by_axis(
            _NAMES, (f"by {_and(taps)} in turn" if len(set(taps)) > 1 else "evenly" for taps in turns), "along the "
        )
        shared = next((axis for axis in uneven if gcd(axis.stride, axis.dilation) > 1), None)
        remedy = (
            "a kernel that is a multiple of the stride reaches all alike"
            if shared is None
            else f"stride {shared.stride} and dilation {shared.dilation} have a common divisor, so no kernel reaches all alike"
        )
        return f"neighbouring samples are reached by different numbers of values, {words}; {remedy}"

    @property
    def places(self) -> tuple[int, int]:
        """(height, width) of the output."""
        height, width = self.layout.size(self.output.shape)
        return height, width

    @property
    def start(self) -> tuple[int, int]:
        """The first of the samples that most of the input reaches."""
        row, column = divmod(int(self.hits.argmax()), self.places[1])
        return row, column

    @checks_kinds
    def select(self, image: int = 0, input_channel: int = 0, output_channel: int = 0) -> Explanation:
        """The same explanation, with pictures of other channels, or of another image of the batch."""
        shown = (image, input_channel, output_channel)
        sides = (self.input.shape[0], *self.filters.shape[:1:-1])
        for name, index, n in zip(("image", "input_channel", "output_channel"), shown, sides, strict=True):
            if not 0 <= index < n:
                raise NoSuchUnit(f"select: {name} is {index}, but there are {n}. Pass 0 to {n - 1}.")
        return replace(self, shown=shown)

    def numbers(self) -> dict[str, Any]:
        """The steps as nested lists, and all settings, ready for JSON."""
        steps = ("input", "filters", "flipped_filters", "zero_inserted", "padded", "output", "hits")
        settings = ("forward_padding", "transposed_padding", "residual", "checkerboard")
        return {
            **{step: getattr(self, step).tolist() for step in steps},
            **{setting: getattr(self, setting) for setting in settings},
            "legal_output_sizes": [list(sizes) for sizes in self.legal_output_sizes],
        }

    def story(self) -> Story:
        """The four steps and a frame for each sample of the output."""
        image, inside, out = self.shown
        input, zero_inserted, padded = (
            self._plane(tensor, image, inside) for tensor in (self.input, self.zero_inserted, self.padded)
        )
        output = self._plane(self.output, image, out)
        kernel = self.filters[:, :, out, inside].detach().double().cpu()
        inserted, around = self._inserted_kinds(), self._padded_kinds()
        panels = [
            Panel(f"Input, {_size(input)}{self._channel(-1, inside)}", cells(input), uniform(input, "value")),
            Panel(f"Kernel, {_size(kernel)}", cells(kernel), uniform(kernel, "kernel")),
            Panel("1. Flip the kernel", cells(kernel.flip(0, 1)), uniform(kernel, "kernel")),
            Panel(f"2. Insert zeros, {_size(zero_inserted)}", cells(zero_inserted), inserted, self._gaps()),
            Panel(f"3. Pad, {_size(padded)}", cells(padded), around, self._pads()),
            Panel(
                f"4. Convolve, {_size(output)}{self._channel(-2, out)}",
                cells(output),
                uniform(output, "output"),
                "stride 1, no padding",
                (0, 0),
            ),
            Panel("Input samples that reach it", cells(self.hits), uniform(self.hits, "count"), "", (0, 0)),
        ]
        flipped, (rows, columns) = kernel.flip(0, 1), self.places
        frames = Frames(rows * columns, lambda n: self._frame(*divmod(n, columns), padded, flipped, output, around))
        return Story(self.title(), panels, frames, self._facts(), cards_at=5, breaks=True)

    def _plane(self, tensor: Tensor, image: int, channel: int) -> Tensor:
        return self.layout.channels_first(tensor)[image, channel].detach().double().cpu()

    def title(self) -> str:
        """The sizes and settings."""
        sizes = " to ".join(" × ".join(map(str, self.layout.size(tensor.shape))) for tensor in (self.input, self.output))
        return f"Transposed convolution, {sizes}: {by_axis(_NAMES, map(axis_words, self.axes))}"

    def _channel(self, axis: int, shown: int) -> str:
        """Which channel a panel shows, where there are several."""
        return f", channel {shown} of {self.filters.shape[axis]}" if self.filters.shape[axis] > 1 else ""

    def _gaps(self) -> str:
        return by_axis(_NAMES, (f"{axis.stride - 1} between" for axis in self.axes))

    def _pads(self) -> str:
        pads = zip(self.transposed_padding, self.residual, strict=True)
        return by_axis(
            _NAMES, (f"{_crop(before)} before, {_crop(after)} after{f' (r = {r})' if r else ''}" for (before, after), r in pads)
        )

    def _inserted_kinds(self) -> list[list[str]]:
        """The kinds of the cells of step 2: a value, an inserted zero, or a sample that step 3 cuts off."""
        rows, columns = self.layout.size(self.zero_inserted.shape)
        keeps = [
            range(max(-before, 0), n - max(-after, 0))
            for n, (before, after) in zip((rows, columns), self.transposed_padding, strict=True)
        ]
        high, wide = (axis.stride for axis in self.axes)

        def kind(row: int, column: int) -> str:
            if row not in keeps[0] or column not in keeps[1]:
                return "cropped"
            return "inserted" if row % high or column % wide else "value"

        return [[kind(row, column) for column in range(columns)] for row in range(rows)]

    def _padded_kinds(self) -> list[list[str]]:
        """The kinds of the cells of step 3: as in step 2, or padding."""
        inside = self._inserted_kinds()
        (top, _), (left, _) = self.transposed_padding
        rows, columns = self.layout.size(self.padded.shape)
        rests = [min(r, max(after, 0)) for r, (_, after) in zip(self.residual, self.transposed_padding, strict=True)]

        def kind(row: int, column: int) -> str:
            if row >= rows - rests[0] or column >= columns - rests[1]:
                return "rest"
            y, x = row - top, column - left
            return inside[y][x] if 0 <= y < len(inside) and 0 <= x < len(inside[0]) else "padding"

        return [[kind(row, column) for column in range(columns)] for row in range(rows)]

    def _frame(self, row: int, column: int, padded: Tensor, kernel: Tensor, output: Tensor, kinds: list[list[str]]) -> Frame:
        """Show the window of step 4 that makes one sample of the output."""
        high, wide = (axis.dilation for axis in self.axes)
        at = [[(row + y * high, column + x * wide) for x in range(kernel.shape[1])] for y in range(len(kernel))]
        window = torch.tensor([[padded[place].item() for place in line] for line in at], dtype=torch.float64)
        found = [[kinds[y][x] for y, x in line] for line in at]
        # A dilated window has gaps: its cells are marked one by one.
        marks = [(4, row, column, *kernel.shape)] if high == wide == 1 else [(4, *place, 1, 1) for line in at for place in line]
        products = window * kernel
        cards = [
            Panel("Window", cells(window), found),
            Panel("Flipped kernel", cells(kernel), uniform(kernel, "kernel")),
            Panel("Products", cells(products), [["output" if k == "value" else k for k in line] for line in found]),
        ]
        factors = [
            (window[y, x].item(), kernel[y, x].item())
            for y, x in product(range(len(kernel)), range(kernel.shape[1]))
            if found[y][x] == "value"
        ]
        return Frame(
            [*marks, (6, row, column, 1, 1), (5, row, column, 1, 1)],
            cards,
            ["", "×", "="],
            self._caption(row, column, factors, output),
        )

    def _caption(self, row: int, column: int, factors: list[tuple[float, float]], output: Tensor) -> str:
        """Write out the sum that makes one sample, as far as it comes from the channel that is shown."""
        whole, place = output[row, column].item(), f"Output at row {row}, column {column}"
        part = sum(a * b for a, b in factors)
        channels = self.filters.shape[-1]
        words = product_words(factors) if factors else "0: only zeros lie under the kernel"
        if channels == 1:
            return f"{place}: {words}{f' = {cell(whole)}' if factors else ''}."
        others = f"the other input channel{'s add' if channels > 2 else ' adds'} {cell(whole - part)}"
        mine = f"{words}{f' = {cell(part)}' if factors else ''} from input channel {self.shown[1]}"
        return f"{place}: {mine}; {others}: {cell(whole)}."

    def _facts(self) -> list[tuple[str, str]]:
        span = "kernel − 1" if all(axis.dilation == 1 for axis in self.axes) else "(kernel − 1) · dilation"
        more = ", and r more after" if any(self.residual) else ""
        return [
            ("Possible output sizes", by_axis(_NAMES, map(listed, self.legal_output_sizes))),
            ("Padding of the forward convolution", before_and_after(_NAMES, self.forward_padding)),
            ("Padding in step 3", f"{self._pads()}: {span} less the forward convolution's{more}"),
            ("Checkerboard", self.checkerboard or "no: every sample away from the border is reached alike"),
            ("Note", "the shape comes back, not the values: this is the adjoint of the convolution, not its inverse"),
        ]


def explain_conv2d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
) -> Explanation:
    """Take `conv2d_transpose` with the same arguments apart into four steps.

    It is not how the result is computed: most of these products have an inserted zero in them.

    Args:
        As for `conv2d_transpose`.

    Raises:
        ShapeError, DtypeError: as `conv2d_transpose`.
        NonFinite: NaN or infinity; no picture could show where they come from.

    Source:
        Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016), arXiv 1603.07285, chapter 4.

    Example:
        >>> image, kernel = torch.ones(1, 2, 2, 1), torch.tensor([[1., 0.], [-1., -2.]]).reshape(2, 2, 1, 1)
        >>> explanation = explain_conv2d_transpose(image, kernel, (1, 4, 4, 1), strides=2)
        >>> explanation.transposed_padding, explanation.residual, explanation.checkerboard
        (((1, 1), (1, 1)), (0, 0), None)
        >>> explanation.output[0, :, :, 0].tolist()
        [[1.0, 0.0, 1.0, 0.0], [-1.0, -2.0, -1.0, -2.0], [1.0, 0.0, 1.0, 0.0], [-1.0, -2.0, -1.0, -2.0]]
    """
    where = "explain_conv2d_transpose"
    layout = layout_of(where, data_format, 2)
    floats(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    refuse_not_finite(where, input=input, filters=filters)
    axes = axes_of(where, layout, filters.shape[:2], strides, padding, dilations)
    shape = shape_argument(where, "output_shape", output_shape, layout)
    size = transposed_size(where, layout, axes, input.shape, filters.shape, shape)
    planes = layout.channels_first(input)
    flipped = filters.flip(0, 1).transpose(-1, -2)
    # Zeros between the samples, none after the last: what comes after is padding, and depends on the output's size.
    pads = [axis.transposed_pads(n) for axis, n in zip(axes, size, strict=True)]
    lengths = [(n - 1) * axis.stride + 1 for n, axis in zip(planes.shape[2:], axes, strict=True)]
    refuse_large(where, planes, [max(n, n + sum(pad)) for n, pad in zip(lengths, pads, strict=True)])
    spread = planes.new_zeros(
        *planes.shape[:2], *(max((n - 1) * a.stride + 1, 0) for n, a in zip(planes.shape[2:], axes, strict=True))
    )
    spread[..., :: axes[0].stride, :: axes[1].stride] = planes
    padded = F.pad(spread, [max(edge, 0) for pad in reversed(pads) for edge in pad])
    crops = [(max(-before, 0), max(-after, 0)) for before, after in pads]
    lengths = [n - sum(crop) for n, crop in zip(padded.shape[2:], crops, strict=True)]
    padded = cut(padded, [before for before, _ in crops], lengths)
    zero_inserted, padded = layout.back(spread), layout.back(padded)
    output = conv2d(padded, flipped, 1, "VALID", data_format, [axis.dilation for axis in axes])
    refuse_not_finite(where, output=output)
    return Explanation(input, filters, flipped, zero_inserted, padded, output, axes, layout)


def _size(plane: Tensor) -> str:
    return " × ".join(map(str, plane.shape))


def _crop(pad: int) -> str:
    """A padding below zero is a crop."""
    return f"{pad}" if pad >= 0 else f"crop {-pad}"


def _and(counts: Sequence[int]) -> str:
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
