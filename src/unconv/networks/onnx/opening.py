"""Opening an ONNX file: read as data, run by functions of ours."""

from __future__ import annotations

from pathlib import Path

from unconv.errors import WeightsError
from unconv.networks.onnx.image import ImageInput, image_input
from unconv.networks.onnx.planning import Misfit, Plan, plan, refusal
from unconv.networks.onnx.reading import OnnxFile, damaged, read_onnx
from unconv.networks.opened import Opened


def open_onnx(file: str, weights: str | None) -> Opened:
    """The model in an ONNX file, with the weights in it; data kept in files beside it is read too. No code runs.

    A place is called what its node is called, or its first output if it has no name, without a slash before it, and
    with `_` for each dot. An image of channels last (NHWC), which a last axis of 1 or 3 samples tells, is turned within
    the module: it takes (1, C, H, W) all the same. An axis that the file leaves open takes 224 samples; where the graph
    cannot be run at that, the first of the usual lengths at which it can.

    Raises:
        WeightsError: there is no such file, it is damaged, or other weights were asked for.
        ModelError: it takes no single image, or cannot be run.
        UnconvError: it holds an operator that unconv does not run.
    """
    if weights is not None:
        raise WeightsError(f"load: weights {weights!r} came with onnx:{file}; an ONNX file holds its own. Pass none.")
    path = Path(file)
    try:
        read = read_onnx(path)
        image = image_input(read)
        found, shape = _planned(read, image)
    except UnicodeDecodeError as error:  # a name that is no text shows only when it is looked at
        raise damaged(path, error) from error
    module = found.module(image, read.outputs)
    size = (shape[-1], *shape[1:-1]) if image.channels_last else shape[1:]
    return Opened(module.eval(), f"onnx:{path.name}", "those in the file", None, size)


def _planned(file: OnnxFile, image: ImageInput) -> tuple[Plan, tuple[int, ...]]:
    """The plan for the first shape that goes through the graph, and the shape."""
    first: tuple[tuple[int, ...], Misfit] | None = None
    for shape in image.shapes():
        try:
            return plan(file, image, shape), shape
        except Misfit as misfit:
            first = first or (shape, misfit)
    assert first is not None
    raise refusal(file, image, *first)
