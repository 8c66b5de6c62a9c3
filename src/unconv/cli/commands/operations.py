"""Commands on operations: explain a transposed convolution or an unpooling, list the sizes it can have."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from unconv.cli.explaining import OPERATIONS, Choice, exercise_help, explained, language_of, place_of, view_help
from unconv.cli.groups import Group
from unconv.cli.options import AsJson, Quiet, one_of
from unconv.cli.parsing import read_lengths, read_paddings
from unconv.cli.progress import print_table, show_progress
from unconv.explain.choices import EXERCISES, VIEW_WORDS

GROUP = Group("Operations", 3)


@GROUP.command
def explain(
    operation: Annotated[
        str,
        typer.Argument(
            help="conv2d_transpose or conv1d_transpose; a pool and its way back, unpool_max or unpool_avg; or a classic "
            f"exercise: {exercise_help()}. Options change what an exercise is given.",
            autocompletion=one_of([*OPERATIONS, *EXERCISES]),
        ),
    ] = "conv2d_transpose",
    input: Annotated[
        str | None,
        typer.Option(
            help="A size, 2x2, or 2x2x3 with channels, to be filled with 1, 2, 3..; or rows of values: 1,2;3,4. By default "
            "2x2; along one axis 3; for a pool 4x4."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(help="A size, 3 or 3x3, or rows of values; for a pool, the window's size. By default 3; for a pool 2."),
    ] = None,
    stride: Annotated[str | None, typer.Option(help="A number, or height x width: 2x1. By default 2.")] = None,
    padding: Annotated[
        str | None,
        typer.Option(help="SAME, the default, VALID, or before,after: 1,1, or a pair for height and one for width: 1,1;0,2."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The output's size, 4 or 4x5. By default input x stride under SAME, else the smallest.")
    ] = None,
    dilation: Annotated[str | None, typer.Option(help="A number, or height x width; by default 1. Not for a pool.")] = None,
    duplicates: Annotated[
        str | None, typer.Option(help="Where a pool's windows overlap: sum, the default, overwrite, or, for averages, mean.")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help=f"What is shown of a transposed convolution: {view_help()}. By default steps.",
            autocompletion=one_of(VIEW_WORDS),
        ),
    ] = None,
    language: Annotated[
        str, typer.Option(help="The language of the words: en, or zh, Chinese.", autocompletion=one_of(["en", "zh"]))
    ] = "en",
    at: Annotated[
        str | None,
        typer.Option(help="The sample of the output, or of the input, or the window, to look at: row,column, or a number."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write NAME.png, .svg, .gif, .webp, .apng, .html or .txt.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show step by step why a transposed convolution or an unpooling gives what it gives."""
    choice = Choice(input, kernel, stride, padding, output, dilation, duplicates, view)
    explanation = explained(operation, choice).in_language(language_of(language))
    place = None if at is None else place_of(at, explanation)
    if out is not None:
        did = "replaced" if os.path.lexists(out) else "wrote"
        with show_progress(quiet or as_json, "explaining") as progress:
            explanation.save(out, place, progress)
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
