"""Commands on networks: list places, project pictures, check a network, measure its speed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unconv.cli.groups import Group
from unconv.cli.options import (
    ActivationsOption,
    AsJson,
    At,
    Channels,
    Dtype,
    Folder,
    Gates,
    Images,
    Method,
    Model,
    Quiet,
    Unit,
    opens_network,
)
from unconv.cli.parsing import read_channels, read_rules, read_unit
from unconv.cli.preparing import open_network, saying
from unconv.cli.progress import leading_to, print_table, remark, show_progress
from unconv.errors import counted, printable

GROUP = Group("Networks", 1)


@GROUP.command
def demo(
    out: Folder = Path("unconv-demo"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Project three photographs with the network that comes with unconv, and write a page. Downloads nothing."""
    from unconv import box, load
    from unconv.report import Request, reports

    pictures = [picture for picture in box.demo_pictures() if picture.stem != "astronaut"]
    with leading_to(out), show_progress(as_json or quiet) as progress:
        numbers = reports(load("unconv:caltech"), pictures, out, Request(), progress)
    _finish(out, numbers, as_json)


@GROUP.command
@opens_network
def places(
    model: Model,
    opening: dict[str, Any],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the places of a network that can be looked at, and how much of the picture their units see."""
    from dataclasses import asdict

    network = open_network(model, quiet, **opening)
    all_places = network.places()
    if as_json:
        print(json.dumps([asdict(place) for place in all_places], indent=1))
        return
    title = f"{network.name}, weights {network.weights}, input {times(network.input_size)}"
    rows = [
        (place.name, place.operation, str(place.channels), times(place.size), times(place.receptive_field), times(place.stride))
        for place in all_places
    ]
    print_table(("place", "operation", "channels", "map", "sees", "stride"), rows, title)


@GROUP.command
@opens_network
def project(
    model: Model,
    opening: dict[str, Any],
    images: Images,
    at: At = None,
    channels: Channels = "top:9",
    unit: Unit = "strongest",
    method: Method = "deconvnet",
    activations: ActivationsOption = "rectify",
    gates: Gates = None,
    dtype: Dtype = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Say on each unit's page how far to trust it. Runs the network about a hundred times up to each layer.",
        ),
    ] = False,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Skip pictures that cannot be read, and name them; by default they end the run."),
    ] = False,
    out: Folder = Path("unconv-out"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show which structures in one or more pictures drive the units of a network. Writes a folder of pages."""
    from unconv.report import Request, refuse_folder, report, reports
    from unconv.report.listing import listed

    request = Request(
        tuple(at or ()), read_channels(channels), read_unit(unit), read_rules(method, activations, gates), dtype, trust
    )
    refuse_folder(out)  # now, not after the network has been loaded
    replaced = len(listed(out))
    network = open_network(model, quiet, **opening)
    if network.weights == "random":
        remark("the weights are random, and so are the pictures; pass --weights DEFAULT or a file.", as_json or quiet)
    with leading_to(out), show_progress(as_json or quiet) as progress:
        callback = saying(network.preparation, as_json or quiet, progress)
        if len(images) == 1:
            results = [report(network, images[0], out, request, callback)]
        else:
            results = reports(network, images, out, request, callback, _report_skipped if skip_damaged else None)
    # One picture prints one JSON object, several print a list.
    _finish(out, results[0] if len(images) == 1 else results, as_json)
    if replaced:
        remark(f"replaced an earlier report in {out}, {counted(replaced, 'file')}; -o names another folder.", as_json or quiet)
    if not as_json:
        for line in _top_classes(results):
            print(printable(line))
    for line in dict.fromkeys(line for numbers in results for line in _remarks(numbers)):
        remark(line, quiet)


@GROUP.command
@opens_network
def check(
    model: Model,
    opening: dict[str, Any],
    image: Annotated[Path | None, typer.Argument(help="A picture or an array (.npy). Default: noise.")] = None,
    method: Method = "deconvnet",
    activations: ActivationsOption = "rectify",
    gates: Gates = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check whether a network can be run backwards, and prove it with tests on this network. Exit status 1 if not."""

    coverage = open_network(model, quiet, **opening).check(image, read_rules(method, activations, gates))
    print(json.dumps(coverage.numbers(), indent=1) if as_json else coverage.text())
    if not coverage.reversible:
        raise typer.Exit(1)


@GROUP.command
@opens_network
def bench(
    model: Model,
    opening: dict[str, Any],
    image: Annotated[
        Path | None, typer.Argument(help="A picture or an array (.npy). Default: noise, which takes as long.")
    ] = None,
    at: At = None,
    channels: Channels = "all",
    unit: Unit = "strongest",
    method: Method = "deconvnet",
    activations: ActivationsOption = "rectify",
    gates: Gates = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast this machine projects every unit of every place, relative to torch's convolutions."""
    import torch  # only when the command runs: `unconv --help` does not load torch

    from unconv.reverse.bench import bench as timed

    network = open_network(model, quiet, **opening)
    noise = torch.randn(network.input_size, generator=torch.Generator().manual_seed(0))
    with show_progress(as_json or quiet) as progress:
        selection = (tuple(at or ()), read_channels(channels), read_unit(unit), read_rules(method, activations, gates), dtype)
        callback = progress if image is None else saying(network.preparation, as_json or quiet, progress)
        numbers = timed(network, noise if image is None else image, *selection, callback)
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    run = f"{network.name}, {times(numbers['image'])}, {method}, {numbers['dtype']}, on {numbers['device']}"
    title, rows = f"{run}, {counted(numbers['threads'], 'thread')}, torch {numbers['torch']}", []
    for row in (*numbers["places"], numbers["total"]):
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        counts = (f"{row['units']:,}", f"{row['seconds']:.2f}", f"{row['units_per_second']:,.0f}", f"{row['gflop']:,.1f}")
        rows.append((row["place"], *counts, f"{row['rate']:,.0f}", f"{row['share']:.0%}", error))
    print_table(("place", "units", "seconds", "units/s", "GFLOP", "GFLOP/s", "share", "error"), rows, title, right=True)
    print(
        f"share: relative to {numbers['convolution_rate']:,.0f} GFLOP/s, which torch's convolutions reach in this run. The\n"
        "operations are those of direct convolutions over the units' windows, so that more than 100 % is possible.\n"
        "error: the largest difference of half precision from float32, in a few units, relative to the largest value there.\n"
        f"Recording took {numbers['seconds_recording']:.2f} s."
    )


def times(lengths: Iterable[int | float]) -> str:
    """Return lengths as "224 × 224"."""
    return " × ".join(map(str, lengths))


def _converted(numbers: dict[str, Any]) -> Iterator[str]:
    """Yield how a picture was converted to the network's channels, and how an array was read."""
    conversion = numbers["preprocess"]["picture"]
    if conversion not in ("colour picture", "grey picture"):
        yield f"{numbers['picture']}: {conversion}."


def _notes(numbers: dict[str, Any]) -> Iterator[str]:
    """Yield what was done at operations that the paper does not cover, on the way back from the deepest place."""
    deepest = numbers["layers"][-1] if numbers["layers"] else {"notes": []}
    if deepest["notes"]:
        yield f"on the way from {deepest['place']}: {'; '.join(deepest['notes'])}."


def _remarks(numbers: dict[str, Any]) -> tuple[str, ...]:
    """Return the remarks on one picture to print besides its pages."""
    return (*_converted(numbers), *_notes(numbers), *_errors(numbers))


def _report_skipped(image: Path, error: Exception) -> None:
    """Print which picture is skipped, and why."""
    remark(f"skipped {image.name}: {error}", False)


def _top_classes(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield each picture's strongest classes if the network returns scores; with random weights they mean nothing."""
    for numbers in results:
        top = numbers["top_classes"]
        if top and numbers["weights"] != "random":
            classes = ", ".join(
                f"{each['name'] or 'class ' + str(each['index'])} {each['score']:.3g}" for each in top["classes"]
            )
            yield f"{numbers['picture']}: {classes} ({top['score']})"


def _errors(numbers: dict[str, Any]) -> Iterator[str]:
    """Yield the largest error of half precision."""
    errors = {layer["place"]: layer["error"] for layer in numbers["layers"] if layer["error"] is not None}
    if errors:
        worst = max(errors, key=lambda place: errors[place])
        yield (
            f"{numbers['dtype']} differs from float32 by up to {errors[worst]:.1%} of a projection's largest value "
            f"(at {worst}, in the units compared); numbers.json has each layer's."
        )


def _finish(out: Path, numbers: Any, as_json: bool) -> None:
    print(json.dumps(numbers, indent=1) if as_json else f"wrote {out / 'index.html'}")
