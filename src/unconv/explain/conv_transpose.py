"""Explanations of transposed convolutions: their numbers, their views, and the functions that return them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

from torch import Tensor
from torch.nn import functional as F

from unconv.errors import DtypeError, NoSuchUnit, counted
from unconv.explain.choices import Language, View
from unconv.explain.explanation import Illustration, refuse_not_finite
from unconv.explain.language import refuse_language
from unconv.explain.story import Story
from unconv.explain.transposed import Transposed
from unconv.explain.views.channels import channels_story
from unconv.explain.views.forward import forward_story
from unconv.explain.views.matrix import matrix_story
from unconv.explain.views.scatter import scatter_story
from unconv.explain.views.steps import steps_story
from unconv.kinds import checks_kinds
from unconv.ops.arguments import Layout, axes_of, floats, layout_of, refuse_large, shape_argument, transposed_size
from unconv.ops.conv import conv1d, conv2d, refuse_empty_filters
from unconv.ops.conv_transpose import conv1d_transpose, conv2d_transpose
from unconv.ops.spatial import cut


class _View(NamedTuple):
    """A view: its story, the samples that have a frame each, and whether a page begins with the first of them."""

    story: Callable[[Transposed], Story]
    grid: Callable[[Transposed], tuple[int, int]]
    begins: bool = False


def _outputs(explanation: Transposed) -> tuple[int, int]:
    return explanation.output_size


def _inputs(explanation: Transposed) -> tuple[int, int]:
    return explanation.input_size


VIEWS: dict[View, _View] = {
    "steps": _View(steps_story, _outputs),
    "scatter": _View(scatter_story, _inputs, True),
    "matrix": _View(matrix_story, _outputs),
    "forward": _View(forward_story, _inputs),
    "channels": _View(channels_story, _outputs),
}


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Transposed, Illustration):
    """A transposed convolution in four steps, each a tensor. It prints, draws and saves itself.

    Args:
        input, filters: the operation's arguments.
        flipped_filters: step 1, [kernel height, kernel width, in, out]: rotated by 180 degrees, channels swapped.
        zero_inserted: step 2, stride - 1 zeros between the samples of the input; in the input's layout, as are `padded` and
            `output`.
        padded: step 3, zeros around the result of step 2; samples are cut off where `transposed_padding` is negative.
        output: step 4, the convolution of `padded` with `flipped_filters`, stride 1, no padding.
        axes: how the kernel lies along height and width, or along the single axis.
        layout: the order of the axes.
        shown: the image, input channel and output channel that pictures show; see `select`.
        view: the view that pictures show; see `as_view`.
        language: the language of the words; see `in_language`.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the samples that have a frame each: the output's or, in some views, the input's."""
        return VIEWS[self.view].grid(self)

    @property
    def start(self) -> tuple[int, int]:
        """The first output sample that receives the most values; where input samples have the frames, the last one."""
        rows, columns = self.grid
        if VIEWS[self.view].grid is _inputs:
            return rows - 1, columns - 1
        row, column = divmod(int(self.hits.argmax()), columns)
        return row, column

    @property
    def opening(self) -> tuple[int, int]:
        """The sample (row, column) that a page begins with."""
        return (0, 0) if VIEWS[self.view].begins else self.start

    @checks_kinds
    def select(self, image: int = 0, input_channel: int = 0, output_channel: int = 0) -> Explanation:
        """Return the same explanation, with pictures of other channels, or of another image of the batch."""
        shown = (image, input_channel, output_channel)
        sides = (self.input.shape[0], *self.filters.shape[:-3:-1])
        for name, index, n in zip(("image", "input_channel", "output_channel"), shown, sides, strict=True):
            if not 0 <= index < n:
                count, last = counted(n, name.replace("_", " ")), "" if n == 1 else f" to {n - 1}"
                raise NoSuchUnit(f"select: {name} is {index}, but the explanation has {count}. Pass 0{last}.")
        return replace(self, shown=shown)

    def as_view(self, view: View) -> Explanation:
        """Return the same explanation in another view: "steps", "scatter", "matrix", "forward" or "channels"."""
        _refuse_view("as_view", view)
        return replace(self, view=view)

    def numbers(self) -> dict[str, Any]:
        """Return the steps as nested lists, and all settings, ready for JSON."""
        steps = ("input", "filters", "flipped_filters", "zero_inserted", "padded", "output", "hits")
        settings = ("forward_padding", "transposed_padding", "residual", "checkerboard")
        return {
            **{step: getattr(self, step).tolist() for step in steps},
            **{setting: getattr(self, setting) for setting in settings},
            "legal_output_sizes": [list(sizes) for sizes in self.legal_output_sizes],
        }

    def story(self) -> Story:
        """Return the view's story, with a frame for each of its samples."""
        return VIEWS[self.view].story(self)


