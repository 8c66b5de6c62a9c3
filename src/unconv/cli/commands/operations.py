"""Commands on operations: explain a transposed convolution or an unpooling, list the sizes it can have."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.parsing import read_grid, read_lengths, read_paddings, read_place
from unconv.cli.progress import print_table

if TYPE_CHECKING:
    from unconv.explain.explanation import Illustration

GROUP = Group("Operations", 3)


@GROUP.command
def explain(
    operation: Annotated[
        str,
        typer.Argument(
            help="conv2d_transpose; or a pool and its way back, unpool_max or unpool_avg.",
            autocompletion=one_of(["conv2d_transpose", "unpool_max", "unpool_avg"]),
        ),
    ] = "conv2d_transpose",
    input: Annotated[
        str | None,
        typer.Option(help="A size, to be filled with 1, 2, 3..; or rows of values: 1,2;3,4. By default 2x2; for a pool 4x4."),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(help="A size, 3 or 3x3, or rows of values; for a pool, the window's size. By default 3; for a pool 2."),
    ] = None,
    stride: Annotated[str, typer.Option(help="A number, or height x width: 2x1.")] = "2",
    padding: Annotated[
        str, typer.Option(help="SAME, VALID, or before,after: 1,1, or a pair for height and one for width: 1,1;0,2.")
    ] = "SAME",
    output: Annotated[
        str | None, typer.Option(help="The output's size, 4 or 4x5. By default input x stride under SAME, else the smallest.")
    ] = None,
    dilation: Annotated[str | None, typer.Option(help="A number, or height x width; by default 1. Not for a pool.")] = None,
    duplicates: Annotated[
        str | None, typer.Option(help="Where a pool's windows overlap: sum, the default, overwrite, or, for averages, mean.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="The sample of the output, or the window, to look at: row,column.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write NAME.png, .svg, .gif, .html or .txt.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show step by step why a transposed convolution or an unpooling gives what it gives."""
    if operation == "conv2d_transpose":
        _refuse_given(operation, {"--duplicates": duplicates})
        explanation = _explained_conv(input or "2x2", kernel or "3", stride, padding, output, dilation or "1")
    elif operation in ("unpool_max", "unpool_avg"):
        _refuse_given(operation, {"--output": output, "--dilation": dilation})
        explanation = _explained_pool(operation, input or "4x4", kernel or "2", stride, padding, duplicates or "sum")
    else:
        raise typer.BadParameter(f"{operation!r} cannot be explained; conv2d_transpose, unpool_max and unpool_avg can.")
    place = None if at is None else read_place(at)
    if out is not None:
        did = "replaced" if os.path.lexists(out) else "wrote"
        explanation.save(out, place)
        if not (as_json and quiet):
            print(f"{did} {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(explanation.numbers(), indent=1))
    elif out is None:
        print(explanation.text(place))


@GROUP.command
def size(
    input: Annotated[str, typer.Option(help="The input's size: 28x28, or 28 for one axis.")],
    kernel: Annotated[str, typer.Option(help="The kernel's size: 3, or 3x5.")],
    stride: Annotated[str, typer.Option(help="A number, or one for each axis: 2x1.")] = "1",
    padding: Annotated[str, typer.Option(help="SAME, VALID, or before,after: 1,1, or a pair for each axis: 1,1;0,2.")] = "SAME",
    dilation: Annotated[str, typer.Option(help="A number, or one for each axis.")] = "1",
    as_json: AsJson = False,
) -> None:
    """List the sizes that a transposed convolution can have, and what torch, Keras and ONNX call each."""
    from dataclasses import asdict

    from unconv.ops import output_sizes

    lengths = read_lengths("--input", input)
    settings = (read_lengths("--stride", stride), read_paddings(padding, len(lengths)), read_lengths("--dilation", dilation))
    found = output_sizes(lengths, read_lengths("--kernel", kernel), *settings)
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    rows = []
    for row in found:
        keras = "cannot" if row.keras is None else f"{row.keras[0]}, {row.keras[1]}"
        first, end = row.torch_crop
        (before, after), onnx = row.padding, f"{row.onnx[0]} + {row.onnx[1]}, {row.onnx[2]}"
        numbers = (row.axis, str(row.input), str(row.output), f"{before} + {after}", str(row.residual))
        rows.append((*numbers, f"{row.torch[0]}, {row.torch[1]}", f"{first}:{end}", keras, onnx))
    print_table(("axis", "in", "out", "padding", "r", "torch", "keep", "Keras", "ONNX"), rows)
    print(
        "padding: of the forward convolution, before + after. r: zeros that only the larger sizes need.\n"
        "torch, Keras: padding, output_padding; of torch's result keep the samples first:end. ONNX: pads, output_padding.\n"
        "Keras takes one output_padding for all axes: None, or a number for each; they cannot be mixed."
    )


def _refuse_given(operation: str, options: dict[str, str | None]) -> None:
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{option} means nothing to {operation}. Leave it out.")


def _explained_conv(input: str, kernel: str, stride: str, padding: str, output: str | None, dilation: str) -> Illustration:
    from unconv import ops

    image, filters = read_grid("--input", input)[None, :, :, None], read_grid("--kernel", kernel)[:, :, None, None]
    settings = (read_lengths("--stride", stride), read_paddings(padding, 2), read_lengths("--dilation", dilation))
    if output is None:
        legal = ops.legal_output_sizes(tuple(image.shape[1:3]), tuple(filters.shape[:2]), *settings)
        size = tuple((sizes[-1] if settings[1] == "SAME" else sizes[0]) if sizes else 0 for sizes in legal)
    else:
        size = read_lengths("--output", output)
        if len(size) > 2:
            raise typer.BadParameter(f"--output {output!r}: write a height and a width: 4x5.")
    strides, pads, dilations = settings
    return ops.explain_conv2d_transpose(image, filters, (1, *size * (3 - len(size)), 1), strides, pads, dilations=dilations)


def _explained_pool(operation: str, input: str, kernel: str, stride: str, padding: str, duplicates: str) -> Illustration:
    from unconv import ops

    told = ops.explain_unpool_max if operation == "unpool_max" else ops.explain_unpool_avg
    image = read_grid("--input", input)[None, :, :, None]
    return told(
        image, read_lengths("--kernel", kernel), read_lengths("--stride", stride), read_paddings(padding, 2), duplicates
    )
