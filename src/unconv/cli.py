"""The `unconv` command: arguments to one library call to print or write. torch loads only when work begins."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unconv.errors import UnconvError

if TYPE_CHECKING:
    from unconv.report import Progress
    from unconv.reverse.network import Network

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str, typer.Argument(help="unconv:caltech, torchvision:NAME (torchvision:vgg16), or FILE.py:factory.")]
Weights = Annotated[
    str | None,
    typer.Option(help="A file .safetensors, .pth or .pt; or DEFAULT, which downloads torchvision's own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON, and nothing else on standard output.")]
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
        import unconv

        print(f"unconv {unconv.__version__}")
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
    with _progress(as_json) as progress:
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
    at: Annotated[
        list[str] | None,
        typer.Option(help="A place from `unconv places`; may be repeated. Without: every convolution's rectified output."),
    ] = None,
    channels: Annotated[str, typer.Option(help='"all", "top:9", or channels: 3 or 3,17,40.')] = "top:9",
    unit: Annotated[str, typer.Option(help='"strongest", "map", or a position: 6,7.')] = "strongest",
    method: Annotated[str, typer.Option(help="deconvnet, gradient or guided.")] = "deconvnet",
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
    from unconv.report import Request, report
    from unconv.reverse.methods import method_named

    method_named(method)
    request = Request(tuple(at or ()), _channels(channels), _unit(unit), method)
    network = _network(model, weights, size, resize, mean, std, scale, bgr)
    if network.weights == "random" and not as_json:
        print("unconv: the weights are random, and so are the pictures; pass --weights DEFAULT or a file.", file=sys.stderr)
    with _progress(as_json) as progress:
        numbers = report(network, image, out, request, progress)
    _finish(out, numbers, as_json)


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
    given = {"resize": resize, "mean": _floats("--mean", mean), "std": _floats("--std", std), "scale": scale}
    changes: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    if size is not None:
        changes = {"resize": None, **changes, "size": _size(size)}
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


def _size(text: str) -> tuple[int, int]:
    numbers = [int(n) for n in text.lower().split("x") if n.isdecimal() and int(n) > 0]
    if len(numbers) != len(text.lower().split("x")) or len(numbers) not in (1, 2):
        raise typer.BadParameter(f"{text!r} is no size; write 224 or 224x320 (height first).")
    return (numbers[0], numbers[-1])


def _floats(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(n) for n in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write numbers with commas between, 0.485,0.456,0.406.") from None


def _channels(text: str) -> str | list[int]:
    if text == "all" or text.startswith("top:"):
        return text
    if all(part.strip().isdecimal() for part in text.split(",")):
        return [int(part) for part in text.split(",")]
    raise typer.BadParameter(f"--channels {text!r}: write all, top:9, or numbers with commas between.")


def _unit(text: str) -> str | tuple[int, ...]:
    if text in ("strongest", "map"):
        return text
    if all(part.strip().isdecimal() for part in text.split(",")):
        return tuple(int(part) for part in text.split(","))
    raise typer.BadParameter(f"--unit {text!r}: write strongest, map, or a position: 6,7.")


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A progress bar on standard error."""
    if quiet:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("recording", total=None)
        yield lambda what, done, total: bar.update(task, description=what or "done", completed=done, total=total)


def main() -> None:
    """Run the command: exit status 0, 1 for what was refused, 2 for wrong usage."""
    # Threads that wait by spinning make small operations many times slower beside any other busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UnconvError as error:
        print(f"unconv: {error}", file=sys.stderr)
        sys.exit(1)
