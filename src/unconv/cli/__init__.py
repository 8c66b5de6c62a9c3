"""The `unconv` command: arguments to one library call to print or write. torch loads only when work begins."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.cli.deblur import deblur
from unconv.cli.parsing import (
    read_channels,
    read_floats,
    read_grid,
    read_lengths,
    read_paddings,
    read_place,
    read_size,
    read_unit,
)
from unconv.errors import UnconvError

if TYPE_CHECKING:
    from unconv.explain.explanation import Telling
    from unconv.report import Progress
    from unconv.reverse.network import Network

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str,
    typer.Argument(
        help="unconv:caltech, torchvision:NAME (torchvision:vgg16), timm:NAME, keras:NAME, FILE.keras, onnx:FILE, "
        "or FILE.py:factory."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="A file .safetensors, .pth or .pt, for Keras .keras or .weights.h5; or DEFAULT, which downloads."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON, and nothing else on standard output.")]
At = Annotated[
    list[str] | None,
    typer.Option(help="A place from `unconv places`; may be repeated. Without: every convolution's rectified output."),
]
Channels = Annotated[str, typer.Option(help='"all", "top:9", or channels: 3 or 3,17,40.')]
Unit = Annotated[str, typer.Option(help='"strongest", "map", or a position: 6,7.')]
Method = Annotated[str, typer.Option(help="deconvnet, gradient, guided, desalinet or switch-centre.")]
Activations = Annotated[
    str, typer.Option(help="At rectifiers other than ReLU, of which the paper says nothing: rectify, gradient, pass or error.")
]
Dtype = Annotated[
    str | None,
    typer.Option(help="Of the way back: float32; bfloat16, two thirds of the time, with its error; float64; float16 on a GPU."),
]
Size = Annotated[str | None, typer.Option(help="Crop the picture to HEIGHTxWIDTH, or a square: 224.")]
Resize = Annotated[int | None, typer.Option(help="Scale the picture's short side to this before the crop.")]
Mean = Annotated[
    str | None, typer.Option(help="Subtracted per channel, comma separated; one value converts the picture to grey.")
]
Std = Annotated[str | None, typer.Option(help="Divided by per channel, comma separated.")]
Scale = Annotated[
    float | None, typer.Option(help="The value of a white pixel before mean and std: 1, or 255 for networks from Caffe.")
]
Bgr = Annotated[bool, typer.Option("--bgr", help="Channels in the order blue, green, red.")]


def _version(asked: bool) -> None:
    if asked:
        from unconv.version import __version__

        print(f"unconv {__version__}")
        raise typer.Exit


@app.callback()
def _command(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Run convolution backwards: see what the units of a trained network respond to."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")] = Path("unconv-demo"),
    as_json: AsJson = False,
) -> None:
    """Project three photographs with the network in the box: a page to look at, without a download."""
    from unconv import box, load
    from unconv.report import Request, reports

    pictures = [picture for picture in box.demo_pictures() if picture.stem != "astronaut"]
    with _stoppable(out), show_progress(as_json) as progress:
        numbers = reports(load("unconv:caltech"), pictures, out, Request(), progress)
    _finish(out, numbers, as_json)


@app.command()
def places(
    model: Model,
    weights: Weights = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """List the places of a network: what can be looked at, and how much of the picture its units see."""
    from dataclasses import asdict

    network = _network(model, weights, size)
    found = network.places()
    if as_json:
        print(json.dumps([asdict(place) for place in found], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    title = f"{network.name}, weights {network.weights}, input {' × '.join(map(str, network.input_size))}"
    table = Table("place", "operation", "channels", "map", "sees", "stride", title=title, title_justify="left")
    for place in found:
        lengths = (" × ".join(map(str, sizes)) for sizes in (place.size, place.receptive_field, place.stride))
        table.add_row(place.name, place.operation, str(place.channels), *lengths)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command()
def project(
    model: Model,
    image: Annotated[Path, typer.Argument(help="A picture.")],
    at: At = None,
    channels: Channels = "top:9",
    unit: Unit = "strongest",
    method: Method = "deconvnet",
    activations: Activations = "rectify",
    dtype: Dtype = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Say on each unit's page how far to trust it; some hundred runs a layer, up to it.")
    ] = False,
    weights: Weights = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")] = Path("unconv-out"),
    size: Size = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    bgr: Bgr = False,
    as_json: AsJson = False,
) -> None:
    """Show which structure of one picture drives the units of a network: a folder of pages."""
    from unconv import Rules
    from unconv.report import Request, report

    request = Request(tuple(at or ()), read_channels(channels), read_unit(unit), Rules(method, activations), dtype, trust)
    network = _network(model, weights, size, resize, mean, std, scale, bgr)
    if network.weights == "random" and not as_json:
        print("unconv: the weights are random, and so are the pictures; pass --weights DEFAULT or a file.", file=sys.stderr)
    with _stoppable(out), show_progress(as_json) as progress:
        numbers = report(network, image, out, request, progress)
    _finish(out, numbers, as_json)
    _say_notes(numbers)
    _say_errors(numbers)


@app.command()
def check(
    model: Model,
    image: Annotated[Path | None, typer.Argument(help="A picture. Without: noise.")] = None,
    method: Method = "deconvnet",
    activations: Activations = "rectify",
    weights: Weights = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a network can be run backwards, and prove it on this one: exit status 1 if not."""
    from unconv import Rules

    found = _network(model, weights, size).check(image, Rules(method, activations))
    print(json.dumps(found.numbers(), indent=1) if as_json else found.text())
    if not found.reversible:
        raise typer.Exit(1)