def explain_conv2d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    view: View = "steps",
    language: Language = "en",
) -> Explanation:
    """Return `conv2d_transpose` of the same arguments, taken apart into four steps.

    `conv2d_transpose` does not compute its result this way: most of these products contain an inserted zero.

    Args:
        input, filters, output_shape, strides, padding, data_format, dilations: as for `conv2d_transpose`.
        view: what pictures show. "steps": the four steps; "scatter": each input sample stamps its kernel into the output;
            "matrix": the convolution's matrix and its transpose; "forward": the convolution next to it; "channels": the
            sum over input channels.
        language: the language of the words, "en" or "zh".

    Raises:
        ShapeError, DtypeError: as `conv2d_transpose`.
        NonFinite: NaN or infinity, since no picture could show where they come from.

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
    layout = layout_of("explain_conv2d_transpose", data_format, 2)
    settings = (output_shape, strides, padding, dilations)
    return _explain("explain_conv2d_transpose", layout, input, filters, settings, view, language)


def explain_conv1d_transpose(
    input: Tensor,
    filters: Tensor,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    view: View = "steps",
    language: Language = "en",
) -> Explanation:
    """Return `conv1d_transpose` of the same arguments, taken apart into four steps; otherwise as `explain_conv2d_transpose`.

    Samples are named by a single number, also in `text(at=3)`.

    Example:
        >>> row, kernel = torch.tensor([1., 2., 3.]).reshape(1, 3, 1), torch.tensor([1., 10., 100.]).reshape(3, 1, 1)
        >>> explain_conv1d_transpose(row, kernel, (1, 6, 1), strides=2).output.flatten().tolist()
        [1.0, 10.0, 102.0, 20.0, 203.0, 30.0]
    """
    layout = layout_of("explain_conv1d_transpose", data_format, 1)
    settings = (output_shape, strides, padding, dilations)
    return _explain("explain_conv1d_transpose", layout, input, filters, settings, view, language)


def _explain(
    where: str, layout: Layout, input: Tensor, filters: Tensor, settings: Sequence[Any], view: View, language: Language
) -> Explanation:
    output_shape, strides, padding, dilations = settings
    floats(where, layout, input=input, filters=filters)
    refuse_empty_filters(where, filters)
    refuse_not_finite(where, input=input, filters=filters)
    refuse_language(where, language)
    _refuse_view(where, view)
    axes = axes_of(where, layout, filters.shape[:-2], strides, padding, dilations)
    shape = shape_argument(where, "output_shape", output_shape, layout)
    size = transposed_size(where, layout, axes, input.shape, filters.shape, shape)
    planes = layout.channels_first(input)
    flipped = filters.flip(*range(layout.axes)).transpose(-1, -2)
    # Step 2 inserts zeros between samples and none after the last one: those belong to the padding of step 3, because their
    # number depends on the output's size.
    pads = [axis.transposed_pads(n) for axis, n in zip(axes, size, strict=True)]
    spans = [(n - 1) * axis.stride + 1 for n, axis in zip(planes.shape[2:], axes, strict=True)]
    refuse_large(where, planes, [max(n, n + sum(pad)) for n, pad in zip(spans, pads, strict=True)])
    inserted = planes.new_zeros(*planes.shape[:2], *(max(n, 0) for n in spans))
    inserted[(slice(None), slice(None), *(slice(None, None, axis.stride) for axis in axes))] = planes
    padded = F.pad(inserted, [max(edge, 0) for pad in reversed(pads) for edge in pad])
    crops = [(max(-before, 0), max(-after, 0)) for before, after in pads]
    lengths = [n - sum(crop) for n, crop in zip(padded.shape[2:], crops, strict=True)]
    padded = cut(padded, [before for before, _ in crops], lengths)
    zero_inserted, padded = layout.back(inserted), layout.back(padded)
    is_1d = layout.axes == 1
    output = (conv1d if is_1d else conv2d)(padded, flipped, 1, "VALID", layout.name, [axis.dilation for axis in axes])
    refuse_not_finite(where, output=output)
    steps = (input, filters, flipped, zero_inserted, padded, output, axes, layout)
    explanation = Explanation(*steps, view=view, language=language)
    operation = conv1d_transpose if is_1d else conv2d_transpose
    # The four steps must give what the operation gives; a difference would be a fault here, and is not drawn.
    if output.numel():
        explanation.agree(output, operation(input, filters, shape, strides, padding, layout.name, dilations))
    return explanation


def _refuse_view(where: str, view: object) -> None:
    if view not in get_args(View):
        raise DtypeError(f"{where}: view is {view!r}, but one of {', '.join(map(repr, VIEWS))} was needed. Pass one of these.")
