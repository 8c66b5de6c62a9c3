"""Opening an ONNX file: read as data, run by unconv's own functions."""

from __future__ import annotations

from pathlib import Path

from unconv.errors import WeightsError
from unconv.networks.onnx.image import ImageInput, image_input
from unconv.networks.onnx.planning import Misfit, Plan, plan, refusal
from unconv.networks.onnx.reading import OnnxFile, damaged, read_onnx
from unconv.networks.opened import Opened


def open_onnx(file: str, weights: str | None) -> Opened:
    """Open the model in an ONNX file with its weights, also those in data files beside it. No code in it runs.

    A place has the name of its node, or of the node's first output if it has none, without a leading slash and with `_`
    for each dot. A model with channels last (NHWC), recognised by a last axis of 1 or 3, still takes (1, C, H, W): the
    image is permuted within the module. An axis that the file leaves open gets 224 samples, or, if the graph cannot run
    at that, the first of the usual lengths at which it can.

    Raises:
        WeightsError: there is no such file, it is damaged, or weights were passed.
        ModelError: it does not take a single image, or cannot be run.
        UnconvError: it has an operator that unconv does not run.
    """
    if weights is not None:
        raise WeightsError(f"load: weights {weights!r} came with onnx:{file}, but an ONNX file has its own. Pass none.")
    path = Path(file)
    try:
        onnx_file = read_onnx(path)
        image = image_input(onnx_file)
        graph_plan, shape = _first_plan(onnx_file, image)
    except UnicodeDecodeError as error:  # protobuf decodes a name only when it is accessed
        raise damaged(path, error) from error
    module = graph_plan.module(image, onnx_file.outputs)
    size = (shape[-1], *shape[1:-1]) if image.channels_last else shape[1:]
    return Opened(module.eval(), f"onnx:{path.name}", "those in the file", None, size)


def _first_plan(file: OnnxFile, image: ImageInput) -> tuple[Plan, tuple[int, ...]]:
    """Return the plan for the first shape at which the graph runs, and that shape."""
    first: tuple[tuple[int, ...], Misfit] | None = None
    for shape in image.shapes():
        try:
            return plan(file, image, shape), shape
        except Misfit as misfit:
            first = first or (shape, misfit)
    assert first is not None
    raise refusal(file, image, *first)