@app.command()
def bench(
    model: Model,
    image: Annotated[Path | None, typer.Argument(help="A picture. Without: noise, which costs as much.")] = None,
    at: At = None,
    channels: Channels = "all",
    unit: Unit = "strongest",
    method: Method = "deconvnet",
    activations: Activations = "rectify",
    dtype: Dtype = None,
    weights: Weights = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Time what this machine reaches: every unit of every place, beside the rate of the convolution itself."""
    import torch

    from unconv import Rules
    from unconv.reverse.bench import bench as timed

    network = _network(model, weights, size)
    noise = torch.randn(network.input_size, generator=torch.Generator().manual_seed(0))
    with show_progress(as_json) as progress:
        asked = (tuple(at or ()), read_channels(channels), read_unit(unit), Rules(method, activations), dtype)
        numbers = timed(network, noise if image is None else image, *asked, progress)
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    made = f"{network.name}, {' × '.join(map(str, numbers['image']))}, {method}, {numbers['dtype']}, on {numbers['device']}"
    table = Table("place", title=f"{made}, {numbers['threads']} threads, torch {numbers['torch']}", title_justify="left")
    for heading in ("units", "seconds", "units/s", "GFLOP", "GFLOP/s", "share", "error"):
        table.add_column(heading, justify="right")
    for row in (*numbers["places"], numbers["total"]):
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        counts = (f"{row['units']:,}", f"{row['seconds']:.2f}", f"{row['units_per_second']:,.0f}", f"{row['gflop']:,.1f}")
        table.add_row(row["place"], *counts, f"{row['rate']:,.0f}", f"{row['share']:.0%}", error)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(
        f"share: of {numbers['convolution_rate']:,.0f} GFLOP/s, what torch's convolutions reach in this run; the operations\n"
        "are those of direct convolutions over the units' windows, so that more than 100 % is possible. error: of half\n"
        "precision against float32, the largest in a few units, as a share of the projection's largest.\n"
        f"Recording took {numbers['seconds_recording']:.2f} s."
    )


@app.command()
def explain(
    operation: Annotated[
        str, typer.Argument(help="conv2d_transpose; or a pool and its way back, unpool_max or unpool_avg.")
    ] = "conv2d_transpose",
    input: Annotated[
        str | None,
        typer.Option(help="A size, to be filled with 1, 2, 3..; or rows of values: 1,2;3,4. Without: 2x2, for a pool 4x4."),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(help="A size, 3 or 3x3, or rows of values; of a pool, the window's size. Without: 3, for a pool 2."),
    ] = None,
    stride: Annotated[str, typer.Option(help="A number, or height x width: 2x1.")] = "2",
    padding: Annotated[str, typer.Option(help="SAME, VALID, or before,after: 1,1, or of height;width: 1,1;0,2.")] = "SAME",
    output: Annotated[
        str | None, typer.Option(help="The output's size, 4 or 4x5. Without: input x stride under SAME, else the smallest.")
    ] = None,
    dilation: Annotated[str | None, typer.Option(help="A number, or height x width. Without: 1. Not for a pool.")] = None,
    duplicates: Annotated[
        str | None, typer.Option(help="Where a pool's windows overlap: sum, overwrite, or, of averages, mean. Without: sum.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="The sample of the output, or the window, to look at: row,column.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write NAME.png, .svg, .gif, .html or .txt.")] = None,
    as_json: AsJson = False,
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
        explanation.save(out, place)
        print(f"wrote {out}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(explanation.numbers(), indent=1))
    elif out is None:
        print(explanation.text(place))


@app.command()
def size(
    input: Annotated[str, typer.Option(help="The input's size: 28x28, or 28 for one axis.")],
    kernel: Annotated[str, typer.Option(help="The kernel's size: 3, or 3x5.")],
    stride: Annotated[str, typer.Option(help="A number, or one for each axis: 2x1.")] = "1",
    padding: Annotated[str, typer.Option(help="SAME, VALID, or before,after: 1,1, or of each axis: 1,1;0,2.")] = "SAME",
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
    from rich.console import Console
    from rich.table import Table

    table = Table("axis", "in", "out", "padding", "r", "torch", "keep", "Keras", "ONNX")
    for row in found:
        keras = "cannot" if row.keras is None else f"{row.keras[0]}, {row.keras[1]}"
        first, end = row.torch_crop
        (before, after), onnx = row.padding, f"{row.onnx[0]} + {row.onnx[1]}, {row.onnx[2]}"
        numbers = (row.axis, str(row.input), str(row.output), f"{before} + {after}", str(row.residual))
        table.add_row(*numbers, f"{row.torch[0]}, {row.torch[1]}", f"{first}:{end}", keras, onnx)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(
        "padding: of the forward convolution, before + after. r: zeros that only the larger sizes need.\n"
        "torch, Keras: padding, output_padding; of torch's result keep the samples first:end. ONNX: pads, output_padding.\n"
        "Keras takes one output_padding for all axes: None, or a number for each; they cannot be mixed."
    )


app.command()(deblur)


def _refuse_given(operation: str, options: dict[str, str | None]) -> None:
    for option, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{option} means nothing to {operation}. Leave it out.")


def _explained_conv(input: str, kernel: str, stride: str, padding: str, output: str | None, dilation: str) -> Telling:
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


def _explained_pool(operation: str, input: str, kernel: str, stride: str, padding: str, duplicates: str) -> Telling:
    from unconv import ops

    told = ops.explain_unpool_max if operation == "unpool_max" else ops.explain_unpool_avg
    image = read_grid("--input", input)[None, :, :, None]
    return told(
        image, read_lengths("--kernel", kernel), read_lengths("--stride", stride), read_paddings(padding, 2), duplicates
    )


def _say_notes(numbers: dict[str, Any]) -> None:
    """What was done on the way where the paper says nothing, on standard error: of the deepest place."""
    notes = numbers["layers"][-1]["notes"] if numbers["layers"] else []
    if notes:
        print(f"unconv: on the way from {numbers['layers'][-1]['place']}: {'; '.join(notes)}.", file=sys.stderr)


def _say_errors(numbers: dict[str, Any]) -> None:
    """Of half precision, what it cost, on standard error."""
    errors = {layer["place"]: layer["error"] for layer in numbers["layers"] if layer["error"] is not None}
    if errors:
        worst = max(errors, key=lambda place: errors[place])
        print(
            f"unconv: {numbers['dtype']} differs from float32 by up to {errors[worst]:.1%} of a projection's largest value "
            f"(at {worst}, in the units compared); numbers.json has each layer's.",
            file=sys.stderr,
        )


def _finish(out: Path, numbers: Any, as_json: bool) -> None:
    print(json.dumps(numbers, indent=1) if as_json else f"wrote {out / 'index.html'}")


def _network(
    model: str,
    weights: str | None,
    size: str | None = None,
    resize: int | None = None,
    mean: str | None = None,
    std: str | None = None,
    scale: float | None = None,
    bgr: bool = False,
) -> Network:
    """The network, with the preprocessing that the options change."""
    from dataclasses import replace

    from unconv import Preprocess, load

    network = load(model, weights)
    given = {"resize": resize, "mean": read_floats("--mean", mean), "std": read_floats("--std", std), "scale": scale}
    changes: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    if size is not None:
        changes = {"resize": None, **changes, "size": read_size(size)}
    if bgr:
        changes["bgr"] = True
    if not changes:
        return network
    _, height, width = network.input_size
    known = Preprocess.like(network.preprocess, (height, width))
    if len(changes.get("mean", known.mean)) != len(changes.get("std", known.std)) and "std" not in changes:
        changes["std"] = (1.0,) * len(changes["mean"])
    network.preprocess = replace(known, **changes)
    network.input_size = (len(network.preprocess.mean), *(network.preprocess.size or (height, width)))
    return network


@contextmanager
def _stoppable(out: Path) -> Iterator[None]:
    """Ctrl-C ends the run with status 130; what was written is whole, and is named."""
    try:
        yield
    except KeyboardInterrupt:
        there = f" {out / 'index.html'} leads to what was written until then." if (out / "index.html").is_file() else ""
        print(f"unconv: stopped.{there}", file=sys.stderr)
        raise typer.Exit(130) from None


@contextmanager
def show_progress(quiet: bool) -> Iterator[Progress]:
    """A progress bar on standard error."""
    if quiet:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("recording", total=None)
        yield lambda what, done, total: bar.update(task, description=what or "done", completed=done, total=total or None)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Something plainer for what the terminal's encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    plain = {"□": "o", "■": "#", "·": ".", "×": "x", "−": "-", "≤": "<="}
    return "".join(plain.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def main() -> None:
    """Run the command: exit status 0, 1 for what was refused, 2 for wrong usage."""
    # Threads that wait by spinning make small operations many times slower beside any other busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    codecs.register_error("unconv", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="unconv")
    try:
        app()
    except UnconvError as error:
        print(f"unconv: {error}", file=sys.stderr)
        sys.exit(1)
