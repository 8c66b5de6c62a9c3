"""Commands on operations: explain a transposed convolution or an unpooling, list possible output sizes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from unconv.cli.explaining import OPERATIONS, Choice, exercise_help, explained, language_of, position_of, view_help
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
            help="conv2d_transpose or conv1d_transpose; unpool_max or unpool_avg, a pool and its unpooling; or a classic "
            f"exercise: {exercise_help()}. Options replace an exercise's own values.",
            autocompletion=one_of([*OPERATIONS, *EXERCISES]),
        ),
    ] = "conv2d_transpose",
    input: Annotated[
        str | None,
        typer.Option(
            help="A size to fill with 1, 2, 3.., such as 2x2, or 2x2x3 with channels; or rows of values: 1,2;3,4. By default "
            "2x2, or 3 along one axis, or 4x4 for a pool."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(help="A size, 3 or 3x3, or rows of values; for a pool, the window's size. By default 3, or 2 for a pool."),
    ] = None,
    stride: Annotated[str | None, typer.Option(help="A number, or height x width: 2x1. By default 2.")] = None,
    padding: Annotated[
        str | None,
        typer.Option(help="SAME, the default, VALID, or before,after: 1,1, or a pair for height and one for width: 1,1;0,2."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="The output's size, 4 or 4x5. By default input x stride under SAME, otherwise the smallest possible."
        ),
    ] = None,
    dilation: Annotated[str | None, typer.Option(help="A number, or height x width; by default 1. Not for a pool.")] = None,
    duplicates: Annotated[
        str | None,
        typer.Option(help="What to do where a pool's windows overlap: sum, the default, overwrite or, for averages, mean."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help=f"How to show a transposed convolution: {view_help()}. By default steps.",
            autocompletion=one_of(VIEW_WORDS),
        ),
    ] = None,
    language: Annotated[
        str,
        typer.Option(help="The language of the words: en for English, zh for Chinese.", autocompletion=one_of(["en", "zh"])),
    ] = "en",
    at: Annotated[
        str | None,
        typer.Option(help="The position to show, in the output or, depending on the view, the input: row,column, or a number."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write NAME.png, .svg, .gif, .webp, .apng, .html or .txt.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show step by step how a transposed convolution or an unpooling computes its result."""
    choice = Choice(input, kernel, stride, padding, output, dilation, duplicates, view)
    explanation = explained(operation, choice).in_language(language_of(language))
    position = None if at is None else position_of(at, explanation)
    if out is not None:
        did = "replaced" if os.path.lexists(out) else "wrote"
        with show_progress(quiet or as_json, "explaining") as progress:
            explanation.save(out, position, progress)
        if not (as_json and quiet):
            print(f"{did} {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(explanation.numbers(), indent=1))
    elif out is None:
        print(explanation.text(position))


@GROUP.command
def size(
    input: Annotated[str, typer.Option(help="The input's size: 28x28, or 28 for one axis.")],
    kernel: Annotated[str, typer.Option(help="The kernel's size: 3, or 3x5.")],
    stride: Annotated[str, typer.Option(help="A number, or one for each axis: 2x1.")] = "1",
    padding: Annotated[str, typer.Option(help="SAME, VALID, or before,after: 1,1, or a pair for each axis: 1,1;0,2.")] = "SAME",
    dilation: Annotated[str, typer.Option(help="A number, or one for each axis.")] = "1",
    as_json: AsJson = False,
) -> None:
    """List the possible output sizes of a transposed convolution, with the settings for torch, Keras and ONNX."""
    from dataclasses import asdict

    from unconv.ops import output_sizes

    lengths = read_lengths("--input", input)
    settings = (read_lengths("--stride", stride), read_paddings(padding, len(lengths)), read_lengths("--dilation", dilation))
    sizes = output_sizes(lengths, read_lengths("--kernel", kernel), *settings)
    if as_json:
        print(json.dumps([asdict(row) for row in sizes], indent=1))
        return
    rows = []
    for row in sizes:
        keras = "cannot" if row.keras is None else f"{row.keras[0]}, {row.keras[1]}"
        first, end = row.torch_crop
        (before, after), onnx = row.padding, f"{row.onnx[0]} + {row.onnx[1]}, {row.onnx[2]}"
        numbers = (row.axis, str(row.input), str(row.output), f"{before} + {after}", str(row.residual))
        rows.append((*numbers, f"{row.torch[0]}, {row.torch[1]}", f"{first}:{end}", keras, onnx))
    print_table(("axis", "in", "out", "padding", "r", "torch", "keep", "Keras", "ONNX"), rows)
    print(
        "padding: that of the forward convolution, before + after. r: zeros that only the larger sizes need.\n"
        "torch, Keras: padding, output_padding. keep: the samples of torch's result to keep. ONNX: pads, output_padding.\n"
        "Keras takes one output_padding for all axes: None, or a number for each; the two cannot be mixed."
    )
